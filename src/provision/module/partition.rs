//! One partition on a disk that is provably blank, or already exactly as asked.

use super::schema::{Kind, Schema};

pub(super) const SCHEMA: Schema = Schema {
    name: "partition",
    summary: "Labels a blank disk and makes one partition; refuses a disk that holds anything else.",
    keys: &[
        Schema::must("device", Kind::Path, "the whole disk, such as /dev/vdb"),
        Schema::may("label", Kind::Choice(&["msdos", "gpt"]), "kind of partition table (default: gpt)"),
        Schema::may("start", Kind::Text, "where it begins, in percent or with a unit (default: 0%)"),
        Schema::may("end", Kind::Text, "where it ends (default: 100%)"),
        Schema::may("wipe", Kind::Bool, "destroy what is on the disk now"),
    ],
};
