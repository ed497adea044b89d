//! What the provisioner promises, on hosts: a plan comes true, a second run touches nothing, and a controller that is killed or cut off
//! leaves nothing half done. With `FUTAGO_DRILLS=all`.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::harness::{Lab, every_drill, futago, output, possible, until};
use crate::managed::PAIR;

const KILLS: u64 = 10;
/// What everything that was changed, or is about to be, lies in.
const FILES: &str =
    "find /etc /usr /var/lib/futago/program /srv/data/www -xdev -printf '%p %i %T@ %C@ %m\\n' | sort";
/// Each unit with the number of its life.
const UNITS: &str = "systemctl show '*.service' --property Id,InvocationID,ActiveEnterTimestampMonotonic | paste -sd' ' | sed 's/  /\\n/g' \
                     | grep -E 'Id=(futago|firewalld|apache2|mariadb|ssh|dbus|systemd-)' | grep -vE 'Id=(futago-(backup|verify)|systemd-tmpfiles)' | sort";
/// A file that is on its way to its place.
const HALVES: &str = "find / -xdev -name '.*.tmp' -not -path '/proc/*' -newer /root/before";

/// A lab of bare hosts whose inventory asks for Apache, PHP and MariaDB.
fn bare() -> Lab {
    let lab = Lab::up(&["--witness", "--disk-size", "1G"]);
    let inventory = lab.folder().join("inventory.yml");
    let text = fs::read_to_string(&inventory).expect("read the inventory");
    fs::write(&inventory, format!("{text}\nstack: lamp\n")).expect("write the inventory");
    lab
}

fn run(lab: &Lab, verb: &str) -> Command {
    let mut command = futago();
    command.arg(verb).arg("-i").arg(lab.folder().join("inventory.yml"));
    command
}

/// Tasks by place, host and item, with what was said of each; and the exit code.
type Told = BTreeMap<(String, String, String), (String, String)>;

fn told(lab: &Lab, verb: &str) -> (Option<i32>, Told) {
    let mut command = run(lab, verb);
    command.arg("--json");
    let done = output(command);
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("an event"));
    let word = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let tasks = events.filter(|event| event["event"] == "task-done").map(|event| {
        let task = (word(&event, "place"), word(&event, "host"), event["item"].to_string());
        (task, (word(&event, "status"), word(&event, "task")))
    });
    (done.status.code(), tasks.collect())
}

