//! Packages of the distribution, all in one transaction.

use super::schema::{Kind, Schema};

pub(super) const SCHEMA: Schema = Schema {
    name: "package",
    summary: "Installs or removes packages; services do not start by being installed.",
    keys: &[
        Schema::must("name", Kind::TextList, "the packages, installed in one transaction"),
        Schema::may("state", Kind::Choice(&["present", "absent"]), "present (default) or absent"),
        Schema::may(
            "update_cache",
            Kind::Bool,
            "read the package lists again before installing; done anyway when a package is unknown",
        ),
    ],
};
