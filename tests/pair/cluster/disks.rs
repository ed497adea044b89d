//! What must hold of the two disks at every moment.

use cluster::member::Node;
use replica::control::Status;
use replica::engine::{Engine, Essence};
use replica::event::BLOCK;
use replica::state::{DiskState, ReplicationState};

use super::{Cluster, index, name};

/// What was seen of the two replication engines when they last changed.
#[derive(Default)]
pub(super) struct Disks {
    seen: [Option<Essence>; 2],
    /// It writes to both disks, and its own is UpToDate.
    in_step: [bool; 2],
    /// The newest term that was promised.
    fences: [u64; 2],
}

impl Cluster {
    pub(super) fn watch_disks(&mut self) {
        for node in Node::ALL {
            let essence = self.world.nodes[index(node)].engine.as_ref().map(Engine::essence);
            if std::mem::replace(&mut self.disks.seen[index(node)], essence) != essence {
                self.look_at_disk(node);
            }
        }
        if let Some(text) = self.world.broken_promise.take() {
            self.fail(format!("disks_agree: {text}"));
        }
        let nodes = &self.world.nodes;
        let touched = nodes.iter().any(|n| n.disk.touched().next().is_some());
        if self.disks.in_step == [true; 2] && touched && nodes.iter().all(|n| n.fronts.is_empty()) {
            self.agree();
        }
    }

    fn look_at_disk(&mut self, node: Node) {
        let status = self.world.status(index(node));
        self.disks.in_step[index(node)] = status.as_ref().is_some_and(|s| {
            s.connection.replication == ReplicationState::Established && s.device.disk == DiskState::UpToDate
        });
        if let Some(status) = status {
            self.is_no_mix(node, &status);
            self.keeps_promise(node, &status);
        }
    }

    /// Invariant no_mix: a disk that a resync has changed and not finished is worth nothing.
    fn is_no_mix(&mut self, node: Node, status: &Status) {
        let disk = status.device.disk;
        let claims = matches!(disk, DiskState::Outdated | DiskState::Consistent | DiskState::UpToDate);
        let n = &mut self.world.nodes[index(node)];
        if !n.mixed || !claims {
            return;
        }
        // A rollback has made it what it was before.
        n.mixed = n.undo.differs(&n.disk).is_some();
        if n.mixed {
            self.fail(format!("no_mix: {} calls a mix of old and new blocks consistent", name(node)));
        }
    }

    /// Invariant promises_last: the newest term promised never falls, whatever fails.
    fn keeps_promise(&mut self, node: Node, status: &Status) {
        let Some(fence) = status.managed.map(|m| m.fence) else { return };
        let before = std::mem::replace(&mut self.disks.fences[index(node)], fence);
        if fence > before && fence > self.record().term.0 {
            self.is_undisturbed(node, fence);
        }
        if fence < before {
            self.fail(format!("promises_last: {} had promised term {before}, now {fence}", name(node)));
        }
    }

    /// Invariant undisturbed: nobody promises a newer term while the primary of the present one serves.
    fn is_undisturbed(&mut self, node: Node, fence: u64) {
        let served = self.is_served_by(node.peer()) && self.excused_until <= self.world.now;
        if served && self.record().primary == Some(node.peer()) {
            let (bidder, primary) = (name(node), name(node.peer()));
            self.fail(format!("undisturbed: {bidder} promises term {fence} while {primary} serves"));
        }
    }

    /// Invariant disks_agree: two disks that are both called UpToDate hold the same.
    fn agree(&mut self) {
        // Writes of a device that was taken away go on without anybody who asked for them.
        if (0..2).any(|n| self.world.status(n).is_none_or(|s| s.device.upper_pending > 0)) {
            return;
        }
        let [a, b] = &self.world.nodes;
        let visible = |block: &u64| block * BLOCK < self.world.seen_bytes;
        let touched = || a.disk.touched().chain(b.disk.touched()).filter(visible);
        let differs = touched().find(|block| a.disk.view(*block) != b.disk.view(*block));
        if let Some(block) = differs {
            let (x, y) = (a.disk.view(block), b.disk.view(block));
            self.fail(format!(
                "disks_agree: both UpToDate, but block {block} is {x} on ha-a and {y} on ha-b"
            ));
        }
        self.world.nodes.iter_mut().for_each(|node| node.disk.forget_touched());
    }
}
