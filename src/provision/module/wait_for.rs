//! Waits, with a bound, until a port answers or a path is there.

use super::schema::{Kind, Schema};

pub(super) const SCHEMA: Schema = Schema {
    name: "wait_for",
    summary: "Waits until a TCP port answers or a path exists, or until they no longer do.",
    keys: &[
        Schema::may("port", Kind::Int, "TCP port"),
        Schema::may("host", Kind::Text, "address of the port (default: 127.0.0.1)"),
        Schema::may("path", Kind::Path, "path"),
        Schema::may("state", Kind::Choice(&["present", "absent"]), "present (default) or absent"),
        Schema::may("timeout", Kind::Int, "seconds to wait at most (default: 60)"),
    ],
};
