//! The order of metadata writes: one job after another, each in three steps that are durable in turn.
//!
//! A job first stores the bitmap as it is when the job's turn comes, then the superblock, then an activity-log transaction, as far as it asks
//! for them, and only then lets its continuation run. The superblock in memory is changed when its turn to
//! be written has come, never earlier: what an earlier job writes never promises what a later one is still
//! preparing.

use std::collections::VecDeque;

use super::hang::Operation;
use super::{Engine, Then};
use crate::activity::Transaction;
use crate::event::{Action, BLOCK, DiskError, MetaTx, Token};
use crate::meta::Superblock;

/// Bitmap pages in one transaction: 1 MiB.
const PAGES_PER_TX: usize = 256;

type Change = Box<dyn FnOnce(&mut Superblock) + Send>;

/// One ordered piece of metadata work.
pub(super) struct Job {
    bitmap: bool,
    pages: VecDeque<u64>,
    change: Option<Change>,
    activity: Option<Transaction>,
    then: Then,
}

impl Job {
    /// Only an order point: `then` runs when all earlier jobs are durable.
    pub(super) fn new(then: Then) -> Self {
        Self { bitmap: false, pages: VecDeque::new(), change: None, activity: None, then }
    }

    /// Stores every bitmap page that differs from the disk's copy.
    pub(super) fn bitmap(mut self) -> Self {
        self.bitmap = true;
        self
    }

    /// Changes and stores the superblock.
    pub(super) fn superblock(mut self, change: impl FnOnce(&mut Superblock) + Send + 'static) -> Self {
        self.change = Some(Box::new(change));
        self
    }

    /// Stores an activity-log transaction.
    pub(super) fn activity(mut self, transaction: Transaction) -> Self {
        self.activity = Some(transaction);
        self
    }
}

/// The queue of jobs, and the one transaction that is under way.
#[derive(Default)]
pub(super) struct Store {
    jobs: VecDeque<Job>,
    writing: Option<MetaTx>,
    last_tx: u64,
}

impl Store {
    /// Whether everything asked for is durable.
    pub(super) fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.writing.is_none()
    }

    /// Whether this transaction is the one that is under way.
    pub(super) fn is_writing(&self, tx: MetaTx) -> bool {
        self.writing == Some(tx)
    }

    pub(super) fn push(&mut self, job: Job) {
        self.jobs.push_back(job);
    }

    /// Takes the giving up of the data out, if it is not on its way to the disk yet; who has asked for it.
    pub(super) fn recall_invalidate(&mut self) -> Option<Token> {
        let job = self
            .jobs
            .iter_mut()
            .find(|job| matches!(job.then, Then::Invalidated { .. }) && job.change.is_some())?;
        job.change = None;
        match std::mem::replace(&mut job.then, Then::Nothing) {
            Then::Invalidated { token } => Some(token),
            _ => None,
        }
    }

    /// Forgets all jobs; what would have gone on after them.
    pub(super) fn give_up(&mut self) -> Vec<Then> {
        self.jobs.drain(..).map(|job| job.then).collect()
    }
}

impl Engine {
    pub(super) fn meta_done(&mut self, tx: MetaTx, result: Result<(), DiskError>) {
        if self.store.writing != Some(tx) {
            return;
        }
        self.store.writing = None;
        if let Err(error) = result {
            self.fail_disk(&format!("metadata write failed: {error}"));
        }
    }

    /// Starts the next transaction, or finishes jobs that need none. True when something was done.
    pub(super) fn advance_store(&mut self) -> bool {
        if self.store.writing.is_some() || self.is_failed() {
            return false;
        }
        let Some(mut job) = self.store.jobs.pop_front() else { return false };
        if let Some(writes) = self.next_writes(&mut job) {
            self.store.last_tx += 1;
            let tx = MetaTx(self.store.last_tx);
            self.store.writing = Some(tx);
            self.patience.begin(Operation::Metadata(tx));
            self.store.jobs.push_front(job);
            self.out.push(Action::WriteMeta { tx, writes });
        } else {
            self.then(job.then);
        }
        true
    }

    fn next_writes(&mut self, job: &mut Job) -> Option<Vec<(u64, Vec<u8>)>> {
        if std::mem::take(&mut job.bitmap) {
            job.pages = self.bitmap.take_dirty(usize::MAX).into();
        }
        if !job.pages.is_empty() {
            let pages: Vec<u64> = job.pages.drain(..PAGES_PER_TX.min(job.pages.len())).collect();
            self.counters.bm_writes += u64::try_from(pages.len()).unwrap_or_default();
            let page = |p: u64| (self.layout.bitmap_at + p * BLOCK, self.bitmap.page_bytes(p));
            return Some(pages.into_iter().map(page).collect());
        }
        if let Some(change) = job.change.take() {
            change(&mut self.superblock);
            self.superblock.sequence += 1;
            let at = self.layout.super_slot(self.superblock.sequence);
            return Some(vec![(at, self.superblock.encode())]);
        }
        let transaction = job.activity.take()?;
        self.counters.al_writes += 1;
        Some(vec![(self.layout.activity_region(transaction.sequence), transaction.encode())])
    }
}
