//! The bond to the cluster manager for real: what it says with its commands, on two daemons and block devices.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Duration;

use base::frame;
use serde_json::{Value, json};

use crate::pair::{PATIENCE, Pair, can_export};
use crate::{DISK, MIB, pattern};

fn bond(node: &crate::pair::Node, key: &str) -> Value {
    node.status()["managed"][key].clone()
}

#[test]
fn a_write_waits_for_the_peer_or_for_the_grant() {
    if !can_export() {
        return;
    }
    let mut pair = Pair::managed(DISK);
    pair.a.write(0, &pattern(1, 8192));
    pair.assert_equal();
    assert_eq!(bond(&pair.a, "alone"), json!(false));
    let said = pair.b.fails(11, &["primary", "--force", "r0"]);
    assert!(said.contains("(-30)") && said.contains("futago cluster force-primary"), "{said}");
    pair.b.kill();
    let device = File::options().write(true).open(&pair.a.device).unwrap();
    let (done, answer) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            done.send(device.write_all_at(&pattern(2, 4096), MIB).and_then(|()| device.sync_all()))
        });
        pair.a.until(|status| status["managed"]["blocked"] == json!(true));
        let loss = bond(&pair.a, "loss").as_u64().unwrap();
        let old = (loss - 1).to_string();
        let said = pair.a.fails(11, &["go-alone", "r0", "--term", "1", "--loss", &old]);
        assert!(said.contains("(-32)"), "{said}");
        assert_eq!(answer.recv_timeout(Duration::from_millis(300)).ok().map(|r| r.is_ok()), None);
        pair.a.ok(&["go-alone", "r0", "--term", "1", "--loss", &loss.to_string()]);
        answer.recv_timeout(PATIENCE).unwrap().unwrap();
    });
    pair.b.start();
    pair.wait_sync();
    pair.a.until(|status| status["managed"]["alone"] == json!(false));
    pair.assert_equal();
}

#[test]
fn a_short_cut_needs_no_grant() {
    if !can_export() {
        return;
    }
    let pair = Pair::managed(DISK);
    pair.b.ok(&["disconnect", "r0"]);
    pair.a.until(|status| status["managed"]["blocked"] == json!(true));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| pair.a.write(2 * MIB, &pattern(3, 64 << 10)));
        pair.b.ok(&["connect", "r0"]);
        writer.join().unwrap();
    });
    assert_eq!((bond(&pair.a, "alone"), bond(&pair.a, "blocked")), (json!(false), json!(false)));
    pair.assert_equal();
}

#[test]
fn revoke_fails_a_held_device_at_once_and_the_peer_takes_over() {
    if !can_export() {
        return;
    }
    let mut pair = Pair::managed(DISK);
    pair.a.write(0, &pattern(1, 1 << 20));
    pair.b.ok(&["disconnect", "r0"]);
    pair.a.until(|status| status["managed"]["blocked"] == json!(true));
    let device = File::options().read(true).write(true).open(&pair.a.device).unwrap();
    std::thread::scope(|scope| {
        let writer =
            scope.spawn(|| device.write_all_at(&pattern(9, 8192), 4 * MIB).and_then(|()| device.sync_all()));
        pair.a.until(|status| status["devices"][0]["upper-pending"].as_u64() > Some(0));
        pair.a.ok(&["revoke", "r0"]);
        let failed = writer.join().unwrap().unwrap_err();
        assert_eq!(failed.kind(), io::Error::from_raw_os_error(5).kind());
    });
    assert_eq!(pair.a.word("role"), "Secondary");
    let said = pair.a.fails(11, &["primary", "r0", "--term", "1"]);
    assert!(said.contains("(-12)") && said.contains(&format!("(pid {})", std::process::id())), "{said}");
    pair.b.ok(&["fence", "r0", "--term", "2"]);
    pair.b.ok(&["primary", "r0", "--term", "2", "--alone"]);
    assert_eq!(pair.b.read(0, 1 << 20), pattern(1, 1 << 20));
    pair.b.write(8 * MIB, &pattern(4, 4096));
    pair.b.ok(&["connect", "r0"]);
    pair.wait_sync();
    pair.assert_equal();
    drop(device);
    // Nobody holds the old device any more.
    pair.b.ok(&["secondary", "r0"]);
    pair.a.until(|status| status["connections"][0]["peer-role"] == json!("Secondary"));
    pair.a.ok(&["primary", "r0", "--term", "3"]);
    assert_eq!(pair.a.read(8 * MIB, 4096), pattern(4, 4096));
    pair.a.write(4 * MIB, &pattern(5, 4096));
    pair.assert_equal();
    pair.a.terminate();
    pair.a.ended();
}

#[test]
fn a_primary_is_deposed_by_a_newer_one_and_follows_it() {
    if !can_export() {
        return;
    }
    let pair = Pair::managed(DISK);
    let device = File::options().read(true).write(true).open(&pair.a.device).unwrap();
    pair.b.ok(&["fence", "r0", "--term", "2"]);
    pair.a.until(|status| status["managed"]["blocked"] == json!(true));
    pair.b.ok(&["primary", "r0", "--term", "2", "--alone"]);
    pair.a.until(|status| status["managed"]["deposed"] == json!(true));
    let failed = device.write_all_at(&pattern(6, 4096), 0).and_then(|()| device.sync_all());
    assert_eq!(failed.unwrap_err().raw_os_error(), Some(5));
    pair.wait_sync();
    pair.b.write(0, &pattern(7, 4096));
    pair.assert_equal();
    assert_eq!((pair.a.word("role"), pair.b.word("role")), ("Secondary".to_owned(), "Primary".to_owned()));
}

#[test]
fn a_blocked_daemon_stops() {
    if !can_export() {
        return;
    }
    let mut pair = Pair::managed(DISK);
    pair.b.kill();
    pair.a.until(|status| status["managed"]["blocked"] == json!(true));
    pair.a.terminate();
    pair.a.ended();
    assert!(pair.a.loop_devices().is_empty());
}

#[test]
fn a_watcher_is_told_of_every_change() {
    if !can_export() {
        return;
    }
    let mut pair = Pair::managed(DISK);
    let mut stream = UnixStream::connect(pair.a.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    frame::write(&mut stream, &json!({ "watch": { "name": "r0" } })).unwrap();
    let mut said = || frame::read::<Value>(&mut stream).ok().flatten();
    let mut next = || said().expect("the daemon says something");
    let first = next();
    assert_eq!(first["status"][0]["status"]["managed"]["blocked"], json!(false), "{first}");
    pair.b.kill();
    while next()["status"][0]["status"]["managed"]["blocked"] != json!(true) {}
    pair.a.terminate();
    // That the resource is down, unless the process has ended before.
    while let Some(said) = said().filter(|said| said.get("not-up").is_none()) {
        assert!(said.get("status").is_some(), "{said}");
    }
    pair.a.ended();
}
