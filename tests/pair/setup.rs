//! The configuration of the simulated cluster: device, file system, database, web server, address, worker.

use cluster::config::{Class, Config, ForeignStart, Policy, Quorum, Resource, ResourceId};
use cluster::member::Node;
use cluster::timing::Timing;

/// Something comes after the address, as with Zabbix' server.
const GROUP: [&str; 6] = ["r0", "data", "mariadb", "apache", "address", "worker"];

/// What one node's manager is told.
pub(crate) fn config(node: Node, quorum: Quorum, failover_target_ms: u64) -> Config {
    Config {
        cluster: "ha.example.com".into(),
        node,
        names: ["ha-a".into(), "ha-b".into()],
        quorum,
        timing: Timing::derive(failover_target_ms, 600_000).unwrap(),
        group: GROUP.iter().enumerate().map(|(i, name)| resource(i, name)).collect(),
        everywhere: Vec::new(),
        policy: Policy {
            foreign_start: ForeignStart::Stop,
            reboot_on_failed_stop: false,
            watch_public_link: true,
        },
    }
}

/// A service that runs on both hosts.
pub(crate) fn everywhere(unit: &str) -> Resource {
    resource(0, unit)
}

fn resource(index: usize, name: &str) -> Resource {
    let class = match name {
        "r0" => Class::Replica { resource: "r0".into() },
        "data" => Class::Mount {
            device: "/dev/drbd1".into(),
            directory: "/srv/data".into(),
            fstype: "ext4".into(),
            options: String::new(),
        },
        "address" => Class::Address { address: "203.0.113.10".into(), prefix: 24, interface: "eth0".into() },
        unit => Class::Systemd { unit: format!("{unit}.service"), check: None },
    };
    Resource {
        name: name.into(),
        class,
        after: index.checked_sub(1).map(ResourceId).into_iter().collect(),
        start_timeout_ms: 20_000,
        stop_timeout_ms: 20_000,
        monitor_interval_ms: 5_000,
        monitor_timeout_ms: 5_000,
        monitor_failures: 2,
        restarts: 2,
        restart_dependents: false,
    }
}
