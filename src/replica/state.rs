//! The words of replication: roles, disk states, connection and replication states.
//!
//! Names and spelling are DRBD's (drbd_strings.c), because monitoring and people know them.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// All values, in declaration order; the position is the code on the wire.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word shown to people and written to JSON.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// Position in [`Self::ALL`].
            #[must_use]
            pub fn code(self) -> u8 {
                Self::ALL.iter().zip(0u8..).find_map(|(v, i)| (*v == self).then_some(i)).unwrap_or(u8::MAX)
            }

            /// The value with this position, if there is one.
            #[must_use]
            pub fn from_code(code: u8) -> Option<Self> {
                Self::ALL.get(usize::from(code)).copied()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

named! {
    /// May this node read and write the replicated device?
    Role {
        /// The peer's role while it is not connected.
        Unknown = "Unknown",
        /// Reads and writes; at most one node.
        Primary = "Primary",
        /// Receives; the device cannot even be read.
        Secondary = "Secondary",
    }
}

named! {
    /// What the data on a disk is worth. The order is meaningful: later is better.
    DiskState {
        /// No disk attached.
        Diskless = "Diskless",
        /// The disk failed an operation and is being given up.
        Failed = "Failed",
        /// A mix of old and new blocks: a resync has begun and not finished, or none ever began.
        Inconsistent = "Inconsistent",
        /// Consistent, and known to be older than the peer's.
        Outdated = "Outdated",
        /// Not known (the peer's disk while not connected).
        DUnknown = "DUnknown",
        /// Consistent; whether it is the newest is known only after contact with the peer.
        Consistent = "Consistent",
        /// Consistent and the newest.
        UpToDate = "UpToDate",
    }
}

named! {
    /// The link to the peer.
    ConnectionState {
        /// Not connected and not trying.
        StandAlone = "StandAlone",
        /// Trying to connect.
        Connecting = "Connecting",
        /// Handshake done.
        Connected = "Connected",
    }
}

named! {
    /// What flows over a connected link.
    ReplicationState {
        /// Not connected.
        Off = "Off",
        /// Connected; writes are mirrored, no resync is running.
        Established = "Established",
        /// The resync source waits for the target's bitmap.
        WFBitMapS = "WFBitMapS",
        /// The resync target sends its bitmap and waits for the source to start.
        WFBitMapT = "WFBitMapT",
        /// This node sends the blocks that differ.
        SyncSource = "SyncSource",
        /// This node receives the blocks that differ.
        SyncTarget = "SyncTarget",
    }
}
