//! Golden cases: the files of a host and arguments in, words of its programs out; and the programs themselves on
//! files below a folder.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::testing::{checked, missing_tool, mistakes};
use super::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAnn ann@desk";
const HASH: &str = "$6$salt$uXnLPTLQhLsFzYbN0dyQrW";

/// Files of a host below a folder, and a stand-in for chpasswd that notes its words and does what it is asked to.
struct Stand(TempDir);

impl Stand {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let etc = folder.path().join("etc");
        fs::create_dir_all(&etc).unwrap();
        fs::create_dir_all(folder.path().join("home/ann")).unwrap();
        let write = |name: &str, text: &str| fs::write(etc.join(name), text).unwrap();
        write("passwd", "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1000:Ann:/home/ann:/bin/bash\n");
        write("group", "root:x:0:\nadm:x:4:ann\nwww-data:x:33:\nann:x:1000:\ndeploy:x:1100:\n");
        write("shadow", "root:*:19000:0:99999:7:::\nann:!:19000:0:99999:7:::\n");
        write("gshadow", "root:*::\nadm:*::ann\nwww-data:*::\nann:!::\ndeploy:!::\n");
        write(
            "login.defs",
            "UID_MIN 1000\nUID_MAX 60000\nGID_MIN 1000\nGID_MAX 60000\nUSERGROUPS_ENAB yes\n",
        );
        let script = "cd \"$0.d\" && echo \"$*\" >>words && IFS=: read -r name hash && \
                      sed -i \"s|^$name:[^:]*:|$name:$hash:|\" ../etc/shadow\n";
        fs::create_dir(folder.path().join("chpasswd.d")).unwrap();
        fs::write(folder.path().join("chpasswd"), script).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn host(&self) -> Host {
        let script: OsString = self.path("chpasswd").into();
        Host::at(self.0.path(), vec!["sh".into(), script])
    }

    fn run(&self, args: &Value, check: bool) -> Result<Outcome, Error> {
        parsed(args).bring(&self.host(), &Context::new(check, true, &mut |_| {}))
    }

