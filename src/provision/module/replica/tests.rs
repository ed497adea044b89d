//! Golden cases: a program that answers as the real one does, arguments in, outcome and verbs out.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::testing::{applied, checked, mistakes};
use super::*;

const FRESH: &str = include_str!("../../../replicad/status/cases/fresh.json");
const SOURCE: &str = include_str!("../../../replicad/status/cases/sync-source.json");
const TARGET: &str = include_str!("../../../replicad/status/cases/sync-target.json");
const IN_SYNC: &str = include_str!("../../../replicad/status/cases/in-sync.json");
const PEER_GONE: &str = include_str!("../../../replicad/status/cases/peer-gone.json");
const SPLIT_BRAIN: &str = include_str!("../../../replicad/status/cases/split-brain.json");

/// A stand-in for the program: shows one status after the other (the last one for ever), notes other verbs.
struct Stand {
    folder: TempDir,
}

impl Stand {
    fn new(statuses: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        for (index, status) in statuses.iter().enumerate() {
            fs::write(at.join(format!("status.{index}")), status).unwrap();
        }
        let last = statuses.len().saturating_sub(1);
        let script = format!(
            "#!/bin/sh\ncd {} || exit 9\nshift\nif [ \"$2\" = --dry-run ]; then cat changes 2>/dev/null || \
             echo '[]'; exit 0; fi\nif [ \"$1\" != status ]; then echo \"$*\" >>verbs; exit 0; fi\n\
             n=$(cat next 2>/dev/null || echo 0)\n[ -e status.$n ] || {{ echo 'no resource' >&2; exit 10; }}\n\
             cat status.$n\n[ $n -ge {last} ] || echo $((n + 1)) >next\n",
            at.display()
        );
        fs::write(at.join("program"), script).unwrap();
        fs::set_permissions(at.join("program"), fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn args(&self, mut args: Value) -> Value {
        args["resource"] = json!("r0");
        args["program"] = json!(self.folder.path().join("program"));
        args
    }

    fn verbs(&self) -> String {
        fs::read_to_string(self.folder.path().join("verbs")).unwrap_or_default()
    }
}

fn secondary(status: &str) -> String {
    status.replacen("\"role\": \"Primary\"", "\"role\": \"Secondary\"", 1)
}

#[test]
fn the_first_sync_is_forced_only_while_both_disks_never_held_data() {
    let stand = Stand::new(&[FRESH, SOURCE]);
    let outcome = applied("replica", stand.args(json!({"state": "primary", "force_first": true})));
    assert_eq!((outcome.changed, outcome.failure.as_ref()), (true, None));
    assert_eq!((stand.verbs().as_str(), &outcome.data["role"]), ("primary --force r0\n", &json!("Primary")));
}

#[test]
fn without_permission_empty_disks_are_not_promoted() {
    let stand = Stand::new(&[FRESH]);
    let failure = applied("replica", stand.args(json!({"state": "primary"}))).failure.unwrap();
    assert_eq!(failure.message, "make r0 primary here: Secondary/Secondary Inconsistent/Inconsistent");
    assert!(failure.hint.unwrap().starts_with("force_first: true") && stand.verbs().is_empty());
}

#[test]
fn a_running_pair_is_left_alone_whoever_leads() {
    for status in [IN_SYNC, SOURCE, TARGET] {
        let stand = Stand::new(&[status]);
        let outcome = applied("replica", stand.args(json!({"state": "primary", "force_first": true})));
        assert_eq!((outcome.changed, outcome.failure, stand.verbs().as_str()), (false, None, ""));
    }
}

#[test]
fn an_up_to_date_disk_is_promoted_without_force() {
    let both = secondary(IN_SYNC);
    let stand = Stand::new(&[&both, IN_SYNC]);
    let outcome = applied("replica", stand.args(json!({"state": "primary", "force_first": true})));
    assert_eq!((outcome.changed, stand.verbs().as_str()), (true, "primary r0\n"));
}

#[test]
fn a_disk_that_is_neither_new_nor_up_to_date_is_never_forced() {
    let stale =
        secondary(SOURCE).replacen("\"disk-state\": \"UpToDate\"", "\"disk-state\": \"Inconsistent\"", 1);
    let stand = Stand::new(&[&stale]);
    let failure =
        applied("replica", stand.args(json!({"state": "primary", "force_first": true}))).failure.unwrap();
    assert!(failure.hint.unwrap().contains("decide by hand") && stand.verbs().is_empty());
}

#[test]
fn nothing_is_decided_while_disks_are_being_compared_or_this_one_is_being_filled() {
    let both = secondary(IN_SYNC);
    let comparing = both.replace("Established", "WFBitMapT").replacen("UpToDate", "Consistent", 1);
    let filling = secondary(TARGET).replace("\"peer-role\": \"Primary\"", "\"peer-role\": \"Secondary\"");
    let stand = Stand::new(&[&comparing, &filling, &both, IN_SYNC]);
    let outcome = applied("replica", stand.args(json!({"state": "primary", "force_first": true})));
    assert_eq!((outcome.failure, stand.verbs().as_str()), (None, "primary r0\n"));
}

#[test]
fn waiting_for_the_sync_reports_percent_and_time_left() {
    let stand = Stand::new(&[SOURCE, SOURCE, IN_SYNC]);
    let mut signs = Vec::new();
    let args: Args = serde_json::from_value(stand.args(json!({"state": "synced"}))).unwrap();
    let outcome = args.run(&mut Context::new(false, false, &mut |sign| signs.push(sign))).unwrap();
    assert_eq!(
        (outcome.changed, outcome.message.as_str()),
        (false, "r0 is in sync: Primary/Secondary UpToDate/UpToDate")
    );
    assert_eq!((signs[0].percent, signs[0].eta_seconds), (Some(23.8), Some(160)));
    assert!(signs[0].message.ends_with("SyncSource"), "{signs:?}");
}

#[test]
fn a_sync_that_does_not_move_ends_with_the_state_in_words() {
    let stand = Stand::new(&[PEER_GONE]);
    let failure = applied("replica", stand.args(json!({"state": "synced", "timeout": 0}))).failure.unwrap();
    let wanted = "r0 syncing: nothing has moved for 0 s (Primary/Unknown UpToDate/DUnknown Connecting)";
    assert_eq!(failure.message, wanted);
    assert!(failure.hint.is_some());
}

#[test]
fn up_starts_what_is_down_connects_what_stands_alone_and_leaves_the_rest() {
    let stand = Stand::new(&[PEER_GONE]);
    assert!(!applied("replica", stand.args(json!({"state": "up"}))).changed && stand.verbs().is_empty());
    let stand = Stand::new(&[SPLIT_BRAIN, PEER_GONE]);
    assert!(applied("replica", stand.args(json!({"state": "up"}))).changed);
    assert_eq!(stand.verbs(), "connect r0\n");
    let stand = Stand::new(&[SPLIT_BRAIN, PEER_GONE]);
    let managed = json!([{"option": "managed", "from": "no", "to": "yes", "takes": "down-up"}]);
    fs::write(stand.folder.path().join("changes"), managed.to_string()).unwrap();
    assert!(applied("replica", stand.args(json!({"state": "up"}))).changed);
    assert_eq!(stand.verbs(), "down r0\nup r0\n");
    let stand = Stand::new(&["[]", FRESH]);
    assert!(applied("replica", stand.args(json!({"state": "up"}))).changed);
    assert_eq!(stand.verbs(), "up r0\n");
}

#[test]
fn a_resource_that_is_up_follows_its_file() {
    let change =
        |option: &str, takes: &str| json!({"option": option, "from": "1", "to": "2", "takes": takes});
    let cases = [
        (vec![change("ping-int", "nothing")], "adjust r0\n"),
        (vec![change("ping-int", "nothing"), change("managed", "down-up")], "down r0\nup r0\n"),
        // What is left to the exchange of the program.
        (vec![change("al-extents", "reexec")], ""),
    ];
    for (changes, verbs) in cases {
        let stand = Stand::new(&[PEER_GONE]);
        fs::write(stand.folder.path().join("changes"), json!(changes).to_string()).unwrap();
        let plan = checked("replica", stand.args(json!({"state": "up"})));
        assert_eq!((plan.changed, stand.verbs().as_str()), (!verbs.is_empty(), ""));
        let outcome = applied("replica", stand.args(json!({"state": "up"})));
        assert_eq!(
            (outcome.changed, outcome.failure, stand.verbs().as_str()),
            (!verbs.is_empty(), None, verbs)
        );
    }
}

#[test]
fn a_plan_says_unknown_before_the_program_is_there() {
    for state in ["up", "primary", "synced"] {
        let args = json!({"resource": "r0", "state": state, "program": "/no/such/program"});
        let outcome = checked("replica", args);
        assert_eq!((outcome.unknown, outcome.changed, outcome.failure), (true, false, None), "{state}");
    }
    let created = json!({"resource": "r0", "state": "created", "disk": "/dev/no-such-disk"});
    assert!(checked("replica", created).unknown);
}

#[test]
fn arguments_belong_to_their_states() {
    assert_eq!(mistakes("replica", json!({"resource": "r0", "state": "created"})).len(), 1);
    assert_eq!(mistakes("replica", json!({"resource": "r0", "state": "up", "wipe": true})).len(), 1);
    assert_eq!(mistakes("replica", json!({"resource": "r0", "state": "up", "force_first": true})).len(), 1);
    assert_eq!(mistakes("replica", json!({"resource": "-f", "state": "up"})).len(), 1);
}
