//! The connection to the peer: dialling, signs of life, loss; and which messages are taken in which phase.
//!
//! ```text
//! StandAlone ──connect──► Connecting ──LinkUp──► Draining ─► Hello ─► Comparing ─► Joined
//!     ▲                        ▲                                          │           │
//!     └──── refused, disconnect┴───────────── lost, silent, hung up ──────┴───────────┘
//! ```
//! Draining: no disk operation of an earlier connection and no metadata write is left. Comparing: this
//! side's [`PeerState`] is on its way and must stay true. Joined: both sides know what happens.

use super::store::Job;
use super::{Engine, Io, Settings, Then};
use crate::control::Reason;
use crate::event::{Action, Fill, LinkId, LogLevel, Millis, Range, Slot};
use crate::handler::Handler;
use crate::message::{Abilities, Hello, Message, PeerState};
use crate::state::{ConnectionState, DiskState, ReplicationState, Role};

/// Milliseconds that a handshake may take.
pub(super) const HANDSHAKE_MS: Millis = 10_000;
/// Milliseconds that both sides of a refused handshake wait for each other's verdict.
pub(super) const REFUSAL_MS: Millis = 1000;

/// Milliseconds during which a connection that was lost is tried anew ten times as often: a process that was exchanged
/// is back soon.
const REDIAL_MS: Millis = 1000;

/// The peer writes to this disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerWrite {
    pub(super) link: LinkId,
    pub(super) id: u64,
    pub(super) slot: Slot,
    pub(super) range: Range,
    pub(super) fill: Fill,
    pub(super) resync: bool,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waiting until nothing of an earlier connection is left.
    Draining,
    /// This side's name is sent.
    Hello,
    /// The peer's name was right; waiting until this side's state is stable and can be sent.
    Greeted,
    /// This side's state is sent.
    Comparing,
    /// The verdict is no: waiting until the peer has come to the same one.
    Refused,
    /// This side leaves on purpose; waiting until the peer has closed.
    Leaving,
    /// Both sides know what happens: replication and resync.
    Joined,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: LinkId,
    pub(super) phase: Phase,
    pub(super) deadline: Option<Millis>,
    pub(super) heard: Millis,
    pub(super) pinged: Option<Millis>,
    /// The peer has said who it is, rightly.
    pub(super) greeted: bool,
    pub(super) sent: Option<PeerState>,
    /// A state that came before this side had sent its own.
    pub(super) early: Option<PeerState>,
    /// The term in the last message.
    pub(super) peer_term: u64,
    pub(super) peer_role: Role,
    pub(super) peer_disk: DiskState,
    /// Usable bytes of the peer's disk.
    pub(super) peer_capacity: u64,
    pub(super) peer_abilities: Abilities,
    pub(super) replication: ReplicationState,
    /// Application writes and flushes go to the peer.
    pub(super) mirrors: bool,
    /// The peer was let to give up its own data: this node has the only copy.
    pub(super) peer_invalidates: bool,
}

#[derive(Debug)]
pub(super) enum Wire {
    StandAlone,
    /// Nothing there; the time of the next attempt, for the side that dials.
    Waiting {
        dial_at: Option<Millis>,
    },
    Dialling,
    Up(Box<Session>),
}

/// The link to the peer.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) wire: Wire,
    /// Why it stands alone, or why the last attempt failed.
    pub(super) reason: Option<String>,
    pub(super) discard_my_data: bool,
    pub(super) last_ping: u64,
    /// When a connection that stood was lost.
    lost_at: Option<Millis>,
    /// The peer's disk when it left on purpose.
    pub(super) left: Option<DiskState>,
}

impl Link {
    pub(super) fn new(settings: &Settings, now: Millis) -> Self {
        let wire = Wire::Waiting { dial_at: settings.dials().then_some(now) };
        Self { wire, reason: None, discard_my_data: false, last_ping: 0, lost_at: None, left: None }
    }

