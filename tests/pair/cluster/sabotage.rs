//! A pair that breaks one rule: so that it is known that the invariants would notice.

use cluster::config::Class;
use cluster::event::{OpId, ReplicaVerb, Running};
use cluster::member::{Node, Nodes};
use cluster::message::{Ask, Message, Register};
use cluster::record::{Record, Term, Version};
use cluster::store::{LeaseRule, Op, Outcome, RecordStore as _, RequestId};
use replica::event::Millis;

use super::{Cluster, index};

/// The kernel never takes the address away.
const FOR_EVER: Millis = Millis::MAX / 4;
/// Longer than any hold.
const LONG_AGO: Millis = 10_000;
/// One in so many times that the client writes.
const OFTEN: u64 = 100;

/// Which rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// A primary that has lost its peer goes on alone at once, whatever the record says.
    GrantsEarly,
    /// The promise before a bid is not made.
    SkipsFence,
    /// A node that may lack acknowledged writes bids.
    OutsiderBids,
    /// A takeover does not wait for the end of the lease.
    IgnoresLease,
    /// The voters lose in a crash what they have said.
    Forgets,
    /// The address stays when the lease ends.
    KeepsAddress,
    /// The record of an order that one vote carries out counts on, as that of any other change does.
    OrderDoesNotLeap,
    /// Voters that have started anew let a takeover in at once.
    StartsFree,
    /// A bid is not preceded by the question whether it would be voted for.
    SkipsPreVote,
    /// The record names the successor while the stack still runs.
    HandsOverEarly,
    /// One of replication.
    Replica(crate::world::Sabotage),
}

impl Cluster {
    /// A renewal that asks the voters to hold nobody off.
    pub(super) fn sabotaged(&self, mut message: Message) -> Message {
        if self.sabotage == Some(Sabotage::IgnoresLease)
            && let Message::Register(Register::Ask { ask: Ask::Renew { hold_ms, .. }, .. }) = &mut message
        {
            *hold_ms = 0;
        }
        message
    }

    /// An order whose record has the next version.
    pub(super) fn sabotaged_op(&self, mut op: Op) -> Op {
        if self.sabotage == Some(Sabotage::OrderDoesNotLeap)
            && let Op::Swap { expect, record, lease: LeaseRule::Forced } = &mut op
        {
            record.version = Version(expect.0 + 1);
        }
        op
    }

    /// Whether the address is left where it is.
    pub(super) fn keeps_address(&mut self, node: Node, until: Millis) -> bool {
        let services = &mut self.hosts[index(node)].services;
        let on = |id| {
            matches!(services.class(id), Some(Class::Address { .. }))
                && services.state(id) == Running::Started
        };
        let started = services.ids().any(on);
        if self.sabotage != Some(Sabotage::KeepsAddress) || (until > 0 && !started) {
            return false;
        }
        services.address_until = started.then_some(FOR_EVER);
        true
    }

    /// The time that a voter believes to have been started at.
    pub(super) fn started_at(&self, now: Millis) -> Millis {
        if self.sabotage == Some(Sabotage::StartsFree) { now.saturating_sub(LONG_AGO) } else { now }
    }

    /// The answer to a pre-vote that is not made.
    pub(super) fn unasked(&self, op: &Op) -> Option<Outcome> {
        let skips = self.sabotage == Some(Sabotage::SkipsPreVote) && *op == Op::PreVote;
        skips.then(|| Outcome::WouldGrant(self.record()))
    }

    /// What is done beside the managers.
    pub(super) fn sabotage(&mut self) {
        match self.sabotage {
            Some(Sabotage::Forgets) if self.client.rows > 0 => {
                self.witness.vault.forgets = true;
                self.hosts.iter_mut().for_each(|host| host.vault.forgets = true);
            }
            Some(Sabotage::Replica(rule)) => self.world.sabotage = Some(rule),
            Some(Sabotage::GrantsEarly) => Node::ALL.into_iter().for_each(|node| self.grant(node)),
            Some(Sabotage::HandsOverEarly) => Node::ALL.into_iter().for_each(|node| self.hand_over(node)),
            Some(Sabotage::OutsiderBids) => Node::ALL.into_iter().for_each(|node| self.outsider_bids(node)),
            _ => {}
        }
    }

    fn hand_over(&mut self, node: Node) {
        let record = self.record();
        if !self.is_served_by(node) || !self.world.rng.one_in(OFTEN) {
            return;
        }
        if let Ok(next) = record.handed_over(node, record.term) {
            self.propose(node, record.version, next, LeaseRule::Whatever);
        }
    }

    /// Asks a node's store for a change that its manager knows nothing of.
    fn propose(&mut self, node: Node, expect: Version, record: Record, lease: LeaseRule) {
        let now = self.host(node).clock.show(self.world.now);
        let mut out = Vec::new();
        if let Some(manager) = &mut self.hosts[index(node)].manager {
            manager.store.submit(RequestId(u64::MAX), Op::Swap { expect, record, lease }, now, &mut out);
        }
        self.effects(node, out);
    }

    fn grant(&mut self, node: Node) {
        let engine = self.world.nodes[index(node)].engine.as_ref();
        let managed = engine.and_then(|e| e.status(self.world.now).managed);
        if let Some(m) = managed.filter(|m| m.blocked && !m.alone)
            && let Some(term) = m.term
        {
            self.replica(node, OpId(u64::MAX), ReplicaVerb::GoAlone { term: Term(term), loss: m.loss });
        }
    }

    fn outsider_bids(&mut self, node: Node) {
        let mut record = self.record();
        let outside = record.primary == Some(node.peer()) && !record.synced.contains(node);
        if !outside || self.host(node.peer()).powered {
            return;
        }
        let expect = record.version;
        record.version = Version(expect.0 + 1);
        record.term = Term(record.term.0 + 1);
        record.primary = Some(node);
        record.synced = Nodes::only(node);
        let promised = self.world.status(index(node)).and_then(|s| s.managed).map(|m| m.fence);
        if promised < Some(record.term.0) {
            self.replica(node, OpId(u64::MAX), ReplicaVerb::Fence { term: record.term });
            return;
        }
        self.propose(node, expect, record, LeaseRule::MustBeOver);
    }
}
