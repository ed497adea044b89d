//! One operation on the record: rounds of two phases until it is decided, given up or out of time.
//!
//! Rules protected here: a value is proposed only after the promises of a quorum, and is either the newest found
//! or its successor; an answer counts only for the very question it was given to (fresh number for each phase of
//! each attempt, so late and repeated answers are harmless); what may still be committed is `Unknown`, never
//! `NoMajority`.

use std::collections::{BTreeMap, BTreeSet};

use super::quorum::{Agreed, Electorate, Vote, Votes};
use crate::member::Voter;
use crate::message::{Ask, Ballot, Reply};
use crate::record::{Record, Version};
use crate::store::{LeaseRule, Outcome, RequestId};
use crate::timing::Millis;

/// Rounds of one operation. More would not fit into its deadline; two proposers are apart after two or three.
const ATTEMPTS_MAX: u32 = 8;

/// What the operation is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Job {
    /// Find what is committed.
    Read,
    /// An acceptor has refused a renewal because of a newer term: commit what it has, and say so.
    Settle,
    /// Compare and swap.
    Swap {
        /// Version that must be current.
        expect: Version,
        /// Its successor.
        record: Record,
        /// What else must hold.
        lease: LeaseRule,
    },
}

/// An operation in progress.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Round {
    /// Who asked; `None` for the store itself.
    pub(super) id: Option<RequestId>,
    pub(super) job: Job,
    pub(super) deadline: Millis,
    pub(super) phase: Phase,
    /// Rounds begun.
    pub(super) attempt: u32,
    /// Our record may have been accepted somewhere.
    proposed: bool,
    heard: BTreeSet<Voter>,
    refused: BTreeMap<Voter, Refusal>,
}

/// Where a round is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// Begins, or begins again, then.
    Waits {
        /// When.
        until: Millis,
    },
    /// Gathers promises.
    Prepares { ballot: Ballot, votes: Votes },
    /// Gathers votes for a value.
    Accepts(Box<Proposal>),
}

/// A value that is voted on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Proposal {
    ballot: Ballot,
    /// The value it follows.
    base: Option<Record>,
    pub(super) value: Record,
    lease: LeaseRule,
    agreed: Agreed,
    /// What it means when the value is committed.
    end: Ending,
}

/// What a committed value means for the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ending {
    Committed,
    Conflict,
    Unknown,
}

/// Why a voter refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Refusal {
    Outbid,
    Leased(Millis),
}

/// What a round wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Answers.
    Wait,
    /// This asked, as a new question.
    Ask(Ask, Reach),
    /// The question that is open also asked of the own acceptor.
    AlsoOwn,
    /// Begin again with a higher ballot after some time.
    Again,
    /// It is over.
    Done(Outcome),
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    All,
    /// Only the others: the own acceptor follows when one of them has agreed.
    Others,
}

impl Round {
    pub(super) fn new(id: Option<RequestId>, job: Job, now: Millis, deadline: Millis) -> Self {
        Self {
            id,
            job,
            deadline,
            phase: Phase::Waits { until: now },
            attempt: 0,
            proposed: false,
            heard: BTreeSet::new(),
            refused: BTreeMap::new(),
        }
    }

    /// What must hold about the lease for its promises.
    pub(super) const fn lease(&self) -> LeaseRule {
        match self.job {
            Job::Read | Job::Settle => LeaseRule::Whatever,
            Job::Swap { lease, .. } => lease,
        }
    }

    /// Begins a round with this ballot.
    pub(super) fn begin(&mut self, ballot: Ballot) -> Next {
        self.attempt += 1;
        self.refused.clear();
        self.phase = Phase::Prepares { ballot, votes: Votes::new() };
        Next::Ask(Ask::Prepare { ballot, lease: self.lease() }, Reach::All)
    }

    /// Begins again then.
    pub(super) fn wait(&mut self, until: Millis) -> Next {
        if self.attempt >= ATTEMPTS_MAX {
            return Next::Done(self.out_of_time());
        }
        self.phase = Phase::Waits { until };
        Next::Wait
    }

    /// Whether this voter has answered the open question.
    pub(super) fn answered(&self, voter: Voter) -> bool {
        self.refused.contains_key(&voter)
            || match &self.phase {
                Phase::Waits { .. } => true,
                Phase::Prepares { votes, .. } => votes.contains_key(&voter),
                Phase::Accepts(proposal) => proposal.agreed.contains_key(&voter),
            }
    }

    /// The open question, to be asked again of those who have not answered.
    pub(super) fn question(&self) -> Option<Ask> {
        match &self.phase {
            Phase::Waits { .. } => None,
            Phase::Prepares { ballot, .. } => Some(Ask::Prepare { ballot: *ballot, lease: self.lease() }),
            Phase::Accepts(p) => {
                Some(Ask::Accept { ballot: p.ballot, record: p.value.clone(), lease: p.lease })
            }
        }
    }

    /// An answer to the open question. `lone`: the own vote suffices, as things are now.
    pub(super) fn reply(
        &mut self,
        from: Voter,
        store: u64,
        reply: Reply,
        electorate: Electorate,
        lone: bool,
    ) -> Next {
        self.heard.insert(from);
        let next = self.take(from, store, reply, electorate, lone);
        let all = electorate.all().all(|voter| self.answered(voter));
        // Everybody has answered, and some answers do not count.
        if next == Next::Wait && all && !self.refused.is_empty() { self.refused_by_all() } else { next }
    }

    /// Whether a higher ballot stands in the way: asking the same again does not help.
    pub(super) fn outbid(&self) -> bool {
        self.refused.values().any(|refusal| *refusal == Refusal::Outbid)
    }

