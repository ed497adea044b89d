//! A target that can go back: the old content of every block that a resync changes is kept, and a rollback brings
//! it back (the log itself: [`crate::undo`]).
//!
//! ```text
//! SyncStart ─► prepare the log ─► superblock: Inconsistent, the log's number, the generations before
//! a block of the peer, its first one since then ─► save the old one, durably ─► write
//! SyncFinish ─► superblock: UpToDate, no log
//! rollback ─► mark every saved block, durably ─► restore ─► flush ─► superblock: what it was, Outdated, no log
//! ```
//! A resync that was interrupted and goes on goes on saving to the same log. From the moment on at which the log
//! is no longer complete, the superblock does not name it: that is durable before the first block that is not saved.
//! A rollback marks what it restores in this node's bitmap, because the source has long forgotten what it has sent.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::link::{PeerWrite, Wire};
use super::request::overlap;
use super::role::RoleState;
use super::script::Gate;
use super::store::Job;
use super::{Engine, Io, Then};
use crate::bitmap::Bitmap;
use crate::control::{Reason, UndoStatus};
use crate::event::{Action, BLOCK, DiskError, LinkId, LogLevel, Range, Token};
use crate::meta::UndoMark;
use crate::state::DiskState;
use crate::undo::{FIRST_RECORD_AT, Found, MAX_RANGES, MAX_RECORD_BYTES, record_bytes};

/// Whether a resync keeps what it writes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UndoPolicy {
    /// No.
    Off,
    /// As long as there is room for it.
    Try,
    /// Always: without room there is no resync.
    Require,
}

/// What a resync was announced with.
#[derive(Debug)]
struct Start {
    link: LinkId,
    base: u64,
    mark: UndoMark,
}

#[derive(Debug)]
struct Log {
    number: u64,
    tail: u64,
    saved: Bitmap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waiting for what is on its way to the disk.
    Draining,
    /// Storing which blocks will differ from the peer's.
    Marking,
    /// Restoring the record at this place.
    Restoring { at: u64 },
    /// Making what was restored durable.
    Flushing,
    /// Storing that the disk is what it was.
    Storing,
}

#[derive(Debug)]
struct Rollback {
    token: Token,
    stage: Stage,
}

/// The undo log of this disk, and what is done with it.
#[derive(Debug, Default)]
pub(super) struct Undo {
    /// What the superblock names, or is about to.
    log: Option<Log>,
    start: Option<Start>,
    /// Writes of the peer that wait until the old content is saved.
    held: VecDeque<PeerWrite>,
    saving: Option<Vec<Range>>,
    /// The log is being given up; the superblock does not say so yet.
    abandoning: bool,
    rollback: Option<Rollback>,
}

impl Undo {
    pub(super) fn new(number: Option<u64>, found: Option<Found>) -> Self {
        let log = number.zip(found).map(|(number, Found { tail, saved })| Log { number, tail, saved });
        Self { log, ..Self::default() }
    }

    pub(super) fn is_rolling_back(&self) -> bool {
        self.rollback.is_some()
    }
}

impl Log {
    /// The parts of a range that are not saved.
    fn unsaved(&self, range: Range) -> Vec<Range> {
        let (first, end) = Engine::blocks(range);
        let mut parts: Vec<Range> = Vec::new();
        for block in (first..end).filter(|block| !self.saved.contains(*block)) {
            let offset = block * BLOCK;
            let len = u32::try_from(BLOCK).unwrap_or_default();
            match parts.last_mut().filter(|part| part.end() == offset) {
                Some(part) => part.len += len,
                None => parts.push(Range { offset, len }),
            }
        }
        parts
    }
}

impl Engine {
    // ---- the beginning of a resync ----

    /// The source is ready.
    pub(super) fn sync_starts(&mut self, base: u64, blocks: u64, as_of: u64) {
        self.resync_awaits(blocks);
        if !self.waits_at(Gate::Target { base, blocks, as_of }) {
            self.sync_begins(base, blocks, as_of);
        }
    }

