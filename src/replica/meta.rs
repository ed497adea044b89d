//! On-disk metadata: where it lies, how it is encoded, and how it is read back after a crash.
//!
//! Internal metadata sits at the end of the backing device, so that the data area begins at byte 0:
//!
//! ```text
//! 0                    data area, a multiple of 4 KiB
//! data_bytes           bitmap: one bit per 4 KiB block, little-endian words, padded to 4 KiB
//! …                    activity log: two regions of 32 KiB, written in turn (see `activity`)
//! end - 8 KiB          superblock, slot 0
//! end - 4 KiB          superblock, slot 1
//! ```
//! Both slot pairs are written alternately and carry a sequence number and a CRC32C: whatever byte a power
//! cut stops at, the other one is whole, and the newest whole one counts. A bitmap page torn by a power cut
//! mixes old and new sectors. That is safe: bits are only cleared after both disks are flushed, and bits
//! newly set are covered by the activity log until their page is durable.

mod superblock;

pub use superblock::{Superblock, UndoMark};

use crate::activity;
use crate::bitmap::{BLOCKS_PER_PAGE, Bitmap};
use crate::event::BLOCK;
use crate::undo;

/// First eight bytes of a superblock.
pub const MAGIC: [u8; 8] = *b"futagomd";
/// Format that this program writes. 1: first. 2: undo log of a resync, time of the parting; zero in 1.
pub const VERSION: u32 = 2;
/// Bytes of one superblock slot.
pub const SUPER_BYTES: usize = 4096;
/// Smallest backing device, in bytes: room for metadata and something to protect.
pub const MIN_DEVICE_BYTES: u64 = 1 << 20;

const SUPER_SLOTS: u64 = 2;
const CRC_AT: usize = SUPER_BYTES - 4;

/// Where things lie on a backing device of a given size. Offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Usable bytes, from offset 0.
    pub data_bytes: u64,
    /// First byte of the bitmap.
    pub bitmap_at: u64,
    /// Bytes of the bitmap, a multiple of 4 KiB.
    pub bitmap_bytes: u64,
    /// First byte of activity-log region 0; region 1 follows.
    pub activity_at: u64,
    /// First byte of superblock slot 0; slot 1 follows.
    pub super_at: u64,
}

/// Why a disk cannot be used as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// Too small.
    #[error("the device has {bytes} bytes, at least {MIN_DEVICE_BYTES} are needed")]
    TooSmall {
        /// Size found.
        bytes: u64,
    },
    /// Nothing of ours at the end of the device.
    #[error("no valid metadata found at the end of the device")]
    Missing,
    /// There is metadata, but both copies are damaged.
    #[error("the metadata is damaged: neither copy of the superblock has a valid checksum")]
    Damaged,
    /// Written by a newer program.
    #[error(
        "the metadata has format version {found}, this program knows up to {VERSION}: use a newer program"
    )]
    Newer {
        /// Version found.
        found: u32,
    },
    /// The superblock describes another device.
    #[error("the metadata was made for {recorded} usable bytes, the device has {actual}: was it resized?")]
    Resized {
        /// In the superblock.
        recorded: u64,
        /// Computed from the device.
        actual: u64,
    },
    /// The shell handed over too few bytes.
    #[error("the metadata area was read incompletely")]
    Incomplete,
}

impl Layout {
    /// The layout for a backing device of `bytes`.
    pub fn for_device(bytes: u64) -> Result<Self, MetaError> {
        if bytes < MIN_DEVICE_BYTES {
            return Err(MetaError::TooSmall { bytes });
        }
        let blocks = bytes / BLOCK;
        let fixed = SUPER_SLOTS + activity::REGIONS * activity::REGION_BYTES / BLOCK;
        let rest = blocks - fixed;
        let bitmap_pages = rest.div_ceil(BLOCKS_PER_PAGE + 1);
        let data_bytes = (rest - bitmap_pages) * BLOCK;
        let activity_at = data_bytes + bitmap_pages * BLOCK;
        Ok(Self {
            data_bytes,
            bitmap_at: data_bytes,
            bitmap_bytes: bitmap_pages * BLOCK,
            activity_at,
            super_at: activity_at + activity::REGIONS * activity::REGION_BYTES,
        })
    }

    /// All metadata: first byte and length. The shell reads this to attach.
    #[must_use]
    pub fn metadata(&self) -> (u64, u64) {
        let end = self.super_at + SUPER_SLOTS * BLOCK;
        (self.bitmap_at, end - self.bitmap_at)
    }

    /// Offset of the superblock slot for a sequence number.
    #[must_use]
    pub fn super_slot(&self, sequence: u64) -> u64 {
        self.super_at + (sequence % SUPER_SLOTS) * BLOCK
    }

    /// Offset of the activity-log region for a sequence number.
    #[must_use]
    pub fn activity_region(&self, sequence: u64) -> u64 {
        self.activity_at + (sequence % activity::REGIONS) * activity::REGION_BYTES
    }
}

/// Offsets and what is to be written there.
pub type Writes = Vec<(u64, Vec<u8>)>;

