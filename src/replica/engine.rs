//! The engine: one resource's state, events in, actions out.
//!
//! The rules it keeps, each in the file that carries it:
//!
//! - A write is answered when both disks have it; alone, when its block is marked and a new generation is
//!   durable, so that the peer can never take its older data for the newest (`engine/request.rs`).
//! - A flush is answered when both disks have flushed everything answered before it (`engine/flush.rs`).
//! - An extent is in the activity log before it is written, and leaves it only after a flush of both disks
//!   and the storing of the bitmap (`engine/flush.rs`).
//! - Bits are cleared only after both disks have flushed (`engine/resync.rs`).
//! - A target is marked Inconsistent, durably, before the first block of a resync touches it
//!   (`engine/handshake.rs`).
//! - Two connected nodes are never both Primary (`engine/role.rs`).
//! - Under a cluster manager nothing is answered without its word, and nothing of an older term is taken part
//!   in (`engine/bond.rs`).

mod bond;
mod command;
mod declare;
mod flush;
mod grow;
mod handshake;
mod hang;
mod io;
mod link;
mod pause;
mod request;
mod resume;
mod resync;
mod role;
mod script;
mod status;
mod store;
mod suspend;
mod timer;
mod tuning;
mod undo;
mod verify;

pub use resume::Resume;
pub use status::Essence;
pub use tuning::Tuning;
pub use undo::UndoPolicy;

use std::collections::BTreeMap;

use crate::activity::{ActivityLog, Transaction};
use crate::bitmap::Bitmap;
use crate::control::Reason;
use crate::event::{Action, BLOCK, DiskError, Event, IoId, LogLevel, Millis, Range, Token};
use crate::handler::Handlers;
use crate::message::Message;
use crate::meta::{Attached, Layout, Superblock};
use crate::rng::Rng;
use crate::state::DiskState;

use bond::Bond;
use command::Waiters;
use declare::Declared;
use flush::{Flusher, Purpose};
use grow::Growing;
use hang::{Operation, Patience};
use io::Io;
use link::Link;
use pause::Pause;
use request::Requests;
use resync::Resync;
use role::RoleState;
use script::Scripts;
use store::{Job, Store};
use suspend::Suspension;
use undo::Undo;
use verify::Verify;

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
    /// Milliseconds that the local disk may take to answer (`disk-timeout`); 0: for ever.
    pub disk_timeout_ms: Millis,
    /// Extents of the activity log (`al-extents`).
    pub al_extents: u32,
    /// Most KiB/s that a resync may send; 0 for no limit.
    pub resync_rate_kib: u64,
    /// The cluster manager decides who is Primary and who goes on alone (`managed`): see `engine/bond.rs`.
    pub managed: bool,
    /// Whether a resync of this disk keeps what it writes over.
    pub undo: UndoPolicy,
    /// The scripts that are called.
    pub handlers: Handlers,
}

/// What a core cannot know by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Feeds the generation identifiers that the engine makes up: random in the daemon, fixed in a simulation.
    pub seed: u64,
    /// Seconds since 1970 when the shell's clock of milliseconds was 0. For people; never decides.
    pub unix_seconds: u64,
    /// An earlier process was Primary with this disk: this one goes on.
    pub resume: Option<Resume>,
    /// [`Engine::contact`] of an earlier process, if the machine has not been off since.
    pub contact: Option<u64>,
    /// The disk gives back the room of what is zeroed.
    pub unmaps: bool,
}

impl Settings {
    /// Whether this node dials and the other one listens: the lower node number dials, so that there is
    /// never more than one connection on its way.
    #[must_use]
    pub fn dials(&self) -> bool {
        self.node_id < self.peer_node_id
    }
}

