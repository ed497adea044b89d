//! A local disk that does not answer. After `disk-timeout` it counts as failed, as one that answers with an error does:
//! whoever waits for it would wait for ever, and a cluster manager could not tell why.
//!
//! Time in which this process or its machine stood still is not the disk's: of a step of the clock one second counts at
//! most, and while something is on its way to the disk the engine is woken every second.

use std::collections::VecDeque;

use super::{Engine, Io};
use crate::event::{IoId, MetaTx, Millis};

/// Milliseconds that a step of the clock counts at most.
const STEP_MS: Millis = 1000;

#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Data(IoId),
    Metadata(MetaTx),
}

/// What is on its way to the disk, and since when.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// Milliseconds that have passed step by step.
    passed: Millis,
    /// In the order of their start; some may be over.
    begun: VecDeque<(Operation, Millis)>,
}

impl Patience {
    pub(super) fn pass(&mut self, step: Millis) {
        self.passed += step.min(STEP_MS);
    }

    pub(super) fn begin(&mut self, operation: Operation) {
        self.begun.push_back((operation, self.passed));
    }
}

impl Io {
    /// Whether it is for the local disk alone. The undo log lies elsewhere, and to prepare it may take long.
    pub(super) fn must_be_answered(&self) -> bool {
        !matches!(self, Self::PrepareUndo | Self::SaveUndo | Self::RestoreUndo)
    }
}

impl Engine {
    /// Gives up a disk that has not answered in time.
    pub(super) fn check_disk(&mut self) {
        while let Some((operation, since)) = self.patience.begun.front().copied() {
            if self.is_under_way(operation) {
                let waited = self.patience.passed - since;
                let timeout = self.settings.disk_timeout_ms;
                if timeout > 0 && waited >= timeout {
                    self.patience.begun.clear();
                    self.fail_disk(&format!("no answer for {} s (disk-timeout)", waited / 1000));
                }
                return;
            }
            self.patience.begun.pop_front();
        }
    }

    /// When the disk is looked at next, if something is on its way to it.
    pub(super) fn disk_check_due(&self) -> Option<Millis> {
        let waits = self.settings.disk_timeout_ms > 0 && !self.patience.begun.is_empty();
        (waits && !self.is_failed()).then(|| (self.now / STEP_MS + 1) * STEP_MS)
    }

    fn is_under_way(&self, operation: Operation) -> bool {
        match operation {
            Operation::Data(io) => self.ios.contains_key(&io),
            Operation::Metadata(tx) => self.store.is_writing(tx),
        }
    }
}
