//! Two clusters by one command, each on real hosts of its own; and what one of them suffers is nothing to the other.

use std::fs;
use std::process::Output;

use crate::harness::{Lab, futago, output, possible};

const PLAYBOOK: &str = "\
- hosts: pair
  tasks:
    - file: {path: /root/one, state: directory}
    - file: {path: /root/two, state: directory}
";

fn lab() -> Lab {
    let lab = Lab::up(&["--disk-size", "16M"]);
    fs::create_dir_all(lab.folder().join("playbooks")).expect("make a folder");
    fs::write(lab.folder().join("playbooks/folders.yml"), PLAYBOOK).expect("write the playbook");
    lab
}

/// A verb on the inventories of both: all that it says.
fn both(verb: &[&str], labs: [&Lab; 2]) -> (Output, String) {
    let mut command = futago();
    command.args(verb);
    for lab in labs {
        command.arg("-i").arg(lab.folder().join("inventory.yml"));
    }
    let done = output(command);
    let said = String::from_utf8_lossy(&[done.stdout.clone(), done.stderr.clone()].concat()).into_owned();
    (done, said)
}

#[test]
fn one_cluster_fails_in_the_middle_and_the_other_one_comes_to_its_end() {
    if !possible() {
        return;
    }
    let (east, west) = (lab(), lab());
    let (done, said) = both(&["plan", "folders"], [&east, &west]);
    assert_eq!(done.status.code(), Some(2), "{said}");
    assert!(said.contains("PLAN of 2 clusters") && said.matches("  4 to change").count() == 2, "{said}");

    // A file where the second folder should be.
    west.run_in("ha-b", "touch /root/two");
    let (done, said) = both(&["apply", "folders"], [&east, &west]);
    assert_eq!(done.status.code(), Some(1), "the worst of both: {said}");
    assert!(said.contains(": 1 FAILED, 1 done"), "{said}");
    let file = west.folder().join("inventory.yml").display().to_string();
    let go_on = format!("  continue with: futago apply -i {file} folders --start-at-task");
    assert!(said.contains(&go_on), "{go_on}: {said}");
    for host in ["ha-a", "ha-b"] {
        east.run_in(host, "test -d /root/one && test -d /root/two");
        west.run_in(host, "test -d /root/one");
    }

    west.run("power-off", &["ha-a"]);
    let (done, said) = both(&["apply", "folders"], [&east, &west]);
    assert_eq!(done.status.code(), Some(4), "{said}");
    assert!(said.contains(": 1 UNREACHED, 1 done"), "{said}");

    west.run("power-on", &["ha-a"]);
    west.run_in("ha-b", "rm /root/two");
    let (done, said) = both(&["apply", "folders"], [&east, &west]);
    assert_eq!(done.status.code(), Some(0), "{said}");
    assert!(said.contains(": 2 done"), "{said}");
    for lab in [&east, &west] {
        let logs = fs::read_dir(lab.folder().join(".futago/runs")).expect("list the logs");
        assert_eq!(logs.count(), 4, "each run of each cluster has a log of its own");
        let name = lab.folder().join("inventory.yml").display().to_string();
        assert!(said.contains(&format!("{name} | ")), "{said}");
    }
}
