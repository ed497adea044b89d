//! The quick-sync bitmap: which 4 KiB blocks may differ between the two disks.
//!
//! A bit that is set costs a resync of 4 KiB; a bit that is missing costs the data. So every doubt sets bits.
//! Pages of 32 768 bits (one 4 KiB disk page, 128 MiB of data) that are all zero or all one take no memory.

use std::collections::BTreeSet;

/// Bits in one page of the bitmap on disk.
pub const BLOCKS_PER_PAGE: u64 = 32_768;
const WORDS: usize = 512;
const BITS: u64 = 64;

#[derive(Clone, Debug)]
enum Page {
    Zero,
    Full,
    Mixed(Box<[u64; WORDS]>),
}

/// A set of block numbers below a fixed bound, with a record of the pages that differ from the disk's copy.
#[derive(Clone, Debug)]
pub struct Bitmap {
    blocks: u64,
    count: u64,
    pages: Vec<Page>,
    dirty: BTreeSet<u64>,
}

impl Bitmap {
    /// An empty set of blocks below `blocks`.
    #[must_use]
    pub fn new(blocks: u64) -> Self {
        let pages = usize::try_from(blocks.div_ceil(BLOCKS_PER_PAGE)).unwrap_or_default();
        Self { blocks, count: 0, pages: vec![Page::Zero; pages], dirty: BTreeSet::new() }
    }

    /// Reads the on-disk form. Bits beyond `blocks` are ignored.
    #[must_use]
    pub fn decode(blocks: u64, bytes: &[u8]) -> Self {
        let mut bitmap = Self::new(blocks);
        for (word, chunk) in (0u64..).zip(bytes.chunks_exact(8)) {
            let value = chunk.try_into().map(u64::from_le_bytes).unwrap_or_default();
            if value != 0 {
                bitmap.or_word(word, value);
            }
        }
        bitmap.dirty.clear();
        bitmap
    }

    /// Number of blocks in the set.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Number of words of 64 blocks.
    #[must_use]
    pub fn words(&self) -> u64 {
        self.blocks.div_ceil(BITS)
    }

    /// Adds the blocks `first .. end`.
    pub fn set(&mut self, first: u64, end: u64) {
        self.each_word(first, end, Self::or_word);
    }

    /// Adds every block.
    pub fn set_all(&mut self) {
        let tail = self.blocks / BLOCKS_PER_PAGE;
        for (index, page) in (0..tail).zip(&mut self.pages) {
            *page = Page::Full;
            self.dirty.insert(index);
        }
        self.count = tail * BLOCKS_PER_PAGE;
        if let Some(last) = usize::try_from(tail).ok().and_then(|i| self.pages.get_mut(i)) {
            *last = Page::Zero;
            self.set(tail * BLOCKS_PER_PAGE, self.blocks);
        }
    }

    /// Removes the blocks `first .. end`.
    pub fn clear(&mut self, first: u64, end: u64) {
        self.each_word(first, end, |bitmap, word, mask| bitmap.store_word(word, bitmap.word(word) & !mask));
    }

    /// Adds the blocks of another set.
    pub fn add_all(&mut self, other: &Self) {
        let mut word = 0;
        while let Some(block) = other.next(true, word * BITS, other.blocks) {
            word = block / BITS;
            self.or_word(word, other.word(word));
            word += 1;
        }
    }

    /// Removes every block.
    pub fn clear_all(&mut self) {
        for (index, page) in (0u64..).zip(&mut self.pages) {
            if !matches!(page, Page::Zero) {
                *page = Page::Zero;
                self.dirty.insert(index);
            }
        }
        self.count = 0;
    }

    /// The first run of blocks in the set at or after `from`: its first block and length, at most `max`.
    #[must_use]
    pub fn next_run(&self, from: u64, max: u64) -> Option<(u64, u64)> {
        let first = self.next(true, from, self.blocks)?;
        let until = first.saturating_add(max).min(self.blocks);
        Some((first, self.next(false, first, until).unwrap_or(until) - first))
    }

    /// Whether a block is in the set.
    #[must_use]
    pub fn contains(&self, block: u64) -> bool {
        block < self.blocks && self.word(block / BITS) >> (block % BITS) & 1 == 1
    }

    /// The first block of `from .. until` that is in the set (`inside`), or that is not.
    fn next(&self, inside: bool, from: u64, until: u64) -> Option<u64> {
        let flip = if inside { 0 } else { u64::MAX };
        let mut word = from / BITS;
        let mut value = (self.word(word) ^ flip) & (u64::MAX << (from % BITS));
        while value == 0 {
            word += 1;
            if word * BITS >= until {
                return None;
            }
            if self.page_is_all(word, !inside) {
                word = (word * BITS / BLOCKS_PER_PAGE + 1) * (BLOCKS_PER_PAGE / BITS) - 1;
                continue;
            }
            value = self.word(word) ^ flip;
        }
        let block = word * BITS + u64::from(value.trailing_zeros());
        (block < until).then_some(block)
    }

    /// The word with this index: bit `i` is block `64 * index + i`.
    #[must_use]
    pub fn word(&self, index: u64) -> u64 {
        let (page, within) = place(index);
        match self.pages.get(page) {
            Some(Page::Full) => u64::MAX,
            Some(Page::Mixed(words)) => words.get(within).copied().unwrap_or_default(),
            Some(Page::Zero) | None => 0,
        }
    }

    /// Adds the blocks of a word. Bits beyond the end are ignored.
    pub fn or_word(&mut self, index: u64, bits: u64) {
        if index >= self.words() {
            return;
        }
        let first = index * BITS;
        let valid = self.blocks - first;
        let mask = if valid >= BITS { u64::MAX } else { (1 << valid) - 1 };
        self.store_word(index, self.word(index) | bits & mask);
    }

