//! The two replicas of the bench: what a manager sees of the real ones, with an instant resync.

use super::{Due, Host, WIRE_MS, World, index};
use crate::event::{Event, ReplicaVerb, ReplicaView};
use crate::member::Node;

impl World {
    pub(super) fn replicate(&mut self, node: Node, verb: ReplicaVerb) -> Result<(), String> {
        let i = index(node);
        if !self.hosts[i].disk.up {
            return Err("not up".into());
        }
        let peer_primary = self.hosts[1 - i].powered && self.hosts[1 - i].disk.view.primary;
        let view = &mut self.hosts[i].disk.view;
        match verb {
            ReplicaVerb::Promote { term, alone, force } => {
                if view.fence > term {
                    return Err("fenced".into());
                }
                if !force && !matches!(view.disk.as_str(), "UpToDate" | "Consistent") {
                    return Err("no data".into());
                }
                if view.connected && peer_primary {
                    return Err("two primaries".into());
                }
                view.fence = term;
                view.term = Some(term);
                view.primary = true;
                view.deposed = false;
                view.disk = "UpToDate".into();
                view.alone = alone;
                let whole = view.connected && view.peer_disk == "UpToDate";
                view.blocked = !(alone || whole);
                view.loss += u64::from(view.blocked);
            }
            ReplicaVerb::Demote => {
                if !self.hosts[i].running.is_empty() {
                    return Err("in use".into());
                }
                let view = &mut self.hosts[i].disk.view;
                view.primary = false;
                view.term = None;
                view.alone = false;
                view.blocked = false;
                view.deposed = false;
            }
            ReplicaVerb::Fence { term } => view.fence = view.fence.max(term),
            ReplicaVerb::GoAlone { term, loss } => {
                if view.term != Some(term) || view.loss != loss || !view.blocked {
                    return Err("stale".into());
                }
                view.alone = true;
                view.blocked = false;
                self.hosts[1 - i].disk.view.disk = "Outdated".into();
            }
            ReplicaVerb::Revoke => {
                view.primary = false;
                view.term = None;
                view.alone = false;
                view.blocked = false;
            }
            ReplicaVerb::Discard | ReplicaVerb::Connect => {}
        }
        Ok(())
    }

    pub(in crate::engine::tests) fn tell_replica(&mut self, node: Node) {
        let host = &self.hosts[index(node)];
        if host.engine.is_none() {
            return;
        }
        let view = host.disk.up.then(|| host.disk.view.clone());
        self.later(node, WIRE_MS, Due::Event(Event::Replica(view)));
    }

    /// Looks at the replication link anew.
    pub(in crate::engine::tests) fn links(&mut self) {
        let before = self.hosts.each_ref().map(|h| (h.disk.up, h.disk.view.clone()));
        let there = |h: &Host| h.powered && h.disk.up;
        let both = self.hosts.iter().all(there) && self.replication;
        for i in 0..2 {
            let peer = self.hosts[1 - i].disk.view.clone();
            let own = &mut self.hosts[i].disk.view;
            // An older Primary meets a newer one.
            if both && own.primary && peer.primary && own.term < peer.term {
                own.primary = false;
                own.deposed = true;
                own.term = None;
                own.disk = "Outdated".into();
            }
        }
        let [a, b] = self.hosts.each_ref().map(|h| h.disk.view.clone());
        let refused = |x: &ReplicaView, y: &ReplicaView| x.term.is_some_and(|t| t < y.fence);
        let connected = both && !refused(&a, &b) && !refused(&b, &a);
        for i in 0..2 {
            let peer = self.hosts[1 - i].disk.view.clone();
            let view = &mut self.hosts[i].disk.view;
            view.connected = connected;
            view.peer_disk = if connected { peer.disk.clone() } else { "DUnknown".into() };
            view.peer_primary = connected && peer.primary;
            if connected && let Some(term) = peer.term {
                view.fence = view.fence.max(term);
            }
            let whole = connected && view.peer_disk == "UpToDate";
            if view.primary && whole {
                view.alone = false;
                view.blocked = false;
            } else if view.primary && !view.alone && !view.blocked {
                view.blocked = true;
                view.loss += 1;
            } else if view.primary && view.alone && peer.disk == "UpToDate" {
                self.hosts[1 - i].disk.view.disk = "Outdated".into();
            }
        }
        let [a, b] = self.hosts.each_ref();
        let stale = connected
            && (a.disk.view.primary || b.disk.view.primary)
            && (a.disk.view.disk != "UpToDate" || b.disk.view.disk != "UpToDate");
        if stale {
            self.later(Node::A, 100, Due::Synced);
        }
        for node in Node::ALL {
            let i = index(node);
            let after = &self.hosts[i].disk;
            if (after.up, after.view.clone()) != before[i] || self.hosts[i].powered {
                self.tell_replica(node);
            }
        }
    }

    pub(super) fn synced(&mut self) {
        let [a, b] = self.hosts.each_mut();
        if !a.disk.view.connected || (a.disk.view.disk == "UpToDate" && b.disk.view.disk == "UpToDate") {
            return;
        }
        if a.disk.view.primary || b.disk.view.primary {
            a.disk.view.disk = "UpToDate".into();
            b.disk.view.disk = "UpToDate".into();
            self.links();
        }
    }
}
