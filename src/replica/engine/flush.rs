//! Flushes: one at a time, of both disks, shared by everyone who asked before it started.
//!
//! What the peer has confirmed but not flushed is remembered by block. If the link is lost before a flush
//! of both is over, these blocks are marked: a power cut at the peer may have taken them.

use std::collections::{BTreeMap, VecDeque};

use super::resync::Checkpoint;
use super::store::Job;
use super::{Engine, Io, Then};
use crate::activity::{Step, Transaction};
use crate::bitmap::Bitmap;
use crate::event::{Action, FrontError, LinkId, Millis, Range, Slot};
use crate::message::Message;

/// Blocks that the peer may hold unflushed before it is asked to flush on its own account: 64 MiB.
const UNSTABLE_BLOCKS: u64 = 16_384;
/// Milliseconds after which they are flushed in any case.
const UNSTABLE_MS: Millis = 1000;

/// Why a flush is wanted.
#[derive(Debug)]
pub(super) enum Purpose {
    /// An application asked.
    Front(Slot),
    /// Activity-log extents shall become cold.
    Evict,
    /// The device was given up.
    Demote,
    /// Another process shall go on.
    Pause,
    /// Resynced blocks shall be cleared.
    Checkpoint(Checkpoint),
    /// What the device gets shall be durable before it is seen.
    Grow,
    /// Not much shall be unflushed at the peer.
    Background,
}

impl Purpose {
    fn is_users(&self) -> bool {
        matches!(self, Self::Front(_) | Self::Demote)
    }
}

#[derive(Debug)]
struct Run {
    number: u64,
    purposes: Vec<Purpose>,
    /// Answered writes that it covers.
    covers: u64,
    local: bool,
    remote: Remote,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remote {
    Pending {
        id: u64,
        since: Millis,
    },
    Done,
    /// The peer was lost, and this node may not go on without it.
    Blocked,
    Alone,
}

/// Blocks by words of 64; small, and emptied often.
#[derive(Debug, Default)]
struct Unstable {
    words: BTreeMap<u64, u64>,
    count: u64,
}

impl Unstable {
    fn add(&mut self, range: Range) {
        let (first, end) = Engine::blocks(range);
        for block in first..end {
            let word = self.words.entry(block / 64).or_default();
            let bit = 1 << (block % 64);
            self.count += u64::from(*word & bit == 0);
            *word |= bit;
        }
    }

    fn append(&mut self, other: &mut Self) {
        for (word, bits) in std::mem::take(other).words {
            let own = self.words.entry(word).or_default();
            self.count += u64::from((bits & !*own).count_ones());
            *own |= bits;
        }
    }

    fn move_into(&mut self, bitmap: &mut Bitmap) {
        for (word, bits) in std::mem::take(self).words {
            bitmap.or_word(word, bits);
        }
    }
}

/// Flushes wanted and under way.
#[derive(Debug)]
pub(super) struct Flusher {
    run: Option<Run>,
    wanted: VecDeque<Purpose>,
    /// Answered writes known to be durable.
    durable: u64,
    last_id: u64,
    last_run: u64,
    /// Confirmed by the peer since its last flush began.
    unstable: Unstable,
    /// Covered by the running flush.
    flushing: Unstable,
    last: Millis,
}

impl Flusher {
    pub(super) fn new(now: Millis) -> Self {
        Self {
            run: None,
            wanted: VecDeque::new(),
            durable: 0,
            last_id: 0,
            last_run: 0,
            unstable: Unstable::default(),
            flushing: Unstable::default(),
            last: now,
        }
    }

    /// The peer's disk has these blocks, perhaps only in its volatile cache.
    pub(super) fn unstable_on_peer(&mut self, range: Range) {
        self.unstable.add(range);
    }

    /// When the peer must be asked to flush.
    pub(super) fn background_due(&self) -> Option<Millis> {
        let due = if self.unstable.count >= UNSTABLE_BLOCKS { self.last } else { self.last + UNSTABLE_MS };
        (self.unstable.count > 0 && self.is_idle()).then_some(due)
    }

