//! Online verify: both disks are read while applications go on, and compared block by block.
//!
//! ```text
//! this node                                  the peer, Secondary
//! hold new writes to a range, wait for those in flight
//! read, digest      ──► VerifyAsk            read, digest
//! compare           ◄── VerifyReply
//! let writes go on
//! ```
//! and with `repair`, for each run of blocks that differ, before writes to it go on:
//! ```text
//! read              ──► Write                write
//!                   ◄── WriteAck
//! ```
//! Nothing else may write: it runs where the Primary is, or where there is none, and ends when the peer is about to
//! become one. What was repaired is flushed, and marked when the peer is lost before, like any other write.

use std::collections::{BTreeMap, VecDeque};

use super::request::overlap;
use super::resync::blocks_to_mib;
use super::role::RoleState;
use super::{Engine, Io};
use crate::control::{Reason, VerifyStatus};
use crate::event::{Action, BLOCK, LinkId, LogLevel, MAX_IO_BYTES, Millis, Range, Slot, Token};
use crate::handler::Handler;
use crate::message::Message;
use crate::state::{DiskState, ReplicationState, Role};

/// Ranges compared at the same time, and while applications are active.
const DEPTH: usize = 4;
const DEPTH_BUSY: usize = 1;
/// Places that are remembered and logged; the others are only counted.
const LISTED: usize = 100;

#[derive(Debug)]
struct Compare {
    range: Range,
    here: Option<Vec<u128>>,
    there: Option<Vec<u128>>,
    since: Millis,
}

#[derive(Debug)]
struct Repair {
    slot: Slot,
    range: Range,
    since: Millis,
}

/// What is going on.
#[derive(Debug)]
struct Run {
    repair: bool,
    /// What is compared lies beyond the device, which is to grow: see `engine/grow.rs`.
    grows: bool,
    end: u64,
    cursor: u64,
    /// The next range: new writes to it wait, until those in flight are over.
    claimed: Option<Range>,
    comparing: BTreeMap<u64, Compare>,
    to_repair: VecDeque<Range>,
    repairing: BTreeMap<u64, Repair>,
    paced_until: Millis,
}

/// The last verify, running or over.
#[derive(Debug, Default)]
pub(super) struct Verify {
    run: Option<Run>,
    started: Millis,
    ended: Millis,
    total: u64,
    compared: u64,
    differing: u64,
    repaired: u64,
    /// First byte and length of each run of blocks that differed.
    places: Vec<Range>,
    interrupted: Option<String>,
    last_id: u64,
    /// Buffers of reads that outlived their verify.
    lent: BTreeMap<u64, Slot>,
}

impl Verify {
    pub(super) fn is_running(&self) -> bool {
        self.run.is_some()
    }

    /// Whether writes to the range must wait.
    pub(super) fn touches(&self, range: Range) -> bool {
        let Some(run) = &self.run else { return false };
        let compared = run.claimed.into_iter().chain(run.comparing.values().map(|c| c.range));
        let repaired = run.to_repair.iter().copied().chain(run.repairing.values().map(|r| r.range));
        compared.chain(repaired).any(|held| overlap(held, range))
    }

    /// Since when the peer owes an answer: writes of applications may be waiting for it.
    pub(super) fn oldest_unanswered(&self) -> Option<Millis> {
        let run = self.run.as_ref()?;
        let compared = run.comparing.values().filter(|c| c.there.is_none()).map(|c| c.since);
        compared.chain(run.repairing.values().map(|r| r.since)).min()
    }

    pub(super) fn wake_at(&self, now: Millis) -> Option<Millis> {
        self.run.as_ref().map(|run| run.paced_until).filter(|at| *at > now)
    }
}

impl Engine {
    pub(super) fn verify(&mut self, token: Token, repair: bool) {
        if let Err((reason, text)) = self.may_verify() {
            self.refuse_command(token, reason, &text);
            return;
        }
        let end = self.device_bytes();
        let what = if repair { "what differs is written over the peer's" } else { "nothing is changed" };
        self.log(LogLevel::Info, format!("verify begins: {} MiB; {what}", end >> 20));
        self.begin_comparison(0, end, repair);
        self.reply(token, Ok(()));
    }

