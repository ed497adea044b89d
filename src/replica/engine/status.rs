//! What the engine tells about itself.

use super::Engine;
use crate::control::{ConnectionStatus, DeviceStatus, Differences, GenerationStatus, Managed, Status, Waits};
use crate::event::{BLOCK, Millis};
use crate::state::{ConnectionState, DiskState, ReplicationState, Role};

/// The part of the status that somebody who watches must learn of at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Essence {
    role: Role,
    disk: DiskState,
    connection: ConnectionState,
    peer_role: Role,
    peer_disk: DiskState,
    replication: ReplicationState,
    syncing: bool,
    verifying: bool,
    suspended: bool,
    managed: Option<Managed>,
}

impl Engine {
    /// Everything there is to know, for `status`.
    #[must_use]
    pub fn status(&self, _now: Millis) -> Status {
        Status {
            name: self.settings.resource.clone(),
            node_id: self.settings.node_id,
            role: self.role.visible(),
            device: self.device_status(),
            connection: self.connection_status(),
            managed: self.managed(),
            suspended: self.suspension.is_on(),
        }
    }

    /// The generation identifiers, for `show-gi`.
    #[must_use]
    pub fn generations(&self) -> GenerationStatus {
        let joined = self.link.joined();
        let peer_disk = joined.map(|s| s.peer_disk).or(self.link.left);
        GenerationStatus {
            connected: joined.is_some(),
            peer_outdated: peer_disk.is_some_and(|disk| disk <= DiskState::Outdated),
            ..GenerationStatus::of_disk(&self.superblock)
        }
    }

    /// Which blocks the peer may not have, for `diff`.
    #[must_use]
    pub fn differences(&self) -> Differences {
        Differences::of(&self.bitmap)
    }

    /// What of the status a watcher must learn of at once; cheap.
    #[must_use]
    pub fn essence(&self) -> Essence {
        let joined = self.link.joined();
        Essence {
            role: self.role.visible(),
            disk: self.disk,
            connection: self.link.state(),
            peer_role: joined.map_or(Role::Unknown, |s| s.peer_role),
            peer_disk: joined.map_or(DiskState::DUnknown, |s| s.peer_disk),
            replication: joined.map_or(ReplicationState::Off, |s| s.replication),
            syncing: self.resync.is_running(),
            verifying: self.verify.is_running(),
            suspended: self.suspension.is_on(),
            managed: self.managed(),
        }
    }

    fn device_status(&self) -> DeviceStatus {
        DeviceStatus {
            volume: self.settings.volume,
            minor: self.settings.minor,
            disk: self.disk,
            size_kib: self.device_bytes() / 1024,
            capacity_kib: self.layout.data_bytes / 1024,
            read_kib: self.counters.read_bytes / 1024,
            written_kib: self.counters.written_bytes / 1024,
            al_writes: self.counters.al_writes,
            bm_writes: self.counters.bm_writes,
            upper_pending: self.requests.pending(),
            lower_pending: u64::try_from(self.ios.len()).unwrap_or(u64::MAX),
            waits: Waits::default(),
            undo: self.undo_status(),
        }
    }

    fn connection_status(&self) -> ConnectionStatus {
        let joined = self.link.joined();
        let left = self.link.left.unwrap_or(DiskState::DUnknown);
        ConnectionStatus {
            peer_node_id: self.settings.peer_node_id,
            name: self.settings.peer.clone(),
            state: self.link.state(),
            standalone_reason: self.link.reason.clone(),
            peer_role: joined.map_or(Role::Unknown, |s| s.peer_role),
            replication: joined.map_or(ReplicationState::Off, |s| s.replication),
            peer_disk: joined.map_or(left, |s| s.peer_disk),
            received_kib: self.counters.received_bytes / 1024,
            sent_kib: self.counters.sent_bytes / 1024,
            out_of_sync_kib: self.out_of_sync_blocks() * BLOCK / 1024,
            pending: self.requests.unconfirmed(),
            unacked: self.peer_requests(),
            sync: self.sync_status(),
            verify: self.verify_status(),
        }
    }

    fn out_of_sync_blocks(&self) -> u64 {
        if self.sync_status().is_some() { self.blocks_left() } else { self.bitmap.count() }
    }

    fn peer_requests(&self) -> u64 {
        let count = self.ios.values().filter(|io| matches!(io, super::Io::PeerWrite(_))).count();
        u64::try_from(count).unwrap_or(u64::MAX)
    }
}
