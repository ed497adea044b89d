//! Memory that direct I/O accepts: aligned to a page.

/// Alignment in bytes; no disk wants more.
const PAGE: usize = 4096;

/// A buffer of fixed length.
#[derive(Debug)]
pub struct Aligned {
    /// Longer than needed; never resized, so that the start stays aligned.
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// A buffer of `len` zeros.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let memory = vec![0; len + PAGE];
        let start = memory.as_ptr().align_offset(PAGE);
        Self { memory, start, len }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.memory.get(self.start..self.start + self.len).unwrap_or_default()
    }

    /// Its bytes, to be written to.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.start..self.start + self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_aligned_and_the_length_exact() {
        for len in [0, 1, 4096, 100_000] {
            let mut buffer = Aligned::zeroed(len);
            assert_eq!(buffer.bytes().as_ptr().align_offset(PAGE), 0);
            assert_eq!(buffer.bytes().len(), len);
            assert_eq!(buffer.bytes_mut().len(), len);
        }
    }
}