    /// Sees to the undo log, then marks this disk.
    pub(super) fn sync_begins(&mut self, base: u64, blocks: u64, as_of: u64) {
        if self.superblock.undo.is_some() {
            return self.sync_goes_on(base);
        }
        // What is a mix already is not worth to be kept.
        if self.disk <= DiskState::Inconsistent || self.settings.undo == UndoPolicy::Off {
            return self.mark_target(base, None);
        }
        let Some(link) = self.link.joined().map(|s| s.id) else { return };
        let generations = self.superblock.generations.clone();
        let mark = UndoMark { log: self.rng.generation(), generations, as_of };
        let log = mark.log;
        self.undo.start = Some(Start { link, base, mark });
        let io = self.start_io(Io::PrepareUndo);
        let all = self.settings.undo == UndoPolicy::Require;
        self.out.push(Action::PrepareUndo { io, log, bytes: blocks * BLOCK, all });
    }

    fn sync_goes_on(&mut self, base: u64) {
        let mark = self.superblock.undo.clone();
        if self.undo.log.is_some() {
            return self.mark_target(base, mark);
        }
        if self.settings.undo == UndoPolicy::Require {
            let text = "the undo log of the interrupted resync is not there: put it back and restart the daemon, or go on without it: `undo-log yes`, then `down` and `up`";
            return self.stand_alone(text.to_owned());
        }
        self.log(LogLevel::Warn, self.without_undo("the undo log of the interrupted resync is not there"));
        self.mark_target(base, None);
    }

    fn without_undo(&self, why: &str) -> String {
        format!(
            "the resync goes on without an undo log: {why}. If {} is lost before its end, this disk holds no usable data",
            self.settings.peer
        )
    }

    pub(super) fn undo_prepared(&mut self, result: Result<(), DiskError>) {
        let Some(Start { link, base, mark }) = self.undo.start.take() else { return };
        let stands = self.link.joined().is_some_and(|s| s.id == link);
        if !stands {
            self.out.push(Action::DropUndo);
            return;
        }
        match result {
            Ok(()) => {
                let mib = self.resync_awaited() * BLOCK / (1 << 20);
                self.log(
                    LogLevel::Info,
                    format!("undo log begun: the resync will write over {mib} MiB at most"),
                );
                let saved = Bitmap::new(self.layout.data_bytes / BLOCK);
                self.undo.log = Some(Log { number: mark.log, tail: FIRST_RECORD_AT, saved });
                self.mark_target(base, Some(mark));
            }
            Err(error) if self.settings.undo == UndoPolicy::Require => {
                self.stand_alone(format!("no resync without an undo log (`undo-log required`): {error}"));
            }
            Err(error) => {
                self.log(LogLevel::Warn, self.without_undo(&error.to_string()));
                self.mark_target(base, None);
            }
        }
    }

    /// The superblock no longer names a log, or never did: its room is free.
    pub(super) fn drop_undo(&mut self) {
        self.undo.log = None;
        self.out.push(Action::DropUndo);
    }

    // ---- writes of the peer ----

    /// Takes a write of the peer, unless it may go to the disk at once.
    pub(super) fn hold_for_undo(&mut self, write: PeerWrite) -> bool {
        let range = write.range;
        let unsaved = self.undo.log.as_ref().is_some_and(|log| !log.unsaved(range).is_empty());
        let held = self.undo.held.iter().any(|h| overlap(h.range, range));
        let must_wait = self.undo.abandoning || unsaved || held;
        if must_wait {
            self.undo.held.push_back(write);
        }
        must_wait
    }

    /// Lets what need not wait go to the disk, and saves what the next ones will change.
    pub(super) fn advance_undo(&mut self) -> bool {
        if self.is_failed() || self.undo.abandoning || self.undo.saving.is_some() {
            return false;
        }
        let released = self.release_held();
        self.save_next() || released || self.advance_rollback()
    }

    fn release_held(&mut self) -> bool {
        let before = self.undo.held.len();
        for write in std::mem::take(&mut self.undo.held) {
            let unsaved = self.undo.log.as_ref().is_some_and(|log| !log.unsaved(write.range).is_empty());
            if unsaved || self.undo.held.iter().any(|h| overlap(h.range, write.range)) {
                self.undo.held.push_back(write);
            } else {
                self.start_peer_write(write);
            }
        }
        self.undo.held.len() < before
    }

