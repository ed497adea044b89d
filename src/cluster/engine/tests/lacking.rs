//! A host that lacks a program of the stack, and two managers that have read different configurations.

use super::bench::{World, group};
use crate::config::{Quorum, ResourceId};
use crate::control::{Command, CommandErrorKind, Verdict};
use crate::member::Node;

const LACK: &str = "systemd cannot run db.service (not-found)";

#[test]
fn a_standby_that_lacks_a_program_protects_nothing_and_is_given_nothing() {
    let mut world = World::settled(Quorum::Witness);
    world.lacks(Node::B, &[LACK]);
    world.run(1_000);
    for node in Node::ALL {
        let status = world.status(node);
        assert_eq!(status.verdict, Verdict::Degraded);
        let expected = format!("ha-b cannot run the stack: {LACK}: if ha-a fails, the service stops");
        assert_eq!(status.because, expected);
        assert!(status.can.iter().filter(|can| can.what != "lose the witness").all(|can| !can.yes));
    }
    world.command(Node::A, Command::Switchover { to: None }, 1);
    world.run(1_000);
    let error = world.hosts[0].replies[&1].clone().unwrap_err();
    assert_eq!(error.kind, CommandErrorKind::Refused);
    assert!(error.text.contains(LACK), "{error}");
    world.assert_runs_on(Node::A);
}

#[test]
fn it_takes_over_as_soon_as_the_program_is_there() {
    let mut world = World::settled(Quorum::Witness);
    world.lacks(Node::B, &[LACK]);
    world.run(1_000);
    world.power_off(Node::A);
    world.run(20_000);
    assert_eq!(world.record.primary, Some(Node::A));
    assert!(world.status(Node::B).because.contains(LACK), "{}", world.status(Node::B).because);
    world.lacks(Node::B, &[]);
    world.run(2_000);
    world.assert_runs_on(Node::B);
}

#[test]
fn it_waits_for_the_host_that_has_everything() {
    let mut world = World::settled(Quorum::Witness);
    world.lacks(Node::B, &[LACK]);
    world.run(1_000);
    world.power_off(Node::A);
    world.run(20_000);
    world.boot(Node::A);
    world.run(5_000);
    world.assert_runs_on(Node::A);
}

#[test]
fn a_resource_is_added_by_one_manager_after_the_other() {
    let mut world = World::settled(Quorum::Witness);
    let mut server = group().remove(2);
    (server.name, server.after) = ("server".into(), vec![ResourceId(4)]);
    world.last = vec![server];
    world.exchange(Node::B);
    world.run(3_000);
    for node in Node::ALL {
        let status = world.status(node);
        assert_eq!(status.verdict, Verdict::Degraded, "{}", status.because);
        assert!(status.because.contains("different configurations"), "{}", status.because);
    }
    assert!(!world.hosts[0].running.contains(&5));
    world.exchange(Node::A);
    world.run(3_000);
    world.assert_runs_on(Node::A);
    assert!(world.hosts[0].running.contains(&5));
    assert_eq!(world.status(Node::B).verdict, Verdict::Protected);
}
