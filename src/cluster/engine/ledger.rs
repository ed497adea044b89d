//! What is known to be committed, and the operations of the store that are under way.
//!
//! Rules: one operation of each kind at a time; an answer counts only for the request it names; a swap whose
//! outcome is unknown leaves a doubt that only a committed change of a higher version takes away.

use super::proposal::{Proposal, Purpose};
use super::{Engine, log};
use crate::config::Quorum;
use crate::event::{Action, LogLevel};
use crate::member::Voter;
use crate::record::{Record, Term, Version};
use crate::store::{Op, Outcome, RequestId};
use crate::timing::Millis;

/// A store that has not answered for this long, beside its own deadline, never will: its answer is counted as
/// unknown. The shell promises an answer; this is the net below.
const STORE_LOST_MS: Millis = 10_000;

/// An operation that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) id: RequestId,
    pub(super) deadline: Millis,
}

/// A swap that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Swap {
    pub(super) pending: Pending,
    pub(super) purpose: Purpose,
    pub(super) expect: Version,
}

/// The record as far as it is known here.
#[derive(Debug)]
pub(super) struct Ledger {
    /// The newest record known to be committed.
    pub(super) record: Option<Record>,
    /// A read has been answered: without a record there is none.
    pub(super) read: bool,
    pub(super) reading: Option<Pending>,
    /// What the own vote said when the record could not be read for want of the other of two voters.
    pub(super) own: Option<Record>,
    pub(super) looking: Option<Pending>,
    /// When to read (again).
    pub(super) read_at: Option<Millis>,
    pub(super) swap: Option<Swap>,
    /// A swap of this version may still be committed.
    pub(super) doubt: Option<Version>,
    /// The term under which this reign was last proposed to go on.
    pub(super) reign: Option<Term>,
    /// No swap before this: too few voters answered just now.
    pub(super) pause_until: Millis,
    /// The last operation that needed a majority found one; who answered when it did not.
    pub(super) majority: Result<(), Vec<Voter>>,
}

impl Ledger {
    pub(super) fn new(now: Millis) -> Self {
        Self {
            record: None,
            read: false,
            reading: None,
            own: None,
            looking: None,
            read_at: Some(now),
            swap: None,
            doubt: None,
            reign: None,
            pause_until: now,
            majority: Ok(()),
        }
    }
}

impl Engine {
    pub(super) fn begin_store(&mut self, op: Op, now: Millis, out: &mut Vec<Action>) -> Pending {
        let id = self.request_id();
        out.push(Action::Store { id, op });
        Pending { id, deadline: now + self.config.timing.store_timeout_ms * 4 + STORE_LOST_MS }
    }

    pub(super) fn step_read(&mut self, now: Millis, out: &mut Vec<Action>) {
        let due = self.ledger.read_at.is_some_and(|at| at <= now);
        if !due || self.ledger.reading.is_some() {
            return;
        }
        self.ledger.read_at = None;
        self.ledger.reading = Some(self.begin_store(Op::Read, now, out));
    }

    /// Reads again soon, unless a read is already planned earlier.
    pub(super) fn read_again(&mut self, at: Millis) {
        self.ledger.read_at = Some(self.ledger.read_at.map_or(at, |planned| planned.min(at)));
    }

    pub(super) fn store_done(&mut self, id: RequestId, outcome: Outcome, now: Millis, out: &mut Vec<Action>) {
        let is = |pending: &Option<Pending>| pending.is_some_and(|p| p.id == id);
        if self.config.quorum == Quorum::Etcd
            && !matches!(outcome, Outcome::NoMajority { .. } | Outcome::Unknown)
        {
            self.peer.witness_at = Some(now);
        }
        if is(&self.ledger.reading) {
            self.ledger.reading = None;
            self.read_done(outcome, now, out);
        } else if is(&self.lease.renewing) {
            self.lease.renewing = None;
            self.renew_done(outcome, now, out);
        } else if self.ledger.swap.as_ref().is_some_and(|s| s.pending.id == id) {
            if let Some(swap) = self.ledger.swap.take() {
                self.swap_done(&swap, outcome, now, out);
            }
        } else if is(&self.bid.asking) {
            self.bid.asking = None;
            self.bid_answered(outcome, now, out);
        } else if is(&self.bid.probing) {
            self.bid.probing = None;
        } else if is(&self.ledger.looking) {
            self.ledger.looking = None;
            self.own_vote_seen(outcome);
        } else if let Some(ending) = &mut self.ending {
            ending.released(id);
        }
    }

