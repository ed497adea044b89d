//! One rule a test, in calm weather.

use cluster::config::Quorum;
use cluster::member::{Node, Nodes, Voter};
use cluster::record::{LEAP, Record, Term, leap_beyond};
use cluster::store::{LeaseRule, Op, Outcome};

use crate::bundled::OfBundled;
use crate::world::{CALM, World};

const A: Node = Node::A;
const B: Node = Node::B;

fn world(quorum: Quorum) -> World<OfBundled> {
    World::new(OfBundled { quorum }, 1, CALM)
}

pub(crate) fn swap(base: &Record, next: Record, lease: LeaseRule) -> Op {
    Op::Swap { expect: base.version, record: next, lease }
}

pub(crate) fn committed(outcome: Outcome) -> Record {
    match outcome {
        Outcome::Committed(record) => record,
        other => panic!("not committed: {other:?}"),
    }
}

/// A cluster whose primary is A, with both up to date and a running lease.
fn running(quorum: Quorum) -> (World<OfBundled>, Record) {
    let mut world = world(quorum);
    let first = Record::created(A);
    let first = committed(world.call(A, 1, swap(&Record::default(), first, LeaseRule::Whatever)));
    let both = first.rejoined(A, Term(1)).unwrap();
    let both = committed(world.call(A, 2, swap(&first, both, LeaseRule::Whatever)));
    // Every grantor has restarted; let that be over.
    let later = world.now + 4_000;
    world.run_until(later);
    assert!(matches!(world.call(A, 3, Op::Renew { term: Term(1) }), Outcome::Renewed { .. }));
    (world, both)
}

#[test]
fn the_first_record_needs_every_voter() {
    let mut world = world(Quorum::Witness);
    world.cut_off(Voter::A, Voter::Witness);
    let create = swap(&Record::default(), Record::created(A), LeaseRule::Whatever);
    assert!(matches!(world.call(A, 1, create.clone()), Outcome::NoMajority { .. }));
    world.cut.clear();
    let record = committed(world.call(A, 2, create.clone()));
    assert!(record.witness.is_some(), "the witness is named");
    assert_eq!(world.call(B, 1, create), Outcome::Conflict(record.clone()));
    assert_eq!(committed(world.call(B, 2, Op::Read)), record);
}

#[test]
fn a_takeover_waits_for_the_lease_and_takes_the_newest_record() {
    let (mut world, record) = running(Quorum::Witness);
    assert!(matches!(world.call(B, 1, Op::PreVote), Outcome::Leased { .. }));
    let bid = swap(&record, record.taken_over(B).unwrap(), LeaseRule::MustBeOver);
    assert!(matches!(world.call(B, 2, bid.clone()), Outcome::Leased { .. }));
    assert!(matches!(world.call(A, 9, Op::Renew { term: Term(1) }), Outcome::Renewed { .. }), "undisturbed");
    world.crash(Voter::A);
    let later = world.now + 3_200;
    world.run_until(later);
    assert_eq!(world.call(B, 3, Op::PreVote), Outcome::WouldGrant(record));
    let taken = committed(world.call(B, 4, bid));
    assert_eq!((taken.term, taken.primary, taken.synced), (Term(2), Some(B), Nodes::only(B)));
    world.start(Voter::A);
    assert_eq!(world.call(A, 9, Op::Renew { term: Term(1) }), Outcome::Conflict(taken));
}

#[test]
fn a_goodbye_lets_the_peer_in_at_once() {
    let (mut world, record) = running(Quorum::Witness);
    assert_eq!(world.call(A, 9, Op::Release { term: Term(1) }), Outcome::Released);
    let bid = swap(&record, record.taken_over(B).unwrap(), LeaseRule::MustBeOver);
    assert_eq!(committed(world.call(B, 1, bid)).primary, Some(B));
}

#[test]
fn a_witness_that_lost_its_store_votes_again_only_when_both_data_nodes_have_admitted_it() {
    let (mut world, record) = running(Quorum::Witness);
    world.crash(Voter::Witness);
    world.wipe(Voter::Witness);
    world.start(Voter::Witness);
    world.crash(Voter::A);
    let later = world.now + 4_000;
    world.run_until(later);
    assert!(
        matches!(world.call(B, 1, Op::Read), Outcome::NoMajority { .. }),
        "two, but one of them knows nothing"
    );
    world.start(Voter::A);
    for id in 10..14 {
        assert!(matches!(world.call(A, id, Op::Read), Outcome::Committed(_)));
        assert!(matches!(world.call(A, 100 + id, Op::Renew { term: Term(1) }), Outcome::Renewed { .. }));
        let later = world.now + 200;
        world.run_until(later);
    }
    let now = committed(world.call(A, 20, Op::Read));
    assert_ne!(now.witness, record.witness);
    assert_eq!(now.version.0, record.version.0 + 2, "taken away, then given");
    world.crash(Voter::A);
    assert_eq!(committed(world.call(B, 2, Op::Read)), now);
}

