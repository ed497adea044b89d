//! What a disk operation was for: its answer finds the way back to who has asked for it.

use super::link;
use crate::event::{LinkId, Range, Slot};

/// What a disk operation was for.
#[derive(Debug)]
pub(super) enum Io {
    FrontRead { slot: Slot, range: Range },
    FrontWrite { request: u64 },
    PeerWrite(link::PeerWrite),
    PeerFlush { link: LinkId, id: u64, covers: u64 },
    ResyncRead { id: u64 },
    ResyncDigest { id: u64 },
    VerifyDigest { id: u64 },
    VerifyRead { id: u64 },
    PeerDigest { link: LinkId, id: u64 },
    Flush { run: u64 },
    PrepareUndo,
    SaveUndo,
    RestoreUndo,
    RollbackFlush,
}

impl Io {
    /// For the sentence that it failed.
    pub(super) fn verb(&self) -> &'static str {
        match self {
            Self::FrontRead { .. }
            | Self::ResyncRead { .. }
            | Self::ResyncDigest { .. }
            | Self::VerifyDigest { .. }
            | Self::VerifyRead { .. }
            | Self::PeerDigest { .. } => "read",
            Self::FrontWrite { .. } | Self::PeerWrite(_) | Self::RestoreUndo => "write",
            Self::PeerFlush { .. } | Self::Flush { .. } | Self::RollbackFlush => "flush",
            Self::PrepareUndo | Self::SaveUndo => "undo log",
        }
    }
}
