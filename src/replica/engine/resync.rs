//! Resync: the source sends the blocks that differ, in ascending order, while applications go on.
//!
//! ```text
//! source                                    target
//! WFBitMapS        ◄── Bitmap…, BitmapEnd   WFBitMapT
//! merge, store     ──► SyncStart            mark the disk Inconsistent, durably
//! SyncSource       ◄── SyncReady            SyncTarget
//! digest           ◄─► VerifyAsk, -Reply    digest              what is the same is done (`resync/compare.rs`)
//! read             ──► Resync               write
//!                  ◄── ResyncAck
//! flush            ──► Flush ── FlushAck    flush                       now and then, and at the end
//! clear bits
//!                  ──► SyncFinish           take over the generations, UpToDate
//! forget the base  ◄── SyncCommitted        Established
//! ```
//! From SyncReady on, application writes go to both. A write waits for a resync of the same blocks that is
//! in flight, and a resync does not begin on blocks that a write is in flight to: the target never gets an
//! older block after a newer one.

mod compare;
mod hold;
mod target;

use std::collections::BTreeMap;

use compare::Compares;

use super::request::overlap;
use super::script::Gate;
use super::store::Job;
use super::{Engine, Io, Purpose, Then};
use crate::bitmap::Bitmap;
use crate::control::SyncStatus;
use crate::event::{Action, BLOCK, LinkId, LogLevel, MAX_IO_BYTES, Millis, RESYNC_SLOTS, Range, Slot};
use crate::message::{Abilities, Message};
use crate::state::{DiskState, ReplicationState};

/// Blocks confirmed by the target after which both disks are flushed and the bits cleared: 128 MiB.
const CHECKPOINT_BLOCKS: u64 = 32_768;
/// Milliseconds after which that happens in any case.
const CHECKPOINT_MS: Millis = 5000;
/// Resync requests in flight while applications are active: enough to keep going, little to wait for.
const DEPTH_BUSY: usize = 3;
/// Milliseconds over which the current speed is taken.
const RATE_WINDOW_MS: Millis = 2000;

/// Blocks that a flush of both disks makes safe to clear.
#[derive(Debug)]
pub(super) struct Checkpoint {
    link: LinkId,
    done: Vec<(u64, u64)>,
}

#[derive(Debug)]
struct Request {
    slot: Slot,
    range: Range,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Exchanging bitmaps and storing what follows from them.
    Preparing,
    /// Sending blocks.
    Running,
    /// A flush of both disks is under way, at the end of a pass.
    Flushing,
    /// Storing, offering the generations, waiting for the target.
    Finishing,
}

#[derive(Debug)]
struct Source {
    stage: Stage,
    cursor: u64,
    in_flight: BTreeMap<u64, Request>,
    compares: Compares,
    /// Confirmed by the target, or found to be the same there, not yet flushed.
    done: Vec<(u64, u64)>,
    done_blocks: u64,
    /// Handed to a flush, to be cleared when it is over.
    clearing_blocks: u64,
    checkpoint_at: Millis,
    /// Earliest time of the next request, when the rate is limited.
    paced_until: Millis,
    /// Held up by an administrator.
    paused: bool,
}

#[derive(Debug)]
struct Progress {
    total: u64,
    started: Millis,
    window_start: Millis,
    window_left: u64,
    rate_mib: f64,
}

/// The running resync, if any.
#[derive(Debug)]
pub(super) struct Resync {
    source: Option<Source>,
    progress: Option<Progress>,
    /// Target: blocks that the source will still send.
    awaited: u64,
    /// Target: what the source has compared, and counts as done whether or not it is sent then.
    compared: Bitmap,
    free: Vec<Slot>,
    /// Buffers of reads that outlived their resync.
    lent: BTreeMap<u64, Slot>,
    last_id: u64,
}

impl Default for Resync {
    fn default() -> Self {
        let free = (0..RESYNC_SLOTS).map(Slot).collect();
        Self {
            source: None,
            progress: None,
            awaited: 0,
            compared: Bitmap::new(0),
            free,
            lent: BTreeMap::new(),
            last_id: 0,
        }
    }
}

impl Resync {
    /// Whether a resync request in flight touches the range.
    pub(super) fn touches(&self, range: Range) -> bool {
        let held = |s: &Source| {
            let sent = s.in_flight.values().map(|request| request.range);
            sent.chain(s.compares.ranges()).any(|held| overlap(held, range))
        };
        self.source.as_ref().is_some_and(held)
    }

    /// A buffer of the core's own.
    pub(super) fn take(&mut self) -> Option<Slot> {
        self.free.pop()
    }

    /// Gives one back.
    pub(super) fn give(&mut self, slot: Slot) {
        self.free.push(slot);
    }

    /// Whether blocks are being copied.
    pub(super) fn is_running(&self) -> bool {
        self.progress.is_some()
    }

