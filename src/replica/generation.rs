//! Generation identifiers of the data, and the decision two nodes take from them when they meet.
//!
//! The decision is a pure function of what both sides say about themselves, evaluated on both sides: each
//! must come to the mirror image of the other's. It follows DRBD 9's table (drbd_receiver.c,
//! drbd_uuid_compare) reduced to two nodes, with two deliberate differences: a just-created disk never wins
//! over data, and bits left in a bitmap never end in "no sync".

use std::fmt;

use crate::message::PeerState;
use crate::state::{DiskState, Role};

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

impl Generations {
    /// Begins a new generation that the peer does not have: the bitmap now records changes since the old one.
    /// The oldest base is kept, because the bitmap covers everything since then.
    pub fn rotate(&mut self, new: u64) {
        let old = std::mem::replace(&mut self.current, new);
        self.counter += 1;
        if self.bitmap == 0 {
            self.bitmap = old;
        } else {
            self.remember(old);
        }
    }

    /// Forgets the base of the bitmap: both disks are equal.
    pub fn in_sync(&mut self) {
        let old = std::mem::take(&mut self.bitmap);
        self.remember(old);
    }

    /// Takes over the source's identity at the end of a resync.
    pub fn adopt(&mut self, source: &Self) {
        let own = self.current;
        self.history = source.history;
        self.bitmap = 0;
        self.current = source.current;
        self.counter = source.counter;
        self.remember(source.bitmap);
        self.remember(own);
    }

    /// Puts a generation into the history, unless it is none, just created, current or there already.
    pub fn remember(&mut self, old: u64) {
        if old == 0 || old == JUST_CREATED || old == self.current || self.history.contains(&old) {
            return;
        }
        self.history.rotate_right(1);
        if let Some(newest) = self.history.first_mut() {
            *newest = old;
        }
    }

    /// Whether the disk never held data.
    #[must_use]
    pub fn is_just_created(&self) -> bool {
        self.current == JUST_CREATED
    }

    fn knows(&self, generation: u64) -> bool {
        generation != 0 && generation != JUST_CREATED && self.history.contains(&generation)
    }
}

/// What shall happen, seen from one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The disks are equal, or neither holds data.
    NoSync,
    /// This side sends.
    Source {
        /// Every block; otherwise those in either bitmap.
        full: bool,
    },
    /// This side receives.
    Target {
        /// Every block; otherwise those in either bitmap.
        full: bool,
    },
    /// Both sides have changes that the other does not have.
    SplitBrain,
    /// The disks never had anything in common.
    Unrelated,
    /// The side whose data is newer is Inconsistent: there is nothing to copy from.
    Unusable,
}

impl Decision {
    /// The same decision seen from the other side.
    #[must_use]
    pub fn mirrored(self) -> Self {
        match self {
            Self::Source { full } => Self::Target { full },
            Self::Target { full } => Self::Source { full },
            same => same,
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSync => "no-sync",
            Self::Source { full: false } => "source-use-bitmap",
            Self::Source { full: true } => "source-copy-all",
            Self::Target { full: false } => "target-use-bitmap",
            Self::Target { full: true } => "target-copy-all",
            Self::SplitBrain => "split-brain",
            Self::Unrelated => "unrelated-data",
            Self::Unusable => "newer-data-unusable",
        })
    }
}

/// A decision and the name of the rule that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What shall happen.
    pub decision: Decision,
    /// Which rule said so; names are DRBD's where it has the rule.
    pub rule: &'static str,
}

/// Decides what two nodes that meet shall do.
///
/// `first` breaks the tie where both sides are alike: true on exactly one of the two nodes.
#[must_use]
pub fn compare(me: &PeerState, peer: &PeerState, first: bool) -> Verdict {
    let verdict = by_identity(me, peer, first);
    let verdict = by_consent(me, peer, verdict);
    by_disk_state(me, peer, first, verdict)
}

/// The decision of two nodes under a cluster manager. Its record names a Primary only among the nodes that have
/// every acknowledged write: on equal generations, what the other one has besides was never acknowledged.
#[must_use]
pub fn compare_managed(me: &PeerState, peer: &PeerState, first: bool) -> Verdict {
    let verdict = compare(me, peer, first);
    let mixed = |s: &PeerState| s.disk <= DiskState::Inconsistent;
    let decided = me.generations.current != peer.generations.current
        || me.generations.is_just_created()
        || mixed(me)
        || mixed(peer)
        || me.discard_my_data
        || peer.discard_my_data;
    let differ = [me, peer].iter().any(|s| s.crashed_primary || s.dirty_blocks > 0);
    match (me.role == Role::Primary, peer.role == Role::Primary) {
        (true, false) | (false, true) if decided => verdict,
        (true, false) if differ => say(SOURCE, "primary-self"),
        (false, true) if differ => say(TARGET, "primary-peer"),
        (true, false) | (false, true) => say(Decision::NoSync, "primary-equal"),
        _ => verdict,
    }
}

fn say(decision: Decision, rule: &'static str) -> Verdict {
    Verdict { decision, rule }
}

const SOURCE: Decision = Decision::Source { full: false };
const TARGET: Decision = Decision::Target { full: false };

