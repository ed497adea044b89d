//! A marked block of /etc/hosts; every other line stays as it is.

use super::schema::{Kind, Schema};

pub(super) const SCHEMA: Schema = Schema {
    name: "hosts",
    summary: "Keeps a marked block of names in /etc/hosts; all other lines stay.",
    keys: &[
        Schema::must("entries", Kind::Any, "a list of {address: 192.0.2.1, names: [a.example.com, a]}"),
        Schema::may("marker", Kind::Text, "name of the block, when there are several (default: futago)"),
        Schema::may("path", Kind::Path, "the file (default: /etc/hosts)"),
    ],
};
