//! A disk with a volatile cache: what was written and not flushed may be lost, block by block, and torn,
//! sector by sector, when the power goes.

use std::collections::{BTreeMap, BTreeSet};

use replica::event::BLOCK;
use replica::meta::Layout;

use crate::rng::Rng;

/// Names the content of one data block.
pub(crate) type Version = u64;

const SECTOR: usize = 512;

#[derive(Default)]
struct Cached<T> {
    durable: BTreeMap<u64, T>,
    /// Written since the last flush, newest last, with the time of the disk.
    volatile: BTreeMap<u64, Vec<(u64, T)>>,
}

impl<T: Clone> Cached<T> {
    fn view(&self, block: u64) -> Option<&T> {
        let cached = self.volatile.get(&block).and_then(|v| v.last());
        cached.map(|(_, value)| value).or_else(|| self.durable.get(&block))
    }

    fn write(&mut self, time: u64, block: u64, value: T) {
        self.volatile.entry(block).or_default().push((time, value));
    }

    /// Makes durable what was written until `time`.
    fn flush(&mut self, time: u64) {
        let Self { durable, volatile } = self;
        volatile.retain(|block, values| {
            let covered = values.partition_point(|(at, _)| *at <= time);
            durable.extend(values.drain(..covered).next_back().map(|(_, value)| (*block, value)));
            !values.is_empty()
        });
    }
}

/// Whether it counts as zeroes: what the first disk had when it was new, which no block of the other one ever had.
pub(crate) fn is_zero(version: Version) -> bool {
    let age = u64::MAX - version;
    age < u64::MAX / 4 && age.is_multiple_of(2)
}

/// Data blocks by version, metadata blocks by their bytes.
pub(crate) struct Disk {
    pub(crate) layout: Layout,
    node: u64,
    /// Data blocks that may have changed since [`Self::forget_touched`].
    touched: BTreeSet<u64>,
    data: Cached<Version>,
    meta: Cached<Vec<u8>>,
    /// Counts what was written.
    time: u64,
}

impl Disk {
    pub(crate) fn new(bytes: u64, node: u64) -> Self {
        let layout = Layout::for_device(bytes).unwrap();
        let (data, meta) = (Cached::default(), Cached::default());
        Self { layout, node, touched: BTreeSet::new(), data, meta, time: 0 }
    }

    /// What is in a block; blocks never written hold what the disk had when it was new.
    pub(crate) fn view(&self, block: u64) -> Version {
        self.data.view(block).copied().unwrap_or(self.unwritten(block))
    }

    /// What is in a block whatever happens to the power.
    pub(crate) fn durable(&self, block: u64) -> Version {
        self.data.durable.get(&block).copied().unwrap_or(self.unwritten(block))
    }

    fn unwritten(&self, block: u64) -> Version {
        u64::MAX - block * 2 - self.node
    }

    pub(crate) fn touched(&self) -> impl Iterator<Item = u64> {
        self.touched.iter().copied()
    }

    pub(crate) fn forget_touched(&mut self) {
        self.touched.clear();
    }

    pub(crate) fn write(&mut self, block: u64, version: Version) {
        self.touched.insert(block);
        self.time += 1;
        self.data.write(self.time, block, version);
    }

    /// A block changes by itself, and nobody knows.
    pub(crate) fn rot(&mut self, block: u64) {
        let version = u64::MAX / 2 + block;
        self.data.volatile.remove(&block);
        self.data.durable.insert(block, version);
    }

    /// What a flush that begins now must cover.
    pub(crate) fn time(&self) -> u64 {
        self.time
    }

    pub(crate) fn write_meta(&mut self, offset: u64, bytes: &[u8]) {
        for (block, piece) in (offset / BLOCK..).zip(bytes.chunks(BLOCK as usize)) {
            self.time += 1;
            self.meta.write(self.time, block, piece.to_vec());
        }
    }

    /// The end of a flush that began at `time`.
    pub(crate) fn flush(&mut self, time: u64) {
        self.data.flush(time);
        self.meta.flush(time);
    }

    /// The metadata area as the daemon reads it at start.
    pub(crate) fn metadata(&self) -> Vec<u8> {
        let (at, len) = self.layout.metadata();
        let mut area = vec![0; len as usize];
        for (index, piece) in (at / BLOCK..).zip(area.chunks_mut(BLOCK as usize)) {
            if let Some(bytes) = self.meta.view(index) {
                piece.copy_from_slice(bytes);
            }
        }
        area
    }

    /// Of every block written since the last flush, the disk has some version since then, or the one before.
    pub(crate) fn lose_power(&mut self, rng: &mut Rng) {
        for (block, values) in std::mem::take(&mut self.data.volatile) {
            self.touched.insert(block);
            let kept = rng.below(values.len() as u64 + 1) as usize;
            if kept > 0 {
                self.data.durable.insert(block, values[kept - 1].1);
            }
        }
        for (block, values) in std::mem::take(&mut self.meta.volatile) {
            let mut bytes = self.meta.durable.get(&block).cloned().unwrap_or_else(|| vec![0; BLOCK as usize]);
            for (_, value) in values {
                for (old, new) in bytes.chunks_mut(SECTOR).zip(value.chunks(SECTOR)) {
                    if rng.one_in(2) {
                        old.copy_from_slice(new);
                    }
                }
            }
            self.meta.durable.insert(block, bytes);
        }
    }
}
