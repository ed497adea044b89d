//! An acceptor: one vote on the record, and what it promised about the incumbent's lease.
//!
//! Rules protected here: nothing is answered before it is durable (the caller holds every answer back until the
//! state it came from is stored, see [`super::journal`]); a lower ballot than promised changes nothing; a record
//! that takes the place of a lease's holder is neither prepared nor accepted while the lease runs.
//!
//! The lease is not stored. A grantor that has restarted has forgotten whom it promised what, so it grants no
//! takeover for one full hold; only the length of the hold is stored. The lease protects the address and outside
//! side effects, never the data.

use serde::{Deserialize, Serialize};

use crate::member::Node;
use crate::message::{Ask, Ballot, Known, Reply};
use crate::record::{Record, Term};
use crate::store::LeaseRule;
use crate::timing::Millis;

/// What an acceptor must find again after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// Random identity of this store.
    pub store: u64,
    /// Nothing below is accepted.
    pub promised: Ballot,
    /// Accepted last.
    pub accepted: Option<(Ballot, Record)>,
    /// The hold of the last renewal.
    pub hold_ms: Millis,
}

/// A promise to let nobody else in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Lease {
    holder: Node,
    term: Term,
    until: Millis,
}

/// One vote.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Acceptor {
    saved: Saved,
    lease: Option<Lease>,
    /// No takeover is granted before: this grantor has restarted.
    quiet_until: Millis,
}

impl Acceptor {
    /// With what it had stored; an empty store gets the identity `fresh`. `hold_ms` is the hold that may have
    /// been promised before the restart when nothing was stored.
    pub(super) fn new(saved: Option<Saved>, fresh: u64, hold_ms: Millis, now: Millis) -> Self {
        let saved =
            saved.unwrap_or(Saved { store: fresh, promised: Ballot::default(), accepted: None, hold_ms });
        let quiet_until = now.saturating_add(saved.hold_ms.max(hold_ms));
        Self { saved, lease: None, quiet_until }
    }

    /// What must be stored before any further answer leaves.
    pub(super) const fn saved(&self) -> &Saved {
        &self.saved
    }

    /// Accepted last.
    pub(super) const fn accepted(&self) -> Option<&(Ballot, Record)> {
        self.saved.accepted.as_ref()
    }

    /// Answers, and says whether [`Acceptor::saved`] has changed.
    pub(super) fn answer(&mut self, from: Node, ask: Ask, now: Millis) -> (Reply, bool) {
        match ask {
            Ask::Prepare { ballot, lease } => self.prepare(from, ballot, lease, now),
            Ask::Accept { ballot, record, lease } => self.accept(from, ballot, record, lease, now),
            Ask::Renew { term, hold_ms } => self.renew(from, term, hold_ms, now),
            Ask::Release { term } => {
                if self.lease.is_some_and(|lease| lease.holder == from && lease.term <= term) {
                    self.lease = None;
                }
                (Reply::Released, false)
            }
            Ask::PreVote => match self.left_for(from, now) {
                Some(left_ms) => (Reply::Leased { left_ms }, false),
                None => (Reply::WouldGrant { accepted: self.saved.accepted.clone() }, false),
            },
        }
    }

    /// A proposer remembers this very store with a higher promise: it went back in time (a restored snapshot),
    /// and its votes would contradict earlier ones. It becomes a new, empty store. True if so.
    pub(super) fn went_back(&mut self, known: Option<Known>, fresh: u64) -> bool {
        let Some(known) = known.filter(|known| known.store == self.saved.store) else { return false };
        if known.promised <= self.saved.promised {
            return false;
        }
        // Not the identity it has, nor one it could have had: differs with each round it went back from.
        let mixed = fresh ^ known.promised.round.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.saved.store = if mixed == self.saved.store { mixed.wrapping_add(1) } else { mixed };
        self.saved.accepted = None;
        true
    }

    /// The peer was seen switched off: whatever it was promised, it acts no more.
    pub(super) fn forget_lease_of(&mut self, node: Node) {
        if self.lease.is_some_and(|lease| lease.holder == node) {
            self.lease = None;
        }
        // The other node is the only one whose lease could have been forgotten in a restart.
        self.quiet_until = 0;
    }