    pub(super) fn wake_at(&self, now: Millis) -> Option<Millis> {
        let source = self.source.as_ref().filter(|s| s.stage == Stage::Running)?;
        if source.paced_until > now {
            return Some(source.paced_until);
        }
        // Nothing to clear: the next confirmation wakes by itself.
        (source.done_blocks > 0).then_some(source.checkpoint_at)
    }
}

impl Engine {
    fn replicate(&mut self, state: ReplicationState) {
        let Some(session) = self.link.session_mut() else { return };
        let old = std::mem::replace(&mut session.replication, state);
        if old != state {
            self.log(LogLevel::Info, format!("replication:{old} -> {state}"));
        }
    }

    fn replication(&self) -> ReplicationState {
        self.link.joined().map_or(ReplicationState::Off, |s| s.replication)
    }

    // ---- source ----

    pub(super) fn become_source(&mut self, full: bool, agreed: u64) {
        self.replicate(ReplicationState::WFBitMapS);
        if full {
            self.bitmap.set_all();
        }
        self.bitmap.clear(agreed / BLOCK, self.layout.data_bytes / BLOCK);
        let renewed = self.rng.generation();
        self.store.push(Job::new(Then::Nothing).superblock(move |s| {
            s.agreed_bytes = agreed;
            s.consistent = true;
            s.outdated = false;
            s.was_up_to_date = true;
            if full {
                let old = std::mem::replace(&mut s.generations.bitmap, renewed);
                s.generations.remember(old);
            } else if s.generations.bitmap == 0 {
                // A crash, and nobody knows when.
                s.part(renewed, 0);
            }
        }));
        let (now, in_flight, done) = (self.now, BTreeMap::new(), Vec::new());
        self.resync.source = Some(Source {
            stage: Stage::Preparing,
            cursor: 0,
            in_flight,
            compares: Compares::default(),
            done,
            done_blocks: 0,
            clearing_blocks: 0,
            checkpoint_at: now + CHECKPOINT_MS,
            paced_until: now,
            paused: false,
        });
        self.turn_up_to_date();
    }

    /// The target's bitmap is complete and merged: store the union, then announce.
    fn bitmaps_merged(&mut self) {
        self.store.push(Job::new(Then::AnnounceSync).bitmap());
    }

    pub(super) fn announce_sync(&mut self) {
        if self.replication() == ReplicationState::WFBitMapS && !self.waits_at(Gate::Source) {
            self.send_sync_start();
        }
    }

    pub(super) fn send_sync_start(&mut self) {
        let Some(link) = self.link.joined().map(|s| s.id) else { return };
        let (base, blocks) = (self.superblock.generations.bitmap, self.bitmap.count());
        self.send(link, Message::SyncStart { base, blocks, as_of: self.superblock.parted });
    }

    fn target_is_ready(&mut self) {
        let Some(session) = self.link.session_mut() else { return };
        session.mirrors = true;
        session.peer_disk = DiskState::Inconsistent;
        self.end_lone_period();
        self.replicate(ReplicationState::SyncSource);
        self.begin_progress(self.bitmap.count());
        if let Some(source) = &mut self.resync.source {
            source.stage = Stage::Running;
        }
    }

    /// Sends the next blocks, and ends the pass when there are none.
    pub(super) fn advance_resync(&mut self) -> bool {
        self.measure();
        let Some(link) = self.link.mirror() else { return false };
        let Some(source) = &self.resync.source else { return false };
        if source.stage != Stage::Running || self.is_failed() {
            return false;
        }
        if self.send_next(link) {
            return true;
        }
        let Some(source) = &mut self.resync.source else { return false };
        let under_way = !source.in_flight.is_empty() || !source.compares.is_empty();
        let passed = !under_way && self.bitmap.next_run(source.cursor, 1).is_none();
        let due = source.done_blocks >= CHECKPOINT_BLOCKS
            || (source.done_blocks > 0 && source.checkpoint_at <= self.now);
        if !passed && !due {
            return false;
        }
        if passed {
            source.stage = Stage::Flushing;
        }
        source.clearing_blocks += std::mem::take(&mut source.done_blocks);
        source.checkpoint_at = self.now + CHECKPOINT_MS;
        let done = std::mem::take(&mut source.done);
        self.request_flush(Purpose::Checkpoint(Checkpoint { link, done }));
        true
    }

