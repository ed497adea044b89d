//! The engine: one resource's state, events in, actions out.

use crate::control::Status;
use crate::event::{Action, Event, Millis};
use crate::meta::Attached;

/// What the configuration says about one resource, seen from one node. Checked before it gets here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Resource name.
    pub resource: String,
    /// Name of this node (`uname -n`).
    pub node: String,
    /// Number of this node.
    pub node_id: u32,
    /// Name of the peer.
    pub peer: String,
    /// Number of the peer.
    pub peer_node_id: u32,
    /// Number of the volume.
    pub volume: u32,
    /// Minor number of the configured device path.
    pub minor: u32,
    /// Milliseconds between signs of life on an idle link (`ping-int`).
    pub ping_interval_ms: Millis,
    /// Milliseconds to wait for the answer to a ping (`ping-timeout`).
    pub ping_timeout_ms: Millis,
    /// Milliseconds that the peer may take to confirm a request (`timeout` × `ko-count`).
    pub request_timeout_ms: Millis,
    /// Milliseconds between attempts to connect (`connect-int`).
    pub connect_interval_ms: Millis,
    /// Extents of the activity log (`al-extents`).
    pub al_extents: u32,
    /// Most KiB/s that a resync may send; 0 for no limit.
    pub resync_rate_kib: u64,
}

impl Settings {
    /// Whether this node dials and the other one listens: the lower node number dials, so that there is
    /// never more than one connection on its way.
    #[must_use]
    pub fn dials(&self) -> bool {
        self.node_id < self.peer_node_id
    }
}

/// One resource.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
}

impl Engine {
    /// Takes over a disk whose metadata was just read. Begins as Secondary; connects at once.
    ///
    /// `seed` feeds the generation identifiers that this engine makes up: random in the daemon, fixed in a
    /// simulation. The first actions (storing what the crash recovery found, dialling) come in `out`.
    pub fn new(
        settings: Settings,
        attached: Attached,
        seed: u64,
        now: Millis,
        out: &mut Vec<Action>,
    ) -> Self {
        let _ = (attached, seed, now, out);
        Self { settings }
    }

    /// Takes one event and appends what shall be done.
    pub fn handle(&mut self, event: Event, now: Millis, out: &mut Vec<Action>) {
        let _ = (event, now, out);
    }

    /// Everything there is to know, for `status`.
    #[must_use]
    pub fn status(&self, now: Millis) -> Status {
        let _ = now;
        let _ = &self.settings;
        todo!("engine")
    }
}
