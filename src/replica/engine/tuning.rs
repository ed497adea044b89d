//! Options that may change while a resource is up.

use serde::{Deserialize, Serialize};

use super::{Engine, Settings, UndoPolicy};
use crate::event::{Millis, Token};
use crate::handler::Handlers;

/// The part of [`Settings`] that a running engine can follow at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    /// As in [`Settings`], like the others.
    pub ping_interval_ms: Millis,
    /// `ping-timeout`.
    pub ping_timeout_ms: Millis,
    /// `timeout` × `ko-count`.
    pub request_timeout_ms: Millis,
    /// `connect-int`.
    pub connect_interval_ms: Millis,
    /// `disk-timeout`.
    pub disk_timeout_ms: Millis,
    /// `resync-rate`.
    pub resync_rate_kib: u64,
    /// `undo-log`; counts from the next resync on.
    pub undo: UndoPolicy,
    /// `handlers`.
    pub handlers: Handlers,
}

impl Settings {
    /// The part that may change.
    #[must_use]
    pub fn tuning(&self) -> Tuning {
        Tuning {
            ping_interval_ms: self.ping_interval_ms,
            ping_timeout_ms: self.ping_timeout_ms,
            request_timeout_ms: self.request_timeout_ms,
            connect_interval_ms: self.connect_interval_ms,
            disk_timeout_ms: self.disk_timeout_ms,
            resync_rate_kib: self.resync_rate_kib,
            undo: self.undo,
            handlers: self.handlers,
        }
    }

    /// Changes it.
    pub fn tune(&mut self, tuning: Tuning) {
        self.ping_interval_ms = tuning.ping_interval_ms;
        self.ping_timeout_ms = tuning.ping_timeout_ms;
        self.request_timeout_ms = tuning.request_timeout_ms;
        self.connect_interval_ms = tuning.connect_interval_ms;
        self.disk_timeout_ms = tuning.disk_timeout_ms;
        self.resync_rate_kib = tuning.resync_rate_kib;
        self.undo = tuning.undo;
        self.handlers = tuning.handlers;
    }
}

impl Engine {
    pub(super) fn adjust(&mut self, token: Token, tuning: Tuning) {
        self.settings.tune(tuning);
        self.reply(token, Ok(()));
    }
}
