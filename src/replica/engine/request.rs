//! Application requests: when a write may start, and when it may be answered.
//!
//! A write starts when no earlier write and no resync of the same blocks is in flight and its extents are in
//! the activity log. It goes to the local disk and, while the peer takes part, to the peer at the same time.
//! It is answered when both have it. A write that the peer does not confirm is marked in the bitmap, and
//! answered only after a new generation is durable.

use std::collections::{BTreeMap, VecDeque};

use super::role::RoleState;
use super::store::Job;
use super::{Engine, Io, Purpose, Then};
use crate::event::{Action, BLOCK, Fill, FrontError, FrontOp, LinkId, MAX_IO_BYTES, Millis, Range, Slot};
use crate::message::{Abilities, Message};

/// An application is active when it asked for something this many milliseconds ago or less.
const BUSY_MS: Millis = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remote {
    /// Sent, not confirmed.
    Pending,
    /// The peer's disk has it.
    Confirmed,
    /// The peer does not have it, and this node may not go on without it: the block is not marked, the peer
    /// may come back and get it.
    Blocked,
    /// The peer does not have it; the block is marked, the new generation is not durable yet.
    Alone,
    /// The peer does not have it, and cannot take its own data for the newest any more.
    Named,
}

/// What an application wants to be written, or the next piece of it.
#[derive(Clone, Copy, Debug)]
struct Wish {
    slot: Slot,
    range: Range,
    fill: Fill,
    /// Until it is answered no other write of these blocks begins: another process may have to begin all of it anew.
    whole: Range,
}

impl Wish {
    fn data(slot: Slot, range: Range) -> Self {
        Self { slot, range, fill: Fill::Data, whole: range }
    }

    /// Zeroes from `offset` on: up to where another piece of [`MAX_IO_BYTES`] could begin, so that each lies in one
    /// extent.
    fn zero(slot: Slot, whole: Range, fill: Fill, offset: u64) -> Self {
        let most = u64::from(MAX_IO_BYTES);
        let len = (most - offset % most).min(whole.end() - offset);
        let range = Range { offset, len: u32::try_from(len).unwrap_or(MAX_IO_BYTES) };
        Self { slot, range, fill, whole }
    }

    fn next(self) -> Option<Self> {
        let done = self.range.end();
        (done < self.whole.end()).then(|| Self::zero(self.slot, self.whole, self.fill, done))
    }
}

#[derive(Debug)]
struct Write {
    wish: Wish,
    range: Range,
    local: bool,
    failed: bool,
    remote: Remote,
    started: Millis,
}

/// The current period without the peer: whether its generation is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Alone {
    #[default]
    NotNamed,
    Storing,
    Named,
}

/// Application requests in flight.
#[derive(Debug, Default)]
pub(super) struct Requests {
    started: BTreeMap<u64, Write>,
    waiting: VecDeque<Wish>,
    reads: u64,
    last_id: u64,
    alone: Alone,
    /// Writes answered so far.
    pub(super) answered: u64,
    /// When an application last asked for something.
    pub(super) last_front: Millis,
}

impl Requests {
    pub(super) fn pending(&self) -> u64 {
        u64::try_from(self.started.len() + self.waiting.len()).unwrap_or(u64::MAX) + self.reads
    }

