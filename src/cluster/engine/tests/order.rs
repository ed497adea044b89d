//! Operators, and what runs everywhere.

use super::bench::{World, config, group, index};
use crate::config::{Class, Quorum, Resource, ResourceId};
use crate::control::{Command, CommandErrorKind};
use crate::engine::Engine;
use crate::event::{Action, AgentOutcome, AgentResult, Event, PathId, Running, Verb};
use crate::member::{Node, Voter};
use crate::message::Message;
use crate::store::RequestId;

#[test]
fn an_order_of_the_peer_is_done_once_however_often_it_is_repeated() {
    let mut world = World::settled(Quorum::Witness);
    world.clear_logs();
    let message =
        Message::Ask { request: RequestId(77), command: Command::Restart { resource: "db".into() } };
    for _ in 0..5 {
        let message = message.clone();
        world.give(Node::A, Event::Heard { from: Voter::B, path: PathId(0), message });
        world.run(200);
    }
    assert_eq!(world.done(Node::A), ["stop db", "start db"]);
}

#[test]
fn a_restart_is_done_where_the_stack_runs() {
    let mut world = World::settled(Quorum::Witness);
    world.clear_logs();
    world.command(Node::B, Command::Restart { resource: "data".into() }, 5);
    world.run(2_000);
    assert!(world.hosts[1].replies[&5].is_ok());
    // What runs on a file system goes along with it.
    assert_eq!(
        world.done(Node::A),
        ["stop ip", "stop db", "stop web", "stop data", "start data", "start db", "start web", "start ip"]
    );
    world.command(Node::B, Command::Restart { resource: "nothing".into() }, 6);
    world.run(100);
    assert_eq!(world.hosts[1].replies[&6].clone().unwrap_err().kind, CommandErrorKind::NotFound);
}

#[test]
fn a_restart_is_answered_when_it_is_done() {
    let mut world = World::settled(Quorum::Witness);
    world.slow.insert((2, Verb::Start), 700);
    for (node, token) in [(Node::A, 11), (Node::B, 12)] {
        world.command(node, Command::Restart { resource: "db".into() }, token);
        world.run(600);
        assert_eq!(world.hosts[index(node)].replies.get(&token), None);
        world.run(200);
        let done = world.hosts[index(node)].replies[&token].clone().unwrap();
        assert!(done.starts_with("db runs again on ha-a after 7"), "{done}");
    }
}

#[test]
fn a_restart_that_fails_says_so() {
    let mut world = World::settled(Quorum::Witness);
    world.hosts[0].broken.insert((2, Verb::Start), AgentResult::NotHere);
    world.hosts[1].broken.insert((2, Verb::Start), AgentResult::NotHere);
    world.command(Node::A, Command::Restart { resource: "db".into() }, 11);
    world.run(5_000);
    let error = world.hosts[0].replies[&11].clone().unwrap_err();
    assert_eq!(error.kind, CommandErrorKind::Failed);
    assert!(error.text.contains("futago cluster cleanup db"), "{error}");
}

#[test]
fn a_restart_is_cut_short_by_a_move() {
    let mut world = World::settled(Quorum::Witness);
    world.slow.insert((2, Verb::Stop), 700);
    world.command(Node::A, Command::Restart { resource: "db".into() }, 11);
    world.run(100);
    world.command(Node::A, Command::Switchover { to: None }, 2);
    world.run(3_000);
    let error = world.hosts[0].replies[&11].clone().unwrap_err();
    assert!(error.text.contains("cut short"), "{error}");
    assert!(world.hosts[0].replies[&2].is_ok());
    world.assert_runs_on(Node::B);
}

#[test]
fn standby_of_the_active_host_is_answered_when_the_stack_runs_on_the_other() {
    for asked in Node::ALL {
        let mut world = World::settled(Quorum::Witness);
        world.slow.insert((2, Verb::Stop), 700);
        world.command(asked, Command::Standby { node: Node::A }, 11);
        world.run(600);
        assert_eq!(world.hosts[index(asked)].replies.get(&11), None);
        world.run(1_000);
        let done = world.hosts[index(asked)].replies[&11].clone().unwrap();
        assert!(done.starts_with("the stack runs on ha-b after"), "{done}");
        world.assert_runs_on(Node::B);
    }
}

#[test]
fn nobody_waits_for_a_standby_whose_stack_finds_no_place() {
    let mut world = World::settled(Quorum::Witness);
    world.slow.insert((2, Verb::Stop), 3_000);
    world.command(Node::A, Command::Standby { node: Node::A }, 11);
    world.run(100);
    world.power_off(Node::B);
    world.run(5_000);
    let error = world.hosts[0].replies[&11].clone().unwrap_err();
    assert_eq!(error.kind, CommandErrorKind::Failed);
    assert!(error.text.contains("ha-a is in standby, and ha-b was last heard"), "{error}");
}

