//! What the shipped templates render to, and what expressions see of an inventory.

use std::collections::BTreeSet;

use provision::assets::Assets;
use provision::plan::Selection;
use provision::report::Event;
use provision::template::{Engine, Scope};
use serde_json::Value;

use crate::project::Project;
use crate::scripted::{Pair, apply, changed, failed};

/// The file of the article, and what it does without: the hosts prove to each other who they are.
const ARTICLE: &str = "\
resource r0 {
    net {
        tls              yes;
    }
    volume 0 {
        device           /dev/drbd1;
        disk             /dev/vdb1;
        meta-disk        internal;
    }
    on ha-a.example.com {
        node-id 0;
        address          ipv4 192.168.1.101:7789;
    }
    on ha-b.example.com {
        node-id 1;
        address          ipv4 192.168.1.102:7789;
    }
}
";

fn rendered(project: &Project, template: &str) -> BTreeSet<String> {
    let inventory = project.inventory().unwrap();
    let assets = Assets::new(vec![]);
    let engine = Engine::new(assets.clone());
    let asset = assets.template(template).unwrap();
    let render = |member| {
        let scope = Scope::new(&inventory.variables(member));
        engine.render(&asset.name, &asset.text, &scope).unwrap().known().unwrap()
    };
    inventory.hosts.iter().map(render).collect()
}

#[test]
fn r0_res_is_the_one_of_the_article_with_tls_and_the_same_on_both_hosts() {
    let project = Project::new([]);
    assert_eq!(rendered(&project, "r0.res.j2"), BTreeSet::from([ARTICLE.to_owned()]));
}

/// What the daemons of a managed pair are told: one file a host, with everything filled in that is always the same.
#[test]
fn the_files_of_the_cluster_manager_are_these() {
    let managed = crate::project::managed();
    let project = Project::new([("ha.yml", managed.as_str())]);
    let files = rendered(&project, "cluster.yml.j2");
    assert_eq!(files.len(), 2, "metrics are served at each host's own addresses");
    let expected = include_str!("golden/cluster.yml");
    assert!(files.contains(expected), "{}", files.first().unwrap());
    let managed = ARTICLE.replacen("{\n", "{\n    options {\n        managed          yes;\n    }\n", 1);
    assert_eq!(rendered(&project, "r0.res.j2"), BTreeSet::from([managed]));
}

#[test]
fn r0_res_is_the_same_on_both_hosts_also_when_their_disks_differ() {
    let inventory = crate::project::INVENTORY.replacen("/dev/vdb", "/dev/nvme0n1", 1);
    let project = Project::new([("ha.yml", inventory.as_str())]);
    let files = rendered(&project, "r0.res.j2");
    assert_eq!(files.len(), 1);
    let text = files.first().unwrap();
    assert!(
        text.contains("disk         /dev/nvme0n1p1;") && text.contains("disk         /dev/vdb1;"),
        "{text}"
    );
    assert!(!text.contains("        disk             /dev"), "{text}");
}

#[test]
fn the_shipped_playbook_passes_its_own_check_and_both_hosts_do_all_of_it() {
    let project = Project::new([]);
    let (inventory, plan) = project.plan(&Selection::default()).unwrap();
    assert_eq!(plan.hosts(&inventory), ["ha-a", "ha-b"]);
    let plays: Vec<(&str, usize)> =
        plan.plays.iter().map(|p| (p.name.as_str(), p.batches[0].len())).collect();
    assert_eq!(
        plays,
        [
            ("Network", 2),
            ("Storage", 2),
            ("Members", 2),
            ("Replication", 2),
            ("Programs", 1),
            ("First sync", 1)
        ]
    );
}

