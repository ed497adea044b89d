//! Golden texts: what an operator reads in each situation, at 80 columns without colours.

use std::path::Path;

use cluster::member::Node;

use super::page::{COLUMNS, Page};
use super::tone::Paint;
use super::words::Names;
use super::{history, loss, plan, sample, status, timings, why};
use crate::history::{Entry, What};

/// Compares with `golden/NAME.txt`; `FUTAGO_BLESS=1` writes it anew.
pub(crate) fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("view/golden").join(format!("{name}.txt"));
    if std::env::var_os("FUTAGO_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{}; FUTAGO_BLESS=1 writes it anew", path.display());
}

fn page(write: impl FnOnce(&mut Page)) -> String {
    let mut page = Page::new(COLUMNS, Paint(false));
    write(&mut page);
    page.finish()
}

fn narrow(text: &str) {
    let wide: Vec<_> = text.lines().filter(|line| line.chars().count() > COLUMNS).collect();
    assert!(wide.is_empty(), "wider than {COLUMNS} columns: {wide:#?}");
}

#[test]
fn status_tells_every_situation_within_80_columns() {
    for (name, sample) in [
        ("status-protected", sample::protected()),
        ("status-standby-lost", sample::standby_lost()),
        ("status-standby-refuses", sample::standby_refuses()),
        ("status-resync", sample::resync()),
        ("status-witness-lost", sample::witness_lost()),
        ("status-held", sample::held()),
        ("status-down", sample::down()),
        ("status-no-record", sample::no_record()),
        ("status-booted-alone", sample::booted_alone()),
    ] {
        let text = page(|page| status::write(page, &sample));
        narrow(&text);
        golden(name, &text);
    }
}

#[test]
fn a_witness_that_a_standby_asks_seldom_is_not_called_silent() {
    let mut sample = sample::protected();
    sample.witness_heard_ms_ago = Some(sample.timing.peer_silence_ms + 500);
    let text = page(|page| status::write(page, &sample));
    assert!(text.contains("witness      votes"), "{text}");
}

#[test]
fn what_a_silent_host_said_last_is_not_told_as_if_it_were_so_now() {
    let mut sample = sample::standby_lost();
    let peer = sample.peer.as_mut().unwrap();
    peer.health.problems = vec!["the link of eth0 is down".to_owned()];
    let text = page(|page| status::write(page, &sample));
    assert!(!text.contains("eth0") && !text.contains("in sync"), "{text}");
}

#[test]
fn why_tells_each_problem_once() {
    let mut sample = sample::held();
    // The core has it among its own reasons, without the host's name.
    sample.why.extend(sample.local.health.problems.clone());
    let text = page(|page| why::write(page, &sample));
    assert_eq!(text.matches("203.0.113.1 does not answer").count(), 1, "{text}");
}

#[test]
fn the_json_keeps_its_keys() {
    let text = serde_json::to_string_pretty(&sample::resync()).unwrap() + "\n";
    golden("status-resync-json", &text);
}

#[test]
fn why_tells_the_decision_and_what_it_rests_on() {
    for (name, sample) in [("why-standby-lost", sample::standby_lost()), ("why-held", sample::held())] {
        let text = page(|page| why::write(page, &sample));
        narrow(&text);
        golden(name, &text);
    }
}

#[test]
fn a_plan_has_a_heading_and_numbers_its_steps_only() {
    let steps = ["ha-a: stop address", "ha-a: the device becomes Secondary"].map(str::to_owned);
    let text = page(|page| plan::write(page, Some("switchover"), &steps));
    assert_eq!(
        text,
        "futago cluster switchover:\n  1. ha-a: stop address\n  2. ha-a: the device becomes Secondary\n"
    );
}

#[test]
fn timings_come_with_their_sentences_and_inequalities() {
    let timing = sample::protected().timing;
    let text = page(|page| assert!(timings::write(page, &timing)));
    narrow(&text);
    golden("timings-default", &text);
    let fast = cluster::timing::Timing::derive(cluster::timing::Timing::FAST_MS, 600_000).unwrap();
    let text = page(|page| assert!(timings::write(page, &fast)));
    narrow(&text);
    golden("timings-fast", &text);
}

#[test]
fn history_shows_the_steps_of_a_move_as_bars() {
    let at = |minute: u32| format!("2026-11-24T23:{minute:02}:24Z");
    let decision = |level, text: &str| What::Decision { level, text: text.to_owned() };
    let entries = [
        Entry { at: at(1), what: decision(cluster::event::LogLevel::Warn, "ha-a is silent on every path") },
        Entry {
            at: at(2),
            what: What::Move(sample::moved("takeover", 4, Some(Node::A), 0, "ha-a is silent")),
        },
        Entry { at: at(3), what: decision(cluster::event::LogLevel::Info, "ha-a is back as standby") },
    ];
    let names = Names::of(&sample::protected());
    let text = page(|page| history::write(page, &entries, &names));
    narrow(&text);
    golden("history", &text);
}

#[test]
fn a_host_that_holds_every_write_loses_nothing_by_force() {
    assert_eq!(loss::of_force(&sample::protected(), Node::B), Vec::<String>::new());
}

#[test]
fn of_two_hosts_one_alone_cannot_say_that_nothing_is_lost() {
    let text = loss::of_force(&sample::booted_alone(), Node::A).join("\n");
    golden("loss-booted-alone", &(text + "\n"));
    let mut heard = sample::protected();
    heard.quorum = cluster::config::Quorum::Manual;
    assert_ne!(loss::of_force(&heard, Node::B), Vec::<String>::new());
}

#[test]
fn force_says_what_may_be_lost() {
    golden("loss", &(loss::of_force(&sample::standby_lost(), Node::B).join("\n") + "\n"));
}
