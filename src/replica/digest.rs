//! What stands for the content of a block when two disks are compared: XXH3-128 (github.com/Cyan4973/xxHash,
//! doc/xxhash_spec.md). It finds faults, not forgers.

use std::sync::LazyLock;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// Bytes of a block ([`crate::event::BLOCK`]).
const BLOCK_BYTES: usize = 4096;

/// One number for each block of `bytes`, in their order.
#[must_use]
pub fn blocks(bytes: &[u8]) -> Vec<u128> {
    bytes.chunks(BLOCK_BYTES).map(xxh3_128).collect()
}

/// That of a block of zeroes.
#[must_use]
pub fn of_zeroes() -> u128 {
    static NUMBER: LazyLock<u128> = LazyLock::new(|| xxh3_128(&[0; BLOCK_BYTES]));
    *NUMBER
}

/// One number for bytes that come piece by piece.
#[derive(Default)]
pub struct Stream(Xxh3);

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Stream").field(&self.0.digest128()).finish()
    }
}

impl Stream {
    /// The next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The number.
    #[must_use]
    pub fn finish(&self) -> u128 {
        self.0.digest128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_changed_bit_changes_the_number_of_its_block_alone() {
        let mut bytes = vec![7; 3 * 4096];
        let before = blocks(&bytes);
        bytes[2 * 4096 - 1] ^= 1;
        let after = blocks(&bytes);
        let differ: Vec<bool> = before.iter().zip(&after).map(|(a, b)| a != b).collect();
        assert_eq!(differ, [false, true, false]);
    }
}
