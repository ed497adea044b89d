//! Backup and restore of what a stack keeps, on scripted hosts: where and in which order.

use provision::plan::Selection;
use provision::protocol::{Outcome, Step};
use provision::runner::exit;
use serde_json::{Value, json};

use crate::project::{Project, managed};
use crate::scripted::{Pair, Ran, apply, changed};

/// A run on a pair whose stack runs on ha-a, with these lines in its inventory besides.
fn run(first_start: bool, more: &str) -> Ran {
    let text = format!("{}stack: zabbix\n{more}", managed());
    let project = Project::new([("ha.yml", text.as_str())]);
    let pair = Pair::new(move |host, step| {
        let Value::Object(data) = json!({"here": host == "ha-a", "first_start": first_start}) else {
            unreachable!()
        };
        Ok(if step.module == "cluster" { Outcome { data, ..Outcome::default() } } else { changed() })
    });
    let selection = Selection { tags: vec!["cluster".into()], ..Selection::default() };
    let ran = pair.run(&project, apply(), &selection);
    assert_eq!(ran.exit_code, exit::DONE, "{}", ran.text);
    ran
}

/// The steps whose arguments contain a word: their position and host.
fn having(ran: &Ran, word: &str) -> Vec<(usize, String)> {
    let has = |step: &Step| !step.check && Value::from(step.args.clone()).to_string().contains(word);
    let all = ran.steps.iter().enumerate();
    all.filter(|(_, (_, step))| has(step)).map(|(at, (host, _))| (at, host.clone())).collect()
}

fn hosts(ran: &Ran, word: &str) -> Vec<String> {
    let mut hosts: Vec<String> = having(ran, word).into_iter().map(|(_, host)| host).collect();
    hosts.sort();
    hosts
}

#[test]
fn both_hosts_make_backups_from_the_time_that_the_stack_runs() {
    for first_start in [true, false] {
        let ran = run(first_start, "");
        for word in
            ["mkdir --parents", "OnCalendar=*-*-* 03:30:00", "\"futago-backup.timer\",\"state\":\"started"]
        {
            assert_eq!(hosts(&ran, word).len(), 2, "{word}");
        }
        let running = having(&ran, "\"running\"")[0].0;
        assert!(having(&ran, "OnCalendar").iter().all(|(at, _)| *at > running));
        assert_eq!(hosts(&ran, "disable"), [""; 0]);
    }
    let own =
        run(false, "backup: {at: \"23:05\", keep: 3, directory: /mnt/nas, then: /usr/local/bin/away}\n");
    for word in [
        "OnCalendar=*-*-* 23:05:00",
        "keep=3\\n",
        "directory='/mnt/nas'",
        "'/usr/local/bin/away' \\\"$whole\\\"",
    ] {
        assert_eq!(hosts(&own, word), ["ha-a", "ha-b"], "{word}");
    }
}

#[test]
fn switched_off_they_are_made_no_more() {
    let ran = run(false, "backup: off\n");
    assert_eq!(hosts(&ran, "\"disable\",\"--now\",\"futago-backup.timer\""), ["ha-a", "ha-b"]);
    assert_eq!(hosts(&ran, "/etc/systemd/system/futago-backup.service"), ["ha-a", "ha-b"]);
    assert_eq!((hosts(&ran, "Backup of"), hosts(&ran, "mariadb-backup")), (vec![], vec![]));
}

#[test]
fn a_new_pair_begins_with_its_backup_instead_of_nothing() {
    let ran = run(true, "restore: /root/ha.example.com-1\n");
    let at = |word: &str| {
        let found = having(&ran, word);
        assert!(!found.is_empty() && found.iter().all(|(_, host)| host == "ha-a"), "{word}: {found:?}");
        found[0].0
    };
    let restore = at("restore.sh\",\"/root/ha.example.com-1");
    assert!(restore < at("mariadb-install-db") && restore < at("\"path\":\"/srv/data/sessions\""));
    assert!(having(&ran, "\"mariadb-backup\",\"zstd\"")[0].0 < restore);
    assert_eq!(hosts(&ran, "index.php"), [""; 0], "the page is the one of the backup");
    assert_eq!(hosts(&run(true, ""), "/srv/data/restoring"), ["ha-a"], "half a restore is met");
}

#[test]
fn a_pair_with_data_is_not_restored_and_says_so() {
    let ran = run(false, "restore: /root/ha.example.com-1\n");
    assert_eq!(hosts(&ran, "restore.sh\",\"/root"), [""; 0]);
    let said = |ran: &Ran| {
        let lines = ran
            .text
            .lines()
            .filter(|line| line.contains("Restore nothing, for this pair has its data already"));
        lines.filter(|line| line.contains("ha-a") && !line.starts_with("skipped")).count()
    };
    assert_eq!((said(&ran), said(&run(false, "")), said(&run(true, "restore: /root/x\n"))), (1, 0, 0));
}
