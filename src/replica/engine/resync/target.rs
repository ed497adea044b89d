//! The side that receives: what it tells, when its disk is marked, when it is UpToDate again.

use super::super::store::Job;
use super::super::{Engine, Then, disk_state};
use crate::bitmap::Bitmap;
use crate::event::{BLOCK, LogLevel, Range};
use crate::generation::Generations;
use crate::handler::Handler;
use crate::message::{BITMAP_WORDS, Message};
use crate::meta::UndoMark;
use crate::state::{DiskState, ReplicationState};

impl Engine {
    pub(in super::super) fn become_target(&mut self, agreed: u64) {
        self.replicate(ReplicationState::WFBitMapT);
        self.store.push(Job::new(Then::Nothing).superblock(move |s| s.agreed_bytes = agreed));
        let Some(link) = self.link.joined().map(|s| s.id) else { return };
        let step = u64::try_from(BITMAP_WORDS).unwrap_or(1);
        let mut first_word = 0;
        while let Some((block, _)) = self.bitmap.next_run(first_word * 64, 1) {
            first_word = block / 64;
            let end = (first_word + step).min(self.bitmap.words());
            let words = (first_word..end).map(|w| self.bitmap.word(w)).collect();
            self.send(link, Message::Bitmap { first_word, words });
            first_word = end;
        }
        self.send(link, Message::BitmapEnd);
    }

    /// The source has said how many blocks will come.
    pub(in super::super) fn resync_awaits(&mut self, blocks: u64) {
        self.resync.awaited = blocks;
        self.resync.compared = Bitmap::new(self.layout.data_bytes / BLOCK);
    }

    pub(in super::super) fn resync_awaited(&self) -> u64 {
        self.resync.awaited
    }

    pub(in super::super) fn mark_target(&mut self, base: u64, undo: Option<UndoMark>) {
        self.store.push(Job::new(Then::TargetReady).superblock(move |s| {
            s.undo = undo;
            s.consistent = false;
            s.was_up_to_date = false;
            let old = std::mem::replace(&mut s.generations.current, base);
            let bitmap = std::mem::take(&mut s.generations.bitmap);
            s.generations.remember(bitmap);
            s.generations.remember(old);
        }));
    }

    pub(in super::super) fn target_ready(&mut self) {
        // The disk is marked whether or not the link has survived.
        self.log(LogLevel::Info, format!("disk:{} -> Inconsistent: resync target", self.disk));
        self.disk = DiskState::Inconsistent;
        self.seen_generation = None;
        if self.superblock.undo.is_none() {
            self.drop_undo();
        }
        if self.replication() != ReplicationState::WFBitMapT {
            return;
        }
        self.replicate(ReplicationState::SyncTarget);
        self.begin_progress(self.resync.awaited);
        let Some(link) = self.link.joined().map(|s| s.id) else { return };
        self.send(link, Message::SyncReady);
        self.announce();
    }

    /// The source compares these blocks: those that are the same are never sent.
    pub(in super::super) fn resync_compares(&mut self, range: Range) {
        let (first, end) = Self::blocks(range);
        self.resync.awaited = self.resync.awaited.saturating_sub(end - first);
        self.resync.compared.set(first, end);
    }

    /// The source has sent these blocks, in any order.
    pub(in super::super) fn resync_received(&mut self, range: Range) {
        let (first, end) = Self::blocks(range);
        if !self.resync.compared.contains(first) {
            self.resync.awaited = self.resync.awaited.saturating_sub(end - first);
        }
    }

    pub(super) fn sync_finishes(&mut self, source: Generations) {
        self.bitmap.clear_all();
        self.store.push(Job::new(Then::TargetCommitted).bitmap().superblock(move |s| {
            s.generations.adopt(&source);
            s.undo = None;
            s.consistent = true;
            s.outdated = false;
            s.was_up_to_date = true;
            s.crashed_primary = false;
        }));
    }

    pub(in super::super) fn target_committed(&mut self) {
        self.drop_undo();
        self.end_resync();
        if self.replication() != ReplicationState::SyncTarget {
            self.disk = disk_state(&self.superblock);
            return;
        }
        if let Some(session) = self.link.session_mut() {
            session.mirrors = true;
        }
        self.end_lone_period();
        self.replicate(ReplicationState::Established);
        self.become_up_to_date();
        let Some(link) = self.link.joined().map(|s| s.id) else { return };
        self.send(link, Message::SyncCommitted);
        self.announce();
        self.call_handler(Handler::AfterResyncTarget);
    }
}
