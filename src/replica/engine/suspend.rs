//! An administrator lets writes wait, for instance to take snapshots of both disks that are the same: those on their way
//! are brought to their end on both, no other begins. Reads and flushes go on, they change nothing. It ends with `resume-io`,
//! when the resource goes down, or with this process.

use super::Engine;
use super::role::RoleState;
use crate::control::Reason;
use crate::event::{LogLevel, Token};

/// Whether writes wait for an administrator.
#[derive(Debug, Default)]
pub(super) struct Suspension {
    on: bool,
    /// To be answered when nothing is on its way.
    asked: Vec<Token>,
}

impl Suspension {
    pub(super) fn is_on(&self) -> bool {
        self.on
    }
}

impl Engine {
    pub(super) fn suspend_io(&mut self, token: Token) {
        if let Err((reason, text)) = self.may_suspend() {
            return self.refuse_command(token, reason, &text);
        }
        if !self.suspension.on {
            let text = "suspended:no -> user: writes wait until `resume-io`";
            self.log(LogLevel::Warn, text.to_owned());
        }
        self.suspension.on = true;
        self.suspension.asked.push(token);
    }

    fn may_suspend(&self) -> Result<(), (Reason, String)> {
        if self.settings.managed {
            let text = "it would take the service for one that hangs, and move it. Hold it first (`futago cluster hold`), or stop the application that writes";
            return Err((Reason::Managed, text.to_owned()));
        }
        if self.is_failed() {
            return Err((Reason::DiskFailed, self.disk_failure.clone().unwrap_or_default()));
        }
        if self.role != RoleState::Primary {
            let text = format!(
                "writes are held up where they come from: type it where the device is, {} perhaps",
                self.settings.peer
            );
            return Err((Reason::NotPrimary, text));
        }
        if self.pause.is_some() {
            return Err((Reason::InTransition, "the daemon's program is being exchanged".to_owned()));
        }
        Ok(())
    }

    pub(super) fn resume_io(&mut self, token: Token) {
        self.end_suspension("by an administrator");
        self.reply(token, Ok(()));
    }

    /// Writes begin again, or fail for another reason.
    pub(super) fn end_suspension(&mut self, why: &str) {
        if std::mem::take(&mut self.suspension.on) {
            self.log(LogLevel::Warn, format!("suspended:user -> no: {why}"));
        }
        for token in std::mem::take(&mut self.suspension.asked) {
            self.refuse_command(token, Reason::Stopping, "writes were let go on meanwhile");
        }
    }

    /// Nothing is on its way any more: both disks stand still, as far as applications are concerned.
    pub(super) fn advance_suspension(&mut self) -> bool {
        if self.suspension.asked.is_empty() || self.requests.has_started() {
            return false;
        }
        for token in std::mem::take(&mut self.suspension.asked) {
            self.reply(token, Ok(()));
        }
        true
    }
}
