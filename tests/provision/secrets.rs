//! Secrets: they are shown nowhere, also not in a mistake.

use std::process::{Command, Output};

use provision::plan::Selection;
use provision::protocol::Outcome;
use provision::runner::exit;

use crate::project::{INVENTORY, Project, managed};
use crate::scripted::{Pair, apply, changed, check};

/// A project with the secret `token` and these tasks.
fn with_tasks(tasks: &str) -> Project {
    let inventory = format!("{INVENTORY}secrets: secrets.yml\n");
    let playbook = format!("- hosts: pair\n  tasks:\n{tasks}");
    Project::new([
        ("ha.yml", inventory.as_str()),
        ("secrets.yml", "token: 'correct-\"horse\"'\n"),
        ("playbooks/site.yml", playbook.as_str()),
        ("templates/x.j2", "token={{ token }}\n"),
    ])
}

fn futago(project: &Project, words: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_futago"));
    let Output { status, stdout, stderr } = command.args(words).current_dir(project.path()).output().unwrap();
    (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

#[test]
fn a_mistake_does_not_show_a_secret_to_people_or_machines() {
    let project = with_tasks(
        "    - file: {path: /x, mode: '{{ token }}'}
    - {command: echo, loop: '{{ token }}'}
    - copy: {dest: '{{ token }}', content: x, mode: '0600'}
",
    );
    for words in [&["check"][..], &["check", "--json"], &["plan"], &["apply"]] {
        let (code, said) = futago(&project, words);
        assert_eq!(code, Some(exit::USAGE.into()), "{said}");
        assert!(said.contains("in octal and in quotes") && said.contains("********"), "{said}");
        assert!(!said.contains("correct") && !said.contains("horse"), "{said}");
    }
}

/// What the plan of a managed pair shows of these parameters of its fence device; none of these texts is anywhere else.
fn planned(params: &str, hidden: &[&str]) -> String {
    let inventory = format!(
        "{}  fencing: [{{target: ha-a, agent: fence_ipmilan, params: {params}}}]\nsecrets: secrets.yml\n",
        managed()
    );
    let project =
        Project::new([("ha.yml", inventory.as_str()), ("secrets.yml", "board: tiger-and-dragon\n")]);
    let pair = Pair::new(|_, step| {
        let content = step.args.get("content").and_then(|content| content.as_str()).unwrap_or_default();
        Ok(Outcome { diff: Some(content.to_owned()), ..changed() })
    });
    let ran = pair.run(&project, check(), &Selection::default());
    let told = ran
        .steps
        .iter()
        .any(|(_, step)| step.args.values().any(|value| value.to_string().contains(hidden[0])));
    assert!(told, "the hosts get the real value");
    let events = serde_json::to_string(&ran.events).unwrap();
    for text in hidden {
        assert!(!ran.text.contains(text) && !events.contains(text), "{text} is shown");
    }
    ran.text.lines().find_map(|line| line.trim().strip_prefix("fencing: ")).unwrap().to_owned()
}

#[test]
fn passwords_of_management_boards_are_not_shown_and_may_come_from_the_secrets() {
    let shown = |told: &str| {
        format!(
            r#"[{{"target": "ha-a.example.com", "agent": "fence_ipmilan", "params": {{"ip": "10.0.0.9", {told}}}}}]"#
        )
    };
    let params = "{ip: 10.0.0.9, username: root, password: \"tell&nobody\", privpass: calvi}";
    let hidden = ["nobody", "tell&", "calvi"];
    assert_eq!(planned(params, &hidden), shown(r#""username": "root", "password": "********", ********"#));
    let params = "{ip: 10.0.0.9, login: \"{{ board }}\"}";
    assert_eq!(planned(params, &["tiger-and-dragon"]), shown(r#""login": "********""#));
}

/// Before contact it is not known what the content will be.
#[test]
fn a_file_that_everybody_could_read_is_not_written() {
    let project = with_tasks("    - copy: {dest: /etc/x, content: 'on {{ facts.family }}: {{ token }}'}\n");
    let ran = Pair::new(|_, _| Ok(changed())).run(&project, apply(), &Selection::default());
    assert_eq!((ran.exit_code, ran.steps.len()), (exit::FAILED, 0), "{}", ran.text);
    assert!(ran.text.contains("site.yml:3:37: a secret is in this content"), "{}", ran.text);
}
