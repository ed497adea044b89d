//! What an observer of the applications knows: which content of each block is allowed, and who must have it.

use std::collections::{BTreeMap, BTreeSet};

use crate::disk::{Disk, Version};

/// The versions of one block in the order they were written, and how far they are promised.
#[derive(Clone, Debug)]
struct History {
    versions: Vec<Version>,
    answered: usize,
    flushed: usize,
}

/// How much of what was promised must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Every answered write.
    Answered,
    /// Every write answered before a flush that was answered.
    Flushed,
}

/// One line of data, from one content on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timeline {
    blocks: BTreeMap<u64, History>,
    /// Nodes whose disk, cache included, has every answered write.
    pub(crate) answered_at: BTreeSet<usize>,
    /// Nodes whose disk has every flushed write, whatever happens to its power.
    pub(crate) flushed_at: BTreeSet<usize>,
    /// Answered writes since it began.
    pub(crate) writes: u64,
}

impl Timeline {
    /// A line that begins with what a disk has now.
    pub(crate) fn begin(node: usize) -> Self {
        Self { answered_at: [node].into(), flushed_at: [node].into(), ..Self::default() }
    }

    /// A write was handed to the device.
    pub(crate) fn submit(&mut self, block: u64, version: Version, before: Version) {
        let first = || History { versions: vec![before], answered: 0, flushed: 0 };
        self.blocks.entry(block).or_insert_with(first).versions.push(version);
    }

    /// A write was answered.
    pub(crate) fn answer(&mut self, block: u64, version: Version) {
        if let Some(history) = self.blocks.get_mut(&block)
            && let Some(at) = history.versions.iter().position(|v| *v == version)
        {
            history.answered = history.answered.max(at);
        }
    }

    /// What was answered last in a block, if it was written at all.
    pub(crate) fn answered(&self, block: u64) -> Option<Version> {
        self.blocks.get(&block).map(|history| history.versions[history.answered])
    }

    /// Whether a read may bring a version when another one was answered before it began.
    pub(crate) fn may_be_read(&self, block: u64, version: Version, oldest: Version) -> bool {
        let Some(history) = self.blocks.get(&block) else { return true };
        let from = history.versions.iter().position(|v| *v == oldest).unwrap_or_default();
        history.versions[from..].contains(&version)
    }

    /// The write is one of this line.
    pub(crate) fn knows(&self, block: u64, version: Version) -> bool {
        self.blocks.get(&block).is_some_and(|history| history.versions.contains(&version))
    }

    /// What a flush that is submitted now must cover.
    pub(crate) fn promise(&self) -> Vec<(u64, Version)> {
        self.blocks.iter().map(|(block, h)| (*block, h.versions[h.answered])).collect()
    }

    /// A flush was answered.
    pub(crate) fn flushed(&mut self, promise: &[(u64, Version)]) {
        for (block, version) in promise {
            if let Some(history) = self.blocks.get_mut(block)
                && let Some(at) = history.versions.iter().position(|v| v == version)
            {
                history.flushed = history.flushed.max(at);
            }
        }
    }

    /// The first block of a disk that breaks the promise.
    pub(crate) fn broken_by(&self, disk: &Disk, level: Level) -> Option<String> {
        self.blocks.iter().find_map(|(block, history)| {
            let needed = if level == Level::Answered { history.answered } else { history.flushed };
            let has = disk.view(*block);
            let good = history.versions.iter().skip(needed).any(|v| *v == has);
            (!good).then(|| {
                format!(
                    "block {block} holds version {has}, promised is {} or later of {:?}",
                    history.versions[needed], history.versions
                )
            })
        })
    }

    /// How much is promised now: when every disk that had all of it has lost power, only what was flushed.
    pub(crate) fn level(&self) -> Level {
        if self.answered_at.is_empty() { Level::Flushed } else { Level::Answered }
    }

    /// Whether both disks have everything, durably.
    pub(crate) fn is_everywhere(&self) -> bool {
        self.answered_at.len() == 2 && self.flushed_at.len() == 2
    }

    /// A node goes on with what it has. What it lacks was not promised any more, but a disk that has it may
    /// still bring it back, as long as nothing newer is answered.
    pub(crate) fn lower(&mut self, disk: &Disk, node: usize) {
        for (block, history) in &mut self.blocks {
            let has = disk.view(*block);
            let at = history.versions.iter().position(|v| *v == has).unwrap_or_default();
            history.answered = at.max(history.flushed);
        }
        self.answered_at = [node].into();
        self.flushed_at = [node].into();
    }

    /// From now on what this disk has is the truth: what was never promised and is not there is gone.
    pub(crate) fn rebase(&mut self, disk: &Disk, node: usize) {
        for (block, history) in &mut self.blocks {
            let has = disk.view(*block);
            let at = history.versions.iter().position(|v| *v == has).unwrap_or_default();
            history.versions.truncate(at.max(history.flushed) + 1);
            history.answered = history.versions.len() - 1;
        }
        self.answered_at = [node].into();
        self.flushed_at = [node].into();
    }
}
