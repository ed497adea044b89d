//! Watchers of a resource: told its status at once, after every change that matters, and at most once a second
//! while only counters change. A watcher that does not keep up is let go, never waited for.

use std::sync::mpsc::SyncSender;

use replica::control::Status;
use replica::engine::Essence;
use replica::event::Millis;

/// Statuses on their way to one watcher: more than the changes of a failover; who is further behind is stuck.
pub(crate) const QUEUE: usize = 64;
/// Milliseconds between two statuses that differ in counters only.
const COUNTERS_MS: Millis = 1000;

/// The watchers of one resource.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    list: Vec<SyncSender<Status>>,
    told: Option<(Essence, Status, Millis)>,
    /// Something has happened since, perhaps only to counters.
    stale: bool,
}

impl Watchers {
    /// A further one, who is told at once.
    pub(crate) fn add(&mut self, watcher: SyncSender<Status>, status: Status) {
        if watcher.try_send(status).is_ok() {
            self.list.push(watcher);
        }
    }

    /// Something may have changed: tells everyone who must know. `status` costs more than `essence`.
    pub(crate) fn look(&mut self, now: Millis, essence: Essence, status: impl FnOnce() -> Status) {
        if self.list.is_empty() {
            return;
        }
        self.stale = true;
        let due = |(old, _, at): &(Essence, Status, Millis)| *old != essence || at + COUNTERS_MS <= now;
        if !self.told.as_ref().is_none_or(due) {
            return;
        }
        self.stale = false;
        let status = status();
        if self.told.as_ref().is_none_or(|(_, old, _)| *old != status) {
            self.list.retain(|watcher| watcher.try_send(status.clone()).is_ok());
        }
        self.told = Some((essence, status, now));
    }

    /// When to look again although nothing happens.
    #[must_use]
    pub(crate) fn due(&self) -> Option<Millis> {
        let (_, _, at) = self.told.as_ref().filter(|_| self.stale && !self.list.is_empty())?;
        Some(at + COUNTERS_MS)
    }
}
