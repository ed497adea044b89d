//! The allowed changes of the record, one function for each row of the table in [`super`]. Pure: the caller
//! proposes the result by compare-and-swap on the version it was made from.
//!
//! The rules protected here: only the primary of the present term says who holds every acknowledged write; only
//! a node that holds them all becomes primary without an operator; a node that an operator has overruled does
//! not come back by itself. Each change raises the version by one, so that of two changes made from the same
//! record at most one can be committed.

use super::{Intent, Record, Term, Version};
use crate::member::{Node, Nodes};

/// Why a change of the record is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// There is no record yet.
    #[error("there is no record yet: create the cluster first (`futago cluster bootstrap`)")]
    NoRecord,
    /// The proposer is not the primary of the present term.
    #[error(
        "{by:?} acted for term {own:?}, but the record says term {term:?} with primary {primary:?}: it has been replaced"
    )]
    NotPrimary {
        /// Who proposed.
        by: Node,
        /// The term it believes to be primary of.
        own: Term,
        /// The term of the record.
        term: Term,
        /// The primary of the record.
        primary: Option<Node>,
    },
    /// The node may lack acknowledged writes.
    #[error("{node:?} may lack acknowledged writes (up to date: {synced}): it cannot become primary")]
    NotSynced {
        /// Who was to become primary.
        node: Node,
        /// The nodes that hold every acknowledged write.
        synced: Nodes,
    },
    /// The record says so already.
    #[error("the record says so already (up to date: {synced})")]
    Already {
        /// The nodes that hold every acknowledged write.
        synced: Nodes,
    },
    /// The node's data was overruled by an operator.
    #[error(
        "the data of {node:?} has been overruled by an operator and is kept aside: it rejoins only after an operator has said so"
    )]
    Diverged {
        /// Which node.
        node: Node,
    },
    /// Only an operator's order to make a node primary marks data as overruled.
    #[error("only a forced change of the primary marks a node as diverged")]
    MarksDiverged,
    /// The witness is exchanged in two steps: the old one leaves, then the new one is admitted.
    #[error("the witness changes in two steps: from {from:?} to none, then to {to:?}")]
    WitnessInOneStep {
        /// Identity in the record.
        from: Option<u64>,
        /// Identity asked for.
        to: Option<u64>,
    },
    /// A counter is at its end.
    #[error("version {0:?} or its term cannot be counted further")]
    Exhausted(Version),
}

impl Record {
    /// The first record: `primary` alone is up to date, the other node has yet to be synchronised.
    #[must_use]
    pub fn created(primary: Node) -> Self {
        Self {
            version: Version(1),
            term: Term(1),
            primary: Some(primary),
            synced: Nodes::only(primary),
            witness: None,
            intent: Intent::default(),
        }
    }

    /// The peer may lack acknowledged writes from now on. By the primary of `term` only. While this is not
    /// committed, no write may be answered without the peer.
    pub fn degraded(&self, by: Node, term: Term) -> Result<Self, TransitionError> {
        self.must_be_primary(by, term)?;
        if self.synced == Nodes::only(by) {
            return Err(TransitionError::Already { synced: self.synced });
        }
        let mut next = self.bumped()?;
        next.synced = Nodes::only(by);
        Ok(next)
    }

    /// The peer holds every acknowledged write again. By the primary of `term` only, after it has switched
    /// itself back to "both must have it".
    pub fn rejoined(&self, by: Node, term: Term) -> Result<Self, TransitionError> {
        self.must_be_primary(by, term)?;
        let peer = by.peer();
        if self.synced.contains(peer) {
            return Err(TransitionError::Already { synced: self.synced });
        }
        if self.intent.diverged.contains(peer) {
            return Err(TransitionError::Diverged { node: peer });
        }
        let mut next = self.bumped()?;
        next.synced = Nodes::BOTH;
        Ok(next)
    }

