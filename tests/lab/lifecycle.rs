//! The lab itself: real hosts, real power cuts, cut links, and nothing left behind whatever was killed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::{Lab, output, possible, signal, until};

fn can_ping(lab: &Lab, from: &str, address: &str) -> bool {
    lab.try_in(from, &format!("ping -c 1 -W 1 {address}")).status.success()
}

#[test]
fn hosts_are_real_and_keep_their_disks_over_power_cuts_and_down() {
    if !possible() {
        return;
    }
    let lab = Lab::up(&["--disk-size", "64M"]);
    assert_eq!(lab.run_in("ha-a", "uname -n; cat /proc/1/comm"), "ha-a.example.com\nsystemd");
    assert_eq!(lab.run("ssh", &["ha-b.example.com", "--", "uname", "-n"]).trim(), "ha-b.example.com");
    assert_eq!(lab.try_in("ha-a", "exit 7").status.code(), Some(7));
    assert_eq!(lab.try_in("ha-a", "kill -TERM $$").status.code(), Some(128 + 15));

    lab.run_in("ha-b", "apt-get update && apt-get install --yes parted");
    assert!(!lab.try_in("ha-b", "test -b /dev/vdb1").status.success(), "no partition yet");
    lab.run_in("ha-b", "parted /dev/vdb -s mklabel msdos -s mkpart primary 0% 100% 2> /dev/null");
    lab.run_in("ha-b", "test -b /dev/vdb1 && mkfs.ext4 -q /dev/vdb1");
    lab.run_in("ha-b", "mount /dev/vdb1 /mnt && echo kept > /mnt/file && sync");

    lab.run("power-off", &["ha-b"]);
    assert!(!lab.is_powered("ha-b") && lab.is_powered("ha-a"));
    assert!(!can_ping(&lab, "ha-a", "192.168.1.102"));
    assert_eq!(lab.try_in("ha-b", "true").status.code(), Some(1));
    lab.run("power-on", &["ha-b"]);
    assert_eq!(lab.run_in("ha-b", "mount /dev/vdb1 /mnt && cat /mnt/file"), "kept");

    lab.run("down", &[]);
    let left = lab.leftovers();
    assert!(left.iter().all(|what| what.starts_with("the folder")), "only files stay: {left:?}");
    lab.run("up", &[]);
    assert_eq!(lab.run_in("ha-b", "mount /dev/vdb1 /mnt && cat /mnt/file"), "kept");
    assert!(lab.run("up", &[]).starts_with("inventory: "), "a second up is fine");
    lab.run("down", &["--purge"]);
    assert_eq!(lab.leftovers(), Vec::<String>::new());
    lab.run("down", &["--purge"]);
}

#[test]
fn links_are_cut_in_the_directions_asked_for_and_healed() {
    if !possible() {
        return;
    }
    let lab = Lab::up(&["--witness", "--disk-size", "16M"]);
    let ways = || {
        [
            can_ping(&lab, "ha-a", "192.168.1.102"),
            can_ping(&lab, "ha-a", "203.0.113.12"),
            can_ping(&lab, "ha-b", "203.0.113.13"),
        ]
    };
    assert_eq!(ways(), [true; 3]);
    lab.run("cut", &["local"]);
    assert_eq!(ways(), [false, true, true]);
    lab.run("cut", &["witness", "--from", "witness", "--to", "ha-b"]);
    assert_eq!(ways(), [false, true, false]);
    assert!(can_ping(&lab, "ha-a", "203.0.113.13"), "only the way to ha-b is cut");
    lab.run("heal", &["local"]);
    assert_eq!(ways(), [true, true, false]);
    lab.run("cut", &["public"]);
    assert!(
        !output(lab.command("ssh", &["ha-a", "--", "true"])).status.success(),
        "the controller is cut off, too"
    );
    lab.run("heal", &[]);
    assert_eq!(ways(), [true; 3]);
    lab.run("ssh", &["ha-a", "--", "true"]);
}

