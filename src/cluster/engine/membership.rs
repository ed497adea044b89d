//! Is the peer alive, and what did it say last; are the ways and the witness there.
//!
//! Rules: silence means silence on every way; what an earlier run of the peer's manager said does not count once
//! a newer run has been heard; a goodbye makes the peer gone at once.

use std::collections::BTreeMap;

use super::desk::Origin;
use super::{Engine, log};
use crate::config::Quorum;
use crate::control::NodeView;
use crate::event::{Action, LogLevel, PathId};
use crate::member::Voter;
use crate::message::{Heartbeat, Message};
use crate::record::{Term, Version};
use crate::timing::Millis;

/// Ways that are kept track of; a certificate holder that claims more is not believed.
const PATHS: usize = 16;
/// The peer pushes a record that we lack when it hears our version; after this many heartbeats without, we read.
const BEHIND_HEARTBEATS: Millis = 3;

/// What is known of the peer and the witness.
#[derive(Debug)]
pub(super) struct Peer {
    /// Last heard on any way in this life.
    pub(super) heard_at: Option<Millis>,
    /// Silence is counted from here: the last sign of life, or our own start.
    pub(super) quiet_since: Millis,
    pub(super) incarnation: Option<u64>,
    seq: u64,
    pub(super) version: Version,
    pub(super) view: Option<NodeView>,
    pub(super) view_at: Millis,
    /// Since when its view says something other than that it acts.
    pub(super) idle_since: Option<Millis>,
    /// It has said goodbye.
    pub(super) goodbye: bool,
    /// Seen to be off by its fence device.
    pub(super) off: bool,
    /// An operator has made sure that it is off.
    pub(super) confirmed: bool,
    pub(super) witness_at: Option<Millis>,
    pub(super) paths: BTreeMap<(Voter, PathId), Millis>,
    behind_since: Option<Millis>,
}

impl Peer {
    pub(super) fn new(now: Millis) -> Self {
        Self {
            heard_at: None,
            quiet_since: now,
            incarnation: None,
            seq: 0,
            version: Version(0),
            view: None,
            view_at: now,
            idle_since: None,
            goodbye: false,
            off: false,
            confirmed: false,
            witness_at: None,
            paths: BTreeMap::new(),
            behind_since: None,
        }
    }
}

impl Engine {
    pub(super) fn heard(
        &mut self,
        from: Voter,
        path: PathId,
        message: Message,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        if self.peer.paths.len() < PATHS || self.peer.paths.contains_key(&(from, path)) {
            self.peer.paths.insert((from, path), now);
        }
        if from == Voter::Witness {
            self.peer.witness_at = Some(now);
            return;
        }
        if from.node() != Some(self.other()) {
            return;
        }
        let farewell = matches!(message, Message::Goodbye { .. });
        if !farewell && !self.peer.goodbye {
            self.alive(now);
        }
        match message {
            Message::Heartbeat(heartbeat) => self.heartbeat(*heartbeat, now, out),
            Message::Goodbye { term } => self.goodbye(term, out),
            Message::Committed { record } => self.learn(record, now, out),
            Message::Ask { request, command } => self.asked(request, command, now, out),
            Message::Answer { request, result } => self.answered(request, result, out),
            Message::Register(_) => {}
        }
    }

    fn alive(&mut self, now: Millis) {
        self.peer.heard_at = Some(now);
        self.peer.quiet_since = now;
        self.peer.off = false;
        self.peer.confirmed = false;
    }

    fn heartbeat(&mut self, heartbeat: Heartbeat, now: Millis, out: &mut Vec<Action>) {
        let Heartbeat { seq, incarnation, version, view } = heartbeat;
        let same = self.peer.incarnation == Some(incarnation);
        // A repeated or overtaken heartbeat tells nothing new. After a goodbye only another run is alive.
        if same && (seq <= self.peer.seq || self.peer.goodbye) {
            return;
        }
        if !same {
            if self.peer.incarnation.is_some() {
                log(
                    out,
                    LogLevel::Info,
                    format!("the manager on {} has started anew", self.name(self.other())),
                );
            }
            self.peer.incarnation = Some(incarnation);
            self.peer.goodbye = false;
            if !self.ledger.read {
                self.read_again(now);
            }
        }
        self.alive(now);
        self.peer.seq = seq;
        self.peer.version = version;
        self.peer.view_at = now;
        let acts = matches!(view.role.as_str(), "active" | "starting" | "stopping");
        self.peer.idle_since = if acts { None } else { Some(self.peer.idle_since.unwrap_or(now)) };
        self.peer.view = Some(view);
        self.compare_versions(version, now, out);
    }

    fn compare_versions(&mut self, version: Version, now: Millis, out: &mut Vec<Action>) {
        let known = self.record().map(|r| r.version).unwrap_or_default();
        if version < known
            && let Some(record) = self.record().cloned()
        {
            out.push(Action::Send { to: self.other().into(), message: Message::Committed { record } });
        }
        if version <= known {
            self.peer.behind_since = None;
            return;
        }
        let since = *self.peer.behind_since.get_or_insert(now);
        if since + BEHIND_HEARTBEATS * self.config.timing.heartbeat_ms <= now {
            self.peer.behind_since = None;
            self.read_again(now);
        }
    }

    fn goodbye(&mut self, term: Term, out: &mut Vec<Action>) {
        if self.peer.goodbye || term < self.term() {
            return;
        }
        self.peer.goodbye = true;
        self.peer.view = None;
        log(out, LogLevel::Info, format!("the manager on {} said goodbye", self.name(self.other())));
    }

    fn asked(
        &mut self,
        request: crate::store::RequestId,
        command: crate::control::Command,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        match self.desk.seen(request) {
            Some(Some(result)) => {
                let message = Message::Answer { request, result };
                out.push(Action::Send { to: self.other().into(), message });
            }
            Some(None) => {}
            None => {
                self.desk.remember(request);
                self.command(Origin::Remote(request), command, now, out);
            }
        }
    }

    /// The peer has been heard lately, and has not said goodbye.
    pub(super) fn peer_is_there(&self, now: Millis) -> bool {
        let silent = self.config.timing.peer_silence_ms;
        !self.peer.goodbye && self.peer.heard_at.is_some_and(|at| at + silent > now)
    }

    /// Nothing was heard from the peer for long enough, or it has said goodbye.
    pub(super) fn peer_is_gone(&self, now: Millis) -> bool {
        self.peer.goodbye || self.peer.quiet_since + self.config.timing.peer_silence_ms <= now
    }

    /// The term that the peer's replica has promised not to fall below, as it last said.
    pub(super) fn peer_promised(&self) -> Option<Term> {
        self.peer.view.as_ref()?.replica.as_ref().map(|r| r.fence)
    }

    /// Who keeps the record beside the two hosts.
    pub(super) const fn third(&self) -> &'static str {
        match self.config.quorum {
            Quorum::Etcd => "etcd",
            _ => "the witness",
        }
    }

    /// The witness, or etcd, has answered something lately, or its vote is not needed.
    pub(super) fn witness_is_there(&self, now: Millis) -> bool {
        let silent = self.config.timing.witness_silence_ms();
        !matches!(self.config.quorum, Quorum::Witness | Quorum::Etcd)
            || self.peer.witness_at.is_some_and(|at| at + silent > now)
    }

    pub(super) fn peer_wake(&self, now: Millis) -> Option<Millis> {
        let silent = self.peer.quiet_since + self.config.timing.peer_silence_ms;
        (silent > now).then_some(silent)
    }
}
