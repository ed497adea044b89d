//! `futago lab drill` as a whole: a drill on real hosts, its record, its page, and nothing left. And `futago drill`, on a pair
//! that is there already.

use std::fs;
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Lab, every_drill, futago, output, possible, signal};
use crate::managed::{Managed, other};

#[test]
fn a_drill_loses_no_row_and_its_report_says_where_the_time_went() {
    // In a normal run the demonstration of Zabbix does drills, and reports them.
    if !possible() || !every_drill() {
        return;
    }
    let lab = Lab::named();
    let folder = tempfile::tempdir().expect("make a folder");
    let place = folder.path().join("reports");
    let words =
        ["switchover", "--stack", "wordpress", "--json", "--report", place.to_str().expect("a path of text")];
    let output = output(lab.command("drill", &words));
    let (stdout, talk) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{talk}\n{stdout}", output.status);
    assert!(talk.contains("WordPress: \"ha.example.com\", 1 post(s), admin can log in"), "{talk}");
    let record: Value = serde_json::from_str(stdout.trim_end()).expect("one object");
    assert_unbroken(&record["drills"][0]);

    let kept = fs::read_to_string(place.join("drill-wordpress.json")).expect("read the record");
    assert_eq!(serde_json::from_str::<Value>(&kept).expect("an object"), record);
    let page = fs::read_to_string(place.join("drill-wordpress.html")).expect("read the page");
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"), "{page}");
    assert_eq!(page.matches("<svg ").count(), 2, "requests and parts of the outage");
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

fn assert_unbroken(drill: &Value) {
    let number = |pointer: &str| drill.pointer(pointer).and_then(Value::as_f64).expect(pointer);
    assert_eq!((&drill["name"], &drill["passed"]), (&Value::from("switchover"), &Value::from(true)));
    assert!(number("/rows/acknowledged") > 100.0 && number("/rows/lost") == 0.0, "{}", drill["rows"]);
    assert_eq!(drill["rows"]["checked"], drill["rows"]["acknowledged"]);
    assert_eq!(drill["audit"]["moves"], 1, "{}", drill["audit"]);
    // Every request is there, and the parts of the outage are all of it.
    let requests = drill["requests"].as_array().expect("requests");
    let answered = requests.iter().filter(|request| request[1].is_number()).count();
    assert_eq!(Some(answered), number_of(&drill["rows"]["acknowledged"]));
    assert_eq!(Some(requests.len() - answered), number_of(&drill["errors"]["total"]));
    let parts = drill["outage"]["parts"].as_array().expect("parts");
    let names: Vec<&str> = parts.iter().filter_map(|part| part["name"].as_str()).collect();
    let expected = ["database: stop", "promote the replica", "mount the file system", "web server: start"];
    let mut found = names.iter();
    assert!(expected.iter().all(|part| found.any(|name| name == part)), "{names:?}");
    assert!(drill["unread"].as_array().is_some_and(Vec::is_empty), "{}", drill["unread"]);
}

fn number_of(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}

#[test]
fn a_report_that_cannot_be_kept_is_refused_before_a_lab_is_made() {
    if !possible() {
        return;
    }
    let lab = Lab::named();
    let file = tempfile::NamedTempFile::new().expect("make a file");
    let path = file.path().to_str().expect("a path of text");
    let output = output(lab.command("drill", &["switchover", "--report", path]));
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{talk}");
    assert!(talk.contains(path) && talk.contains("--report") && !talk.contains("booted"), "{talk}");
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

/// Drills on a pair that serves: there and back, refused where they must be, and taken back when somebody has enough.
pub(crate) fn on_a_real_pair(pair: &Managed) {
    let active = pair.active();
    let nobody = refused(pair, &["switchover"], 1);
    assert!(nobody.contains("there is no terminal to ask on; add --yes"), "{nobody}");
    let power = refused(pair, &["power-loss", "--yes"], 64);
    assert!(power.contains("futago lab drill power-loss"), "{power}");

    let folder = tempfile::tempdir().expect("make a folder");
    let place = folder.path().to_str().expect("a path of text");
    let done = output(real(pair, &["switchover", "manager-stop", "--yes", "--json", "--report", place]));
    let (stdout, talk) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{}\n{talk}\n{stdout}", done.status);
    let record: Value = serde_json::from_str(stdout.trim_end()).expect("one object");
    let drills = record["drills"].as_array().expect("drills");
    assert_eq!((record["client"]["asks_for"].as_str(), drills.len()), (Some("pages"), 2), "{talk}");
    for drill in drills {
        assert_eq!(
            (&drill["passed"], &drill["rows"]["lost"]),
            (&Value::from(true), &Value::from(0)),
            "{drill}"
        );
        assert!(drill["rows"]["checked"].as_u64() > Some(20), "{}", drill["rows"]);
        let parts = drill["outage"]["parts"].as_array().expect("parts");
        assert!(parts.iter().any(|part| part["name"] == "promote the replica"), "{}", drill["outage"]);
    }
    let page = fs::read_to_string(folder.path().join("drill-ha.example.com.html")).expect("read the page");
    assert_eq!(page.matches("<svg ").count(), 4, "requests and parts of both outages");
    assert_eq!(pair.active(), active, "there and back");
    assert_clean(pair);

    given_up(pair, other(active));
    pair.cluster(active, &format!("standby {}", other(active)));
    let unfit = refused(pair, &["switchover", "--yes"], 1);
    assert!(unfit.contains("not PROTECTED") && unfit.contains("is in standby"), "{unfit}");
    pair.cluster(active, &format!("online {}", other(active)));
    pair.until_protected();
}

/// Ctrl-C while the standby is stopped: it is started again first.
fn given_up(pair: &Managed, standby: &str) {
    let mut command = real(pair, &["standby-loss", "resync", "--yes"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut drill = command.spawn().expect("start futago");
    pair.until("the standby is stopped", || {
        let stopped = pair.lab.try_in(standby, "! systemctl --quiet is-active futago-replicad");
        stopped.status.success() || drill.try_wait().expect("look at the drill").is_some()
    });
    signal(Signal::INT, drill.id());
    assert_eq!(drill.wait().expect("reap the drill").code(), Some(130));
    pair.until_verdict(standby, "PROTECTED");
    assert_clean(pair);
}

fn assert_clean(pair: &Managed) {
    assert_eq!(pair.lab.run_in(pair.active(), "mariadb --execute \"SHOW DATABASES LIKE 'futago%'\""), "");
}

fn real(pair: &Managed, words: &[&str]) -> Command {
    let mut command = futago();
    command.arg("drill").args(words).arg("-i").arg(pair.lab.folder().join("inventory.yml"));
    command
}

/// What a drill says that ends with this exit code.
fn refused(pair: &Managed, words: &[&str], code: i32) -> String {
    let Output { status, stderr, .. } = output(real(pair, words));
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(code), "{said}");
    said
}
