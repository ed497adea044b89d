//! Roles: promotion and demotion, and the device that exists only while Primary.
//!
//! ```text
//! Secondary ─► Asking the peer ─► Storing ─► Exporting ─► Primary
//!     ▲               │ refused      ▲           │ failed     │ secondary, down
//!     └───────────────┴──────────────┼───────────┘            ▼
//!     └──── Storing ◄── Flushing ◄───┴──────────────────── Unexporting (busy: stays Primary)
//! ```
//! From every state `revoke` leads over Revoking to Secondary. While connected a node becomes Primary only with the peer's consent, and a node that has consented does
//! not ask for itself before it has heard of the outcome.

use super::store::Job;
use super::{Engine, Purpose, Then};
use crate::control::{Reason, Refusal};
use crate::event::{Action, LinkId, LogLevel, Token};
use crate::message::{Abilities, Message};
use crate::state::{DiskState, ReplicationState, Role};

/// Why the device is being given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// Only to become Secondary.
    Demote,
    /// On the way to taking the resource down.
    Down,
}

/// What a promotion was asked for with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bid {
    /// Even if the disk is not known to be the newest.
    pub(super) force: bool,
    /// The cluster's term.
    pub(super) term: Option<u64>,
    /// The record says that only this node is up to date.
    pub(super) alone: bool,
}

/// Where this node is between the two roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoleState {
    /// No device.
    Secondary,
    /// Waiting for the end of a handshake, or for the peer's answer once `asked`.
    Asking { token: Token, bid: Bid, asked: bool },
    /// Storing that this node is Primary.
    Storing { token: Token },
    /// The device is being made.
    Exporting { token: Token },
    /// The device could not be made: taking it back.
    Undoing { token: Token },
    /// The device stands.
    Primary,
    /// The device is being taken away.
    Unexporting { token: Token, leave: Leave },
    /// It is gone; waiting for what is in flight, then flushing and storing.
    Demoting { token: Token, leave: Leave, flushing: bool },
    /// It was taken away from its users; storing what may differ and that this node is Secondary.
    Revoking,
}

impl RoleState {
    /// What others are told.
    pub(super) fn visible(self) -> Role {
        match self {
            Self::Primary | Self::Unexporting { .. } | Self::Exporting { .. } | Self::Storing { .. } => {
                Role::Primary
            }
            Self::Secondary
            | Self::Asking { .. }
            | Self::Undoing { .. }
            | Self::Demoting { .. }
            | Self::Revoking => Role::Secondary,
        }
    }

    pub(super) fn is_changing(self) -> bool {
        !matches!(self, Self::Secondary | Self::Primary | Self::Asking { asked: false, .. })
    }

    /// Requests of applications may be unanswered, and are to be answered rightly.
    pub(super) fn has_requests(self) -> bool {
        self.is_exporting() || matches!(self, Self::Demoting { .. })
    }

    /// Who waits for the end of the change.
    pub(super) fn token(self) -> Option<Token> {
        match self {
            Self::Asking { token, .. }
            | Self::Storing { token }
            | Self::Exporting { token }
            | Self::Undoing { token }
            | Self::Unexporting { token, .. }
            | Self::Demoting { token, .. } => Some(token),
            Self::Secondary | Self::Primary | Self::Revoking => None,
        }
    }

    /// Applications may send requests.
    pub(super) fn is_exporting(self) -> bool {
        matches!(self, Self::Primary | Self::Unexporting { .. } | Self::Exporting { .. })
    }
}

impl Engine {
    pub(super) fn promote(&mut self, token: Token, bid: Bid) {
        if !self.may_bid(token, bid) {
            return;
        }
        match self.role {
            RoleState::Primary => self.reply(token, Ok(())),
            RoleState::Secondary => self.role = RoleState::Asking { token, bid, asked: false },
            _ => self.refuse_command(token, Reason::InTransition, "another change of the role is under way"),
        }
    }

