//! Time: deadlines that have passed, and the next time to be woken.

use super::Engine;
use super::link::{Phase, Wire};
use crate::event::{Action, Millis};
use crate::message::Message;

impl Engine {
    /// Acts on what has taken too long.
    pub(super) fn check_deadlines(&mut self) {
        let Some(session) = self.link.session() else { return };
        let (id, phase) = (session.id, session.phase);
        if session.deadline.is_some_and(|at| at <= self.now) {
            let why = match phase {
                Phase::Refused | Phase::Leaving => "the peer did not say goodbye in time",
                _ => "the handshake took too long",
            };
            self.hang_up(why);
            return;
        }
        if self.overdue_request().is_some_and(|at| at <= self.now) {
            self.hang_up("the peer answers, but has not finished a request in time");
            return;
        }
        let (interval, timeout) = (self.settings.ping_interval_ms, self.settings.ping_timeout_ms);
        if session.pinged.is_some_and(|at| at + timeout <= self.now) {
            self.hang_up(&format!("the peer was silent for {} ms", interval + timeout));
        } else if session.pinged.is_none() && session.heard + interval <= self.now {
            self.link.last_ping += 1;
            let ping = self.link.last_ping;
            let now = self.now;
            if let Some(session) = self.link.session_mut() {
                session.pinged = Some(now);
            }
            self.send(id, Message::Ping { id: ping });
        }
    }

    /// When the oldest request that the peer owes an answer to becomes overdue.
    fn overdue_request(&self) -> Option<Millis> {
        let owed = [
            self.requests.oldest_unconfirmed(),
            self.flusher.oldest_unconfirmed(),
            self.verify.oldest_unanswered(),
        ];
        owed.into_iter().flatten().min().map(|at| at + self.settings.request_timeout_ms)
    }

    /// Asks to be woken at the next time that matters, if that has changed.
    pub(super) fn set_alarm(&mut self) {
        let mut times: Vec<Millis> = Vec::new();
        if let Wire::Waiting { dial_at: Some(at) } = self.link.wire {
            times.push(at);
        }
        if let Some(session) = self.link.session() {
            times.extend(session.deadline);
            times.extend(self.overdue_request());
            times.push(match session.pinged {
                Some(at) => at + self.settings.ping_timeout_ms,
                None => session.heard + self.settings.ping_interval_ms,
            });
        }
        if !self.is_blocked() {
            times.extend(self.flusher.background_due());
        }
        times.extend(self.replacement_due());
        times.extend(self.disk_check_due());
        times.extend(self.resync.wake_at(self.now));
        times.extend(self.verify.wake_at(self.now));
        let next = times.into_iter().min();
        if let Some(at) = next
            && next != self.woken_at
        {
            // Never for the past: the shell would come back at once, without end.
            let at = at.max(self.now + 1);
            self.woken_at = Some(at);
            self.out.push(Action::WakeAt { at });
        }
    }
}
