//! What an administrator declares about the worth of a disk: that this one is older than the peer's, that the peer's is
//! to be written over, that two new ones hold the same.
//!
//! None of it makes anything newer than it is: `outdate` only keeps this node from being promoted without force,
//! `invalidate-remote` marks every block of a pair that has the same data, so that the peer becomes the target of a resync when
//! both compare again, and two disks are declared the same only as long as neither ever held data:
//!
//! ```text
//! this node, just created                    the peer, just created
//! SkipSync(generation)        ──►            store it: UpToDate
//! store it: UpToDate          ◄──            SkipSyncAnswer
//! ```
//! A connection that is lost in between leaves at most the peer with a generation: then everything is resynced from it.

use super::link::Session;
use super::role::RoleState;
use super::store::Job;
use super::{Engine, LogLevel, Then, disk_state};
use crate::control::Reason;
use crate::event::{LinkId, Token};
use crate::generation::{Generations, HISTORY};
use crate::message::{Abilities, Message};
use crate::state::{DiskState, ReplicationState, Role};

/// Asked of the peer, and not answered.
#[derive(Debug, Default)]
pub(super) struct Declared {
    skip: Option<(Token, Generations)>,
}

impl Declared {
    /// Whether this disk may be UpToDate as soon as the peer has answered.
    pub(super) fn is_asking(&self) -> bool {
        self.skip.is_some()
    }
}

impl Engine {
    fn established(&self) -> Option<&Session> {
        self.link.joined().filter(|s| s.replication == ReplicationState::Established)
    }

    // ---- this disk is older ----

    pub(super) fn outdate(&mut self, token: Token) {
        if let Err((reason, text)) = self.may_outdate() {
            return self.refuse_command(token, reason, &text);
        }
        self.store.push(Job::new(Then::DeclaredOutdated { token }).superblock(|s| s.outdated = true));
    }

    fn may_outdate(&self) -> Result<(), (Reason, String)> {
        let peer = &self.settings.peer;
        if self.settings.managed {
            return Err((Reason::Managed, "its record says which host has everything".to_owned()));
        }
        if self.disk <= DiskState::Inconsistent {
            let text = format!("the disk is {}: there is nothing on it that could be promoted", self.disk);
            return Err((Reason::LowerThanOutdated, text));
        }
        if self.role != RoleState::Secondary {
            return Err((Reason::InUse, "this node is Primary: run `secondary` first".to_owned()));
        }
        if self.link.joined().is_some() {
            let text = format!("{peer} is connected, and both know what they have: `disconnect` first");
            return Err((Reason::Connected, text));
        }
        if self.link.is_joining() {
            return Err((Reason::InTransition, format!("this node is just meeting {peer}")));
        }
        Ok(())
    }

    pub(super) fn declared_outdated(&mut self, token: Token) {
        let now = disk_state(&self.superblock);
        if self.disk != now {
            self.log(LogLevel::Warn, format!("disk:{} -> {now}: outdated by an administrator", self.disk));
            self.disk = now;
        }
        self.reply(token, Ok(()));
    }

    // ---- the peer's disk is worth nothing ----

    pub(super) fn invalidate_remote(&mut self, token: Token) {
        if let Err((reason, text)) = self.may_invalidate_remote() {
            return self.refuse_command(token, reason, &text);
        }
        self.bitmap.set_all();
        self.store.push(Job::new(Then::PeerInvalidated { token }).bitmap());
    }

    fn may_invalidate_remote(&self) -> Result<(), (Reason, String)> {
        let peer = &self.settings.peer;
        if self.settings.managed {
            let text = "it decides whose data counts: blocks that differ are repaired with `verify --repair`, a host that has gone its own way with `futago cluster discard-diverged`";
            return Err((Reason::Managed, text.to_owned()));
        }
        let Some(session) = self.established() else {
            let text = format!("{peer} must be connected and not in a resync, to be written over");
            return Err((Reason::NoConnection, text));
        };
        if self.disk != DiskState::UpToDate {
            let text = format!("the disk here is {}: it cannot give its data", self.disk);
            return Err((Reason::NoUpToDateDisk, text));
        }
        if session.peer_role == Role::Primary {
            let text = format!("{peer} is Primary, its data is in use: run `secondary` there first");
            return Err((Reason::PeerRefused, text));
        }
        if self.role.is_changing() || self.waits_for_invalidate() {
            return Err((Reason::InTransition, "another change is under way".to_owned()));
        }
        if self.verify.is_running() || self.is_growing() {
            let text = "a verify is running, or the device grows: `verify --stop` ends it".to_owned();
            return Err((Reason::InTransition, text));
        }
        Ok(())
    }

