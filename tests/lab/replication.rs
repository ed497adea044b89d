//! Replication between real hosts while things go wrong: links cut under a verified load, daemons killed.

use std::fs;

use rustix::process::Signal;

use crate::harness::{Lab, possible, signal, until};

/// Small, so that whole disks can be compared.
const DISK: &str = "256M";
pub(crate) const DEVICE: &str = "/dev/drbd1";
pub(crate) const A: &str = "ha-a";
pub(crate) const B: &str = "ha-b";

/// A provisioned pair: ha-a is Primary, an empty ext4 file system is on the device, nothing is mounted.
pub(crate) fn pair() -> Lab {
    let lab = Lab::up(&["--disk-size", DISK]);
    lab.apply(&[]);
    lab.run_in(A, "apt-get install -y -qq fio >/dev/null 2>&1");
    lab
}

pub(crate) fn state(lab: &Lab, host: &str, verb: &str) -> String {
    let output = lab.try_in(host, &format!("futago replica {verb} r0"));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub(crate) fn until_in_sync(lab: &Lab) {
    until("both disks are UpToDate", || {
        [A, B].iter().all(|host| {
            state(lab, host, "cstate") == "Connected" && state(lab, host, "dstate") == "UpToDate/UpToDate"
        })
    });
}

/// The daemon's process, seen from outside.
pub(crate) fn daemon(lab: &Lab, host: &str) -> u32 {
    let pids = lab.processes(host, "futago-replicad.service");
    *pids.iter().min().unwrap_or_else(|| panic!("no daemon on {host}"))
}

/// Checksum of what applications see of the backing disk, read past all caches, metadata left out.
pub(crate) fn data_of(lab: &Lab, host: &str) -> String {
    let size = "futago replica status r0 --statistics --verbose | sed -n 's/.*size:\\([0-9]*\\).*/\\1/p'";
    let script =
        format!("dd if=/dev/vdb1 iflag=direct bs=64k count=$(($({size}) / 64)) status=none | sha256sum");
    lab.run_in(host, &script)
}

/// Both nodes Secondary and in sync: their data areas are the same, and the file system is whole.
pub(crate) fn disks_are_equal_and_clean(lab: &Lab) {
    until_in_sync(lab);
    for host in [A, B] {
        lab.run_in(host, "futago replica secondary r0");
    }
    assert_eq!(data_of(lab, A), data_of(lab, B), "the data areas differ");
    lab.run_in(A, "futago replica primary r0");
    lab.run_in(A, &format!("e2fsck -f -n {DEVICE}"));
}

/// Hosts talk to nobody who does not prove who he is, and a new certificate needs no restart.
fn only_proven_hosts_connect(lab: &Lab) {
    let tls = "futago replica status r0 --json | grep -o '\"tls\": *[a-z]*'";
    assert!(lab.run_in(A, tls).contains("true"));
    for (host, other) in [(A, B), (B, A)] {
        lab.run_in(host, "mv /etc/futago/tls/member.pem /root/");
        lab.run_in(other, "futago replica disconnect r0 && futago replica connect r0");
        until("the log says what is missing", || {
            lab.run_in(host, "journalctl -u futago-replicad -b --no-pager")
                .contains("read /etc/futago/tls/member.pem")
        });
        assert_eq!(state(lab, A, "cstate"), "Connecting");
        lab.run_in(host, "mv /root/member.pem /etc/futago/tls/");
        until_in_sync(lab);
    }
}

/// fio writes and verifies while the link is cut and healed ten times; nobody but the peer notices.
#[test]
fn verified_writes_go_on_while_the_link_is_cut_and_healed_ten_times() {
    if !possible() {
        return;
    }
    let lab = pair();
    only_proven_hosts_connect(&lab);
    lab.run_in(A, &format!("mount {DEVICE} /mnt"));
    begin_load(&lab);
    rotten_blocks_are_found_and_repaired(&lab);
    for round in 0..10 {
        lab.run("cut", &["local"]);
        until("the Primary notices that the peer is gone", || state(&lab, A, "cstate") == "Connecting");
        until("something is written alone", || out_of_sync(&lab) > 0);
        lab.run("heal", &[]);
        until_in_sync(&lab);
        assert_eq!(lab.run_in(A, "systemctl is-active load"), "active", "fio failed in round {round}");
    }
    end_load(&lab);
    lab.run_in(A, "umount /mnt");
    disks_are_equal_and_clean(&lab);
}

/// Writes and verifies what it has written, until it is ended.
///
/// Eight processes that each wait for their own write, not libaio: when fio ends it waits for all of its writes at once
/// (`io_getevents`), and Linux 6.18 then sleeps on although they are complete, all of them in the ring.
pub(crate) fn begin_load(lab: &Lab) {
    let job = "fio --name=load --directory=/mnt --size=6M --numjobs=8 --group_reporting --rw=randwrite --bs=4k \
               --ioengine=psync --direct=1 --fsync=32 --verify=crc32c --verify_backlog=512 --time_based --runtime=600";
    lab.run_in(A, &format!("systemd-run --quiet --unit=load {job}"));
}

/// The order to stop: what it has written is verified once more, by reading it back.
pub(crate) fn end_load(lab: &Lab) {
    lab.run_in(A, "systemctl kill --signal=INT load; while systemctl is-active -q load; do sleep 0.1; done");
    let log = lab.run_in(A, "journalctl -u load -o cat");
    assert!(log.contains("err= 0") && !log.contains("verify failed") && !log.contains("bad magic"), "{log}");
}

/// The disk of the peer changes behind the daemon's back, under load: exactly that is found, and repaired.
fn rotten_blocks_are_found_and_repaired(lab: &Lab) {
    let verify = |words: &str| {
        let output = lab.try_in(A, &format!("futago replica verify {words} r0"));
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = verify("");
    assert!(code == Some(0) && said.contains("both disks are the same"), "{said}");
    lab.run_in(
        B,
        "dd if=/dev/urandom of=/dev/vdb1 bs=4k seek=60000 count=2 oflag=direct conv=notrunc status=none",
    );
    let (code, said) = verify("");
    assert!(
        code == Some(6) && said.contains("8 KiB differ") && said.contains("8 KiB at 240000 KiB"),
        "{said}"
    );
    let (code, said) = verify("--repair");
    assert!(code == Some(0) && said.contains("8 KiB of the peer were written over"), "{said}");
    let (code, said) = verify("");
    assert!(code == Some(0) && said.contains("both disks are the same"), "{said}");
    let refused = lab.try_in(B, "futago replica verify r0");
    assert_eq!(refused.status.code(), Some(11), "only the Primary can make writes wait");
}

fn out_of_sync(lab: &Lab) -> u64 {
    let text = lab.run_in(A, "futago replica status r0 --verbose --statistics");
    let number = text.split("out-of-sync:").nth(1).and_then(|rest| rest.split_whitespace().next());
    number.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no out-of-sync in {text}"))
}

/// Ends daemons without a word, and waits until systemd has started others.
fn kill_daemons(lab: &Lab, hosts: &[&str]) {
    let before: Vec<u32> = hosts.iter().map(|host| daemon(lab, host)).collect();
    before.iter().for_each(|pid| signal(Signal::KILL, *pid));
    for (host, old) in hosts.iter().zip(before) {
        until("another daemon runs", || {
            let pids = lab.processes(host, "futago-replicad.service");
            pids.iter().min().is_some_and(|pid| *pid != old)
        });
    }
}

/// A daemon killed on either side, or on both, costs nothing: the applications of the Primary only wait. One that is
/// killed again and again does not keep them waiting: its device fails, the other host takes over with everything.
#[test]
fn a_killed_daemon_keeps_its_device_and_loses_nothing() {
    if !possible() {
        return;
    }
    let lab = pair();
    lab.run_in(
        A,
        &format!("mount {DEVICE} /mnt && dd if=/dev/urandom of=/mnt/a bs=1M count=8 conv=fsync status=none"),
    );
    begin_load(&lab);
    for hosts in [&[B][..], &[A], &[A, B], &[A]] {
        kill_daemons(&lab, hosts);
        until_in_sync(&lab);
        assert_eq!(lab.run_in(A, "systemctl is-active load"), "active", "fio failed: killed on {hosts:?}");
    }
    end_load(&lab);
    let log = lab.run_in(A, "journalctl -u futago-replicad -o cat");
    let followed = log.matches("an earlier process has ended without a word").count();
    assert_eq!(followed, 3, "{log}");
    let sums = lab.run_in(A, "cd /mnt && sha256sum a");

    until("the device of a daemon that ends again and again fails", || {
        kill_daemons(&lab, &[A]);
        !lab.try_in(A, "dd if=/dev/zero of=/mnt/c bs=4k count=1 conv=fsync status=none").status.success()
    });
    lab.run_in(A, "umount /mnt");
    until_in_sync(&lab);
    lab.run_in(B, &format!("futago replica primary r0 && mount {DEVICE} /mnt"));
    assert_eq!(lab.run_in(B, "cd /mnt && sha256sum a"), sums);
    lab.run_in(B, "umount /mnt");
    disks_are_equal_and_clean(&lab);
}

/// What the provisioner refuses, it refuses before it has changed anything that matters.
#[test]
fn a_disk_with_data_and_a_wrong_host_key_are_refused() {
    if !possible() {
        return;
    }
    let lab = Lab::up(&["--disk-size", DISK]);
    lab.run_in(B, "mkfs.ext4 -q -L precious /dev/vdb");
    let before = lab.run_in(B, "sha256sum < /dev/vdb");
    let refused = lab.try_apply(&[]);
    let said =
        String::from_utf8_lossy(&refused.stdout).into_owned() + &String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("ext4") && said.contains("wipe") && said.contains("storage.yml:"), "{said}");
    assert_eq!(lab.run_in(B, "sha256sum < /dev/vdb"), before, "the refused disk was written to");
    lab.run_in(A, "! test -e /dev/vdb1");

    let known = lab.folder().join("known_hosts");
    let keys = fs::read_to_string(&known).expect("read known_hosts");
    let (a, b) = keys.split_once('\n').expect("two hosts");
    let foreign = b.split_once(' ').expect("a name and a key").1.lines().next().expect("a key");
    let name = a.split_once(' ').expect("a name and a key").0;
    fs::write(&known, format!("{name} {foreign}\n{b}")).expect("write known_hosts");
    let refused = lab.try_apply(&[]);
    let said =
        String::from_utf8_lossy(&refused.stdout).into_owned() + &String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains("known_hosts:1") && said.matches("SHA256:").count() >= 2, "{said}");
}