/// What goes on when a metadata job is durable.
#[derive(Debug)]
enum Then {
    /// Nothing.
    Nothing,
    /// The generation of this lone period is durable.
    Alone,
    /// The activity-log transaction is durable.
    ActivityCommitted(Transaction),
    /// The bitmap is durable: the leaving extents may go.
    ActivityEvicted,
    /// The merged bitmap and the base are durable: tell the target.
    AnnounceSync,
    /// The target's disk is marked Inconsistent: let data come.
    TargetReady,
    /// Every block is on both disks: let the target take over the generations.
    OfferFinish,
    /// The target's disk is UpToDate.
    TargetCommitted,
    /// The outcome of a handshake without resync is stored.
    NoSyncStored,
    /// Promotion and fence are stored: the device may be made.
    Promoted { fence: u64, lone: bool },
    /// Promotion failed and is taken back.
    PromotionUndone { reason: Reason, detail: String },
    /// Demotion is stored.
    Demoted,
    /// The disk is marked as worth what it is when the link is left on purpose.
    ReadyToLeave,
    /// The peer left on purpose: this disk is marked Outdated.
    Outdated,
    /// The disk is marked Inconsistent by the administrator.
    Invalidated { token: Token },
    /// This disk is marked as older by the administrator.
    DeclaredOutdated { token: Token },
    /// Every block is marked, for the peer to be written over.
    PeerInvalidated { token: Token },
    /// Both new disks have the same generation.
    DeclaredEqual { token: Token },
    /// The same, asked for by the peer, which has to store it too.
    EqualForPeer { link: crate::event::LinkId },
    /// A promise is stored.
    FenceRaised { term: u64, token: Option<Token> },
    /// A newer term of this same Primary is stored.
    Renewed { token: Token, term: u64 },
    /// The term of a peer that asks for the role is stored: answer it.
    RoleAsked { link: crate::event::LinkId, term: u64 },
    /// It is stored that this node is Secondary and what may differ.
    Revoked,
    /// The superblock does not name the undo log any more.
    UndoAbandoned,
    /// What a rollback will change is marked.
    RollbackMarked,
    /// The disk is what it was before the resync.
    RolledBack,
    /// Nothing of what was asked for is left.
    Paused,
    /// The device's new size is stored.
    Grown,
    /// The same, asked for by the peer.
    GrownForPeer { link: crate::event::LinkId, bytes: u64 },
}

#[derive(Debug, Default)]
struct Counters {
    read_bytes: u64,
    written_bytes: u64,
    al_writes: u64,
    bm_writes: u64,
    received_bytes: u64,
    sent_bytes: u64,
}

/// One resource.
pub struct Engine {
    settings: Settings,
    unix_seconds_at_0: u64,
    now: Millis,
    out: Vec<Action>,
    rng: Rng,

    layout: Layout,
    superblock: Superblock,
    bitmap: Bitmap,
    activity: ActivityLog,
    store: Store,
    disk: DiskState,
    disk_failure: Option<String>,
    ios: BTreeMap<IoId, Io>,
    last_io: u64,
    patience: Patience,
    /// Completed writes for the peer, and how many of them are known durable.
    peer_written: u64,
    peer_flushed: u64,

    role: RoleState,
    bond: Bond,
    link: Link,
    requests: Requests,
    flusher: Flusher,
    resync: Resync,
    verify: Verify,
    undo: Undo,
    scripts: Scripts,
    pause: Option<Pause>,
    growing: Option<Growing>,
    /// The disk gives back the room of what is zeroed.
    unmaps: bool,
    /// Size of the block device as the shell was last told.
    shown_bytes: u64,
    waiters: Waiters,
    declared: Declared,
    suspension: Suspension,
    counters: Counters,
    /// The generation at which this daemon was last in contact and in sync with the peer.
    seen_generation: Option<u64>,
    woken_at: Option<Millis>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("status", &self.status(self.now)).finish_non_exhaustive()
    }
}