    fn prepare(&mut self, from: Node, ballot: Ballot, lease: LeaseRule, now: Millis) -> (Reply, bool) {
        if ballot < self.saved.promised {
            return (Reply::Outbid, false);
        }
        if lease == LeaseRule::MustBeOver
            && let Some(left_ms) = self.left_for(from, now)
        {
            return (Reply::Leased { left_ms }, false);
        }
        let changed = ballot != self.saved.promised;
        self.saved.promised = ballot;
        (Reply::Promised { accepted: self.saved.accepted.clone() }, changed)
    }

    fn accept(
        &mut self,
        from: Node,
        ballot: Ballot,
        record: Record,
        rule: LeaseRule,
        now: Millis,
    ) -> (Reply, bool) {
        if ballot < self.saved.promised {
            return (Reply::Outbid, false);
        }
        if let Some((had, _)) = &self.saved.accepted
            && *had == ballot
        {
            return (Reply::Accepted, false);
        }
        let over = match rule {
            LeaseRule::Forced => None,
            LeaseRule::MustBeOver => self.left_for(from, now),
            // Also a takeover that is only being written back by a reader must wait for the lease.
            LeaseRule::Whatever => self.left_against(from, &record, now),
        };
        if let Some(left_ms) = over {
            return (Reply::Leased { left_ms }, false);
        }
        if self.lease.is_some_and(|lease| lease.term < record.term) {
            self.lease = None;
        }
        self.saved.promised = ballot;
        self.saved.accepted = Some((ballot, record));
        (Reply::Accepted, true)
    }

    fn renew(&mut self, from: Node, term: Term, hold_ms: Millis, now: Millis) -> (Reply, bool) {
        if let Some((_, record)) = &self.saved.accepted
            && (record.term > term || (record.term == term && record.primary != Some(from)))
        {
            return (Reply::Deposed { record: record.clone() }, false);
        }
        let until = now.saturating_add(hold_ms);
        match &mut self.lease {
            // A late renewal of an older term, or one overtaken by a later one, shortens nothing.
            Some(lease) if lease.term > term => {}
            Some(lease) if lease.term == term => lease.until = lease.until.max(until),
            lease => *lease = Some(Lease { holder: from, term, until }),
        }
        let changed = self.saved.hold_ms != hold_ms;
        self.saved.hold_ms = hold_ms;
        (Reply::Renewed, changed)
    }

    /// How long a takeover by `node` must still wait.
    fn left_for(&self, node: Node, now: Millis) -> Option<Millis> {
        let lease = self.lease.filter(|lease| lease.holder != node).map_or(0, |lease| lease.until);
        let until = lease.max(self.quiet_until);
        (until > now).then(|| until - now)
    }

