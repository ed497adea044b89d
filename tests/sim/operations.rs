//! What a simulated disk does, when it is over, and what comes of it.

use replica::digest;
use replica::event::{Action, BLOCK, DiskError, Event, IoId, Millis, Range, Slot};

use super::{Happening, Sabotage, World};
use crate::disk::{self, Version};

/// How long an operation hangs: longer than the engine waits.
const HANG_MS: Millis = 15_000;

#[derive(Clone)]
pub(crate) enum DiskOp {
    Read { slot: Slot, range: Range },
    Digest { range: Range },
    Write { range: Range, data: Vec<Version>, resync: bool },
    Flush { time: u64 },
    Prepare { time: u64 },
    Save { log: u64, at: u64, ranges: Vec<Range> },
    Restore { log: u64, at: u64 },
}

impl World {
    pub(super) fn perform_on_disk(&mut self, node: usize, action: Action) {
        let time = self.nodes[node].disk.time();
        match action {
            Action::ReadDisk { io, slot, range } => self.disk(node, io, DiskOp::Read { slot, range }),
            Action::DigestDisk { io, range } => self.disk(node, io, DiskOp::Digest { range }),
            Action::WriteDisk { io, slot, range, .. } => {
                let data = self.slot_part(node, slot, range);
                let resync = self.nodes[node].resynced.contains(&slot);
                self.disk(node, io, DiskOp::Write { range, data, resync });
            }
            Action::FlushDisk { io } => self.disk(node, io, DiskOp::Flush { time }),
            Action::PrepareUndo { io, .. } => self.disk(node, io, DiskOp::Prepare { time }),
            Action::SaveUndo { io, log, at, ranges } => {
                self.disk(node, io, DiskOp::Save { log, at, ranges });
            }
            Action::RestoreUndo { io, log, at } => self.disk(node, io, DiskOp::Restore { log, at }),
            other => unreachable!("not an operation of the disk: {other:?}"),
        }
    }

    pub(super) fn disk(&mut self, node: usize, io: IoId, op: DiskOp) {
        let life = self.nodes[node].life;
        self.nodes[node].pending.insert(io.0, op.clone());
        let delay = self.disk_delay(node, 4);
        self.at(delay, Happening::Disk { node, life, io, op });
    }

    pub(super) fn disk_delay(&mut self, node: usize, most: Millis) -> Millis {
        let (slow, hangs) = (self.nodes[node].slow, self.nodes[node].hangs);
        // Of a slow one that hangs some operations do, of another one all.
        if hangs && (!slow || self.rng.one_in(120)) {
            self.hangs_until = self.now + HANG_MS;
            return HANG_MS;
        }
        if slow && self.rng.one_in(3) { self.rng.below(2500) } else { self.delay(most) }
    }

    pub(super) fn disk_done(&mut self, node: usize, io: IoId, op: DiskOp) {
        let n = &mut self.nodes[node];
        n.pending.remove(&io.0);
        if n.broken {
            let event = match op {
                DiskOp::Digest { .. } => Event::Digested { io, result: Err(broken()) },
                DiskOp::Restore { .. } => Event::Restored { io, result: Err(broken()) },
                _ => Event::DiskDone { io, result: Err(broken()) },
            };
            self.event(node, event);
            return;
        }
        let view = |range: Range| (range.offset / BLOCK..range.end() / BLOCK).map(|b| n.disk.view(b));
        match op {
            DiskOp::Read { slot, range } => {
                let data = view(range).collect();
                n.slots.insert(slot, data);
            }
            DiskOp::Digest { range } => {
                let sees = self.sabotage != Some(Sabotage::ComparesNothing);
                let digest = |version: Version| match sees {
                    true if disk::is_zero(version) => digest::of_zeroes(),
                    true => u128::from(version),
                    false => 0,
                };
                let digests = view(range).map(digest).collect();
                self.event(node, Event::Digested { io, result: Ok(digests) });
                return;
            }
            DiskOp::Write { range, data, resync } => {
                for (block, version) in (range.offset / BLOCK..).zip(data) {
                    n.mixed |= resync && n.disk.view(block) != version;
                    n.disk.write(block, version);
                }
            }
            DiskOp::Flush { time } => n.disk.flush(time),
            DiskOp::Prepare { .. } | DiskOp::Save { .. } if n.cramped => {
                let result = Err(DiskError("no space left on device".into()));
                self.event(node, Event::DiskDone { io, result });
                return;
            }
            DiskOp::Prepare { time } => {
                n.disk.flush(time);
                n.undo.prepare(&n.disk);
            }
            DiskOp::Save { log, at, ranges } => n.undo.save(&n.disk, log, at, &ranges),
            DiskOp::Restore { log, at } => {
                let (content, next) = n.undo.record(log, at).unwrap();
                content.iter().for_each(|(block, version)| n.disk.write(*block, *version));
                self.event(node, Event::Restored { io, result: Ok(next) });
                return;
            }
        }
        self.event(node, Event::DiskDone { io, result: Ok(()) });
    }
}

pub(super) fn broken() -> DiskError {
    DiskError("input/output error".into())
}
