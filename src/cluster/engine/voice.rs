//! What leaves the manager beside decisions: heartbeats, the status when it has changed, the next wake-up.

use super::Engine;
use crate::control::Status;
use crate::event::Action;
use crate::message::{Heartbeat, Message};
use crate::record::Version;
use crate::timing::Millis;

/// What was said last.
#[derive(Debug)]
pub(super) struct Voice {
    seq: u64,
    next_heartbeat: Millis,
    told_role: &'static str,
    published: Option<Box<Status>>,
    wake: Option<Millis>,
}

impl Voice {
    pub(super) fn new(now: Millis) -> Self {
        Self { seq: 0, next_heartbeat: now, told_role: "", published: None, wake: None }
    }

    /// The next heartbeat goes out at once.
    pub(super) fn hurry(&mut self) {
        self.next_heartbeat = 0;
    }
}

impl Engine {
    /// After every event, when everything that follows has been begun.
    pub(super) fn speak(&mut self, now: Millis, out: &mut Vec<Action>) {
        let over = self.ending.as_ref().is_some_and(super::Ending::is_over);
        if over {
            return;
        }
        let role = self.role(now);
        if self.voice.told_role != role || self.voice.next_heartbeat <= now {
            self.voice.told_role = role;
            self.voice.next_heartbeat = now + self.config.timing.heartbeat_ms;
            self.voice.seq += 1;
            let version = self.record().map_or(Version(0), |r| r.version);
            let view = self.local_view(now);
            let heartbeat = Heartbeat { seq: self.voice.seq, incarnation: self.incarnation, version, view };
            out.push(Action::Send {
                to: self.other().into(),
                message: Message::Heartbeat(Box::new(heartbeat)),
            });
        }
        let status = Box::new(self.status(now));
        let timeless = timeless(&status);
        if self.voice.published.as_ref() != Some(&timeless) {
            self.voice.published = Some(timeless);
            out.push(Action::Publish(status));
        }
        let at = self.next_wake(now);
        if self.voice.wake != Some(at) || at <= now {
            self.voice.wake = Some(at);
            out.push(Action::WakeAt { at });
        }
    }

    fn next_wake(&self, now: Millis) -> Millis {
        let all = [
            Some(self.voice.next_heartbeat),
            self.ledger.read_at.filter(|_| self.ledger.reading.is_none()),
            (self.ledger.pause_until > now).then_some(self.ledger.pause_until),
            self.lease_wake(),
            self.peer_wake(now),
            self.bid_wake(now),
            self.units_wake(),
            self.phase_wake(now),
            self.desk_wake(),
        ];
        // What was due was looked at just now; if it waits on, it waits for an event.
        let beat = self.config.timing.heartbeat_ms;
        all.into_iter().flatten().filter(|at| *at > now).min().unwrap_or(now + beat)
    }
}

/// The status without what changes by mere passing of time.
fn timeless(status: &Status) -> Box<Status> {
    let mut status = Box::new(status.clone());
    status.lease_left_ms = status.lease_left_ms.map(|_| 0);
    status.peer_heard_ms_ago = status.peer_heard_ms_ago.map(|_| 0);
    status.witness_heard_ms_ago = status.witness_heard_ms_ago.map(|_| 0);
    for path in &mut status.paths {
        path.heard_ms_ago = path.heard_ms_ago.map(|_| 0);
    }
    for resource in &mut status.resources {
        resource.since_ms = 0;
    }
    for entry in &mut status.history {
        entry.ago_ms = 0;
    }
    status
}
