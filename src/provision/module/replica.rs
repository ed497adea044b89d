//! A replicated device, driven through `futago replica` on the host.

use super::schema::{Kind, Schema};

pub(super) const SCHEMA: Schema = Schema {
    name: "replica",
    summary: "Brings a replicated resource into a state: metadata created, up, primary, in sync.",
    keys: &[
        Schema::must("resource", Kind::Text, "name of the resource, such as r0"),
        Schema::must(
            "state",
            Kind::Choice(&["created", "up", "primary", "synced"]),
            "created, up (connected), primary or synced (both UpToDate)",
        ),
        Schema::may("wipe", Kind::Bool, "for created: destroy what is on the disk now"),
        Schema::may(
            "force_first",
            Kind::Bool,
            "for primary: choose this host's empty disk for the first sync",
        ),
        Schema::may(
            "timeout",
            Kind::Int,
            "seconds without any progress after which waiting ends (default: 60)",
        ),
        Schema::may("program", Kind::Path, "the program on the host (default: /usr/local/sbin/futago)"),
    ],
};
