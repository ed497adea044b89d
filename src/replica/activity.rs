//! The activity log: which 4 MiB extents may have writes that are not yet durable on both disks.
//!
//! An extent is in the log, durably, before the first write to it is started ("hot"), and leaves it only
//! after both disks were flushed with no write to it in flight, and after its bitmap page is durable ("cold").
//! So after a crash of the Primary the differences lie within the hot extents and the bitmap.
//!
//! On disk a transaction is the whole set of hot extents, written in turn to one of two regions. The newest
//! region with a valid checksum counts. If the newest was torn, the one before counts: it lacks only extents
//! whose first write had not been started.

use std::collections::{BTreeMap, BTreeSet};

use crate::bitmap::Bitmap;
use crate::event::{BLOCK, Range};

/// Bytes covered by one extent.
pub const EXTENT_BYTES: u64 = 4 << 20;
/// Regions on disk, written in turn.
pub const REGIONS: u64 = 2;
/// Bytes of one region.
pub const REGION_BYTES: u64 = 32 << 10;
/// Most extents that fit into a region behind its header.
pub const MAX_EXTENTS: u32 = 8000;

const MAGIC: [u8; 8] = *b"futagoal";
const HEADER: usize = 24;

/// One durable state of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Counts the transactions.
    pub sequence: u64,
    /// The hot extents.
    pub extents: Vec<u32>,
}

impl Transaction {
    /// `magic[8] sequence u64 count u32 crc32c u32 extents[count] u32`, padded to 4 KiB; the checksum covers
    /// sequence, count and extents.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(HEADER + self.extents.len() * 4);
        body.extend_from_slice(&self.sequence.to_le_bytes());
        body.extend_from_slice(&u32::try_from(self.extents.len()).unwrap_or(u32::MAX).to_le_bytes());
        let list: Vec<u8> = self.extents.iter().flat_map(|e| e.to_le_bytes()).collect();
        let crc = crc32c::crc32c_append(crc32c::crc32c(&body), &list);
        let mut out = MAGIC.to_vec();
        out.extend(body);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend(list);
        let block = usize::try_from(BLOCK).unwrap_or(usize::MAX);
        out.resize(out.len().next_multiple_of(block), 0);
        out
    }

    /// Adds the blocks of all hot extents to a bitmap: after a crash they may differ.
    pub fn mark(&self, bitmap: &mut Bitmap) {
        for extent in &self.extents {
            let first = u64::from(*extent) * (EXTENT_BYTES / BLOCK);
            bitmap.set(first, first + EXTENT_BYTES / BLOCK);
        }
    }

    /// Reads a region; `None` when it holds no whole transaction.
    #[must_use]
    pub fn decode(region: &[u8]) -> Option<Self> {
        let (magic, rest) = region.split_first_chunk::<8>()?;
        let (head, rest) = rest.split_first_chunk::<12>()?;
        let (crc, rest) = rest.split_first_chunk::<4>()?;
        let (sequence, count) = head.split_first_chunk::<8>()?;
        let count = usize::try_from(u32::from_le_bytes(count.try_into().ok()?)).ok()?;
        let list = rest.get(..count.checked_mul(4)?)?;
        let sum = crc32c::crc32c_append(crc32c::crc32c(head), list);
        if *magic != MAGIC || sum.to_le_bytes() != *crc {
            return None;
        }
        let extents =
            list.chunks_exact(4).filter_map(|c| c.try_into().ok().map(u32::from_le_bytes)).collect();
        Some(Self { sequence: u64::from_le_bytes(*sequence), extents })
    }
}

/// The extents that a range touches.
pub fn extents(range: Range) -> impl Iterator<Item = u32> {
    let first = range.offset / EXTENT_BYTES;
    let end = range.end().div_ceil(EXTENT_BYTES);
    (first..end).map(|e| u32::try_from(e).unwrap_or(u32::MAX))
}

#[derive(Clone, Copy, Debug, Default)]
struct Hot {
    writes: u32,
    last_use: u64,
}

