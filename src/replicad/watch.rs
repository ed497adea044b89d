//! Watchers of a resource: told its status at once, after every change that matters, and at most once a second
//! while only counters change. A watcher that does not keep up is let go, never waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use replica::control::Status;
use replica::engine::Essence;
use replica::event::Millis;

/// Statuses on their way to one watcher: more than the changes of a failover; who is further behind is stuck.
const QUEUE: usize = 64;
/// Milliseconds between two statuses that differ in counters only.
const COUNTERS_MS: Millis = 1000;

/// One watcher, as the driver sees it.
#[derive(Debug)]
pub struct Watcher {
    statuses: SyncSender<Status>,
    is_behind: Arc<AtomicBool>,
}

/// The statuses of one watcher, and whether they ended because it did not keep up.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) statuses: Receiver<Status>,
    is_behind: Arc<AtomicBool>,
}

impl Watcher {
    /// A new one with its other end.
    pub(crate) fn new() -> (Self, Watch) {
        let (sender, statuses) = sync_channel(QUEUE);
        let is_behind = Arc::new(AtomicBool::new(false));
        (Self { statuses: sender, is_behind: Arc::clone(&is_behind) }, Watch { statuses, is_behind })
    }

    /// Whether it still takes part.
    fn tell(&self, status: Status) -> bool {
        let told = self.statuses.try_send(status);
        if let Err(TrySendError::Full(_)) = told {
            self.is_behind.store(true, Ordering::Release);
        }
        told.is_ok()
    }
}

impl Watch {
    /// Whether it was let go because it did not keep up; else the resource went down, or the watcher did.
    pub(crate) fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Acquire)
    }
}

/// The watchers of one resource.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    list: Vec<Watcher>,
    told: Option<(Essence, Status, Millis)>,
    /// Something has happened since, perhaps only to counters.
    stale: bool,
}

impl Watchers {
    /// A further one, who is told at once.
    pub(crate) fn add(&mut self, watcher: Watcher, status: Status) {
        if watcher.tell(status) {
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
            self.list.retain(|watcher| watcher.tell(status.clone()));
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
