//! The administrator's commands: refused with a reason, or carried out and answered when they are done.

use super::link::{Phase, Wire};
use super::role::{Bid, Leave, RoleState};
use super::store::Job;
use super::{Engine, LogLevel, Then};
use crate::control::{Command, Reason, Refusal};
use crate::event::{Action, LinkId, Millis, Token};
use crate::message::Message;
use crate::state::{DiskState, ReplicationState, Role};

/// Milliseconds to wait for the peer to close after a goodbye.
const LEAVE_MS: Millis = 1000;

/// Commands that are answered later.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    connect: Vec<Token>,
    sync: Vec<Token>,
    /// The peer was asked whether it keeps its data while this node gives up its own.
    invalidate: Option<Token>,
    leaving: Option<(Token, Leave)>,
}

impl Waiters {
    pub(super) fn forget(&mut self, token: Token) {
        self.connect.retain(|t| *t != token);
        self.sync.retain(|t| *t != token);
    }
}

impl Engine {
    pub(super) fn command(&mut self, token: Token, command: Command) {
        match command {
            Command::Primary { .. } | Command::Fence { .. } if self.is_failed() => {
                let text = self.disk_failure.clone().unwrap_or_default();
                self.refuse_command(token, Reason::DiskFailed, &text);
            }
            Command::Secondary | Command::Down | Command::Primary { .. } if self.pause.is_some() => {
                self.refuse_command(token, Reason::InTransition, "the daemon's program is being exchanged");
            }
            Command::Primary { .. } if self.declared.is_asking() => {
                let text = "both new disks are just being declared the same";
                self.refuse_command(token, Reason::InTransition, text);
            }
            Command::Primary { .. } | Command::Connect { .. } if self.undo.is_rolling_back() => {
                self.refuse_command(token, Reason::InTransition, "a rollback is under way");
            }
            Command::Primary { .. } | Command::Connect { .. } | Command::Rollback
                if self.waiters.leaving.is_some() =>
            {
                self.refuse_command(token, Reason::InTransition, "this node is just disconnecting");
            }
            Command::Primary { force, term, alone } => self.promote(token, Bid { force, term, alone }),
            Command::Fence { .. } | Command::GoAlone { .. } | Command::Revoke if !self.settings.managed => {
                self.refuse_unmanaged(token);
            }
            Command::Fence { term } => self.fence(token, term),
            Command::GoAlone { term, loss } => self.go_alone(token, term, loss),
            Command::Revoke => self.revoke(token),
            Command::Secondary => self.secondary(token),
            Command::Connect { discard_my_data } => self.connect(token, discard_my_data),
            Command::Disconnect => self.disconnect(token),
            Command::Invalidate => self.invalidate(token),
            Command::InvalidateRemote => self.invalidate_remote(token),
            Command::Outdate => self.outdate(token),
            Command::SkipInitialSync => self.skip_initial_sync(token),
            Command::SuspendIo => self.suspend_io(token),
            Command::ResumeIo => self.resume_io(token),
            Command::Adjust(tuning) => self.adjust(token, tuning),
            Command::Pause => self.pause(token),
            Command::Unpause => self.end_pause(token),
            Command::Rollback => self.rollback(token),
            Command::Verify { repair } => self.verify(token, repair),
            Command::VerifyStop => self.stop_verify(token),
            Command::Resize => self.grow(token),
            Command::PauseSync => self.pause_sync(token),
            Command::ResumeSync => self.resume_sync(token),
            Command::WaitConnect => self.waiters.connect.push(token),
            Command::WaitSync => self.waiters.sync.push(token),
            Command::Down => self.down(token),
        }
    }

    pub(super) fn reply(&mut self, token: Token, result: Result<(), Refusal>) {
        self.out.push(Action::Reply { token, result });
    }

    pub(super) fn refuse_command(&mut self, token: Token, reason: Reason, detail: &str) {
        self.reply(token, Err(Refusal { reason, detail: detail.to_owned() }));
    }

    fn secondary(&mut self, token: Token) {
        match self.role {
            RoleState::Secondary => {
                self.lay_down_mandate();
                self.reply(token, Ok(()));
            }
            RoleState::Primary if self.is_blocked() => {
                let text = format!(
                    "writes wait for {}: give the device up without them with `revoke`",
                    self.settings.peer
                );
                self.refuse_command(token, Reason::InTransition, &text);
            }
            RoleState::Primary if self.suspension.is_on() => {
                let text = "writes were suspended by an administrator: `resume-io` first";
                self.refuse_command(token, Reason::InTransition, text);
            }
            RoleState::Primary => self.give_up_device(token, Leave::Demote),
            _ => self.refuse_command(token, Reason::InTransition, "another change of the role is under way"),
        }
    }

