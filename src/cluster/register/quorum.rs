//! Whose votes suffice. The rule protected: any two quorums that may decide have a voter in common that
//! remembers (see [`super`] for why, mode by mode).

use std::collections::BTreeMap;

use crate::config::Quorum;
use crate::member::{Node, Voter};
use crate::message::Ballot;
use crate::record::Record;

/// A promise, with what was accepted last by whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Vote {
    /// Identity of the voter's store.
    pub(super) store: u64,
    /// Accepted last; `None` from an empty store.
    pub(super) accepted: Option<(Ballot, Record)>,
}

/// Promises by voter.
pub(super) type Votes = BTreeMap<Voter, Vote>;
/// Who agreed, by identity of its store.
pub(super) type Agreed = BTreeMap<Voter, u64>;

/// Majority of three, and all of two.
pub(super) const ENOUGH: usize = 2;

/// Who votes, seen from one data node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Electorate {
    pub(super) own: Node,
    pub(super) quorum: Quorum,
}

impl Electorate {
    /// The voters other than this node's own acceptor.
    pub(super) fn others(self) -> impl Iterator<Item = Voter> {
        let witness = (self.quorum == Quorum::Witness).then_some(Voter::Witness);
        [Voter::from(self.own.peer())].into_iter().chain(witness)
    }

    /// This node's own acceptor.
    pub(super) fn own(self) -> Voter {
        self.own.into()
    }

    /// All voters, this node's own acceptor first.
    pub(super) fn all(self) -> impl Iterator<Item = Voter> {
        [self.own()].into_iter().chain(self.others())
    }

    /// The newest accepted value among members: data nodes, and the witness that the value itself names.
    pub(super) fn newest(votes: &Votes) -> Option<&(Ballot, Record)> {
        votes
            .iter()
            .filter_map(|(voter, vote)| {
                let accepted = vote.accepted.as_ref()?;
                let member = voter.node().is_some() || accepted.1.witness == Some(vote.store);
                member.then_some(accepted)
            })
            .max_by_key(|(ballot, _)| *ballot)
    }

    /// Whether these promises show every value that may have been committed. `lone`: the own vote suffices.
    pub(super) fn may_propose(self, votes: &Votes, lone: bool) -> bool {
        let Some(own) = votes.get(&self.own()) else { return false };
        let Some((_, newest)) = Self::newest(votes) else {
            // Nothing anywhere: only if that is certain.
            return self.all().all(|voter| votes.get(&voter).is_some_and(|vote| vote.accepted.is_none()));
        };
        if lone && own.accepted.is_some() {
            return true;
        }
        let counted = votes.iter().filter(|(voter, vote)| match voter.node() {
            Some(_) => vote.accepted.is_some(),
            None => self.admits(newest, vote.store),
        });
        // With two voters everything committed is at both, so that one of them may be empty.
        let both_of_two =
            self.quorum != Quorum::Witness && self.all().all(|voter| votes.contains_key(&voter));
        both_of_two || counted.count() >= ENOUGH
    }

    /// Whether `new`, proposed in place of `base`, is committed: a quorum of both electorates has accepted it.
    pub(super) fn committed(self, agreed: &Agreed, base: Option<&Record>, new: &Record, lone: bool) -> bool {
        if lone && agreed.contains_key(&self.own()) {
            return true;
        }
        let counted = agreed.iter().filter(|(voter, store)| {
            let by_base = base.is_none_or(|base| self.admits(base, **store));
            voter.node().is_some() || (by_base && self.admits(new, **store))
        });
        counted.count() >= ENOUGH
    }

    /// Whether these grantors suffice for a lease under `record`, if it is known.
    pub(super) fn leases(self, agreed: &Agreed, record: Option<&Record>, lone: bool) -> bool {
        if lone && agreed.contains_key(&self.own()) {
            return true;
        }
        let admitted = |store| record.is_some_and(|record| self.admits(record, store));
        agreed.iter().filter(|(voter, store)| voter.node().is_some() || admitted(**store)).count() >= ENOUGH
    }

    fn admits(self, record: &Record, store: u64) -> bool {
        self.quorum == Quorum::Witness && record.witness == Some(store)
    }
}