    /// Moves a promotion on that waits for the link, and answers the peer when it may be answered.
    pub(super) fn advance_role(&mut self) -> bool {
        if self.is_failed() {
            return false;
        }
        if self.advance_demotion() {
            return true;
        }
        let RoleState::Asking { token, bid, asked: false } = self.role else { return false };
        if self.link.is_joining() || !self.store.is_idle() {
            return false;
        }
        if self.is_outbid(bid) {
            self.refuse_outbid(token);
            return true;
        }
        if self.drop_old_primary() {
            return true;
        }
        if let Err((reason, detail)) = self.may_be_primary(bid) {
            self.role = RoleState::Secondary;
            self.refuse_command(token, reason, &detail);
            return true;
        }
        if self.has_peer_writes() || self.requests.pending() > 0 {
            // What a lost peer has sent may still be on its way to the disk: it must not come after what
            // applications write here; no more may what is left of a device that was taken away.
            return false;
        }
        match self.link.joined().map(|s| s.id) {
            Some(link) => {
                self.role = RoleState::Asking { token, bid, asked: true };
                let (term, message) = (bid.term.unwrap_or_default(), Message::RoleAsk);
                self.out.push(Action::Send { link, term, message, payload: None });
            }
            None => self.store_promotion(token, bid),
        }
        true
    }

    fn may_be_primary(&self, bid: Bid) -> Result<(), (Reason, String)> {
        let peer = &self.settings.peer;
        if let Some(session) = self.link.joined() {
            if session.peer_role == Role::Primary {
                return Err((
                    Reason::TwoPrimaries,
                    format!("{peer} is Primary; run `secondary` there first"),
                ));
            }
            if matches!(session.replication, ReplicationState::SyncTarget | ReplicationState::WFBitMapT) {
                let done = self.sync_status().map_or(0.0, |s| s.done);
                let text = format!(
                    "this disk is the target of a resync from {peer}, {done:.2}% done: wait for its end with `wait-sync`, or promote {peer}"
                );
                return Err((Reason::NoUpToDateDisk, text));
            }
        }
        // A mix of old and new blocks is never better than what the disk was before.
        if bid.force && self.disk == DiskState::Inconsistent && self.undo_status().is_some() {
            let text = format!(
                "the disk is a mix of old and new blocks, the resync from {peer} was interrupted: `rollback` brings back what it was before, promote that. Should the undo log be damaged: `undo-log no` in the resource file, `down`, `up`, and promote the mix"
            );
            return Err((Reason::NoUpToDateDisk, text));
        }
        // The record names only nodes that have every acknowledged write.
        let recorded = bid.term.is_some() && self.disk == DiskState::Consistent;
        if self.disk == DiskState::UpToDate || recorded || bid.force {
            return Ok(());
        }
        Err((Reason::NoUpToDateDisk, self.why_not_up_to_date()))
    }

    fn why_not_up_to_date(&self) -> String {
        let peer = &self.settings.peer;
        match self.disk {
            DiskState::Consistent => format!(
                "this node has restarted and has not seen {peer} since, which may have newer data: connect to {peer}, or, if it is certain that {peer} has not been Primary meanwhile, `primary --force`"
            ),
            DiskState::Outdated => format!(
                "{peer} was Primary when this node was disconnected, or `outdate` was typed here, or a rollback was made: {peer} has newer data. Connect to {peer}; `primary --force` would go back to older data"
            ),
            _ if self.undo_status().is_some() => format!(
                "the disk is a mix of old and new blocks: connect to {peer} and let the resync end; if {peer} is lost, `rollback` brings back what this disk was before"
            ),
            _ => format!(
                "the disk is {}: it holds no usable data, or a mix of old and new blocks; connect to {peer} and let it resync; on a new pair, `primary --force` declares this disk the good one",
                self.disk
            ),
        }
    }

