//! The replication daemon for real: two processes on loopback, real block devices, kills in between.
//!
//! Needs root, /dev/fuse and loop devices; says so and skips where they are missing, except under `CI=true`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall panic")]

mod handlers;
mod managed;
mod pair;
mod verbs;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use pair::{Pair, can_export};

const MIB: u64 = 1 << 20;
const DISK: u64 = 64 * MIB;

/// Bytes that differ from block to block and from seed to seed.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len.div_ceil(8)).flat_map(|_| next()).take(len).collect()
}

#[test]
fn the_articles_walk_through_passes() {
    if !can_export() {
        return;
    }
    let mut pair = Pair::new(DISK);
    for node in [&mut pair.a, &mut pair.b] {
        assert!(node.ok(&["create-md", "r0"]).ends_with("meta data block successfully created.\n"));
        node.start();
    }
    pair.a.ok(&["wait-connect", "--timeout", "60", "r0"]);
    assert_eq!(pair.a.word("dstate"), "Inconsistent/Inconsistent");
    let refused = pair.a.fails(17, &["primary", "r0"]);
    assert!(refused.starts_with("r0: State change failed: (-2) Need access to UpToDate data\n"), "{refused}");
    pair.a.ok(&["primary", "--force", "r0"]);
    assert_eq!(pair.a.word("role"), "Primary");
    let two = pair.b.fails(11, &["primary", "r0"]);
    assert!(two.contains("State change failed: (-1)") || two.contains("(-2)"), "{two}");
    pair.wait_sync();
    assert_eq!(pair.b.word("dstate"), "UpToDate/UpToDate");
    let written = pattern(1, 3 << 20);
    pair.a.write(5 * MIB, &written);
    pair.assert_equal();
    pair.a.ok(&["secondary", "r0"]);
    assert!(!pair.a.device.exists() && pair.a.loop_devices().is_empty());
    pair.b.ok(&["primary", "r0"]);
    assert_eq!(pair.b.read(5 * MIB, written.len()), written);
    pair.b.write(0, &pattern(2, 4096));
    pair.assert_equal();
    pair.b.ok(&["down", "r0"]);
    pair.b.fails(10, &["role", "r0"]);
    pair.b.ok(&["up", "r0"]);
    pair.a.ok(&["wait-sync", "--timeout", "60", "r0"]);
}

#[test]
fn after_the_peer_was_gone_only_what_changed_is_sent() {
    if !can_export() {
        return;
    }
    let mut pair = Pair::in_sync(DISK);
    let sent = |pair: &Pair| pair.a.status()["connections"][0]["peer_devices"][0]["sent"].as_u64().unwrap();
    pair.b.kill();
    pair.a.write(7 * MIB, &pattern(3, 4096));
    pair.a.write(9 * MIB, &pattern(4, 64 << 10));
    let before = sent(&pair);
    pair.b.start();
    pair.wait_sync();
    let sent = sent(&pair) - before;
    assert!((68..=68 + 64).contains(&sent), "{sent} KiB were sent for 68 KiB of changes");
    pair.assert_equal();
}

#[test]
fn writes_while_the_peer_comes_and_goes_leave_both_disks_equal() {
    if !can_export() {
        return;
    }
    let mut pair = Pair::in_sync(DISK);
    let device = File::options().read(true).write(true).open(&pair.a.device).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_and_check(&device, &stop));
        for round in 0..6 {
            pair.b.kill();
            pair.b.start();
            // Every other time the next kill hits the resync.
            let verb = if round % 2 == 0 { "wait-sync" } else { "wait-connect" };
            pair.b.ok(&[verb, "--timeout", "100", "r0"]);
        }
        stop.store(true, Ordering::Relaxed);
        assert!(writer.join().unwrap() > 0);
    });
    drop(device);
    pair.wait_sync();
    pair.assert_equal();
}

/// Writes blocks here and there until told to stop, and reads some of them back; returns how many.
fn write_and_check(device: &File, stop: &AtomicBool) -> u64 {
    let mut count = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let len = 4096 << (count % 6);
        let offset = count.wrapping_mul(0x9e37_79b9) % (DISK / 4096 - 64) * 4096;
        let block = pattern(count, len);
        device.write_all_at(&block, offset).unwrap();
        if count.is_multiple_of(32) {
            device.sync_all().unwrap();
            let mut back = vec![0; len];
            device.read_exact_at(&mut back, offset).unwrap();
            assert!(back == block, "the block at {offset} reads differently");
        }
        count += 1;
    }
    count
}