    /// Compares from a byte on to the `end`.
    pub(super) fn begin_comparison(&mut self, from: u64, end: u64, repair: bool) {
        let now = self.now;
        let Verify { last_id, lent, .. } = std::mem::take(&mut self.verify);
        let run = Run {
            repair,
            grows: self.is_growing(),
            end,
            cursor: from,
            claimed: None,
            comparing: BTreeMap::new(),
            to_repair: VecDeque::new(),
            repairing: BTreeMap::new(),
            paced_until: now,
        };
        let total = (end - from) / BLOCK;
        self.verify = Verify { run: Some(run), started: now, total, last_id, lent, ..Verify::default() };
    }

    pub(super) fn may_verify(&self) -> Result<(), (Reason, String)> {
        let peer = &self.settings.peer;
        let session = self.link.joined().filter(|s| s.replication == ReplicationState::Established);
        let Some(session) = session.filter(|s| s.mirrors && s.peer_disk == DiskState::UpToDate) else {
            let text = format!("{peer} must be connected and UpToDate, and no resync running");
            return Err((Reason::NoConnection, text));
        };
        if self.disk != DiskState::UpToDate {
            let text = format!("the disk here is {}: there is nothing to compare", self.disk);
            return Err((Reason::NoUpToDateDisk, text));
        }
        if session.peer_role == Role::Primary {
            let text = format!("{peer} is Primary: type it there, where writes can be made to wait");
            return Err((Reason::PeerRefused, text));
        }
        if self.is_growing() {
            let text = "the device is growing already; `verify --stop` breaks that off".to_owned();
            return Err((Reason::InTransition, text));
        }
        if self.verify.is_running() {
            let text = "a verify is running already; `verify --stop` ends it".to_owned();
            return Err((Reason::InTransition, text));
        }
        Ok(())
    }

    /// Nothing more is begun; what is under way is brought to its end.
    pub(super) fn stop_verify(&mut self, token: Token) {
        if let Some(run) = &mut self.verify.run {
            run.end = run.cursor;
            run.claimed = None;
            run.to_repair.clear();
            self.verify.interrupted = Some("stopped by an administrator".to_owned());
        }
        self.reply(token, Ok(()));
    }

    pub(super) fn verify_loses_peer(&mut self) {
        // The peer may have what was sent to it, or not.
        let run = self.verify.run.as_ref().filter(|run| !run.grows);
        let sent: Vec<Range> = run.iter().flat_map(|run| run.repairing.values()).map(|r| r.range).collect();
        sent.into_iter().for_each(|range| self.mark_out_of_sync(range));
        self.interrupt_verify("the peer is lost");
        self.drop_growth("the peer is lost");
    }

    /// Ends it at once. What is on its way to the peer still gets there, or is marked when the peer is lost.
    pub(super) fn interrupt_verify(&mut self, why: &str) {
        let Some(run) = self.verify.run.take() else { return };
        let reading: Vec<u64> = self.verify_reads().collect();
        for (id, repair) in run.repairing {
            if reading.contains(&id) {
                self.verify.lent.insert(id, repair.slot);
            } else {
                if !run.grows {
                    self.flusher.unstable_on_peer(repair.range);
                }
                self.resync.give(repair.slot);
            }
        }
        if run.grows {
            self.drop_growth(why);
        }
        self.verify.interrupted = Some(why.to_owned());
        self.verify.ended = self.now;
        self.log(LogLevel::Warn, format!("verify ended at {:.1} %: {why}", self.verify_percent()));
    }

    fn verify_reads(&self) -> impl Iterator<Item = u64> {
        self.ios.values().filter_map(|io| if let Io::VerifyRead { id } = io { Some(*id) } else { None })
    }

    pub(super) fn advance_verify(&mut self) -> bool {
        let Some(link) = self.link.mirror() else { return false };
        let Some(run) = &self.verify.run else { return false };
        if let Some(range) = run.to_repair.front().copied()
            && self.repair_next(range)
        {
            return true;
        }
        if self.compare_next(link) {
            return true;
        }
        let over = self.verify.run.as_ref().is_some_and(|run| {
            let waits = run.claimed.is_some() || !run.comparing.is_empty();
            run.cursor >= run.end && !waits && run.to_repair.is_empty() && run.repairing.is_empty()
        });
        if over {
            self.finish_verify();
        }
        over
    }

