//! Every interleaving within bounds: the rules of the record and of replication ([`rules`]), and the bundled
//! register itself ([`register`]). `MODEL_BOUNDS=large` looks farther.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod register;
mod rules;

use register::{Fate, Voters};
use rules::{Bounds, Dropped, Rules};
use stateright::{Checker, HasDiscoveries, Model};

fn large() -> bool {
    std::env::var("MODEL_BOUNDS").is_ok_and(|bounds| bounds == "large")
}

/// Nothing is violated in the whole bounded space.
fn holds(bounds: Bounds) {
    let checker = Rules { dropped: Dropped::Nothing, bounds }.checker().threads(1).spawn_bfs().join();
    eprintln!("{bounds:?}: {} states", checker.unique_state_count());
    checker.assert_properties();
}

/// Without this rule there is a counterexample.
fn missed(dropped: Dropped, bounds: Bounds) {
    let model = Rules { dropped, bounds };
    let checker = model.checker().threads(1).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let found = checker.discoveries();
    let names = ["no acknowledged write is lost", "no two writers"];
    let states = checker.unique_state_count();
    let path = names.iter().find_map(|name| found.get(name));
    let Some(path) = path else { panic!("nobody misses {dropped:?} in {states} states of {bounds:?}") };
    eprintln!("{dropped:?}, found in {states} states:");
    for step in path.clone().into_actions() {
        eprintln!("  {step:?}");
    }
}

const fn bounds(writes: u8, versions: u64, crashes: u8, repeats: u8, timeouts: u8) -> Bounds {
    Bounds { writes, versions, crashes, repeats, timeouts }
}

/// Looked at wholly in every test run.
const SMALL: [Bounds; 3] = [bounds(2, 5, 0, 0, 0), bounds(2, 3, 1, 0, 0), bounds(1, 4, 0, 0, 1)];
/// Looked at wholly before a release.
const LARGE: [Bounds; 5] = [
    bounds(2, 4, 1, 0, 0),
    bounds(2, 4, 0, 1, 1),
    bounds(1, 4, 1, 0, 1),
    bounds(1, 5, 0, 1, 1),
    bounds(1, 4, 2, 0, 0),
];
/// Far enough for what is missed.
const FAR: Bounds = bounds(1, 4, 1, 0, 1);

#[test]
fn no_acknowledged_write_is_lost_and_no_two_nodes_write() {
    holds(SMALL[0]);
    holds(SMALL[1]);
    holds(SMALL[2]);
    if large() {
        LARGE.into_iter().for_each(holds);
    }
}

/// The register's line of records never forks.
fn one_line(fate: Fate, operations: u8, in_flight: usize) {
    // Depth first: what waits to be looked at are whole stores, too many of them for a breadth.
    let checker = Voters { fate, operations, in_flight }.checker().threads(1).spawn_dfs().join();
    let states = checker.unique_state_count();
    eprintln!("{fate:?}, {operations} operations each, {in_flight} messages under way: {states} states");
    checker.assert_properties();
}

#[test]
fn the_registers_records_form_one_line() {
    one_line(Fate::Keeps, 1, 4);
    one_line(Fate::Keeps, 2, 2);
    one_line(Fate::LosesStore, 1, 3);
    if large() {
        one_line(Fate::Keeps, 2, 3);
        one_line(Fate::LosesStore, 1, 5);
        one_line(Fate::LosesStore, 2, 2);
    }
}

#[test]
fn missed_a_witness_that_does_not_go_back_unnoticed() {
    let model = Voters { fate: Fate::Restored, operations: 1, in_flight: 4 };
    let checker = model.checker().threads(1).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    assert!(
        checker.discoveries().contains_key("one line of records"),
        "{} states",
        checker.unique_state_count()
    );
}

#[test]
fn missed_lone_acknowledgements_only_after_the_commit() {
    missed(Dropped::AckBeforeCommit, FAR);
}

#[test]
fn missed_the_fence_of_a_bidder() {
    missed(Dropped::NoFence, bounds(2, 3, 1, 0, 0));
}

#[test]
fn missed_a_fence_that_survives_a_crash() {
    missed(Dropped::FenceInRam, bounds(2, 3, 1, 0, 0));
}

#[test]
fn missed_the_fence_that_contact_with_a_newer_term_raises() {
    missed(Dropped::FenceNotRaised, bounds(2, 4, 1, 0, 0));
}

#[test]
fn missed_that_only_synced_nodes_bid() {
    missed(Dropped::PromoteOutsider, FAR);
}

#[test]
fn missed_that_the_version_is_compared() {
    missed(Dropped::CompareContent, Bounds { versions: 5, crashes: 0, ..FAR });
}

#[test]
fn missed_both_must_acknowledge_before_rejoin_is_proposed() {
    missed(Dropped::RejoinWhileLone, FAR);
}

#[test]
fn missed_that_a_proposer_checks_its_term() {
    missed(Dropped::TermUnchecked, FAR);
}

#[test]
fn missed_that_only_a_committed_change_resolves_what_is_unknown() {
    missed(Dropped::PlainRead, FAR);
}

#[test]
fn missed_that_answers_are_matched_by_request() {
    missed(Dropped::AnswerByKind, Bounds { versions: 5, crashes: 0, repeats: 1, timeouts: 0, ..FAR });
}

#[test]
fn missed_a_witness_that_remembers() {
    missed(Dropped::WitnessForgets, FAR);
}