#[test]
fn a_plan_comes_true_and_a_second_run_touches_nothing() {
    if !possible() || !every_drill() {
        return;
    }
    let lab = bare();
    let (code, planned) = told(&lab, "plan");
    assert_eq!(code, Some(2), "there is something to do");
    let (code, done) = told(&lab, "apply");
    assert_eq!(code, Some(0));
    let mut wrong = Vec::new();
    for (task, (status, name)) in &planned {
        // What depends on a step before it may come to anything, also to nothing.
        let became = done.get(task).map(|(status, _)| status.as_str());
        if status != "unknown" && became != Some(status) {
            wrong.push(format!("{task:?} {name:?}: planned {status}, became {became:?}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    let counted = |word: &str| planned.values().filter(|(status, _)| status == word).count();
    eprintln!(
        "plan: {} changed, {} ok, {} skipped came true; {} were unknown",
        counted("changed"),
        counted("ok"),
        counted("skipped"),
        counted("unknown")
    );

    let before = PAIR.map(|host| [FILES, UNITS].map(|script| lab.run_in(host, script)));
    PAIR.iter().for_each(|host| drop(lab.run_in(host, "touch /root/before")));
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs();
    let (code, again) = told(&lab, "apply");
    assert_eq!((code, again.values().filter(|(status, _)| status == "changed").count()), (Some(0), 0));
    for (host, before) in PAIR.iter().zip(before) {
        let after = [FILES, UNITS].map(|script| lab.run_in(host, script));
        for (before, after) in before.iter().zip(&after) {
            let touched: Vec<&str> = after.lines().filter(|line| !before.contains(line)).collect();
            assert!(!before.is_empty() && touched.is_empty(), "{host}: {touched:#?}");
        }
        let journal = format!(
            "journalctl _PID=1 --since @{since} --output cat | grep -E 'Reload|Stopp|Start' | grep -vE '[Ss]ession|User|user' || true"
        );
        assert_eq!(lab.run_in(host, &journal), "", "{host}: systemd was asked for something");
    }
}

/// Whether an agent still works on a host.
fn works(lab: &Lab, host: &str) -> bool {
    lab.try_in(host, "pgrep --full '[f]utago.* agent' > /dev/null").status.success()
}

#[test]
fn a_controller_that_is_killed_at_any_moment_leaves_nothing_half_done() {
    if !possible() || !every_drill() {
        return;
    }
    let lab = bare();
    PAIR.iter().for_each(|host| drop(lab.run_in(host, "touch /root/before")));
    for round in 0..KILLS {
        let mut apply = run(&lab, "apply");
        let mut apply = apply
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start futago");
        // Later and later: each run gets further, for what is done stays done.
        let moment = Duration::from_millis(300 + 900 * round + random(700));
        thread::sleep(moment);
        apply.kill().expect("kill it");
        apply.wait().expect("reap it");
        for host in PAIR {
            until(&format!("the agent on {host} ends after its step"), || !works(&lab, host));
            assert_eq!(lab.run_in(host, HALVES), "", "{host}, killed after {moment:?}");
        }
        eprintln!("killed after {} ms", moment.as_millis());
    }
    finish(&lab);
}

#[test]
fn hosts_that_are_cut_off_in_the_middle_are_taken_up_again() {
    if !possible() || !every_drill() {
        return;
    }
    let lab = bare();
    PAIR.iter().for_each(|host| drop(lab.run_in(host, "touch /root/before")));
    let mut apply = run(&lab, "apply");
    let apply = apply
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start futago");
    until("ha-b is being installed", || lab.try_in("ha-b", "pgrep --exact 'apt-get|dpkg'").status.success());
    lab.run("cut", &["public", "--from", "controller", "--to", "ha-b"]);
    let done = apply.wait_with_output().expect("wait for it");
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(4), "{said}");
    lab.run("heal", &[]);
    for host in PAIR {
        until(&format!("the agent on {host} ends after its step"), || !works(&lab, host));
        assert_eq!(lab.run_in(host, HALVES), "", "{host}");
    }
    finish(&lab);
}

/// The next run brings everything to its end, and the one after it has nothing to do.
fn finish(lab: &Lab) {
    lab.apply(&[]);
    let said = lab.apply(&[]);
    assert_eq!(said.matches("changed=0").count(), 3, "{said}");
    let status = lab.run_in(PAIR[0], "futago cluster status");
    assert!(status.contains("PROTECTED"), "{status}");
}

/// Below `most`, from the clock: which moments were struck is told.
fn random(most: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    u64::from(now.subsec_nanos()) % most
}

/// Its second task fails until a file is there.
const OWES: &str = "\
- name: Owes
  hosts: pair
  tasks:
    - name: Change something
      copy: {dest: /etc/owes, content: \"new\\n\"}
      notify: Count
    - name: Fail
      command: test -e /root/mended
      changed_when: false
  handlers:
    - name: Count
      command: {argv: [sh, -c, echo counted >> /root/counted]}
";

/// A run of another playbook than the site.
fn play(lab: &Lab, text: &str) -> Output {
    let playbook = lab.folder().join("play.yml");
    fs::write(&playbook, text).expect("write the playbook");
    let mut command = run(lab, "apply");
    command.arg(playbook);
    output(command)
}

#[test]
fn a_handler_that_a_failed_run_owes_is_run_by_the_next_one() {
    if !possible() || !every_drill() {
        return;
    }
    let lab = Lab::up(&["--disk-size", "1G"]);
    assert_eq!(play(&lab, OWES).status.code(), Some(1));
    let counted = |host: &&str| lab.run_in(host, "cat /root/counted 2> /dev/null || true").lines().count();
    assert_eq!(PAIR.iter().map(counted).collect::<Vec<_>>(), [0, 0]);
    PAIR.iter().for_each(|host| drop(lab.run_in(host, "touch /root/mended")));
    for _ in 0..2 {
        assert_eq!(play(&lab, OWES).status.code(), Some(0));
        assert_eq!(PAIR.iter().map(counted).collect::<Vec<_>>(), [1, 1]);
    }
}

/// Closes the way that the controller comes in by.
const CLOSES: &str = "\
- import_playbook: network.yml
- name: Closes
  hosts: pair
  tasks:
    - name: Close SSH
      firewall: {zone: public, services: [ssh], state: disabled}
";

#[test]
fn a_firewall_change_that_cuts_the_controller_off_is_taken_back() {
    if !possible() || !every_drill() {
        return;
    }
    let lab = Lab::up(&["--disk-size", "1G"]);
    // The second run comes in by new connections, and is refused for the same reason.
    for _ in 0..2 {
        let done = play(&lab, CLOSES);
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let why = "no new SSH connection got through, so this was taken back";
        assert!(done.status.code() == Some(1) && said.contains(why), "{said}");
        for host in PAIR {
            for side in ["", "--permanent"] {
                let query = format!("firewall-cmd {side} --zone=public --query-service=ssh");
                assert_eq!(lab.run_in(host, &query).trim(), "yes", "{host} {side}");
            }
        }
    }
}