    fn take(&mut self, from: Voter, store: u64, reply: Reply, electorate: Electorate, lone: bool) -> Next {
        match (reply, &mut self.phase) {
            (Reply::Promised { accepted }, Phase::Prepares { votes, .. }) => {
                self.refused.remove(&from);
                votes.insert(from, Vote { store, accepted });
                self.weigh(electorate, lone)
            }
            (Reply::Accepted, Phase::Accepts(proposal)) => {
                let first = proposal.agreed.is_empty() && proposal.lease == LeaseRule::MustBeOver;
                proposal.agreed.insert(from, store);
                match self.count(electorate, lone) {
                    Next::Wait if first && from != electorate.own() => Next::AlsoOwn,
                    next => next,
                }
            }
            (Reply::Outbid, _) => self.refuse(from, Refusal::Outbid, electorate, lone),
            (Reply::Leased { left_ms }, _) => self.refuse(from, Refusal::Leased(left_ms), electorate, lone),
            _ => Next::Wait,
        }
    }

    /// How it ends when nothing more comes.
    pub(super) fn out_of_time(&self) -> Outcome {
        if self.proposed {
            return Outcome::Unknown;
        }
        let heard = self.heard.iter().copied().collect();
        self.leased().unwrap_or(Outcome::NoMajority { heard })
    }

    /// Promises of a quorum? Then propose the newest value or its successor.
    fn weigh(&mut self, electorate: Electorate, lone: bool) -> Next {
        let Phase::Prepares { ballot, votes } = &self.phase else { return Next::Wait };
        if !electorate.may_propose(votes, lone) {
            return Next::Wait;
        }
        let ballot = *ballot;
        let witness = votes.get(&Voter::Witness).map(|vote| vote.store);
        let base = Electorate::newest(votes).map(|(_, record)| record.clone());
        let version = base.as_ref().map_or(Version::default(), |base| base.version);
        let (value, lease, end) = match (&mut self.job, &base) {
            (Job::Read, None) => return Next::Done(Outcome::Committed(Record::default())),
            (Job::Settle, None) => return Next::Done(Outcome::Conflict(Record::default())),
            (Job::Read, Some(base)) => (base.clone(), LeaseRule::Whatever, Ending::Committed),
            (Job::Settle, Some(base)) => (base.clone(), LeaseRule::Whatever, Ending::Conflict),
            (Job::Swap { expect, record, lease }, base) if version == *expect => {
                if base.is_none() {
                    record.witness = witness;
                }
                (record.clone(), *lease, Ending::Committed)
            }
            // Not what was expected, and nothing there.
            (Job::Swap { .. }, None) => return Next::Done(Outcome::Conflict(Record::default())),
            (Job::Swap { expect, record, lease }, Some(base)) => {
                if self.proposed && base == record {
                    // Accepted somewhere in an earlier round.
                    (base.clone(), *lease, Ending::Committed)
                } else if self.proposed && version.0 > expect.0.saturating_add(1) {
                    // Others went on, perhaps from our record.
                    (base.clone(), LeaseRule::Whatever, Ending::Unknown)
                } else {
                    (base.clone(), LeaseRule::Whatever, Ending::Conflict)
                }
            }
        };
        self.proposed |= matches!(self.job, Job::Swap { .. }) && end == Ending::Committed;
        self.refused.clear();
        let ask = Ask::Accept { ballot, record: value.clone(), lease };
        self.phase =
            Phase::Accepts(Box::new(Proposal { ballot, base, value, lease, agreed: Agreed::new(), end }));
        // A takeover that is refused because of the lease must not stay behind in the own acceptor, where a
        // later round would find it and depose a healthy primary.
        let others = lease == LeaseRule::MustBeOver && !lone;
        Next::Ask(ask, if others { Reach::Others } else { Reach::All })
    }

    /// Votes of a quorum? Then it is committed.
    fn count(&self, electorate: Electorate, lone: bool) -> Next {
        let Phase::Accepts(proposal) = &self.phase else { return Next::Wait };
        let Proposal { base, value, agreed, end, .. } = &**proposal;
        if !electorate.committed(agreed, base.as_ref(), value, lone) {
            return Next::Wait;
        }
        Next::Done(match end {
            Ending::Committed => Outcome::Committed(value.clone()),
            Ending::Conflict => Outcome::Conflict(value.clone()),
            Ending::Unknown => Outcome::Unknown,
        })
    }

    fn refuse(&mut self, from: Voter, refusal: Refusal, electorate: Electorate, lone: bool) -> Next {
        self.refused.insert(from, refusal);
        let open = electorate.all().filter(|voter| !self.refused.contains_key(voter)).count();
        let own_open = !self.refused.contains_key(&electorate.own());
        let preparing = matches!(self.phase, Phase::Prepares { .. });
        // A proposer needs its own promise; an acceptance by the others will do.
        let possible = (open >= 2 && (own_open || !preparing)) || (lone && own_open);
        if possible { Next::Wait } else { self.refused_by_all() }
    }

    fn refused_by_all(&self) -> Next {
        match self.leased() {
            Some(_) if self.proposed => Next::Done(Outcome::Unknown),
            Some(leased) => Next::Done(leased),
            None => Next::Again,
        }
    }

    /// The longest lease that stood in the way.
    fn leased(&self) -> Option<Outcome> {
        let leases = self.refused.iter().filter_map(|(voter, refusal)| match refusal {
            Refusal::Leased(left_ms) => Some((*left_ms, *voter)),
            Refusal::Outbid => None,
        });
        leases.max().map(|(left_ms, by)| Outcome::Leased { by, left_ms })
    }
}