    fn send_next(&mut self, link: LinkId) -> bool {
        let busy = self.requests.are_busy(self.now);
        let Some(source) = &mut self.resync.source else { return false };
        let depth = if busy { DEPTH_BUSY } else { usize::try_from(RESYNC_SLOTS).unwrap_or(1) };
        let full = source.in_flight.len() + source.compares.open() >= depth || self.resync.free.is_empty();
        if full || source.paused || source.paced_until > self.now {
            return false;
        }
        if let Some((range, zero)) = source.compares.next_differing() {
            let begun = !self.requests.touches(range)
                && if zero && self.link.peer_has(Abilities::ZERO) {
                    self.zero_blocks(link, range)
                } else {
                    self.read_blocks(range)
                };
            if begun && let Some(source) = &mut self.resync.source {
                source.compares.take_differing();
            }
            return begun;
        }
        let Some((first, blocks)) = self.bitmap.next_run(source.cursor, u64::from(MAX_IO_BYTES) / BLOCK)
        else {
            return false;
        };
        let len = u32::try_from(blocks * BLOCK).unwrap_or(MAX_IO_BYTES);
        let range = Range { offset: first * BLOCK, len };
        if self.requests.touches(range) {
            return false;
        }
        if source.compares.goes_unasked(blocks) {
            if !self.read_blocks(range) {
                return false;
            }
        } else {
            self.compare_blocks(link, range);
        }
        if let Some(source) = &mut self.resync.source {
            source.cursor = first + blocks;
        }
        true
    }

    fn next_resync_id(&mut self) -> u64 {
        self.resync.last_id += 1;
        self.resync.last_id
    }

    /// Begins to read what is sent then; false when there is no buffer.
    fn read_blocks(&mut self, range: Range) -> bool {
        let Some(slot) = self.resync.free.pop() else { return false };
        let id = self.next_resync_id();
        let Some(source) = &mut self.resync.source else { return false };
        let pause_ms = (u64::from(range.len) / 1024 * 1000).checked_div(self.settings.resync_rate_kib);
        source.paced_until = self.now + pause_ms.unwrap_or_default();
        source.in_flight.insert(id, Request { slot, range });
        let io = self.start_io(Io::ResyncRead { id });
        self.out.push(Action::ReadDisk { io, slot, range });
        true
    }

    /// Has the target zero what is zero here; false when too much is on its way.
    fn zero_blocks(&mut self, link: LinkId, range: Range) -> bool {
        let Some(slot) = self.resync.free.pop() else { return false };
        let id = self.next_resync_id();
        let Some(source) = &mut self.resync.source else { return false };
        source.in_flight.insert(id, Request { slot, range });
        let unmap = self.link.peer_has(Abilities::UNMAP);
        self.send_data(link, Message::Zero { id, range, unmap, resync: true }, Some(slot));
        true
    }

    pub(super) fn resync_read_done(&mut self, id: u64, ok: bool) {
        let link = self.link.mirror();
        let request =
            self.resync.source.as_ref().and_then(|s| s.in_flight.get(&id)).map(|r| (r.slot, r.range));
        match (request, link) {
            (Some((slot, range)), Some(link)) if ok => {
                self.counters.sent_bytes += u64::from(range.len);
                self.send_data(link, Message::Resync { id, range }, Some(slot));
            }
            // The resync it belonged to is over: the disk no longer uses the buffer.
            (None, _) => self.resync.free.extend(self.resync.lent.remove(&id)),
            _ => {}
        }
    }

    fn resync_confirmed(&mut self, id: u64) {
        if self.reading().any(|reading| reading == id) {
            self.unexpected("ResyncAck for blocks that were not sent");
            return;
        }
        let Some(source) = &mut self.resync.source else { return };
        let Some(request) = source.in_flight.remove(&id) else { return };
        let (first, end) = Self::blocks(request.range);
        source.done.push((first, end));
        source.done_blocks += end - first;
        self.resync.free.push(request.slot);
    }

    /// Both disks are flushed: what was done before may be cleared.
    pub(super) fn checkpoint_flushed(&mut self, checkpoint: Checkpoint, both: bool) {
        if !both || self.link.mirror() != Some(checkpoint.link) {
            return;
        }
        let Some(source) = &mut self.resync.source else { return };
        for (first, end) in checkpoint.done {
            self.bitmap.clear(first, end);
            source.clearing_blocks -= end - first;
        }
        if source.stage != Stage::Flushing {
            self.store.push(Job::new(Then::Nothing).bitmap());
            return;
        }
        if self.bitmap.count() > 0 {
            source.stage = Stage::Running;
            source.cursor = 0;
            return;
        }
        source.stage = Stage::Finishing;
        self.store.push(Job::new(Then::OfferFinish).bitmap());
    }

    pub(super) fn offer_finish(&mut self) {
        if self.resync.source.as_ref().is_none_or(|s| s.stage != Stage::Finishing) {
            return;
        }
        if let Some(link) = self.link.mirror() {
            self.send(link, Message::SyncFinish(self.superblock.generations.clone()));
        }
    }

