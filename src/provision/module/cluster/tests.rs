//! Golden cases: a program that answers as the real one does, arguments in, outcome and verbs out.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;
use tempfile::TempDir;

use super::super::testing::{applied, checked, mistakes};
use super::*;

/// A stand-in for the program: shows one status after the other (the last one for ever), notes other verbs.
struct Stand {
    folder: TempDir,
}

impl Stand {
    fn new(statuses: &[Value]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        for (index, status) in statuses.iter().enumerate() {
            fs::write(at.join(format!("status.{index}")), status.to_string()).unwrap();
        }
        let last = statuses.len().saturating_sub(1);
        let script = format!(
            "#!/bin/sh\ncd {} || exit 9\nshift\nif [ \"$1\" != status ]; then echo \"$*\" >>verbs; exit 0; fi\n\
             n=$(cat next 2>/dev/null || echo 0)\n[ -e status.$n ] || {{ echo 'no manager' >&2; exit 4; }}\n\
             cat status.$n\n[ $n -ge {last} ] || echo $((n + 1)) >next\nexit 11\n",
            at.display()
        );
        fs::write(at.join("program"), script).unwrap();
        fs::set_permissions(at.join("program"), fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    /// As a bootstrap leaves it.
    fn in_first_start(self) -> Self {
        fs::write(self.folder.path().join(FIRST_START), "").unwrap();
        self
    }

    fn args(&self, mut args: Value) -> Value {
        args["program"] = json!(self.folder.path().join("program"));
        args["folder"] = json!(self.folder.path());
        args
    }

    fn verbs(&self) -> String {
        fs::read_to_string(self.folder.path().join("verbs")).unwrap_or_default()
    }

    fn is_first_start(&self) -> bool {
        self.folder.path().join(FIRST_START).exists()
    }
}

fn status(node: &str, version: u64, verdict: &str, maintenance: bool) -> Value {
    json!({
        "cluster": "ha.example.com", "node": node, "names": ["ha-a.example.com", "ha-b.example.com"],
        "verdict": verdict, "because": "so it is",
        "record": {
            "version": version, "term": 1, "primary": (version > 0).then_some("a"),
            "intent": {"maintenance": maintenance},
        },
        "local": {"role": "active", "replica": {"primary": node == "a" && version > 0}},
        "resources": [{"state": ["started", "stopped"]}],
        "doing": null,
    })
}

#[test]
fn a_cluster_is_bootstrapped_once_in_maintenance() {
    let primary = json!({"state": "bootstrapped", "primary": "ha-a.example.com"});
    let stand = Stand::new(&[
        status("a", 0, "DOWN", false),
        status("a", 0, "HELD", false),
        status("a", 1, "HELD", true),
    ]);
    let outcome = applied("cluster", stand.args(primary.clone()));
    assert_eq!((outcome.changed, outcome.failure.as_ref()), (true, None));
    assert_eq!(stand.verbs(), "bootstrap --primary ha-a.example.com --maintenance\n");
    assert_eq!((&outcome.data["here"], &outcome.data["first_start"]), (&json!(true), &json!(true)));
    let again = applied("cluster", stand.args(primary));
    assert_eq!((again.changed, stand.verbs().lines().count()), (false, 1));
}

#[test]
fn a_manager_that_does_not_know_the_record_yet_is_not_asked_for_another_one() {
    let unknown = status("a", 0, "DOWN", false);
    let stand = Stand::new(&[unknown.clone(), unknown, status("a", 7, "DEGRADED", false)]);
    let args = stand.args(json!({"state": "bootstrapped", "primary": "ha-a.example.com"}));
    let planned = checked("cluster", args.clone());
    assert_eq!((planned.unknown, planned.message.as_str()), (true, "so it is"));
    let outcome = applied("cluster", args);
    assert_eq!((outcome.changed, outcome.failure, stand.is_first_start()), (false, None, false));
    assert_eq!(stand.verbs(), "");
}

#[test]
fn without_a_witness_and_a_fence_device_two_complete_disks_are_all_there_is() {
    let complete = |connected: bool| {
        let mut status = status("a", 7, "DEGRADED", false);
        status["quorum"] = json!("manual");
        status["record"]["synced"] = json!({"a": true, "b": true});
        status["local"]["replica"]["connected"] = json!(connected);
        status
    };
    let args = json!({"state": "running", "timeout": 1});
    let stand = Stand::new(&[complete(true)]);
    let outcome = applied("cluster", stand.args(args.clone()));
    assert_eq!((outcome.changed, outcome.failure.as_ref()), (false, None));
    let stand = Stand::new(&[complete(false)]);
    assert!(applied("cluster", stand.args(args)).failure.is_some());
}

#[test]
fn only_the_maintenance_of_the_first_start_is_ended() {
    let running = json!({"state": "running"});
    let stand =
        Stand::new(&[status("a", 1, "HELD", true), status("a", 2, "PROTECTED", false)]).in_first_start();
    let outcome = applied("cluster", stand.args(running.clone()));
    assert_eq!((outcome.changed, outcome.failure.as_ref(), stand.is_first_start()), (true, None, false));
    assert_eq!(stand.verbs(), "maintenance off\n");
    let stand = Stand::new(&[status("a", 7, "HELD", true)]);
    let outcome = applied("cluster", stand.args(running));
    assert_eq!((outcome.changed, outcome.failure.as_ref(), stand.verbs().as_str()), (false, None, ""));
    assert!(outcome.message.starts_with("left alone"), "{}", outcome.message);
}

#[test]
fn a_running_cluster_is_left_as_it_is() {
    let stand = Stand::new(&[status("b", 9, "PROTECTED", false)]);
    for args in [
        json!({"state": "bootstrapped", "primary": "ha-a.example.com"}),
        json!({"state": "joined"}),
        json!({"state": "running"}),
    ] {
        for outcome in
            [applied("cluster", stand.args(args.clone())), checked("cluster", stand.args(args.clone()))]
        {
            assert_eq!((outcome.changed, outcome.unknown, outcome.failure), (false, false, None), "{args}");
            assert_eq!(outcome.data["here"], json!(false));
        }
    }
    assert_eq!(stand.verbs(), "");
}

#[test]
fn a_host_that_an_operator_keeps_in_standby_is_left_there() {
    let mut standby = status("a", 4, "DEGRADED", false);
    standby["record"]["intent"]["standby"] = json!({"a": false, "b": true});
    let outcome = applied("cluster", Stand::new(&[standby]).args(json!({"state": "running"})));
    assert_eq!((outcome.changed, outcome.failure), (false, None));
    let lacks = status("a", 4, "DEGRADED", false);
    let outcome = applied("cluster", Stand::new(&[lacks]).args(json!({"state": "running", "timeout": 0})));
    assert!(outcome.failure.is_some());
}

#[test]
fn waiting_ends_when_nothing_moves_and_says_why() {
    let stand = Stand::new(&[status("a", 2, "HELD", false)]);
    let outcome = applied("cluster", stand.args(json!({"state": "running", "timeout": 0})));
    let message = outcome.failure.unwrap().message;
    assert_eq!(message, "cluster, starting the stack: nothing has moved for 0 s (HELD on ha-a: so it is)");
    assert_eq!(stand.verbs(), "why\n");
}

#[test]
fn a_plan_before_there_is_a_manager_knows_nothing_and_does_nothing() {
    let stand = Stand::new(&[]);
    for args in [
        json!({"state": "bootstrapped", "primary": "ha-a.example.com"}),
        json!({"state": "joined"}),
        json!({"state": "running"}),
    ] {
        let outcome = checked("cluster", stand.args(args.clone()));
        assert_eq!((outcome.unknown, outcome.failure), (true, None), "{args}");
    }
    let none = json!({"state": "joined", "program": "/no/such/program"});
    assert!(checked("cluster", none).unknown);
}

#[test]
fn arguments_belong_to_their_states() {
    assert_eq!(mistakes("cluster", json!({"state": "bootstrapped"})).len(), 1);
    assert_eq!(mistakes("cluster", json!({"state": "current"})).len(), 1);
    assert_eq!(mistakes("cluster", json!({"state": "joined", "files": "/x", "primary": "y"})).len(), 2);
    assert!(mistakes("cluster", json!({"state": "current", "files": ["/x"]})).is_empty());
}

#[test]
fn another_stack_than_the_one_that_has_run_is_refused_by_a_plan_too() {
    let stand = Stand::new(&[]);
    let asks = |stack: &str| stand.args(json!({"state": "unchanged", "stack": stack}));
    let new = checked("cluster", asks("zabbix"));
    assert_eq!((new.changed, new.failure), (false, None), "nothing has run here");
    for (has, asked, words) in [
        ("lamp", "zabbix", "write `stack: lamp`, and make another pair"),
        ("zabbix", "none", "write `stack: zabbix`, and make another pair"),
        ("none", "lamp", "drop `stack`, and make another pair"),
    ] {
        fs::write(stand.folder.path().join(STACK), format!("{has}\n")).unwrap();
        assert_eq!(applied("cluster", asks(has)).failure, None);
        for outcome in [checked("cluster", asks(asked)), applied("cluster", asks(asked))] {
            let failure = outcome.failure.unwrap();
            let message = format!("the stack of this pair is {has}, and the inventory asks for {asked}");
            assert!(failure.message.contains(&message), "{}", failure.message);
            assert!(failure.hint.as_ref().is_some_and(|hint| hint.contains(words)), "{:?}", failure.hint);
        }
    }
    assert_eq!(stand.verbs(), "", "nobody was asked for anything");
    assert_eq!(mistakes("cluster", json!({"state": "unchanged"})).len(), 1);
}
