//! One rule a test, in calm weather: the store in etcd.

use cluster::member::{Node, Voter};
use cluster::record::{Record, Term};
use cluster::store::{LeaseRule, Op, Outcome};

use crate::etcd::OfEtcd;
use crate::rules::{committed, swap};
use crate::world::{CALM, World};

const A: Node = Node::A;
const B: Node = Node::B;

fn renewed(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Renewed { .. })
}

/// A cluster whose primary is A, with both up to date and a running lease.
fn running() -> (World<OfEtcd>, Record) {
    let mut world = World::new(OfEtcd, 1, CALM);
    assert_eq!(committed(world.call(B, 1, Op::Read)), Record::default());
    let create = swap(&Record::default(), Record::created(A), LeaseRule::Whatever);
    let first = committed(world.call(A, 1, create.clone()));
    assert_eq!(world.call(B, 2, create), Outcome::Conflict(first.clone()));
    let both = first.rejoined(A, Term(1)).unwrap();
    let both = committed(world.call(A, 2, swap(&first, both, LeaseRule::Whatever)));
    assert!(renewed(&world.call(A, 3, Op::Renew { term: Term(1) })));
    (world, both)
}

#[test]
fn a_takeover_waits_until_etcd_has_dropped_the_lease() {
    let (mut world, record) = running();
    assert!(matches!(world.call(B, 3, Op::PreVote), Outcome::Leased { .. }));
    let bid = swap(&record, record.taken_over(B).unwrap(), LeaseRule::MustBeOver);
    assert!(matches!(world.call(B, 4, bid.clone()), Outcome::Leased { .. }));
    let sent = world.now;
    assert!(
        matches!(world.call(A, 4, Op::Renew { term: Term(1) }), Outcome::Renewed { sent_at } if sent_at == sent)
    );
    world.crash(Voter::A);
    let later = world.now + 3_900;
    world.run_until(later);
    assert!(matches!(world.call(B, 5, bid.clone()), Outcome::Leased { .. }), "3.2 s are 4 whole ones");
    let later = world.now + 200;
    world.run_until(later);
    assert_eq!(world.call(B, 6, Op::PreVote), Outcome::WouldGrant(record));
    let taken = committed(world.call(B, 7, bid));
    assert_eq!((taken.term, taken.primary), (Term(2), Some(B)));
    world.start(Voter::A);
    assert_eq!(world.call(A, 9, Op::Renew { term: Term(1) }), Outcome::Conflict(taken));
}

#[test]
fn a_goodbye_lets_the_peer_in_at_once_and_no_late_renewal_takes_it_back() {
    let (mut world, record) = running();
    assert_eq!(world.call(A, 9, Op::Release { term: Term(1) }), Outcome::Released);
    let bid = swap(&record, record.taken_over(B).unwrap(), LeaseRule::MustBeOver);
    let taken = committed(world.call(B, 3, bid));
    assert_eq!(taken.primary, Some(B));
    assert_eq!(world.call(A, 10, Op::Renew { term: Term(1) }), Outcome::Conflict(taken));
}

#[test]
fn a_new_primary_renews_at_once_after_a_hand_over() {
    let (mut world, record) = running();
    let given = record.handed_over(A, Term(1)).unwrap();
    let given = committed(world.call(A, 10, swap(&record, given, LeaseRule::Whatever)));
    assert!(renewed(&world.call(B, 3, Op::Renew { term: Term(2) })));
    assert!(renewed(&world.call(B, 4, Op::Renew { term: Term(2) })));
    let back = swap(&given, given.taken_over(A).unwrap(), LeaseRule::MustBeOver);
    assert!(matches!(world.call(A, 11, back), Outcome::Leased { .. }));
}

#[test]
fn a_restarted_primary_finds_its_own_lease_no_obstacle() {
    let (mut world, record) = running();
    world.crash(Voter::A);
    world.start(Voter::A);
    assert!(renewed(&world.call(A, 10, Op::Renew { term: Term(1) })));
    assert!(renewed(&world.call(A, 11, Op::Renew { term: Term(1) })));
    let anew = swap(&record, record.taken_over(A).unwrap(), LeaseRule::MustBeOver);
    assert_eq!(committed(world.call(A, 12, anew)).term, Term(2));
}

#[test]
fn a_renewal_survives_changes_of_the_record_and_an_expired_lease() {
    let (mut world, record) = running();
    assert!(matches!(world.call(B, 3, Op::Read), Outcome::Committed(_)));
    let noop = swap(&record, record.bumped().unwrap(), LeaseRule::Whatever);
    let record = committed(world.call(B, 4, noop));
    assert!(renewed(&world.call(A, 10, Op::Renew { term: Term(1) })), "the record has another revision");
    let later = world.now + 10_000;
    world.run_until(later);
    assert!(renewed(&world.call(A, 11, Op::Renew { term: Term(1) })), "a lease that ran out is granted anew");
    let bid = swap(&record, record.taken_over(B).unwrap(), LeaseRule::MustBeOver);
    assert!(matches!(world.call(B, 5, bid), Outcome::Leased { .. }));
}

#[test]
fn an_operators_order_ignores_the_lease_but_needs_etcd() {
    let (mut world, record) = running();
    let order = swap(&record, record.forced(B).unwrap(), LeaseRule::Forced);
    world.crash(Voter::Witness);
    assert!(matches!(world.call(B, 3, order.clone()), Outcome::NoMajority { .. }), "it could not even look");
    world.start(Voter::Witness);
    let forced = committed(world.call(B, 4, order));
    assert_eq!(forced.primary, Some(B));
    assert_eq!(world.call(A, 10, Op::Renew { term: Term(1) }), Outcome::Conflict(forced));
}

#[test]
fn a_change_without_an_answer_may_have_been_made() {
    let (mut world, record) = running();
    world.cut.push((Voter::Witness, Voter::A));
    let change = swap(&record, record.degraded(A, Term(1)).unwrap(), LeaseRule::Whatever);
    assert_eq!(world.call(A, 10, change), Outcome::Unknown);
    assert!(matches!(world.call(A, 11, Op::Renew { term: Term(1) }), Outcome::NoMajority { .. }));
    world.cut.clear();
    assert_eq!(committed(world.call(A, 12, Op::Read)).version.0, record.version.0 + 1);
}

#[test]
fn an_etcd_that_knows_less_than_before_is_not_believed() {
    let (mut world, record) = running();
    let snapshot = world.disk(Voter::Witness).unwrap();
    committed(world.call(A, 10, swap(&record, record.bumped().unwrap(), LeaseRule::Whatever)));
    world.crash(Voter::Witness);
    world.restore(Voter::Witness, snapshot);
    world.start(Voter::Witness);
    assert!(matches!(world.call(A, 11, Op::Read), Outcome::NoMajority { .. }));
    assert!(matches!(world.call(A, 12, Op::Renew { term: Term(1) }), Outcome::NoMajority { .. }));
}