/// The log in memory.
#[derive(Debug)]
pub struct ActivityLog {
    capacity: usize,
    sequence: u64,
    clock: u64,
    hot: BTreeMap<u32, Hot>,
    wanted: BTreeSet<u32>,
    leaving: BTreeSet<u32>,
    committing: bool,
}

/// What must happen before wanted extents become hot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is wanted, or a step is under way, or every extent is in use: wait.
    Idle,
    /// Make this transaction durable, then call [`ActivityLog::committed`].
    Commit(Transaction),
    /// The log is full: flush both disks and store the bitmap, then call [`ActivityLog::evicted`].
    Evict,
}

impl ActivityLog {
    /// An empty log of `capacity` extents that continues the sequence found on disk.
    #[must_use]
    pub fn new(capacity: u32, sequence: u64) -> Self {
        Self {
            capacity: usize::try_from(capacity.clamp(2, MAX_EXTENTS)).unwrap_or(2),
            sequence,
            clock: 0,
            hot: BTreeMap::new(),
            wanted: BTreeSet::new(),
            leaving: BTreeSet::new(),
            committing: false,
        }
    }

    /// Goes on with what an earlier process has found or made hot.
    pub fn resume(&mut self, stored: &Transaction) {
        self.hot = stored.extents.iter().map(|extent| (*extent, Hot::default())).collect();
    }

    /// Takes a reference on every extent of `range` if all are hot; otherwise asks for them and returns false.
    pub fn begin(&mut self, range: Range) -> bool {
        let cold: Vec<u32> =
            extents(range).filter(|e| !self.hot.contains_key(e) || self.leaving.contains(e)).collect();
        if !cold.is_empty() {
            self.wanted.extend(cold);
            return false;
        }
        self.clock += 1;
        for extent in extents(range) {
            if let Some(hot) = self.hot.get_mut(&extent) {
                hot.writes += 1;
                hot.last_use = self.clock;
            }
        }
        true
    }

    /// Gives the references of [`Self::begin`] back.
    pub fn end(&mut self, range: Range) {
        for extent in extents(range) {
            if let Some(hot) = self.hot.get_mut(&extent) {
                hot.writes = hot.writes.saturating_sub(1);
            }
        }
    }

    /// What to do next; called after every change.
    pub fn step(&mut self) -> Step {
        if self.committing || !self.leaving.is_empty() || self.wanted.is_empty() {
            return Step::Idle;
        }
        let room = self.capacity.saturating_sub(self.hot.len());
        if room < self.wanted.len() && !self.choose_leaving() {
            // Every extent is in use; admit what fits and let the rest wait.
            let surplus: Vec<u32> = self.wanted.iter().copied().skip(room).collect();
            surplus.iter().for_each(|e| {
                self.wanted.remove(e);
            });
            if self.wanted.is_empty() {
                return Step::Idle;
            }
        }
        if self.leaving.is_empty() { self.commit() } else { Step::Evict }
    }

    /// Picks the least recently used extents without writes: an eighth of the log, so that the flush that
    /// eviction costs is shared by many.
    fn choose_leaving(&mut self) -> bool {
        let mut idle: Vec<(u64, u32)> =
            self.hot.iter().filter(|(_, h)| h.writes == 0).map(|(e, h)| (h.last_use, *e)).collect();
        idle.sort_unstable();
        let count = self.wanted.len().max(self.capacity / 8).max(1);
        self.leaving = idle.into_iter().take(count).map(|(_, e)| e).collect();
        !self.leaving.is_empty()
    }

    /// Both disks are flushed and the bitmap is stored: the leaving extents may go.
    pub fn evicted(&mut self) -> Step {
        for extent in std::mem::take(&mut self.leaving) {
            self.hot.remove(&extent);
        }
        let room = self.capacity.saturating_sub(self.hot.len());
        let surplus: Vec<u32> = self.wanted.iter().copied().skip(room).collect();
        surplus.iter().for_each(|e| {
            self.wanted.remove(e);
        });
        self.commit()
    }