#[test]
fn a_resource_that_cannot_come_up_says_why_and_does_not_stop_the_others() {
    if !can_export() {
        return;
    }
    let mut pair = Pair::new(DISK);
    pair.a.ok(&["create-md", "r0"]);
    pair.a.add_resource("r1", "/does/not/exist");
    pair.a.start();
    assert_eq!(pair.a.word("role"), "Secondary");
    let said = pair.a.fails(10, &["status", "r1"]);
    assert!(said.starts_with("r1: No such resource\n") && said.contains("/does/not/exist"), "{said}");
    let all = pair.a.ok(&["status"]);
    assert!(all.starts_with("r0 role:Secondary\n") && !all.contains("r1"), "{all}");
    let said = pair.a.fails(10, &["up", "r1"]);
    assert!(said.contains("open /does/not/exist"), "{said}");
}

#[test]
fn a_killed_primary_hangs_nobody_and_loses_nothing_that_was_synced() {
    if !can_export() {
        return;
    }
    let mut pair = Pair::in_sync(DISK);
    let device = File::options().read(true).write(true).open(&pair.a.device).unwrap();
    let mut synced = Vec::new();
    for index in 0..32u64 {
        let block = pattern(100 + index, 8192);
        device.write_all_at(&block, index * 3 * 4096).unwrap();
        device.sync_all().unwrap();
        synced.push((index * 3 * 4096, block));
    }
    pair.a.kill();
    // The device fails, at once and for good; nobody waits for a dead daemon.
    let failed = device.write_all_at(&[1; 4096], 0).and_then(|()| device.sync_all());
    assert_eq!(failed.unwrap_err().raw_os_error(), Some(5));
    drop(device);
    pair.b.ok(&["primary", "r0"]);
    for (offset, block) in &synced {
        assert!(pair.b.read(*offset, block.len()) == *block, "the block at {offset} was synced and is lost");
    }
    pair.b.write(20 * MIB, &pattern(5, 4096));
    pair.a.start();
    pair.wait_sync();
    assert_eq!((pair.a.word("role"), pair.a.loop_devices().len()), ("Secondary".to_owned(), 0));
    pair.assert_equal();
}

#[test]
fn a_busy_device_is_not_taken_away_and_its_holder_is_named() {
    if !can_export() {
        return;
    }
    let pair = Pair::in_sync(DISK);
    let held = File::open(&pair.a.device).unwrap();
    let own = format!("(pid {})", std::process::id());
    for verb in ["secondary", "down"] {
        let said = pair.a.fails(11, &[verb, "r0"]);
        assert!(
            said.starts_with("r0: State change failed: (-12) Device is held open by someone\n"),
            "{said}"
        );
        assert!(said.contains(&own), "{said}");
        assert!(
            said.ends_with(&format!("Command 'replica {verb} r0' terminated with exit code 11\n")),
            "{said}"
        );
    }
    assert_eq!(pair.a.word("role"), "Primary");
    drop(held);
    pair.a.ok(&["secondary", "r0"]);
}

#[test]
fn stopping_the_daemon_takes_a_held_device_away_at_last() {
    if !can_export() {
        return;
    }
    let mut pair = Pair::in_sync(DISK);
    let mut held = File::open(&pair.a.device).unwrap();
    pair.a.terminate();
    pair.a.ended();
    // Beyond what the page cache may hold.
    let failed = held.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(failed.kind(), io::Error::from_raw_os_error(5).kind());
    drop(held);
    assert!(pair.a.loop_devices().is_empty() && !pair.a.device.exists());
    pair.b.ok(&["primary", "r0"]);
}

#[test]
fn metadata_is_not_made_over_anything_unless_forced() {
    let pair = Pair::new(DISK);
    let disk = File::options().write(true).open(&pair.a.disk).unwrap();
    disk.write_all_at(b"XFSB", 0).unwrap();
    let said = pair.a.fails(40, &["create-md", "r0"]);
    assert!(said.contains("Found xfs filesystem") && said.contains("Operation refused."), "{said}");
    pair.a.ok(&["create-md", "--force", "r0"]);
    disk.write_all_at(&[0; 4], 0).unwrap();
    let said = pair.a.fails(40, &["create-md", "r0"]);
    assert!(said.contains("already futago meta data"), "{said}");
    let said = pair.a.fails(1, &["create-md", "r9"]);
    let first = "'r9' not defined in your config (for this host).\n  ";
    assert!(said.starts_with(first) && said.ends_with("/*.res define r0\n"), "{said}");
}

#[test]
fn without_a_daemon_the_verbs_say_how_to_start_it() {
    let pair = Pair::new(DISK);
    for words in [&["status"][..], &["primary", "r0"], &["up", "r0"]] {
        let said = pair.a.fails(20, words);
        assert!(said.contains("systemctl start futago-replicad"), "{said}");
    }
}