#[test]
fn maintenance_is_refused_while_something_is_under_way() {
    for (order, slow) in [
        (Command::Switchover { to: None }, Verb::Stop),
        (Command::Standby { node: Node::A }, Verb::Stop),
        (Command::Switchover { to: None }, Verb::Start),
        (Command::Restart { resource: "db".into() }, Verb::Start),
    ] {
        let mut world = World::settled(Quorum::Witness);
        world.slow.insert((2, slow), 700);
        world.command(Node::A, order.clone(), 11);
        for (token, asked) in (2..).zip([Node::A, Node::B, Node::A, Node::B, Node::A, Node::B]) {
            world.command(asked, Command::Maintenance { on: true }, token);
            world.run(100);
            let error = world.hosts[index(asked)].replies[&token].clone().unwrap_err();
            assert!(error.text.starts_with("maintenance refused"), "{order:?} on {asked:?}: {error}");
        }
        world.run(2_000);
        assert!(world.hosts[0].replies[&11].is_ok(), "{order:?}");
        world.command(Node::B, Command::Maintenance { on: true }, 9);
        world.run(100);
        assert!(world.hosts[1].replies[&9].is_ok(), "{order:?}");
    }
}

#[test]
fn maintenance_is_possible_when_a_start_has_failed() {
    let mut world = World::settled(Quorum::Witness);
    world.hosts[1].broken.insert((2, Verb::Start), AgentResult::Failed);
    world.slow.insert((2, Verb::Start), 700);
    world.command(Node::A, Command::Switchover { to: None }, 11);
    world.run(1_500);
    assert_eq!(world.record.primary, Some(Node::B));
    world.command(Node::B, Command::Maintenance { on: true }, 2);
    world.run(100);
    assert!(world.hosts[1].replies[&2].is_ok());
}

#[test]
fn a_host_tells_what_the_other_one_does() {
    let mut world = World::settled(Quorum::Witness);
    world.slow.insert((2, Verb::Stop), 1_000);
    world.slow.insert((2, Verb::Start), 1_000);
    world.command(Node::B, Command::Switchover { to: None }, 11);
    world.run(900);
    assert_eq!(world.status(Node::B).doing.as_deref(), Some("ha-a: switchover to ha-b: stop db"));
    world.run(1_000);
    assert_eq!(world.status(Node::A).doing.as_deref(), Some("ha-b: start on ha-b: start db"));
    assert_eq!(world.status(Node::B).peer.unwrap().doing, None, "it only waits");
    world.run(2_000);
    assert_eq!(world.status(Node::A).doing, None);
    assert_eq!(world.status(Node::B).doing, None);
}

#[test]
fn an_exchanged_manager_does_not_claim_to_know_since_when_it_all_runs() {
    let mut world = World::settled(Quorum::Witness);
    let found = |world: &World| -> Vec<bool> {
        world.status(Node::A).resources.iter().map(|resource| resource.found).collect()
    };
    assert_eq!(found(&world), [false; 5]);
    world.exchange(Node::A);
    world.run(2_000);
    assert_eq!(found(&world), [true; 5]);
    world.crash(Node::A, 2);
    world.run(1_000);
    assert_eq!(found(&world), [true, true, false, true, true]);
}

#[test]
fn bootstrap_is_refused_once_there_is_a_record() {
    let mut world = World::settled(Quorum::Witness);
    world.command(Node::B, Command::Bootstrap { primary: Node::B, maintenance: false }, 1);
    world.command(Node::B, Command::Bootstrap { primary: Node::A, maintenance: false }, 2);
    world.run(100);
    assert_eq!(world.hosts[1].replies[&1].clone().unwrap_err().kind, CommandErrorKind::Refused);
    assert!(world.hosts[1].replies[&2].clone().unwrap().contains("already"));
}

#[test]
fn an_order_without_a_majority_is_answered_with_who_is_missing() {
    let mut world = World::settled(Quorum::Witness);
    world.witness = [false, false];
    world.power_off(Node::B);
    world.command(Node::A, Command::Hold { reason: "test".into() }, 1);
    world.run(1_000);
    let error = world.hosts[0].replies[&1].clone().unwrap_err();
    assert_eq!(error.kind, CommandErrorKind::Unreachable);
    assert!(error.text.contains("only ha-a answered"), "{error}");
}

#[test]
fn a_move_is_remembered_with_the_time_of_each_step() {
    let mut world = World::settled(Quorum::Witness);
    world.command(Node::A, Command::Switchover { to: None }, 1);
    world.run(2_000);
    let history = world.status(Node::A).history;
    let last = &history[0];
    assert_eq!((last.kind.as_str(), last.to, last.finished), ("switchover", Node::B, true));
    let steps: Vec<&str> = last.steps.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(steps, ["stop ip", "stop db", "stop web", "stop data", "demote", "hand over", "start there"]);
    assert!(world.status(Node::B).history[0].finished);
}

