//! A folder, an empty file, a link, or nothing at a path, with owner and mode.

use super::schema::{Kind, Schema};

pub(super) const SCHEMA: Schema = Schema {
    name: "file",
    summary: "Makes a folder or a symbolic link, sets owner and permission bits, or removes a path.",
    keys: &[
        Schema::must("path", Kind::Path, "the path"),
        Schema::may(
            "state",
            Kind::Choice(&["file", "directory", "link", "absent"]),
            "file (default: must exist), directory, link or absent",
        ),
        Schema::may("target", Kind::Text, "what a link points to"),
        Schema::may("mode", Kind::Mode, "permission bits"),
        Schema::may("owner", Kind::Text, "user that owns it"),
        Schema::may("group", Kind::Text, "group that owns it"),
    ],
};
