//! The record: the one small value that all voters agree on, and the only changes of it that are allowed.
//!
//! | change | who | what it says |
//! |---|---|---|
//! | create | anybody, once | version 1, term 1, the first primary alone is up to date |
//! | degrade | the primary of this very term | the peer may lack acknowledged writes: `synced = {self}` |
//! | rejoin | the primary of this very term | the peer has them all again: `synced = {A, B}` |
//! | take over | a node in `synced`, only when the incumbent's lease has run out | term+1, primary = self, `synced = {self}` |
//! | hand over | the primary of this very term, after it has stopped writing | term+1, primary = peer, `synced` as it is |
//! | intend | anybody | operator's intent and counters; nothing about data |
//! | force | an operator | term+1, primary = any node: may lose writes; leaves a tombstone for the other |
//! | admit | a store, both data nodes voting | the witness loses its vote, or one of a new identity gets it |
//!
//! Every change raises `version` by one and is applied by compare-and-swap on the version. Only an order that one vote
//! of two carries out leaps ([`leap_beyond`]).

mod leap;
mod transition;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::member::{Node, Nodes};

pub use leap::{LEAP, leap_beyond};
pub use transition::TransitionError;

/// Counts changes of the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u64);

/// Counts changes of the primary; every replicated write carries it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Term(pub u64);

/// The record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Number of this change; 0 before the first.
    pub version: Version,
    /// Number of the present primary's reign.
    pub term: Term,
    /// The node that may write; `None` only before the first.
    pub primary: Option<Node>,
    /// S: the nodes known to hold every acknowledged write.
    pub synced: Nodes,
    /// Identity of the witness that counts as a voter; another one must be admitted by both data nodes first.
    pub witness: Option<u64>,
    /// What operators want, and what was counted.
    pub intent: Intent,
}

/// What operators want, so that all nodes agree on it. Nothing here can cost data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// Nodes on which the stack must not run.
    pub standby: Nodes,
    /// Resources are left alone: neither started, stopped nor recovered.
    pub maintenance: bool,
    /// No automatic failover until `resume`; why.
    pub hold: Option<String>,
    /// Failures of each resource on each node since the last cleanup or quiet window.
    pub failures: BTreeMap<String, Failures>,
    /// Automatic failovers for a failed resource in the current window.
    pub failovers: u32,
    /// Nodes whose data an operator has overruled: they come back as diverged, their data is kept aside until
    /// an operator says otherwise.
    pub diverged: Nodes,
}

/// Failures of one resource by node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Failures {
    /// On the first host.
    pub a: u32,
    /// On the second host.
    pub b: u32,
}
