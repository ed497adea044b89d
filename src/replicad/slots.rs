//! The free lists of the slot arena: which buffers the front end and the link may use.

use replica::event::{RESYNC_SLOTS, Slot};

/// Front-end requests in flight at most: what the block device queues (`nr_requests`), so that a bigger
/// number would only cost memory.
pub const FRONT_SLOTS: u32 = 64;
/// Received data messages in flight at most: all that a peer of ours can have. So the socket is always read,
/// and signs of life get through while the disk is slow; a peer that sends more waits.
pub const RECEIVE_SLOTS: u32 = FRONT_SLOTS + RESYNC_SLOTS;
/// All buffers of a resource. The first [`RESYNC_SLOTS`] belong to the core.
pub const TOTAL: u32 = RESYNC_SLOTS + FRONT_SLOTS + RECEIVE_SLOTS;

const RECEIVE_FIRST: u32 = RESYNC_SLOTS + FRONT_SLOTS;

/// Slots that are lent to nobody.
#[derive(Debug)]
pub struct FreeSlots {
    front: Vec<Slot>,
    receive: Vec<Slot>,
}

impl FreeSlots {
    /// All of them.
    #[must_use]
    pub fn all() -> Self {
        // Taken from the end: the same few slots stay warm in the cache.
        let list = |from: u32, to: u32| (from..to).rev().map(Slot).collect();
        Self { front: list(RESYNC_SLOTS, RECEIVE_FIRST), receive: list(RECEIVE_FIRST, TOTAL) }
    }

    /// A slot for an application's request.
    pub fn take_front(&mut self) -> Option<Slot> {
        self.front.pop()
    }

    /// Takes this slot, which holds a request of an application already.
    pub fn take(&mut self, slot: Slot) {
        self.front.retain(|free| *free != slot);
    }

    /// A slot for data from the peer.
    pub fn take_receive(&mut self) -> Option<Slot> {
        self.receive.pop()
    }

    /// Gives a slot back.
    pub fn give(&mut self, slot: Slot) {
        let list = if slot.0 < RECEIVE_FIRST { &mut self.front } else { &mut self.receive };
        debug_assert!(slot.0 >= RESYNC_SLOTS && !list.contains(&slot), "slot {slot:?} given back twice");
        list.push(slot);
    }

    /// Whether a request could be taken.
    #[must_use]
    pub fn has_front(&self) -> bool {
        !self.front.is_empty()
    }

    /// Whether data could be received.
    #[must_use]
    pub fn has_receive(&self) -> bool {
        !self.receive.is_empty()
    }
}
