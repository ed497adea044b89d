//! A file with exactly this content, owner and mode.

use super::schema::{Kind, Schema};

pub(super) const SCHEMA: Schema = Schema {
    name: "copy",
    summary: "Writes a file durably: content, owner, group and permission bits.",
    keys: &[
        Schema::must("dest", Kind::Path, "the file on the host"),
        Schema::may("content", Kind::Text, "its text"),
        Schema::may("content_base64", Kind::Text, "its bytes in base64, instead of content"),
        Schema::may("mode", Kind::Mode, "permission bits (default: kept, or \"0644\" for a new file)"),
        Schema::may("owner", Kind::Text, "user that owns it"),
        Schema::may("group", Kind::Text, "group that owns it"),
    ],
};
