//! The undo log beside a simulated disk: records are whole or not there, and a rollback must bring back the disk
//! byte for byte.

use std::collections::BTreeMap;

use replica::bitmap::Bitmap;
use replica::event::{BLOCK, Range};
use replica::undo::{FIRST_RECORD_AT, Found, record_bytes};

use crate::disk::{Disk, Version};

struct Kept {
    log: u64,
    ranges: Vec<Range>,
    old: Vec<Version>,
}

/// What is beside one disk.
#[derive(Default)]
pub(crate) struct Store {
    records: BTreeMap<u64, Kept>,
    /// What the disk held when the log was begun.
    image: Vec<Version>,
}

fn blocks(ranges: &[Range]) -> impl Iterator<Item = u64> {
    ranges.iter().flat_map(|range| range.offset / BLOCK..range.end() / BLOCK)
}

fn content(disk: &Disk) -> Vec<Version> {
    (0..disk.layout.data_bytes / BLOCK).map(|block| disk.view(block)).collect()
}

impl Store {
    /// A log is begun. What the disk holds is durable.
    pub(crate) fn prepare(&mut self, disk: &Disk) {
        self.records.clear();
        self.image = content(disk);
    }

    /// What the disk holds now goes into a record.
    pub(crate) fn save(&mut self, disk: &Disk, log: u64, at: u64, ranges: &[Range]) {
        let old = blocks(ranges).map(|block| disk.view(block)).collect();
        self.records.insert(at, Kept { log, ranges: ranges.to_vec(), old });
    }

    /// The blocks of a record with their old content, and the place of the next one.
    pub(crate) fn record(&self, log: u64, at: u64) -> Option<(Vec<(u64, Version)>, u64)> {
        let kept = self.records.get(&at).filter(|kept| kept.log == log)?;
        let content = blocks(&kept.ranges).zip(kept.old.iter().copied()).collect();
        Some((content, at + record_bytes(&kept.ranges)))
    }

    /// What the daemon finds when it starts.
    pub(crate) fn find(&self, disk: &Disk, log: u64) -> Found {
        let (mut tail, mut saved) = (FIRST_RECORD_AT, Bitmap::new(disk.layout.data_bytes / BLOCK));
        while let Some((content, next)) = self.record(log, tail) {
            content.iter().for_each(|(block, _)| saved.set(*block, block + 1));
            tail = next;
        }
        Found { tail, saved }
    }

    pub(crate) fn clear(&mut self) {
        self.records.clear();
    }

    /// The first block that is not what it was when the log was begun.
    pub(crate) fn differs(&self, disk: &Disk) -> Option<String> {
        let now = content(disk);
        let at = self.image.iter().zip(&now).position(|(old, new)| old != new)?;
        Some(format!("block {at} holds {}, before the resync it held {}", now[at], self.image[at]))
    }
}
