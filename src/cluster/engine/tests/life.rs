//! Boot, bootstrap, switchover, takeover, degradation, return.

use super::bench::World;
use crate::config::Quorum;
use crate::control::{Command, Verdict};
use crate::event::{Running, Shutdown, Verb};
use crate::member::{Node, Nodes};

#[test]
fn nothing_is_touched_before_there_is_a_record() {
    let mut world = World::new(Quorum::Witness);
    world.hosts[0].running.insert(2);
    world.boot(Node::A);
    world.boot(Node::B);
    world.run(20_000);
    assert!(world.hosts[0].log.is_empty(), "{:?}", world.hosts[0].log);
    assert_eq!(world.status(Node::A).verdict, Verdict::Held);
}

#[test]
fn bootstrap_promotes_starts_in_order_and_rejoins_the_peer() {
    let world = World::settled(Quorum::Witness);
    let starts: Vec<&str> = world.hosts[0].log.iter().filter_map(|l| l.strip_prefix("start ")).collect();
    assert_eq!(starts, ["data", "db", "web", "ip"]);
    assert!(world.hosts[1].log.iter().all(|l| !l.starts_with("start")));
    assert_eq!(world.status(Node::A).verdict, Verdict::Protected, "{}", world.status(Node::A).because);
    assert_eq!(world.status(Node::B).verdict, Verdict::Protected, "{}", world.status(Node::B).because);
}

#[test]
fn what_does_not_wait_for_each_other_is_started_and_stopped_at_once() {
    const DB: usize = 2;
    let mut world = World::settled(Quorum::Witness);
    world.clear_logs();
    world.slow.insert((DB, Verb::Stop), 1_000);
    world.slow.insert((DB, Verb::Start), 1_000);
    world.command(Node::B, Command::Switchover { to: None }, 7);
    world.run(900);
    assert_eq!(
        world.done(Node::A).last().map(String::as_str),
        Some("stop web"),
        "data waits for the slow one"
    );
    world.run(900);
    assert_eq!(world.done(Node::B).last().map(String::as_str), Some("start web"), "the address waits for it");
    world.run(1_000);
    world.assert_runs_on(Node::B);
}

#[test]
fn restart_of_the_manager_moves_nothing() {
    let mut world = World::settled(Quorum::Witness);
    for node in Node::ALL {
        world.clear_logs();
        world.shutdown(node, Shutdown::Restart);
        assert!(world.hosts[super::bench::index(node)].exited);
        world.run(300);
        world.start_manager(node);
        world.run(10_000);
        world.assert_runs_on(Node::A);
        assert_eq!(world.done(Node::A), Vec::<String>::new());
        assert_eq!(world.done(Node::B), Vec::<String>::new());
    }
}

#[test]
fn switchover_stops_hands_over_and_starts_without_degrading() {
    let mut world = World::settled(Quorum::Witness);
    world.clear_logs();
    world.command(Node::B, Command::Switchover { to: None }, 7);
    world.run(1_000);
    world.assert_runs_on(Node::B);
    assert_eq!(world.record.synced, Nodes::BOTH);
    let stops: Vec<&str> = world.hosts[0].log.iter().filter_map(|l| l.strip_prefix("stop ")).collect();
    assert_eq!(stops, ["ip", "db", "web", "data"]);
    assert!(world.hosts[1].replies[&7].is_ok(), "{:?}", world.hosts[1].replies);
}

#[test]
fn a_dead_primary_is_replaced_when_its_lease_has_run_out_and_returns_as_standby() {
    let mut world = World::settled(Quorum::Witness);
    world.power_off(Node::A);
    let off = world.now;
    world.run(3_900);
    world.assert_runs_on(Node::B);
    assert!(world.now - off < 4_000);
    assert_eq!(world.record.synced, Nodes::only(Node::B));
    let known = world.status(Node::B).resources;
    assert!(
        known.iter().all(|r| r.state[0] == Running::Unknown),
        "what a silent host ran is not known: {known:?}"
    );
    world.boot(Node::A);
    world.run(3_000);
    world.assert_runs_on(Node::B);
    assert_eq!(world.record.synced, Nodes::BOTH);
}

#[test]
fn a_lost_peer_is_recorded_before_this_node_goes_on_alone() {
    let mut world = World::settled(Quorum::Witness);
    world.clear_logs();
    world.power_off(Node::B);
    world.run(1_000);
    assert_eq!(world.record.synced, Nodes::only(Node::A));
    assert!(world.hosts[0].disk.view.alone);
    world.boot(Node::B);
    world.run(2_000);
    assert_eq!(world.record.synced, Nodes::BOTH);
    assert!(!world.hosts[0].disk.view.alone);
}