    pub(super) fn role_asked(&mut self, link: LinkId, term: u64) {
        let granted = match self.role {
            RoleState::Secondary => true,
            // Both ask at once: the newer term counts.
            RoleState::Asking { bid, .. } if bid.term.is_some() => bid.term.unwrap_or_default() < term,
            // The lower number goes first.
            RoleState::Asking { .. } => self.settings.node_id > self.settings.peer_node_id,
            _ => false,
        };
        if granted {
            let why = format!("{} is about to be Primary", self.settings.peer);
            self.interrupt_verify(&why);
        }
        self.send(link, Message::RoleAnswer { granted });
    }

    pub(super) fn role_answered(&mut self, granted: bool) {
        let RoleState::Asking { token, bid, asked: true } = self.role else { return };
        if self.is_outbid(bid) {
            self.refuse_outbid(token);
            return;
        }
        if granted {
            self.store_promotion(token, bid);
            return;
        }
        self.role = RoleState::Secondary;
        let text =
            format!("{} is Primary or is about to be; run `secondary` there first", self.settings.peer);
        self.refuse_command(token, Reason::TwoPrimaries, &text);
    }

    pub(super) fn role_change_loses_peer(&mut self) {
        if let RoleState::Asking { token, bid, asked: true } = self.role {
            self.role = RoleState::Asking { token, bid, asked: false };
        }
    }

    fn refuse_outbid(&mut self, token: Token) {
        self.role = RoleState::Secondary;
        self.refuse_command(token, Reason::Fenced, "a newer term was promised meanwhile");
    }

    fn store_promotion(&mut self, token: Token, bid: Bid) {
        self.role = RoleState::Storing { token };
        // Who gave up what is there now did not mean what is written from now on.
        self.link.discard_my_data = false;
        let fence = self.take_mandate(bid);
        let forced = self.disk != DiskState::UpToDate && bid.force;
        let begins = self.disk == DiskState::Inconsistent;
        if forced {
            self.log(LogLevel::Warn, format!("disk:{} is declared UpToDate by `primary --force`", self.disk));
        }
        if begins {
            self.bitmap.set_all();
        }
        // The record does not count on the peer any more: what it has is older from now on, whatever it is.
        let apart = self.link.mirror().is_none();
        let lone = bid.alone && apart;
        let (new, base, bytes) = (self.rng.generation(), self.rng.generation(), self.device_bytes());
        let now = self.unix_seconds();
        self.store.push(Job::new(Then::Promoted { fence, lone }).bitmap().superblock(move |s| {
            // A device that was seen never shrinks.
            s.agreed_bytes = bytes;
            s.fence = s.fence.max(fence);
            s.primary = true;
            // Until something is written here, a crash does not make a node older that has outlived the other one.
            s.survived &= apart;
            s.consistent = true;
            s.was_up_to_date = true;
            s.outdated = false;
            s.undo = None;
            if begins {
                let old = std::mem::replace(&mut s.generations.current, new);
                s.generations.bitmap = base;
                s.generations.remember(old);
                s.generations.counter += 1;
            } else if forced || lone {
                // Whatever the other disk has that this one lacks, this one was declared the good one.
                s.part(new, now);
            }
        }));
    }

    pub(super) fn promotion_stored(&mut self, lone: bool) {
        let RoleState::Storing { token } = self.role else { return };
        if lone {
            self.begin_named();
        }
        if self.settings.managed {
            self.link.hurry(self.now);
        }
        let was_worthless = self.disk == DiskState::Inconsistent;
        if was_worthless {
            self.drop_undo();
        }
        self.turn_up_to_date();
        // What this disk got from the peer before may still be in its volatile cache.
        self.requests.answered += 1;
        self.role = RoleState::Exporting { token };
        self.shown_bytes = self.device_bytes();
        // A peer that cannot give room back would have to write all those zeroes.
        let discard =
            self.unmaps && self.link.joined().is_none_or(|s| s.peer_abilities.has(Abilities::UNMAP));
        self.out.push(Action::StartExport { bytes: self.shown_bytes, discard });
        if was_worthless {
            self.hang_up("this disk was declared the good one: compare again");
        }
    }