/// The daemon's program is exchanged on either side under a verified load: nobody but the peer notices.
#[test]
fn the_program_is_exchanged_under_a_mounted_and_busy_file_system() {
    if !possible() {
        return;
    }
    let lab = pair();
    lab.run_in(A, &format!("mount {DEVICE} /mnt"));
    begin_load(&lab);
    for round in 0..4 {
        let before = daemon(&lab, A);
        let said = lab.run_in(A, "futago replica reexec");
        assert!(said.contains("r0: goes on as Primary"), "{said}");
        assert_eq!(daemon(&lab, A), before, "another process");
        until_in_sync(&lab);
        let said = lab.run_in(B, "systemctl reload futago-replicad && futago replica role r0");
        assert_eq!(said, "Secondary");
        until_in_sync(&lab);
        assert_eq!(lab.run_in(A, "systemctl is-active load"), "active", "fio failed in round {round}");
    }
    a_broken_program_is_not_taken(&lab);
    another_disk_is_not_taken(&lab);
    end_load(&lab);
    lab.run_in(A, "umount /mnt && futago replica secondary r0 && futago replica primary r0");
    disks_are_equal_and_clean(&lab);
}

/// The resource file says another disk since: nothing of it gets below the mounted file system.
fn another_disk_is_not_taken(lab: &Lab) {
    let file = "/etc/futago/replica.d/r0.res";
    lab.run_in(A, &format!("cp {file} /root/ && sed -i s,/dev/vdb1,/dev/vdz1, {file}"));
    let refused = lab.try_in(A, "futago replica reexec");
    assert_eq!(refused.status.code(), Some(11));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("names another disk"));
    lab.run_in(A, &format!("cp /root/r0.res {file}"));
    until_in_sync(lab);
}

/// What is installed does not run: the old program goes on.
fn a_broken_program_is_not_taken(lab: &Lab) {
    let before = daemon(lab, A);
    lab.run_in(A, "cd /usr/local/sbin && mv futago futago.good && printf '#!/bin/sh\nexit 3\n' > futago && chmod 755 futago");
    let refused = lab.try_in(A, "/usr/local/sbin/futago.good replica reexec");
    assert_eq!(refused.status.code(), Some(11));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("everything goes on as before"));
    lab.run_in(A, "cd /usr/local/sbin && mv futago.good futago");
    assert_eq!((daemon(lab, A), lab.run_in(A, "systemctl is-active load").as_str()), (before, "active"));
    until_in_sync(lab);
}
