//! A pause: all that applications have asked for is answered and durable, the activity log is empty, and nothing new
//! begins. So another process can go on with the device from what is on the disk: the daemon's program is exchanged
//! while a file system is mounted.
//!
//! The shell hands no request to the core from the order on until the end of the pause.

use super::role::RoleState;
use super::store::Job;
use super::{Engine, Purpose, Then};
use crate::control::{Reason, Refusal};
use crate::event::Token;
use crate::state::DiskState;

/// How far a pause has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// Requests are on their way.
    Draining { token: Token },
    /// They are made durable.
    Flushing { token: Token },
    /// Bitmap and activity log are stored.
    Storing { token: Token },
    /// Nothing is left.
    Held,
}

impl Engine {
    pub(super) fn pause(&mut self, token: Token) {
        if let Err((reason, text)) = self.may_pause() {
            return self.refuse_command(token, reason, &text);
        }
        self.interrupt_verify("the daemon's program is exchanged");
        self.pause = Some(Pause::Draining { token });
    }

    fn may_pause(&self) -> Result<(), (Reason, String)> {
        let settled = matches!(self.role, RoleState::Primary | RoleState::Secondary);
        if !settled || self.pause.is_some() || self.undo.is_rolling_back() {
            return Err((Reason::InTransition, "another change is under way".to_owned()));
        }
        if self.role == RoleState::Primary && self.disk != DiskState::UpToDate {
            return Err((Reason::NoUpToDateDisk, format!("the disk of this Primary is {}", self.disk)));
        }
        if self.is_blocked() {
            let text = format!("writes wait for {}: they cannot be brought to an end", self.settings.peer);
            return Err((Reason::InTransition, text));
        }
        if self.suspension.is_on() {
            let text = "writes were suspended by an administrator: `resume-io` first".to_owned();
            return Err((Reason::InTransition, text));
        }
        self.may_leave_scripts()
    }

    /// The pause ends here: requests come again.
    pub(super) fn end_pause(&mut self, token: Token) {
        self.drop_pause(Reason::InTransition, "the pause was ended before it was complete");
        self.reply(token, Ok(()));
    }

    pub(super) fn drop_pause(&mut self, reason: Reason, text: &str) {
        match self.pause.take() {
            Some(Pause::Draining { token } | Pause::Flushing { token } | Pause::Storing { token }) => {
                self.reply(token, Err(Refusal { reason, detail: text.to_owned() }));
            }
            Some(Pause::Held) | None => {}
        }
    }

    pub(super) fn advance_pause(&mut self) -> bool {
        let Some(Pause::Draining { token }) = self.pause else { return false };
        if self.requests.pending() > 0 || self.flusher.serves_users() {
            return false;
        }
        self.pause = Some(Pause::Flushing { token });
        self.request_flush(Purpose::Pause);
        true
    }

    pub(super) fn pause_flushed(&mut self) {
        let Some(Pause::Flushing { token }) = self.pause else { return };
        self.pause = Some(Pause::Storing { token });
        let cold = self.activity.reset();
        self.store.push(Job::new(Then::Paused).bitmap().activity(cold));
    }

    pub(super) fn paused(&mut self) {
        let Some(Pause::Storing { token }) = self.pause else { return };
        self.pause = Some(Pause::Held);
        self.reply(token, Ok(()));
    }

    /// Whether nothing is on its way, and nothing begins.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.pause == Some(Pause::Held)
    }
}
