//! A whole machine that stands still, as a hypervisor does to it for a snapshot: its programs, its kernel's timers
//! and its clock, and afterwards goes on as if nothing had been.

use cluster::member::Node;
use replica::event::Millis;

use super::{Cluster, Happening, index, name};

impl Cluster {
    /// Stops a machine for so long.
    pub(crate) fn freeze(&mut self, node: Node, ms: Millis) {
        if !self.host(node).powered || self.host(node).frozen_since.is_some() {
            return;
        }
        self.tell(format!("{} stands still for {ms} ms", name(node)));
        self.host_mut(node).frozen_since = Some(self.world.now);
        self.world.frozen[index(node)] = true;
        let boot = self.host(node).boot;
        self.at(ms, Happening::Thaw { node, boot });
    }

    /// What happens to a machine that stands still happens later.
    pub(super) fn unless_frozen(&mut self, happening: Happening) -> Option<Happening> {
        let node = match &happening {
            Happening::Deliver { lane, .. } => lane.to.node(),
            Happening::Persisted { voter, .. } => voter.node(),
            Happening::Wake { node, .. }
            | Happening::StoreWake { node, .. }
            | Happening::Event { node, .. }
            | Happening::ResourceEnd { node, .. }
            | Happening::StartManager { node }
            | Happening::EndPause { node, .. }
            | Happening::StartReplicad { node } => Some(*node),
            Happening::Thaw { .. } | Happening::Client => None,
        };
        match node {
            Some(node) if self.host(node).frozen_since.is_some() => {
                self.host_mut(node).held.push(happening);
                None
            }
            _ => Some(happening),
        }
    }

    pub(super) fn thaw(&mut self, node: Node, boot: u32) {
        let now = self.world.now;
        let host = &mut self.hosts[index(node)];
        let Some(since) = host.frozen_since.take_if(|_| host.boot == boot) else { return };
        let missed = now - since;
        host.clock.stood_still(missed);
        host.services.address_until = host.services.address_until.map(|until| until + missed);
        let timing = host.services.config().timing;
        self.excused_until = now + timing.holder_lease_ms + u64::from(timing.address_valid_s) * 1000 + 2000;
        let held = std::mem::take(&mut host.held);
        self.tell(format!("{} goes on", name(node)));
        self.world.thaw(index(node));
        for happening in held {
            self.at(0, happening);
        }
    }

    /// The machine is off: it stands still no more.
    pub(super) fn unfreeze(&mut self, node: Node) {
        let host = &mut self.hosts[index(node)];
        host.frozen_since = None;
        host.held.clear();
        self.world.frozen[index(node)] = false;
        self.world.held[index(node)].clear();
    }
}
