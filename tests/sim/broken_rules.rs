//! Each rule of replication that is broken on purpose must be noticed, by the symptom that proves it.

use crate::world::Sabotage;
use Sabotage::*;

/// A broken rule is noticed within so many seeds.
const SEEDS: u64 = 4000;

/// The answered write that is missing, the flushed one that is not durable.
const ANSWERED: &str = "is answered, ha-";
const FLUSHED: &str = "is flushed, durable on ha-";
const DIFFER: &str = "both UpToDate, but block";
const MIX: &str = "calls a mix of old and new blocks consistent";
const GONE: &str = "promised writes are gone";
const GROWN: &str = "grows, but block";
const MERGED: &str = "two lines of data became one without a word";

/// Every rule, and what its breach must be noticed by.
const RULES: &[(Sabotage, &[&str])] = &[
    (ConfirmsEarly, &[ANSWERED]),
    (WritesLate, &[ANSWERED]),
    (ReadsElsewhere, &[": a read of block"]),
    (SkipsPeerFlush, &[FLUSHED]),
    (ConfirmsFlushEarly, &[FLUSHED]),
    (SkipsFlush, &[FLUSHED]),
    (SkipsMetaFlush, &[DIFFER, MIX]),
    (SkipsActivityLog, &[DIFFER]),
    (ForgetsMarks, &[DIFFER]),
    (HidesMarks, &[DIFFER]),
    (ClearsEarly, &[DIFFER]),
    (OvertakesWrites, &[DIFFER]),
    (SkipsInconsistent, &[MIX]),
    (SkipsGeneration, &[GONE, MERGED]),
    (SkipsPrimary, &[DIFFER]),
    (SkipsCrash, &[GONE]),
    (SkipsSurvival, &[GONE]),
    (SkipsOutdated, &["has forgotten that it is Outdated"]),
    (GrantsEverybody, &["both nodes are Primary and connected"]),
    (GrantsEveryLoss, &["no node has usable data any more"]),
    (SavesLate, &["was not rolled back"]),
    (ForgetsUndone, &[DIFFER]),
    (GivesUp, &[GONE, MERGED]),
    (RepeatsBackwards, &[ANSWERED, DIFFER, GONE]),
    (RepeatsNothing, &[ANSWERED]),
    (ComparesNothing, &[GROWN]),
];

#[test]
fn every_broken_rule_is_noticed() {
    let started = std::time::Instant::now();
    let unnoticed: Vec<_> = RULES.iter().filter(|(rule, symptoms)| !is_noticed(*rule, symptoms)).collect();
    println!("{} broken rules in {:.1} s", RULES.len(), started.elapsed().as_secs_f64());
    assert!(unnoticed.is_empty(), "not noticed in {SEEDS} seeds: {unnoticed:?}");
}

/// Searches for the symptom. Another one does not count, nor does an engine that panics or a pair that never comes
/// to agree again: the rule would not be proved.
fn is_noticed(rule: Sabotage, symptoms: &[&str]) -> bool {
    let story = (1..=SEEDS).find_map(|seed| {
        let story = std::panic::catch_unwind(|| crate::run(seed, Some(rule))).ok()?.err()?;
        let first = story.lines().next().unwrap_or_default();
        symptoms.iter().any(|symptom| first.contains(symptom)).then(|| first.to_owned())
    });
    println!("{rule:?}: {}", story.as_deref().unwrap_or("not noticed"));
    story.is_some()
}
