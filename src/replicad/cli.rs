//! The command line of this part: drbdadm's verbs, and the daemon.

use clap::{Args, Subcommand};

use crate::config::Site;
use crate::daemon::{self, Options};
use crate::export;
use crate::verbs;

/// Verbs of `futago replica`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a disk part of a resource: write empty metadata to its end. Refuses a disk that carries anything.
    #[command(
        after_help = "Example:\n  futago replica create-md r0\n\nExit code 40: refused, the disk carries something."
    )]
    CreateMd {
        /// Which.
        #[command(flatten)]
        target: Target,
        /// Even if the disk carries a file system, partitions or older metadata.
        #[arg(long)]
        force: bool,
    },
    /// Attach the disk and begin to connect, as the resource file says now.
    #[command(after_help = "Example:\n  futago replica up r0")]
    Up(Target),
    /// Disconnect, detach, take the block device away.
    #[command(
        after_help = "Example:\n  futago replica down r0\n\nRefused while someone has the device open."
    )]
    Down(Target),
    /// Become Primary: the block device appears here.
    #[command(
        after_help = "Example:\n  futago replica primary r0\n\nFirst use of a new pair, on the host whose data shall be kept:\n  futago replica primary --force r0\n\nExit code 17: the local data is not known to be the newest."
    )]
    Primary {
        /// Which.
        #[command(flatten)]
        target: Target,
        /// Even if the local data is not known to be the newest.
        #[arg(long)]
        force: bool,
        /// Term of the cluster's record: what the cluster manager gives (resource option `managed`).
        #[arg(long, value_name = "N")]
        term: Option<u64>,
        /// The record says that only this node is up to date.
        #[arg(long, requires = "term")]
        alone: bool,
    },
    /// Become Secondary: the block device disappears here.
    #[command(
        after_help = "Example:\n  umount /mnt && futago replica secondary r0\n\nRefused while someone has the device open."
    )]
    Secondary(Target),
    /// Show roles, disks and what is going on between them.
    #[command(after_help = "Examples:\n  futago replica status r0\n  futago replica status --json")]
    Status(StatusArgs),
    /// Print what is there, then each change of it, a line each, until a resource goes down.
    #[command(
        name = "events2",
        after_help = "Examples:\n  futago replica events2 r0\n  futago replica events2 --json | jq -c 'select(.object == \"device\")'\n  futago replica events2 --now --full\n\nWords and shape are those of drbdsetup events2. An exchange or a crash of the daemon is waited for.\nExit code 10: the resource is not up, or went down. 20: the daemon is gone."
    )]
    Events2(EventsArgs),
    /// Print the role of this node.
    #[command(after_help = "Example:\n  futago replica role r0      prints Primary or Secondary")]
    Role(Target),
    /// Print the states of the local disk and the peer's.
    #[command(after_help = "Example:\n  futago replica dstate r0    prints UpToDate/UpToDate")]
    Dstate(Target),
    /// Print the state of the connection.
    #[command(after_help = "Example:\n  futago replica cstate r0    prints Connected")]
    Cstate(Target),
    /// Begin to connect to the peer.
    #[command(
        after_help = "Example:\n  futago replica connect r0\n\nAfter a split brain, on the host whose changes shall be lost:\n  futago replica connect --discard-my-data r0"
    )]
    Connect {
        /// Which.
        #[command(flatten)]
        target: Target,
        /// Give up what was changed here since the split brain.
        #[arg(long)]
        discard_my_data: bool,
    },
    /// Stop being connected.
    #[command(after_help = "Example:\n  futago replica disconnect r0")]
    Disconnect(Target),
    /// Wait until the peer is connected.
    #[command(
        after_help = "Example:\n  futago replica wait-connect --timeout 30 r0\n\nExit code 5: not connected in time."
    )]
    WaitConnect(Wait),
    /// Wait until both disks are UpToDate.
    #[command(after_help = "Example:\n  futago replica wait-sync r0\n\nExit code 5: not in sync in time.")]
    WaitSync(Wait),
    /// Compare both disks block by block while applications go on; typed where the resource is Primary.
    #[command(
        after_help = "Examples:\n  futago replica verify r0\n  futago replica verify --repair r0    write this host's blocks over those that differ on the peer\n  futago replica verify --stop r0\n\nWrites wait only while their own MiB is compared. `resync-rate` limits the speed.\nCtrl-C ends the watching, not the verify.\nExit code 6: they differ. 7: it ended before its time."
    )]
    Verify {
        /// Which.
        #[command(flatten)]
        target: Target,
        /// Write this host's blocks over those that differ on the peer.
        #[arg(long, conflicts_with = "stop")]
        repair: bool,
        /// End a verify that runs.
        #[arg(long)]
        stop: bool,
        /// Do not wait for the end; `status` shows it.
        #[arg(long, conflicts_with = "stop")]
        no_wait: bool,
    },
    /// Be what this disk was before a resync whose source was lost on the way.
    #[command(
        after_help = "Example, when ha-a will not come back and the disk of this host is Inconsistent, `undo:ready`:\n  futago replica rollback r0\n\nThe disk is Outdated afterwards: it lacks what was written since. Interrupted, it can be begun anew."
    )]
    Rollback(Target),
    /// Hold a resync up: for hours in which applications need the disks or the line alone. Typed on its source.
    ///
    /// Until `resume-sync`, or until the connection is lost: the pair has one good copy meanwhile.
    #[command(
        after_help = "Example, on the host that shows `replication:SyncSource`:\n  futago replica pause-sync r0\n\nSlower instead: `resync-rate` (docs/configuration.md).\nExit code 11: this host sends no resync."
    )]
    PauseSync(Target),
    /// Let a resync go on that `pause-sync` holds up.
    #[command(after_help = "Example:\n  futago replica resume-sync r0")]
    ResumeSync(Target),
    /// Let the device grow, while it is in use, to what both disks have room for.
    ///
    /// First enlarge the disk, or the partition, of both hosts; then type this on the Secondary, and on the Primary. What is
    /// new is made the same on both disks before the device shows it. The file system is yours to enlarge afterwards.
    #[command(
        after_help = "Example, on each host, first where the service does not run:\n  lvextend -L +20G /dev/vg0/data && futago replica resize r0\nthen, where it runs:\n  resize2fs /dev/drbd1\n\nExit code 11: refused; nothing was changed."
    )]
    Resize(Target),
    /// Exchange the daemon's program for the one that is installed now; mounted devices go on.
    ///
    /// Requests of applications are brought to their end, the new program takes the process over, and takes new requests:
    /// who uses a device waits for a moment. Refused while writes wait for the peer; everything goes on as before then.
    #[command(
        after_help = "Example, after an update of futago:\n  futago replica reexec\n\nAlso: systemctl reload futago-replicad. Exit code 11: refused."
    )]
    Reexec(Here),
    /// Declare the local data worthless and fetch all of it from the peer.
    #[command(after_help = "Example:\n  futago replica invalidate r0")]
    Invalidate(Target),
    /// Declare the peer's data worthless: all of it is compared with this host's, and what differs is written over.
    #[command(
        after_help = "Example, on the host with the good data:\n  futago replica invalidate-remote r0\n\nThe device here goes on. The peer must be connected and Secondary; until the resync has ended this host has the only good copy.\nA few blocks that differ: `verify --repair`. With `managed yes` refused (-30)."
    )]
    InvalidateRemote(Target),
    /// Call this disk older than the peer's, so that nobody promotes it by mistake.
    ///
    /// It is promoted by `primary --force` only, until it meets the peer and both know what they have.
    #[command(
        after_help = "Example, on the host that stayed behind:\n  futago replica disconnect r0 && futago replica outdate r0\n\nExit code 5: the disk is Inconsistent already. 11: refused while connected, or as Primary. With `managed yes` refused (-30)."
    )]
    Outdate(Target),
    /// Skip the first resync of a new pair: declare that two disks that were just created hold the same.
    ///
    /// They do when both are new and read as zeroes (thin volumes, disks that were discarded as a whole), or when nobody will read a block
    /// before it was written. Nothing is compared: `verify` would find what differs all the same.
    #[command(
        after_help = "Example, on one host of a new pair, after `create-md` and `up` on both:\n  futago replica new-current-uuid --clear-bitmap r0\n  futago replica primary r0\n\nExit code 11: refused, one of the disks has held data (-36), or the peer does not agree (-10)."
    )]
    NewCurrentUuid {
        /// Which.
        #[command(flatten)]
        target: Target,
        /// Must be given: both disks count as the same from now on.
        #[arg(long, required = true)]
        clear_bitmap: bool,
    },
    /// Let writes wait, once those on their way are on both disks: for snapshots of both that are the same.
    ///
    /// Whoever writes waits until `resume-io`. Reads go on.
    #[command(
        after_help = "Example, on the Primary:\n  futago replica suspend-io r0\n  lvcreate -s -n snap -L 1G /dev/vg0/data         # on both hosts\n  futago replica resume-io r0\n\nIt ends with `resume-io`, `down`, or the daemon. With `managed yes` refused (-30): the manager would take the service for one that hangs."
    )]
    SuspendIo(Target),
    /// Let writes go on that `suspend-io` holds up.
    #[command(after_help = "Example:\n  futago replica resume-io r0")]
    ResumeIo(Target),
    /// Follow the resource file, as far as that is possible while the resource is up; bring it up if it is not.
    ///
    /// What holds from now on is printed, and what is needed for the rest. Nothing is disconnected or taken down.
    #[command(
        after_help = "Example, after a change of /etc/futago/replica.d/r0.res:\n  futago replica adjust r0\n\nAt once: ping-int, ping-timeout, timeout, ko-count, connect-int, disk-timeout, resync-rate, undo-log, handlers.\nExit code 10: mistakes in the file; nothing was changed. 11: something needs `reexec`, or `down` and `up`."
    )]
    Adjust(AdjustArgs),
    /// List the blocks of this disk that the peer's is not known to have alike: what this side has written since they
    /// parted.
    #[command(
        after_help = "Examples:\n  futago replica diff r0\n  futago replica diff r0 --json\n\nFrom the daemon while the resource is up, else from the disk. Exit code 6: there are some.\nBlocks that differ without anybody knowing are found by `futago replica verify`."
    )]
    Diff {
        /// Which.
        #[command(flatten)]
        target: Target,
        /// Print an object for programs.
        #[arg(long)]
        json: bool,
    },
    /// Print the generation identifiers of the disk, with what they mean.
    #[command(
        after_help = "Example:\n  futago replica show-gi r0\n\nFrom the daemon while the resource is up, else from the disk. Which side two hosts take for the newer one follows from these (docs/replication.md)."
    )]
    ShowGi(Target),
    /// Print the generation identifiers of the disk in one line.
    #[command(
        after_help = "Example:\n  futago replica get-gi r0     prints CURRENT:BITMAP:HISTORY:HISTORY and twelve flags, as drbdadm does"
    )]
    GetGi(Target),
    /// What the cluster manager does: promise to take part in no term older than this one.
    #[command(
        after_help = "Example:\n  futago replica fence r0 --term 7\n\nFor experts: with `managed yes` the cluster manager does it."
    )]
    Fence {
        /// Which.
        #[command(flatten)]
        target: Target,
        /// The oldest term that is still taken part in.
        #[arg(long, value_name = "N")]
        term: u64,
    },
    /// What the cluster manager does: answer writes without the peer, for this loss of it.
    #[command(
        after_help = "Example:\n  futago replica go-alone r0 --term 7 --loss 1\n\nFor experts: only after the cluster's record says that this node alone is up to date. `status --verbose` shows term and loss."
    )]
    GoAlone {
        /// Which.
        #[command(flatten)]
        target: Target,
        /// The term under which this node is Primary.
        #[arg(long, value_name = "N")]
        term: u64,
        /// Number of the loss of the peer.
        #[arg(long, value_name = "N")]
        loss: u64,
    },
    /// What the cluster manager does: fail all requests to the device at once and become Secondary.
    #[command(
        after_help = "Example:\n  futago replica revoke r0\n\nUsers of the device get errors. It is gone when the last one has closed it."
    )]
    Revoke(Target),
    /// Print what the resource files say, defaults filled in.
    #[command(after_help = "Example:\n  futago replica dump r0")]
    Dump(Optional),
    /// Make or take away a loop device, for the daemon.
    #[command(hide = true)]
    LoopDevice {
        /// attach NAME, detach NUMBER, abandon NUMBER.
        words: Vec<String>,
    },
}

