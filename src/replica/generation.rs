//! Generation identifiers of the data, and the decision two nodes take from them when they meet.

/// Old generations that are remembered.
pub const HISTORY: usize = 8;

/// `current` of a disk that was only just created and never held data (DRBD's UUID_JUST_CREATED).
pub const JUST_CREATED: u64 = 4;

/// Names of the data's generations on one disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generations {
    /// The generation of the data now; random, [`JUST_CREATED`] on a new disk.
    pub current: u64,
    /// The generation that the peer was last known to have, while the bitmap records the changes since; or 0.
    pub bitmap: u64,
    /// Older ones, newest first; 0 where unused.
    pub history: [u64; HISTORY],
    /// Counts the rotations, for people who ask which side is newer. Never decides.
    pub counter: u64,
}
