//! An administrator holds a resync up: for the hours in which applications need the disks, or the line, alone. It holds
//! until it is told to go on, or until the connection is lost: a resync that everybody has forgotten would leave the
//! pair with one copy.

use super::super::Engine;
use super::Source;
use crate::control::Reason;
use crate::event::{LogLevel, Token};

impl Engine {
    /// Nothing more is sent; what is on its way is brought to its end.
    pub(in crate::engine) fn pause_sync(&mut self, token: Token) {
        self.hold_sync(
            token,
            true,
            "the resync is held up until `resume-sync`, or until the connection is lost",
        );
    }

    pub(in crate::engine) fn resume_sync(&mut self, token: Token) {
        self.hold_sync(token, false, "the resync goes on");
    }

    fn hold_sync(&mut self, token: Token, paused: bool, text: &str) {
        let Some(source) = &mut self.resync.source else {
            let why =
                "this host sends no resync: it is held up where its source is (`replication:SyncSource`)";
            return self.refuse_command(token, Reason::NoConnection, why);
        };
        if std::mem::replace(&mut source.paused, paused) != paused {
            self.log(LogLevel::Warn, text.to_owned());
        }
        self.reply(token, Ok(()));
    }

    pub(in crate::engine) fn is_sync_paused(&self) -> bool {
        self.resync.source.as_ref().is_some_and(|source: &Source| source.paused)
    }
}