    pub(super) fn session(&self) -> Option<&Session> {
        if let Wire::Up(session) = &self.wire { Some(session) } else { None }
    }

    pub(super) fn session_mut(&mut self) -> Option<&mut Session> {
        if let Wire::Up(session) = &mut self.wire { Some(session) } else { None }
    }

    /// Dials at once, if it is to dial at all.
    pub(super) fn hurry(&mut self, now: Millis) {
        if let Wire::Waiting { dial_at: Some(at) } = &mut self.wire {
            *at = now.min(*at);
        }
    }

    /// The session, once the handshake is over.
    pub(super) fn joined(&self) -> Option<&Session> {
        self.session().filter(|s| s.phase == Phase::Joined)
    }

    /// Whether the peer, with which the handshake is over, can do something that not every one can.
    pub(super) fn peer_has(&self, ability: u64) -> bool {
        self.joined().is_some_and(|s| s.peer_abilities.has(ability))
    }

    /// Where application writes go besides the local disk.
    pub(super) fn mirror(&self) -> Option<LinkId> {
        self.joined().filter(|s| s.mirrors).map(|s| s.id)
    }

    pub(super) fn is_comparing(&self) -> bool {
        self.session().is_some_and(|s| s.phase == Phase::Comparing)
    }

    /// A handshake is under way whose outcome will be known soon.
    pub(super) fn is_joining(&self) -> bool {
        let joining = |s: &Session| {
            matches!(s.phase, Phase::Hello | Phase::Greeted | Phase::Comparing | Phase::Draining)
        };
        self.session().is_some_and(joining)
    }

    pub(super) fn stands_alone(&self) -> bool {
        matches!(self.wire, Wire::StandAlone) || self.session().is_some_and(|s| s.phase == Phase::Refused)
    }

    pub(super) fn state(&self) -> ConnectionState {
        match &self.wire {
            Wire::StandAlone => ConnectionState::StandAlone,
            Wire::Up(s) if s.phase == Phase::Joined => ConnectionState::Connected,
            Wire::Up(s) if s.phase == Phase::Refused => ConnectionState::StandAlone,
            Wire::Waiting { .. } | Wire::Dialling | Wire::Up(_) => ConnectionState::Connecting,
        }
    }
}

impl Engine {
    pub(super) fn link_up(&mut self, id: LinkId) {
        if matches!(self.link.wire, Wire::StandAlone) || self.is_failed() {
            self.out.push(Action::Hangup { link: id });
            return;
        }
        if let Some(old) = self.link.session().map(|s| s.id) {
            // Only one side dials: a new connection means that the old one is dead over there.
            self.out.push(Action::Hangup { link: old });
            self.drop_session("replaced by a new connection");
        }
        if matches!(self.link.wire, Wire::StandAlone) {
            // The old one was being left on purpose, and the peer dialled again before it had closed.
            self.out.push(Action::Hangup { link: id });
            return;
        }
        self.link.wire = Wire::Up(Box::new(Session {
            id,
            phase: Phase::Draining,
            deadline: Some(self.now + HANDSHAKE_MS),
            heard: self.now,
            pinged: None,
            greeted: false,
            sent: None,
            early: None,
            peer_term: 0,
            peer_role: Role::Unknown,
            peer_disk: DiskState::DUnknown,
            peer_capacity: 0,
            peer_abilities: Abilities::default(),
            replication: ReplicationState::Off,
            mirrors: false,
            peer_invalidates: false,
        }));
    }

    pub(super) fn dial_failed(&mut self) {
        if matches!(self.link.wire, Wire::Dialling) {
            let is_new = self.now < self.link.lost_at.map_or(0, |at| at + REDIAL_MS);
            let interval = self.settings.connect_interval_ms;
            self.wait_for_link(if is_new { interval.min(REDIAL_MS / 10) } else { interval });
        }
    }

    pub(super) fn link_lost(&mut self, id: LinkId, reason: &str) {
        if self.link.session().is_some_and(|s| s.id == id) {
            self.expect_replacement();
            self.drop_session(reason);
        }
    }

