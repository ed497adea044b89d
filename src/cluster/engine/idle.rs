//! What a node does that does not act: a standby waits; a primary that the record names, but that does not act,
//! takes up its reign, begins a new one, hands over, or says what it waits for.
//!
//! Rule protected here: a term that a former life of this node may have written under is never used again;
//! delayed writes of that life could land on newer data.

use super::history::Kind;
use super::phase::{Errand, Phase, Starting};
use super::takeover::Stage;
use super::{Engine, log};
use crate::event::{Action, LogLevel};
use crate::record::Term;
use crate::timing::Millis;

/// What a primary that does not act does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The peer shall be the primary.
    Peer,
    /// Begin a new reign here.
    Again,
    /// Take up this one: nobody has written under its term yet.
    Use,
    /// Nothing, because of this.
    Wait(String),
}

impl Engine {
    pub(super) fn step_idle(&mut self, now: Millis, out: &mut Vec<Action>) {
        if self.phase != Phase::Idle || self.record().is_none() {
            return;
        }
        if self.replica_is_out_of_line() {
            log(out, LogLevel::Warn, "the device is Primary here although it must not be: it is taken away");
            self.drop_stack(now, out);
            return;
        }
        if !self.incumbent() {
            self.errand_is_void(out);
            return;
        }
        let choice = self.choice(now);
        if matches!(choice, Choice::Use | Choice::Again) && self.errand.is_some() {
            let why =
                self.peer_can_take(now).err().unwrap_or_else(|| "automatic failover is on hold".to_owned());
            self.give_up_errand(&why, out);
        }
        match choice {
            Choice::Use => {
                let term = self.term();
                let kind = if self.story.is_open() { None } else { Some(Kind::Start) };
                if let Some(kind) = kind {
                    let because = "the record names this node".to_owned();
                    self.begin_move(kind, term, None, self.me(), because, now);
                }
                self.lease.acting = super::lease::Acting::Never;
                let adopts = self.replica.view.as_ref().is_some_and(|v| v.primary);
                self.set_phase(Phase::Starting(Starting { term, tries: 0, retry_at: now, adopts }), now);
            }
            Choice::Again => self.begin_reign(now, out),
            Choice::Peer => {
                if self.errand.is_none() {
                    let because = self
                        .fit_here()
                        .err()
                        .unwrap_or_else(|| format!("{} is in standby", self.name(self.me())));
                    let kind = Kind::Failover;
                    self.leave(Errand { kind, because, automatic: true, origins: Vec::new() }, now, out);
                }
            }
            Choice::Wait(why) => self.tell_waiting(&why, out),
        }
    }

    /// The stack has left and finds no place yet: nobody is kept waiting for the answer until it does.
    fn tell_waiting(&mut self, why: &str, out: &mut Vec<Action>) {
        let waiting = self.errand.as_mut().map(|e| std::mem::take(&mut e.origins)).unwrap_or_default();
        let text = format!("the stack runs nowhere just now: {why}");
        for origin in waiting {
            self.reply(origin, Err(super::desk::failed(text.clone())), out);
        }
    }

    /// Also what `why` tells.
    pub(super) fn choice(&self, now: Millis) -> Choice {
        let peer = match &self.errand {
            Some(errand) if errand.automatic => self.may_move(now),
            _ => self.peer_can_take(now),
        };
        if self.errand.is_some() && peer.is_ok() {
            return Choice::Peer;
        }
        if self.ending.is_some() {
            return Choice::Wait(format!("the manager on {} is ending", self.name(self.me())));
        }
        let me = self.me();
        if self.record().is_some_and(|r| r.intent.standby.contains(me)) {
            return match self.peer_can_take(now) {
                Ok(()) => Choice::Peer,
                Err(why) => Choice::Wait(format!("{} is in standby, and {why}", self.name(me))),
            };
        }
        if let Err(unfit) = self.fit_here() {
            return match self.may_move(now) {
                Ok(()) => Choice::Peer,
                Err(why) => Choice::Wait(format!("{unfit}, and {why}")),
            };
        }
        let adopts = self.replica.view.as_ref().is_some_and(|v| v.primary);
        if !self.group_is_down() && !adopts {
            return Choice::Wait("what still runs of the group must be stopped first".to_owned());
        }
        if self.is_unused(self.term()) { Choice::Use } else { Choice::Again }
    }

    /// Nobody has written under this term: neither this life, nor, as far as the promise on disk tells, a former.
    fn is_unused(&self, term: Term) -> bool {
        self.replica.first_fence.is_some_and(|fence| fence < term)
            && self.replica.used.is_none_or(|u| u < term)
    }

    /// The device is Primary, but neither is that wanted, nor is it on its way.
    fn replica_is_out_of_line(&self) -> bool {
        let Some(view) = self.replica.view.as_ref().filter(|v| v.primary) else { return false };
        // A pair that was run by hand until `bootstrap` named it: it goes on where it is.
        let adopted = self.incumbent() && view.term.is_none() && self.term() == Term(1);
        !adopted && self.replica.op.is_none()
    }

    /// What was to be handed over is no longer ours.
    fn errand_is_void(&mut self, out: &mut Vec<Action>) {
        let Some(errand) = self.errand.take() else { return };
        self.turn();
        let text = format!("{} is the primary already", self.name(self.other()));
        for origin in errand.origins {
            self.reply(origin, Ok(text.clone()), out);
        }
    }

    /// A hand-over that cannot be done any more: the stack stays, and whoever asked for it hears why.
    pub(super) fn give_up_errand(&mut self, why: &str, out: &mut Vec<Action>) {
        let Some(errand) = self.errand.take() else { return };
        self.turn();
        let text = format!("the stack stays on {}: {why}", self.name(self.me()));
        log(out, LogLevel::Warn, text.clone());
        for origin in errand.origins {
            self.reply(origin, Err(super::desk::failed(text.clone())), out);
        }
    }

    /// The record shall say that the peer is the primary.
    pub(super) fn wants_to_hand_over(&self) -> bool {
        self.phase == Phase::Idle
            && self.incumbent()
            && self.errand.is_some()
            && self.bid.stage == Stage::Rest
            && self.replica.op.is_none()
            && self.choice(self.now) == Choice::Peer
    }
}
