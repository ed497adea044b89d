//! The language between the administrator's verbs and the daemon: commands, refusals, status.

use serde::{Deserialize, Serialize};

use crate::bitmap::Bitmap;
use crate::engine::Tuning;
use crate::event::BLOCK;
use crate::meta::Superblock;
use crate::state::{ConnectionState, DiskState, ReplicationState, Role};

/// What an administrator asks of a running resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Become Primary.
    Primary {
        /// Even if the local disk is not known to be the newest.
        force: bool,
        /// The term of the cluster's record under which it happens; needed under a cluster manager. On a node
        /// that is Primary already a higher term takes the place of the one it has.
        #[serde(default)]
        term: Option<u64>,
        /// The record says that only this node is up to date: writes are answered without the peer.
        #[serde(default)]
        alone: bool,
    },
    /// Become Secondary.
    Secondary,
    /// Promise durably to take part in no older term. For the cluster manager, as the next two.
    Fence {
        /// The oldest term that is still taken part in.
        term: u64,
    },
    /// The record says that only this node is up to date: answer writes without the peer, until it is up to
    /// date again.
    GoAlone {
        /// The term under which this node is Primary.
        term: u64,
        /// The loss of the peer for which that was recorded.
        loss: u64,
    },
    /// Take the device away from its users at once: all their requests fail. This node becomes Secondary, the
    /// device is gone as soon as nobody holds it open.
    Revoke,
    /// Start to connect.
    Connect {
        /// Give up this node's changes since a split brain: become the target whatever the generations say.
        discard_my_data: bool,
    },
    /// Stop being connected.
    Disconnect,
    /// Declare the local data worthless: resync everything from the peer.
    Invalidate,
    /// Declare the peer's data worthless: resync everything from here.
    InvalidateRemote,
    /// Call this disk older than the peer's: it is promoted by force only, until it meets the peer.
    Outdate,
    /// Declare that two disks that were only just created hold the same: there is no first resync.
    SkipInitialSync,
    /// Let writes wait. Answered when those that were on their way are on both disks.
    SuspendIo,
    /// Let them go on.
    ResumeIo,
    /// Follow these options from now on.
    Adjust(Tuning),
    /// Be what this disk was before the resync that was interrupted. Answered when it is done.
    Rollback,
    /// Bring everything that was asked for to its end, and begin nothing: for the exchange of the daemon's program.
    Pause,
    /// End the pause.
    Unpause,
    /// Compare both disks, block by block, while applications go on. Answered when it has begun; the status tells
    /// the rest.
    Verify {
        /// Write this node's blocks over those of the peer that differ.
        repair: bool,
    },
    /// End a verify; done too when none runs.
    VerifyStop,
    /// Hold the resync up that this node sends, until it is told to go on or the connection is lost.
    PauseSync,
    /// Let it go on.
    ResumeSync,
    /// Let the device become as large as both disks allow. Answered when it is.
    Resize,
    /// Answer when connected.
    WaitConnect,
    /// Answer when connected and both disks are UpToDate.
    WaitSync,
    /// Disconnect, detach, forget.
    Down,
}

/// Why a command was refused, with DRBD's numbers and sentences (drbd_strings.c).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}", self.reason.text())]
pub struct Refusal {
    /// The class of the refusal.
    pub reason: Reason,
    /// What forbids it in this very case, and what would help.
    pub detail: String,
}

/// The classes of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The peer is Primary, or is about to be.
    TwoPrimaries,
    /// The local data is not known to be the newest.
    NoUpToDateDisk,
    /// The device is open.
    InUse,
    /// The command needs the peer.
    NoConnection,
    /// Another change is on its way.
    InTransition,
    /// The peer said no.
    PeerRefused,
    /// A metadata or data write failed.
    DiskFailed,
    /// The block device could not be made.
    ExportFailed,
    /// Resource is going down.
    Stopping,
    /// The cluster manager decides, or there is none.
    Managed,
    /// A newer term was promised.
    Fenced,
    /// What was decided was decided for another moment.
    Stale,
    /// No resync was interrupted here, or its undo log is not there.
    NoUndo,
    /// The disks have no room for a larger device.
    TooSmall,
    /// The peer is connected.
    Connected,
    /// The disk holds nothing that could be older.
    LowerThanOutdated,
    /// There is no device here.
    NotPrimary,
    /// A disk has held data.
    NotBlank,
}

