//! A file system mounted or not, now; what happens at boot is not touched.

use super::schema::{Kind, Schema};

pub(super) const SCHEMA: Schema = Schema {
    name: "mount",
    summary: "Mounts or unmounts a file system now; /etc/fstab is not touched.",
    keys: &[
        Schema::must("path", Kind::Path, "the mount point, made when missing"),
        Schema::may("device", Kind::Path, "what to mount; needed for mounted"),
        Schema::may("type", Kind::Text, "kind of file system, found out when left out"),
        Schema::may("options", Kind::TextList, "mount options, such as noatime"),
        Schema::may("state", Kind::Choice(&["mounted", "unmounted"]), "mounted (default) or unmounted"),
    ],
};
