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
    /// Written since the last flush, newest last.
    volatile: BTreeMap<u64, Vec<T>>,
}

impl<T: Clone> Cached<T> {
    fn view(&self, block: u64) -> Option<&T> {
        self.volatile.get(&block).and_then(|v| v.last()).or_else(|| self.durable.get(&block))
    }

    fn write(&mut self, block: u64, value: T) {
        self.volatile.entry(block).or_default().push(value);
    }

    fn flush(&mut self) {
        for (block, mut values) in std::mem::take(&mut self.volatile) {
            self.durable.extend(values.pop().map(|v| (block, v)));
        }
    }
}

/// Data blocks by version, metadata blocks by their bytes.
pub(crate) struct Disk {
    pub(crate) layout: Layout,
    node: u64,
    /// Data blocks that may have changed since [`Self::forget_touched`].
    touched: BTreeSet<u64>,
    data: Cached<Version>,
    meta: Cached<Vec<u8>>,
}

impl Disk {
    pub(crate) fn new(bytes: u64, node: u64) -> Self {
        let layout = Layout::for_device(bytes).unwrap();
        Self { layout, node, touched: BTreeSet::new(), data: Cached::default(), meta: Cached::default() }
    }

    /// What is in a block; blocks never written hold what the disk had when it was new.
    pub(crate) fn view(&self, block: u64) -> Version {
        self.data.view(block).copied().unwrap_or(u64::MAX - block * 2 - self.node)
    }

    pub(crate) fn touched(&self) -> impl Iterator<Item = u64> {
        self.touched.iter().copied()
    }

    pub(crate) fn forget_touched(&mut self) {
        self.touched.clear();
    }

    pub(crate) fn write(&mut self, block: u64, version: Version) {
        self.touched.insert(block);
        self.data.write(block, version);
    }

    pub(crate) fn write_meta(&mut self, offset: u64, bytes: &[u8]) {
        for (block, piece) in (offset / BLOCK..).zip(bytes.chunks(BLOCK as usize)) {
            self.meta.write(block, piece.to_vec());
        }
    }

    pub(crate) fn flush(&mut self) {
        self.data.flush();
        self.meta.flush();
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
                self.data.durable.insert(block, values[kept - 1]);
            }
        }
        for (block, values) in std::mem::take(&mut self.meta.volatile) {
            let mut bytes = self.meta.durable.get(&block).cloned().unwrap_or_else(|| vec![0; BLOCK as usize]);
            for value in values {
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
