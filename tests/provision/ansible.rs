//! docs/from-ansible.md: what it says is tried here, with the playbooks of `ansible/`.
//!
//! `original.yml` is one of Ansible's; `project/` holds the same with mechanical changes only. With `BLESS=1` in the
//! environment expected texts and the listings in the document are written anew, for review.

use std::fs;
use std::path::{Path, PathBuf};

use provision::check;
use provision::plan::Selection;
use provision::protocol::{Outcome, Step};
use provision::runner::exit;
use serde_json::json;

use crate::project::Project;
use crate::scripted::{Pair, Ran, apply, changed, check as plan};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/provision/ansible")
}

fn text(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap()
}

/// The project of `ansible/project/`, with this playbook.
fn project(playbook: &str) -> Project {
    let names = [
        "ha.yml",
        "secrets.yml",
        "files/index.php",
        "templates/shop/mariadb.cnf.j2",
        "templates/shop/ports.conf.j2",
        "templates/shop/site.conf.j2",
    ];
    let files: Vec<(&str, String)> = names.map(|name| (name, text(&format!("project/{name}")))).into();
    let files = files.iter().map(|(name, text)| (*name, text.as_str()));
    Project::new(files.chain([("playbooks/site.yml", playbook)]))
}

/// Compares with a file of `ansible/`.
fn is_as_expected(name: &str, said: &str) {
    let path = folder().join(name);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, said).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap_or_default(), said, "{name}");
}

#[test]
fn every_word_of_the_original_that_means_something_else_here_is_answered_with_what_to_write() {
    let said = project(&text("original.yml")).plan(&Selection::default()).unwrap_err();
    is_as_expected("original.expected", &format!("{said}\n").replace("playbooks/site.yml", "original.yml"));
}

#[test]
fn the_rewritten_playbook_passes_the_check() {
    let project = project(&text("project/playbooks/shop.yml"));
    let line = check::line(&project.prepare(&Selection::default()).unwrap());
    assert_eq!(
        project.relative(&line),
        "no mistakes in ha.yml and playbooks/site.yml: 2 hosts, 2 plays, 15 tasks, 3 handlers, 3 templates, 1 file; no \
         host was contacted"
    );
}

/// Hosts on which nothing is done yet.
fn bare(_: &str, step: &Step) -> Outcome {
    let line = step.args.get("line").and_then(|line| line.as_str()).unwrap_or_default();
    let done = Outcome { message: String::new(), ..changed() };
    if step.module != "command" {
        return done;
    }
    let stderr = if line.contains("configtest") { "Syntax OK" } else { "" };
    let data = json!({"rc": 0, "stdout": "", "stderr": stderr}).as_object().unwrap().clone();
    let is_guarded = step.args.contains_key("creates") || step.args.contains_key("unless");
    Outcome { unknown: step.check && !is_guarded, data, ..done }
}

/// Without the time that it took.
fn shown(ran: &Ran) -> String {
    let line = |line: &str| match line.split_once(" in ") {
        Some(("PLAN" | "RECAP", _)) => String::new(),
        _ => format!("{}\n", line.trim_end()),
    };
    ran.text.trim_start().lines().map(line).collect()
}

#[test]
fn the_rewritten_playbook_is_planned_and_applied() {
    let project = project(&text("project/playbooks/shop.yml"));
    let planned = Pair::new(|host, step| Ok(bare(host, step))).run(&project, plan(), &Selection::default());
    assert_eq!(planned.exit_code, exit::CHANGES, "{}", planned.text);
    is_as_expected("shop.plan", &shown(&planned));
    let done = Pair::new(|host, step| Ok(bare(host, step))).run(&project, apply(), &Selection::default());
    assert_eq!(done.exit_code, exit::DONE, "{}", done.text);
    assert!(!done.text.contains("s3cr3t"), "{}", done.text);
    let content = |dest: &str| {
        let step = done.steps.iter().find(|(_, step)| step.args.get("dest").is_some_and(|d| d == dest));
        step.unwrap().1.args["content"].as_str().unwrap().to_owned()
    };
    assert_eq!(content("/etc/apache2/ports.conf"), "Listen 80\nListen 8080\n");
    assert!(content("/etc/apache2/sites-available/admin.conf").contains("ServerName admin.example.com"));
    assert_eq!(content("/etc/shop-release"), "host=ha-a\ntoken=s3cr3t-t0k3n\n");
    let order = done.order();
    let service = order.iter().filter(|step| step.as_str() == "ha-a service").count();
    assert_eq!(service, 5, "both are started, and all three handlers run once: {order:?}");
}

#[test]
fn the_document_shows_the_playbooks_that_are_tried_here() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/from-ansible.md");
    let document = fs::read_to_string(&path).unwrap();
    let mut wanted = document.clone();
    for (name, language) in
        [("original.yml", "yaml"), ("original.expected", ""), ("project/playbooks/shop.yml", "yaml")]
    {
        let (start, end) = (format!("<!-- {name} -->\n"), "<!-- end -->".to_owned());
        let (before, rest) = wanted.split_once(&start).unwrap();
        let (_, after) = rest.split_once(&end).unwrap();
        wanted = format!("{before}{start}```{language}\n{}```\n{end}{after}", text(name));
    }
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &wanted).unwrap();
    } else {
        assert_eq!(document, wanted, "BLESS=1 cargo test --test provision writes it anew");
    }
}