    /// Every block is marked, durably: when both compare, the marked side is the source.
    pub(super) fn peer_invalidated(&mut self, token: Token) {
        let peer = self.settings.peer.clone();
        let peer_is_primary = self.link.joined().is_some_and(|s| s.peer_role == Role::Primary);
        self.log(LogLevel::Warn, format!("the disk of {peer} was declared worthless by an administrator"));
        self.hang_up("the peer's disk was declared worthless: compare again");
        if peer_is_primary {
            let text = format!(
                "{peer} has become Primary meanwhile: its data counts, and is compared with all of this disk"
            );
            return self.refuse_command(token, Reason::PeerRefused, &text);
        }
        self.reply(token, Ok(()));
    }

    // ---- two new disks are the same ----

    pub(super) fn skip_initial_sync(&mut self, token: Token) {
        let link = match self.may_skip_sync() {
            Ok(link) => link,
            Err((reason, text)) => return self.refuse_command(token, reason, &text),
        };
        let (current, bitmap) = (self.rng.generation(), 0);
        let generations = Generations { current, bitmap, history: [0; HISTORY], counter: 1 };
        self.declared.skip = Some((token, generations.clone()));
        self.send(link, Message::SkipSync(generations));
    }

    fn may_skip_sync(&self) -> Result<LinkId, (Reason, String)> {
        let (node, peer) = (&self.settings.node, &self.settings.peer);
        if self.settings.managed {
            return Err((Reason::Managed, "its first promotion begins with the first resync".to_owned()));
        }
        let Some(session) = self.established() else {
            let text = format!("{peer} must be connected, and no resync running");
            return Err((Reason::NoConnection, text));
        };
        if !self.is_blank() || session.peer_disk != DiskState::Inconsistent {
            let text = format!(
                "one of the disks holds data, or has held some: {node} {}, {peer} {}. Only between two new ones (`create-md` on both hosts) nothing is lost by that",
                self.disk, session.peer_disk
            );
            return Err((Reason::NotBlank, text));
        }
        if self.role != RoleState::Secondary
            || session.peer_role != Role::Secondary
            || self.declared.is_asking()
        {
            return Err((Reason::InTransition, "another change is under way".to_owned()));
        }
        if !session.peer_abilities.has(Abilities::SKIP_SYNC) {
            let text =
                format!("the program on {peer} is older and does not know it: install the same one there");
            return Err((Reason::PeerRefused, text));
        }
        Ok(session.id)
    }

    /// This disk never held data.
    fn is_blank(&self) -> bool {
        self.superblock.generations.is_just_created() && self.disk == DiskState::Inconsistent
    }

    /// The administrator of the peer says that both disks hold the same.
    pub(super) fn skip_sync_asked(&mut self, link: LinkId, generations: Generations) {
        // Both ask at once: the lower number goes first.
        let yields = !self.declared.is_asking() || self.settings.node_id > self.settings.peer_node_id;
        let settled =
            self.role == RoleState::Secondary && self.established().is_some() && self.store.is_idle();
        let granted =
            yields && settled && self.is_blank() && !generations.is_just_created() && !self.settings.managed;
        if !granted {
            return self.send(link, Message::SkipSyncAnswer { granted });
        }
        self.refuse_skip(Reason::PeerRefused);
        self.store_equal(Then::EqualForPeer { link }, generations);
    }

    fn store_equal(&mut self, then: Then, generations: Generations) {
        self.bitmap.clear_all();
        self.store.push(Job::new(then).bitmap().superblock(move |s| {
            s.generations = generations;
            s.consistent = true;
            s.outdated = false;
            s.was_up_to_date = true;
        }));
    }

    pub(super) fn equal_for_peer(&mut self, link: LinkId) {
        self.become_equal();
        if self.link.joined().is_some_and(|s| s.id == link) {
            self.send(link, Message::SkipSyncAnswer { granted: true });
            self.announce();
        }
    }

    pub(super) fn skip_sync_answered(&mut self, granted: bool) {
        let settled = self.role == RoleState::Secondary && self.established().is_some() && self.is_blank();
        if !granted || !settled {
            return self.refuse_skip(Reason::PeerRefused);
        }
        if let Some((token, generations)) = self.declared.skip.take() {
            self.store_equal(Then::DeclaredEqual { token }, generations);
        }
    }

    pub(super) fn declared_equal(&mut self, token: Token) {
        self.become_equal();
        self.announce();
        self.reply(token, Ok(()));
    }

    fn become_equal(&mut self) {
        self.log(
            LogLevel::Warn,
            "both new disks were declared the same by an administrator: no first resync".to_owned(),
        );
        self.become_up_to_date();
    }

    /// The peer has not agreed, or was lost before.
    pub(super) fn refuse_skip(&mut self, reason: Reason) {
        if let Some((token, _)) = self.declared.skip.take() {
            let peer = &self.settings.peer;
            let text = format!(
                "{peer} has not agreed: nothing was changed here. If it says UpToDate, everything is resynced from it"
            );
            self.refuse_command(token, reason, &text);
        }
    }
}