/// The link-layer address of each interface in the lab's network namespace.
fn link_addresses(lab: &Lab) -> BTreeMap<String, String> {
    let namespace = lab.netns();
    let name = namespace.file_name().and_then(OsStr::to_str).expect("a namespace's name");
    let mut list = Command::new("ip");
    list.args(["-netns", name, "-json", "link", "show"]);
    let listed = output(list);
    let links: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("read the links");
    let text = |link: &serde_json::Value, key: &str| link[key].as_str().expect(key).to_owned();
    links
        .as_array()
        .expect("links")
        .iter()
        .map(|link| (text(link, "ifname"), text(link, "address")))
        .collect()
}

#[test]
fn a_bridge_keeps_its_address_whichever_host_is_cut_off() {
    if !possible() {
        return;
    }
    let lab = Lab::up(&["--disk-size", "16M"]);
    let addresses = link_addresses(&lab);
    for bridge in ["public", "local"] {
        let same: Vec<&String> = addresses
            .iter()
            .filter(|(_, address)| **address == addresses[bridge])
            .map(|(name, _)| name)
            .collect();
        assert_eq!(same, [bridge], "it would change its address with that port: {addresses:?}");
    }
    lab.run("power-off", &["ha-b"]);
    let after = link_addresses(&lab);
    assert_eq!((&after["public"], &after["local"]), (&addresses["public"], &addresses["local"]));
}

#[test]
fn two_labs_do_not_see_each_other() {
    if !possible() {
        return;
    }
    let one = Lab::up(&["--disk-size", "16M"]);
    let two = Lab::up(&["--disk-size", "16M"]);
    assert_ne!(one.run_in("ha-a", "cat /etc/machine-id"), two.run_in("ha-a", "cat /etc/machine-id"));
    one.run("power-off", &["ha-b"]);
    assert!(!can_ping(&one, "ha-a", "203.0.113.12"));
    assert!(can_ping(&two, "ha-a", "203.0.113.12"));
    one.run("down", &["--purge"]);
    assert!(two.is_powered("ha-a") && two.is_powered("ha-b"));
    assert_eq!(one.leftovers(), Vec::<String>::new());
}

#[test]
fn whatever_a_killed_up_leaves_is_cleaned() {
    if !possible() {
        return;
    }
    // Killed as soon as there are: files, a network, a host's processes, a booting host.
    type Reached = fn(&Lab) -> bool;
    let moments: [(&str, Reached); 4] = [
        ("files", |lab| lab.folder().join("lab.json").exists()),
        ("network", |lab| lab.netns().exists()),
        ("container", |lab| !lab.processes("ha-a", "").is_empty()),
        ("first process", |lab| !lab.processes("ha-b", "init.scope").is_empty()),
    ];
    for (what, reached) in moments {
        let lab = Lab::named();
        let mut up = lab.start("up", &["--disk-size", "16M"]);
        until(what, || reached(&lab) || up.try_wait().expect("look at up").is_some());
        up.kill().expect("kill up");
        up.wait().expect("reap up");
        lab.run("down", &["--purge"]);
        assert_eq!(lab.leftovers(), Vec::<String>::new(), "killed at: {what}");
    }
}

#[test]
fn an_interrupted_up_cleans_up_and_exits_with_130() {
    if !possible() {
        return;
    }
    let lab = Lab::named();
    let mut up = lab.start("up", &["--disk-size", "16M"]);
    until("a container", || !lab.processes("ha-a", "").is_empty() || up.try_wait().expect("up").is_some());
    signal(Signal::INT, up.id());
    assert_eq!(up.wait().expect("reap up").code(), Some(130));
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[test]
fn a_host_whose_container_or_first_process_was_killed_is_still_under_control() {
    if !possible() {
        return;
    }
    let lab = Lab::up(&["--disk-size", "16M"]);
    for pid in lab.processes("ha-a", "/init.scope") {
        signal(Signal::KILL, pid);
    }
    until("ha-a is off", || !lab.is_powered("ha-a"));
    lab.run("up", &[]);
    assert!(lab.is_powered("ha-a") && can_ping(&lab, "ha-b", "192.168.1.101"));
    for host in ["ha-a", "ha-b"] {
        for pid in lab.processes(host, "/supervisor") {
            signal(Signal::KILL, pid);
        }
    }
    lab.run("power-off", &["ha-a"]);
    lab.run("power-on", &["ha-a"]);
    assert!(can_ping(&lab, "ha-b", "192.168.1.101"));
    lab.run("down", &["--purge"]);
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}