impl Reason {
    /// DRBD's number of the refusal.
    #[must_use]
    pub const fn code(self) -> i32 {
        match self {
            Self::TwoPrimaries => -1,
            Self::NoUpToDateDisk => -2,
            Self::Connected => -6,
            Self::PeerRefused => -10,
            Self::InUse => -12,
            Self::NoConnection => -15,
            Self::LowerThanOutdated => -16,
            Self::InTransition => -18,
            Self::Stopping => -19,
            Self::DiskFailed => -20,
            Self::ExportFailed => -21,
            Self::Managed => -30,
            Self::Fenced => -31,
            Self::Stale => -32,
            Self::NoUndo => -33,
            Self::TooSmall => -34,
            Self::NotPrimary => -35,
            Self::NotBlank => -36,
        }
    }

    /// The sentence.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::TwoPrimaries => "Multiple primaries not allowed by config",
            Self::NoUpToDateDisk => "Need access to UpToDate data",
            Self::PeerRefused => "State change was refused by peer node",
            Self::InUse => "Device is held open by someone",
            Self::NoConnection => "State change requires a connection",
            Self::InTransition => "In transient state, retry after next state change",
            Self::Stopping => "Concurrent state changes detected and aborted",
            Self::DiskFailed => "The local disk failed",
            Self::ExportFailed => "The block device could not be created",
            Self::Managed => "The cluster manager decides about this resource",
            Self::Fenced => "A newer term was promised to the cluster",
            Self::Stale => "The decision was made for an earlier state",
            Self::NoUndo => "There is nothing to roll back",
            Self::TooSmall => "The disks have no room for a larger device",
            Self::Connected => "Refusing to be Outdated while Connected",
            Self::LowerThanOutdated => "Disk state is lower than outdated",
            Self::NotPrimary => "This node is not Primary",
            Self::NotBlank => "The disks are not new",
        }
    }

    /// Exit code of the verb.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::NoUpToDateDisk => 17,
            Self::LowerThanOutdated => 5,
            _ => 11,
        }
    }
}

/// Everything there is to know about one resource at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Resource name.
    pub name: String,
    /// Number of this node.
    pub node_id: u32,
    /// Role of this node.
    pub role: Role,
    /// The one volume.
    pub device: DeviceStatus,
    /// The link to the one peer.
    pub connection: ConnectionStatus,
    /// What the cluster manager has decided; `None` without one (`managed no`).
    #[serde(default)]
    pub managed: Option<Managed>,
    /// Writes wait until an administrator lets them go on.
    #[serde(default)]
    pub suspended: bool,
}

/// The generation identifiers of a disk and what it knows besides, as `show-gi` shows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationStatus {
    /// Names the data.
    pub current: u64,
    /// The generation since which the bitmap records changes; 0 without one.
    pub bitmap: u64,
    /// Older ones, newest first.
    pub history: Vec<u64>,
    /// The data is of one point in time.
    pub consistent: bool,
    /// It was the newest when last known.
    pub was_up_to_date: bool,
    /// The node is Primary, or was when it was last heard of.
    pub primary: bool,
    /// It crashed as Primary, and was not in step with the peer since.
    pub crashed_primary: bool,
    /// The peer is connected.
    pub connected: bool,
    /// The peer's disk is Outdated or worse.
    pub peer_outdated: bool,
    /// Both disks have met.
    pub peer_known: bool,
}

impl GenerationStatus {
    /// What a disk alone tells.
    #[must_use]
    pub fn of_disk(superblock: &Superblock) -> Self {
        let generations = &superblock.generations;
        Self {
            current: generations.current,
            bitmap: generations.bitmap,
            history: generations.history.to_vec(),
            consistent: superblock.consistent,
            was_up_to_date: superblock.was_up_to_date,
            primary: superblock.primary,
            crashed_primary: superblock.crashed_primary,
            connected: false,
            peer_outdated: false,
            peer_known: superblock.agreed_bytes > 0,
        }
    }
}

/// The blocks of a disk that the peer's is not known to have alike, as `diff` shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differences {
    /// All of them, KiB.
    pub total_kib: u64,
    /// The first of them in ascending order: offset and length in KiB.
    pub places: Vec<(u64, u64)>,
}

impl Differences {
    /// How many places are told.
    const LISTED: usize = 10_000;

    /// What a bitmap marks.
    #[must_use]
    pub fn of(bitmap: &Bitmap) -> Self {
        let kib = BLOCK / 1024;
        let mut from = 0;
        let runs = std::iter::from_fn(|| {
            let (first, len) = bitmap.next_run(from, u64::MAX)?;
            from = first + len;
            Some((first * kib, len * kib))
        });
        let places = runs.take(Self::LISTED).collect();
        Self { total_kib: bitmap.count() * kib, places }
    }
}