    fn commit(&mut self) -> Step {
        self.committing = true;
        self.sequence += 1;
        let extents = self.hot.keys().chain(&self.wanted).copied().collect::<BTreeSet<_>>();
        Step::Commit(Transaction { sequence: self.sequence, extents: extents.into_iter().collect() })
    }

    /// The transaction `stored` is durable: its extents are hot.
    pub fn committed(&mut self, stored: &Transaction) {
        if stored.sequence != self.sequence {
            // The log was emptied meanwhile.
            return;
        }
        self.committing = false;
        self.clock += 1;
        for extent in &stored.extents {
            self.wanted.remove(extent);
            // As if just used: the write that waits for it, and for another one, must find it still hot.
            self.hot.entry(*extent).or_insert(Hot { writes: 0, last_use: self.clock });
        }
    }

    /// Empties the log, when nothing is in flight and both disks are flushed: the transaction to store.
    pub fn reset(&mut self) -> Transaction {
        self.hot.clear();
        self.wanted.clear();
        self.leaving.clear();
        self.committing = false;
        self.sequence += 1;
        Transaction { sequence: self.sequence, extents: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(extent: u64) -> Range {
        Range { offset: extent * EXTENT_BYTES, len: 4096 }
    }

    #[test]
    fn a_write_waits_until_its_extent_is_durable() {
        let mut log = ActivityLog::new(4, 7);
        assert!(!log.begin(at(3)));
        let Step::Commit(stored) = log.step() else { panic!("no transaction") };
        assert_eq!(stored, Transaction { sequence: 8, extents: vec![3] });
        assert!(!log.begin(at(3)), "not hot before it is durable");
        log.committed(&stored);
        assert!(log.begin(at(3)));
    }

    #[test]
    fn an_extent_in_use_never_leaves() {
        let mut log = ActivityLog::new(2, 0);
        for extent in [0, 1] {
            assert!(!log.begin(at(extent)));
            let Step::Commit(stored) = log.step() else { panic!("no transaction") };
            log.committed(&stored);
            assert!(log.begin(at(extent)));
        }
        assert!(!log.begin(at(2)));
        assert_eq!(log.step(), Step::Idle, "both extents have writes in flight");
        log.end(at(0));
        assert!(!log.begin(at(2)));
        assert_eq!(log.step(), Step::Evict);
        assert!(!log.begin(at(0)), "a leaving extent takes no new writes");
        let Step::Commit(stored) = log.evicted() else { panic!("no transaction") };
        assert!(stored.extents.contains(&1) && !stored.extents.is_empty());
    }

    #[test]
    fn a_write_across_two_extents_is_not_kept_waiting_for_ever() {
        let mut log = ActivityLog::new(2, 0);
        for extent in [0, 1] {
            assert!(!log.begin(at(extent)));
            let Step::Commit(stored) = log.step() else { panic!("no transaction") };
            log.committed(&stored);
            assert!(log.begin(at(extent)));
        }
        let across = Range { offset: 3 * EXTENT_BYTES - 4096, len: 8192 };
        log.end(at(0));
        let mut begun = false;
        for round in 0..10 {
            begun = log.begin(across);
            if begun {
                break;
            }
            let stored = match log.step() {
                Step::Idle => continue,
                Step::Commit(stored) => stored,
                Step::Evict => {
                    let Step::Commit(stored) = log.evicted() else { panic!("no transaction") };
                    stored
                }
            };
            log.committed(&stored);
            if round == 0 {
                log.end(at(1));
            }
        }
        assert!(begun);
    }

    #[test]
    fn a_torn_region_is_not_believed() {
        let stored = Transaction { sequence: 9, extents: vec![1, 2, 3] };
        let mut bytes = stored.encode();
        assert_eq!(Transaction::decode(&bytes), Some(stored));
        for at in 0..HEADER + 12 {
            bytes[at] ^= 1;
            assert_eq!(Transaction::decode(&bytes), None, "byte {at}");
            bytes[at] ^= 1;
        }
    }
}
