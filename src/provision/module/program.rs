//! The running program itself, installed on the host.

use super::schema::{Kind, Schema};

pub(super) const SCHEMA: Schema = Schema {
    name: "program",
    summary: "Installs futago itself on the host.",
    keys: &[Schema::may("dest", Kind::Path, "where to (default: /usr/local/sbin/futago)")],
};
