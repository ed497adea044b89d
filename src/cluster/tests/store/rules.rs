//! One rule a test, in calm weather.

use cluster::config::Quorum;
use cluster::member::{Node, Nodes, Voter};
use cluster::record::{Record, Term};
use cluster::store::{LeaseRule, Op, Outcome};

use crate::bundled::OfBundled;
use crate::world::{CALM, World};

const A: Node = Node::A;
const B: Node = Node::B;

fn world(quorum: Quorum) -> World<OfBundled> {
    World::new(OfBundled { quorum }, 1, CALM)
}

fn swap(base: &Record, next: Record, lease: LeaseRule) -> Op {
    Op::Swap { expect: base.version, record: next, lease }
}

fn committed(outcome: Outcome) -> Record {
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
