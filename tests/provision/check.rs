//! `futago check`: what it says of a project without mistakes, and of one with them.

use std::process::{Command, Output};

use provision::check;
use provision::plan::Selection;
use serde_json::json;

use crate::project::Project;

const PLAYBOOK: &str = "\
- hosts: pair
  tasks:
    - template: {src: motd.j2, dest: /etc/motd}
    - copy: {src: \"{{ item }}\", dest: \"/etc/{{ item }}\"}
      loop: [a, b]
      notify: Greet
  handlers:
    - name: Greet
      command: echo
";

fn right() -> Project {
    Project::new([
        ("playbooks/site.yml", PLAYBOOK),
        ("templates/motd.j2", "{{ fqdn }}\n"),
        ("files/a", "a"),
        ("files/b", "b"),
    ])
}

/// The program itself, in the folder of the project.
fn futago(project: &Project, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_futago")).args(words).current_dir(project.path()).output().unwrap()
}

fn said(output: &Output) -> (Option<i32>, &str, &str) {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_project_without_mistakes_is_one_line_that_says_what_was_checked() {
    let project = right();
    let line = "no mistakes in ha.yml and playbooks/site.yml: 2 hosts, 1 play, 2 tasks, 1 handler, 1 template, 2 files; \
                no host was contacted\n";
    assert_eq!(said(&futago(&project, &["check"])), (Some(0), line, ""));
    assert!(!project.path().join(".futago").exists(), "a check writes nothing");
}

#[test]
fn mistakes_of_inventory_and_playbook_are_told_together_and_end_with_64() {
    let project = Project::new([
        ("ha.yml", &*crate::project::INVENTORY.replacen("disk:", "dsk:", 1)),
        ("playbooks/site.yml", "- hosts: pair\n  tasks:\n    - comand: echo\n"),
    ]);
    let expected = "\
ha.yml:4:63: a host has no key \"dsk\"
  4 | …a-a: {address: 203.0.113.11, local_address: 192.168.1.101, dsk: /dev/vdb, interfaces: {public: eth…
    |                                                             ^
  hint: did you mean \"disk\"?
playbooks/site.yml:3:7: a task has no key \"comand\"
  3 |     - comand: echo
    |       ^
  hint: did you mean \"command\"?
";
    assert_eq!(said(&futago(&project, &["check", "-i", "ha.yml"])), (Some(64), "", expected));
}

#[test]
fn machines_get_one_object_with_counts_or_mistakes() {
    let told = |project: &Project| check::as_json(&project.prepare(&Selection::default()));
    let project = right();
    let mut counts = told(&project);
    counts["inventory"] = project.relative(counts["inventory"].as_str().unwrap()).into();
    counts["playbook"] = project.relative(counts["playbook"].as_str().unwrap()).into();
    let expected = json!({
        "ok": true, "inventory": "ha.yml", "playbook": "playbooks/site.yml", "hosts": ["ha-a", "ha-b"],
        "plays": 1, "tasks": 2, "handlers": 1, "templates": 1, "files": 2,
    });
    assert_eq!(counts, expected);
    let wrong =
        Project::new([("playbooks/site.yml", "- hosts: pair\n  tasks:\n    - command: echo {{ fqnd }}\n")]);
    let output = futago(&wrong, &["check", "--json"]);
    let (code, stdout, stderr) = said(&output);
    let expected = json!({"ok": false, "mistakes": [{
        "file": "playbooks/site.yml", "line": 3, "column": 16,
        "message": "the variable `fqnd` is not defined in \"echo {{ fqnd }}\"", "hint": "did you mean `fqdn`?",
    }]});
    assert_eq!((code, stderr, stdout.parse::<serde_json::Value>().unwrap()), (Some(64), "", expected));
}

#[test]
fn an_inventory_that_is_not_there_is_all_that_is_said() {
    let project = right();
    let output = futago(&project, &["check", "-i", "hb.yml", "nothing"]);
    let expected = "hb.yml: read the inventory: No such file or directory (os error 2)\n  hint: `futago init DIR` writes an example\n";
    assert_eq!(said(&output), (Some(64), "", expected));
}

#[test]
fn the_shipped_playbook_is_right_for_every_stack() {
    for stack in ["lamp", "zabbix", "wordpress"] {
        let inventory =
            format!("{}witness: {{address: 203.0.113.13}}\nstack: {stack}\n", crate::project::INVENTORY);
        let project = Project::new([("ha.yml", inventory.as_str())]);
        let output = futago(&project, &["check"]);
        let (code, stdout, stderr) = said(&output);
        assert_eq!(code, Some(0), "{stack}: {stdout}{stderr}");
    }
}
