//! The network between the members: every way between two of them, each direction of which can be cut, slow,
//! lossy, and repeats and reorders messages when asked to.

use std::collections::BTreeSet;

use cluster::event::PathId;
use cluster::member::Voter;
use replica::event::Millis;

use crate::rng::Rng;

/// The segment that carries replication, between the data hosts only.
pub(crate) const LOCAL: PathId = PathId(0);
/// The segment that carries clients; all three members are on it.
pub(crate) const PUBLIC: PathId = PathId(1);

/// One direction of one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lane {
    pub(crate) from: Voter,
    pub(crate) to: Voter,
    pub(crate) path: PathId,
}

pub(crate) struct Net {
    cut: BTreeSet<Lane>,
    /// Most milliseconds that a message is on its way.
    pub(crate) lag: Millis,
    /// One message in so many is lost; 0 for none.
    pub(crate) loss: u64,
    /// One message in so many comes twice, the second time much later; 0 for none.
    pub(crate) repeat: u64,
}

impl Net {
    pub(crate) fn new() -> Self {
        Self { cut: BTreeSet::new(), lag: 1, loss: 0, repeat: 0 }
    }

    /// The ways between two members.
    pub(crate) fn paths(from: Voter, to: Voter) -> &'static [PathId] {
        if from == Voter::Witness || to == Voter::Witness { &[PUBLIC] } else { &[LOCAL, PUBLIC] }
    }

    pub(crate) fn set(&mut self, lane: Lane, cut: bool) {
        if cut {
            self.cut.insert(lane);
        } else {
            self.cut.remove(&lane);
        }
    }

    pub(crate) fn heal(&mut self) {
        *self = Self::new();
    }

    pub(crate) fn is_well(&self) -> bool {
        self.cut.is_empty() && self.loss == 0 && self.repeat == 0
    }

    pub(crate) fn is_cut(&self, lane: Lane) -> bool {
        self.cut.contains(&lane)
    }

    /// When the copies of a message arrive, in milliseconds from now.
    pub(crate) fn arrivals(&self, lane: Lane, rng: &mut Rng) -> Vec<Millis> {
        let lost = self.loss > 0 && rng.one_in(self.loss);
        if self.is_cut(lane) || lost {
            return Vec::new();
        }
        let mut arrivals = vec![rng.below(self.lag + 1)];
        if self.repeat > 0 && rng.one_in(self.repeat) {
            arrivals.push(rng.below(3000));
        }
        arrivals
    }
}
