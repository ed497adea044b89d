//! Two nodes with the real engine in a simulated world, from a seed: thousands of runs with crashes, power
//! cuts, cut links and administrators; after each, nothing that was promised is lost. And each rule that is broken
//! on purpose must be noticed.
//!
//! `SIM_SEED=n cargo test --test sim` replays one run and prints its story.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    dead_code,
    reason = "a test's own world, small numbers; shared with the scenarios"
)]

mod broken_rules;
mod disk;
mod interleavings;
mod managed_pair;
mod model;
#[path = "../pair/mod.rs"]
mod pair;
mod play;
mod rng;
mod rollback;
mod rot;
mod undo;
mod world;

pub(crate) use pair::{client, cluster as managed, host, net, setup};

use play::Play;
use world::Sabotage;

/// Seeds of a normal test run.
const SEEDS: u64 = 400;
/// Faults and commands in a run.
const STEPS: u64 = 60;

/// Plays a history; how many rollbacks it had, and Primaries whose program was exchanged, or was killed and
/// followed; and whether the device has grown.
fn run(seed: u64, sabotage: Option<Sabotage>) -> Result<[u32; 4], String> {
    let mut play = Play::new(seed);
    play.world.sabotage = sabotage;
    match play.run(STEPS) {
        Ok(()) => Ok([play.rolled_back, play.exchanged, play.bereaved, play.world.has_grown().into()]),
        Err(text) => {
            let lines = if std::env::var_os("SIM_SEED").is_some() { usize::MAX } else { 40 };
            let tail = play.world.log.len().saturating_sub(lines);
            Err(format!("seed {seed}: {text}\n{}", play.world.log[tail..].join("\n")))
        }
    }
}

#[test]
fn nothing_promised_is_lost_whatever_fails() {
    if let Ok(seed) = std::env::var("SIM_SEED") {
        if let Err(story) = run(seed.parse().unwrap(), None) {
            panic!("{story}");
        }
        return;
    }
    let started = std::time::Instant::now();
    let seeds = std::env::var("SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(SEEDS);
    let mut happened = [0; 4];
    for seed in 1..=seeds {
        let some = run(seed, None).unwrap_or_else(|story| panic!("{story}"));
        happened.iter_mut().zip(some).for_each(|(all, some)| *all += some);
    }
    let [rollbacks, exchanges, kills, grown] = happened;
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds, {rollbacks} rollbacks, {exchanges} exchanges, {kills} kills under a device, {grown} devices grown in {seconds:.1} s"
    );
    assert!(happened.iter().all(|times| *times > 0), "what never happens is not tested");
}