    fn compare_next(&mut self, link: LinkId) -> bool {
        let depth = if self.requests.are_busy(self.now) { DEPTH_BUSY } else { DEPTH };
        let now = self.now;
        let Some(run) = &mut self.verify.run else { return false };
        if run.claimed.is_none() && run.cursor < run.end {
            let len = u32::try_from(run.end - run.cursor).unwrap_or(u32::MAX).min(MAX_IO_BYTES);
            let range = Range { offset: run.cursor, len };
            run.cursor = range.end();
            run.claimed = Some(range);
        }
        let Some(range) = run.claimed else { return false };
        if run.comparing.len() >= depth || run.paced_until > now || self.requests.touches(range) {
            return false;
        }
        run.claimed = None;
        let pause_ms = (u64::from(range.len) / 1024 * 1000).checked_div(self.settings.resync_rate_kib);
        run.paced_until = now + pause_ms.unwrap_or_default();
        self.verify.last_id += 1;
        let id = self.verify.last_id;
        run.comparing.insert(id, Compare { range, here: None, there: None, since: now });
        let io = self.start_io(Io::VerifyDigest { id });
        self.out.push(Action::DigestDisk { io, range });
        self.send(link, Message::VerifyAsk { id, range });
        true
    }

    /// This disk's part of a comparison is read.
    pub(super) fn verify_digested(&mut self, id: u64, digests: Vec<u128>) {
        if let Some(compare) = self.verify.run.as_mut().and_then(|run| run.comparing.get_mut(&id)) {
            compare.here = Some(digests);
            self.compare(id);
        }
    }

    /// The peer's part has come; nothing in it means that the peer does not take part any more.
    pub(super) fn verify_replied(&mut self, id: u64, digests: Vec<u128>) {
        let Some(compare) = self.verify.run.as_mut().and_then(|run| run.comparing.get_mut(&id)) else {
            return;
        };
        if digests.is_empty() {
            let why = format!("{} is about to be Primary", self.settings.peer);
            self.interrupt_verify(&why);
            return;
        }
        compare.there = Some(digests);
        self.compare(id);
    }

    fn compare(&mut self, id: u64) {
        let Some(run) = &mut self.verify.run else { return };
        let both = run.comparing.get(&id).is_some_and(|c| c.here.is_some() && c.there.is_some());
        let Some(compare) = both.then(|| run.comparing.remove(&id)).flatten() else { return };
        let (first, end) = Self::blocks(compare.range);
        self.verify.compared += end - first;
        let [here, there] = [compare.here, compare.there].map(Option::unwrap_or_default);
        let places = runs(first, &here, &there);
        // What nobody has used yet may differ.
        let told = if run.grows { &[][..] } else { &places };
        for place in told {
            let (at, len) = (place.offset / 1024, u64::from(place.len) / 1024);
            self.verify.differing += u64::from(place.len) / BLOCK;
            if self.verify.places.len() < LISTED {
                self.verify.places.push(*place);
                self.log(LogLevel::Warn, format!("verify: {len} KiB at {at} KiB differ from the peer's"));
            }
        }
        if let Some(run) = self.verify.run.as_mut().filter(|run| run.repair) {
            run.to_repair.extend(places);
        }
    }

    fn repair_next(&mut self, range: Range) -> bool {
        let Some(slot) = self.resync.take() else { return false };
        let (id, since) = (self.requests.next_id(), self.now);
        let Some(run) = &mut self.verify.run else { return false };
        run.to_repair.pop_front();
        run.repairing.insert(id, Repair { slot, range, since });
        let io = self.start_io(Io::VerifyRead { id });
        self.out.push(Action::ReadDisk { io, slot, range });
        true
    }

    pub(super) fn verify_read_done(&mut self, id: u64, ok: bool) {
        if let Some(slot) = self.verify.lent.remove(&id) {
            self.resync.give(slot);
            return;
        }
        let Some(link) = self.link.mirror() else { return };
        let Some(repair) = self.verify.run.as_ref().and_then(|run| run.repairing.get(&id)) else { return };
        let (slot, range) = (repair.slot, repair.range);
        if ok {
            self.counters.sent_bytes += u64::from(range.len);
            self.send_data(link, Message::Write { id, range }, Some(slot));
        }
    }

