//! firewalld: what a zone lets in and which interfaces are in it, at run time and permanently together.

use super::schema::{Kind, Schema};

pub(super) const SCHEMA: Schema = Schema {
    name: "firewall",
    summary: "Opens services and ports in a firewalld zone and puts interfaces into it, at once and for good.",
    keys: &[
        Schema::may("zone", Kind::Text, "the zone; firewalld's default zone when left out"),
        Schema::may("services", Kind::TextList, "services to let in, such as http"),
        Schema::may("ports", Kind::TextList, "ports to let in, such as 7789/tcp"),
        Schema::may("interfaces", Kind::TextList, "interfaces of the zone"),
        Schema::may("state", Kind::Choice(&["enabled", "disabled"]), "enabled (default) or disabled"),
    ],
};
