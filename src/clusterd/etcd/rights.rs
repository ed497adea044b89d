//! Who may send a question. A change has one right among all attempts: who has taken it may have sent the change, and
//! gives it back only when etcd has certainly done nothing. What changes nothing may be sent by all.

use std::sync::atomic::{AtomicUsize, Ordering};

use cluster::etcd::Request;
use tokio::sync::Semaphore;

const NOBODY: usize = usize::MAX;

/// The rights to send one question.
pub(super) struct Rights {
    /// None for what changes nothing.
    one: Option<Semaphore>,
    holder: AtomicUsize,
}

impl Rights {
    pub(super) fn to_send(request: &Request) -> Self {
        let changes = matches!(request, Request::Change { then, .. } if !then.is_empty());
        Self { one: changes.then(|| Semaphore::new(1)), holder: AtomicUsize::new(NOBODY) }
    }

    /// Waits for the right; it is refused once nobody waits for the answer any more.
    pub(super) async fn take(&self, member: usize) -> bool {
        let Some(one) = &self.one else { return true };
        let Ok(right) = one.acquire().await else { return false };
        right.forget();
        self.holder.store(member, Ordering::Relaxed);
        true
    }

    /// Nothing was done.
    pub(super) fn give_back(&self) {
        if let Some(one) = &self.one {
            self.holder.store(NOBODY, Ordering::Relaxed);
            one.add_permits(1);
        }
    }

    /// A change may have been sent, and it is not known that nothing was done.
    pub(super) fn is_spent(&self) -> bool {
        self.one.as_ref().is_some_and(|one| one.available_permits() == 0)
    }

    /// No more is sent.
    pub(super) fn close(&self) {
        if let Some(one) = &self.one {
            one.close();
        }
    }

    /// Whether it is this member that the question waits for, not one that is ready for it.
    pub(super) fn wait_for(&self, member: usize) -> bool {
        [NOBODY, member].contains(&self.holder.load(Ordering::Relaxed))
    }
}