impl Engine {
    /// Takes over a disk whose metadata was just read. Begins as Secondary; connects at once.
    ///
    /// The first actions (storing what the crash recovery found, dialling) come in `out`.
    pub fn new(
        settings: Settings,
        attached: Attached,
        origin: Origin,
        now: Millis,
        out: &mut Vec<Action>,
    ) -> Self {
        let Attached { layout, superblock, bitmap, activity, undo } = attached;
        let log = superblock.undo.as_ref().map(|mark| mark.log);
        let mut engine = Self {
            activity: ActivityLog::new(settings.al_extents, activity.sequence),
            disk: disk_state(&superblock),
            link: Link::new(&settings, now),
            settings,
            unix_seconds_at_0: origin.unix_seconds,
            now,
            out: Vec::new(),
            rng: Rng::new(origin.seed),
            layout,
            bitmap,
            store: Store::default(),
            disk_failure: None,
            ios: BTreeMap::new(),
            last_io: 0,
            patience: Patience::default(),
            peer_written: 0,
            peer_flushed: 0,
            role: RoleState::Secondary,
            bond: Bond::new(superblock.fence),
            superblock,
            requests: Requests::default(),
            flusher: Flusher::new(now),
            resync: Resync::default(),
            verify: Verify::default(),
            undo: Undo::new(log, undo),
            scripts: Scripts::default(),
            pause: None,
            growing: None,
            unmaps: origin.unmaps,
            shown_bytes: 0,
            waiters: Waiters::default(),
            declared: Declared::default(),
            suspension: Suspension::default(),
            counters: Counters::default(),
            seen_generation: None,
            woken_at: None,
        };
        if log.is_none() {
            engine.drop_undo();
        }
        match origin.resume.filter(|_| engine.superblock.primary) {
            Some(resume) => engine.take_over(resume, &activity),
            None => {
                engine.keep_contact(origin.contact);
                engine.recover(&activity);
            }
        }
        engine.advance();
        out.append(&mut engine.out);
        engine
    }

    /// After a crash as Primary, everything that was hot may differ.
    fn recover(&mut self, activity: &Transaction) {
        if !self.superblock.primary {
            return;
        }
        let marked = self.mark_hot(activity);
        self.log(
            LogLevel::Warn,
            format!(
                "crashed while Primary; marked additional {marked} KiB as out of sync from the activity log"
            ),
        );
        self.store.push(Job::new(Then::Nothing).bitmap().superblock(|s| {
            s.primary = false;
            s.crashed_primary = true;
        }));
    }

    /// Everything that was hot may differ; KiB that were not marked before.
    fn mark_hot(&mut self, activity: &Transaction) -> u64 {
        let before = self.bitmap.count();
        activity.mark(&mut self.bitmap);
        (self.bitmap.count() - before) * BLOCK / 1024
    }

    /// Takes one event and appends what shall be done.
    pub fn handle(&mut self, event: Event, now: Millis, out: &mut Vec<Action>) {
        self.patience.pass(now.saturating_sub(self.now));
        self.now = now.max(self.now);
        match event {
            Event::Front { slot, op } => self.front(slot, op),
            Event::DiskDone { io, result } => self.disk_done(io, result),
            Event::Digested { io, result } => self.digested(io, result),
            Event::Restored { io, result } => self.restored(io, result),
            Event::MetaDone { tx, result } => self.meta_done(tx, result),
            Event::LinkUp { link } => self.link_up(link),
            Event::DialFailed => self.dial_failed(),
            Event::LinkLost { link, reason } => self.link_lost(link, &reason),
            Event::Received { link, term, message, payload } => {
                self.received(link, term, message, payload);
            }
            Event::ExportStarted => self.export_started(),
            Event::ExportFailed { reason } => self.export_failed(Reason::ExportFailed, reason),
            Event::ExportResized { result } => self.export_resized(result),
            Event::ExportStopped => self.export_stopped(),
            Event::ExportBusy { holders } => self.export_busy(&holders),
            Event::Command { token, command } => self.command(token, command),
            Event::HandlerEnded { call, result } => self.handler_ended(call, result),
            Event::Abandoned { token } => self.waiters.forget(token),
            Event::Tick => self.woken_at = None,
        }
        self.advance();
        out.append(&mut self.out);
    }

