//! The source of a resync loses its power on the way, for good as it seems: the target is what it was before.

use rustix::process::Signal;

use crate::harness::{Lab, possible, signal, until};
use crate::replication::{
    A, B, DEVICE, daemon, data_of, disks_are_equal_and_clean, pair, state, until_in_sync,
};

/// Percent of the resync that the log of the target shows as done; 0 before it begins.
fn done(lab: &Lab) -> f64 {
    let text = lab.run_in(B, "futago replica status r0");
    let number = text.split("done:").nth(1).and_then(|rest| rest.split_whitespace().next());
    number.and_then(|n| n.parse().ok()).unwrap_or_default()
}

/// ha-b has missed 64 MiB, and fetches them slowly while an application goes on; at so many percent ha-a loses its
/// power. With the checksum of ha-b's data from before the resync.
fn half_synced(percent: f64) -> (Lab, String) {
    let lab = pair();
    lab.run_in(A, "echo 'common { disk { resync-rate 16M; } }' > /etc/futago/replica.d/slow.res");
    lab.run_in(A, "futago replica down r0 && futago replica up r0");
    until_in_sync(&lab);
    lab.run_in(A, &format!("futago replica primary r0 && mount {DEVICE} /mnt"));
    lab.run_in(
        A,
        "dd if=/dev/urandom of=/mnt/a bs=1M count=64 conv=fsync status=none && echo old > /mnt/word",
    );
    lab.run_in(A, "sync");
    lab.run("cut", &["local"]);
    until("the Primary notices that the peer is gone", || state(&lab, A, "cstate") == "Connecting");
    lab.run_in(A, "dd if=/dev/urandom of=/mnt/a bs=1M count=64 conv=notrunc,fsync status=none");
    lab.run_in(A, "echo new > /mnt/word && sync");
    let before = data_of(&lab, B);
    lab.run("heal", &[]);
    let writes = "while :; do dd if=/dev/urandom of=/mnt/b bs=64k count=8 conv=fsync status=none; done";
    lab.run_in(A, &format!("systemd-run --quiet --unit=load sh -c '{writes}'"));
    until("so much of the resync is done", || done(&lab) >= percent);
    lab.run("power-off", &[A]);
    until("the target notices", || state(&lab, B, "cstate") == "Connecting");
    (lab, before)
}

#[test]
fn a_target_whose_source_is_lost_goes_back_byte_for_byte() {
    if !possible() {
        return;
    }
    let (lab, before) = half_synced(50.0);
    // The daemon, too, goes down and finds the log again.
    signal(Signal::KILL, daemon(&lab, B));
    until("the daemon is back", || state(&lab, B, "dstate") == "Inconsistent/DUnknown");
    assert_ne!(data_of(&lab, B), before, "the resync has changed nothing");

    let status = lab.run_in(B, "futago replica status r0 2>&1");
    assert!(status.contains("disk:Inconsistent undo:ready"), "{status}");
    assert!(
        status.contains("`futago replica rollback r0` brings back what the disk held before, data of 20"),
        "{status}"
    );
    for words in ["primary r0", "primary --force r0"] {
        let refused = lab.try_in(B, &format!("futago replica {words}"));
        assert_eq!(refused.status.code(), Some(17));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("`rollback` brings back what"), "{said}");
    }

    let said = lab.run_in(B, "futago replica rollback r0");
    assert!(said.contains("this disk is what it was before the resync, data of 20"), "{said}");
    assert_eq!(data_of(&lab, B), before, "not byte for byte");
    assert_eq!(state(&lab, B, "dstate"), "Outdated/DUnknown");
    lab.run_in(B, "! test -e /var/lib/futago/undo/r0.undo");
    assert_eq!(lab.try_in(B, "futago replica rollback r0").status.code(), Some(11), "a second time");
    assert_eq!(lab.try_in(B, "futago replica primary r0").status.code(), Some(17), "only with --force");

    // The source is back after all: nothing differs without anybody knowing.
    lab.run("power-on", &[A]);
    lab.run_in(A, "systemctl start futago-replicad");
    lab.run_in(B, "futago replica connect r0");
    until_in_sync(&lab);
    lab.run_in(A, "futago replica primary r0");
    let verified = lab.run_in(A, "futago replica verify r0");
    assert!(verified.contains("both disks are the same"), "{verified}");
    lab.run_in(A, &format!("mount {DEVICE} /mnt && grep -q new /mnt/word && umount /mnt"));
    disks_are_equal_and_clean(&lab);
}

#[test]
fn what_was_rolled_back_can_be_used_and_its_later_writes_are_not_lost_silently() {
    if !possible() {
        return;
    }
    let (lab, _) = half_synced(10.0);
    lab.run_in(B, "futago replica rollback r0 && futago replica primary --force r0");
    lab.run_in(
        B,
        &format!("mount {DEVICE} /mnt && grep -q old /mnt/word && echo newest > /mnt/word && umount /mnt"),
    );
    lab.run("power-on", &[A]);
    lab.run_in(A, "systemctl start futago-replicad");
    lab.run_in(B, "futago replica connect r0");
    until("both sides see the split brain", || {
        [A, B].iter().all(|host| lab.run_in(host, "futago replica status r0 2>&1").contains("split brain"))
    });
    lab.run_in(A, "futago replica connect --discard-my-data r0");
    lab.run_in(B, "futago replica connect r0");
    until_in_sync(&lab);
    lab.run_in(B, "futago replica secondary r0");
    disks_are_equal_and_clean(&lab);
    lab.run_in(A, &format!("mount {DEVICE} /mnt && grep -q newest /mnt/word && umount /mnt"));
}