    /// Closes the connection and tries anew.
    pub(super) fn hang_up(&mut self, reason: &str) {
        if let Some(id) = self.link.session().map(|s| s.id) {
            self.out.push(Action::Hangup { link: id });
            self.drop_session(reason);
        }
    }

    /// Gives up the link until an administrator says `connect`.
    pub(super) fn stand_alone(&mut self, reason: String) {
        self.hang_up(&reason);
        self.link.wire = Wire::StandAlone;
        self.link.reason = Some(reason);
    }

    fn wait_for_link(&mut self, delay: Millis) {
        self.link.wire = Wire::Waiting { dial_at: self.settings.dials().then_some(self.now + delay) };
    }

    /// Takes leave of a session, whatever the reason: everything that relied on the peer goes on alone.
    fn drop_session(&mut self, reason: &str) {
        let Wire::Up(session) = std::mem::replace(&mut self.link.wire, Wire::Waiting { dial_at: None })
        else {
            return;
        };
        let joined = session.phase == Phase::Joined;
        match session.phase {
            Phase::Refused | Phase::Leaving => self.link.wire = Wire::StandAlone,
            // A connection that never came to anything is not repeated at once.
            _ => self.wait_for_link(if joined { 0 } else { self.settings.connect_interval_ms }),
        }
        if joined {
            self.link.lost_at = Some(self.now);
            self.log(LogLevel::Warn, format!("connection:Connected -> Connecting: {reason}"));
            self.call_handler(Handler::Disconnected);
        } else if session.phase != Phase::Refused && session.phase != Phase::Leaving {
            self.log(LogLevel::Info, format!("connection attempt ended: {reason}"));
        }
        if joined && session.peer_role == Role::Primary && self.disk == DiskState::UpToDate {
            // The metadata write flushes the disk too. If the Primary crashed, this disk has more of what was
            // answered than its own, and must know that also after a restart of its own.
            self.store.push(Job::new(Then::Nothing).superblock(|s| s.survived = true));
        }
        self.requests_lose_peer();
        self.flushes_lose_peer();
        self.resync_loses_peer();
        self.verify_loses_peer();
        self.undo_loses_peer();
        self.refuse_invalidate(Reason::NoConnection);
        self.refuse_skip(Reason::NoConnection);
        self.role_change_loses_peer();
    }

    /// Takes the steps of the handshake that this side owes, and dials.
    pub(super) fn advance_link(&mut self) -> bool {
        if let Wire::Waiting { dial_at: Some(at) } = self.link.wire
            && at <= self.now
            && !self.is_failed()
        {
            self.link.wire = Wire::Dialling;
            self.out.push(Action::Dial);
            return true;
        }
        let Some((id, phase)) = self.link.session().map(|s| (s.id, s.phase)) else { return false };
        match phase {
            Phase::Draining if !self.has_peer_io() => {
                let hello = Hello {
                    resource: self.settings.resource.clone(),
                    node: self.settings.node.clone(),
                    peer: self.settings.peer.clone(),
                };
                self.send(id, Message::Hello(hello));
                self.enter(Phase::Hello);
                true
            }
            Phase::Hello if self.link.session().is_some_and(|s| s.greeted) => {
                self.enter(Phase::Greeted);
                true
            }
            Phase::Greeted if self.superblock.survived && self.store.is_idle() => {
                // From now on the peer's writes count anew.
                self.seen_generation = Some(self.superblock.generations.current);
                self.store.push(Job::new(Then::Nothing).superblock(|s| s.survived = false));
                true
            }
            Phase::Greeted if self.store.is_idle() && !self.role.is_changing() => {
                let ready = !self.must_wait_for_grant();
                if ready {
                    self.send_state();
                }
                ready
            }
            _ => false,
        }
    }

