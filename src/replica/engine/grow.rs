//! The device grows, while applications go on: both disks have become larger, and what neither has used so far is made
//! the same on both before anybody can see it.
//!
//! ```text
//! this node                                      the peer, Secondary
//! compare and repair what is new (engine/verify.rs)
//! flush both disks
//! Grow                        ──►                store the size
//! store the size              ◄──  Grown
//! the device grows
//! ```
//! A size that only the peer has stored is taken over when the two meet again (`engine/handshake.rs`): what is new is the
//! same on both by then. A device that was seen never shrinks.

use super::role::RoleState;
use super::store::Job;
use super::{Engine, Purpose, Then};
use crate::control::{Reason, Refusal};
use crate::event::{Action, LinkId, LogLevel, Token};
use crate::message::Message;
use crate::state::ReplicationState;

/// A size that is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Growing {
    token: Token,
    bytes: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Comparing,
    Flushing,
    Asking,
    Storing,
    /// The block device follows.
    Showing,
}

impl Engine {
    pub(super) fn grow(&mut self, token: Token) {
        let bytes = match self.may_grow() {
            Ok(bytes) => bytes,
            Err((reason, text)) => return self.refuse_command(token, reason, &text),
        };
        let from = self.device_bytes();
        self.growing = Some(Growing { token, bytes, stage: Stage::Comparing });
        let text = format!("the device is to grow from {} to {} KiB", from / 1024, bytes / 1024);
        self.log(LogLevel::Info, text);
        self.begin_comparison(from, bytes, true);
    }

    /// The size that both disks allow.
    fn may_grow(&self) -> Result<u64, (Reason, String)> {
        self.may_verify()?;
        if self.settings.managed && self.role != RoleState::Primary {
            return Err((Reason::Managed, "type it on the host where the service runs".to_owned()));
        }
        let there = self.link.joined().map_or(0, |session| session.peer_capacity);
        let (here, now) = (self.layout.data_bytes, self.device_bytes());
        let bytes = here.min(there);
        if bytes > now {
            return Ok(bytes);
        }
        let (node, peer) = (&self.settings.node, &self.settings.peer);
        let (here, there, now) = (here / 1024, there / 1024, now / 1024);
        let text = format!(
            "it has {now} KiB, and there is room for {here} KiB on {node}, for {there} KiB on {peer}. Enlarge the disk, or the partition, of both, then `futago replica resize` on {peer} and here"
        );
        Err((Reason::TooSmall, text))
    }

    /// What is new is the same on both disks.
    pub(super) fn growth_compared(&mut self) {
        if let Some(growing) = self.growing.as_mut().filter(|g| g.stage == Stage::Comparing) {
            growing.stage = Stage::Flushing;
            self.request_flush(Purpose::Grow);
        }
    }

    /// It is durable on `both` disks, or on this one alone.
    pub(super) fn growth_flushed(&mut self, both: bool) {
        let Some(growing) = self.growing.as_mut().filter(|g| g.stage == Stage::Flushing) else { return };
        let bytes = growing.bytes;
        growing.stage = Stage::Asking;
        match self.link.mirror().filter(|_| both) {
            Some(link) => self.send(link, Message::Grow { bytes }),
            None => self.drop_growth("the peer is lost"),
        }
    }

    /// The peer has stored the size.
    pub(super) fn peer_has_grown(&mut self, bytes: u64) {
        let asked = |g: &&mut Growing| g.stage == Stage::Asking && g.bytes == bytes;
        if let Some(growing) = self.growing.as_mut().filter(asked) {
            growing.stage = Stage::Storing;
            self.store.push(Job::new(Then::Grown).superblock(move |s| s.agreed_bytes = bytes));
        }
    }

    pub(super) fn grown(&mut self) {
        let Some(growing) = &mut self.growing else { return };
        growing.stage = Stage::Showing;
        let kib = growing.bytes / 1024;
        self.log(LogLevel::Info, format!("the device has {kib} KiB now"));
        if self.role != RoleState::Primary {
            self.export_resized(Ok(()));
        }
    }

    /// The block device has followed, or there is none.
    pub(super) fn export_resized(&mut self, result: Result<(), String>) {
        let Some(Growing { token, .. }) = self.growing.take_if(|g| g.stage == Stage::Showing) else { return };
        let refused = |detail| Refusal { reason: Reason::ExportFailed, detail };
        self.reply(token, result.map_err(refused));
    }

    pub(super) fn drop_growth(&mut self, why: &str) {
        let stored = |g: &Growing| matches!(g.stage, Stage::Storing | Stage::Showing);
        let Some(growing) = self.growing.filter(|g| !stored(g)) else { return };
        self.growing = None;
        self.log(LogLevel::Warn, format!("the device does not grow: {why}"));
        let left = match growing.stage {
            Stage::Asking => "the peer may have stored the size: then it is taken over when both meet again",
            _ => "nothing was changed, it can be begun anew",
        };
        let detail = format!("{why}; {left}");
        let reason = if self.link.mirror().is_some() { Reason::InTransition } else { Reason::NoConnection };
        self.reply(growing.token, Err(Refusal { reason, detail }));
    }

    /// This node shall not write any more.
    pub(super) fn abandon_growth(&mut self, why: &str) {
        if self.growing.is_some_and(|g| g.stage == Stage::Comparing) {
            self.interrupt_verify(why);
        }
        self.drop_growth(why);
        // The size is stored; the next device has it.
        self.export_resized(Ok(()));
    }

    /// The size that is being stored will not be, either.
    pub(super) fn fail_growth(&mut self, why: &str) {
        if let Some(Growing { token, .. }) = self.growing.take() {
            self.refuse_command(token, Reason::DiskFailed, why);
        }
    }

    pub(super) fn is_growing(&self) -> bool {
        self.growing.is_some()
    }

    /// The Primary has made what is new the same on both disks.
    pub(super) fn grow_asked(&mut self, link: LinkId, bytes: u64) {
        let replication = self.link.joined().map(|s| s.replication);
        let fits = bytes >= self.device_bytes() && bytes <= self.layout.data_bytes;
        if replication != Some(ReplicationState::Established) || self.role != RoleState::Secondary || !fits {
            self.unexpected(&format!("Grow to {bytes} bytes"));
            return;
        }
        self.store
            .push(Job::new(Then::GrownForPeer { link, bytes }).superblock(move |s| s.agreed_bytes = bytes));
    }

    pub(super) fn grown_for_peer(&mut self, link: LinkId, bytes: u64) {
        self.log(LogLevel::Info, format!("the device has {} KiB now", bytes / 1024));
        if self.link.joined().is_some_and(|session| session.id == link) {
            self.confirm(link, Message::Grown { bytes });
        }
    }

    /// Has the block device follow a size that is stored.
    pub(super) fn advance_device(&mut self) -> bool {
        let bytes = self.device_bytes();
        let is_shown = self.role != RoleState::Primary || self.shown_bytes >= bytes;
        if is_shown || !self.store.is_idle() || self.is_failed() {
            return false;
        }
        self.shown_bytes = bytes;
        self.out.push(Action::ResizeExport { bytes });
        true
    }
}
