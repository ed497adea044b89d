//! What the manager needs from whoever keeps the record: a linearizable register with compare-and-swap, and a
//! lease for the incumbent. Two implementations pass the same conformance tests: the bundled one
//! (A, B and the witness as acceptors) and etcd.

use serde::{Deserialize, Serialize};

use crate::member::Voter;
use crate::record::{Record, Term, Version};
use crate::timing::Millis;

/// Names one operation until it is answered; never reused by a running manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub u64);

/// What the manager asks of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The newest committed record, as of some moment after the question.
    Read,
    /// Replace the record if its version still is `expect`.
    Swap {
        /// Version that must be current.
        expect: Version,
        /// The new record; its version is `expect + 1`, or that of a leap ([`crate::record::leap_beyond`]).
        record: Record,
        /// What else must hold.
        lease: LeaseRule,
    },
    /// Extend the lease of this node, the primary of this term.
    Renew {
        /// The term it believes to be primary of.
        term: Term,
    },
    /// Give the lease up at once: a clean goodbye. Nothing of this node acts any more.
    Release {
        /// The term it gives up.
        term: Term,
    },
    /// Would a takeover be voted for now? Disturbs nobody.
    PreVote,
    /// The manager has seen the peer switched off by its fence device. Until the peer is heard again this
    /// stands for its vote where votes are counted so (`Quorum::Fencing`). Refused ([`Outcome::NotMet`]) by a
    /// store that has not talked with the peer's since its own start: a node that boots alone with an old record
    /// could otherwise shoot the good one and go on with old data.
    PeerFenced,
    /// What this node's own vote says, without asking anybody: what an operator's order goes out from where the own
    /// vote suffices for it.
    OwnVote,
}

/// Whether a change needs the incumbent's lease to be over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LeaseRule {
    /// The proposer is the incumbent, or the change moves nobody.
    Whatever,
    /// A takeover: every grantor asked must have seen the incumbent's lease run out.
    MustBeOver,
    /// An operator's order: the lease is ignored. A majority is still needed where there is a witness or etcd;
    /// with two voters the own vote suffices, and the record must leap beyond what the other may record alone.
    Forced,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This is committed: the answer to a read, or the record that a swap wrote.
    Committed(Record),
    /// The swap or renewal was not done and never will be: this other record is committed.
    Conflict(Record),
    /// The lease is extended, by a majority, counted from when the renewal was sent.
    Renewed {
        /// When the renewal was sent.
        sent_at: Millis,
    },
    /// The lease is given up.
    Released,
    /// Not done and never will be: the incumbent's lease still runs at some grantor.
    Leased {
        /// Who said so.
        by: Voter,
        /// How long it still runs there, at most.
        left_ms: Millis,
    },
    /// A majority would vote for a takeover now.
    WouldGrant(Record),
    /// Too few voters answered, and it was certainly not done: nothing was proposed yet.
    NoMajority {
        /// Who did answer.
        heard: Vec<Voter>,
    },
    /// Too few voters answered and it may still be done. Only a later committed change tells; the manager
    /// resolves it by a no-op that raises the version, never by a plain read.
    Unknown,
    /// The fencing of the peer stands for its vote.
    Fenced,
    /// The fencing does not count: the peer's store was not heard since this one started.
    NotMet,
    /// What the own vote says.
    OwnVote {
        /// Accepted last, committed or not; `None` from an empty store.
        record: Option<Record>,
        /// The highest round of a ballot that was seen anywhere.
        highest: u64,
    },
}

/// Keeps the record. A state machine: operations and events in, effects out.
pub trait RecordStore {
    /// What reaches it from outside (messages of voters, durability, answers of etcd).
    type Event;
    /// What it wants done (messages, durable storing, requests to etcd), and finished operations.
    type Effect;

    /// Begins an operation. It ends in exactly one [`Outcome`], within the store's own deadline.
    fn submit(&mut self, id: RequestId, op: Op, now: Millis, out: &mut Vec<Self::Effect>);
    /// Takes an event.
    fn handle(&mut self, event: Self::Event, now: Millis, out: &mut Vec<Self::Effect>);
    /// When it next wants [`RecordStore::tick`], if it waits for something.
    fn deadline(&self) -> Option<Millis>;
    /// The time has come.
    fn tick(&mut self, now: Millis, out: &mut Vec<Self::Effect>);
}
