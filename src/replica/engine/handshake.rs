//! The handshake: who is there, what each side has, what follows from it.
//!
//! Both sides send their state and both compute the same verdict from the two. Whoever would be the target
//! of a resync while it is Primary, and whoever finds a split brain, stands alone and says why; before it
//! closes it waits for the peer's own verdict, so that both sides know.

use super::link::{Phase, REFUSAL_MS};
use super::store::Job;
use super::{Engine, Settings, Then};
use crate::event::LogLevel;
use crate::generation::{Decision, Verdict, compare, compare_managed};
use crate::handler::Handler;
use crate::message::{Abilities, Hello, Message, PeerState};
use crate::state::{DiskState, ReplicationState, Role};

impl Engine {
    pub(super) fn hello(&mut self, hello: &Hello) {
        let s = &self.settings;
        if hello.resource != s.resource || hello.node != s.peer || hello.peer != s.node {
            let text = format!(
                "the caller is {} and wants resource {} of {}; this is resource {} of {}, which expects {}: compare both configurations",
                hello.node, hello.resource, hello.peer, s.resource, s.node, s.peer
            );
            self.log(LogLevel::Warn, text.clone());
            self.hang_up(&text);
            self.link.reason = Some(text);
            return;
        }
        if let Some(session) = self.link.session_mut() {
            session.greeted = true;
        }
    }

    /// What this side says about itself.
    pub(super) fn own_state(&self) -> PeerState {
        let generations = self.superblock.generations.clone();
        PeerState {
            reconnect: self.seen_generation == Some(generations.current),
            generations,
            role: self.role.visible(),
            disk: self.disk,
            bytes: self.device_bytes(),
            capacity: self.layout.data_bytes,
            crashed_primary: self.superblock.crashed_primary,
            discard_my_data: self.link.discard_my_data,
            dirty_blocks: self.bitmap.count(),
            abilities: self.abilities(),
        }
    }

    fn abilities(&self) -> Abilities {
        let of_disk = if self.unmaps { Abilities::UNMAP } else { 0 };
        Abilities(Abilities::ZERO | Abilities::SKIP_SYNC | of_disk)
    }

    pub(super) fn send_state(&mut self) {
        let state = self.own_state();
        let Some(session) = self.link.session_mut() else { return };
        session.phase = Phase::Comparing;
        session.sent = Some(state.clone());
        let (id, early) = (session.id, session.early.take());
        self.send(id, Message::State(state));
        if let Some(peer) = early {
            self.peer_state(peer);
        }
    }

    pub(super) fn peer_state(&mut self, peer: PeerState) {
        let Some(session) = self.link.session_mut() else { return };
        let Some(sent) = session.sent.clone() else {
            session.early = Some(peer);
            return;
        };
        session.peer_role = peer.role;
        session.peer_disk = peer.disk;
        session.peer_capacity = peer.capacity;
        session.peer_abilities = peer.abilities;
        if self.changed_since(&sent) {
            self.hang_up("this node's state changed during the handshake");
            return;
        }
        let verdict = verdict(&self.settings, &sent, &peer);
        if self.waits_for_primary(sent.role, peer.role, verdict.decision) {
            let text = "both nodes are Secondary and may differ: waits until the cluster manager has made one of them Primary";
            self.hang_up(text);
            self.link.reason = Some(text.to_owned());
            return;
        }
        self.log_verdict(&sent, &peer, verdict);
        match self.objection(&sent, &peer, verdict) {
            Some(reason) => {
                if verdict.decision == Decision::SplitBrain {
                    self.call_handler(Handler::InitialSplitBrain);
                    self.call_handler(Handler::SplitBrain);
                }
                self.refuse(reason);
            }
            None => self.join(&sent, &peer, verdict.decision),
        }
    }

    /// Whether what was sent is no longer true in a way that matters for the verdict.
    fn changed_since(&self, sent: &PeerState) -> bool {
        let now = self.own_state();
        now.generations != sent.generations
            || now.role != sent.role
            || now.disk != sent.disk
            || now.crashed_primary != sent.crashed_primary
            || (now.dirty_blocks > 0) != (sent.dirty_blocks > 0)
    }

    fn log_verdict(&mut self, me: &PeerState, peer: &PeerState, verdict: Verdict) {
        self.log(LogLevel::Info, format!("self {}", describe(me)));
        self.log(LogLevel::Info, format!("peer {}", describe(peer)));
        self.log(
            LogLevel::Info,
            format!("generations compared: {} by rule {}", verdict.decision, verdict.rule),
        );
    }

    /// Why this side does not go along with the verdict. The peer comes to its own view of the same facts.
    fn objection(&self, me: &PeerState, peer: &PeerState, verdict: Verdict) -> Option<String> {
        let (own, other) = (&self.settings.node, &self.settings.peer);
        if let Some(reason) = refused_by(verdict.decision, other) {
            return Some(reason);
        }
        if me.role == Role::Primary && peer.role == Role::Primary {
            return Some(format!(
                "both {own} and {other} are Primary: make one of them secondary, then connect"
            ));
        }
        let agreed = agreed(me, peer);
        for (node, capacity) in [(other, peer.capacity), (own, me.capacity)] {
            if capacity < agreed {
                let (has, needs) = (capacity / 1024, agreed / 1024);
                return Some(format!(
                    "the disk of {node} is too small: {has} KiB usable, the device has {needs} KiB"
                ));
            }
        }
        let target_is_primary = match verdict.decision {
            Decision::Target { .. } => me.role == Role::Primary,
            Decision::Source { .. } => peer.role == Role::Primary,
            _ => false,
        };
        let target = if matches!(verdict.decision, Decision::Target { .. }) { own } else { other };
        target_is_primary.then(|| {
            format!("{target} would have to take over the other side's data, but it is Primary: make it secondary, then connect")
        })
    }

