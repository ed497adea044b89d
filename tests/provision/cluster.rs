//! The shipped deployment of the cluster manager, on scripted hosts: in which order it acts, and where.

use provision::plan::Selection;
use provision::protocol::{Outcome, Step};
use provision::runner::exit;
use serde_json::{Value, json};

use crate::project::{Project, managed};
use crate::scripted::{Pair, Ran, apply, changed, check, failed};

fn only_cluster() -> Selection {
    Selection { tags: vec!["cluster".into()], ..Selection::default() }
}

/// A pair whose stack runs on `primary`; everything else answers as `other` says.
fn pair(primary: &'static str, first_start: bool, other: fn() -> Outcome) -> Pair {
    Pair::new(move |host, step| {
        Ok(if step.module == "cluster" {
            let data = json!({"here": host == primary, "first_start": first_start});
            let Value::Object(data) = data else { unreachable!() };
            Outcome { data, ..Outcome::default() }
        } else {
            other()
        })
    })
}

fn run(pair: &Pair) -> (Project, Ran) {
    let text = managed();
    let project = Project::new([("ha.yml", text.as_str())]);
    let ran = pair.run(&project, apply(), &only_cluster());
    (project, ran)
}

/// `host module state` of the steps that one of these modules did.
fn steps(ran: &Ran, modules: &[&str]) -> Vec<String> {
    let told = |(host, step): &(String, Step)| {
        let state = step.args.get("state").and_then(Value::as_str).unwrap_or_default();
        format!("{host} {} {state}", step.module)
    };
    let done = ran.steps.iter().filter(|(_, step)| !step.check);
    done.filter(|(_, step)| modules.contains(&step.module.as_str())).map(told).collect()
}

#[test]
fn a_new_pair_gets_its_file_system_on_the_primary_only_and_starts_last() {
    let (_, ran) = run(&pair("ha-a", true, changed));
    assert_eq!(ran.exit_code, exit::DONE, "{}", ran.text);
    let mut done = steps(&ran, &["cluster", "filesystem", "mount"]);
    // Both hosts do a task at the same time.
    done[..2].sort();
    done[3..5].sort();
    assert_eq!(
        done,
        [
            "ha-a cluster unchanged",
            "ha-b cluster unchanged",
            "ha-a cluster bootstrapped",
            "ha-a cluster joined",
            "ha-b cluster joined",
            "ha-a filesystem ",
            "ha-a mount ",
            "ha-b cluster current",
            "ha-a cluster current",
            "ha-a cluster running",
        ]
    );
    let witness = ran.steps.iter().position(|(_, s)| s.args.get("name") == Some(&json!("futago-witnessd")));
    let manager = ran.steps.iter().position(|(_, s)| s.args.get("name") == Some(&json!("futago-clusterd")));
    assert!(witness.unwrap() < manager.unwrap(), "the witness must be there before it is asked");
    let disabled: Vec<&Value> = ran
        .steps
        .iter()
        .filter(|(host, s)| host == "ha-b" && s.args.get("enabled") == Some(&json!(false)))
        .map(|(_, s)| &s.args["name"])
        .collect();
    assert_eq!(disabled, ["mariadb", "apache2", "cron"]);
}

