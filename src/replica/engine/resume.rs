//! Another process goes on as the Primary that this one was: after a pause (`engine/pause.rs`), when the daemon's
//! program is exchanged, or after this process has ended without a word, while the kernel kept its device.
//!
//! After a pause nothing is on its way. After a sudden end the successor gets every request that was not answered
//! once more, in the order of their arrival. Under a manager, and not alone, whatever the two disks differ in is in one
//! of them, or was confirmed by the peer and not flushed, all of it within the activity log: it is enough to keep the
//! log and to take all of it for unflushed. Otherwise it is marked, as after any crash.
//!
//! A Secondary leaves no device, but one thing that its disk alone does not tell: that it has lost nothing of what it
//! has confirmed. That holds for as long as the machine runs, whatever becomes of the process.

use serde::{Deserialize, Serialize};

use super::role::RoleState;
use super::store::Job;
use super::{Engine, Then};
use crate::activity::{EXTENT_BYTES, Transaction};
use crate::event::Range;
use crate::state::DiskState;

/// What goes on in the other process and is not on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The term under which this node is Primary.
    pub term: Option<u64>,
    /// Writes are answered without the peer.
    pub alone: bool,
    /// Losses of the peer, counted.
    pub loss: u64,
    /// The generation at which it was last in contact and in sync with the peer.
    #[serde(default)]
    pub seen: Option<u64>,
}

impl Engine {
    /// What another process needs to go on as Primary; `None` while none could.
    ///
    /// The shell writes a change down before it performs the actions that came with it, so that a successor never
    /// believes more than this process did.
    #[must_use]
    pub fn resume(&self) -> Option<Resume> {
        let is_sound = self.role == RoleState::Primary
            && self.disk == DiskState::UpToDate
            && !self.undo.is_rolling_back()
            && !self.is_failed();
        let (term, alone, loss) = self.mandate();
        is_sound.then_some(Resume { term, alone, loss, seen: self.seen_generation })
    }

    /// The generation of which this Secondary has all that was answered; `None` when that is not known.
    ///
    /// Like [`Self::resume`] it is written down before anything is done, and is worth nothing after a power loss: the
    /// disk may not have flushed yet.
    #[must_use]
    pub fn contact(&self) -> Option<u64> {
        let current = self.superblock.generations.current;
        let is_sound = self.role == RoleState::Secondary && self.disk == DiskState::UpToDate;
        (is_sound && self.seen_generation == Some(current)).then_some(current)
    }

    /// Goes on as the Secondary that an earlier process was: like one that has outlived its Primary, and durably so,
    /// because storing it flushes the disk.
    pub(super) fn keep_contact(&mut self, contact: Option<u64>) {
        let superblock = &self.superblock;
        if contact == Some(superblock.generations.current) && !superblock.primary && superblock.consistent {
            self.store.push(Job::new(Then::Nothing).superblock(|s| s.survived = true));
        }
    }

    /// Goes on as the Primary that an earlier process was.
    pub(super) fn take_over(&mut self, resume: Resume, activity: &Transaction) {
        self.role = RoleState::Primary;
        self.disk = DiskState::UpToDate;
        self.seen_generation = resume.seen;
        self.take_over_mandate(resume);
        // A flush is not left out for what that process has written.
        self.requests.answered += 1;
        if self.needs_peer() {
            self.activity.resume(activity);
            let extents = activity.extents.iter().map(|extent| self.extent(*extent)).collect::<Vec<_>>();
            extents.into_iter().for_each(|range| self.flusher.unstable_on_peer(range));
        } else {
            self.mark_hot(activity);
            self.store.push(Job::new(Then::Nothing).bitmap());
        }
    }

    /// The part of an extent that lies on the device.
    fn extent(&self, extent: u32) -> Range {
        let offset = u64::from(extent) * EXTENT_BYTES;
        let len = EXTENT_BYTES.min(self.device_bytes().saturating_sub(offset));
        Range { offset, len: u32::try_from(len).unwrap_or_default() }
    }
}