    /// Writes that the peer has not confirmed.
    pub(super) fn unconfirmed(&self) -> u64 {
        let count = self.started.values().filter(|w| w.remote == Remote::Pending).count();
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    pub(super) fn oldest_unconfirmed(&self) -> Option<Millis> {
        self.started.values().filter(|w| w.remote == Remote::Pending).map(|w| w.started).min()
    }

    /// Whether writes have been started that are not answered.
    pub(super) fn has_started(&self) -> bool {
        !self.started.is_empty()
    }

    /// Whether a write that has been started touches the range.
    pub(super) fn touches(&self, range: Range) -> bool {
        self.started.values().any(|w| overlap(w.range, range))
    }

    /// Whether applications are active.
    pub(super) fn are_busy(&self, now: Millis) -> bool {
        self.last_front + BUSY_MS >= now && self.last_front > 0
    }

    /// Names a write to the peer.
    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// A generation of this lone period is durable: lone writes may be answered.
    pub(super) fn is_named(&self) -> bool {
        self.alone == Alone::Named
    }
}

pub(super) fn overlap(a: Range, b: Range) -> bool {
    a.offset < b.end() && b.offset < a.end()
}

impl Engine {
    pub(super) fn front(&mut self, slot: Slot, op: FrontOp) {
        self.requests.last_front = self.now;
        let refused = match op {
            FrontOp::Read(range) | FrontOp::Write(range) if range.len > MAX_IO_BYTES => {
                Some(FrontError::Invalid)
            }
            FrontOp::Read(range) | FrontOp::Write(range) | FrontOp::Zero { range, .. }
                if !self.is_valid(range) =>
            {
                Some(FrontError::Invalid)
            }
            _ if self.is_failed() || !self.role.is_exporting() => Some(FrontError::Io),
            _ => None,
        };
        if let Some(error) = refused {
            self.out.push(Action::CompleteFront { slot, result: Err(error) });
            return;
        }
        match op {
            FrontOp::Read(range) => {
                self.requests.reads += 1;
                let io = self.start_io(Io::FrontRead { slot, range });
                self.out.push(Action::ReadDisk { io, slot, range });
            }
            FrontOp::Write(range) => self.requests.waiting.push_back(Wish::data(slot, range)),
            FrontOp::Zero { range, unmap } => {
                let fill = if unmap { Fill::Unmapped } else { Fill::Zeroes };
                self.requests.waiting.push_back(Wish::zero(slot, range, fill, range.offset));
            }
            // The system settles the new device before anybody can have written to it. It must not wait for the
            // peer: the manager hears of the promotion, and can record that the peer is gone, only afterwards.
            FrontOp::Flush if self.is_blocked() && matches!(self.role, RoleState::Exporting { .. }) => {
                self.out.push(Action::CompleteFront { slot, result: Ok(()) });
            }
            FrontOp::Flush => self.request_flush(Purpose::Front(slot)),
        }
    }

    fn is_valid(&self, range: Range) -> bool {
        let whole = range.offset.is_multiple_of(BLOCK) && u64::from(range.len).is_multiple_of(BLOCK);
        whole && range.len > 0 && range.end() <= self.device_bytes()
    }

    pub(super) fn front_read_done(&mut self, slot: Slot, range: Range, ok: bool) {
        self.requests.reads -= 1;
        self.counters.read_bytes += u64::from(range.len);
        let result = if ok && self.role.has_requests() { Ok(()) } else { Err(FrontError::Io) };
        self.out.push(Action::CompleteFront { slot, result });
    }

    /// Starts every waiting write that may start. Writes of the same blocks keep their order.
    pub(super) fn advance_requests(&mut self) -> bool {
        if self.requests.waiting.is_empty() || self.must_hold_writes() {
            return false;
        }
        let waiting = std::mem::take(&mut self.requests.waiting);
        let mut held: VecDeque<Wish> = VecDeque::with_capacity(waiting.len());
        let before = waiting.len();
        for wish in waiting {
            let (range, whole) = (wish.range, wish.whole);
            let blocked = held.iter().any(|h| overlap(h.whole, whole))
                || self.requests.started.values().any(|w| overlap(w.wish.whole, whole))
                || self.resync.touches(range)
                || self.verify.touches(range)
                || !self.activity.begin(range);
            if blocked {
                held.push_back(wish);
            } else {
                self.start_write(wish);
            }
        }
        self.requests.waiting = held;
        self.requests.waiting.len() < before
    }