    fn down(&mut self, token: Token) {
        match self.role {
            RoleState::Secondary => self.go_down(token),
            RoleState::Primary => {
                // What the system still writes back must come to its end.
                self.end_suspension("the resource is taken down");
                self.give_up_device(token, Leave::Down);
            }
            _ => self.refuse_command(token, Reason::InTransition, "a change of the role is under way"),
        }
    }

    fn connect(&mut self, token: Token, discard_my_data: bool) {
        if self.is_failed() {
            let text = self.disk_failure.clone().unwrap_or_default();
            self.refuse_command(token, Reason::DiskFailed, &text);
            return;
        }
        if discard_my_data && self.role != RoleState::Secondary {
            let text = "--discard-my-data not allowed when primary: run `secondary` first";
            self.refuse_command(token, Reason::InUse, text);
            return;
        }
        if self.link.stands_alone() {
            self.hang_up("connect");
            self.link.wire = Wire::Waiting { dial_at: self.settings.dials().then_some(self.now) };
            self.link.reason = None;
            self.log(LogLevel::Info, "connection:StandAlone -> Connecting".to_owned());
        }
        if self.link.joined().is_none() {
            self.link.discard_my_data = discard_my_data;
        }
        self.reply(token, Ok(()));
    }

    fn disconnect(&mut self, token: Token) {
        if self.link.joined().is_none() {
            if !matches!(self.link.wire, Wire::StandAlone) {
                self.stand_alone("disconnected by an administrator".to_owned());
            }
            self.reply(token, Ok(()));
            return;
        }
        self.prepare_to_leave(token, Leave::Demote);
    }

    /// A Secondary that leaves a Primary is older from then on, and must know it before the link is gone.
    fn prepare_to_leave(&mut self, token: Token, leave: Leave) {
        if self.waiters.leaving.is_some() {
            self.refuse_command(token, Reason::InTransition, "this node is already disconnecting");
            return;
        }
        self.waiters.leaving = Some((token, leave));
        let peer_is_primary = self.link.joined().is_some_and(|s| s.peer_role == Role::Primary);
        let mut job = Job::new(Then::ReadyToLeave).bitmap();
        if peer_is_primary && !self.settings.managed {
            job = job.superblock(|s| s.outdated = true);
        }
        self.store.push(job);
    }

    /// Everything is stored: say goodbye.
    pub(super) fn leave(&mut self) {
        if self.superblock.outdated && self.disk == DiskState::UpToDate {
            self.log(LogLevel::Info, "disk:UpToDate -> Outdated: leaving the Primary".to_owned());
            self.disk = DiskState::Outdated;
        }
        let (disk, now) = (self.disk, self.now);
        match self.link.session_mut() {
            Some(session) if session.phase == Phase::Joined => {
                session.phase = Phase::Leaving;
                session.deadline = Some(now + LEAVE_MS);
                let id = session.id;
                self.send(id, Message::Goodbye { disk });
                // From now on the peer takes no part.
                self.requests_lose_peer();
                self.flushes_lose_peer();
                self.resync_loses_peer();
                self.verify_loses_peer();
                self.undo_loses_peer();
            }
            _ => self.stand_alone("disconnected by an administrator".to_owned()),
        }
    }

    /// Takes the resource down; the device is gone already.
    pub(super) fn go_down(&mut self, token: Token) {
        self.rollback_goes_down();
        if self.is_failed() {
            self.stopped(token);
        } else {
            self.prepare_to_leave(token, Leave::Down);
        }
    }

    fn stopped(&mut self, token: Token) {
        for token in self.waiters.connect.drain(..).chain(self.waiters.sync.drain(..)).collect::<Vec<_>>() {
            self.refuse_command(token, Reason::Stopping, "the resource was taken down");
        }
        self.reply(token, Ok(()));
        self.out.push(Action::Stopped);
    }

