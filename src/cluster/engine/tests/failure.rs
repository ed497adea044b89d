//! Failures of resources, of the device, of the network, of stops.

use super::bench::{World, index};
use crate::config::{ForeignStart, Quorum};
use crate::control::{Command, Verdict};
use crate::event::{AgentResult, Verb};
use crate::member::{Node, Nodes};

const DB: usize = 2;

#[test]
fn a_killed_service_is_restarted_in_place_and_counted() {
    let mut world = World::settled(Quorum::Witness);
    world.clear_logs();
    world.crash(Node::A, DB);
    world.run(1_000);
    world.assert_runs_on(Node::A);
    assert_eq!(world.done(Node::A), ["stop db", "start db"]);
    assert_eq!(world.record.intent.failures["db"].a, 1);
}

#[test]
fn repeated_failures_fail_over_once_and_then_hold() {
    let mut world = World::settled(Quorum::Witness);
    for _ in 0..2 {
        world.crash(Node::A, DB);
        world.run(1_000);
    }
    world.run(2_000);
    world.assert_runs_on(Node::B);
    assert_eq!(world.record.intent.failovers, 1);
    for _ in 0..2 {
        world.crash(Node::B, DB);
        world.run(1_000);
    }
    world.run(5_000);
    assert_eq!(world.record.primary, Some(Node::B), "no second failover in the window");
    let status = world.status(Node::B);
    assert_eq!(status.verdict, Verdict::Held);
    assert!(status.why.iter().any(|why| why.contains("has failed over already")), "{:?}", status.why);
    world.command(Node::B, Command::Cleanup { resource: None }, 9);
    world.run(2_000);
    world.assert_runs_on(Node::B);
    assert!(world.hosts[1].replies[&9].is_ok());
    assert!(world.record.intent.failures.is_empty());
}

#[test]
fn a_failed_stop_takes_the_device_away_and_the_peer_takes_the_stack() {
    let mut world = World::settled(Quorum::Witness);
    world.clear_logs();
    world.hosts[0].broken.insert((DB, Verb::Stop), AgentResult::TimedOut);
    world.command(Node::A, Command::Switchover { to: None }, 3);
    world.run(2_000);
    world.assert_runs_on(Node::B);
    let log = world.done(Node::A);
    assert!(log.iter().any(|l| l == "replica Revoke ok"), "{log:?}");
    assert!(log.iter().any(|l| l == "kill db"), "{log:?}");
    assert!(!log.iter().any(|l| l == "reboot"));
}

#[test]
fn a_machine_is_reset_when_not_even_a_kill_helps_and_so_it_is_configured() {
    for reset in [false, true] {
        let mut world = World::settled(Quorum::Witness);
        world.policy.reboot_on_failed_stop = reset;
        world.exchange(Node::A);
        world.run(5_000);
        world.clear_logs();
        world.hosts[0].broken.insert((DB, Verb::Stop), AgentResult::TimedOut);
        world.hosts[0].broken.insert((DB, Verb::Kill), AgentResult::TimedOut);
        world.command(Node::A, Command::Switchover { to: None }, 3);
        world.run(3_000);
        assert_eq!(world.record.primary, Some(Node::B), "it does not wait for the process");
        let log = &world.hosts[0].log;
        assert_eq!(log.iter().any(|l| l == "reboot"), reset, "{log:?}");
        let device = log.iter().position(|l| l == "replica Revoke ok");
        let last = log.iter().rposition(|l| l == "reboot").unwrap_or(log.len());
        assert!(device.is_some_and(|device| device < last), "the device is taken away first: {log:?}");
    }
}

#[test]
fn a_cleanup_takes_the_reason_of_a_failed_stop_away_on_both_hosts() {
    let mut world = World::settled(Quorum::Witness);
    world.hosts[0].broken.insert((DB, Verb::Stop), AgentResult::TimedOut);
    world.command(Node::A, Command::Switchover { to: None }, 3);
    world.run(3_000);
    let reason = |world: &World| world.status(Node::A).resources[DB].reason.clone();
    assert_eq!(reason(&world).as_deref(), Some("broken"));
    world.command(Node::B, Command::Cleanup { resource: None }, 4);
    world.run(1_000);
    assert_eq!(reason(&world), None);
}

