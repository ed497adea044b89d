//! Answers wait here until the state they were made from is durable.
//!
//! The rule protected: what an acceptor has said, it still knows after a crash. Every answer waits for the
//! newest state handed out for storing, so that none can speak of anything that might be forgotten.

use std::collections::VecDeque;

use super::Effect;
use crate::member::Voter;
use crate::message::Register;

/// Answers that may wait; further ones are dropped like lost messages, and asked for again.
const WAITING_MAX: usize = 64;

/// Orders storing before answering.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Journal {
    /// The last state handed out for storing.
    issued: u64,
    /// The last one known to be durable, with all before it.
    durable: u64,
    waiting: VecDeque<(u64, Voter, Register)>,
}

impl Journal {
    /// Hands a state out for storing.
    pub(super) fn persist<S>(&mut self, saved: S, out: &mut Vec<Effect<S>>) {
        self.issued = self.issued.saturating_add(1);
        out.push(Effect::Persist { seq: self.issued, saved });
    }

    /// An answer that leaves when everything handed out before is durable.
    pub(super) fn answer(&mut self, to: Voter, message: Register) {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back((self.issued, to, message));
        }
    }

    /// This state and all before it are durable.
    pub(super) fn persisted(&mut self, seq: u64) {
        self.durable = self.durable.max(seq.min(self.issued));
    }

    /// The next answer that may leave.
    pub(super) fn next(&mut self) -> Option<(Voter, Register)> {
        self.waiting.pop_front_if(|(seq, ..)| *seq <= self.durable).map(|(_, to, message)| (to, message))
    }
}
