//! What an administrator asks and declares, for real: two daemons and their disks.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::json;

use crate::pair::{PATIENCE, Pair, can_export};
use crate::{DISK, MIB, pattern};

#[test]
fn the_generations_are_told_by_the_daemon_and_by_the_disk() {
    if !can_export() {
        return;
    }
    let pair = Pair::in_sync(DISK);
    let up = pair.b.ok(&["get-gi", "r0"]);
    assert!(up.ends_with(":1:1:0:0:1:0:0:1:0:0:0:1\n"), "{up}");
    assert!(pair.a.ok(&["show-gi", "r0"]).contains(up.split_at(16).0), "the same generation on both");
    pair.b.ok(&["down", "r0"]);
    let down = pair.b.ok(&["get-gi", "r0"]);
    assert_eq!((&down[..67], down.ends_with(":1:1:0:0:1:0:0:0:0:0:0:1\n")), (&up[..67], true), "{down}");
    let shown = pair.b.ok(&["show-gi", "r0"]);
    assert!(shown.contains(down.trim()) && shown.contains("generation of the data"), "{shown}");
    let said = pair.b.fails(1, &["get-gi", "r9"]);
    assert!(said.starts_with("'r9' not defined in your config"), "{said}");
}

#[test]
fn what_a_side_has_written_alone_is_listed_by_the_daemon_and_by_the_disk() {
    if !can_export() {
        return;
    }
    let pair = Pair::in_sync(DISK);
    assert!(pair.a.ok(&["diff", "r0"]).starts_with("r0: nothing is marked"));
    pair.a.ok(&["disconnect", "r0"]);
    pair.a.write(5 * MIB, &pattern(1, 8192));
    pair.a.write(7 * MIB, &pattern(2, 4096));
    let listed = "r0: 12 KiB are marked: the peer's disk may have them otherwise\n  8 KiB at 5120 KiB\n  \
                  4 KiB at 7168 KiB\n";
    let differs = |words: &[&str]| {
        let output = pair.a.verb(words);
        assert_eq!(output.status.code(), Some(6), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(differs(&["diff", "r0"]), listed);
    pair.a.ok(&["down", "r0"]);
    assert_eq!(differs(&["diff", "r0"]), listed);
    let object =
        json!({"resource": "r0", "total_kib": 12, "places": [[5120, 8], [7168, 4]], "complete": true});
    assert_eq!(differs(&["diff", "r0", "--json"]).trim(), object.to_string());
    pair.a.ok(&["up", "r0"]);
    pair.wait_sync();
    pair.a.ok(&["diff", "r0"]);
}

#[test]
fn an_outdated_disk_is_not_promoted_until_it_has_met_the_peer() {
    if !can_export() {
        return;
    }
    let pair = Pair::in_sync(DISK);
    let said = pair.b.fails(11, &["outdate", "r0"]);
    assert!(said.contains("(-6) Refusing to be Outdated while Connected"), "{said}");
    pair.a.ok(&["secondary", "r0"]);
    pair.b.ok(&["disconnect", "r0"]);
    pair.b.ok(&["outdate", "r0"]);
    assert_eq!(pair.b.status()["devices"][0]["disk-state"], json!("Outdated"));
    pair.b.fails(17, &["primary", "r0"]);
    pair.b.ok(&["connect", "r0"]);
    pair.wait_sync();
    pair.b.ok(&["primary", "r0"]);
}

#[test]
fn a_peer_whose_disk_is_worth_nothing_is_written_over() {
    if !can_export() {
        return;
    }
    let pair = Pair::in_sync(DISK);
    pair.a.write(5 * MIB, &pattern(1, 1 << 20));
    // Behind the daemon's back.
    let disk = File::options().write(true).open(&pair.b.disk).unwrap();
    disk.write_all_at(&pattern(2, 8192), 5 * MIB).unwrap();
    disk.sync_all().unwrap();
    let said = pair.b.fails(11, &["invalidate-remote", "r0"]);
    assert!(said.contains("(-10)") && said.contains("run `secondary` there first"), "{said}");
    pair.a.ok(&["invalidate-remote", "r0"]);
    pair.a.until(|status| status["connections"][0]["peer_devices"][0]["out-of-sync"] == json!(0));
    pair.wait_sync();
    pair.assert_equal();
    assert_eq!(pair.a.read(5 * MIB, 1 << 20), pattern(1, 1 << 20));
    assert_eq!(pair.a.word("role"), "Primary");
}

#[test]
fn a_new_pair_needs_no_first_resync_and_one_with_data_is_not_new() {
    if !can_export() {
        return;
    }
    let mut pair = Pair::new(DISK);
    for node in [&mut pair.a, &mut pair.b] {
        node.ok(&["create-md", "r0"]);
        node.start();
    }
    pair.a.ok(&["wait-connect", "--timeout", "60", "r0"]);
    pair.a.fails(64, &["new-current-uuid", "r0"]);
    pair.a.ok(&["new-current-uuid", "--clear-bitmap", "r0"]);
    assert_eq!(pair.a.word("dstate"), "UpToDate/UpToDate");
    pair.b.until(|status| status["devices"][0]["disk-state"] == json!("UpToDate"));
    pair.b.ok(&["primary", "r0"]);
    pair.b.write(MIB, &pattern(3, 64 << 10));
    pair.assert_equal();
    let sent = pair.b.status()["connections"][0]["peer_devices"][0]["sent"].as_u64().unwrap();
    assert!(sent < 1024, "{sent} KiB were sent: a resync");
    let said = pair.a.fails(11, &["new-current-uuid", "--clear-bitmap", "r0"]);
    assert!(said.contains("(-36) The disks are not new") && said.contains("create-md"), "{said}");
}

#[test]
fn suspended_writes_wait_for_the_administrator() {
    if !can_export() {
        return;
    }
    let pair = Pair::in_sync(DISK);
    pair.a.write(0, &pattern(1, 4096));
    let said = pair.b.fails(11, &["suspend-io", "r0"]);
    assert!(said.contains("(-35) This node is not Primary"), "{said}");
    pair.a.ok(&["suspend-io", "r0"]);
    assert!(pair.a.ok(&["status", "r0"]).starts_with("r0 role:Primary suspended:user\n"));
    let device = File::options().write(true).open(&pair.a.device).unwrap();
    let (done, answer) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            done.send(device.write_all_at(&pattern(2, 4096), MIB).and_then(|()| device.sync_all()))
        });
        pair.a.until(|status| status["devices"][0]["upper-pending"].as_u64() > Some(0));
        assert!(answer.recv_timeout(Duration::from_millis(300)).is_err(), "it does not wait");
        pair.assert_equal();
        let said = pair.a.fails(11, &["reexec"]);
        assert!(said.contains("resume-io"), "{said}");
        pair.a.ok(&["resume-io", "r0"]);
        answer.recv_timeout(PATIENCE).unwrap().unwrap();
    });
    drop(device);
    pair.assert_equal();
    pair.a.ok(&["suspend-io", "r0"]);
    let said = pair.a.fails(11, &["secondary", "r0"]);
    assert!(said.contains("`resume-io` first"), "{said}");
    pair.a.ok(&["down", "r0"]);
}

