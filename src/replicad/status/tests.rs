//! Typical situations and their exact text and JSON (`cases/`).
//!
//! `FUTAGO_BLESS=1 cargo test -p replicad status` writes the expectations anew; read the difference.

use std::path::Path;

use replica::control::{SyncStatus, Waits};
use replica::state::DiskState;

use super::*;

/// The article's resource, both nodes just created.
fn fresh() -> Status {
    Status {
        name: "r0".to_owned(),
        node_id: 0,
        role: Role::Secondary,
        device: DeviceStatus {
            volume: 0,
            minor: 1,
            disk: DiskState::Inconsistent,
            size_kib: 20_970_844,
            capacity_kib: 20_970_844,
            read_kib: 0,
            written_kib: 0,
            al_writes: 0,
            bm_writes: 0,
            waits: Waits::default(),
            upper_pending: 0,
            lower_pending: 0,
            undo: None,
        },
        connection: ConnectionStatus {
            peer_node_id: 1,
            name: "ha-b.example.com".to_owned(),
            state: ConnectionState::Connected,
            standalone_reason: None,
            peer_role: Role::Secondary,
            replication: ReplicationState::Established,
            peer_disk: DiskState::Inconsistent,
            received_kib: 0,
            sent_kib: 0,
            out_of_sync_kib: 20_970_844,
            pending: 0,
            unacked: 0,
            sync: None,
            verify: None,
        },
        managed: None,
        suspended: false,
    }
}

pub(crate) fn sync_source() -> Status {
    let mut status = fresh();
    status.role = Role::Primary;
    status.device.disk = DiskState::UpToDate;
    status.device.bm_writes = 403;
    status.connection.replication = ReplicationState::SyncSource;
    status.connection.sent_kib = 4_991_061;
    status.connection.out_of_sync_kib = 15_979_783;
    status.connection.pending = 2;
    status.connection.sync = Some(SyncStatus {
        total_kib: 20_970_844,
        done: 23.8,
        same_kib: 0,
        paused: false,
        elapsed_ms: 50_000,
        rate_mib: 97.478_2,
        eta_seconds: Some(160),
    });
    status
}

fn sync_target() -> Status {
    let mut status = sync_source();
    status.role = Role::Secondary;
    status.device.disk = DiskState::Inconsistent;
    status.connection.name = "ha-a.example.com".to_owned();
    status.connection.peer_role = Role::Primary;
    status.connection.peer_disk = DiskState::UpToDate;
    status.connection.replication = ReplicationState::SyncTarget;
    status
}

fn in_sync() -> Status {
    let mut status = fresh();
    status.role = Role::Primary;
    status.device.disk = DiskState::UpToDate;
    status.connection.peer_disk = DiskState::UpToDate;
    status.connection.out_of_sync_kib = 0;
    status
}

fn peer_gone() -> Status {
    let mut status = in_sync();
    status.connection.state = ConnectionState::Connecting;
    status.connection.peer_role = Role::Unknown;
    status.connection.replication = ReplicationState::Off;
    status.connection.peer_disk = DiskState::DUnknown;
    status.connection.out_of_sync_kib = 4;
    status
}

fn split_brain() -> Status {
    let mut status = peer_gone();
    status.role = Role::Secondary;
    status.connection.state = ConnectionState::StandAlone;
    status.connection.standalone_reason = Some("split brain: both nodes changed their data".to_owned());
    status
}

/// The Primary of a cluster manager, its peer just lost.
fn blocked() -> Status {
    let mut status = peer_gone();
    status.managed =
        Some(Managed { fence: 7, term: Some(7), alone: false, loss: 1, blocked: true, deposed: false });
    status
}

fn situations() -> [(&'static str, Status); 7] {
    [
        ("fresh", fresh()),
        ("in-sync", in_sync()),
        ("sync-source", sync_source()),
        ("sync-target", sync_target()),
        ("peer-gone", peer_gone()),
        ("split-brain", split_brain()),
        ("blocked", blocked()),
    ]
}

fn shown(status: &Status) -> Shown<'_> {
    let addresses = ["192.168.1.101:7789", "192.168.1.102:7789"].map(|text| text.parse().unwrap());
    Shown { status, backing_dev: Some("/dev/vdb1"), addresses: Some(addresses), tls: true }
}

fn compare(case: &str, actual: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("status/cases").join(case);
    if std::env::var_os("FUTAGO_BLESS").is_some() {
        std::fs::write(&file, actual).unwrap();
    }
    let wanted = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("read {}: {e}", file.display()));
    assert!(wanted == actual, "{case}\n--- expected\n{wanted}\n--- actual\n{actual}");
}

#[test]
fn text_has_drbdadms_layout() {
    for (case, status) in situations() {
        compare(&format!("{case}.txt"), &text(&[shown(&status)], Detail::default()));
    }
}

#[test]
fn the_percentage_of_the_initial_sync_reads_as_in_the_article() {
    let expected = "r0 role:Primary\n  disk:UpToDate\n  ha-b.example.com role:Secondary\n    \
                    replication:SyncSource peer-disk:Inconsistent done:23.80\n\n";
    assert_eq!(text(&[shown(&sync_source())], Detail::default()), expected);
}

#[test]
fn verbose_statistics_have_drbdsetups_layout() {
    for (case, status) in situations() {
        let detail = Detail { verbose: true, statistics: true };
        compare(&format!("{case}-verbose-statistics.txt"), &text(&[shown(&status)], detail));
    }
}

#[test]
fn statistics_alone_add_lines_and_verbose_alone_adds_words() {
    let status = sync_source();
    let statistics = text(&[shown(&status)], Detail { verbose: false, statistics: true });
    compare("statistics.txt", &statistics);
    let verbose = text(&[shown(&status)], Detail { verbose: true, statistics: false });
    compare("verbose.txt", &verbose);
}

#[test]
fn json_has_drbdsetups_keys() {
    for (case, status) in situations() {
        let pretty = serde_json::to_string_pretty(&json(&[shown(&status)])).unwrap();
        compare(&format!("{case}.json"), &format!("{pretty}\n"));
    }
}

#[test]
fn resources_follow_each_other_with_an_empty_line() {
    let (a, b) = (in_sync(), peer_gone());
    let both = text(&[shown(&a), shown(&b)], Detail::default());
    let each = [a, b].map(|status| text(&[shown(&status)], Detail::default()));
    assert_eq!(both, each.concat());
    assert!(each.iter().all(|text| text.ends_with("\n\n")));
}

#[test]
fn without_resources_drbds_sentence_or_an_empty_array_is_printed() {
    assert_eq!(text(&[], Detail::default()), "# No currently configured DRBD found.\n");
    assert_eq!(json(&[]), serde_json::json!([]));
}

#[test]
fn a_split_brain_is_explained_to_people_and_not_in_the_data() {
    let status = split_brain();
    let expected = "r0: not connected to ha-b.example.com: split brain: both nodes changed their data";
    assert_eq!(explanations(&[shown(&status)]), [expected]);
    assert!(!text(&[shown(&status)], Detail::default()).contains("split"));
    assert!(explanations(&[shown(&in_sync())]).is_empty());
}
