//! What must hold at every moment.

use cluster::config::{Class, ResourceId};
use cluster::event::{Running, Verb};
use cluster::member::{Node, Nodes};
use cluster::record::{LEAP, Record};
use replica::event::Millis;
use replica::state::Role;

use super::{Cluster, Host, index, name};

/// A Primary whose peer has promised a newer term cannot answer a write; it notices within so long.
const NOTICED_MS: Millis = 2_000;

impl Cluster {
    /// What holds at every moment.
    pub(super) fn watch(&mut self) {
        let now = self.world.now;
        let [a, b] = &self.hosts;
        let two_addresses = a.has_address(now) && b.has_address(now) && self.excused_until <= now;
        let two_mounts =
            self.world.nodes.iter().all(|n| n.exported) && a.services.is_mounted() && b.services.is_mounted();
        let answers = |host: &&Host| host.services.serves() && host.has_address(now);
        let lost = self.hosts.iter().filter(answers).find_map(|host| host.services.astray());
        if let Some(text) = lost.map(|service| {
            format!("rows_on_the_device: {service} answers clients from what lies below the mount point")
        }) {
            self.fail(text);
        }
        if two_addresses {
            self.fail("at_most_one_address: both hosts answer for the address".into());
        }
        let awake = self.excused_until <= now && self.hosts.iter().all(|h| h.frozen_since.is_none());
        let rivals = awake
            && two_mounts
            && self.world.nodes.iter().all(|n| n.engine.as_ref().is_some_and(acknowledges));
        self.rivals_since = rivals.then(|| self.rivals_since.unwrap_or(now));
        if self.rivals_since.is_some_and(|since| since + NOTICED_MS <= now) {
            self.fail(
                "one_mount: both hosts have mounted the file system, and neither device is blocked".into(),
            );
        }
    }

    /// Invariants no_start_before_grant and stack_order, by what the node's manager has been told so far: the
    /// services stay while the peer takes over, and may have ended unheard.
    pub(super) fn check_start(&mut self, node: Node, resource: ResourceId, verb: Verb) {
        let services = &self.host(node).services;
        if verb != Verb::Start || !services.is_group(resource) {
            return;
        }
        let what = services.name(resource).to_owned();
        let Some(status) = self.status(node) else { return };
        let runs = |id: ResourceId| {
            matches!(services.class(id), Some(Class::Replica { .. }))
                || status.resources[id.0].state[index(node)] == Running::Started
        };
        let after = services.config().resource(resource).map(|r| r.after.clone()).unwrap_or_default();
        if let Some(missing) = after.into_iter().find(|id| !runs(*id)) {
            let text =
                format!("stack_order: {what} is started on {} before {}", name(node), services.name(missing));
            self.fail(text);
        }
        if status.record.primary != Some(node) {
            self.fail(format!("no_start_before_grant: {what} is started on {}", name(node)));
        }
    }

    /// Invariant record_versions: a version has one content for ever.
    pub(super) fn is_committed(&mut self, record: &Record) {
        let version = record.version.0;
        if let Some(before) = self.committed.get(&version).filter(|before| *before != record) {
            let text = format!("record_versions: version {version} was {before:?} and is {record:?}");
            self.fail(text);
            return;
        }
        if version == 0 || self.committed.insert(version, record.clone()).is_some() {
            return;
        }
        // An order of one vote of two leaps, and may go out from an older record than the newest.
        let leaps = version.is_multiple_of(LEAP);
        let before = self.committed.range(..version).next_back().map(|(_, r)| r.clone()).unwrap_or_default();
        let marks = Node::ALL.into_iter().any(|node| {
            let marked = |r: &Record| r.intent.diverged.contains(node);
            marked(record) && (leaps || !marked(&before))
        });
        self.client.accepts_loss |= marks;
        let primary = record.primary.map_or("nobody", name);
        let (term, synced) = (record.term.0, record.synced);
        self.tell(format!("record v{version} term {term} primary {primary} synced {synced}"));
        self.check_takeover(&before, record);
        self.check_handover(&before, record);
    }

    /// Invariant stopped_before_handover: who hands over has no device and no address left.
    fn check_handover(&mut self, before: &Record, record: &Record) {
        let Some(node) = before.primary.filter(|_| record.synced == Nodes::BOTH) else { return };
        let still = self.is_exported(node) || self.host(node).has_address(self.world.now);
        if record.primary == Some(node.peer()) && still {
            self.fail(format!("stopped_before_handover: {} still has device or address", name(node)));
        }
    }

    /// Invariant promise_before_vote: whoever takes the peer's place has promised before to help no older term.
    fn check_takeover(&mut self, before: &Record, record: &Record) {
        let Some(node) = record.primary else { return };
        let takes = before.primary == Some(node.peer()) && record.synced == Nodes::only(node);
        let engine = self.world.nodes[index(node)].engine.as_ref();
        let fence = engine.and_then(|e| e.status(self.world.now).managed).map(|m| m.fence);
        if takes && fence.is_some_and(|fence| fence < record.term.0) {
            self.fail(format!("promise_before_vote: {} took over without its promise", name(node)));
        }
    }
}

/// Its device is Primary and knows of nothing that keeps it from answering writes.
fn acknowledges(engine: &replica::engine::Engine) -> bool {
    let status = engine.status(0);
    status.role == Role::Primary && status.managed.is_some_and(|m| !m.blocked && !m.deposed)
}
