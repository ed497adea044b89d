//! Lease, doubt, isolation, force: what must never happen.

use super::bench::World;
use crate::config::Quorum;
use crate::control::{Command, Verdict};
use crate::event::{AgentResult, Shutdown, Verb};
use crate::member::{Node, Nodes};
use crate::record::{LEAP, Term};

#[test]
fn an_isolated_primary_loses_the_address_keeps_the_services_and_gets_it_back() {
    let mut world = World::settled(Quorum::Witness);
    world.clear_logs();
    world.witness = [false, false];
    world.heartbeats = false;
    world.run(2_600);
    assert!(world.hosts[0].may_act_until.is_none());
    assert!(world.hosts[0].running.contains(&2), "services stay");
    world.witness = [true, true];
    world.heartbeats = true;
    world.run(2_000);
    world.assert_runs_on(Node::A);
    let log = world.done(Node::A);
    assert!(!log.iter().any(|l| l == "stop db"), "{log:?}");
}

#[test]
fn an_isolated_primary_is_replaced_and_drops_everything_when_it_learns_of_it() {
    let mut world = World::settled(Quorum::Witness);
    world.witness[0] = false;
    world.heartbeats = false;
    world.replication = false;
    world.links();
    world.run(6_000);
    assert_eq!(world.record.primary, Some(Node::B));
    assert!(world.hosts[0].may_act_until.is_none());
    assert!(world.hosts[0].disk.view.blocked);
    world.witness[0] = true;
    world.heartbeats = true;
    world.replication = true;
    world.links();
    world.run(3_000);
    world.assert_runs_on(Node::B);
    assert_eq!(world.record.synced, Nodes::BOTH);
}

#[test]
fn a_lone_primary_needs_no_vote() {
    let mut world = World::settled(Quorum::Witness);
    world.power_off(Node::B);
    world.run(2_000);
    world.witness = [false, false];
    world.run(20_000);
    world.assert_runs_on(Node::A);
}

#[test]
fn an_unknown_degrade_is_resolved_by_a_committed_no_op() {
    for done in [false, true] {
        let mut world = World::settled(Quorum::Witness);
        world.unknown = vec![done];
        world.power_off(Node::B);
        let version = world.record.version;
        world.run(2_000);
        assert!(world.hosts[0].disk.view.alone, "{:?}", world.status(Node::A).why);
        assert!(world.record.version.0 >= version.0 + 2, "a change and a no-op");
        assert_eq!(world.record.synced, Nodes::only(Node::A));
    }
}

#[test]
fn a_second_loss_needs_a_commit_of_its_own() {
    let mut world = World::settled(Quorum::Witness);
    world.replication = false;
    world.links();
    world.run(500);
    assert!(world.hosts[0].disk.view.alone);
    let version = world.record.version;
    // Whole again, and lost again before the rejoin can be proposed: no votes meanwhile.
    world.witness = [false, false];
    world.heartbeats = false;
    world.replication = true;
    world.links();
    world.run(300);
    world.replication = false;
    world.links();
    world.run(300);
    assert!(world.hosts[0].disk.view.blocked);
    world.witness = [true, true];
    world.heartbeats = true;
    world.run(1_500);
    assert!(world.hosts[0].disk.view.alone);
    assert!(world.record.version > version);
}

#[test]
fn after_a_power_cut_the_last_primary_begins_a_new_term() {
    let mut world = World::settled(Quorum::Witness);
    let term = world.record.term;
    world.power_off(Node::A);
    world.power_off(Node::B);
    world.run(60_000);
    world.boot(Node::B);
    world.boot(Node::A);
    world.run(3_000);
    world.assert_runs_on(Node::A);
    assert!(world.record.term > term, "never the same term twice");
    world.run(1_000);
    assert_eq!(world.record.synced, Nodes::BOTH);
}

#[test]
fn after_a_power_cut_each_host_that_has_everything_starts_alone() {
    for node in Node::ALL {
        let mut world = World::settled(Quorum::Witness);
        world.power_off(Node::A);
        world.power_off(Node::B);
        world.run(60_000);
        world.boot(node);
        world.run(6_000);
        world.assert_runs_on(node);
    }
}

/// A has gone on alone and lost power; only B has come back.
fn b_back_alone() -> World {
    let mut world = World::settled(Quorum::Witness);
    world.power_off(Node::B);
    world.run(2_000);
    world.power_off(Node::A);
    world.boot(Node::B);
    world.run(30_000);
    world
}

