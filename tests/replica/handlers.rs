//! The administrator's scripts for real: two daemons, and shell scripts that they call.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::pair::{Node, Pair, can_export};
use crate::{DISK, MIB, pattern};

/// Waits until a script of a node has written a file, and reads it.
fn written(node: &Node, path: &Path) -> String {
    // The last line is written last.
    node.until(|_| fs::read_to_string(path).is_ok_and(|text| text.ends_with("end\n")));
    fs::read_to_string(path).unwrap()
}

/// Each script of a node writes what it was told into a file of its own.
fn telling(folder: &Path, handlers: &[&str]) -> String {
    let folder = folder.display();
    let line = |handler: &&str| {
        format!(
            "{handler} \"f={folder}/{handler}.$DRBD_MY_NODE_ID; (env | grep ^DRBD_ | sort; echo end) > $f.new; mv $f.new $f\";\n"
        )
    };
    format!("handlers {{\n{}}}\n", handlers.iter().map(line).collect::<String>())
}

#[test]
fn handlers_are_called_with_drbds_environment() {
    if !can_export() {
        return;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let names = ["before-resync-target", "after-resync-target", "before-resync-source", "disconnected"];
    let mut pair = Pair::in_sync_with(DISK, &telling(folder.path(), &names));
    let told = |name: &str| written(&pair.a, &folder.path().join(name));
    let target = told("before-resync-target.1");
    for line in ["DRBD_RESOURCE=r0", "DRBD_MINOR=1", "DRBD_VOLUME=0", "DRBD_PEER=a", "DRBD_CSTATE=Connected"]
    {
        assert!(target.lines().any(|found| found == line), "{line} is missing:\n{target}");
    }
    assert!(target.contains(&format!("DRBD_LL_DISK={}\n", pair.b.disk.display())), "{target}");
    told("after-resync-target.1");
    told("before-resync-source.0");
    assert!(!folder.path().join("before-resync-target.0").exists(), "the source is no target");
    pair.b.kill();
    let lost = told("disconnected.0");
    assert!(lost.contains("DRBD_CSTATE=Connecting\n") && lost.contains("DRBD_PEER=b\n"), "{lost}");
}

#[test]
fn a_handler_that_fails_keeps_the_resync_from_the_disk() {
    if !can_export() {
        return;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let veto = folder.path().join("veto");
    let line =
        format!("handlers {{ before-resync-target \"echo looking; test ! -e {}\"; }}\n", veto.display());
    let mut pair = Pair::in_sync_with(DISK, &line);
    pair.b.kill();
    pair.a.write(7 * MIB, &pattern(3, 64 << 10));
    fs::write(&veto, "").unwrap();
    pair.b.start();
    pair.b.until(|status| status["connections"][0]["connection-state"] == json!("StandAlone"));
    assert_eq!(pair.b.status()["devices"][0]["disk-state"], json!("Consistent"), "nothing was changed");
    let said = String::from_utf8(pair.b.verb(&["status", "r0"]).stderr).unwrap();
    assert!(said.contains("before-resync-target handler returned 1, dropping connection"), "{said}");
    assert!(pair.b.log().contains("before-resync-target: looking"), "{}", pair.b.log());
    fs::remove_file(&veto).unwrap();
    pair.b.ok(&["connect", "r0"]);
    pair.wait_sync();
    pair.assert_equal();
}