/// The packages that a host is given with this section `manager`.
fn packages(group_and_more: &str) -> Vec<String> {
    let text = managed();
    let (before, _) = text.split_once("manager:\n").expect("a manager");
    let text = format!("{before}manager:\n{group_and_more}\n");
    let project = Project::new([("ha.yml", text.as_str())]);
    let ran = pair("ha-a", true, changed).run(&project, apply(), &only_cluster());
    assert_eq!(ran.exit_code, exit::DONE, "{}", ran.text);
    let of_b = ran.steps.iter().filter(|(host, s)| host == "ha-b" && s.module == "package" && !s.check);
    of_b.map(|(_, step)| step.args["name"][0].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn agents_are_installed_where_the_manager_calls_them() {
    let unit = "  group: [{name: db, class: \"systemd:mariadb\"}]";
    assert_eq!(packages(unit), ["e2fsprogs"]);
    let ocf = "  group: [{name: db, class: \"ocf:heartbeat:mysql\"}]";
    assert_eq!(packages(ocf), ["resource-agents", "e2fsprogs"]);
    let named = format!("{unit}\n  fencing: [{{target: ha-a, agent: fence_ipmilan}}]");
    assert_eq!(packages(&named), ["fence-agents", "e2fsprogs"]);
    let own = format!("{unit}\n  fencing: [{{target: ha-a, agent: /opt/fence_own}}]");
    assert_eq!(packages(&own), ["e2fsprogs"]);
}

#[test]
fn what_the_set_up_has_written_is_put_on_the_disks_once_where_it_was_written() {
    let synced = |first_start: bool| {
        let (_, ran) = run(&pair("ha-a", first_start, changed));
        let syncs = ran
            .steps
            .iter()
            .filter(|(_, s)| s.args.get("argv").is_some_and(|argv| argv[0] == "sync") && !s.check);
        syncs.map(|(host, _)| host.clone()).collect::<Vec<_>>()
    };
    assert_eq!((synced(true), synced(false)), (vec!["ha-a".to_owned()], vec![]));
}

/// On which hosts a stack does what: for each word, those with a step whose arguments contain it.
fn hosts_of(stack: &str, first_start: bool, words: &[&str]) -> Vec<String> {
    let text = format!("{}stack: {stack}\nvars: {{database: shop, packages: [php-gd]}}\n", managed());
    let project = Project::new([("ha.yml", text.as_str())]);
    let ran = pair("ha-a", first_start, changed).run(&project, apply(), &only_cluster());
    assert_eq!(ran.exit_code, exit::DONE, "{}", ran.text);
    let done: Vec<(&str, String)> = ran
        .steps
        .iter()
        .filter(|(_, step)| !step.check)
        .map(|(host, step)| (host.as_str(), Value::from(step.args.clone()).to_string()))
        .collect();
    let of = |word: &&str| {
        let those = done.iter().filter(|(_, args)| args.contains(word)).map(|(host, _)| *host);
        let mut those: Vec<&str> = those.collect();
        those.sort_unstable();
        format!("{word}: {}", those.join(" "))
    };
    words.iter().map(of).collect()
}

#[test]
fn a_stack_makes_its_data_once_and_only_where_they_are() {
    let data = ["mariadb-install-db", "CREATE DATABASE IF NOT EXISTS `shop`", "/srv/data/www/index.php"];
    let zabbix = ["first-content.sh\",\"zabbix"];
    let wordpress = ["first-content.sh\",\"wordpress", "cp -a"];
    for (stack, words) in [("lamp", [].as_slice()), ("zabbix", &zabbix), ("wordpress", &wordpress)] {
        let words: Vec<&str> = data.iter().chain(words).copied().collect();
        let first: Vec<String> = words.iter().map(|word| format!("{word}: ha-a")).collect();
        assert_eq!(hosts_of(stack, true, &words), first);
        let later: Vec<String> = words.iter().map(|word| format!("{word}: ")).collect();
        assert_eq!(hosts_of(stack, false, &words), later);
    }
}

#[test]
fn what_serves_is_the_same_on_both_hosts_at_any_time() {
    let lamp = ["php-gd", "sites-available/futago.conf"];
    let zabbix = ["90-futago.conf\",\"mode", "zabbix.conf.php", "\"zabbix-agent\",\"state\":\"started"];
    let wordpress = ["wordpress-l10n", "config-default.php"];
    for (stack, words) in [("lamp", lamp.as_slice()), ("zabbix", &zabbix), ("wordpress", &wordpress)] {
        for first_start in [true, false] {
            for line in hosts_of(stack, first_start, words) {
                assert!(line.contains("ha-a") && line.contains("ha-b"), "{stack}: {line}");
            }
        }
    }
}

#[test]
fn zabbix_watches_the_pair_by_the_host_where_it_runs() {
    assert_eq!(hosts_of("zabbix", false, &["zabbix-pair.php\"]"]), ["zabbix-pair.php\"]: ha-a"]);
    assert_eq!(hosts_of("wordpress", false, &["zabbix"]), ["zabbix: "]);
}

#[test]
fn what_a_manager_shall_run_is_installed_before_it_hears_of_it() {
    let text = managed() + "stack: lamp\n";
    let project = Project::new([("ha.yml", text.as_str())]);
    let ran = pair("ha-b", false, changed).run(&project, apply(), &only_cluster());
    assert_eq!(ran.exit_code, exit::DONE, "{}", ran.text);
    let first = |what: &str| {
        let found = ran
            .steps
            .iter()
            .position(|(_, step)| !step.check && Value::from(step.args.clone()).to_string().contains(what));
        found.unwrap_or_else(|| panic!("{what}: {}", ran.text))
    };
    assert!(first("libapache2-mod-php") < first("\"current\""));
}

#[test]
fn a_stack_on_two_releases_is_refused_before_anything_is_done() {
    let (with, without) = (managed() + "stack: lamp\n", managed());
    let mixed = || pair("ha-a", false, changed).on_release("ha-a", "12").on_release("ha-b", "13");
    let ran = mixed().run(&Project::new([("ha.yml", with.as_str())]), apply(), &Selection::default());
    assert_eq!((ran.exit_code, ran.steps.len()), (exit::FAILED, 0), "{}", ran.text);
    let why = "ha-a runs debian 12 and ha-b runs debian 13: `stack: lamp` needs the same release on both";
    assert!(ran.text.contains(why), "{}", ran.text);
    // What somebody's own resources need is not known, and the witness may be what it likes.
    let ran = mixed().run(&Project::new([("ha.yml", without.as_str())]), apply(), &Selection::default());
    assert_eq!(ran.exit_code, exit::DONE, "{}", ran.text);
    let same = pair("ha-a", false, changed).on_release("ha-a", "13").on_release("ha-b", "13");
    let ran = same.run(&Project::new([("ha.yml", with.as_str())]), apply(), &Selection::default());
    assert_eq!(ran.exit_code, exit::DONE, "{}", ran.text);
}

#[test]
fn on_a_running_pair_the_standby_comes_first_and_no_data_is_touched() {
    let (_, ran) = run(&pair("ha-b", false, Outcome::default));
    assert_eq!(ran.exit_code, exit::DONE, "{}", ran.text);
    let current: Vec<String> = steps(&ran, &["cluster", "filesystem", "mount"])
        .into_iter()
        .filter(|s| !s.ends_with("joined") && !s.ends_with("unchanged"))
        .collect();
    assert_eq!(
        current,
        ["ha-a cluster bootstrapped", "ha-a cluster current", "ha-b cluster current", "ha-a cluster running"]
    );
    let changes = ran.recap().iter().all(|line| line.contains("changed=0"));
    assert!(changes, "{}", ran.text);
}

#[test]
fn another_stack_is_refused_before_anything_else_is_done_and_the_one_that_runs_is_kept_in_mind() {
    let text = managed() + "stack: zabbix\n";
    let project = Project::new([("ha.yml", text.as_str())]);
    let refusing = Pair::new(|host, step| {
        let is_other = host == "ha-b" && step.args.get("state") == Some(&json!("unchanged"));
        Ok(if is_other { failed("the stack of this pair is lamp") } else { changed() })
    });
    for (selection, options) in [(Selection::default(), apply()), (only_cluster(), check())] {
        let ran = refusing.run(&project, options, &selection);
        assert_eq!(ran.exit_code, exit::FAILED, "{}", ran.text);
        let asked = json!({"state": "unchanged", "stack": "zabbix"});
        assert!(ran.steps.iter().all(|(_, step)| Value::from(step.args.clone()) == asked), "{:?}", ran.steps);
    }
    let ran = pair("ha-b", false, Outcome::default).run(&project, apply(), &only_cluster());
    let place =
        |wanted: &dyn Fn(&Step) -> bool| ran.steps.iter().rposition(|(_, step)| wanted(step)).unwrap();
    let kept = place(&|step| step.args.get("content") == Some(&json!("zabbix")));
    assert!(place(&|step| step.args.get("state") == Some(&json!("running"))) < kept, "only what has run");
}

#[test]
fn keys_go_to_their_own_host_and_are_never_shown() {
    let (project, ran) = run(&pair("ha-a", true, changed));
    let keys: Vec<(&str, &str)> = ran
        .steps
        .iter()
        .filter(|(_, s)| s.args.get("dest") == Some(&json!("/etc/futago/tls/member.key")))
        .map(|(host, s)| (host.as_str(), s.args["content"].as_str().unwrap()))
        .collect();
    assert_eq!(keys.len(), 3);
    let stored = std::fs::read_to_string(project.path().join(".futago/identities.json")).unwrap();
    let stored: Value = serde_json::from_str(&stored).unwrap();
    for (host, key) in keys {
        assert_eq!(stored["members"][format!("{host}.example.com")]["key"], key);
        let line = key.lines().nth(1).unwrap();
        assert!(!ran.text.contains(line), "{}", ran.text);
    }
}

#[test]
fn a_plan_makes_no_certificates_and_says_that_they_are_not_known_yet() {
    let text = managed();
    let project = Project::new([("ha.yml", text.as_str())]);
    let ran = pair("ha-a", true, Outcome::default).run(&project, check(), &only_cluster());
    assert_eq!(ran.exit_code, exit::CHANGES, "{}", ran.text);
    assert!(!project.path().join(".futago").exists());
    assert!(
        ran.steps
            .iter()
            .all(|(_, s)| s.check && s.args.get("dest") != Some(&json!("/etc/futago/tls/ca.pem")))
    );
}

/// The files that the cluster's part writes onto ha-b: name, mode, content.
fn files_of_b(ran: &Ran) -> Vec<[String; 3]> {
    let text =
        |step: &Step, key: &str| step.args.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let copies = ran.steps.iter().filter(|(host, step)| host == "ha-b" && !step.check);
    let copies = copies.filter(|(_, step)| text(step, "dest").starts_with("/etc/futago/"));
    copies.map(|(_, step)| ["dest", "mode", "content"].map(|key| text(step, key))).collect()
}

#[test]
fn what_etcd_is_reached_with_is_written_where_only_root_reads_it_and_never_shown() {
    let pair_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["pair.example.com".to_owned()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let (certificate, key) = (params.self_signed(&pair_key).unwrap().pem(), pair_key.serialize_pem());
    let with = |section: &str| {
        let text = managed().replace("witness: {address: 203.0.113.13}\n", "");
        let text =
            text.replace("manager:\n", &format!("secrets: secrets.yml\nmanager:\n  etcd: {section}\n"));
        let project = Project::new([
            ("ha.yml", text.as_str()),
            ("etcd/ca.pem", &certificate),
            ("etcd/pair.pem", &certificate),
            ("etcd/pair.key", &key),
            ("secrets.yml", "etcd_password: tiger-and-dragon\n"),
        ]);
        let ran = pair("ha-a", true, changed).run(&project, apply(), &only_cluster());
        assert_eq!(ran.exit_code, exit::DONE, "{}", ran.text);
        ran
    };
    let files = "ca: etcd/ca.pem, cert: etcd/pair.pem, key: etcd/pair.key, user: futago";
    let ran = with(&format!("{{endpoints: [\"https://10.0.0.1:2379\"], {files}}}"));
    let written = files_of_b(&ran);
    for (name, content) in [
        ("ca.pem", certificate.as_str()),
        ("client.pem", &certificate),
        ("client.key", &key),
        ("password", "tiger-and-dragon"),
    ] {
        let file = written.iter().find(|[dest, ..]| *dest == format!("/etc/futago/etcd/{name}"));
        let [_, mode, text] = file.unwrap_or_else(|| panic!("{name} in {written:?}"));
        assert_eq!((mode.as_str(), text.trim_end()), ("0600", content.trim_end()), "{name}");
    }
    let [_, _, described] = written.iter().find(|[dest, ..]| dest.ends_with("cluster.yml")).unwrap();
    let settings = "etcd: {\"endpoints\": [\"https://10.0.0.1:2379\"], \"ca\": \"/etc/futago/etcd/ca.pem\", \
                    \"cert\": \"/etc/futago/etcd/client.pem\", \"key\": \"/etc/futago/etcd/client.key\", \
                    \"user\": \"futago\", \"password_file\": \"/etc/futago/etcd/password\"}";
    assert!(described.contains(settings), "{described}");
    let secret = key.lines().nth(1).unwrap();
    assert!(!ran.text.contains(secret) && !ran.text.contains("tiger-and-dragon"), "{}", ran.text);

    let plain = with("{endpoints: [\"http://10.0.0.1:2379\"]}");
    assert!(!files_of_b(&plain).iter().any(|[dest, ..]| dest.contains("/etcd/")));
}