    fn read_done(&mut self, outcome: Outcome, now: Millis, out: &mut Vec<Action>) {
        match outcome {
            Outcome::Committed(record) => {
                self.ledger.read = true;
                self.ledger.majority = Ok(());
                self.turn();
                self.learn(record, now, out);
            }
            other => {
                self.note_majority(&other);
                self.read_again(now + self.config.timing.renew_ms);
                self.look_at_own_vote(now, out);
            }
        }
    }

    /// Who answered, when too few did.
    pub(super) fn note_majority(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::NoMajority { heard } => self.ledger.majority = Err(heard.clone()),
            Outcome::Unknown => self.ledger.majority = Err(Vec::new()),
            _ => self.ledger.majority = Ok(()),
        }
    }

    /// A record is known to be committed. Older ones tell nothing.
    pub(super) fn learn(&mut self, record: Record, now: Millis, out: &mut Vec<Action>) {
        let known = self.record().map(|r| r.version).unwrap_or_default();
        if record.version <= known || record.primary.is_none() {
            return;
        }
        self.turn();
        // With two voters it does not count as read before the peer's vote has answered to the question: only after
        // that a fencing stands for its vote.
        let hearsay_will_do = matches!(self.config.quorum, Quorum::Witness | Quorum::Etcd);
        self.ledger.read |= hearsay_will_do;
        // One version has one content: whatever was proposed for an older one happened before this, or never will.
        if self.ledger.doubt.is_some_and(|expect| record.version > expect) {
            self.ledger.doubt = None;
        }
        let before = self.ledger.record.replace(record.clone());
        self.tell_change(before.as_ref(), &record, out);
        self.intent_changed(before.as_ref(), &record, now);
        self.voice.hurry();
    }

    fn tell_change(&self, before: Option<&Record>, record: &Record, out: &mut Vec<Action>) {
        if before.is_none_or(|b| b.term != record.term) {
            let primary = record.primary.map_or("nobody", |p| self.name(p));
            log(
                out,
                LogLevel::Info,
                format!(
                    "term {}: the primary is {primary} (record version {})",
                    record.term.0, record.version.0
                ),
            );
        }
        if let Some(b) = before
            && b.synced != record.synced
        {
            log(
                out,
                LogLevel::Info,
                format!("record: up to date {} (version {})", self.names_of(record.synced), record.version.0),
            );
        }
    }

    pub(super) fn expire_store(&mut self, now: Millis, out: &mut Vec<Action>) {
        let swap = self.ledger.swap.as_ref().map(|s| s.pending);
        let (reading, looking) = (self.ledger.reading, self.ledger.looking);
        let all = [reading, looking, self.lease.renewing, swap, self.bid.asking, self.bid.probing];
        for lost in all.into_iter().flatten().filter(|p| p.deadline <= now) {
            log(out, LogLevel::Warn, "the store has not answered an operation; counted as unknown");
            self.store_done(lost.id, Outcome::Unknown, now, out);
        }
    }

    /// Begins a swap; the caller has seen that none is under way.
    pub(super) fn propose(&mut self, proposal: Proposal, now: Millis, out: &mut Vec<Action>) {
        let Proposal { purpose, expect, record, lease } = proposal;
        if matches!(purpose, Purpose::Intend { .. }) {
            self.tally.sent();
        }
        if purpose == Purpose::Reign {
            self.ledger.reign = Some(record.term);
        }
        let pending = self.begin_store(Op::Swap { expect, record, lease }, now, out);
        self.ledger.swap = Some(Swap { pending, purpose, expect });
    }
}