#[test]
fn a_host_that_may_lack_writes_waits_and_says_so() {
    let mut world = b_back_alone();
    assert_eq!(world.record.primary, Some(Node::A));
    let status = world.status(Node::B);
    assert_eq!(status.verdict, Verdict::Down);
    assert!(status.because.contains("may lack acknowledged writes"), "{}", status.because);
    world.command(Node::B, Command::ForcePrimary { node: Node::B, accept_loss: false }, 1);
    world.run(100);
    let refusal = world.hosts[1].replies[&1].clone().unwrap_err();
    assert!(refusal.text.contains("--accept-loss"), "{refusal}");
    world.command(Node::B, Command::ForcePrimary { node: Node::B, accept_loss: true }, 2);
    world.run(2_000);
    assert!(world.hosts[1].replies[&2].is_ok(), "{:?}", world.hosts[1].replies);
    world.assert_runs_on(Node::B);
    assert!(world.record.intent.diverged.contains(Node::A));
}

#[test]
fn an_order_that_may_still_come_true_is_not_called_lost() {
    for done in [false, true] {
        let mut world = b_back_alone();
        world.unknown = vec![done];
        world.command(Node::B, Command::ForcePrimary { node: Node::B, accept_loss: true }, 1);
        world.run(1_000);
        let answer = world.hosts[1].replies[&1].clone().unwrap_err();
        assert!(answer.text.contains("not known whether ha-b has become the primary"), "{answer}");
        world.run(5_000);
        assert_eq!(world.record.primary == Some(Node::B), done, "a committed no-op has told");
        if done {
            world.assert_runs_on(Node::B);
        }
    }
}

#[test]
fn a_clean_goodbye_hands_over_at_once() {
    let mut world = World::settled(Quorum::Witness);
    world.shutdown(Node::A, Shutdown::HandOver);
    world.run(1_000);
    assert!(world.hosts[0].exited);
    assert!(world.hosts[0].running.is_empty());
    world.assert_runs_on(Node::B);
}

/// What a manager leaves on its host decides whether a watchdog is let go.
#[test]
fn a_manager_that_ends_says_what_it_leaves() {
    let end = |node, kind, before: &dyn Fn(&mut World)| {
        let mut world = World::settled(Quorum::Witness);
        before(&mut world);
        world.shutdown(node, kind);
        world.run(200_000);
        let log = &world.hosts[super::bench::index(node)].log;
        log.iter().find_map(|line| line.strip_prefix("leaves ")).unwrap_or("no end").to_owned()
    };
    let nothing = |_: &mut World| {};
    let maintenance = |world: &mut World| {
        world.command(Node::A, Command::Maintenance { on: true }, 1);
        world.run(500);
    };
    let stuck = |world: &mut World| {
        world.hosts[0].broken.insert((1, Verb::Stop), AgentResult::Failed);
        world.hosts[0].broken.insert((1, Verb::Kill), AgentResult::Failed);
    };
    assert_eq!(end(Node::A, Shutdown::HandOver, &nothing), "Nothing");
    assert_eq!(end(Node::A, Shutdown::Restart, &nothing), "ToSuccessor");
    assert_eq!(end(Node::B, Shutdown::Restart, &nothing), "Nothing", "a standby runs nothing");
    assert_eq!(end(Node::A, Shutdown::Restart, &maintenance), "ToOperators");
    assert_eq!(end(Node::A, Shutdown::HandOver, &maintenance), "ToOperators");
    assert_eq!(end(Node::A, Shutdown::HandOver, &stuck), "Stuck");
}

#[test]
fn a_primary_goes_on_under_the_term_that_its_peer_has_promised() {
    let mut world = World::settled(Quorum::Witness);
    world.hosts[1].disk.view.fence = Term(world.record.term.0 + 1);
    world.links();
    world.tell_replica(Node::B);
    world.run(3_000);
    world.assert_runs_on(Node::A);
    assert_eq!(world.record.synced, Nodes::BOTH, "{:?}", world.hosts[0].log);
    assert!(!world.done(Node::A).iter().any(|l| l == "stop db"));
}