    fn converges(&self, args: &Value) -> Outcome {
        let planned = self.run(args, true).unwrap();
        let done = self.run(args, false).unwrap();
        assert!(planned.changed && done.changed, "{args}");
        for check in [true, false] {
            let again = self.run(args, check).unwrap();
            assert_eq!((again.changed, again.unknown), (false, false), "again {args}: {}", again.message);
        }
        done
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

fn parsed(args: &Value) -> Args {
    super::super::parse(args.as_object().unwrap()).unwrap()
}

fn words(change: &Change) -> String {
    change.words.join(" ")
}

#[test]
fn a_new_user_is_made_with_what_was_asked_for_and_nothing_else() {
    let groups = Stand::new().host().groups().unwrap();
    let made = |args: Value| words(&parsed(&args).creation(&groups).unwrap());
    assert_eq!(made(json!({"name": "bob"})), "--create-home -- bob");
    assert_eq!(made(json!({"name": "bob", "system": true})), "--system --no-create-home -- bob");
    assert_eq!(made(json!({"name": "deploy"})), "--create-home --gid deploy -- deploy", "its group is there");
    let all = json!({
        "name": "bob", "uid": 1500, "group": "www-data", "groups": ["adm", "ann"], "home": "/srv/bob",
        "shell": "/bin/sh", "comment": "Bob B", "create_home": false, "password": HASH,
    });
    assert_eq!(
        made(all),
        "--no-create-home --uid 1500 --gid 33 --groups adm,ann --home-dir /srv/bob --shell /bin/sh --comment Bob B \
         -- bob"
    );
}

#[test]
fn only_what_differs_is_changed_and_groups_are_added() {
    let stand = Stand::new();
    let (accounts, groups) = (stand.host().accounts().unwrap(), stand.host().groups().unwrap());
    let changed = |args: Value| {
        let change = parsed(&args).difference(&accounts[1], &groups).unwrap();
        (words(&change), change.lines.join("\n"))
    };
    let same = json!({
        "name": "ann", "uid": 1000, "group": "ann", "groups": ["adm", "ann"], "home": "/home/ann",
        "shell": "/bin/bash", "comment": "Ann", "system": true, "create_home": true,
    });
    assert_eq!(changed(same), (String::new(), String::new()));
    let (words, lines) = changed(json!({"name": "ann", "groups": ["adm", "www-data"], "shell": "/bin/sh"}));
    assert_eq!(words, "--append --groups www-data --shell /bin/sh -- ann");
    assert_eq!(lines, "+ groups www-data\n~ shell /bin/bash -> /bin/sh");
}

#[test]
fn a_missing_group_is_named_and_unknown_to_a_plan() {
    let stand = Stand::new();
    let error = stand.run(&json!({"name": "ann", "groups": "docker"}), true).unwrap_err();
    assert_eq!(error.to_string(), "there is no group \"docker\" on this host");
    let planned = checked("user", json!({"name": "root", "groups": "no-such-group"}));
    assert!(planned.unknown, "an earlier task of the plan may make it");
}

#[test]
fn a_number_that_belongs_to_somebody_else_is_refused_by_the_plan_already() {
    let error = Stand::new().run(&json!({"name": "bob", "uid": 1000}), true).unwrap_err();
    assert_eq!(error.to_string(), "give bob the number 1000: it is that of ann");
}

#[test]
fn a_password_is_set_by_its_hash_which_nobody_sees() {
    let stand = Stand::new();
    let done = stand.converges(&json!({"name": "ann", "password": HASH}));
    assert_eq!((done.message.as_str(), done.diff.as_deref()), ("password of ann set", Some("~ password")));
    assert!(stand.text("etc/shadow").contains(&format!("ann:{HASH}:19000")));
    assert_eq!(stand.text("chpasswd.d/words"), "--encrypted\n", "the hash is not among the words");
}

#[test]
fn keys_of_a_user_who_is_there_are_let_in() {
    let stand = Stand::new();
    let own = format!(
        "ann:x:{}:{}:Ann:/home/ann:/bin/bash\n",
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw()
    );
    fs::write(stand.path("etc/passwd"), own).unwrap();
    let done = stand.converges(&json!({"name": "ann", "authorized_keys": KEY}));
    assert_eq!(done.diff.as_deref(), Some("+ key ann@desk"));
    let again =
        stand.run(&json!({"name": "ann", "shell": "/bin/bash", "authorized_keys": KEY}), true).unwrap();
    assert_eq!((again.changed, again.message.as_str()), (false, "user ann is as asked"));
    assert_eq!(stand.text("home/ann/.ssh/authorized_keys"), format!("{KEY}\n"));
    let planned = stand.run(&json!({"name": "bob", "authorized_keys": KEY}), true).unwrap();
    assert_eq!(planned.diff.as_deref(), Some("+ user bob\n+ key ann@desk"));
}

#[test]
fn a_user_who_is_not_there_needs_no_removal() {
    let outcome = Stand::new().run(&json!({"name": "bob", "state": "absent"}), false).unwrap();
    assert_eq!((outcome.changed, outcome.message.as_str()), (false, "there is no user bob"));
    let planned = Stand::new().run(&json!({"name": "ann", "state": "absent", "remove": true}), true).unwrap();
    assert_eq!(planned.diff.as_deref(), Some("- user ann\n- /home/ann"));
}

/// The real programs, on files below a folder.
#[test]
fn the_programs_of_the_host_make_change_and_remove_a_user() {
    let missing = missing_tool(&["useradd", "usermod", "userdel"]);
    let is_root = rustix::process::getuid().is_root();
    if let Some(why) = missing.or((!is_root).then_some("the rights of root")) {
        assert!(std::env::var_os("CI").is_none(), "this test needs {why}");
        println!("skipped: it needs {why}");
        return;
    }
    let stand = Stand::new();
    let args = json!({"name": "bob", "uid": 1500, "groups": ["adm"], "shell": "/bin/sh", "comment": "Bob"});
    stand.converges(&args);
    assert!(stand.text("etc/passwd").contains("bob:x:1500:"), "{}", stand.text("etc/passwd"));
    assert!(stand.text("etc/group").contains("adm:x:4:ann,bob"), "{}", stand.text("etc/group"));
    stand.converges(&json!({"name": "bob", "groups": ["www-data"], "shell": "/bin/bash"}));
    assert!(stand.text("etc/group").contains("www-data:x:33:bob"), "{}", stand.text("etc/group"));
    stand.converges(&json!({"name": "bob", "state": "absent"}));
    assert!(!stand.text("etc/passwd").contains("bob"), "{}", stand.text("etc/passwd"));
}

#[test]
fn wrong_arguments_are_told_before_contact() {
    let cases = [
        (json!({"name": "a b"}), "\"a b\" is not the name of a user"),
        (json!({"name": "-x"}), "\"-x\" is not the name of a user"),
        (json!({"name": "a", "groups": ["b,c"]}), "\"b,c\" is not the name of a group"),
        (json!({"name": "root", "state": "absent"}), "module user does not remove root"),
        (
            json!({"name": "a", "state": "absent", "shell": "/bin/sh"}),
            "module user takes only name and remove with state absent",
        ),
        (json!({"name": "a", "remove": true}), "argument \"remove\" of module user belongs to state absent"),
        (
            json!({"name": "a", "exclusive": true}),
            "argument \"exclusive\" of module user needs authorized_keys",
        ),
        (
            json!({"name": "a", "comment": "x:y"}),
            "argument \"comment\" of module user must have no colon and no line break",
        ),
        (
            json!({"name": "a", "password": "plain"}),
            "argument \"password\" of module user must be a hash, as `openssl passwd -6` prints it",
        ),
        (
            json!({"name": "a", "authorized_keys": "ssh-rsa x"}),
            "\"ssh-rsa x\" is not a key of SSH; write the one line of a file such as id_ed25519.pub",
        ),
        (
            json!({"name": "a", "sheel": "/bin/sh"}),
            "module user has no argument \"sheel\"; did you mean \"shell\"?",
        ),
    ];
    for (args, wanted) in cases {
        assert_eq!(mistakes("user", args.clone()), [wanted], "{args}");
    }
    for good in ["*", "!", HASH, "$y$j9T$abc./$x", "$2b$12$abcdefghijkl", "$6$rounds=5000$salt$hash"] {
        assert!(mistakes("user", json!({"name": "a", "password": good})).is_empty(), "{good}");
    }
}
