//! The playbook of docs/from-ansible.md on real hosts: it does what it says, and a second run changes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::harness::{Lab, possible};

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("make a folder");
    for entry in fs::read_dir(from).expect("list a folder") {
        let path = entry.expect("entry").path();
        let target = to.join(path.file_name().expect("its name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copy a file");
        }
    }
}

#[test]
fn a_playbook_that_came_from_ansible_serves_its_page_and_a_second_run_changes_nothing() {
    if !possible() {
        return;
    }
    let lab = Lab::up(&[]);
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/provision/ansible/project");
    for folder in ["playbooks", "templates", "files"] {
        copy(&project.join(folder), &lab.folder().join(folder));
    }
    let secrets = lab.folder().join("secrets.yml");
    fs::copy(project.join("secrets.yml"), &secrets).expect("copy the secrets");
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o600)).expect("make them private");
    let inventory = lab.folder().join("inventory.yml");
    let text = fs::read_to_string(&inventory).expect("read the inventory");
    fs::write(&inventory, format!("{text}secrets: secrets.yml\n")).expect("write the inventory");
    let first = lab.apply(&["shop"]);
    assert!(!first.contains("s3cr3t"), "{first}");
    for host in ["ha-a", "ha-b"] {
        assert_eq!(lab.run_in(host, "curl --silent http://127.0.0.1/"), "shop");
        assert_eq!(lab.run_in(host, "grep --count s3cr3t-t0k3n /etc/shop-release"), "1");
    }
    let second = lab.apply(&["shop"]);
    assert_eq!(second.matches("changed=0 failed=0").count(), 2, "{second}");
}