/// How a resource stands with its cluster manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Managed {
    /// Highest term promised: nothing of an older one is taken part in.
    pub fence: u64,
    /// The term under which this node is Primary.
    pub term: Option<u64>,
    /// Writes are answered without the peer: the record says that only this node is up to date.
    pub alone: bool,
    /// Counts how often, since the daemon started, writes began to wait because the peer was not up to date.
    pub loss: u64,
    /// Writes wait: the peer is not up to date, and the record does not say that this node may go on alone.
    pub blocked: bool,
    /// A newer Primary took its term away.
    pub deposed: bool,
}

/// The local disk and the exported device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// Volume number.
    pub volume: u32,
    /// Minor number of the configured device path.
    pub minor: u32,
    /// State of the local disk.
    pub disk: DiskState,
    /// Usable size in KiB.
    pub size_kib: u64,
    /// What the local disk would allow, KiB.
    #[serde(default)]
    pub capacity_kib: u64,
    /// Read by applications, KiB.
    pub read_kib: u64,
    /// Written to the local disk, KiB.
    pub written_kib: u64,
    /// Activity-log transactions.
    pub al_writes: u64,
    /// Bitmap page writes.
    pub bm_writes: u64,
    /// Application requests not yet answered.
    pub upper_pending: u64,
    /// Disk operations not yet answered.
    pub lower_pending: u64,
    /// What applications have waited. The shell measures it: its clock is finer than the core's.
    #[serde(default)]
    pub waits: Waits,
    /// What a rollback would bring back.
    #[serde(default)]
    pub undo: Option<UndoStatus>,
}

/// Requests of applications that were answered since the daemon took the device up, and how long they took together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    /// Writes.
    pub writes: u64,
    /// Microseconds from the kernel's request to the answer, summed up.
    pub write_us: u64,
    /// Flushes.
    pub flushes: u64,
    /// Microseconds, summed up.
    pub flush_us: u64,
}

/// The undo log of a resync that is not finished.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct UndoStatus {
    /// Old data that it holds, KiB.
    pub saved_kib: u64,
    /// Until when the disk had everything before the resync, in seconds since 1970; 0 where it is not known.
    pub as_of: u64,
    /// Percent given back by a running rollback.
    pub restored: Option<f64>,
}

/// The link and the peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// Number of the peer.
    pub peer_node_id: u32,
    /// Name of the peer (`uname -n`).
    pub name: String,
    /// State of the link.
    pub state: ConnectionState,
    /// Why it is StandAlone, when there is a reason to tell (split brain, unrelated data …).
    pub standalone_reason: Option<String>,
    /// Role of the peer.
    pub peer_role: Role,
    /// What flows.
    pub replication: ReplicationState,
    /// State of the peer's disk.
    pub peer_disk: DiskState,
    /// Data received from the peer, KiB.
    pub received_kib: u64,
    /// Data sent to the peer, KiB.
    pub sent_kib: u64,
    /// Known differences, KiB.
    pub out_of_sync_kib: u64,
    /// Writes sent and not yet confirmed by the peer.
    pub pending: u64,
    /// Writes received and not yet confirmed to the peer.
    pub unacked: u64,
    /// The running resync.
    pub sync: Option<SyncStatus>,
    /// The running or last verify since the daemon was started, on the node where it was asked for.
    #[serde(default)]
    pub verify: Option<VerifyStatus>,
}

/// A comparison of both disks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerifyStatus {
    /// It is not over yet.
    pub running: bool,
    /// Why it ended before its time.
    pub interrupted: Option<String>,
    /// Percent compared, 0–100.
    pub done: f64,
    /// Size of the device in KiB.
    pub total_kib: u64,
    /// Milliseconds that it has taken.
    pub elapsed_ms: u64,
    /// Found to differ, KiB.
    pub differing_kib: u64,
    /// Of them, written over on the peer, KiB.
    pub repaired_kib: u64,
    /// The first places that differ: offset and length in KiB.
    pub places: Vec<(u64, u64)>,
}

/// Progress of a resync.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SyncStatus {
    /// Blocks that differed when it began, KiB.
    pub total_kib: u64,
    /// Percent done, 0–100.
    pub done: f64,
    /// Milliseconds since it began.
    pub elapsed_ms: u64,
    /// Found to be the same on both sides and not sent, KiB; told by the source.
    #[serde(default)]
    pub same_kib: u64,
    /// Held up by an administrator; told by the source.
    #[serde(default)]
    pub paused: bool,
    /// Recent speed in MiB/s.
    pub rate_mib: f64,
    /// Seconds left at the recent speed.
    pub eta_seconds: Option<u64>,
}