#[test]
fn what_was_given_up_is_told_with_the_same_word_on_both_hosts() {
    let mut world = World::settled(Quorum::Witness);
    world.command(Node::A, Command::Hold { reason: "test".into() }, 1);
    world.run(500);
    for _ in 0..2 {
        world.crash(Node::A, DB);
        world.run(1_000);
    }
    world.command(Node::A, Command::Resume, 2);
    world.lacks(Node::B, &["there is no db"]);
    world.run(2_000);
    let [a, b] = Node::ALL.map(|node| world.status(node));
    assert_eq!((a.verdict, b.verdict), (Verdict::Held, Verdict::Held));
    assert_eq!(a.because, b.because);
    // Of a host that is silent nobody knows what it says now.
    world.heartbeats = false;
    world.run(2_000);
    assert_eq!(world.status(Node::B).verdict, Verdict::Down);
}

#[test]
fn a_dead_replication_daemon_hands_over_without_waiting_for_the_lease() {
    let mut world = World::settled(Quorum::Witness);
    world.crash_replica(Node::A);
    world.run(1_500);
    assert_eq!(world.record.primary, Some(Node::B));
    world.assert_runs_on(Node::B);
}

#[test]
fn a_full_file_system_moves_nothing() {
    let mut world = World::settled(Quorum::Witness);
    world.clear_logs();
    world.hosts[0].broken.insert((DB, Verb::Monitor), AgentResult::FileSystem);
    world.run(10_000);
    world.assert_runs_on(Node::A);
    assert_eq!(world.done(Node::A), Vec::<String>::new());
    assert_eq!(world.hosts[0].log, ["alert file-system"]);
}

#[test]
fn slow_looks_count_half() {
    let mut world = World::settled(Quorum::Witness);
    world.clear_logs();
    world.hosts[0].broken.insert((DB, Verb::Monitor), AgentResult::TimedOut);
    world.run(900);
    assert_eq!(world.done(Node::A), Vec::<String>::new(), "one slow look is no failure");
    world.run(1_300);
    assert_eq!(world.done(Node::A), ["stop db", "start db"]);
}

#[test]
fn a_lost_public_segment_moves_the_stack_when_the_peer_has_it() {
    let mut world = World::settled(Quorum::Witness);
    world.health(Node::A, false, true);
    world.run(2_000);
    world.assert_runs_on(Node::A);
    world.run(3_000);
    world.assert_runs_on(Node::B);
    assert_eq!(world.record.synced, Nodes::BOTH);
}

#[test]
fn a_public_segment_lost_on_both_moves_nothing() {
    let mut world = World::settled(Quorum::Witness);
    world.health(Node::A, false, true);
    world.health(Node::B, false, true);
    world.run(20_000);
    world.assert_runs_on(Node::A);
}

#[test]
fn a_service_started_by_hand_on_the_standby_is_stopped() {
    let mut world = World::settled(Quorum::Witness);
    world.clear_logs();
    world.hosts[1].running.insert(DB);
    world.run(61_000);
    assert!(world.hosts[1].running.is_empty(), "{:?}", world.hosts[1].log);
    assert!(world.hosts[index(Node::B)].log.iter().any(|l| l == "alert foreign-start"));
    world.assert_runs_on(Node::A);
}

#[test]
fn it_is_left_alone_when_so_configured_until_the_stack_comes() {
    let mut world = World::settled(Quorum::Witness);
    world.policy.foreign_start = ForeignStart::Alarm;
    world.exchange(Node::B);
    world.run(5_000);
    world.clear_logs();
    world.hosts[1].running.insert(DB);
    world.run(61_000);
    assert_eq!(world.done(Node::B), Vec::<String>::new());
    assert!(world.hosts[1].running.contains(&DB));
    assert!(world.hosts[1].log.iter().any(|l| l == "alert foreign-start"));
    world.command(Node::A, Command::Switchover { to: None }, 1);
    world.run(5_000);
    world.assert_runs_on(Node::B);
    let done = world.done(Node::B);
    let at = |what: &str| done.iter().position(|line| line == what);
    assert!(at("stop db").is_some() && at("stop db") < at("start data"), "it worked on other data: {done:?}");
}

#[test]
fn in_maintenance_failures_are_shown_and_recovered_afterwards() {
    let mut world = World::settled(Quorum::Witness);
    world.command(Node::B, Command::Maintenance { on: true }, 1);
    world.run(500);
    world.clear_logs();
    world.crash(Node::A, DB);
    world.run(5_000);
    assert_eq!(world.done(Node::A), Vec::<String>::new());
    assert!(world.hosts[0].may_act_until.is_some_and(|u| u > world.now), "the address is kept");
    world.command(Node::A, Command::Maintenance { on: false }, 2);
    world.run(1_000);
    world.assert_runs_on(Node::A);
}