#[test]
fn with_a_manager_the_playbook_deploys_it_and_promotes_nothing_by_hand() {
    let managed = crate::project::managed();
    let project = Project::new([("ha.yml", managed.as_str())]);
    let (inventory, plan) = project.plan(&Selection::default()).unwrap();
    assert_eq!(plan.hosts(&inventory), ["ha-a", "ha-b", "witness"]);
    let plays: Vec<(&str, usize)> =
        plan.plays.iter().map(|p| (p.name.as_str(), p.batches[0].len())).collect();
    assert_eq!(
        plays,
        [
            ("Stack that this pair has", 2),
            ("Network", 2),
            ("Storage", 2),
            ("Members", 3),
            ("Replication", 2),
            ("Witness", 1),
            ("Cluster manager", 2),
            ("Record", 1),
            ("Stack", 2),
            ("Managers", 2),
            ("Hand-over", 2),
            ("Service", 1),
            ("Stack that has run", 2),
            ("Alerts of units", 2),
            ("Verify", 2)
        ]
    );
}

#[test]
fn names_of_tasks_are_unique_so_that_a_run_can_be_continued_at_each() {
    let managed = crate::project::managed();
    let project = Project::new([("ha.yml", managed.as_str())]);
    let (_, plan) = project.plan(&Selection::default()).unwrap();
    let names: Vec<&String> = plan.plays.iter().flat_map(|p| &p.play.tasks).map(|t| &t.name).collect();
    let distinct: BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
}

#[test]
fn expressions_see_the_inventory_in_this_form() {
    let project = Project::new([]);
    let inventory = project.inventory().unwrap();
    let seen = serde_json::Value::Object(inventory.variables(&inventory.hosts[1]));
    let expected: serde_json::Value = serde_json::from_str(include_str!("golden/variables.json")).unwrap();
    assert_eq!(seen, expected, "{seen:#}");
}

#[test]
fn the_documented_modules_are_the_ones_that_there_are() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/provisioning.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once("provision` -->\n").unwrap();
    let (documented, after) = rest.split_once("<!-- end of modules").unwrap();
    let table = provision::doc::as_markdown();
    if std::env::var_os("BLESS").is_some() {
        let new = format!("{before}provision` -->\n{table}<!-- end of modules{after}");
        std::fs::write(&path, new).unwrap();
    } else {
        assert_eq!(documented, table, "BLESS=1 cargo test --test provision writes it anew");
    }
}

#[test]
fn the_documented_events_are_the_ones_that_there_are() {
    let tasks =
        "  - {command: one, loop: [a], notify: Again}\n  handlers:\n  - {name: Again, command: two}\n";
    let playbook = format!("- hosts: pair\n  tasks:\n{tasks}");
    let project = Project::new([("playbooks/site.yml", playbook.as_str())]);
    let pair = Pair::new(|host, _| Ok(if host == "ha-b" { failed("no") } else { changed() }));
    let mut events = pair.run(&project, apply(), &Selection::default()).events;
    assert!(matches!(events[0], Event::RunStarted { version: 1, .. }), "{:?}", events[0]);
    events.push(Event::Stopping);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/provisioning.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut documented = BTreeSet::new();
    for event in &events {
        let Value::Object(mut keys) = serde_json::to_value(event).unwrap() else { unreachable!() };
        let name = keys.remove("event").unwrap();
        let start = format!("| `{}` |", name.as_str().unwrap());
        let row = text.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("no {start}"));
        for key in all_keys(&Value::Object(keys)) {
            assert!(row.contains(&format!("`{key}`")), "{key} is missing: {row}");
        }
        documented.insert(start);
    }
    assert_eq!(documented.len(), 9, "{documented:?}");
}

/// Of a value and of all that is in it.
fn all_keys(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) => {
            map.iter().flat_map(|(key, value)| [vec![key.clone()], all_keys(value)].concat()).collect()
        }
        Value::Array(items) => items.iter().flat_map(all_keys).collect(),
        _ => Vec::new(),
    }
}

/// What says nothing for so long is ended, also when it was stopped by a signal, and started again.
#[test]
fn every_daemon_that_hangs_is_exchanged() {
    let managed = crate::project::managed();
    let project = Project::new([("ha.yml", managed.as_str())]);
    for daemon in ["replicad", "clusterd", "witnessd"] {
        for unit in rendered(&project, &format!("units/futago-{daemon}.service.j2")) {
            for line in ["Type=notify", "WatchdogSec=", "WatchdogSignal=SIGKILL", "Restart="] {
                assert!(unit.lines().any(|l| l.starts_with(line)), "{daemon}: {line}");
            }
        }
    }
}