/// A resource.
#[derive(Debug, Args)]
pub struct Target {
    #[command(flatten)]
    pub(crate) site: Site,
    /// Name of the resource, or `all`.
    #[arg(value_name = "RES")]
    pub(crate) resource: String,
}

/// The daemon of this host.
#[derive(Debug, Args)]
pub struct Here {
    #[command(flatten)]
    pub(crate) site: Site,
}

/// A resource, or all.
#[derive(Debug, Args)]
pub struct Optional {
    #[command(flatten)]
    pub(crate) site: Site,
    /// Name of the resource; all when left out.
    #[arg(value_name = "RES", default_value = "all")]
    pub(crate) resource: String,
}

/// Arguments of `adjust`.
#[derive(Debug, Args)]
pub struct AdjustArgs {
    /// Which.
    #[command(flatten)]
    pub target: Target,
    /// Change nothing, only tell what the file says otherwise; exit code 0.
    #[arg(long, short = 'd')]
    pub dry_run: bool,
    /// Print a list for programs, `[{"option","from","to","takes":"nothing|reexec|down-up"}]`.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub(crate) which: Optional,
    /// As JSON, with the keys of drbdsetup.
    #[arg(long)]
    pub(crate) json: bool,
    /// Also what is at rest.
    #[arg(long)]
    pub(crate) verbose: bool,
    /// Also counters.
    #[arg(long)]
    pub(crate) statistics: bool,
}

/// Arguments of `events2`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    #[command(flatten)]
    pub(crate) which: Optional,
    /// End after what is there now.
    #[arg(long)]
    pub(crate) now: bool,
    /// Each change with all words of its object.
    #[arg(long)]
    pub(crate) full: bool,
    /// A JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of the waiting verbs.
#[derive(Debug, Args)]
pub struct Wait {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Longest to wait; for ever when left out.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,
}

/// Arguments of `futago replicad`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  systemctl start futago-replicad\n\nBrings up every resource in /etc/futago/replica.d/*.res, then tells systemd that it is ready.\nFUTAGO_LOG=debug logs every command and connection."
)]
pub struct Daemon {
    #[command(flatten)]
    options: Options,
}

/// Runs a verb; the number is the exit code of the program.
pub fn run_verb(verb: Verb) -> anyhow::Result<u8> {
    match verb {
        Verb::LoopDevice { words } => export::run_helper(&words),
        verb => verbs::run(verb),
    }
}

/// Runs the daemon until it is told to stop.
pub fn run_daemon(daemon: Daemon) -> anyhow::Result<u8> {
    daemon::run(daemon.options)
}
