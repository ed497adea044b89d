//! What is asked of etcd and what it answers, as plain data. Keys, JSON and HTTP are the shell's.
//!
//! Two keys: the record, and the lease of the primary, which is attached to a lease of etcd and goes with it.

use serde::{Deserialize, Serialize};

use crate::member::Node;
use crate::record::{Record, Term};

/// etcd's number of a change of anything in it; 0 for a key that is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// etcd's number of one of its leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// The value of the lease key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// Who may act,
    pub node: Node,
    /// as the primary of which term.
    pub term: Term,
}

/// A question to etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Both keys, by a linearizable read.
    Look,
    /// If all of this holds, do all of that, in one transaction; otherwise answer with both keys. With nothing to
    /// do it only compares.
    Change {
        /// What must hold.
        when: Vec<Compare>,
        /// What is done.
        then: Vec<Change>,
    },
    /// A new lease.
    Grant {
        /// Whole seconds.
        ttl_s: u64,
    },
    /// Begin the lease's time anew.
    KeepAlive {
        /// Which.
        lease: LeaseId,
    },
    /// End the lease, and with it the keys attached to it.
    Revoke {
        /// Which.
        lease: LeaseId,
    },
}

/// A condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The record was last changed by this revision; 0: there is none.
    Record(Revision),
    /// The lease key was last changed by this revision; 0: there is none.
    Lease(Revision),
    /// The lease key says this.
    HeldBy(Holder),
    /// The lease key is attached to this lease.
    On(LeaseId),
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The record is this.
    PutRecord(Record),
    /// The lease key says this and is attached to this lease.
    PutLease(Holder, LeaseId),
    /// The lease key goes.
    DropLease,
}

/// Both keys, as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The record and its last change.
    pub record: Option<(Record, Revision)>,
    /// The lease key and its last change.
    pub lease: Option<(Holder, Revision)>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a look, or to a change whose condition does not hold: nothing was done.
    Found(View),
    /// The change was made, by this revision, or there was nothing to do and all held.
    Changed(Revision),
    /// The lease runs this long from now on; not at all with 0.
    Lease {
        /// Which.
        lease: LeaseId,
        /// Whole seconds.
        ttl_s: u64,
    },
    /// The lease has ended.
    Revoked,
    /// There is no such lease (any more). Nothing was done.
    NoLease,
    /// Certainly not done: it did not reach etcd.
    NotDone,
    /// Nobody answered, or nothing that can be understood: it may have been done, or may still be.
    Lost,
}