    /// Whether disk operations on behalf of the peer are under way, of this connection or an earlier one.
    pub(super) fn has_peer_io(&self) -> bool {
        // What is left of a device that was taken away must not come after what the peer sends.
        let stale = !self.role.has_requests();
        self.ios.values().any(|io| match io {
            Io::PeerWrite(_) | Io::PeerFlush { .. } | Io::ResyncRead { .. } => true,
            Io::PrepareUndo | Io::SaveUndo | Io::RestoreUndo | Io::RollbackFlush => true,
            Io::FrontWrite { .. } => stale,
            // Answers nobody any more, and changes nothing.
            Io::PeerDigest { .. }
            | Io::VerifyDigest { .. }
            | Io::ResyncDigest { .. }
            | Io::VerifyRead { .. } => false,
            Io::FrontRead { .. } | Io::Flush { .. } => false,
        })
    }

    pub(super) fn has_peer_writes(&self) -> bool {
        self.ios.values().any(|io| matches!(io, Io::PeerWrite(_)))
    }

    pub(super) fn enter(&mut self, phase: Phase) {
        if let Some(session) = self.link.session_mut() {
            session.phase = phase;
        }
    }

    pub(super) fn send(&mut self, link: LinkId, message: Message) {
        self.send_data(link, message, None);
    }

    pub(super) fn send_data(&mut self, link: LinkId, message: Message, payload: Option<Slot>) {
        self.out.push(Action::Send { link, term: self.wire_term(), message, payload });
    }

    pub(super) fn received(&mut self, link: LinkId, term: u64, message: Message, payload: Option<Slot>) {
        let now = self.now;
        let known = self.link.session_mut().filter(|s| s.id == link).map(|s| {
            s.heard = now;
            s.pinged = None;
            s.phase
        });
        let Some(phase) = known else {
            self.release(payload);
            return;
        };
        if !self.heed_term(link, term, &message, payload) {
            return;
        }
        match (phase, message) {
            (_, Message::Fenced { term }) => self.fenced(term),
            (_, Message::Ping { id }) => self.send(link, Message::Pong { id }),
            (_, Message::Pong { .. }) => {}
            (_, Message::Goodbye { disk }) => self.goodbye(disk),
            (Phase::Draining | Phase::Hello, Message::Hello(hello)) => self.hello(&hello),
            (Phase::Draining | Phase::Hello | Phase::Greeted | Phase::Comparing, Message::State(state)) => {
                self.peer_state(state);
            }
            (Phase::Joined, Message::RoleAsk) if self.settings.managed => {
                self.store.push(Job::new(Then::RoleAsked { link, term }));
            }
            (Phase::Joined, message) => self.joined_message(link, message, payload),
            (Phase::Refused | Phase::Leaving, _) => self.release(payload),
            (phase, message) => {
                self.release(payload);
                self.unexpected(&format!("{} while {phase:?}", message.name()));
            }
        }
    }

    pub(super) fn release(&mut self, payload: Option<Slot>) {
        if let Some(slot) = payload {
            self.out.push(Action::Release { slot });
        }
    }

    pub(super) fn unexpected(&mut self, what: &str) {
        self.log(LogLevel::Warn, format!("unexpected message from the peer: {what}"));
        self.hang_up("the peer does not keep to the protocol");
    }