    /// While both sides compare what they have, nothing may begin that would change the answer.
    fn must_hold_writes(&self) -> bool {
        self.is_failed()
            || self.is_blocked()
            || self.suspension.is_on()
            || (self.link.is_comparing() && self.requests.alone != Alone::Named)
    }

    fn start_write(&mut self, wish: Wish) {
        let Wish { slot, range, fill, .. } = wish;
        let id = self.requests.next_id();
        let io = self.start_io(Io::FrontWrite { request: id });
        self.out.push(Action::WriteDisk { io, slot, range, fill });
        let remote = match self.link.mirror() {
            Some(link) => {
                self.send_write(link, id, wish);
                Remote::Pending
            }
            None => {
                self.mark_out_of_sync(range);
                self.name_lone_generation();
                if self.requests.is_named() { Remote::Named } else { Remote::Alone }
            }
        };
        let started = self.now;
        let write = Write { wish, range, local: false, failed: false, remote, started };
        self.requests.started.insert(id, write);
    }

    fn send_write(&mut self, link: LinkId, id: u64, wish: Wish) {
        let Wish { slot, range, fill, .. } = wish;
        let message = if fill == Fill::Data || !self.link.peer_has(Abilities::ZERO) {
            self.counters.sent_bytes += u64::from(range.len);
            Message::Write { id, range }
        } else {
            Message::Zero { id, range, unmap: fill == Fill::Unmapped, resync: false }
        };
        self.send_data(link, message, Some(slot));
    }

    pub(super) fn front_write_done(&mut self, request: u64, ok: bool) {
        if let Some(write) = self.requests.started.get_mut(&request) {
            write.local = true;
            write.failed |= !ok;
            self.counters.written_bytes += u64::from(write.range.len);
            self.answer(request);
        }
    }

    pub(super) fn write_confirmed(&mut self, id: u64) {
        let Some(write) = self.requests.started.get_mut(&id) else { return self.verify_written(id) };
        if write.remote == Remote::Pending {
            write.remote = Remote::Confirmed;
            let range = write.range;
            self.flusher.unstable_on_peer(range);
            self.answer(id);
        }
    }

    /// Answers a write if nothing is missing.
    fn answer(&mut self, id: u64) {
        let (failed_disk, blocked) = (self.is_failed(), self.is_blocked());
        let Some(write) = self.requests.started.get(&id) else { return };
        let failed = write.failed || failed_disk;
        let confirmed = matches!(write.remote, Remote::Confirmed | Remote::Named) && !blocked;
        if !write.local || !(confirmed || failed) {
            return;
        }
        let Some(write) = self.requests.started.remove(&id) else { return };
        self.activity.end(write.range);
        self.requests.answered += 1;
        match write.wish.next().filter(|_| !failed) {
            // Before what waits for it.
            Some(piece) => self.requests.waiting.push_front(piece),
            None => {
                let result = if failed { Err(FrontError::Io) } else { Ok(()) };
                self.out.push(Action::CompleteFront { slot: write.wish.slot, result });
            }
        }
    }

    pub(super) fn answer_all(&mut self) {
        let ids: Vec<u64> = self.requests.started.keys().copied().collect();
        ids.into_iter().for_each(|id| self.answer(id));
    }

    /// The peer takes part from now on and may learn this disk's generation: what is written without it
    /// later needs a new one.
    pub(super) fn end_lone_period(&mut self) {
        self.requests.alone = Alone::NotNamed;
    }

    /// The peer is gone: what it has not confirmed is marked, and waits for the new generation.
    pub(super) fn requests_lose_peer(&mut self) {
        if self.needs_peer() {
            let unanswered = |w: &&mut Write| matches!(w.remote, Remote::Pending | Remote::Confirmed);
            self.requests.started.values_mut().filter(unanswered).for_each(|w| w.remote = Remote::Blocked);
            return;
        }
        let mut lost = Vec::new();
        for write in self.requests.started.values_mut() {
            if write.remote == Remote::Pending {
                write.remote = Remote::Alone;
                lost.push(write.range);
            }
        }
        lost.iter().for_each(|range| self.mark_out_of_sync(*range));
        if !lost.is_empty() {
            self.name_lone_generation();
        }
    }

