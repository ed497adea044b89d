//! Several clusters of one command, against addresses of this machine where nobody listens.

use std::fs;
use std::process::{Command, Output};

use provision::runner::exit;
use serde_json::Value;

use crate::project::Project;

const PLAYBOOK: &str = "- hosts: pair\n  tasks:\n    - command: echo\n";

/// An inventory whose hosts refuse every connection.
fn refusing(cluster: &str, first: u8) -> String {
    let host = |name: &str, last: u8| {
        format!(
            "  {name}: {{address: 127.0.0.{last}, local_address: 192.168.1.{last}, disk: /dev/vdb, \
             interfaces: {{public: eth0, local: eth1}}}}\n"
        )
    };
    format!(
        "cluster: {cluster}\nvirtual_ip: {{address: 127.0.0.{first}/8, interface: eth0}}\nhosts:\n{}{}\
         ssh: {{port: 1, known_hosts: known_hosts}}\n",
        host("ha-a", first + 1),
        host("ha-b", first + 2)
    )
}

/// Two clusters, `east.yml` and `west.yml`, in a folder.
fn two(west: &str) -> Project {
    let east = refusing("east.example.com", 10);
    Project::new([("all/east.yml", &*east), ("all/west.yml", west), ("all/playbooks/site.yml", PLAYBOOK)])
}

fn futago(project: &Project, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_futago")).args(words).current_dir(project.path()).output().unwrap()
}

/// Exit code, and the lines without times and names of logs, sorted: who is done first is left open.
fn told(output: &Output) -> (Option<i32>, Vec<String>) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let plain = |line: &str| match (line.split_once(" in "), line.split_once("/runs/")) {
        (Some((before, after)), _) => {
            let rest = after.split_once(" s").map_or("", |(_, rest)| rest);
            format!("{before} in N s{rest}")
        }
        (None, Some((folder, _))) => format!("{folder}/runs/"),
        (None, None) => line.to_owned(),
    };
    let mut lines: Vec<String> = text.lines().map(plain).collect();
    lines.sort();
    (output.status.code(), lines)
}

#[test]
fn each_cluster_has_its_lines_and_its_log_and_there_is_one_recap_over_all() {
    let project = two(&refusing("west.example.com", 20));
    let output = futago(&project, &["apply", "-i", "all/east.yml", "-i", "all/west.yml"]);
    let (code, lines) = told(&output);
    let failed = |cluster: &str, first: u8, second: u8| {
        let why = |host: &str, last: u8| {
            format!(
                "{cluster} |   why:  connect to {host} (127.0.0.{last} port 1): Connection refused (os error 111); is the \
                 host up, and is the address right?"
            )
        };
        let hint =
            format!("{cluster} |   hint: nothing was changed on any host: all of them must answer first");
        let host = |host: &str, last: u8| {
            [format!("{cluster} | UNREACHED {host}        connect"), why(host, last), hint.clone()]
        };
        let mut lines = [host("ha-a", first), host("ha-b", second)].concat();
        lines.push(format!("{cluster} | UNREACHED in N s"));
        lines
    };
    let mut expected = [failed("east.example.com", 11, 12), failed("west.example.com", 21, 22)].concat();
    expected.extend(["", "RECAP of 2 clusters in N s: 2 UNREACHED"].map(str::to_owned));
    for cluster in ["east", "west"] {
        expected.push(format!("{cluster}.example.com  UNREACHED"));
        expected.extend(
            ["ha-a", "ha-b"]
                .map(|host| format!("  {host} : ok=0 changed=0 failed=0 unreachable=1 skipped=0")),
        );
        expected.push("  log: all/.futago/runs/".to_owned());
    }
    expected.sort();
    assert_eq!((code, lines), (Some(exit::UNREACHABLE.into()), expected));
    let logs = fs::read_dir(project.path().join("all/.futago/runs")).unwrap();
    let names: Vec<String> = logs.map(|log| log.unwrap().file_name().into_string().unwrap()).collect();
    for cluster in ["-east-", "-west-"] {
        assert_eq!(names.iter().filter(|name| name.contains(cluster)).count(), 1, "{names:?}");
    }
}

#[test]
fn machines_read_of_which_cluster_each_event_is() {
    let project = two(&refusing("west.example.com", 20));
    let output = futago(&project, &["plan", "-i", "all", "--forks", "2", "--json"]);
    let lines = String::from_utf8(output.stdout).unwrap();
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |cluster: &str| {
        let own = events.iter().filter(|event| event["cluster"] == cluster);
        own.map(|event| event["event"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let expected = ["run-started", "task-done", "task-done", "task-finished", "run-finished"];
    assert_eq!(of("east.example.com"), expected);
    assert!(
        events.iter().all(|event| (event["event"] == "run-started") == (event["version"] == 1)),
        "{lines}"
    );
    assert_eq!(of("west.example.com"), expected);
    let place = |cluster: &str, event: &str| {
        events.iter().position(|one| one["cluster"] == cluster && one["event"] == event).unwrap()
    };
    // Room for two hosts is room for one cluster.
    let [first, second] = if place("east.example.com", "run-started") == 0 {
        ["east.example.com", "west.example.com"]
    } else {
        ["west.example.com", "east.example.com"]
    };
    assert!(place(first, "run-finished") < place(second, "run-started"), "{lines}");
}

#[test]
fn clusters_of_one_name_are_told_apart_by_their_files() {
    let project = two(&refusing("east.example.com", 20));
    let (_, lines) = told(&futago(&project, &["apply", "-i", "all"]));
    for name in ["all/east.yml  UNREACHED", "all/west.yml  UNREACHED"] {
        assert!(lines.iter().any(|line| line == name), "{lines:?}");
    }
}

#[test]
fn a_mistake_in_one_inventory_ends_all_before_contact() {
    let project = two(&refusing("west.example.com", 20).replacen("disk", "dsk", 1));
    let expected = "all/west.yml:4:60: a host has no key \"dsk\"\n  4 |   ha-a: {address: 127.0.0.21, ";
    for words in [["apply", "-i", "all"], ["check", "-i", "all"]] {
        let output = futago(&project, &words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(exit::USAGE.into()) && said.starts_with(expected), "{said}");
    }
    let right = String::from_utf8(futago(&project, &["check", "-i", "all"]).stdout).unwrap();
    assert!(right.starts_with("no mistakes in all/east.yml") && right.lines().count() == 1, "{right}");
}

#[test]
fn clusters_that_share_a_host_are_not_worked_on_side_by_side() {
    let project = two(&refusing("west.example.com", 20).replace("127.0.0.22", "127.0.0.11"));
    let output = futago(&project, &["apply", "-i", "all"]);
    let expected = "\
all/west.yml: ha-b (127.0.0.11) is ha-a of all/east.yml, too: clusters that share a host are not worked on side by side
  hint: name one inventory at a time
futago: no host was contacted
";
    assert_eq!(
        (output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()),
        (Some(64), expected)
    );
    let apart = futago(&project, &["apply", "-i", "all", "--limit", "ha-a"]);
    assert_eq!(apart.status.code(), Some(exit::UNREACHABLE.into()), "no host of this run is in both");
}

#[test]
fn a_second_inventory_in_the_place_of_the_playbook_is_taken_for_what_it_is() {
    let project = two(&refusing("west.example.com", 20));
    let output = futago(&project, &["apply", "-i", "all/east.yml", "all/west.yml"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("hint: this is an inventory: name each with -i, or their folder"), "{said}");
}