    /// Whether an application, or the giving up of the device, waits for a flush.
    pub(super) fn serves_users(&self) -> bool {
        self.run.iter().flat_map(|run| &run.purposes).chain(&self.wanted).any(Purpose::is_users)
    }

    fn is_idle(&self) -> bool {
        self.run.is_none() && self.wanted.is_empty()
    }

    /// Since when the peer owes the end of a flush.
    pub(super) fn oldest_unconfirmed(&self) -> Option<Millis> {
        match self.run.as_ref()?.remote {
            Remote::Pending { since, .. } => Some(since),
            Remote::Done | Remote::Blocked | Remote::Alone => None,
        }
    }
}

impl Engine {
    pub(super) fn request_flush(&mut self, purpose: Purpose) {
        self.flusher.wanted.push_back(purpose);
    }

    /// Starts the next flush, or finishes the running one.
    pub(super) fn advance_flush(&mut self) -> bool {
        if self.is_failed() {
            return false;
        }
        if self.flusher.run.is_some() {
            return self.finish_flush();
        }
        if self.is_blocked() {
            return false;
        }
        if self.flusher.background_due().is_some_and(|due| due <= self.now) {
            self.request_flush(Purpose::Background);
        }
        if self.flusher.wanted.is_empty() {
            return false;
        }
        self.start_flush();
        true
    }

    fn start_flush(&mut self) {
        let purposes: Vec<Purpose> = self.flusher.wanted.drain(..).collect();
        let covers = self.requests.answered;
        let only_applications = purposes.iter().all(|p| matches!(p, Purpose::Front(_)));
        if only_applications && covers == self.flusher.durable {
            // Nothing was answered since the last flush of both disks.
            purposes.into_iter().for_each(|p| self.flush_served(p, true));
            return;
        }
        let remote = match self.link.mirror() {
            Some(link) => self.flush_peer(link),
            None => Remote::Alone,
        };
        self.flusher.last_run += 1;
        let number = self.flusher.last_run;
        let io = self.start_io(Io::Flush { run: number });
        self.out.push(Action::FlushDisk { io });
        self.flusher.run = Some(Run { number, purposes, covers, local: false, remote });
    }

    fn flush_peer(&mut self, link: LinkId) -> Remote {
        self.flusher.last_id += 1;
        self.flusher.last = self.now;
        let id = self.flusher.last_id;
        self.flusher.flushing.append(&mut self.flusher.unstable);
        self.send(link, Message::Flush { id });
        Remote::Pending { id, since: self.now }
    }

    pub(super) fn local_flush_done(&mut self, number: u64) {
        if let Some(run) = self.flusher.run.as_mut().filter(|r| r.number == number) {
            run.local = true;
        }
    }

    pub(super) fn peer_flushed(&mut self, answered: u64) {
        let Some(run) = &mut self.flusher.run else { return };
        if matches!(run.remote, Remote::Pending { id, .. } if id == answered) {
            run.remote = Remote::Done;
            self.flusher.flushing = Unstable::default();
        }
    }

    /// The peer is gone: what it may lose by a power cut is marked.
    pub(super) fn flushes_lose_peer(&mut self) {
        if self.needs_peer() && self.role.has_requests() {
            if let Some(run) = &mut self.flusher.run {
                run.remote = Remote::Blocked;
            }
            return;
        }
        if let Some(run) = &mut self.flusher.run
            && matches!(run.remote, Remote::Pending { .. })
        {
            run.remote = Remote::Alone;
        }
        self.flusher.flushing.move_into(&mut self.bitmap);
        self.flusher.unstable.move_into(&mut self.bitmap);
    }

    /// The peer is back: the flush that waited for it goes on.
    pub(super) fn flushes_regain_peer(&mut self, link: LinkId) {
        if self.flusher.run.as_ref().is_some_and(|r| r.remote == Remote::Blocked) {
            let remote = self.flush_peer(link);
            if let Some(run) = &mut self.flusher.run {
                run.remote = remote;
            }
        }
    }