    fn joined_message(&mut self, link: LinkId, message: Message, payload: Option<Slot>) {
        match (message, payload) {
            (Message::Write { id, range }, Some(slot)) => {
                self.peer_write(PeerWrite { link, id, slot, range, fill: Fill::Data, resync: false });
            }
            (Message::Resync { id, range }, Some(slot)) => {
                self.peer_write(PeerWrite { link, id, slot, range, fill: Fill::Data, resync: true });
            }
            (Message::Zero { id, range, unmap, resync }, Some(slot)) => {
                let fill = if unmap { Fill::Unmapped } else { Fill::Zeroes };
                self.peer_write(PeerWrite { link, id, slot, range, fill, resync });
            }
            (Message::WriteAck { id }, _) => self.write_confirmed(id),
            (Message::Flush { id }, _) => self.peer_wants_flush(link, id),
            (Message::FlushAck { id }, _) => self.peer_flushed(id),
            (Message::VerifyAsk { id, range }, _) => self.verify_asked(link, id, range),
            (Message::VerifyReply { id, digests }, _) if self.resync.is_running() => {
                self.resync_replied(id, digests);
            }
            (Message::VerifyReply { id, digests }, _) => self.verify_replied(id, digests),
            (Message::Grow { bytes }, _) => self.grow_asked(link, bytes),
            (Message::Grown { bytes }, _) => self.peer_has_grown(bytes),
            (Message::InvalidateAsk, _) => self.invalidate_asked(link),
            (Message::InvalidateAnswer { granted }, _) => self.invalidate_answered(granted),
            (Message::SkipSync(generations), _) => self.skip_sync_asked(link, generations),
            (Message::SkipSyncAnswer { granted }, _) => self.skip_sync_answered(granted),
            (Message::RoleAsk, _) => self.role_asked(link, 0),
            (Message::RoleAnswer { granted }, _) => self.role_answered(granted),
            (Message::Changed { role, disk }, _) => self.peer_changed(role, disk),
            (message, payload) => {
                self.release(payload);
                self.resync_message(message);
            }
        }
    }

    fn peer_write(&mut self, write: PeerWrite) {
        let PeerWrite { slot, range, fill, resync, .. } = write;
        let expected = match self.link.joined().map(|s| s.replication) {
            Some(ReplicationState::SyncTarget) => true,
            Some(ReplicationState::Established) => !resync,
            _ => false,
        };
        if !expected || self.role.is_exporting() || range.end() > self.layout.data_bytes {
            self.release(Some(slot));
            self.unexpected(&format!("write of {} bytes at {}", range.len, range.offset));
            return;
        }
        if fill == Fill::Data {
            self.counters.received_bytes += u64::from(range.len);
        }
        if resync {
            self.resync_received(range);
        }
        if !self.hold_for_undo(write) {
            self.start_peer_write(write);
        }
    }

    pub(super) fn start_peer_write(&mut self, write: PeerWrite) {
        let PeerWrite { slot, range, fill, .. } = write;
        let io = self.start_io(Io::PeerWrite(write));
        self.out.push(Action::WriteDisk { io, slot, range, fill });
    }

    pub(super) fn peer_write_done(&mut self, write: PeerWrite) {
        let PeerWrite { link, id, range, resync, .. } = write;
        self.peer_written += 1;
        self.counters.written_bytes += u64::from(range.len);
        if resync {
            self.confirm(link, Message::ResyncAck { id });
        } else {
            self.confirm(link, Message::WriteAck { id });
        }
    }

    fn peer_wants_flush(&mut self, link: LinkId, id: u64) {
        let covers = self.peer_written;
        if covers == self.peer_flushed {
            self.confirm(link, Message::FlushAck { id });
            return;
        }
        let io = self.start_io(Io::PeerFlush { link, id, covers });
        self.out.push(Action::FlushDisk { io });
    }

    pub(super) fn peer_flush_done(&mut self, link: LinkId, id: u64, covers: u64) {
        self.peer_flushed = self.peer_flushed.max(covers);
        self.confirm(link, Message::FlushAck { id });
    }

    fn peer_changed(&mut self, role: Role, disk: DiskState) {
        let Some(session) = self.link.session_mut() else { return };
        let (old_role, old_disk) = (session.peer_role, session.peer_disk);
        session.peer_role = role;
        session.peer_disk = disk;
        if old_role != role {
            self.log(LogLevel::Info, format!("peer: role:{old_role} -> {role}"));
        }
        if old_disk != disk {
            self.log(LogLevel::Info, format!("peer: disk:{old_disk} -> {disk}"));
        }
    }

    /// Tells the peer what this side is now.
    pub(super) fn announce(&mut self) {
        let (role, disk) = (self.role.visible(), self.disk);
        if let Some(id) = self.link.joined().map(|s| s.id) {
            self.send(id, Message::Changed { role, disk });
        }
    }
}
