//! A client that writes rows through the virtual address, and the auditor of what it was told.
//!
//! A row is a write of one block followed by a flush, as a database commits. It is acknowledged when both are
//! answered while the address and the service are still where they were.

use std::collections::{BTreeMap, BTreeSet};

use cluster::record::LEAP;
use replica::event::{BLOCK, FrontError, FrontOp, Millis, Range, Slot};

use crate::disk::Version;
use crate::model::{Level, Timeline};
use crate::world::{World, name};

/// Blocks that rows are written to, spread over more extents than the activity log holds.
const HOT_BLOCKS: u64 = 24;
const STRIDE: u64 = 93;
/// Rows on their way at the same time.
const DEPTH: usize = 3;

enum Stage {
    Writing { block: u64, version: Version },
    Flushing { promise: Vec<(u64, Version)> },
}

/// Rows in flight, rows acknowledged.
pub(crate) struct Client {
    line: Timeline,
    stages: [BTreeMap<Slot, Stage>; 2],
    next_slot: u32,
    next_version: Version,
    /// The term under which a row was last acknowledged.
    last_term: u64,
    /// The order of an operator that the last primary goes back to.
    last_order: u64,
    /// How often it tries to write a row.
    pub(crate) pace: Millis,
    /// An operator has said that rows may be lost.
    pub(crate) accepts_loss: bool,
    /// Rows acknowledged so far.
    pub(crate) rows: u64,
    /// When the last one was.
    pub(crate) last_row: Millis,
    /// The longest time without one.
    pub(crate) longest_gap: Millis,
}

impl Client {
    pub(crate) fn new(pace: Millis) -> Self {
        Self {
            line: Timeline::begin(0),
            stages: [BTreeMap::new(), BTreeMap::new()],
            next_slot: 100,
            next_version: 1,
            last_term: 0,
            last_order: 0,
            accepts_loss: false,
            pace,
            rows: 0,
            last_row: 0,
            longest_gap: 0,
        }
    }

    /// Begins a row on the node where the address is and the service runs.
    pub(crate) fn write(&mut self, world: &mut World, node: usize) {
        if self.stages[node].len() >= DEPTH || !world.nodes[node].exported {
            return;
        }
        let block = world.rng.below(HOT_BLOCKS) * STRIDE;
        if (block + 1) * BLOCK > world.nodes[node].device_bytes {
            return;
        }
        let version = self.next_version;
        self.next_version += 1;
        let before = world.nodes[node].disk.view(block);
        self.line.submit(block, version, before);
        let slot = self.slot();
        self.stages[node].insert(slot, Stage::Writing { block, version });
        let range = Range { offset: block * BLOCK, len: BLOCK as u32 };
        world.front(node, slot, FrontOp::Write(range), vec![version]);
    }

    /// What was asked of each node and is not answered.
    pub(crate) fn unanswered(&self) -> BTreeSet<(usize, Slot)> {
        let slots = |node: usize| self.stages[node].keys().map(move |slot| (node, *slot));
        slots(0).chain(slots(1)).collect()
    }

    fn slot(&mut self) -> Slot {
        self.next_slot += 1;
        Slot(self.next_slot)
    }

    /// The device answered. `visible`: the client still finds the service there.
    pub(crate) fn answered(
        &mut self,
        world: &mut World,
        node: usize,
        slot: Slot,
        result: Result<(), FrontError>,
        visible: bool,
    ) -> Result<(), String> {
        let Some(stage) = self.stages[node].remove(&slot) else { return Ok(()) };
        if result.is_err() {
            return Ok(());
        }
        let stale = self.is_stale(world, node);
        match stage {
            Stage::Writing { block, version } => {
                if stale && !self.line.knows(block, version) {
                    let term = self.last_term;
                    return Err(format!(
                        "one_writer: a write was answered under an older term that the primary of term {term} lacks"
                    ));
                }
                self.line.answer(block, version);
                let slot = self.slot();
                let promise = self.line.promise();
                self.stages[node].insert(slot, Stage::Flushing { promise });
                world.front(node, slot, FrontOp::Flush, Vec::new());
            }
            Stage::Flushing { promise } => {
                self.line.flushed(&promise);
                self.is_durable(world, node, &promise)?;
                if visible {
                    self.longest_gap = self.longest_gap.max(world.now - self.last_row);
                    self.last_row = world.now;
                    self.rows += 1;
                }
            }
        }
        Ok(())
    }

    /// Invariant acked_rows_durable: what a flush promises outlives any loss of power, on both nodes unless this one
    /// goes on alone.
    fn is_durable(&self, world: &World, node: usize, promise: &[(u64, Version)]) -> Result<(), String> {
        let Some(managed) = world.status(node).and_then(|s| s.managed) else { return Ok(()) };
        let known = |version: Version| version < self.next_version;
        for holder in (0..2).filter(|holder| *holder == node || !managed.alone) {
            let durable = |block: u64| world.nodes[holder].disk.durable(block);
            let has = |block, version| durable(block) >= version && known(durable(block));
            if let Some((block, version)) = promise.iter().find(|(b, v)| known(*v) && !has(*b, *v)) {
                let (lacks, is) = (name(holder), durable(*block));
                return Err(format!(
                    "acked_rows_durable: version {version} of block {block} is flushed, durable on {lacks} is {is}"
                ));
            }
        }
        Ok(())
    }

    /// Invariant one_writer: what is answered under an older term than the last one is known to the primary of
    /// the newer: both had it before.
    fn is_stale(&mut self, world: &World, node: usize) -> bool {
        let managed = world.status(node).and_then(|s| s.managed);
        let term = managed.and_then(|m| m.term).unwrap_or_default();
        let stale = term < self.last_term;
        self.last_term = self.last_term.max(term);
        stale
    }

    /// The host lost power, or the device is gone: nothing in flight will be answered.
    pub(crate) fn forget(&mut self, node: usize) {
        self.stages[node].clear();
    }

    /// Invariant acked_rows_survive: whoever becomes Primary has every acknowledged row. What was never
    /// acknowledged and is not there is gone for good. An operator's order that reaches farther than that of the last
    /// primary overrules it, whenever it was given: what was acknowledged under the other one is kept aside.
    pub(crate) fn promoted(&mut self, world: &World, node: usize) -> Result<(), String> {
        let disk = &world.nodes[node].disk;
        let term = world.status(node).and_then(|s| s.managed).and_then(|m| m.term).unwrap_or_default();
        let overrules = term / LEAP > self.last_order;
        self.last_order = term / LEAP;
        if std::mem::take(&mut self.accepts_loss) | overrules {
            self.line = Timeline::begin(node);
            return Ok(());
        }
        if let Some(text) = self.line.broken_by(disk, Level::Flushed) {
            return Err(format!("acked_rows_survive: promoted without an acknowledged row: {text}"));
        }
        self.line.rebase(disk, node);
        Ok(())
    }
}