    /// Does everything that the new state allows.
    fn advance(&mut self) {
        self.check_deadlines();
        self.check_disk();
        loop {
            let mut progress = self.advance_link();
            progress |= self.advance_bond();
            progress |= self.advance_requests();
            progress |= self.advance_activity();
            progress |= self.advance_flush();
            progress |= self.advance_resync();
            progress |= self.advance_verify();
            progress |= self.advance_undo();
            progress |= self.advance_pause();
            progress |= self.advance_role();
            progress |= self.advance_device();
            progress |= self.advance_store();
            progress |= self.advance_waiters();
            progress |= self.advance_suspension();
            if !progress {
                break;
            }
        }
        self.set_alarm();
    }

    fn then(&mut self, then: Then) {
        match then {
            Then::Nothing => {}
            Then::Alone => self.alone_stored(),
            Then::ActivityCommitted(transaction) => self.activity.committed(&transaction),
            Then::ActivityEvicted => self.activity_evicted(),
            Then::AnnounceSync => self.announce_sync(),
            Then::TargetReady => self.target_ready(),
            Then::OfferFinish => self.offer_finish(),
            Then::TargetCommitted => self.target_committed(),
            Then::NoSyncStored => self.no_sync_stored(),
            Then::Promoted { fence, lone } => {
                self.fence_raised(fence);
                self.promotion_stored(lone);
            }
            Then::PromotionUndone { reason, detail } => self.promotion_undone(reason, &detail),
            Then::Demoted => self.demotion_stored(),
            Then::ReadyToLeave => self.leave(),
            Then::Outdated => self.disk = disk_state(&self.superblock),
            Then::Invalidated { token } => self.invalidated(token),
            Then::DeclaredOutdated { token } => self.declared_outdated(token),
            Then::PeerInvalidated { token } => self.peer_invalidated(token),
            Then::DeclaredEqual { token } => self.declared_equal(token),
            Then::EqualForPeer { link } => self.equal_for_peer(link),
            Then::FenceRaised { term, token } => {
                self.fence_raised(term);
                token.into_iter().for_each(|token| self.reply(token, Ok(())));
            }
            Then::Renewed { token, term } => self.renewed(token, term),
            Then::RoleAsked { link, term } => self.role_asked(link, term),
            Then::Revoked => self.revoked(),
            Then::UndoAbandoned => self.undo_abandoned(),
            Then::RollbackMarked => self.rollback_marked(),
            Then::RolledBack => self.rolled_back(),
            Then::Paused => self.paused(),
            Then::Grown => self.grown(),
            Then::GrownForPeer { link, bytes } => self.grown_for_peer(link, bytes),
        }
    }

    fn disk_done(&mut self, io: IoId, result: Result<(), DiskError>) {
        let Some(what) = self.ios.remove(&io) else { return };
        match what {
            // Not the disk: the resync goes on without, or ends.
            Io::PrepareUndo => return self.undo_prepared(result),
            Io::SaveUndo => return self.undo_saved(result),
            _ => {}
        }
        if let Err(error) = &result {
            self.fail_disk(&format!("{} failed: {error}", what.verb()));
        }
        let ok = result.is_ok();
        match what {
            Io::FrontRead { slot, range } => self.front_read_done(slot, range, ok),
            Io::FrontWrite { request } => self.front_write_done(request, ok),
            Io::PeerWrite(write) => {
                self.out.push(Action::Release { slot: write.slot });
                if ok {
                    self.peer_write_done(write);
                }
            }
            Io::PeerFlush { link, id, covers } if ok => self.peer_flush_done(link, id, covers),
            Io::ResyncRead { id } => self.resync_read_done(id, ok),
            Io::VerifyRead { id } => self.verify_read_done(id, ok),
            Io::Flush { run } if ok => self.local_flush_done(run),
            Io::RollbackFlush if ok => self.rollback_flushed(),
            Io::PeerFlush { .. } | Io::Flush { .. } | Io::RollbackFlush => {}
            Io::PrepareUndo | Io::SaveUndo | Io::RestoreUndo => {}
            Io::VerifyDigest { .. } | Io::ResyncDigest { .. } | Io::PeerDigest { .. } => {}
        }
    }