    /// The peer is back and lacks nothing else: what waited for it is sent again.
    pub(super) fn requests_regain_peer(&mut self) {
        let Some(link) = self.link.mirror() else { return };
        let mut again = Vec::new();
        for (id, write) in &mut self.requests.started {
            if write.remote == Remote::Blocked && !write.failed {
                write.remote = Remote::Pending;
                write.started = self.now;
                again.push((*id, write.wish));
            }
        }
        for (id, wish) in again {
            self.send_write(link, id, wish);
        }
        self.flushes_regain_peer(link);
    }

    /// This node may go on without the peer: what waited is marked, and answered under a new generation.
    pub(super) fn blocked_go_alone(&mut self) {
        if self.link.mirror().is_none() {
            self.mark_unanswered();
            let mut any = false;
            for write in self.requests.started.values_mut().filter(|w| w.remote == Remote::Blocked) {
                write.remote = Remote::Alone;
                any = true;
            }
            if any {
                self.name_lone_generation();
            }
            self.flushes_go_alone();
        }
        self.answer_all();
    }

    /// Marks what the peer may lack: what was not answered, and what it has confirmed and not flushed. What waits may
    /// have been started by an earlier process.
    pub(super) fn mark_unanswered(&mut self) {
        let waiting = self.requests.waiting.iter().map(|wish| wish.whole);
        let ranges: Vec<Range> =
            self.requests.started.values().map(|w| w.wish.whole).chain(waiting).collect();
        ranges.into_iter().for_each(|range| self.mark_out_of_sync(range));
        self.mark_unstable();
    }

    /// Whether an application waits for anything that has not failed already.
    pub(super) fn has_unanswered(&self) -> bool {
        let requests = &self.requests;
        !requests.waiting.is_empty()
            || requests.started.values().any(|w| !w.failed)
            || self.flusher.serves_users()
    }

    /// Everything that was not answered fails, and is marked. What is on its way to the disk is answered when
    /// it is over, because the disk still uses its buffer.
    pub(super) fn fail_unanswered(&mut self) {
        self.mark_unanswered();
        for Wish { slot, .. } in std::mem::take(&mut self.requests.waiting) {
            self.out.push(Action::CompleteFront { slot, result: Err(FrontError::Io) });
        }
        self.requests.started.values_mut().for_each(|w| w.failed = true);
        self.answer_all();
        self.fail_users_flushes();
    }

    /// The generation that begins with a promotion stands for the lone period too.
    pub(super) fn begin_named(&mut self) {
        self.requests.alone = Alone::Named;
    }

    /// Makes the new generation of this lone period durable, once.
    pub(super) fn name_lone_generation(&mut self) {
        if self.needs_peer() {
            return;
        }
        if self.requests.alone != Alone::NotNamed || self.is_failed() {
            return;
        }
        self.requests.alone = Alone::Storing;
        let (new, now) = (self.rng.generation(), self.unix_seconds());
        self.store.push(Job::new(Then::Alone).superblock(move |s| s.part(new, now)));
    }

    pub(super) fn alone_stored(&mut self) {
        if self.requests.alone == Alone::Storing {
            self.requests.alone = Alone::Named;
        }
        for write in self.requests.started.values_mut().filter(|w| w.remote == Remote::Alone) {
            write.remote = Remote::Named;
        }
        self.answer_all();
    }

    /// After a disk failure: nothing waits any longer; what is on its way to the disk is answered when it is
    /// over, because the disk still uses its buffer.
    pub(super) fn fail_requests(&mut self) {
        for Wish { slot, .. } in std::mem::take(&mut self.requests.waiting) {
            self.out.push(Action::CompleteFront { slot, result: Err(FrontError::Io) });
        }
        self.fail_flushes();
        self.answer_all();
    }
}