    fn invalidate(&mut self, token: Token) {
        let peer = &self.settings.peer;
        let session = self.link.joined().filter(|s| s.replication == ReplicationState::Established);
        let refusal = match session {
            None => Some((
                Reason::NoConnection,
                format!("{peer} must be connected and not in a resync, to give its data"),
            )),
            Some(s) if s.peer_disk != DiskState::UpToDate => Some((
                Reason::NoUpToDateDisk,
                format!("the disk of {peer} is {}: it cannot give its data", s.peer_disk),
            )),
            Some(s) if s.peer_invalidates => Some((
                Reason::NoUpToDateDisk,
                format!("{peer} is just giving up its own data: this node has the only copy"),
            )),
            Some(_) if self.waiters.invalidate.is_some() => {
                Some((Reason::InTransition, format!("{peer} was asked already, and has not answered")))
            }
            Some(_) if self.role != RoleState::Secondary => {
                Some((Reason::InUse, "this node is Primary: run `secondary` first".to_owned()))
            }
            Some(s) => {
                let link = s.id;
                self.waiters.invalidate = Some(token);
                self.send(link, Message::InvalidateAsk);
                return;
            }
        };
        if let Some((reason, text)) = refusal {
            self.refuse_command(token, reason, &text);
        }
    }

    /// The peer wants to give up its data. It may, if this node keeps its own: not both at the same moment.
    pub(super) fn invalidate_asked(&mut self, link: LinkId) {
        // The lower number goes first.
        let yields = self.waiters.invalidate.is_none() || self.settings.node_id > self.settings.peer_node_id;
        let established = |s: &&super::link::Session| s.replication == ReplicationState::Established;
        let granted =
            yields && self.disk == DiskState::UpToDate && self.link.joined().is_some_and(|s| established(&s));
        if granted {
            if let Some(session) = self.link.session_mut() {
                session.peer_invalidates = true;
            }
            self.refuse_invalidate(Reason::PeerRefused);
        }
        self.send(link, Message::InvalidateAnswer { granted });
    }

    pub(super) fn invalidate_answered(&mut self, granted: bool) {
        if !granted || self.role != RoleState::Secondary {
            self.refuse_invalidate(Reason::PeerRefused);
            return;
        }
        let Some(token) = self.waiters.invalidate.take() else { return };
        self.bitmap.set_all();
        let job = Job::new(Then::Invalidated { token }).bitmap();
        self.store.push(job.superblock(|s| {
            s.consistent = false;
            s.was_up_to_date = false;
        }));
    }

    /// The peer was asked, and has not answered.
    pub(super) fn waits_for_invalidate(&self) -> bool {
        self.waiters.invalidate.is_some()
    }

    /// Nothing was given up.
    pub(super) fn refuse_invalidate(&mut self, reason: Reason) {
        let recalled = if reason == Reason::NoConnection { self.store.recall_invalidate() } else { None };
        if let Some(token) = self.waiters.invalidate.take().or(recalled) {
            let text = format!("{} may need this copy: nothing was given up", self.settings.peer);
            self.refuse_command(token, reason, &text);
        }
    }

    pub(super) fn invalidated(&mut self, token: Token) {
        self.log(
            LogLevel::Warn,
            format!("disk:{} -> Inconsistent: invalidated by an administrator", self.disk),
        );
        self.disk = DiskState::Inconsistent;
        self.seen_generation = None;
        self.hang_up("this disk was invalidated: compare again");
        self.reply(token, Ok(()));
    }

    /// Answers commands whose condition has come true.
    pub(super) fn advance_waiters(&mut self) -> bool {
        let mut done = Vec::new();
        if self.link.joined().is_some() {
            done.append(&mut self.waiters.connect);
        }
        if self.is_synced() {
            done.append(&mut self.waiters.sync);
        }
        let progress = !done.is_empty();
        done.into_iter().for_each(|token| self.reply(token, Ok(())));
        progress | self.advance_leaving()
    }

    fn advance_leaving(&mut self) -> bool {
        let Some((token, leave)) = self.waiters.leaving else { return false };
        let quiet = self.store.is_idle() && self.ios.is_empty();
        if !matches!(self.link.wire, Wire::StandAlone) || (leave == Leave::Down && !quiet) {
            return false;
        }
        self.waiters.leaving = None;
        if leave == Leave::Down {
            self.stopped(token);
        } else {
            self.link.reason = Some("disconnected by an administrator".to_owned());
            self.reply(token, Ok(()));
        }
        true
    }

    fn is_synced(&self) -> bool {
        let both = |s: &super::link::Session| {
            s.replication == ReplicationState::Established && s.peer_disk == DiskState::UpToDate
        };
        self.disk == DiskState::UpToDate && self.link.joined().is_some_and(both)
    }
}
