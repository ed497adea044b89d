//! Fence agents of several characters, called through the real API.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// An agent whose device is a file; `$state` is what it holds, `$log` what it was asked.
fn agent(folder: &Path, on_off: &str, on_status: &str) -> Device {
    let script = format!(
        r#"#!/bin/sh
[ $# = 0 ] || exit 9
action= port=
while IFS='=' read -r name value; do
    case $name in action) action=$value ;; port) port=$value ;; esac
    case $name in passwd) ;; *) echo "$name=$value" >> {log} ;; esac
done
case $action in
metadata) echo '<resource-agent name="x"><parameters><parameter name="port"/></parameters></resource-agent>' ;;
off) {on_off} ;;
status) {on_status} ;;
*) exit 1 ;;
esac
"#,
        log = folder.join("log").display(),
    );
    let path = folder.join("fence_test");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let params = BTreeMap::from([("passwd".to_owned(), "geheim".to_owned())]);
    Device { agent: path.display().to_string(), params, timeout: Duration::from_secs(60) }
}

#[tokio::test]
async fn an_honest_agent_is_told_the_target_and_believed_when_status_says_off() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("off");
    let device = agent(
        folder.path(),
        &format!("touch {}", state.display()),
        &format!("test -e {} && exit 2; exit 0", state.display()),
    );
    assert_eq!(fence(&device, "ha-a.example.com").await, Ok(()));
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    let asked = "port=ha-a.example.com\nnodename=ha-a.example.com\naction=";
    assert_eq!(log, format!("action=metadata\n{asked}off\n{asked}status\n"));
}

#[tokio::test]
async fn an_agent_that_says_done_while_the_device_stays_on_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let mut device = agent(folder.path(), "exit 0", "exit 0");
    device.timeout = Duration::from_secs(2);
    let error = fence(&device, "ha-a").await.unwrap_err();
    assert!(error.contains("still on") && error.contains("NOT known to be off"), "{error}");
}

#[tokio::test]
async fn a_failing_agent_is_tried_twice_and_its_secret_is_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let device =
        agent(folder.path(), "echo 'login with geheim refused' >&2; exit 3", "echo geheim >&2; exit 1");
    let error = fence(&device, "ha-a").await.unwrap_err();
    assert!(error.contains("off failed") && error.contains("***") && !error.contains("geheim"), "{error}");
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert_eq!(log.matches("action=off").count(), 2);
    assert!(!format!("{device:?}").contains("geheim"));
}

#[tokio::test]
async fn a_hanging_agent_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let mut device = agent(folder.path(), "sleep 600", "exit 2");
    device.timeout = Duration::from_secs(1);
    let error = fence(&device, "ha-a").await.unwrap_err();
    assert!(error.contains("took too long and was killed"), "{error}");
}

#[tokio::test]
async fn a_line_break_in_a_parameter_cannot_change_the_action() {
    let folder = tempfile::tempdir().unwrap();
    let mut device = agent(folder.path(), "exit 0", "exit 2");
    device.params.insert("ip".to_owned(), "1\naction=on".to_owned());
    assert!(fence(&device, "ha-a").await.unwrap_err().contains("line break"));
}
