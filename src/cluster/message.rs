//! What members say to each other. Every message may be lost, repeated, late or out of order; each says enough
//! to be understood alone. Who sent it is known from the connection's certificate, never from the message.

use serde::{Deserialize, Serialize};

use crate::control::{Command, CommandError, NodeView};
use crate::member::Node;
use crate::record::{Record, Term, Version};
use crate::store::{LeaseRule, RequestId};
use crate::timing::Millis;

/// The version of this language; members of different versions refuse each other with both numbers.
pub const PROTOCOL: u32 = 1;

/// Everything that one member says to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// A data host is alive. Sent on every path.
    Heartbeat(Box<Heartbeat>),
    /// A data host says goodbye: it has stopped everything and acts no more.
    Goodbye {
        /// The newest term it knows.
        term: Term,
    },
    /// A record that the sender knows to be committed, for a member whose heartbeats tell of an older version.
    /// Committed is committed: who learns it this way may believe it, though it never unlocks anything that only
    /// the answer to an own proposal may.
    Committed {
        /// The record.
        record: Record,
    },
    /// Between a proposer and an acceptor of the bundled store.
    Register(Register),
    /// An operator's command, passed on to the node that must do it.
    Ask {
        /// Named in the answer.
        request: RequestId,
        /// What.
        command: Command,
    },
    /// Its answer.
    Answer {
        /// The question.
        request: RequestId,
        /// Done (with a sentence for the operator), or why not.
        result: Result<String, CommandError>,
    },
}

/// A sign of life, with what the peer must know to plan and to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Increases with every heartbeat of this run of the manager.
    pub seq: u64,
    /// Random name of this run of the manager.
    pub incarnation: u64,
    /// The newest record it knows to be committed.
    pub version: Version,
    /// Its state.
    pub view: NodeView,
}

/// Orders proposals: first the counter, then who made it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// Round.
    pub round: u64,
    /// Proposer; `None` only in the zero ballot.
    pub node: Option<Node>,
}

/// The bundled register: single-decree consensus on one value (CASPaxos, Rystsov 2018), with the lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Register {
    /// A proposer asks an acceptor.
    Ask {
        /// Named in the answer; never used for anything else.
        request: RequestId,
        /// What the proposer remembers of the acceptor's store, by which one that went back in time learns of it.
        known: Option<Known>,
        /// The question proper.
        ask: Ask,
    },
    /// An acceptor answers.
    Reply {
        /// The question.
        request: RequestId,
        /// Identity of the acceptor's store; changes when it is lost.
        store: u64,
        /// Its highest promise, for finding a store that went back in time.
        promised: Ballot,
        /// The answer proper.
        reply: Reply,
    },
}

/// What is remembered of another voter's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Known {
    /// Its identity.
    pub store: u64,
    /// The highest promise seen from it.
    pub promised: Ballot,
}

/// What a proposer asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Phase 1.
    Prepare {
        /// Promise not to accept anything below.
        ballot: Ballot,
        /// Whether this leads to a takeover.
        lease: LeaseRule,
    },
    /// Phase 2.
    Accept {
        /// The proposal's number.
        ballot: Ballot,
        /// The value.
        record: Record,
        /// Whether this is a takeover.
        lease: LeaseRule,
    },
    /// Extend the lease of the sender.
    Renew {
        /// Term of which the sender is primary.
        term: Term,
        /// How long nobody else is to be let in, from when this is received.
        hold_ms: Millis,
    },
    /// The sender gives its lease up.
    Release {
        /// The term it gives up.
        term: Term,
    },
    /// Would a takeover be granted now?
    PreVote,
}

/// What an acceptor answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Promised; this was accepted last.
    Promised {
        /// Ballot and value.
        accepted: Option<(Ballot, Record)>,
    },
    /// Accepted, durably.
    Accepted,
    /// A higher promise stands in the way.
    Outbid,
    /// The incumbent's lease still runs here, or this grantor has restarted and waits.
    Leased {
        /// For how long, at most.
        left_ms: Millis,
    },
    /// The lease is extended.
    Renewed,
    /// The lease is not extended: a newer term is accepted here.
    Deposed {
        /// That record.
        record: Record,
    },
    /// The lease is given up.
    Released,
    /// A takeover would be granted.
    WouldGrant {
        /// Ballot and value accepted last.
        accepted: Option<(Ballot, Record)>,
    },
}
