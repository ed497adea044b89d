//! A file system on a device that is provably blank, or already holds it.

use super::schema::{Kind, Schema};

pub(super) const SCHEMA: Schema = Schema {
    name: "filesystem",
    summary: "Makes a file system on a blank device; refuses one that holds anything else.",
    keys: &[
        Schema::must("device", Kind::Path, "the device, such as /dev/drbd1"),
        Schema::must("type", Kind::Choice(&["ext4", "xfs"]), "kind of file system"),
        Schema::may("label", Kind::Text, "its label, set when it is made"),
        Schema::may("wipe", Kind::Bool, "destroy what is on the device now"),
    ],
};