#[test]
fn a_witness_restored_from_a_snapshot_is_found_out_by_the_next_renewal() {
    let (mut world, record) = running(Quorum::Witness);
    let snapshot = world.disk(Voter::Witness).unwrap();
    let bumped = committed(world.call(A, 10, swap(&record, record.bumped().unwrap(), LeaseRule::Whatever)));
    world.cut_off(Voter::A, Voter::B);
    let next = committed(world.call(A, 11, swap(&bumped, bumped.bumped().unwrap(), LeaseRule::Whatever)));
    world.crash(Voter::Witness);
    world.restore(Voter::Witness, snapshot);
    world.start(Voter::Witness);
    assert!(matches!(world.call(A, 12, Op::Renew { term: Term(1) }), Outcome::NoMajority { .. }));
    world.crash(Voter::A);
    world.cut.clear();
    let later = world.now + 4_000;
    world.run_until(later);
    let alone = world.call(B, 1, Op::Read);
    assert!(matches!(alone, Outcome::NoMajority { .. }), "B and an old witness lack {next:?}, yet {alone:?}");
    world.start(Voter::A);
    assert_eq!(committed(world.call(B, 2, Op::Read)), next);
}

#[test]
fn an_empty_data_node_counts_only_after_it_has_accepted_a_record() {
    let (mut world, record) = running(Quorum::Witness);
    world.crash(Voter::B);
    world.wipe(Voter::B);
    world.start(Voter::B);
    world.crash(Voter::A);
    assert!(matches!(world.call(B, 1, Op::Read), Outcome::NoMajority { .. }));
    world.start(Voter::A);
    assert_eq!(committed(world.call(B, 2, Op::Read)), record);
    world.crash(Voter::A);
    assert_eq!(committed(world.call(B, 3, Op::Read)), record);
}

#[test]
fn a_fencing_counts_only_where_the_peer_was_heard_since_the_start() {
    let (mut world, record) = running(Quorum::Fencing);
    assert!(matches!(world.call(B, 1, Op::Read), Outcome::Committed(_)));
    world.crash(Voter::A);
    let bid = swap(&record, record.taken_over(B).unwrap(), LeaseRule::MustBeOver);
    assert!(matches!(world.call(B, 2, bid.clone()), Outcome::Leased { .. } | Outcome::NoMajority { .. }));
    assert_eq!(world.call(B, 3, Op::PeerFenced), Outcome::Fenced);
    let taken = committed(world.call(B, 4, bid));
    assert!(matches!(world.call(B, 5, Op::Renew { term: taken.term }), Outcome::Renewed { .. }));
    // The fenced one boots while the other is away: its record is old, and it cannot shoot its way out.
    world.crash(Voter::B);
    world.start(Voter::A);
    assert_eq!(world.call(A, 10, Op::PeerFenced), Outcome::NotMet);
    assert!(matches!(world.call(A, 11, Op::Read), Outcome::NoMajority { .. }));
    world.start(Voter::B);
    assert_eq!(committed(world.call(A, 12, Op::Read)), taken);
    let degrade = swap(&taken, taken.bumped().unwrap(), LeaseRule::Whatever);
    world.crash(Voter::A);
    assert!(
        matches!(world.call(B, 12, degrade), Outcome::Unknown | Outcome::NoMajority { .. }),
        "heard again"
    );
}

#[test]
fn by_hand_the_incumbent_goes_on_alone_only_after_it_has_heard_the_peer() {
    let (mut world, record) = running(Quorum::Manual);
    world.crash(Voter::B);
    let alone = committed(world.call(
        A,
        10,
        swap(&record, record.degraded(A, Term(1)).unwrap(), LeaseRule::Whatever),
    ));
    assert!(matches!(world.call(A, 11, Op::Renew { term: Term(1) }), Outcome::Renewed { .. }));
    let over = swap(&alone, alone.taken_over(A).unwrap(), LeaseRule::MustBeOver);
    let over = world.call(A, 12, over);
    assert!(matches!(over, Outcome::NoMajority { .. } | Outcome::Unknown), "a new term needs both: {over:?}");
    world.crash(Voter::A);
    world.start(Voter::A);
    let bumped = swap(&alone, alone.bumped().unwrap(), LeaseRule::Whatever);
    assert!(matches!(world.call(A, 13, bumped.clone()), Outcome::NoMajority { .. }), "not yet heard");
    world.start(Voter::B);
    assert_eq!(committed(world.call(A, 14, Op::Read)), alone);
    world.crash(Voter::B);
    assert!(matches!(world.call(A, 15, bumped), Outcome::Committed(_)));
}