fn by_identity(me: &PeerState, peer: &PeerState, first: bool) -> Verdict {
    let (a, b) = (&me.generations, &peer.generations);
    match (a.is_just_created(), b.is_just_created()) {
        (true, true) => return say(Decision::NoSync, "just-created-both"),
        (true, false) => return say(Decision::Target { full: true }, "just-created-self"),
        (false, true) => return say(Decision::Source { full: true }, "just-created-peer"),
        (false, false) => {}
    }
    if a.current == b.current {
        return same_generation(me, peer, first);
    }
    if a.current == b.bitmap {
        return say(TARGET, "bitmap-peer");
    }
    if a.bitmap == b.current {
        return say(SOURCE, "bitmap-self");
    }
    // The target took the generations over, but the source never heard of it: its bitmap still covers
    // everything since the base that both know.
    if a.bitmap != 0 && a.knows(b.current) && b.bitmap == 0 && b.knows(a.bitmap) {
        return say(SOURCE, "missed-finish-self");
    }
    if b.bitmap != 0 && b.knows(a.current) && a.bitmap == 0 && a.knows(b.bitmap) {
        return say(TARGET, "missed-finish-peer");
    }
    match (b.knows(a.current), a.knows(b.current)) {
        (true, false) => return say(Decision::Target { full: true }, "history-peer"),
        (false, true) => return say(Decision::Source { full: true }, "history-self"),
        _ => {}
    }
    if a.bitmap != 0 && a.bitmap == b.bitmap {
        return say(Decision::SplitBrain, "bitmap-both");
    }
    let related = |x: &Generations, y: &Generations| {
        y.knows(x.bitmap) || x.history.iter().any(|h| y.knows(*h) || (*h != 0 && *h == y.bitmap))
    };
    if related(a, b) || related(b, a) {
        return say(Decision::SplitBrain, "history-both");
    }
    say(Decision::Unrelated, "unrelated")
}

/// Same generation: nothing was written alone, but a crashed Primary may have blocks the other lacks.
fn same_generation(me: &PeerState, peer: &PeerState, first: bool) -> Verdict {
    match (me.crashed_primary, peer.crashed_primary) {
        // The survivor has every acknowledged write; what only the crashed one has was never acknowledged.
        (false, true) if me.reconnect => say(SOURCE, "reconnected"),
        (true, false) if peer.reconnect => say(TARGET, "reconnected"),
        // Both went down: the Primary has at least what the other has.
        (true, false) => say(SOURCE, "both-off"),
        (false, true) => say(TARGET, "both-off"),
        // One was promoted when it had outlived the other: it has what that one's power cut has taken.
        (true, true) if me.reconnect && !peer.reconnect => say(SOURCE, "reconnected"),
        (true, true) if peer.reconnect && !me.reconnect => say(TARGET, "reconnected"),
        (true, true) => say(if first { SOURCE } else { TARGET }, "both-off"),
        (false, false) => say(Decision::NoSync, if me.reconnect { "reconnected" } else { "both-off" }),
    }
}

/// The administrator of one side may give up its data, if the other side has usable data.
fn by_consent(me: &PeerState, peer: &PeerState, verdict: Verdict) -> Verdict {
    let related = verdict.decision == Decision::SplitBrain
        || matches!(verdict.decision, Decision::Source { .. } | Decision::Target { .. });
    let usable = |s: &PeerState| s.disk >= DiskState::Outdated && s.disk != DiskState::DUnknown;
    let full = matches!(verdict.decision, Decision::Source { full: true } | Decision::Target { full: true })
        || verdict.rule == "history-both";
    match (me.discard_my_data, peer.discard_my_data) {
        (true, false) if related && usable(peer) => say(Decision::Target { full }, "discard-my-data"),
        (false, true) if related && usable(me) => say(Decision::Source { full }, "discard-my-data"),
        _ => verdict,
    }
}

/// Nothing is copied from an Inconsistent disk, and "no sync" is believed only if both disks are worth the
/// same and no bit is left in either bitmap.
fn by_disk_state(me: &PeerState, peer: &PeerState, first: bool, verdict: Verdict) -> Verdict {
    let mixed = |s: &PeerState| s.disk <= DiskState::Inconsistent;
    match verdict.decision {
        Decision::Source { .. } | Decision::Target { .. } if mixed(me) && mixed(peer) => {
            return say(Decision::NoSync, "no-usable-data");
        }
        Decision::Source { .. } if mixed(me) => return say(Decision::Unusable, verdict.rule),
        Decision::Target { .. } if mixed(peer) => return say(Decision::Unusable, verdict.rule),
        Decision::NoSync if verdict.rule != "just-created-both" => {}
        _ => return verdict,
    }
    match (mixed(me), mixed(peer)) {
        (true, false) => return say(TARGET, "disk-states"),
        (false, true) => return say(SOURCE, "disk-states"),
        (true, true) => return say(Decision::NoSync, "no-usable-data"),
        (false, false) => {}
    }
    if me.dirty_blocks == 0 && peer.dirty_blocks == 0 {
        return verdict;
    }
    let mine = (me.role == Role::Primary, me.dirty_blocks > 0, first);
    let theirs = (peer.role == Role::Primary, peer.dirty_blocks > 0, !first);
    say(if mine > theirs { SOURCE } else { TARGET }, "leftover-bits")
}

#[cfg(test)]
mod tests;