    /// Pages that differ from what is on disk, lowest first, at most `max`; they count as stored from now on.
    pub fn take_dirty(&mut self, max: usize) -> Vec<u64> {
        let taken: Vec<u64> = self.dirty.iter().copied().take(max).collect();
        taken.iter().for_each(|page| {
            self.dirty.remove(page);
        });
        taken
    }

    /// Whether some page differs from what is on disk.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// On-disk form of a page.
    #[must_use]
    pub fn page_bytes(&self, page: u64) -> Vec<u8> {
        let first = page * (BLOCKS_PER_PAGE / BITS);
        let words = first..first + BLOCKS_PER_PAGE / BITS;
        words.flat_map(|word| self.word(word).to_le_bytes()).collect()
    }

    /// Whether all blocks of the word's page are in the set (`inside`), or none.
    fn page_is_all(&self, word: u64, inside: bool) -> bool {
        match self.pages.get(place(word).0) {
            Some(Page::Zero) => !inside,
            Some(Page::Full) => inside,
            Some(Page::Mixed(_)) | None => false,
        }
    }

    fn store_word(&mut self, index: u64, value: u64) {
        let (page_index, within) = place(index);
        let old = self.word(index);
        let Some(page) = self.pages.get_mut(page_index) else { return };
        if old == value {
            return;
        }
        if !matches!(page, Page::Mixed(_)) {
            let fill = if matches!(page, Page::Full) { u64::MAX } else { 0 };
            *page = Page::Mixed(Box::new([fill; WORDS]));
        }
        if let Page::Mixed(words) = page {
            if let Some(word) = words.get_mut(within) {
                *word = value;
            }
            if value == 0 && words.iter().all(|w| *w == 0) {
                *page = Page::Zero;
            }
        }
        self.count = self.count + u64::from(value.count_ones()) - u64::from(old.count_ones());
        self.dirty.insert(u64::try_from(page_index).unwrap_or(u64::MAX));
    }

    fn each_word(&mut self, first: u64, end: u64, mut act: impl FnMut(&mut Self, u64, u64)) {
        let end = end.min(self.blocks);
        let mut block = first;
        while block < end {
            let stop = end.min((block / BITS + 1) * BITS);
            let len = stop - block;
            let mask = if len == BITS { u64::MAX } else { ((1 << len) - 1) << (block % BITS) };
            act(self, block / BITS, mask);
            block = stop;
        }
    }
}

fn place(word: u64) -> (usize, usize) {
    let per_page = BLOCKS_PER_PAGE / BITS;
    let page = usize::try_from(word / per_page).unwrap_or(usize::MAX);
    (page, usize::try_from(word % per_page).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const BLOCKS: u64 = BLOCKS_PER_PAGE * 2 + 100;

    #[test]
    fn set_all_stops_at_the_last_block() {
        let mut bitmap = Bitmap::new(BLOCKS);
        bitmap.set_all();
        assert_eq!(bitmap.count(), BLOCKS);
        assert!(!bitmap.contains(BLOCKS));
        assert_eq!(bitmap.next_run(BLOCKS - 3, 10), Some((BLOCKS - 3, 3)));
    }

    #[test]
    fn a_cleared_page_is_written_again() {
        let mut bitmap = Bitmap::new(BLOCKS);
        bitmap.set(5, 6);
        assert_eq!(bitmap.take_dirty(8), [0]);
        bitmap.clear(5, 6);
        assert_eq!(bitmap.take_dirty(8), [0]);
        assert!(!bitmap.is_dirty());
    }

    #[test]
    fn a_run_goes_through_pages_that_are_full() {
        let mut bitmap = Bitmap::new(4 * BLOCKS_PER_PAGE);
        bitmap.set_all();
        assert_eq!(bitmap.next_run(7, u64::MAX), Some((7, 4 * BLOCKS_PER_PAGE - 7)));
        bitmap.clear(3 * BLOCKS_PER_PAGE + 70, 3 * BLOCKS_PER_PAGE + 71);
        assert_eq!(bitmap.next_run(7, u64::MAX), Some((7, 3 * BLOCKS_PER_PAGE + 63)));
        assert_eq!(bitmap.next_run(0, BLOCKS_PER_PAGE + 1), Some((0, BLOCKS_PER_PAGE + 1)));
    }

    proptest! {
        #[test]
        fn behaves_like_a_set_of_block_numbers(ops in prop::collection::vec((0u8..3, 0..BLOCKS, 1u64..300), 1..40)) {
            let mut bitmap = Bitmap::new(BLOCKS);
            let mut model = BTreeSet::new();
            for (op, first, len) in ops {
                let end = (first + len).min(BLOCKS);
                match op {
                    0 => { bitmap.set(first, end); model.extend(first..end); }
                    1 => { bitmap.clear(first, end); model.retain(|b| *b < first || *b >= end); }
                    _ => {
                        let expected = model.range(first..).next().copied().map(|start| {
                            let run = (start..).take_while(|block| model.contains(block)).count() as u64;
                            (start, run.min(len))
                        });
                        prop_assert_eq!(bitmap.next_run(first, len), expected);
                    }
                }
                prop_assert_eq!(bitmap.count(), model.len() as u64);
            }
            let bytes: Vec<u8> = (0..3).flat_map(|p| bitmap.page_bytes(p)).collect();
            let read = Bitmap::decode(BLOCKS, &bytes);
            prop_assert!(model.iter().all(|b| read.contains(*b)));
            prop_assert_eq!(read.count(), model.len() as u64);
        }
    }
}
