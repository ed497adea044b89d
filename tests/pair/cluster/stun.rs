//! A whole machine that stands still, its programs and its kernel's timers with it. A hypervisor that does so for a
//! snapshot stops the clock, too: afterwards the machine goes on as if nothing had been. One that was suspended to
//! RAM finds its clock far ahead, while the address has lived no longer. And a clock may leap by itself.

use cluster::member::{Node, Voter};
use replica::event::Millis;

use super::{Cluster, Happening, index, name};

/// A manager that wakes up with its lease over takes the address off within so long.
const AWAKE_MS: Millis = 100;

impl Cluster {
    /// Stops a machine for so long, and its clock.
    pub(crate) fn freeze(&mut self, node: Node, ms: Millis) {
        self.stop_machine(node, ms, false);
    }

    /// Suspends a machine for so long: its clock runs on.
    pub(crate) fn suspend(&mut self, node: Node, ms: Millis) {
        self.stop_machine(node, ms, true);
    }

    fn stop_machine(&mut self, node: Node, ms: Millis, is_asleep: bool) {
        if !self.host(node).powered || self.host(node).frozen_since.is_some() {
            return;
        }
        let what = if is_asleep { "is suspended" } else { "stands still" };
        self.tell(format!("{} {what} for {ms} ms", name(node)));
        let now = self.world.now;
        let host = self.host_mut(node);
        host.frozen_since = Some(now);
        host.is_asleep = is_asleep;
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
        let (missed, is_asleep) = (now - since, host.is_asleep);
        host.services.address_until = host.services.address_until.map(|until| until + missed);
        let held = std::mem::take(&mut host.held);
        if !is_asleep {
            host.clock.stood_still(missed);
        }
        if is_asleep && host.manager.as_ref().is_some_and(|manager| !manager.stopped) {
            self.excuse_until(now + AWAKE_MS);
        } else {
            self.excuse_a_lease();
        }
        self.tell(format!("{} goes on", name(node)));
        self.world.thaw(index(node));
        for happening in held {
            self.at(0, happening);
        }
    }

    /// The clock of a member leaps ahead although no time has passed: what it has granted ends early.
    pub(crate) fn leap(&mut self, member: Voter, ms: Millis) {
        self.tell(format!("the clock of {} leaps ahead by {ms} ms", member.node().map_or("witness", name)));
        let clock = match member.node() {
            Some(node) => &mut self.host_mut(node).clock,
            None => &mut self.witness.clock,
        };
        clock.leaps(ms);
        self.excuse_a_lease();
        if let Some(node) = member.node() {
            // What was to happen at a time of this clock happens when that time is there.
            self.later(node, 0, cluster::event::Event::Tick);
        }
    }

    /// Two hosts may answer for the address for as long as a lease and the kernel's lifetime of an address last.
    fn excuse_a_lease(&mut self) {
        let timing = self.hosts[0].services.config().timing;
        let ms = timing.holder_lease_ms + u64::from(timing.address_valid_s) * 1000 + 2000;
        self.excuse_until(self.world.now + ms);
    }

    fn excuse_until(&mut self, moment: Millis) {
        self.excused_until = self.excused_until.max(moment);
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