    /// How long `record` must still wait because with it `from` takes the place of another node that may hold a
    /// lease. A holder that proposes its successor has stopped, and one that writes its own end back agrees.
    fn left_against(&self, from: Node, record: &Record, now: Millis) -> Option<Millis> {
        if record.primary != Some(from) {
            return None;
        }
        let lease = self.lease.filter(|lease| lease.holder != from && lease.term < record.term);
        let replaces = |(_, had): &(Ballot, Record)| had.term < record.term && had.primary != Some(from);
        let quiet = if self.accepted().is_some_and(replaces) { self.quiet_until } else { 0 };
        let until = lease.map_or(0, |lease| lease.until).max(quiet);
        (until > now).then(|| until - now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Millis = 3_200;

    fn acceptor() -> Acceptor {
        Acceptor::new(None, 1, HOLD, 0)
    }

    fn ballot(round: u64, node: Node) -> Ballot {
        Ballot { round, node: Some(node) }
    }

    fn accept(round: u64, node: Node, record: &Record, lease: LeaseRule) -> Ask {
        Ask::Accept { ballot: ballot(round, node), record: record.clone(), lease }
    }

    #[test]
    fn a_takeover_is_neither_prepared_nor_accepted_while_the_lease_runs() {
        let mut voter = acceptor();
        let record = Record::created(Node::A);
        voter.answer(Node::A, accept(1, Node::A, &record, LeaseRule::Whatever), 0);
        voter.answer(Node::A, Ask::Renew { term: Term(1), hold_ms: HOLD }, 10_000);
        let prepare = Ask::Prepare { ballot: ballot(2, Node::B), lease: LeaseRule::MustBeOver };
        assert_eq!(voter.answer(Node::B, prepare.clone(), 13_199), (Reply::Leased { left_ms: 1 }, false));
        assert_eq!(voter.answer(Node::B, Ask::PreVote, 13_199).0, Reply::Leased { left_ms: 1 });
        assert!(matches!(voter.answer(Node::B, prepare, 13_200).0, Reply::Promised { .. }));
        voter.answer(Node::A, Ask::Renew { term: Term(1), hold_ms: HOLD }, 13_201);
        let taken = Record { primary: Some(Node::B), term: Term(2), ..record };
        for rule in [LeaseRule::MustBeOver, LeaseRule::Whatever] {
            let reply = voter.answer(Node::B, accept(2, Node::B, &taken, rule), 13_202).0;
            assert_eq!(reply, Reply::Leased { left_ms: 3_199 }, "{rule:?}");
        }
        assert_eq!(
            voter.answer(Node::B, accept(2, Node::B, &taken, LeaseRule::Forced), 13_203).0,
            Reply::Accepted
        );
        let late = voter.answer(Node::A, Ask::Renew { term: Term(1), hold_ms: HOLD }, 13_204).0;
        assert_eq!(late, Reply::Deposed { record: taken });
    }

    #[test]
    fn a_restarted_grantor_waits_one_hold_before_a_takeover() {
        let mut voter = acceptor();
        assert_eq!(
            voter.answer(Node::A, Ask::Renew { term: Term(1), hold_ms: 6_200 }, 1),
            (Reply::Renewed, true)
        );
        let mut again = Acceptor::new(Some(voter.saved().clone()), 2, HOLD, 100);
        assert_eq!(again.answer(Node::B, Ask::PreVote, 6_299).0, Reply::Leased { left_ms: 1 });
        assert!(matches!(again.answer(Node::B, Ask::PreVote, 6_300).0, Reply::WouldGrant { .. }));
    }

    #[test]
    fn a_lower_ballot_than_promised_changes_nothing() {
        let mut voter = acceptor();
        let prepare = |round, node| Ask::Prepare { ballot: ballot(round, node), lease: LeaseRule::Whatever };
        voter.answer(Node::B, prepare(2, Node::B), 0);
        let before = voter.clone();
        assert_eq!(voter.answer(Node::A, prepare(2, Node::A), 0), (Reply::Outbid, false));
        let late = accept(2, Node::A, &Record::created(Node::A), LeaseRule::Whatever);
        assert_eq!(voter.answer(Node::A, late, 0), (Reply::Outbid, false));
        assert_eq!(voter, before);
    }

    #[test]
    fn a_given_up_lease_lets_the_peer_in_at_once() {
        let mut voter = acceptor();
        voter.answer(Node::A, Ask::Renew { term: Term(1), hold_ms: HOLD }, 10_000);
        voter.answer(Node::B, Ask::Release { term: Term(9) }, 10_001);
        assert_eq!(voter.answer(Node::B, Ask::PreVote, 10_002).0, Reply::Leased { left_ms: 3_198 });
        voter.answer(Node::A, Ask::Release { term: Term(1) }, 10_003);
        assert!(matches!(voter.answer(Node::B, Ask::PreVote, 10_004).0, Reply::WouldGrant { .. }));
    }

    #[test]
    fn a_store_that_went_back_in_time_takes_a_new_identity() {
        let mut voter = acceptor();
        let known = |round| Some(Known { store: 1, promised: ballot(round, Node::A) });
        let prepare = Ask::Prepare { ballot: ballot(5, Node::A), lease: LeaseRule::Whatever };
        voter.answer(Node::A, prepare, 0);
        assert!(!voter.went_back(known(5), 77), "in order");
        assert!(voter.went_back(known(6), 77));
        assert_ne!(voter.saved().store, 1);
        assert!(!voter.went_back(known(6), 77), "the new identity has no past");
    }
}