    pub(super) fn flushes_go_alone(&mut self) {
        if let Some(run) = self.flusher.run.as_mut().filter(|r| r.remote == Remote::Blocked) {
            run.remote = Remote::Alone;
        }
    }

    /// Marks what the peer may lose by a power cut.
    pub(super) fn mark_unstable(&mut self) {
        self.flusher.flushing.move_into(&mut self.bitmap);
        self.flusher.unstable.move_into(&mut self.bitmap);
    }

    /// The users of the device get errors; what the engine wants for itself is begun anew.
    pub(super) fn fail_users_flushes(&mut self) {
        let running = self.flusher.run.take().map(|r| r.purposes).unwrap_or_default();
        let wanted = std::mem::take(&mut self.flusher.wanted);
        for purpose in running.into_iter().chain(wanted) {
            match purpose {
                Purpose::Front(slot) => {
                    self.out.push(Action::CompleteFront { slot, result: Err(FrontError::Io) });
                }
                Purpose::Demote => {}
                own => self.flusher.wanted.push_back(own),
            }
        }
    }

    /// A flush that the peer had no part in promises durability on one disk only: like a lone write it is
    /// answered under a new generation.
    fn finish_flush(&mut self) -> bool {
        let Some(run) = &self.flusher.run else { return false };
        if !run.local || matches!(run.remote, Remote::Pending { .. } | Remote::Blocked) {
            return false;
        }
        let alone = run.remote == Remote::Alone;
        let promises = run.purposes.iter().any(|p| matches!(p, Purpose::Front(_) | Purpose::Demote));
        let unnamed = alone && self.link.mirror().is_none() && !self.requests.is_named();
        if promises && run.covers > self.flusher.durable && unnamed {
            if !self.link.is_comparing() {
                self.name_lone_generation();
            }
            return false;
        }
        let Some(run) = self.flusher.run.take() else { return false };
        if !unnamed {
            self.flusher.durable = run.covers;
        }
        run.purposes.into_iter().for_each(|p| self.flush_served(p, !alone));
        true
    }

    fn flush_served(&mut self, purpose: Purpose, both: bool) {
        match purpose {
            Purpose::Front(slot) => self.out.push(Action::CompleteFront { slot, result: Ok(()) }),
            Purpose::Evict => self.store.push(Job::new(Then::ActivityEvicted).bitmap()),
            Purpose::Demote => self.demotion_flushed(),
            Purpose::Pause => self.pause_flushed(),
            Purpose::Checkpoint(checkpoint) => self.checkpoint_flushed(checkpoint, both),
            Purpose::Grow => self.growth_flushed(both),
            Purpose::Background => {}
        }
    }

    /// After a disk failure no flush will succeed.
    pub(super) fn fail_flushes(&mut self) {
        let running = self.flusher.run.take().map(|r| r.purposes).unwrap_or_default();
        let wanted = std::mem::take(&mut self.flusher.wanted);
        for purpose in running.into_iter().chain(wanted) {
            if let Purpose::Front(slot) = purpose {
                self.out.push(Action::CompleteFront { slot, result: Err(FrontError::Io) });
            }
        }
    }

    /// Moves the activity log on: new extents in, cold ones out.
    pub(super) fn advance_activity(&mut self) -> bool {
        if self.is_failed() {
            return false;
        }
        match self.activity.step() {
            Step::Idle => false,
            Step::Commit(transaction) => {
                self.commit_activity(transaction);
                true
            }
            Step::Evict => {
                self.request_flush(Purpose::Evict);
                true
            }
        }
    }

    pub(super) fn activity_evicted(&mut self) {
        if let Step::Commit(transaction) = self.activity.evicted() {
            self.commit_activity(transaction);
        }
    }

    fn commit_activity(&mut self, transaction: Transaction) {
        let stored = transaction.clone();
        self.store.push(Job::new(Then::ActivityCommitted(stored)).activity(transaction));
    }
}
