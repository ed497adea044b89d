//! Orders that one vote of two carries out. The overruled host may be alive somewhere and record changes alone, so a
//! change of such an order does not count on: version, term and ballot leap.
//!
//! Rules: an order leaps beyond everything its host has seen, by more than a host ever counts alone; A leaps to even
//! and B to odd multiples of [`LEAP`], so that two orders are never equal. So of two lines of records that were parted
//! by orders, all of one is newer than all of the other: in version, in term and in ballot. Which one is only known
//! from the calendar, when neither host has heard of the other's order: a later order leaps farther, as far as the
//! clocks of the hosts are right. Nothing but this choice rests on them.

use super::{Record, Term, TransitionError, Version};
use crate::member::Node;

/// More changes and rounds than one host makes alone: twice a second for 15 years.
pub const LEAP: u64 = 1_000_000_000;
/// Orders that are given within this time are not told apart by the calendar.
const ORDERS_APART_S: u64 = 600;

/// Where an order of `by` leaps to that is given `at` this many seconds after the beginning of 1970: beyond all
/// counters that it has seen.
pub fn leap_beyond(by: Node, at: u64, seen: impl IntoIterator<Item = u64>) -> u64 {
    let next = seen.into_iter().max().unwrap_or_default() / LEAP + 1;
    let next = next.max(at / ORDERS_APART_S);
    let is_own = (next % 2 == 1) == (by == Node::B);
    LEAP.saturating_mul(if is_own { next } else { next.saturating_add(1) })
}

impl Record {
    /// The same, with its counters at the place that [`leap_beyond`] gave.
    pub fn leapt(self, to: u64) -> Result<Self, TransitionError> {
        if to <= self.version.0 || to <= self.term.0 {
            return Err(TransitionError::Exhausted(self.version));
        }
        Ok(Self { version: Version(to), term: Term(to), ..self })
    }

    /// The same, in a term that is not below what a host has promised.
    #[must_use]
    pub fn under(self, promised: Term) -> Self {
        Self { term: self.term.max(promised), ..self }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_newer_than_all_that_was_seen_and_never_equal_to_one_of_the_peer() {
        for seen in [0, 1, LEAP - 1, LEAP, LEAP + 7, 2 * LEAP, 9 * LEAP + 1] {
            for at in [0, 599, 600, 1_800_000_000] {
                let [a, b] = Node::ALL.map(|by| leap_beyond(by, at, [seen, 3]));
                assert_ne!(a, b);
                for (to, odd) in [(a, 0), (b, 1)] {
                    assert!(to > seen && to / LEAP > seen / LEAP);
                    assert_eq!((to % LEAP, to / LEAP % 2), (0, odd));
                }
            }
        }
    }

    #[test]
    fn of_two_hosts_that_have_not_heard_of_each_other_the_later_order_leaps_farther() {
        for at in (1_800_000_000..).step_by(100).take(100) {
            for by in Node::ALL {
                let later = leap_beyond(by.peer(), at + ORDERS_APART_S, [5]);
                assert!(leap_beyond(by, at, [7]) < later, "{at} {by:?}");
            }
        }
    }

    #[test]
    fn counters_only_leap_forward() {
        let forced = Record::created(Node::A).forced(Node::B).unwrap();
        let leapt = forced.clone().leapt(LEAP).unwrap();
        assert_eq!((leapt.version, leapt.term), (Version(LEAP), Term(LEAP)));
        assert_eq!(leapt.intent, forced.intent);
        assert!(leapt.leapt(LEAP).is_err());
        assert_eq!(forced.clone().under(Term(1)).term, forced.term);
        assert_eq!(forced.under(Term(LEAP)).term, Term(LEAP));
    }
}
