//! The bundled record store: A, B and the witness keep the record among themselves.
//!
//! Single-decree consensus on one value with compare-and-swap (CASPaxos, Rystsov 2018): no log, no leader. The
//! two data nodes propose, all voters accept. Every operation is a round of two phases; a read writes back what
//! it found. What is committed forms one chain: a round that gathers promises from a quorum sees every value that
//! an earlier round may have committed, because any two quorums have a voter in common, and proposes either that
//! value again or its successor.
//!
//! # Who counts
//!
//! - **Witness**: two of A, B, W. The witness counts only under the identity that the record names. A witness that
//!   lost its store or went back in time has another identity; it is exchanged in two changes, each committed by A
//!   *and* B: first the record names no witness, then the new one. The electorates of neighbouring records,
//!   {A, B, old}, {A, B}, {A, B, new}, differ by one voter, so their quorums always meet, even if the old witness
//!   still runs somewhere. The store of the primary does this by itself when both data nodes are there.
//! - **Empty stores**: the promise of a data node whose store is empty proves nothing (its disk may have been
//!   replaced), so it is not counted before it has accepted a record. Only when every voter is empty is there
//!   nothing to be lost: that is when the first record may be created.
//! - **Fencing** (no witness): A and B. The vote of a peer that was seen switched off is not needed: what is off
//!   can neither acknowledge a write nor vote. When it boots it must first talk with us, by which it learns of
//!   all that happened, before it may count a fencing of us ([`crate::store::Op::PeerFenced`]).
//! - **Manual** (no witness, no fencing): a change that moves the primary needs A and B. A change by the incumbent
//!   that moves nobody needs only its own vote: every quorum then contains the incumbent, {A} or {A, B}, so
//!   quorums still meet. Nobody takes over automatically, so an incumbent cannot be replaced without its own
//!   vote, except by an operator's order. This is why it first has to hear the peer after each start: the order
//!   may have been given while it was away. A change that moves the primary counts as made only once both have
//!   it, and who was the incumbent is only what is known to be committed; a half-made hand-over lets neither go
//!   on alone. No write is lost: a lone `degrade` is durable at the incumbent, the only one that may write.
//! - **Forced** with two voters: the operator's word replaces the peer's vote, even where the peer was never heard.
//!   The order goes out from the own vote, and its ballot, version and term leap beyond all that the peer could have
//!   reached alone ([`crate::record::leap_beyond`]), so that, when they meet, the order wins; the peer's data is
//!   marked as overruled in the record. Of two orders, one on each side, the farther leap wins, which is the later
//!   one if the clocks are right: its record marks the other side. A store that has seen a ballot from beyond a leap does nothing alone
//!   before it has that order. With a witness an order needs a majority like every other change.
//!
//! # What is assumed
//!
//! Stores do not lie. A message from before a data node's disk was replaced does not arrive after it. A witness
//! restored from a snapshot is found out by the first data node that has seen it later, which is the primary at
//! its next renewal; if it is restored, and the primary dies before that renewal, the other node cannot know.

mod acceptor;
mod bundled;
mod journal;
mod poll;
mod proposer;
mod quorum;
mod witness;

use crate::event::LogLevel;
use crate::member::Voter;
use crate::message::Register;
use crate::store::{Outcome, RequestId};

pub use acceptor::Saved as SavedVote;
pub use bundled::{Bundled, Saved};
pub use witness::Witness;

/// What reaches a member of the bundled store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Another member's message; who sent it is known from its certificate.
    Received {
        /// Who.
        from: Voter,
        /// What.
        message: Register,
    },
    /// The state handed out under this number is durable, and all before it.
    Persisted {
        /// Which.
        seq: u64,
    },
}

/// What a member of the bundled store wants done, in order; `S` is what it stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<S = Saved> {
    /// Send, once, to whom it may reach; lost messages are asked for again.
    Send {
        /// To whom.
        to: Voter,
        /// What.
        message: Register,
    },
    /// Store this durably in place of what was stored before, then say [`Event::Persisted`]. A newer state
    /// includes the older ones, so only the newest need be stored.
    Persist {
        /// Named in the answer.
        seq: u64,
        /// What.
        saved: S,
    },
    /// An operation is over.
    Done {
        /// Which.
        id: RequestId,
        /// How.
        outcome: Outcome,
    },
    /// One line of the log.
    Log {
        /// How much it matters.
        level: LogLevel,
        /// The sentence.
        text: String,
    },
}