    fn save_next(&mut self) -> bool {
        let Some(log) = &self.undo.log else { return false };
        let mut ranges: Vec<Range> = Vec::new();
        let mut bytes = 0;
        for write in &self.undo.held {
            let parts = log.unsaved(write.range);
            bytes += parts.iter().map(|part| u64::from(part.len)).sum::<u64>();
            if bytes > MAX_RECORD_BYTES || ranges.len() + parts.len() > MAX_RANGES {
                break;
            }
            // Writes of the same blocks follow each other: the first one saves what was there.
            if !ranges.iter().any(|range| overlap(*range, write.range)) {
                ranges.extend(parts);
            }
        }
        if ranges.is_empty() {
            return false;
        }
        let (log, at) = (log.number, log.tail);
        self.undo.saving = Some(ranges.clone());
        let io = self.start_io(Io::SaveUndo);
        self.out.push(Action::SaveUndo { io, log, at, ranges });
        true
    }

    pub(super) fn undo_saved(&mut self, result: Result<(), DiskError>) {
        let Some(ranges) = self.undo.saving.take() else { return };
        let Some(log) = &mut self.undo.log else { return };
        match result {
            Ok(()) => {
                log.tail += record_bytes(&ranges);
                for range in ranges {
                    let (first, end) = Self::blocks(range);
                    log.saved.set(first, end);
                }
            }
            // What it was saved for is not written any more: the log lacks nothing.
            Err(_) if self.undo.held.is_empty() => {}
            Err(error) if self.settings.undo == UndoPolicy::Require => {
                let text = format!(
                    "the resync is stopped, because the undo log cannot hold more: {error}. Make room and `connect`, or `rollback`"
                );
                self.log(LogLevel::Error, text.clone());
                self.stand_alone(text);
            }
            Err(error) => self.abandon_undo(&error.to_string()),
        }
    }

    /// Goes on without; the superblock says so before the first block that is not saved.
    fn abandon_undo(&mut self, why: &str) {
        self.log(LogLevel::Warn, self.without_undo(why));
        self.undo.abandoning = true;
        self.store.push(Job::new(Then::UndoAbandoned).superblock(|s| s.undo = None));
    }

    pub(super) fn undo_abandoned(&mut self) {
        self.undo.abandoning = false;
        self.drop_undo();
    }

    /// What waits was not confirmed: it is given back.
    pub(super) fn undo_loses_peer(&mut self) {
        for held in std::mem::take(&mut self.undo.held) {
            self.release(Some(held.slot));
        }
    }

    // ---- rollback ----

    pub(super) fn rollback(&mut self, token: Token) {
        if let Err((reason, text)) = self.may_roll_back() {
            return self.refuse_command(token, reason, &text);
        }
        let text = "rolling back to what this disk was before the resync".to_owned();
        self.log(LogLevel::Warn, text.clone());
        self.stand_alone(text);
        self.undo.rollback = Some(Rollback { token, stage: Stage::Draining });
    }

    fn may_roll_back(&self) -> Result<(), (Reason, String)> {
        let peer = &self.settings.peer;
        if self.role != RoleState::Secondary {
            return Err((Reason::InUse, "this node is Primary: run `secondary` first".to_owned()));
        }
        if self.undo.is_rolling_back() {
            return Err((Reason::InTransition, "a rollback is under way already".to_owned()));
        }
        if self.superblock.undo.is_none() || self.undo.log.is_none() || self.undo.abandoning {
            return Err((Reason::NoUndo, self.why_nothing_to_roll_back()));
        }
        if self.link.joined().is_some() || self.link.is_joining() {
            let text =
                format!("{peer} is connected, the resync goes on: wait for its end, or `disconnect` first");
            return Err((Reason::InTransition, text));
        }
        Ok(())
    }

    fn why_nothing_to_roll_back(&self) -> String {
        match &self.superblock.undo {
            Some(_) => "the undo log of the interrupted resync is not there, or cannot be read: the daemon's log says why".to_owned(),
            None if self.disk == DiskState::Inconsistent => {
                "this disk was of no use before the resync, or the resync has run without an undo log".to_owned()
            }
            None => format!("this disk is {}: no resync of it was interrupted", self.disk),
        }
    }