    fn digested(&mut self, io: IoId, result: Result<Vec<u128>, DiskError>) {
        let Some(what) = self.ios.remove(&io) else { return };
        match (what, result) {
            (what, Err(error)) => self.fail_disk(&format!("{} failed: {error}", what.verb())),
            (Io::ResyncDigest { id }, Ok(digests)) => self.resync_digested(id, digests),
            (Io::VerifyDigest { id }, Ok(digests)) => self.verify_digested(id, digests),
            (Io::PeerDigest { link, id }, Ok(digests)) => {
                self.confirm(link, Message::VerifyReply { id, digests });
            }
            _ => {}
        }
    }

    fn restored(&mut self, io: IoId, result: Result<u64, DiskError>) {
        if self.ios.remove(&io).is_some() {
            self.record_restored(result);
        }
    }

    fn unix_seconds(&self) -> u64 {
        self.unix_seconds_at_0 + self.now / 1000
    }

    fn start_io(&mut self, what: Io) -> IoId {
        self.last_io += 1;
        let io = IoId(self.last_io);
        if what.must_be_answered() {
            self.patience.begin(Operation::Data(io));
        }
        self.ios.insert(io, what);
        io
    }

    /// Gives the local disk up: nothing more is promised on it, the peer is left to go on alone.
    fn fail_disk(&mut self, reason: &str) {
        if self.is_failed() {
            return;
        }
        self.log(
            LogLevel::Error,
            format!("disk:{} -> Failed: {reason}; replace the disk, then create-md and up", self.disk),
        );
        self.disk = DiskState::Failed;
        self.disk_failure = Some(reason.to_owned());
        let peer_disk = self.link.joined().map_or(DiskState::DUnknown, |s| s.peer_disk);
        self.tell_of_failed_disk(peer_disk);
        self.stand_alone(format!("the local disk failed: {reason}"));
        self.end_suspension("the local disk failed");
        self.fail_requests();
        self.fail_role_change();
        self.end_rollback(Reason::DiskFailed, reason);
        self.drop_pause(Reason::DiskFailed, reason);
        self.fail_growth(reason);
        for then in self.store.give_up() {
            let token = match then {
                Then::Invalidated { token }
                | Then::Renewed { token, .. }
                | Then::DeclaredOutdated { token }
                | Then::PeerInvalidated { token }
                | Then::DeclaredEqual { token } => Some(token),
                Then::FenceRaised { token, .. } => token,
                _ => None,
            };
            token.into_iter().for_each(|t| self.refuse_command(t, Reason::DiskFailed, reason));
        }
    }

    fn is_failed(&self) -> bool {
        self.disk == DiskState::Failed
    }

    fn log(&mut self, level: LogLevel, text: String) {
        self.out.push(Action::Log { level, text });
    }

    fn blocks(range: Range) -> (u64, u64) {
        (range.offset / BLOCK, range.end() / BLOCK)
    }

    fn mark_out_of_sync(&mut self, range: Range) {
        let (first, end) = Self::blocks(range);
        self.bitmap.set(first, end);
    }

    /// Bytes that the device has, or would have.
    fn device_bytes(&self) -> u64 {
        match self.superblock.agreed_bytes {
            0 => self.layout.data_bytes,
            agreed => agreed.min(self.layout.data_bytes),
        }
    }
}

/// What a disk is worth by its own metadata alone, before contact with the peer.
fn disk_state(superblock: &Superblock) -> DiskState {
    match superblock {
        s if !s.consistent => DiskState::Inconsistent,
        s if s.outdated => DiskState::Outdated,
        _ => DiskState::Consistent,
    }
}

#[cfg(test)]
mod tests;
