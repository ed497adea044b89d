//! A service as systemd sees it: running or not, started at boot or not.

use super::schema::{Kind, Schema};

pub(super) const SCHEMA: Schema = Schema {
    name: "service",
    summary: "Starts, stops, restarts, enables or disables a systemd unit.",
    keys: &[
        Schema::may("name", Kind::Text, "the unit; .service may be left out"),
        Schema::may(
            "state",
            Kind::Choice(&["started", "stopped", "restarted", "reloaded"]),
            "restarted and reloaded always act: use them in handlers",
        ),
        Schema::may("enabled", Kind::Bool, "start it at boot, or not"),
        Schema::may("daemon_reload", Kind::Bool, "let systemd read its unit files again first"),
    ],
};
