//! The requests that were taken from the kernel and are not answered, written down in the arena: a process that follows
//! one that has ended without a word begins them once more.
//!
//! The kernel itself writes the head of a request into its entry, and does so before it counts the request as taken:
//! none can get lost in between. An entry is cleared after the answer; a request that was answered and not cleared is
//! done twice, which changes nothing, because no later one was taken in between.
//!
//! ```text
//! entry of a slot, 128 bytes: number u64 (0: none) · 8 unused · head of the FUSE request, 80
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;

use replica::event::{RESYNC_SLOTS, Slot};

use crate::slots::FRONT_SLOTS;
use crate::sys::Arena;

/// Where the entries begin in the ledger.
const FIRST: usize = 8 << 10;
const ENTRY: usize = 128;
const HEAD_AT: usize = 16;
/// Bytes of a request's head.
pub const HEAD: usize = 80;

/// The requests of one device.
#[derive(Debug)]
pub struct Journal {
    arena: Arc<Arena>,
    last: u64,
}

impl Journal {
    /// Goes on with what is written down.
    #[must_use]
    pub fn new(arena: Arc<Arena>) -> Self {
        let mut journal = Self { arena, last: 0 };
        let numbers = slots().map(|slot| journal.number(slot));
        journal.last = numbers.max().unwrap_or_default();
        journal
    }

    /// A request is about to be taken: the place of its head.
    pub fn begin(&mut self, slot: Slot) -> &mut [u8] {
        self.last += 1;
        let head = self.arena.ledger(entry(slot) + HEAD_AT, HEAD);
        head.fill(0);
        self.arena.number(entry(slot)).store(self.last, Ordering::Release);
        head
    }

    /// It is answered, or there was none.
    pub fn end(&self, slot: Slot) {
        self.arena.number(entry(slot)).store(0, Ordering::Release);
    }

    /// Slots of what was taken and not answered, in the order in which it was asked.
    #[must_use]
    pub fn unanswered(&self) -> Vec<Slot> {
        let taken = slots().filter(|slot| self.number(*slot) > 0 && self.head(*slot).iter().any(|b| *b != 0));
        let mut found: Vec<Slot> = taken.collect();
        found.sort_by_key(|slot| self.number(*slot));
        found
    }

    /// The head of a request.
    #[must_use]
    pub fn head(&self, slot: Slot) -> &[u8] {
        self.arena.ledger(entry(slot) + HEAD_AT, HEAD)
    }

    fn number(&self, slot: Slot) -> u64 {
        self.arena.number(entry(slot)).load(Ordering::Acquire)
    }
}

fn slots() -> impl Iterator<Item = Slot> {
    (RESYNC_SLOTS..RESYNC_SLOTS + FRONT_SLOTS).map(Slot)
}

fn entry(slot: Slot) -> usize {
    FIRST + slot.0.saturating_sub(RESYNC_SLOTS) as usize * ENTRY
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::TOTAL;

    #[test]
    fn what_was_not_answered_is_found_in_the_order_of_its_arrival() {
        let arena = Arc::new(Arena::new(TOTAL).unwrap());
        let mut journal = Journal::new(Arc::clone(&arena));
        let [a, b, c, d] = [40, 20, 30, 79].map(Slot);
        for slot in [a, b, c] {
            journal.begin(slot)[8] = 1;
        }
        // Nothing was there to be taken.
        journal.begin(d);
        journal.end(b);
        journal.begin(b)[8] = 2;
        let mut successor = Journal::new(arena);
        assert_eq!(successor.unanswered(), [a, c, b]);
        assert_eq!(successor.head(b)[8], 2);
        successor.end(a);
        successor.begin(a)[8] = 3;
        assert_eq!(successor.unanswered(), [c, b, a]);
    }
}
