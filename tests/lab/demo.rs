//! The article's walk-through from bare hosts to the resync after a power cut, as the program itself shows it.

use serde_json::Value;

use rustix::process::Signal;

use crate::harness::{Lab, every_drill, output, possible, signal, until};

/// Tells a story to its end and returns what came of it.
fn story(lab: &Lab, words: &[&str]) -> Value {
    let output = output(lab.command("demo", &[words, &["--json"]].concat()));
    let stdout = String::from_utf8_lossy(&output.stdout);
    let story = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{story}\n{stdout}", output.status);
    let last: Value = serde_json::from_str(stdout.lines().next_back().expect("a line")).expect("an object");
    assert_eq!(last["result"], "pass");
    assert!(steps(&last).iter().all(|step| step["ok"] == true && step["seconds"].is_f64()), "{last}");
    last
}

fn steps(told: &Value) -> &[Value] {
    told["steps"].as_array().expect("steps")
}

#[test]
fn the_demonstration_passes_and_leaves_nothing() {
    if !possible() {
        return;
    }
    let lab = Lab::named();
    assert!(steps(&story(&lab, &[])).len() > 10);
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[test]
fn the_demonstration_of_a_service_loses_no_row_and_leaves_nothing() {
    if !possible() || !every_drill() {
        return;
    }
    let lab = Lab::named();
    let folder = tempfile::tempdir().expect("make a folder");
    let told =
        story(&lab, &["--stack", "zabbix", "--report", folder.path().to_str().expect("a path of text")]);
    let steps = steps(&told);
    let with = |end: &str| {
        let shown = |step: &&Value| step["shown"].as_str().is_some_and(|shown| shown.contains(end));
        steps.iter().filter(shown).count()
    };
    assert_eq!(with("none lost"), 4, "{steps:?}");
    assert_eq!(with("ha-a.example.com available, ha-b.example.com available"), 1, "{steps:?}");
    let page = std::fs::read_to_string(told["drills"].as_str().expect("a page")).expect("read the page");
    assert_eq!(page.matches("class=\"good\">ok</span></h2>").count(), 4, "every fault has its part");
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[test]
fn an_interrupted_demonstration_exits_with_130_and_leaves_nothing() {
    if !possible() {
        return;
    }
    let lab = Lab::named();
    let mut demo = lab.start("demo", &[]);
    until("the provisioner's log", || {
        lab.folder().join(".futago").exists() || demo.try_wait().expect("look at demo").is_some()
    });
    signal(Signal::INT, demo.id());
    assert_eq!(demo.wait().expect("reap demo").code(), Some(130));
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}
