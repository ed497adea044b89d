//! The administrator's scripts: when one is owed, and what a resync does that waits for one.
//!
//! Most only tell somebody: they are called, and nothing waits for them. `before-resync-target` and
//! `before-resync-source` are gates, as DRBD's: the resync goes on when the script has ended with 0; otherwise this node
//! stands alone, with nothing changed on either disk. Scripts of gates never overlap: one that was called for an earlier
//! connection ends before the next call.

use super::Engine;
use crate::control::Reason;
use crate::event::{Action, CallId, LinkId, LogLevel};
use crate::handler::Handler;
use crate::state::{DiskState, ReplicationState};

/// What waits for a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// The announcement of a resync to its target.
    Source,
    /// The marking of this disk, for a resync that the source has announced.
    Target { base: u64, blocks: u64, as_of: u64 },
}

impl Gate {
    fn handler(self) -> Handler {
        match self {
            Self::Source => Handler::BeforeResyncSource,
            Self::Target { .. } => Handler::BeforeResyncTarget,
        }
    }

    fn replication(self) -> ReplicationState {
        match self {
            Self::Source => ReplicationState::WFBitMapS,
            Self::Target { .. } => ReplicationState::WFBitMapT,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    link: LinkId,
    gate: Gate,
    /// It waits for the end of this call; `None` until the call of an earlier connection is over.
    call: Option<CallId>,
}

/// The calls.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    last_call: u64,
    /// The script of a gate that has not ended.
    running: Option<CallId>,
    waiting: Option<Waiting>,
}

impl Engine {
    /// Has a script called, if the resource file names one.
    pub(super) fn call_handler(&mut self, handler: Handler) -> Option<CallId> {
        if !self.settings.handlers.has(handler) {
            return None;
        }
        self.scripts.last_call += 1;
        let call = CallId(self.scripts.last_call);
        self.out.push(Action::CallHandler { call, handler });
        Some(call)
    }

    /// The local disk has failed; whether the peer's is whole was looked at before it was left.
    pub(super) fn tell_of_failed_disk(&mut self, peer_disk: DiskState) {
        self.call_handler(Handler::LocalIoError);
        if self.role.has_requests() && peer_disk != DiskState::UpToDate {
            self.call_handler(Handler::PriOnInconDegr);
        }
    }

    /// Whether a resync waits for a script; it goes on by itself when that has ended.
    pub(super) fn waits_at(&mut self, gate: Gate) -> bool {
        let link = self.link.joined().map(|s| s.id).filter(|_| self.settings.handlers.has(gate.handler()));
        let Some(link) = link else { return false };
        self.scripts.waiting = Some(Waiting { link, gate, call: None });
        self.call_gate();
        true
    }

    fn call_gate(&mut self) {
        if self.scripts.running.is_some() {
            return;
        }
        let Some(waiting) = self.scripts.waiting.take().filter(|waiting| self.stands_at(waiting)) else {
            return;
        };
        match self.call_handler(waiting.gate.handler()) {
            Some(call) => {
                self.scripts.running = Some(call);
                self.scripts.waiting = Some(Waiting { call: Some(call), ..waiting });
            }
            None => self.pass(waiting.gate),
        }
    }

    /// Whether the resync that waits is still the one that is to begin.
    fn stands_at(&self, waiting: &Waiting) -> bool {
        let here = (waiting.link, waiting.gate.replication());
        self.link.joined().is_some_and(|s| (s.id, s.replication) == here)
    }

    /// A script has ended: with 0, or why that does not count as such.
    pub(super) fn handler_ended(&mut self, call: CallId, result: Result<(), String>) {
        if self.scripts.running != Some(call) {
            return;
        }
        self.scripts.running = None;
        let Some(waiting) = self.scripts.waiting else { return };
        if waiting.call != Some(call) {
            return self.call_gate();
        }
        self.scripts.waiting = None;
        if !self.stands_at(&waiting) {
            return;
        }
        match result {
            Ok(()) => self.pass(waiting.gate),
            Err(why) => {
                let text = format!(
                    "{} handler {why}, dropping connection: nothing was changed on this disk; when the cause is mended, `connect`",
                    waiting.gate.handler().as_str()
                );
                self.log(LogLevel::Error, text.clone());
                self.stand_alone(text);
            }
        }
    }

    fn pass(&mut self, gate: Gate) {
        match gate {
            Gate::Source => self.send_sync_start(),
            Gate::Target { base, blocks, as_of } => self.sync_begins(base, blocks, as_of),
        }
    }

    /// Why the program cannot be exchanged: its successor would not hear of the end of the script.
    pub(super) fn may_leave_scripts(&self) -> Result<(), (Reason, String)> {
        if self.scripts.running.is_none() {
            return Ok(());
        }
        let text = "a handler that a resync waits for is running: wait for its end".to_owned();
        Err((Reason::InTransition, text))
    }
}