#[test]
fn the_address_answers_until_what_comes_after_it_has_stopped() {
    let mut server = group().remove(2);
    (server.name, server.after) = ("server".into(), vec![ResourceId(4)]);
    let mut world = World::settled_with(Quorum::Witness, vec![server]);
    world.run(1_000);
    world.clear_logs();
    // Longer than a lease, which is renewed meanwhile.
    world.slow.insert((5, Verb::Stop), 3_000);
    world.command(Node::A, Command::Switchover { to: None }, 1);
    for _ in 0..29 {
        world.run(100);
        assert!(world.hosts[0].running.contains(&4), "{:?}", world.done(Node::A));
        assert!(world.hosts[0].may_act_until.is_some_and(|until| until > world.now));
    }
    world.run(1_000);
    let done = world.done(Node::A);
    let at = |what: &str| done.iter().rposition(|d| d == what).unwrap_or_else(|| panic!("{what}: {done:?}"));
    assert!(at("stop server") < at("stop ip") && at("stop ip") < at("stop db"), "{done:?}");
    assert_eq!(world.hosts[0].may_act_until, None);
    world.assert_runs_on(Node::B);
}

#[test]
fn the_plan_of_a_switchover_names_every_step_and_does_nothing() {
    let world = World::settled(Quorum::Witness);
    let engine = world.hosts[0].engine.as_ref().unwrap();
    let plan = engine.plan(Some(&Command::Switchover { to: None }));
    assert_eq!(plan[0], "ha-a: stop ip");
    assert_eq!(plan.last().unwrap(), "ha-b: start ip");
    assert_eq!(engine.plan(None), ["nothing: everything is as it should be"]);
}

#[test]
fn what_runs_everywhere_is_started_on_a_standby_and_restarted() {
    let mut config = config(Node::B, Quorum::Witness);
    config.everywhere.push(Resource {
        name: "agent".into(),
        class: Class::Systemd { unit: "agent.service".into(), check: None },
        after: vec![],
        start_timeout_ms: 1_000,
        stop_timeout_ms: 1_000,
        monitor_interval_ms: 0,
        monitor_timeout_ms: 1_000,
        monitor_failures: 1,
        restarts: 3,
        restart_dependents: false,
    });
    let agent = ResourceId(5);
    let mut out = Vec::new();
    let mut engine = Engine::new(config, 1, 0, &mut out);
    let mut now = 0;
    let read = out.iter().find_map(|a| match a {
        Action::Store { id, .. } => Some(*id),
        _ => None,
    });
    // A record that nobody tells is not waited for.
    let outcome = crate::store::Outcome::NoMajority { heard: Vec::new() };
    engine.handle(Event::StoreDone { id: read.unwrap(), outcome }, now, &mut out);
    let mut step = |out: &mut Vec<Action>, wanted: Verb, result: AgentResult| {
        let op = out
            .iter()
            .find_map(|a| match a {
                Action::Resource { op, resource, verb, .. } if *resource == agent && *verb == wanted => {
                    Some(*op)
                }
                _ => None,
            })
            .unwrap_or_else(|| panic!("no {wanted:?} in {out:?}"));
        out.clear();
        now += 10;
        let outcome = AgentOutcome { result, reason: String::new() };
        engine.handle(Event::ResourceDone { op, outcome }, now, out);
        if wanted == Verb::Start {
            let (state, reason) = (Running::Failed, "killed".to_owned());
            engine.handle(Event::ResourceChanged { resource: agent, state, reason }, now, out);
        }
    };
    step(&mut out, Verb::Monitor, AgentResult::NotRunning);
    step(&mut out, Verb::Start, AgentResult::Ok);
    step(&mut out, Verb::Stop, AgentResult::Ok);
    step(&mut out, Verb::Start, AgentResult::Ok);
    assert_eq!(index(Node::B), 1);
}

#[test]
fn unknown_numbers_are_ignored() {
    let mut world = World::settled(Quorum::Witness);
    world.clear_logs();
    for id in 0..20 {
        let outcome = crate::store::Outcome::Committed(crate::record::Record::default());
        world.give(Node::A, Event::StoreDone { id: RequestId(id), outcome });
        let op = crate::event::OpId(id);
        world.give(Node::A, Event::ReplicaDone { op, result: Err("late".into()) });
        let outcome = AgentOutcome { result: AgentResult::Failed, reason: "late".into() };
        world.give(Node::A, Event::ResourceDone { op, outcome });
        world.give(Node::A, Event::FenceDone { op, result: Ok(()) });
    }
    let state = Running::Failed;
    world.give(Node::A, Event::ResourceChanged { resource: ResourceId(99), state, reason: String::new() });
    world.run(2_000);
    world.assert_runs_on(Node::A);
    assert!(world.hosts[0].log.is_empty(), "{:?}", world.hosts[0].log);
}