#[test]
fn an_operators_order_needs_one_vote_of_two_and_wins_when_the_other_is_back() {
    let (mut world, record) = running(Quorum::Manual);
    assert!(matches!(world.call(B, 1, Op::Read), Outcome::Committed(_)));
    world.cut_off(Voter::A, Voter::B);
    let mut newest = record.clone();
    for id in 10..15 {
        newest = committed(world.call(A, id, swap(&newest, newest.bumped().unwrap(), LeaseRule::Whatever)));
    }
    let taken = committed(world.call(B, 2, order(&record, B, 0)));
    assert!(taken.version > newest.version && taken.term > newest.term, "it leaps");
    assert_eq!((taken.primary, taken.intent.diverged), (Some(B), Nodes::only(A)));
    assert!(matches!(world.call(B, 3, Op::Renew { term: taken.term }), Outcome::Renewed { .. }));
    world.cut.clear();
    // Its next renewal, which needs nobody, tells it.
    world.call(A, 15, Op::Renew { term: Term(1) });
    let later = world.now + 100;
    world.run_until(later);
    assert_eq!(committed(world.call(A, 16, Op::Read)), taken);
    assert_eq!(world.call(A, 17, Op::Renew { term: Term(1) }), Outcome::Conflict(taken));
}

#[test]
fn an_operators_order_ignores_the_lease_but_not_the_majority() {
    let (mut world, record) = running(Quorum::Witness);
    world.crash(Voter::A);
    let order = swap(&record, record.forced(B).unwrap(), LeaseRule::Forced);
    assert_eq!(committed(world.call(B, 1, order)).primary, Some(B));
    let (mut world, record) = running(Quorum::Witness);
    world.crash(Voter::A);
    world.crash(Voter::Witness);
    let order = swap(&record, record.forced(B).unwrap(), LeaseRule::Forced);
    assert!(matches!(world.call(B, 1, order), Outcome::NoMajority { .. }));
}

/// An operator's order that one vote of two carries out.
fn order(own: &Record, to: Node, highest: u64) -> Op {
    let leap = leap_beyond(to, 0, [highest, own.version.0, own.term.0]);
    swap(own, own.forced(to).unwrap().leapt(leap).unwrap(), LeaseRule::Forced)
}

/// The order on a host that was booted alone: from its own vote, as a manager gives it.
fn forced_alone(world: &mut World<OfBundled>, to: Node, id: u64) -> Record {
    assert!(matches!(world.call(to, id, Op::Read), Outcome::NoMajority { .. }), "not without an order");
    let Outcome::OwnVote { record: Some(own), highest } = world.call(to, id + 1, Op::OwnVote) else {
        panic!("no vote of its own")
    };
    let taken = committed(world.call(to, id + 2, order(&own, to, highest)));
    assert!(matches!(world.call(to, id + 3, Op::Renew { term: taken.term }), Outcome::Renewed { .. }));
    taken
}

#[test]
fn an_order_on_a_host_that_was_booted_alone_outranks_all_that_the_other_has_recorded_alone() {
    for quorum in [Quorum::Manual, Quorum::Fencing] {
        for to in Node::ALL {
            let (mut world, record) = running(quorum);
            world.crash(B.into());
            if quorum == Quorum::Fencing {
                assert_eq!(world.call(A, 9, Op::PeerFenced), Outcome::Fenced);
            }
            let mut newest = record;
            for id in 10..30 {
                let next = newest.bumped().unwrap();
                newest = committed(world.call(A, id, swap(&newest, next, LeaseRule::Whatever)));
            }
            world.crash(A.into());
            world.start(to.into());
            let taken = forced_alone(&mut world, to, 100);
            let next =
                committed(world.call(to, 110, swap(&taken, taken.bumped().unwrap(), LeaseRule::Whatever)));
            assert!(taken.version > newest.version && taken.term > newest.term);
            world.start(to.peer().into());
            assert_eq!(committed(world.call(to.peer(), 120, Op::Read)), next, "{quorum:?} {to:?}");
        }
    }
}

#[test]
fn of_two_orders_the_farther_leap_wins_in_version_term_and_ballot() {
    for first in Node::ALL {
        let (mut world, _) = running(Quorum::Manual);
        let mut taken = Vec::new();
        for to in [first, first.peer()] {
            world.crash(A.into());
            world.crash(B.into());
            world.start(to.into());
            let mut newest = forced_alone(&mut world, to, 100);
            for id in 200..205 {
                let next = newest.bumped().unwrap();
                newest = committed(world.call(to, id, swap(&newest, next, LeaseRule::Whatever)));
            }
            taken.push(newest);
        }
        let winner = taken.iter().max_by_key(|record| record.version).unwrap();
        let loser = taken.iter().min_by_key(|record| record.version).unwrap();
        assert!(winner.version > loser.version && winner.term > loser.term);
        world.start(first.into());
        for node in Node::ALL {
            let read = committed(world.call(node, 300, Op::Read));
            assert_eq!(read, *winner);
            assert!(read.intent.diverged.contains(loser.primary.unwrap()), "kept aside");
        }
    }
}

#[test]
fn an_order_that_was_overtaken_by_a_newer_one_is_not_carried_out() {
    let (mut world, record) = running(Quorum::Manual);
    let late = order(&record, A, 0);
    assert!(matches!(world.call(B, 1, Op::Read), Outcome::Committed(_)));
    let taken = committed(world.call(B, 2, order(&record, B, 5 * LEAP)));
    let later = world.now + 100;
    world.run_until(later);
    let outcome = world.call(A, 10, late);
    assert!(!matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    assert_eq!(committed(world.call(A, 11, Op::Read)), taken);
}
