//! Blocks that are marked may be the same all the same: after a crash of the Primary its whole hot extents are
//! marked, and a new disk is as empty as the source's unused part. So digests are compared first, and only what
//! differs is sent, and written.
//!
//! What is zero here is not sent but zeroed there, so that a target that can give room back has no more than the source.
//!
//! That costs a reading on the target and a round trip. Where more than half of a range differs, the next 64 MiB
//! are sent without a question.

use std::collections::{BTreeMap, VecDeque};

use super::super::verify::runs;
use super::super::{Engine, Io};
use crate::digest;
use crate::event::{Action, BLOCK, LinkId, Range};
use crate::message::Message;

/// Blocks that are sent unasked after a range of which more than half differed.
const UNASKED_BLOCKS: u64 = 16_384;

#[derive(Debug)]
struct Compare {
    range: Range,
    here: Option<Vec<u128>>,
    there: Option<Vec<u128>>,
}

/// The comparisons of a running resync.
#[derive(Debug, Default)]
pub(super) struct Compares {
    open: BTreeMap<u64, Compare>,
    /// Found to differ, not sent yet; whether it is all zero here.
    differing: VecDeque<(Range, bool)>,
    unasked: u64,
    /// Blocks that were the same.
    pub(super) same: u64,
}

impl Compares {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.differing.is_empty()
    }

    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// Ranges whose content must not change until the answer is there.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range> {
        self.open.values().map(|compare| compare.range)
    }

    pub(super) fn next_differing(&self) -> Option<(Range, bool)> {
        self.differing.front().copied()
    }

    pub(super) fn take_differing(&mut self) {
        self.differing.pop_front();
    }

    /// Whether the next blocks are sent without a question.
    pub(super) fn goes_unasked(&mut self, blocks: u64) -> bool {
        let unasked = self.unasked > 0;
        self.unasked = self.unasked.saturating_sub(blocks);
        unasked
    }
}

impl Engine {
    pub(super) fn compare_blocks(&mut self, link: LinkId, range: Range) {
        let id = self.next_resync_id();
        let Some(source) = &mut self.resync.source else { return };
        source.compares.open.insert(id, Compare { range, here: None, there: None });
        let io = self.start_io(Io::ResyncDigest { id });
        self.out.push(Action::DigestDisk { io, range });
        self.send(link, Message::VerifyAsk { id, range });
    }

    /// This disk's part of a comparison is read.
    pub(in super::super) fn resync_digested(&mut self, id: u64, digests: Vec<u128>) {
        if let Some(compare) = self.comparing(id) {
            compare.here = Some(digests);
            self.compared(id);
        }
    }

    /// The target's part has come.
    pub(in super::super) fn resync_replied(&mut self, id: u64, digests: Vec<u128>) {
        if let Some(compare) = self.comparing(id) {
            compare.there = Some(digests);
            self.compared(id);
        }
    }

    fn comparing(&mut self, id: u64) -> Option<&mut Compare> {
        self.resync.source.as_mut()?.compares.open.get_mut(&id)
    }

    fn compared(&mut self, id: u64) {
        let Some(source) = &mut self.resync.source else { return };
        let compares = &mut source.compares;
        let both = compares.open.get(&id).is_some_and(|c| c.here.is_some() && c.there.is_some());
        let Some(compare) = both.then(|| compares.open.remove(&id)).flatten() else { return };
        let (first, end) = Self::blocks(compare.range);
        let [here, there] = [compare.here, compare.there].map(Option::unwrap_or_default);
        let differing = runs(first, &here, &there);
        let (mut from, mut differ) = (first, 0);
        for run in &differing {
            let (begin, stop) = Self::blocks(*run);
            source.done.extend((from < begin).then_some((from, begin)));
            (from, differ) = (stop, differ + stop - begin);
        }
        source.done.extend((from < end).then_some((from, end)));
        let same = end - first - differ;
        source.done_blocks += same;
        compares.same += same;
        if differ * 2 > end - first {
            compares.unasked = UNASKED_BLOCKS;
        }
        compares.differing.extend(differing.into_iter().flat_map(|run| by_zero(run, first, &here)));
    }

    /// KiB of the running resync that were the same on both sides.
    pub(super) fn same_kib(&self) -> u64 {
        self.resync.source.as_ref().map_or(0, |source| source.compares.same * BLOCK / 1024)
    }
}

/// The parts of a run that are all zero, and those that have no block of zeroes. `here` are the digests from the block
/// `first` on.
fn by_zero(run: Range, first: u64, here: &[u128]) -> Vec<(Range, bool)> {
    let (begin, end) = Engine::blocks(run);
    let mut parts: Vec<(Range, bool)> = Vec::new();
    for block in begin..end {
        let digest = usize::try_from(block - first).ok().and_then(|at| here.get(at));
        let zero = digest == Some(&digest::of_zeroes());
        let len = u32::try_from(BLOCK).unwrap_or_default();
        match parts.last_mut().filter(|(_, known)| *known == zero) {
            Some((part, _)) => part.len += len,
            None => parts.push((Range { offset: block * BLOCK, len }, zero)),
        }
    }
    parts
}