    /// `by` becomes primary. Only a node that holds every acknowledged write, after it has durably promised to
    /// refuse the old term; voted for only when the incumbent's lease is over.
    pub fn taken_over(&self, by: Node) -> Result<Self, TransitionError> {
        self.must_be_synced(by)?;
        let mut next = self.next_term()?;
        next.primary = Some(by);
        next.synced = Nodes::only(by);
        Ok(next)
    }

    /// The peer becomes primary, and both stay up to date. By the primary of `term` only, after it has stopped
    /// writing and flushed.
    pub fn handed_over(&self, by: Node, term: Term) -> Result<Self, TransitionError> {
        self.must_be_primary(by, term)?;
        self.must_be_synced(by.peer())?;
        let mut next = self.next_term()?;
        next.primary = Some(by.peer());
        Ok(next)
    }

    /// What operators want, and what was counted. By anybody. Marks of overruled data can be taken away here,
    /// never made.
    pub fn intended(&self, intent: Intent) -> Result<Self, TransitionError> {
        let made = |node| intent.diverged.contains(node) && !self.intent.diverged.contains(node);
        if Node::ALL.into_iter().any(made) {
            return Err(TransitionError::MarksDiverged);
        }
        let mut next = self.bumped()?;
        next.intent = intent;
        Ok(next)
    }

    /// An operator's order: `to` becomes primary although it may lack acknowledged writes. The peer's data is
    /// marked as overruled, so that it is kept aside and never merged. Also of a primary that may have been replaced
    /// without its knowing.
    pub fn forced(&self, to: Node) -> Result<Self, TransitionError> {
        let mut next = self.next_term()?;
        next.primary = Some(to);
        next.synced = Nodes::only(to);
        next.intent.diverged = self.intent.diverged.without(to).with(to.peer());
        Ok(next)
    }

    /// The witness's vote is taken away (`None`), or given to the one of this identity. One step at a time:
    /// of two neighbouring electorates every two majorities then meet, even when both witnesses still run.
    pub fn admitted(&self, witness: Option<u64>) -> Result<Self, TransitionError> {
        if self.witness.is_some() == witness.is_some() {
            return Err(TransitionError::WitnessInOneStep { from: self.witness, to: witness });
        }
        let mut next = self.bumped()?;
        next.witness = witness;
        Ok(next)
    }

    /// The same with the next version: committing it proves that nothing proposed earlier can still happen.
    pub fn bumped(&self) -> Result<Self, TransitionError> {
        if self.primary.is_none() {
            return Err(TransitionError::NoRecord);
        }
        let version = self.version.0.checked_add(1).ok_or(TransitionError::Exhausted(self.version))?;
        Ok(Self { version: Version(version), ..self.clone() })
    }

    fn next_term(&self) -> Result<Self, TransitionError> {
        let mut next = self.bumped()?;
        next.term = Term(self.term.0.checked_add(1).ok_or(TransitionError::Exhausted(self.version))?);
        Ok(next)
    }

    fn must_be_primary(&self, by: Node, own: Term) -> Result<(), TransitionError> {
        match self.primary {
            None => Err(TransitionError::NoRecord),
            Some(primary) if primary == by && self.term == own => Ok(()),
            primary => Err(TransitionError::NotPrimary { by, own, term: self.term, primary }),
        }
    }