    fn target_has_committed(&mut self) {
        self.store.push(Job::new(Then::Nothing).superblock(|s| {
            s.generations.in_sync();
            s.crashed_primary = false;
        }));
        self.end_resync();
        self.seen_generation = Some(self.superblock.generations.current);
        if let Some(session) = self.link.session_mut() {
            session.peer_disk = DiskState::UpToDate;
        }
        self.replicate(ReplicationState::Established);
        self.announce();
    }

    // ---- both ----

    pub(super) fn resync_message(&mut self, message: Message) {
        use ReplicationState::{SyncSource, SyncTarget, WFBitMapS, WFBitMapT};
        match (self.replication(), message) {
            (WFBitMapS, Message::Bitmap { first_word, words }) => {
                for (word, bits) in (first_word..=u64::MAX).zip(words) {
                    self.bitmap.or_word(word, bits);
                }
            }
            (WFBitMapS, Message::BitmapEnd) => self.bitmaps_merged(),
            (WFBitMapT, Message::SyncStart { base, blocks, as_of }) => self.sync_starts(base, blocks, as_of),
            (WFBitMapS, Message::SyncReady) => self.target_is_ready(),
            (SyncSource, Message::ResyncAck { id }) => self.resync_confirmed(id),
            (SyncTarget, Message::SyncFinish(generations)) => self.sync_finishes(generations),
            (SyncSource, Message::SyncCommitted) => self.target_has_committed(),
            (state, message) => self.unexpected(&format!("{} while {state}", message.name())),
        }
    }

    pub(super) fn resync_loses_peer(&mut self) {
        if let Some(source) = self.resync.source.take() {
            let reading: Vec<u64> = self.reading().collect();
            for (id, request) in source.in_flight {
                if reading.contains(&id) {
                    self.resync.lent.insert(id, request.slot);
                } else {
                    self.resync.free.push(request.slot);
                }
            }
        }
        self.end_resync();
    }

    fn reading(&self) -> impl Iterator<Item = u64> {
        self.ios.values().filter_map(|io| if let Io::ResyncRead { id } = io { Some(*id) } else { None })
    }

    fn end_resync(&mut self) {
        self.resync.source = None;
        self.resync.progress = None;
        self.resync.awaited = 0;
    }

    fn begin_progress(&mut self, total: u64) {
        let now = self.now;
        self.resync.progress =
            Some(Progress { total, started: now, window_start: now, window_left: total, rate_mib: 0.0 });
    }

    /// Blocks that the running resync has still to copy.
    pub(super) fn blocks_left(&self) -> u64 {
        match &self.resync.source {
            Some(source) => self.bitmap.count().saturating_sub(source.done_blocks + source.clearing_blocks),
            None => self.resync.awaited,
        }
    }

    fn measure(&mut self) {
        let left = self.blocks_left();
        let now = self.now;
        let Some(progress) = &mut self.resync.progress else { return };
        let elapsed = now - progress.window_start;
        if elapsed >= RATE_WINDOW_MS {
            progress.rate_mib = mib_per_second(progress.window_left.saturating_sub(left), elapsed);
            progress.window_start = now;
            progress.window_left = left;
        }
    }

    pub(super) fn sync_status(&self) -> Option<SyncStatus> {
        let progress = self.resync.progress.as_ref()?;
        let left = self.blocks_left().min(progress.total);
        let elapsed_ms = self.now - progress.started;
        let average = mib_per_second(progress.total - left, elapsed_ms);
        let rate_mib = if progress.rate_mib > 0.0 { progress.rate_mib } else { average };
        let left_mib = blocks_to_mib(left);
        let eta = (rate_mib > 0.0).then(|| (left_mib / rate_mib).ceil());
        Some(SyncStatus {
            total_kib: progress.total * BLOCK / 1024,
            done: if progress.total == 0 {
                100.0
            } else {
                100.0 - 100.0 * left_mib / blocks_to_mib(progress.total)
            },
            elapsed_ms,
            same_kib: self.same_kib(),
            paused: self.is_sync_paused(),
            rate_mib,
            eta_seconds: eta.map(whole_seconds),
        })
    }
}

/// Exact for all sizes of disks: 2^52 blocks are far beyond them.
pub(super) fn blocks_to_mib(blocks: u64) -> f64 {
    let whole = u32::try_from(blocks / 256).unwrap_or(u32::MAX);
    let rest = u32::try_from(blocks % 256).unwrap_or_default();
    f64::from(whole) + f64::from(rest) / 256.0
}

fn mib_per_second(blocks: u64, elapsed_ms: Millis) -> f64 {
    let ms = u32::try_from(elapsed_ms).unwrap_or(u32::MAX);
    if ms == 0 { 0.0 } else { blocks_to_mib(blocks) * 1000.0 / f64::from(ms) }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range of the result"
)]
fn whole_seconds(seconds: f64) -> u64 {
    seconds.clamp(0.0, f64::from(u32::MAX)) as u64
}