#[test]
fn the_file_is_followed_and_what_cannot_be_is_named() {
    if !can_export() {
        return;
    }
    let pair = Pair::in_sync(DISK);
    assert_eq!(pair.a.ok(&["adjust", "r0"]), "");
    let file = pair.a.resource_file();
    let before = fs::read_to_string(&file).unwrap();
    let change = |options: &str| fs::write(&file, before.replacen("resource r0 {", options, 1)).unwrap();
    change("resource r0 { net { ping-int 3; } disk { al-extents 100; }");
    let told = json!([
        {"option": "ping-int", "from": "1000 ms", "to": "3000 ms", "takes": "nothing"},
        {"option": "al-extents", "from": "1237", "to": "100", "takes": "reexec"},
    ]);
    assert_eq!(pair.a.ok(&["adjust", "r0", "--dry-run", "--json"]).trim(), told.to_string());
    let output = pair.a.verb(&["adjust", "r0"]);
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(out, "r0: ping-int: 1000 ms -> 3000 ms\n");
    assert!(err.starts_with("r0: al-extents: 1237 -> 100, not yet: `futago replica reexec`"), "{err}");
    assert_eq!(output.status.code(), Some(11));
    let again = pair.a.fails(11, &["adjust", "r0"]);
    assert!(!again.contains("ping-int"), "{again}");
    pair.a.ok(&["reexec"]);
    assert_eq!(pair.a.ok(&["adjust", "r0"]), "");
    change("resource r0 { nonsense;");
    let said = pair.a.fails(10, &["adjust", "r0"]);
    assert!(said.contains("\"nonsense\" is unknown in resource"), "{said}");
    change("resource r0 { disk { al-extents 100; }");
    assert_eq!(pair.a.ok(&["adjust", "r0"]), "r0: ping-int: 3000 ms -> 1000 ms\n");
    pair.a.ok(&["down", "r0"]);
    pair.a.ok(&["adjust", "r0"]);
    assert_eq!(pair.a.word("role"), "Secondary");
}