    fn must_be_synced(&self, node: Node) -> Result<(), TransitionError> {
        if self.primary.is_none() {
            return Err(TransitionError::NoRecord);
        }
        if self.synced.contains(node) {
            Ok(())
        } else {
            Err(TransitionError::NotSynced { node, synced: self.synced })
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What every record must satisfy.
    fn check(record: &Record) {
        let primary = record.primary.unwrap();
        assert!(record.synced.contains(primary), "a primary lacks acknowledged writes: {record:?}");
        for node in Node::ALL {
            let both = record.synced.contains(node) && record.intent.diverged.contains(node);
            assert!(!both, "overruled data counts as up to date: {record:?}");
        }
        assert!(record.version.0 >= record.term.0 && record.term.0 >= 1);
    }

    /// Every change that anybody could try.
    fn attempts(record: &Record) -> Vec<Result<Record, TransitionError>> {
        let mut all = vec![record.admitted(None), record.admitted(Some(7)), record.bumped()];
        for node in Node::ALL {
            for term in 0..=record.term.0 + 1 {
                all.push(record.degraded(node, Term(term)));
                all.push(record.rejoined(node, Term(term)));
                all.push(record.handed_over(node, Term(term)));
            }
            all.push(record.taken_over(node));
            all.push(record.forced(node));
            for diverged in [Nodes::NONE, Nodes::BOTH, Nodes::only(node)] {
                all.push(record.intended(Intent { diverged, ..Intent::default() }));
            }
        }
        all
    }

    /// Equal but for the counters.
    fn shape(record: &Record) -> String {
        format!("{:?} {} {:?} {}", record.primary, record.synced, record.witness, record.intent.diverged)
    }

    #[test]
    fn every_reachable_record_keeps_the_invariants_under_every_change() {
        let mut seen = BTreeSet::new();
        let mut todo = vec![Record::created(Node::A), Record::created(Node::B)];
        while let Some(record) = todo.pop() {
            check(&record);
            if !seen.insert(shape(&record)) {
                continue;
            }
            for next in attempts(&record).into_iter().flatten() {
                assert_eq!(next.version.0, record.version.0 + 1, "{record:?} -> {next:?}");
                let moved = next.primary != record.primary;
                assert!(!moved || next.term.0 == record.term.0 + 1, "a new primary in an old term: {next:?}");
                let grown =
                    Node::ALL.into_iter().any(|n| next.synced.contains(n) && !record.synced.contains(n));
                let forced = next.intent.diverged != record.intent.diverged && moved;
                let rejoined = next.synced == Nodes::BOTH && next.primary == record.primary;
                assert!(!grown || forced || rejoined, "{record:?} -> {next:?}");
                todo.push(next);
            }
        }
        // 2 primaries x (both | self | self with the other overruled) x with or without a witness.
        assert_eq!(seen.len(), 12);
    }

    #[test]
    fn a_deposed_primary_changes_nothing() {
        let record = Record::created(Node::A).rejoined(Node::A, Term(1)).unwrap();
        let taken = record.taken_over(Node::B).unwrap();
        for by_old_term in [taken.degraded(Node::A, Term(1)), taken.rejoined(Node::A, Term(1))] {
            assert!(matches!(by_old_term, Err(TransitionError::NotPrimary { .. })));
        }
        let own = taken.rejoined(Node::B, Term(2)).unwrap().taken_over(Node::A).unwrap();
        assert!(
            matches!(own.degraded(Node::A, Term(1)), Err(TransitionError::NotPrimary { .. })),
            "own older term"
        );
    }

    #[test]
    fn only_a_node_with_every_acknowledged_write_takes_over() {
        let record = Record::created(Node::A);
        assert!(matches!(record.taken_over(Node::B), Err(TransitionError::NotSynced { .. })));
        assert!(matches!(record.handed_over(Node::A, Term(1)), Err(TransitionError::NotSynced { .. })));
        assert_eq!(record.taken_over(Node::A).unwrap().term, Term(2), "its own successor");
    }

    #[test]
    fn overruled_data_rejoins_only_after_an_operator_said_so() {
        let forced = Record::created(Node::A).forced(Node::B).unwrap();
        assert_eq!(forced.rejoined(Node::B, Term(2)), Err(TransitionError::Diverged { node: Node::A }));
        let cleared = forced.intended(Intent::default()).unwrap();
        assert_eq!(cleared.rejoined(Node::B, Term(2)).unwrap().synced, Nodes::BOTH);
        assert_eq!(cleared.intended(forced.intent), Err(TransitionError::MarksDiverged));
    }

    #[test]
    fn nothing_follows_from_no_record() {
        for result in attempts(&Record::default()) {
            assert!(result.is_err(), "{result:?}");
        }
    }
}