    /// The peer's disk has a repaired run.
    pub(super) fn verify_written(&mut self, id: u64) {
        let Some(run) = &mut self.verify.run else { return };
        let Some(repair) = run.repairing.remove(&id) else { return };
        if !run.grows {
            self.flusher.unstable_on_peer(repair.range);
            self.verify.repaired += u64::from(repair.range.len) / BLOCK;
        }
        self.resync.give(repair.slot);
    }

    fn finish_verify(&mut self) {
        let grows = self.verify.run.take().is_some_and(|run| run.grows);
        self.verify.ended = self.now;
        if grows {
            match self.verify.interrupted.clone() {
                None => self.growth_compared(),
                Some(why) => self.drop_growth(&why),
            }
            return;
        }
        let Verify { compared, differing, repaired, .. } = self.verify;
        let kib = |blocks: u64| blocks * BLOCK / 1024;
        let text = format!("verify ended: {} MiB compared", kib(compared) / 1024);
        if differing > 0 {
            self.call_handler(Handler::OutOfSync);
        }
        match (differing, repaired) {
            (0, _) => self.log(LogLevel::Info, format!("{text}, both disks are the same")),
            (_, 0) => self.log(LogLevel::Error, format!("{text}, {} KiB differ", kib(differing))),
            _ => {
                let text = format!("{text}, {} KiB differed, {} KiB repaired", kib(differing), kib(repaired));
                self.log(LogLevel::Warn, text);
            }
        }
    }

    /// The peer asks for its part of a comparison.
    pub(super) fn verify_asked(&mut self, link: LinkId, id: u64, range: Range) {
        let replication = self.link.joined().map(|s| s.replication);
        let answers =
            matches!(replication, Some(ReplicationState::Established | ReplicationState::SyncTarget));
        if !answers || range.end() > self.layout.data_bytes {
            self.unexpected(&format!("VerifyAsk of {} bytes at {}", range.len, range.offset));
        } else if self.role == RoleState::Secondary {
            if replication == Some(ReplicationState::SyncTarget) {
                self.resync_compares(range);
            }
            let io = self.start_io(Io::PeerDigest { link, id });
            self.out.push(Action::DigestDisk { io, range });
        } else {
            self.confirm(link, Message::VerifyReply { id, digests: Vec::new() });
        }
    }

    fn verify_percent(&self) -> f64 {
        let Verify { total, compared, .. } = self.verify;
        if total == 0 { 100.0 } else { 100.0 * blocks_to_mib(compared) / blocks_to_mib(total) }
    }

    /// Of the running verify, or of the last one.
    pub(super) fn verify_status(&self) -> Option<VerifyStatus> {
        let verify = &self.verify;
        if verify.total == 0 {
            return None;
        }
        let kib = |blocks: u64| blocks * BLOCK / 1024;
        let until = if verify.is_running() { self.now } else { verify.ended };
        Some(VerifyStatus {
            running: verify.is_running(),
            interrupted: verify.interrupted.clone(),
            done: self.verify_percent(),
            total_kib: kib(verify.total),
            elapsed_ms: until - verify.started,
            differing_kib: kib(verify.differing),
            repaired_kib: kib(verify.repaired),
            places: verify.places.iter().map(|p| (p.offset / 1024, u64::from(p.len) / 1024)).collect(),
        })
    }
}

/// Runs of blocks, from block `first` on, that differ. A missing digest differs from any.
pub(super) fn runs(first: u64, here: &[u128], there: &[u128]) -> Vec<Range> {
    let mut runs: Vec<Range> = Vec::new();
    for (block, at) in (first..).zip(0..here.len().max(there.len())) {
        if here.get(at) == there.get(at) {
            continue;
        }
        let offset = block * BLOCK;
        match runs.last_mut().filter(|run| run.end() == offset) {
            Some(run) => run.len += u32::try_from(BLOCK).unwrap_or_default(),
            None => runs.push(Range { offset, len: u32::try_from(BLOCK).unwrap_or_default() }),
        }
    }
    runs
}
