//! The manager ends.
//!
//! Rules: a clean goodbye hands over at once, and is said only when nothing of the stack runs here any more; an
//! exchange of the program leaves everything running; in maintenance nothing is stopped either.

use super::history::Kind;
use super::ledger::Pending;
use super::phase::{Errand, Phase};
use super::{Engine, log};
use crate::event::{Action, Left, LogLevel, Shutdown};
use crate::message::Message;
use crate::store::{Op, RequestId};
use crate::timing::Millis;

/// How long a hand-over that cannot be committed holds up the end, once everything is stopped.
const COMMIT_MS: Millis = 5_000;
/// How long the end waits for the store to take the lease back; it runs out by itself.
const RELEASE_MS: Millis = 2_000;
/// Beside the timeouts of all stops: after this the manager ends whatever still runs; the host goes down anyway.
const SLACK_MS: Millis = 60_000;

/// The end, begun.
#[derive(Debug)]
pub(super) struct Ending {
    deadline: Millis,
    /// Since when the group is down.
    down_since: Option<Millis>,
    stops_everything: bool,
    release: Option<Pending>,
    released: bool,
    over: bool,
}

impl Ending {
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn stops_everything(&self) -> bool {
        self.stops_everything
    }

    pub(super) fn deadline(&self) -> Millis {
        let commit = self.down_since.map_or(self.deadline, |since| since + COMMIT_MS);
        let release = self.release.map_or(self.deadline, |r| r.deadline);
        // The nearest one that still lies ahead is found by the caller.
        if self.released { self.deadline } else { commit.min(release).min(self.deadline) }
    }

    pub(super) fn released(&mut self, id: RequestId) {
        if self.release.take_if(|r| r.id == id).is_some() {
            self.released = true;
        }
    }
}

impl Engine {
    pub(super) fn shutdown(&mut self, kind: Shutdown, now: Millis, out: &mut Vec<Action>) {
        if self.ending.is_some() {
            return;
        }
        let stops: Millis =
            self.config.group.iter().chain(&self.config.everywhere).map(|r| r.stop_timeout_ms).sum();
        let mut ending = Ending {
            deadline: now + stops + SLACK_MS,
            down_since: None,
            stops_everything: true,
            release: None,
            released: false,
            over: false,
        };
        let by_hand = self.maintenance() || self.record().is_none();
        let nothing = kind == Shutdown::Restart || by_hand;
        if nothing {
            log(out, LogLevel::Info, "the manager ends and leaves everything as it is");
            ending.stops_everything = false;
            ending.over = true;
            let left = match self.stack_is_gone() {
                _ if by_hand => Left::ToOperators,
                true => Left::Nothing,
                false => Left::ToSuccessor,
            };
            out.push(Action::Exit { left });
        }
        self.ending = Some(ending);
        self.turn();
        if nothing || !matches!(self.phase, Phase::Active { .. } | Phase::Starting(_)) {
            return;
        }
        let because = format!("the manager on {} is stopped", self.name(self.me()));
        let errand = Errand { kind: Kind::Switchover, because, automatic: false, origins: Vec::new() };
        self.leave(errand, now, out);
    }

    pub(super) fn step_ending(&mut self, now: Millis, out: &mut Vec<Action>) {
        let Some(ending) = &self.ending else { return };
        if ending.over {
            return;
        }
        let late = ending.deadline <= now;
        let idle = self.phase == Phase::Idle || self.phase == Phase::Boot;
        if !late && (!idle || !self.everything_is_down()) {
            return;
        }
        let down_since = ending.down_since.unwrap_or(now);
        if let Some(ending) = &mut self.ending {
            ending.down_since = Some(down_since);
        }
        let handing = self.errand.is_some() && self.incumbent() && self.peer_can_take(now).is_ok();
        if handing && down_since + COMMIT_MS > now && !late {
            return;
        }
        if self.incumbent() && !self.has_released(now, out) && !late {
            return;
        }
        self.say_goodbye(now, out);
    }

    /// The lease is given back, or the store had its time for it.
    fn has_released(&mut self, now: Millis, out: &mut Vec<Action>) -> bool {
        let Some(ending) = &self.ending else { return true };
        if ending.released {
            return true;
        }
        if let Some(release) = ending.release {
            return release.deadline <= now;
        }
        let term = self.term();
        let mut release = self.begin_store(Op::Release { term }, now, out);
        release.deadline = now + RELEASE_MS;
        if let Some(ending) = &mut self.ending {
            ending.release = Some(release);
        }
        false
    }

    /// The group was seen to be stopped, and the device is Secondary.
    fn stack_is_gone(&self) -> bool {
        let primary = self.replica.view.as_ref().is_some_and(|v| v.primary);
        !primary && self.group_is_down()
    }

    fn say_goodbye(&mut self, now: Millis, out: &mut Vec<Action>) {
        self.give_up_errand("the manager ends", out);
        if let Some(following) = self.following.take() {
            let text = format!("{} is the primary and starts the stack", self.name(self.other()));
            for origin in following.origins {
                self.reply(origin, Ok(text.clone()), out);
            }
        }
        // What still runs here after every stop has failed is not kept quiet about.
        if self.group_is_down() && self.phase == Phase::Idle {
            let message = Message::Goodbye { term: self.term() };
            out.push(Action::Send { to: self.other().into(), message });
        }
        self.end_move(true, now);
        log(out, LogLevel::Info, "the manager ends");
        let left = if self.stack_is_gone() { Left::Nothing } else { Left::Stuck };
        out.push(Action::Exit { left });
        if let Some(ending) = &mut self.ending {
            ending.over = true;
        }
    }
}