#[test]
fn a_promise_of_an_order_that_came_to_nothing_is_met_in_one_step() {
    for quorum in [Quorum::Fencing, Quorum::Manual] {
        for done in [None, Some(true)] {
            let mut world = World::settled(quorum);
            let version = world.record.version.0;
            world.unknown = done.into_iter().collect();
            world.hosts[1].disk.view.fence = Term(LEAP);
            world.links();
            world.tell_replica(Node::B);
            world.run(5_000);
            world.assert_runs_on(Node::A);
            assert!(world.record.term >= Term(LEAP) && world.record.version.0 < version + 10);
            assert_eq!(world.record.synced, Nodes::BOTH, "{:?}", world.hosts[0].log);
            assert!(!world.done(Node::A).iter().any(|l| l == "stop db"));
        }
    }
}

#[test]
fn a_host_that_has_promised_a_farther_term_takes_over_under_it() {
    let mut world = World::settled(Quorum::Fencing);
    world.power_off(Node::A);
    world.hosts[1].disk.view.fence = Term(LEAP);
    world.tell_replica(Node::B);
    world.run(20_000);
    world.assert_runs_on(Node::B);
    assert!(world.record.term >= Term(LEAP), "{:?}", world.record);
}

#[test]
fn by_hand_only_without_a_third_voter() {
    let mut world = World::settled(Quorum::Manual);
    world.power_off(Node::A);
    world.run(60_000);
    assert_eq!(world.record.primary, Some(Node::A));
    let status = world.status(Node::B);
    assert_eq!(status.verdict, Verdict::Held);
    assert!(status.because.contains("force-primary ha-b --accept-loss"), "{}", status.because);
    // That it is off says nothing about what it acknowledged alone before.
    world.command(Node::B, Command::ConfirmOff { node: Node::A }, 1);
    world.run(5_000);
    assert_eq!(world.record.primary, Some(Node::A));
    world.command(Node::B, Command::ForcePrimary { node: Node::B, accept_loss: true }, 2);
    world.run(5_000);
    world.assert_runs_on(Node::B);
    assert!(world.record.intent.diverged.contains(Node::A));
}

#[test]
fn with_a_fence_device_the_silent_primary_is_switched_off_first() {
    let mut world = World::settled(Quorum::Fencing);
    world.heartbeats = false;
    world.replication = false;
    world.links();
    world.run(10_000);
    let on: Vec<bool> = world.hosts.iter().map(|h| h.powered).collect();
    assert_eq!(on, [true, false], "the incumbent shoots first");
    world.assert_runs_on(Node::A);
    assert!(world.hosts[0].disk.view.alone);
}

#[test]
fn a_failed_fencing_is_held_and_told() {
    let mut world = World::settled(Quorum::Fencing);
    world.fence_result = Err("no route to the power switch".into());
    world.power_off(Node::A);
    world.run(10_000);
    assert_eq!(world.record.primary, Some(Node::A));
    assert!(world.hosts[1].log.iter().any(|l| l == "alert held"), "{:?}", world.hosts[1].log);
    assert!(
        world.status(Node::B).why.iter().any(|w| w.contains("no route")),
        "{:?}",
        world.status(Node::B).why
    );
}

#[test]
fn switchover_is_refused_with_the_reason() {
    let mut world = World::settled(Quorum::Witness);
    world.replication = false;
    world.links();
    world.run(1_000);
    world.command(Node::A, Command::Switchover { to: None }, 1);
    world.run(100);
    let refusal = world.hosts[0].replies[&1].clone().unwrap_err();
    assert!(refusal.text.contains("may lack acknowledged writes"), "{refusal}");
    world.assert_runs_on(Node::A);
}

#[test]
fn standby_moves_the_stack_and_online_does_not_move_it_back() {
    let mut world = World::settled(Quorum::Witness);
    world.command(Node::A, Command::Standby { node: Node::A }, 1);
    world.run(2_000);
    world.assert_runs_on(Node::B);
    world.command(Node::A, Command::Online { node: Node::A }, 2);
    world.run(5_000);
    world.assert_runs_on(Node::B);
}

#[test]
fn hold_forbids_failover_and_resume_allows_it() {
    let mut world = World::settled(Quorum::Witness);
    world.command(Node::A, Command::Hold { reason: "migration".into() }, 1);
    world.run(500);
    world.power_off(Node::A);
    world.run(20_000);
    assert_eq!(world.record.primary, Some(Node::A));
    assert_eq!(world.status(Node::B).verdict, Verdict::Held);
    world.command(Node::B, Command::Resume, 2);
    world.run(3_000);
    world.assert_runs_on(Node::B);
}