    fn advance_rollback(&mut self) -> bool {
        let Some(Rollback { stage: Stage::Draining, .. }) = self.undo.rollback else { return false };
        if self.has_peer_io() || !self.store.is_idle() {
            return false;
        }
        let Some(log) = &self.undo.log else { return false };
        self.bitmap.add_all(&log.saved);
        self.enter_stage(Stage::Marking);
        self.store.push(Job::new(Then::RollbackMarked).bitmap());
        true
    }

    fn enter_stage(&mut self, stage: Stage) {
        if let Some(rollback) = &mut self.undo.rollback {
            rollback.stage = stage;
        }
    }

    pub(super) fn rollback_marked(&mut self) {
        self.restore_record(FIRST_RECORD_AT);
    }

    fn restore_record(&mut self, at: u64) {
        let Some(log) = self.undo.log.as_ref().filter(|_| self.undo.rollback.is_some()) else { return };
        let (number, tail) = (log.number, log.tail);
        if at < tail {
            self.enter_stage(Stage::Restoring { at });
            let io = self.start_io(Io::RestoreUndo);
            self.out.push(Action::RestoreUndo { io, log: number, at });
        } else {
            self.enter_stage(Stage::Flushing);
            let io = self.start_io(Io::RollbackFlush);
            self.out.push(Action::FlushDisk { io });
        }
    }

    pub(super) fn record_restored(&mut self, result: Result<u64, DiskError>) {
        match result {
            Ok(next) => self.restore_record(next),
            Err(error) => {
                let text = format!(
                    "{error}. The disk stays Inconsistent; {} can still resync it",
                    self.settings.peer
                );
                self.end_rollback(Reason::DiskFailed, &text);
            }
        }
    }

    pub(super) fn rollback_flushed(&mut self) {
        if self.undo.rollback.is_none() {
            return;
        }
        self.enter_stage(Stage::Storing);
        self.store.push(Job::new(Then::RolledBack).superblock(|s| {
            let Some(mark) = s.undo.take() else { return };
            s.generations = mark.generations;
            s.consistent = true;
            // The source had more.
            s.outdated = true;
        }));
    }

    pub(super) fn rolled_back(&mut self) {
        self.log(LogLevel::Warn, format!("disk:{} -> Outdated: rolled back to before the resync", self.disk));
        self.disk = super::disk_state(&self.superblock);
        self.drop_undo();
        if let Wire::StandAlone = self.link.wire {
            let text = format!("rolled back; `connect` begins the resync from {} anew", self.settings.peer);
            self.link.reason = Some(text);
        }
        if let Some(rollback) = self.undo.rollback.take() {
            self.reply(rollback.token, Ok(()));
        }
    }

    /// The resource goes down: a rollback that is all but over ends first, another one is begun anew later.
    pub(super) fn rollback_goes_down(&mut self) {
        if self.undo.rollback.as_ref().is_some_and(|rollback| rollback.stage != Stage::Storing) {
            self.end_rollback(Reason::Stopping, "the resource is taken down: begin it anew afterwards");
        }
    }

    /// Ends one that cannot go on; it may be begun anew.
    pub(super) fn end_rollback(&mut self, reason: Reason, text: &str) {
        if let Some(rollback) = self.undo.rollback.take() {
            self.refuse_command(rollback.token, reason, text);
        }
    }

    pub(super) fn undo_status(&self) -> Option<UndoStatus> {
        let (mark, log) = (self.superblock.undo.as_ref()?, self.undo.log.as_ref()?);
        let restored = self.undo.rollback.as_ref().map(|rollback| match rollback.stage {
            Stage::Draining | Stage::Marking => 0.0,
            Stage::Restoring { at } => 100.0 * mib(at) / mib(log.tail),
            Stage::Flushing | Stage::Storing => 100.0,
        });
        Some(UndoStatus { saved_kib: log.saved.count() * BLOCK / 1024, as_of: mark.as_of, restored })
    }
}

fn mib(bytes: u64) -> f64 {
    super::resync::blocks_to_mib(bytes / BLOCK)
}
