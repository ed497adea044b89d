//! Scenarios: scripted faults in virtual time, and the log that must come of them. One folder each:
//! `script` says what happens, `expected` is the log, line by line with its times.
//!
//! `FUTAGO_BLESS=1 cargo test --test scenario` writes the expected logs anew: read the difference.
//! `SCENARIO=name` runs one and prints its log.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    dead_code,
    reason = "a test's own world, small numbers; shared with the simulator"
)]

#[path = "../sim/disk.rs"]
mod disk;
#[path = "../sim/model.rs"]
mod model;
#[path = "../pair/mod.rs"]
mod pair;
#[path = "../sim/rng.rs"]
mod rng;
mod script;
mod sweep;
#[path = "../sim/undo.rs"]
mod undo;
#[path = "../sim/world.rs"]
mod world;

pub(crate) use pair::{client, cluster as managed, host, net, setup};

use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenario")
}

fn scenarios() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).unwrap();
    let mut found: Vec<PathBuf> =
        entries.map(|e| e.unwrap().path()).filter(|p| p.join("script").is_file()).collect();
    found.sort();
    found
}

#[test]
fn every_scenario_goes_as_expected() {
    let wanted = std::env::var("SCENARIO").ok();
    let bless = std::env::var_os("FUTAGO_BLESS").is_some();
    let mut failures = Vec::new();
    for path in scenarios() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if wanted.as_ref().is_some_and(|w| *w != name) {
            continue;
        }
        let text = std::fs::read_to_string(path.join("script")).unwrap();
        let started = std::time::Instant::now();
        let outcome = script::run(&text);
        eprintln!("{:>6} ms {name}", started.elapsed().as_millis());
        if wanted.is_some() {
            println!("{}", outcome.log);
        }
        if let Err(problem) = outcome.result {
            failures.push(format!("{name}: {problem}\n{}", outcome.log));
            continue;
        }
        let expected = path.join("expected");
        if bless {
            std::fs::write(&expected, &outcome.log).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != outcome.log {
            failures.push(format!("{name}: the log is not the expected one; it is now:\n{}", outcome.log));
        }
    }
    assert!(failures.is_empty(), "{} scenarios failed\n{}", failures.len(), failures.join("\n"));
}