    pub(super) fn export_started(&mut self) {
        let RoleState::Exporting { token } = self.role else { return };
        self.role = RoleState::Primary;
        self.log(LogLevel::Info, "role:Secondary -> Primary".to_owned());
        self.announce();
        self.reply(token, Ok(()));
    }

    pub(super) fn export_failed(&mut self, reason: Reason, detail: String) {
        let RoleState::Exporting { token } = self.role else { return };
        self.role = RoleState::Undoing { token };
        if self.is_failed() {
            self.promotion_undone(reason, &detail);
            return;
        }
        self.store.push(Job::new(Then::PromotionUndone { reason, detail }).superblock(|s| s.primary = false));
    }

    pub(super) fn promotion_undone(&mut self, reason: Reason, detail: &str) {
        let RoleState::Undoing { token } = self.role else { return };
        self.role = RoleState::Secondary;
        self.lay_down_mandate();
        self.announce();
        self.refuse_command(token, reason, detail);
    }

    pub(super) fn give_up_device(&mut self, token: Token, leave: Leave) {
        self.abandon_growth("the device is being given up");
        self.role = RoleState::Unexporting { token, leave };
        self.out.push(Action::StopExport);
    }

    pub(super) fn export_busy(&mut self, holders: &[String]) {
        if let RoleState::Exporting { .. } = self.role {
            self.export_failed(Reason::InUse, holders.join("\n"));
            return;
        }
        let RoleState::Unexporting { token, .. } = self.role else { return };
        self.role = RoleState::Primary;
        self.refuse_command(token, Reason::InUse, &holders.join("\n"));
    }

    pub(super) fn export_stopped(&mut self) {
        let RoleState::Unexporting { token, leave } = self.role else { return };
        self.role = RoleState::Demoting { token, leave, flushing: false };
        if self.is_failed() {
            self.demotion_stored();
        }
    }

    /// The device may have been taken away under its users: their writes that are left go the whole way, as
    /// long as this node still is the one that writes.
    fn advance_demotion(&mut self) -> bool {
        let RoleState::Demoting { token, leave, flushing: false } = self.role else { return false };
        if self.requests.pending() > 0 {
            return false;
        }
        self.role = RoleState::Demoting { token, leave, flushing: true };
        self.request_flush(Purpose::Demote);
        true
    }

    pub(super) fn demotion_flushed(&mut self) {
        let cold = self.activity.reset();
        self.store.push(Job::new(Then::Demoted).bitmap().superblock(|s| s.primary = false).activity(cold));
    }

    pub(super) fn demotion_stored(&mut self) {
        let RoleState::Demoting { token, leave, .. } = self.role else { return };
        self.role = RoleState::Secondary;
        self.lay_down_mandate();
        self.log(LogLevel::Info, "role:Primary -> Secondary".to_owned());
        self.announce();
        match leave {
            Leave::Demote => self.reply(token, Ok(())),
            Leave::Down => self.go_down(token),
        }
    }

    /// After a disk failure a change of the role cannot be stored.
    pub(super) fn fail_role_change(&mut self) {
        match self.role {
            RoleState::Asking { token, .. } | RoleState::Storing { token } | RoleState::Undoing { token } => {
                self.role = RoleState::Secondary;
                let text = self.disk_failure.clone().unwrap_or_default();
                self.reply(token, Err(Refusal { reason: Reason::DiskFailed, detail: text }));
            }
            // The device is gone and what could be stored is stored.
            RoleState::Demoting { .. } => self.demotion_stored(),
            RoleState::Revoking => self.revoked(),
            RoleState::Secondary
            | RoleState::Exporting { .. }
            | RoleState::Primary
            | RoleState::Unexporting { .. } => {}
        }
    }
}
