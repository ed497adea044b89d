//! Questions that change no record: renew, release, pre-vote.
//!
//! The rule protected: a lease counts only when a quorum of grantors has extended it, from the moment the
//! renewal was sent. Every takeover asks a quorum, which shares a voter with that of the lease.

use std::collections::{BTreeMap, BTreeSet};

use super::quorum::{Agreed, Electorate, Vote, Votes};
use crate::member::Voter;
use crate::message::{Ask, Reply};
use crate::record::{Record, Term};
use crate::store::{Outcome, RequestId};
use crate::timing::Millis;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Question {
    Renew { term: Term, hold_ms: Millis },
    Release { term: Term },
    PreVote,
}

impl Question {
    /// In the acceptors' language.
    pub(super) const fn ask(self) -> Ask {
        match self {
            Self::Renew { term, hold_ms } => Ask::Renew { term, hold_ms },
            Self::Release { term } => Ask::Release { term },
            Self::PreVote => Ask::PreVote,
        }
    }
}

/// A question in progress.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Poll {
    pub(super) id: RequestId,
    pub(super) question: Question,
    pub(super) sent_at: Millis,
    pub(super) deadline: Millis,
    pub(super) agreed: Agreed,
    votes: Votes,
    leased: BTreeMap<Voter, Millis>,
    heard: BTreeSet<Voter>,
}

/// How a question goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Wait,
    Done(Outcome),
    /// A newer term is accepted somewhere: find out whether it is committed.
    Settle,
}

impl Poll {
    pub(super) const fn new(id: RequestId, question: Question, now: Millis, deadline: Millis) -> Self {
        Self {
            id,
            question,
            sent_at: now,
            deadline,
            agreed: Agreed::new(),
            votes: Votes::new(),
            leased: BTreeMap::new(),
            heard: BTreeSet::new(),
        }
    }

    /// Whether this voter has answered.
    pub(super) fn answered(&self, voter: Voter) -> bool {
        self.heard.contains(&voter)
    }

    /// An answer. `record`: the newest known to be committed. `lone`: the own vote suffices.
    pub(super) fn reply(
        &mut self,
        from: Voter,
        store: u64,
        reply: Reply,
        electorate: Electorate,
        record: Option<&Record>,
        lone: bool,
    ) -> Next {
        self.heard.insert(from);
        match (self.question, reply) {
            (Question::Renew { .. }, Reply::Renewed) | (Question::Release { .. }, Reply::Released) => {
                self.agreed.insert(from, store);
                if !electorate.leases(&self.agreed, record, lone) {
                    return Next::Wait;
                }
                Next::Done(match self.question {
                    Question::Release { .. } => Outcome::Released,
                    _ => Outcome::Renewed { sent_at: self.sent_at },
                })
            }
            (Question::Renew { .. }, Reply::Deposed { .. }) => Next::Settle,
            (Question::PreVote, Reply::WouldGrant { accepted }) => {
                self.votes.insert(from, Vote { store, accepted });
                if !electorate.may_propose(&self.votes, lone) {
                    return Next::Wait;
                }
                let newest = Electorate::newest(&self.votes).map(|(_, record)| record.clone());
                Next::Done(Outcome::WouldGrant(newest.unwrap_or_default()))
            }
            (Question::PreVote, Reply::Leased { left_ms }) => {
                self.leased.insert(from, left_ms);
                let open = electorate.all().filter(|voter| !self.leased.contains_key(voter)).count();
                if open >= 2 && from != electorate.own() {
                    Next::Wait
                } else {
                    Next::Done(self.out_of_time())
                }
            }
            _ => Next::Wait,
        }
    }

    /// How it ends when nothing more comes.
    pub(super) fn out_of_time(&self) -> Outcome {
        let longest = self.leased.iter().map(|(voter, left_ms)| (*left_ms, *voter)).max();
        match longest {
            Some((left_ms, by)) => Outcome::Leased { by, left_ms },
            None => Outcome::NoMajority { heard: self.heard.iter().copied().collect() },
        }
    }
}
