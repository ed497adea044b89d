//! Room: what is trimmed leaves both disks; the device grows while it is written to; and disks that were enlarged while
//! their host was off are recognised.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use crate::harness::{Lab, possible, succeeded};
use crate::replication::{
    A, B, DEVICE, begin_load, data_of, disks_are_equal_and_clean, end_load, pair, until_in_sync,
};

const MIB: u64 = 1 << 20;

/// The disk that the host sees gets more room.
fn enlarge_disk(lab: &Lab, host: &str, bytes: u64) {
    let file = lab.folder().join("hosts").join(host).join("disk");
    let grown = OpenOptions::new().write(true).open(&file).and_then(|disk| disk.set_len(bytes));
    grown.expect("enlarge the disk");
    let mut find = Command::new("losetup");
    find.args(["--noheadings", "--output", "NAME", "--associated"]).arg(&file);
    let mut update = Command::new("losetup");
    update.arg("--set-capacity").arg(succeeded(find).trim());
    succeeded(update);
}

/// What an administrator types; the lab has no udev that parted could wait for.
fn enlarge_partition(lab: &Lab, host: &str) {
    lab.run_in(host, "parted --script /dev/vdb resizepart 1 100% 2>&1; partx --update /dev/vdb");
}

fn resize(lab: &Lab, host: &str) -> (Option<i32>, String) {
    let output = lab.try_in(host, "futago replica resize r0 2>&1");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn device_bytes(lab: &Lab, host: &str) -> u64 {
    let text = lab.run_in(host, &format!("blockdev --getsize64 {DEVICE}"));
    text.parse().unwrap_or_else(|_| panic!("{text}"))
}

#[test]
fn a_device_grows_while_it_is_written_to() {
    if !possible() {
        return;
    }
    let lab = pair();
    lab.run_in(A, &format!("mount {DEVICE} /mnt"));
    gives_room_back(&lab);
    begin_load(&lab);
    let before = device_bytes(&lab, A);
    enlarge_disk(&lab, B, 400 * MIB);
    enlarge_partition(&lab, B);
    let (code, said) = resize(&lab, B);
    assert!(
        code == Some(0) && said.contains("goes on as Secondary") && said.contains("resize r0 on"),
        "{said}"
    );
    let (code, said) = resize(&lab, A);
    assert!(code == Some(11) && said.contains("Enlarge the disk, or the partition, of both"), "{said}");
    assert_eq!(device_bytes(&lab, A), before);

    enlarge_disk(&lab, A, 500 * MIB);
    enlarge_partition(&lab, A);
    let (code, said) = resize(&lab, A);
    assert!(code == Some(0) && said.contains("goes on as Primary") && said.contains("resize2fs"), "{said}");
    let after = device_bytes(&lab, A);
    assert!(after > 395 * MIB && after < 400 * MIB, "{after} bytes: the smaller disk counts");
    assert_eq!(lab.run_in(A, "systemctl is-active load"), "active", "fio failed while the device grew");
    end_load(&lab);
    lab.run_in(
        A,
        &format!("umount /mnt && e2fsck -f -p {DEVICE} && resize2fs {DEVICE} && mount {DEVICE} /mnt"),
    );
    lab.run_in(A, "dd if=/dev/urandom of=/mnt/big bs=1M count=230 conv=fsync status=none");
    lab.run_in(A, "umount /mnt");
    disks_are_equal_and_clean(&lab);

    grown_while_off(&lab);
}

fn gives_room_back(lab: &Lab) {
    let used = || {
        [A, B].map(|host| {
            let file = lab.folder().join("hosts").join(host).join("disk");
            fs::metadata(file).expect("look at a disk").blocks() * 512
        })
    };
    let can = "grep -q [1-9] /sys/dev/block/$(stat -Lc %Hr:%Lr /dev/vdb)/queue/discard_max_bytes";
    if ![A, B].iter().all(|host| lab.try_in(host, can).status.success()) {
        println!("the disks of this lab do not give room back");
        return;
    }
    lab.run_in(A, "dd if=/dev/urandom of=/mnt/x bs=1M count=60 conv=fsync status=none");
    let full = used();
    lab.run_in(A, "rm /mnt/x && sync && fstrim /mnt");
    for (full, left) in full.into_iter().zip(used()) {
        assert!(left + 55 * MIB < full, "{left} of {full} bytes are still in use");
    }
}

/// A host comes back with a larger disk: the daemon finds its metadata where it was, and moves it.
fn grown_while_off(lab: &Lab) {
    lab.run_in(A, &format!("mount {DEVICE} /mnt"));
    lab.run("power-off", &[B]);
    lab.run_in(A, "dd if=/dev/urandom of=/mnt/missed bs=1M count=12 conv=fsync status=none");
    let sums = lab.run_in(A, "cd /mnt && sha256sum big missed");
    lab.run("power-on", &[B]);
    enlarge_disk(lab, B, 520 * MIB);
    enlarge_partition(lab, B);
    // Nobody takes it for a new disk: neither the verb nor the whole site, which starts the daemon.
    let refused = lab.try_in(B, "futago replica create-md r0 2>&1");
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(refused.status.code() == Some(40) && said.contains("where the end of the disk was"), "{said}");
    lab.apply(&[]);
    until_in_sync(lab);
    let log = lab.run_in(B, "journalctl -u futago-replicad -b -o cat");
    assert!(log.contains("its metadata was moved to the new end"), "{log}");
    let (code, said) = resize(lab, A);
    assert!(code == Some(0) && said.contains("the device has"), "{said}");
    lab.run_in(A, "umount /mnt && futago replica secondary r0");
    lab.run_in(B, &format!("futago replica primary r0 && mount {DEVICE} /mnt"));
    assert!(device_bytes(lab, B) > 495 * MIB);
    assert_eq!(lab.run_in(B, "cd /mnt && sha256sum big missed"), sums);
    lab.run_in(B, "umount /mnt && futago replica secondary r0");
    assert_eq!(data_of(lab, A), data_of(lab, B), "the data areas differ");
}