/// Everything read back from a disk's metadata area.
#[derive(Clone, Debug)]
pub struct Attached {
    /// Where things lie.
    pub layout: Layout,
    /// The newest valid superblock.
    pub superblock: Superblock,
    /// The bitmap as stored.
    pub bitmap: Bitmap,
    /// The newest valid activity-log transaction.
    pub activity: activity::Transaction,
    /// The undo log that the superblock names, where the shell has found it.
    pub undo: Option<undo::Found>,
}

impl Attached {
    /// Reads the metadata area: `area` holds the bytes of [`Layout::metadata`].
    ///
    /// The disk must have been flushed before they were read. A daemon that was killed may have left a slot in
    /// the disk's volatile cache; were it taken for the newest, the next write would go to the only slot that
    /// is durable, and a power cut could tear both.
    pub fn decode(layout: Layout, area: &[u8]) -> Result<Self, MetaError> {
        let (at, _) = layout.metadata();
        let part = |offset: u64, len: u64| {
            let start = usize::try_from(offset - at).map_err(|_| MetaError::Incomplete)?;
            let len = usize::try_from(len).map_err(|_| MetaError::Incomplete)?;
            area.get(start..start.saturating_add(len)).ok_or(MetaError::Incomplete)
        };
        let slots = [part(layout.super_at, BLOCK)?, part(layout.super_at + BLOCK, BLOCK)?];
        let superblock = newest_superblock(slots)?;
        if superblock.data_bytes != layout.data_bytes {
            let (recorded, actual) = (superblock.data_bytes, layout.data_bytes);
            return Err(MetaError::Resized { recorded, actual });
        }
        let regions = [
            part(layout.activity_region(0), activity::REGION_BYTES)?,
            part(layout.activity_region(1), activity::REGION_BYTES)?,
        ];
        let blocks = layout.data_bytes / BLOCK;
        let bitmap = Bitmap::decode(blocks, part(layout.bitmap_at, layout.bitmap_bytes)?);
        let newest = regions.into_iter().filter_map(activity::Transaction::decode).max_by_key(|t| t.sequence);
        Ok(Self { layout, superblock, bitmap, activity: newest.unwrap_or_default(), undo: None })
    }

    /// All writes that move the metadata to the end of a disk that has grown, each list to be made durable before the
    /// next: what the superblock stands for, the superblock, and the end of the old one, which is in the data area now.
    /// `None` where the new place would touch the old one, and while a resync is interrupted, whose undo log was made
    /// for the old size.
    #[must_use]
    pub fn moved_to(&self, to: &Layout) -> Option<[Writes; 3]> {
        let (at, len) = self.layout.metadata();
        if to.bitmap_at < at + len || self.superblock.undo.is_some() {
            return None;
        }
        let mut content = blank(to);
        let pages = (0..self.layout.bitmap_bytes / BLOCK).map(|page| (page, self.bitmap.page_bytes(page)));
        let marked = pages.filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0));
        content.extend(marked.map(|(page, bytes)| (to.bitmap_at + page * BLOCK, bytes)));
        content.push((to.activity_region(self.activity.sequence), self.activity.encode()));
        let mut superblock = self.superblock.clone();
        superblock.sequence += 1;
        superblock.data_bytes = to.data_bytes;
        let old = vec![0; SUPER_BYTES * usize::try_from(SUPER_SLOTS).unwrap_or_default()];
        let moved = (to.super_slot(superblock.sequence), superblock.encode());
        Some([content, vec![moved], vec![(self.layout.super_at, old)]])
    }
}

/// The newest valid of the two slots; when neither is, the error that says most.
fn newest_superblock(slots: [&[u8]; 2]) -> Result<Superblock, MetaError> {
    let [a, b] = slots.map(Superblock::decode);
    match (a, b) {
        // A newer program has been here: its slot may hold promises that the older slot does not know.
        (Err(newer @ MetaError::Newer { .. }), _) | (_, Err(newer @ MetaError::Newer { .. })) => Err(newer),
        (Ok(a), Ok(b)) => Ok(if a.sequence > b.sequence { a } else { b }),
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
        (Err(MetaError::Missing), Err(other)) | (Err(other), Err(_)) => Err(other),
    }
}

/// All writes that make a device of this layout a new, just created disk, in order.
///
/// The superblock comes last and must be written after the others are durable: an interrupted creation
/// leaves a disk without metadata, never one with an undefined bitmap.
#[must_use]
pub fn creation(layout: &Layout) -> [Writes; 2] {
    let superblock = Superblock::just_created(layout);
    [blank(layout), vec![(layout.super_slot(superblock.sequence), superblock.encode())]]
}

/// Zeros for all of the metadata.
fn blank(layout: &Layout) -> Writes {
    let zero = |offset: u64, len: u64| (offset, vec![0; usize::try_from(len).unwrap_or_default()]);
    let chunk = 1 << 20;
    let (mut at, len) = layout.metadata();
    let end = at + len;
    let mut blank = Vec::new();
    while at < end {
        let len = chunk.min(end - at);
        blank.push(zero(at, len));
        at += len;
    }
    blank
}

#[cfg(test)]
mod tests;