    /// Says no, and gives the peer the time to come to the same verdict.
    fn refuse(&mut self, reason: String) {
        self.log(LogLevel::Error, format!("connection:Connecting -> StandAlone: {reason}"));
        self.link.reason = Some(reason);
        let (now, disk) = (self.now, self.disk);
        let Some(session) = self.link.session_mut() else { return };
        session.phase = Phase::Refused;
        session.deadline = Some(now + REFUSAL_MS);
        let id = session.id;
        self.send(id, Message::Goodbye { disk });
    }

    fn join(&mut self, me: &PeerState, peer: &PeerState, decision: Decision) {
        self.link.reason = None;
        self.link.left = None;
        self.link.discard_my_data = false;
        if let Some(session) = self.link.session_mut() {
            session.phase = Phase::Joined;
            session.deadline = None;
        }
        let agreed = agreed(me, peer);
        match decision {
            Decision::Source { full } => self.become_source(full, agreed),
            Decision::Target { .. } => self.become_target(agreed),
            _ => self.no_sync(me, peer, agreed),
        }
    }

    /// Both disks are equal, or both are worth nothing.
    fn no_sync(&mut self, me: &PeerState, peer: &PeerState, agreed: u64) {
        let good = me.disk > DiskState::Inconsistent && peer.disk > DiskState::Inconsistent;
        if let Some(session) = self.link.session_mut() {
            session.replication = ReplicationState::Established;
            session.mirrors = true;
        }
        self.end_lone_period();
        self.requests_regain_peer();
        self.store.push(Job::new(Then::NoSyncStored).superblock(move |s| {
            s.agreed_bytes = agreed;
            if good {
                s.generations.in_sync();
                s.consistent = true;
                s.outdated = false;
                s.was_up_to_date = true;
                s.crashed_primary = false;
            }
        }));
    }

    pub(super) fn no_sync_stored(&mut self) {
        if self.superblock.consistent {
            self.become_up_to_date();
        }
        self.announce();
    }

    /// This disk holds the newest data, by agreement with the peer.
    pub(super) fn become_up_to_date(&mut self) {
        self.seen_generation = Some(self.superblock.generations.current);
        self.turn_up_to_date();
    }

    pub(super) fn turn_up_to_date(&mut self) {
        if self.disk != DiskState::UpToDate {
            self.log(LogLevel::Info, format!("disk:{} -> UpToDate", self.disk));
            self.disk = DiskState::UpToDate;
        }
    }

    /// The peer leaves on purpose, or tells that it refused.
    pub(super) fn goodbye(&mut self, disk: DiskState) {
        let Some(session) = self.link.session() else { return };
        match session.phase {
            Phase::Refused | Phase::Leaving => self.hang_up("both sides have said goodbye"),
            Phase::Joined => self.peer_left(disk),
            _ => self.hang_up("the peer refused the connection"),
        }
    }

    fn peer_left(&mut self, disk: DiskState) {
        let from_primary = self.link.session().is_some_and(|s| s.peer_role == Role::Primary);
        self.hang_up("the peer disconnected on purpose");
        self.link.left = Some(disk);
        // Under a cluster manager the record says who is older.
        if from_primary && self.disk == DiskState::UpToDate && !self.settings.managed {
            self.log(
                LogLevel::Info,
                "disk:UpToDate -> Outdated: the Primary left and may go on alone".to_owned(),
            );
            self.store.push(Job::new(Then::Outdated).superblock(|s| s.outdated = true));
        }
    }
}

/// What follows from what both sides have.
pub(super) fn verdict(settings: &Settings, me: &PeerState, peer: &PeerState) -> Verdict {
    let compare = if settings.managed { compare_managed } else { compare };
    compare(me, peer, settings.dials())
}

/// Bytes that the device has on both: the larger size, where only one node has stored yet that it has grown. A disk that
/// was only just created follows the other one.
fn agreed(me: &PeerState, peer: &PeerState) -> u64 {
    match (me.generations.is_just_created(), peer.generations.is_just_created()) {
        (false, false) => me.bytes.max(peer.bytes),
        (true, false) => peer.bytes,
        (false, true) => me.bytes,
        (true, true) => me.bytes.min(peer.bytes),
    }
}

/// Verdicts that no connection survives.
fn refused_by(decision: Decision, other: &str) -> Option<String> {
    match decision {
        Decision::SplitBrain => Some(format!(
            "split brain: this node and {other} both have changes that the other lacks. Decide whose are given up. There: umount, `secondary`, `connect --discard-my-data`; then on the other node: `connect`"
        )),
        Decision::Unrelated => {
            Some(format!("unrelated data: this disk and the one of {other} never had anything in common"))
        }
        Decision::Unusable => Some(format!(
            "the newer data, compared with {other}, is on a disk that is Inconsistent: `primary --force` on the node with the older, consistent data uses that"
        )),
        Decision::NoSync | Decision::Source { .. } | Decision::Target { .. } => None,
    }
}

/// `CUR:BM:H0:H1 bits:N role:… disk:… crashed:… reconnect:…`, as people paste it into reports.
fn describe(state: &PeerState) -> String {
    let g = &state.generations;
    let [h0, h1, ..] = g.history;
    format!(
        "{:016X}:{:016X}:{h0:016X}:{h1:016X} bits:{} role:{} disk:{} crashed:{} reconnect:{} discard:{}",
        g.current,
        g.bitmap,
        state.dirty_blocks,
        state.role,
        state.disk,
        state.crashed_primary,
        state.reconnect,
        state.discard_my_data
    )
}
