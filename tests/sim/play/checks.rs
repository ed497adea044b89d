//! What must hold at every moment, and what both nodes agree upon when they say that they have the same.

use std::collections::BTreeMap;

use replica::control::Status;
use replica::event::{BLOCK, Millis};
use replica::state::{ConnectionState, DiskState, Role};

use super::Play;
use crate::world::name;

/// Milliseconds after which a node has stored that it lost the other one, on a quick disk and on a slow one.
const STORED_MS: Millis = 200;
const SLOW_MS: Millis = 10_000;

impl Play {
    /// Rules that hold at every moment.
    pub(super) fn watch(&mut self) {
        for node in 0..2 {
            let Some(status) = self.world.status(node) else { continue };
            let disk = status.device.disk;
            let claims = matches!(disk, DiskState::Outdated | DiskState::Consistent | DiskState::UpToDate);
            if self.world.nodes[node].mixed && claims {
                self.fail_unless_rolled_back(node);
            }
            if disk == DiskState::Inconsistent && self.main.answered_at.contains(&(1 - node)) {
                // What it holds is written over by a node that has everything: it keeps nothing for that one.
                self.main.answered_at.remove(&node);
            }
            self.look_at_link(node, &status);
            self.stays_outdated(node, disk);
        }
        self.verified();
        if let Some(text) = self.world.broken_promise.take() {
            self.fail(text);
        }
        let idle = self.requests.iter().all(BTreeMap::is_empty);
        let both_exported = self.world.nodes.iter().all(|n| n.exported);
        if !idle && !both_exported {
            return;
        }
        let (Some(a), Some(b)) = (self.world.status(0), self.world.status(1)) else { return };
        let connected = |s: &Status| s.connection.state == ConnectionState::Connected;
        if connected(&a)
            && connected(&b)
            && a.role == Role::Primary
            && b.role == Role::Primary
            && both_exported
        {
            self.fail("both nodes are Primary and connected".into());
        }
        // Writes of a device that was taken away go on without anybody who asked for them.
        if idle && a.device.upper_pending + b.device.upper_pending == 0 && self.in_step() {
            self.agree();
        }
    }

    /// Notes since when each node knows durably that it lost the other one.
    fn look_at_link(&mut self, node: usize, status: &Status) {
        let (now, slow, disk) = (self.world.now, self.world.nodes[node].slow, status.device.disk);
        let never = self.world.nodes[node].broken || disk == DiskState::Failed;
        let stored = if never { Millis::MAX } else { now + if slow { SLOW_MS } else { STORED_MS } };
        self.apart[node] = match self.apart[node] {
            _ if status.connection.state == ConnectionState::Connected => None,
            // A node that has left on purpose is older by its own word.
            _ if disk == DiskState::Outdated => None,
            // A survivor that is promoted is the newer one over a crash of its own, until a write of its own says so.
            Some((lost, stored))
                if status.role == Role::Primary && stored <= now && self.world.met_at < lost =>
            {
                Some((lost, stored))
            }
            _ if status.role == Role::Primary => None,
            Some((lost, _)) if slow || never => Some((lost, stored)),
            apart => apart.or(Some((now, stored))),
        };
    }

    /// A node that is Outdated stays so until it meets the other one.
    fn stays_outdated(&mut self, node: usize, disk: DiskState) {
        let was_outdated = self.outdated[node].is_some_and(|at| at > self.world.met_at);
        // Somebody who forces a promotion declares the disk the newest, also when it goes down on the way.
        if disk == DiskState::Consistent && was_outdated && !self.declared[node] {
            self.fail(format!("{} has forgotten that it is Outdated", name(node)));
        }
        self.outdated[node] = (disk == DiskState::Outdated).then_some(self.world.now);
    }

    /// No disk changes by itself here: a verify that finds a difference has compared a moment with another one, or
    /// the disks of two nodes that both call themselves UpToDate differ.
    fn verified(&mut self) {
        for node in 0..2 {
            let found = self.world.status(node).and_then(|s| s.connection.verify).map(|v| v.places);
            if let Some(place) = found.and_then(|places| places.into_iter().next()) {
                self.fail(format!("{}: verify finds a difference at {place:?} KiB", name(node)));
            }
        }
    }

    /// Both nodes say that they have the same, newest data: is it so?
    fn agree(&mut self) {
        let [a, b] = &self.world.nodes;
        let unchanged = a.disk.touched().chain(b.disk.touched()).next().is_none();
        if unchanged && self.fork.is_none() && self.main.is_everywhere() {
            return;
        }
        let visible = |block: &u64| block * BLOCK < self.world.seen_bytes;
        let touched = a.disk.touched().chain(b.disk.touched()).filter(visible);
        let differs = touched.into_iter().find(|block| a.disk.view(*block) != b.disk.view(*block));
        if let Some(block) = differs {
            let (x, y) = (a.disk.view(block), b.disk.view(block));
            self.fail(format!("both UpToDate, but block {block} is {x} on ha-a and {y} on ha-b"));
            return;
        }
        self.world.nodes.iter_mut().for_each(|n| n.disk.forget_touched());
        let disk = &self.world.nodes[0].disk;
        let broken = self.main.broken_by(disk, self.main.level());
        let unharmed = self.main.writes == self.main_writes_at_fork && self.fork_is_excused;
        if let Some((_, fork)) = self.fork.take() {
            let fork_broken = fork.broken_by(disk, fork.level());
            match (broken, fork_broken) {
                (None, None) => {}
                // A fork on which nothing was answered is no loss.
                (None, _) if fork.writes == 0 => {}
                (Some(_), None) if self.splits > 0 || unharmed => self.main = fork,
                (None, Some(_)) if self.splits > 0 => {}
                (m, f) => {
                    self.fail(format!("two lines of data became one without a word: main {m:?}, fork {f:?}"));
                }
            }
        } else if let Some(text) = broken {
            self.fail(format!("promised writes are gone: {text}"));
        }
        self.main.rebase(&self.world.nodes[0].disk, 0);
        self.main.answered_at = [0, 1].into();
        self.main.flushed_at = [0, 1].into();
        self.lost_power = [false; 2];
        self.declared = [false; 2];
        self.forgot = [false; 2];
    }
}
