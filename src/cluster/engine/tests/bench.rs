//! Two managers, an ideal store, replicas and agents that take some milliseconds: just enough of a world to tell
//! stories in virtual time. Every rule that needs all of it (losses, delays, drift) belongs to the simulator.

mod disks;

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Class, Config, ForeignStart, Policy, Quorum, Resource, ResourceId};
use crate::control::{Command, CommandError};
use crate::engine::Engine;
use crate::event::{
    Action, AgentOutcome, AgentResult, Event, Health, PathId, ReplicaView, Running, Shutdown, Token, Verb,
};
use crate::member::{Node, Nodes, Voter};
use crate::message::Message;
use crate::record::{LEAP, Record, Term, Version};
use crate::store::{LeaseRule, Op, Outcome};
use crate::timing::{Millis, Timing};

/// One way of a message, of a vote.
const WIRE_MS: Millis = 1;
/// Any operation of an agent or the replica.
const WORK_MS: Millis = 20;

pub(super) fn index(node: Node) -> usize {
    usize::from(node == Node::B)
}

pub(super) fn group() -> Vec<Resource> {
    let resource = |name: &str, class: Class, after: Vec<ResourceId>| Resource {
        name: name.into(),
        class,
        after,
        start_timeout_ms: 10_000,
        stop_timeout_ms: 10_000,
        monitor_interval_ms: 1_000,
        monitor_timeout_ms: 5_000,
        monitor_failures: 1,
        restarts: 1,
        restart_dependents: false,
    };
    let unit = |u: &str| Class::Systemd { unit: u.into(), check: None };
    let mount = Class::Mount {
        device: "/dev/drbd1".into(),
        directory: "/srv".into(),
        fstype: "ext4".into(),
        options: String::new(),
    };
    let address = Class::Address { address: "192.0.2.10".into(), prefix: 24, interface: "eth0".into() };
    vec![
        resource("r0", Class::Replica { resource: "r0".into() }, vec![]),
        resource("data", mount, vec![ResourceId(0)]),
        resource("db", unit("db.service"), vec![ResourceId(1)]),
        resource("web", unit("web.service"), vec![ResourceId(1)]),
        resource("ip", address, vec![ResourceId(2), ResourceId(3)]),
    ]
}

const POLICY: Policy =
    Policy { foreign_start: ForeignStart::Stop, reboot_on_failed_stop: false, watch_public_link: true };

pub(super) fn config(node: Node, quorum: Quorum) -> Config {
    Config {
        cluster: "test".into(),
        node,
        names: ["ha-a".into(), "ha-b".into()],
        quorum,
        timing: Timing::derive(Timing::DEFAULT_MS, 600_000).unwrap(),
        group: group(),
        everywhere: vec![],
        policy: POLICY,
    }
}

/// A replica as a manager sees it.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) up: bool,
    pub(super) view: ReplicaView,
}

/// One host.
pub(super) struct Host {
    pub(super) engine: Option<Engine>,
    pub(super) powered: bool,
    pub(super) disk: Disk,
    pub(super) running: BTreeSet<usize>,
    pub(super) may_act_until: Option<Millis>,
    wake: Option<Millis>,
    lives: u64,
    pub(super) exited: bool,
    /// What was done here: verbs, promotions, alerts by kind.
    pub(super) log: Vec<String>,
    pub(super) replies: BTreeMap<u64, Result<String, CommandError>>,
    /// Answers that differ from success: by resource and verb.
    pub(super) broken: BTreeMap<(usize, Verb), AgentResult>,
}

enum Due {
    Event(Event),
    /// A message is on its way; dropped when the way is cut on arrival.
    Message(Voter, Message),
    Synced,
}

/// See the module.
pub(super) struct World {
    pub(super) now: Millis,
    pub(super) hosts: [Host; 2],
    pub(super) record: Record,
    /// Nobody but the incumbent is let in until then.
    hold_until: Millis,
    pub(super) witness: [bool; 2],
    pub(super) heartbeats: bool,
    pub(super) replication: bool,
    /// Answer this many swaps with `Unknown`, having done them or not.
    pub(super) unknown: Vec<bool>,
    quorum: Quorum,
    fenced: bool,
    pub(super) fence_result: Result<(), String>,
    /// What comes after the address.
    pub(super) last: Vec<Resource>,
    /// What managers are told that start from now on.
    pub(super) policy: Policy,
    /// Work that takes longer than usual.
    pub(super) slow: BTreeMap<(usize, Verb), Millis>,
    queue: BTreeMap<(Millis, u64), (usize, u64, Due)>,
    seq: u64,
}

impl World {
    pub(super) fn new(quorum: Quorum) -> Self {
        let host = || Host {
            engine: None,
            powered: false,
            disk: Disk {
                up: true,
                view: ReplicaView {
                    primary: false,
                    disk: "Inconsistent".into(),
                    connected: false,
                    stands_alone: false,
                    alone_because: None,
                    peer_primary: false,
                    peer_disk: "DUnknown".into(),
                    sync_permille: None,
                    out_of_sync_kib: 0,
                    sent_kib: 0,
                    received_kib: 0,
                    writes: 0,
                    write_us: 0,
                    flushes: 0,
                    flush_us: 0,
                    fence: Term(0),
                    term: None,
                    alone: false,
                    loss: 0,
                    blocked: false,
                    deposed: false,
                },
            },
            running: BTreeSet::new(),
            may_act_until: None,
            wake: None,
            lives: 0,
            exited: false,
            log: Vec::new(),
            replies: BTreeMap::new(),
            broken: BTreeMap::new(),
        };
        Self {
            now: 1_000,
            hosts: [host(), host()],
            record: Record::default(),
            hold_until: 0,
            witness: [true, true],
            heartbeats: true,
            replication: true,
            unknown: Vec::new(),
            quorum,
            fenced: false,
            fence_result: Ok(()),
            last: Vec::new(),
            policy: POLICY,
            slow: BTreeMap::new(),
            queue: BTreeMap::new(),
            seq: 0,
        }
    }

    /// Both hosts up, A bootstrapped as primary, everything synchronised.
    pub(super) fn settled(quorum: Quorum) -> Self {
        Self::settled_with(quorum, Vec::new())
    }

    /// The same with resources that come after the address.
    pub(super) fn settled_with(quorum: Quorum, last: Vec<Resource>) -> Self {
        let mut world = Self { last, ..Self::new(quorum) };
        world.boot(Node::A);
        world.boot(Node::B);
        world.run(1_000);
        world.command(Node::A, Command::Bootstrap { primary: Node::A, maintenance: false }, 1);
        world.run(3_000);
        assert_eq!(world.record.synced, Nodes::BOTH, "{:?}", world.hosts[0].log);
        world.assert_runs_on(Node::A);
        world
    }

    pub(super) fn boot(&mut self, node: Node) {
        let host = &mut self.hosts[index(node)];
        host.powered = true;
        host.disk.up = true;
        self.start_manager(node);
        self.links();
    }

    pub(super) fn start_manager(&mut self, node: Node) {
        let quorum = self.quorum;
        let now = self.now;
        let host = &mut self.hosts[index(node)];
        host.lives += 1;
        host.exited = false;
        let mut out = Vec::new();
        let life = host.lives * 1_000_000 + if node == Node::B { 500_000 } else { 0 };
        let mut config = config(node, quorum);
        config.group.extend(self.last.iter().cloned());
        config.policy = self.policy.clone();
        host.engine = Some(Engine::new(config, life, now, &mut out));
        self.perform(node, out);
        self.tell_replica(node);
    }

    pub(super) fn kill_manager(&mut self, node: Node) {
        let host = &mut self.hosts[index(node)];
        host.engine = None;
        host.lives += 1;
        host.wake = None;
    }

    pub(super) fn power_off(&mut self, node: Node) {
        self.kill_manager(node);
        let host = &mut self.hosts[index(node)];
        host.powered = false;
        host.running.clear();
        host.may_act_until = None;
        let view = &mut host.disk.view;
        view.primary = false;
        view.term = None;
        view.alone = false;
        view.blocked = false;
        view.deposed = false;
        view.loss = 0;
        self.links();
    }

    pub(super) fn command(&mut self, node: Node, command: Command, token: u64) {
        self.give(node, Event::Command { token: Token(token), command, at: self.now / 1000 });
    }

    pub(super) fn shutdown(&mut self, node: Node, kind: Shutdown) {
        self.give(node, Event::Shutdown { kind });
    }

    pub(super) fn health(&mut self, node: Node, public: bool, state_writable: bool) {
        self.give(node, Event::Health(Health { public, state_writable, ..Health::good() }));
    }

    /// What the group needs and a host does not have.
    pub(super) fn lacks(&mut self, node: Node, what: &[&str]) {
        let lacking: Vec<String> = what.iter().map(|&what| what.to_owned()).collect();
        self.give(node, Event::Health(Health { problems: lacking.clone(), lacking, ..Health::good() }));
    }

    /// A new manager in place of the old one; what runs goes on.
    pub(super) fn exchange(&mut self, node: Node) {
        self.kill_manager(node);
        self.start_manager(node);
    }

    /// A service dies by itself.
    pub(super) fn crash(&mut self, node: Node, resource: usize) {
        self.hosts[index(node)].running.remove(&resource);
        self.give(
            node,
            Event::ResourceChanged {
                resource: ResourceId(resource),
                state: Running::Failed,
                reason: "main process killed".into(),
            },
        );
    }

    pub(super) fn crash_replica(&mut self, node: Node) {
        let host = &mut self.hosts[index(node)];
        host.disk.up = false;
        host.disk.view.primary = false;
        host.disk.view.term = None;
        host.disk.view.alone = false;
        host.disk.view.blocked = false;
        self.tell_replica(node);
        self.links();
    }

    pub(super) fn give(&mut self, node: Node, event: Event) {
        let now = self.now;
        let host = &mut self.hosts[index(node)];
        let Some(engine) = host.engine.as_mut() else { return };
        let mut out = Vec::new();
        engine.handle(event, now, &mut out);
        self.perform(node, out);
    }

    fn later(&mut self, node: Node, after: Millis, due: Due) {
        self.seq += 1;
        let life = self.hosts[index(node)].lives;
        self.queue.insert((self.now + after, self.seq), (index(node), life, due));
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, ms: Millis) {
        let end = self.now + ms;
        loop {
            let event = self.queue.keys().next().map(|k| k.0);
            let wake = self.hosts.iter().filter(|h| h.engine.is_some()).filter_map(|h| h.wake).min();
            let next = [event, wake].into_iter().flatten().min().filter(|at| *at <= end);
            let Some(at) = next else { break };
            self.now = self.now.max(at);
            if event == Some(at) {
                let ((_, _), (i, life, due)) = self.queue.pop_first().unwrap();
                self.deliver(Node::ALL[i], life, due);
            } else {
                for node in Node::ALL {
                    let host = &mut self.hosts[index(node)];
                    if host.engine.is_some() && host.wake == Some(at) {
                        host.wake = None;
                        self.give(node, Event::Tick);
                    }
                }
            }
            self.check();
        }
        self.now = end;
    }

    fn deliver(&mut self, node: Node, life: u64, due: Due) {
        match due {
            Due::Synced => self.synced(),
            Due::Message(from, message) => {
                if (self.heartbeats || from == Voter::Witness) && self.hosts[index(node)].engine.is_some() {
                    self.give(node, Event::Heard { from, path: PathId(0), message });
                }
            }
            Due::Event(event) => {
                if self.hosts[index(node)].lives == life {
                    self.give(node, event);
                }
            }
        }
    }

    /// What must hold at every moment.
    fn check(&self) {
        let writers = self.hosts.iter().filter(|h| {
            let v = &h.disk.view;
            h.disk.up && v.primary && !v.deposed && !v.blocked && v.term == Some(self.record.term)
        });
        assert!(writers.count() <= 1, "two writers");
        let address = |h: &Host| h.running.contains(&4) && h.may_act_until.is_some_and(|u| u > self.now);
        assert!(self.hosts.iter().filter(|h| address(h)).count() <= 1, "the address answers twice");
    }

    pub(super) fn majority(&self, node: Node) -> bool {
        let peer = self.hosts[index(node.peer())].engine.is_some() && self.heartbeats;
        match self.quorum {
            Quorum::Witness | Quorum::Etcd => self.witness[index(node)] || peer,
            Quorum::Fencing | Quorum::Manual => peer || self.fenced,
        }
    }

    fn perform(&mut self, node: Node, actions: Vec<Action>) {
        for action in actions {
            self.act(node, action);
        }
    }

    fn note(&mut self, node: Node, text: String) {
        self.hosts[index(node)].log.push(text);
    }

    fn act(&mut self, node: Node, action: Action) {
        let i = index(node);
        match action {
            Action::Store { id, op } => {
                let outcome = self.vote(node, op);
                self.later(node, 2 * WIRE_MS, Due::Event(Event::StoreDone { id, outcome }));
            }
            Action::Send { to, message } => {
                if let Some(peer) = to.node() {
                    self.later(peer, WIRE_MS, Due::Message(node.into(), message));
                }
            }
            Action::Replica { op, verb } => {
                let result = self.replicate(node, verb);
                self.note(
                    node,
                    format!("replica {verb:?} {}", if result.is_ok() { "ok" } else { "refused" }),
                );
                self.later(node, WORK_MS, Due::Event(Event::ReplicaDone { op, result }));
                self.links();
            }
            Action::Resource { op, resource, verb, .. } => {
                let outcome = self.agent(i, resource.0, verb);
                if verb != Verb::Monitor {
                    let mut all = group().into_iter().chain(self.last.iter().cloned());
                    let name = all.nth(resource.0).map_or_else(String::new, |r| r.name);
                    self.note(node, format!("{verb:?} {name}").to_lowercase());
                }
                let took = self.slow.get(&(resource.0, verb)).copied().unwrap_or(WORK_MS);
                self.later(node, took, Due::Event(Event::ResourceDone { op, outcome }));
            }
            Action::MayActUntil { until } => self.hosts[i].may_act_until = Some(until),
            Action::MayNotAct => {
                self.hosts[i].may_act_until = None;
                self.hosts[i].running.remove(&4);
                self.note(node, "may not act".into());
            }
            Action::Fence { op, target } => {
                let result = self.fence_result.clone();
                if result.is_ok() {
                    self.power_off(target);
                }
                self.later(node, 500, Due::Event(Event::FenceDone { op, result }));
            }
            Action::Reboot { .. } => self.note(node, "reboot".into()),
            Action::Reply { token, result } => {
                self.hosts[i].replies.insert(token.0, result);
            }
            Action::Publish(_) => {}
            Action::Log { text, .. } => {
                if option_env!("FUTAGO_STORY").is_some() {
                    println!("{:>8} {node:?} {text}", self.now);
                }
            }
            Action::Alert { kind, .. } => self.note(node, format!("alert {kind}")),
            Action::WakeAt { at } => {
                assert!(at > self.now);
                self.hosts[i].wake = Some(at);
            }
            Action::Exit { left } => {
                self.note(node, format!("leaves {left:?}"));
                self.hosts[i].exited = true;
                self.kill_manager(node);
            }
        }
    }

    fn vote(&mut self, node: Node, op: Op) -> Outcome {
        if self.quorum == Quorum::Witness && self.witness[index(node)] {
            let message = Message::Goodbye { term: Term(0) };
            self.later(node, WIRE_MS, Due::Message(Voter::Witness, message));
        }
        if matches!(op, Op::PeerFenced) {
            self.fenced = true;
            return Outcome::Fenced;
        }
        let forced = matches!(op, Op::Swap { lease: LeaseRule::Forced, .. });
        let two = matches!(self.quorum, Quorum::Fencing | Quorum::Manual);
        let lone = self.quorum == Quorum::Manual && self.record.primary == Some(node);
        let suffices = lone || (forced && two) || op == Op::OwnVote;
        if !suffices && !self.majority(node) {
            return Outcome::NoMajority { heard: vec![node.into()] };
        }
        let left = self.hold_until.saturating_sub(self.now);
        let leased = Outcome::Leased { by: Voter::Witness, left_ms: left };
        let foreign = self.record.primary != Some(node) && left > 0;
        match op {
            Op::Read => Outcome::Committed(self.record.clone()),
            Op::Swap { expect, record, lease } => {
                if expect != self.record.version {
                    return Outcome::Conflict(self.record.clone());
                }
                if lease == LeaseRule::MustBeOver && foreign {
                    return leased;
                }
                let leaps = forced && two;
                assert!(record.version == Version(expect.0 + 1) || (leaps && record.version.0 >= LEAP));
                match self.unknown.pop() {
                    Some(false) => return Outcome::Unknown,
                    Some(true) => {
                        self.record = record;
                        return Outcome::Unknown;
                    }
                    None => {}
                }
                if record.primary != self.record.primary {
                    self.hold_until = 0;
                }
                self.record = record.clone();
                Outcome::Committed(record)
            }
            Op::Renew { term } => {
                if term != self.record.term || self.record.primary != Some(node) {
                    return Outcome::Conflict(self.record.clone());
                }
                self.hold_until = self.now + 3_200;
                Outcome::Renewed { sent_at: self.now }
            }
            Op::Release { .. } => {
                self.hold_until = 0;
                Outcome::Released
            }
            Op::PreVote if foreign => leased,
            Op::PreVote => Outcome::WouldGrant(self.record.clone()),
            Op::PeerFenced => Outcome::Fenced,
            Op::OwnVote => Outcome::OwnVote { record: Some(self.record.clone()), highest: 0 },
        }
    }

    fn agent(&mut self, host: usize, resource: usize, verb: Verb) -> AgentOutcome {
        let primary = self.hosts[host].disk.view.primary;
        let node = Node::ALL[host];
        if verb == Verb::Start {
            assert_eq!(self.record.primary, Some(node), "started without being the primary");
            assert!(primary, "started without the device");
        }
        let host = &mut self.hosts[host];
        let told = host.broken.get(&(resource, verb)).copied();
        let result = told.unwrap_or_else(|| match verb {
            Verb::Start => {
                host.running.insert(resource);
                AgentResult::Ok
            }
            Verb::Stop | Verb::Kill => {
                host.running.remove(&resource);
                AgentResult::Ok
            }
            Verb::Monitor if host.running.contains(&resource) => AgentResult::Ok,
            Verb::Monitor => AgentResult::NotRunning,
        });
        AgentOutcome {
            result,
            reason: if result == AgentResult::Ok { String::new() } else { "broken".into() },
        }
    }

    pub(super) fn assert_runs_on(&self, node: Node) {
        let all: BTreeSet<usize> = (1..group().len() + self.last.len()).collect();
        let host = &self.hosts[index(node)];
        assert_eq!(host.running, all, "on {node:?}: {:#?}\n{:#?}", host.log, self.status(node).why);
        assert!(host.may_act_until.is_some_and(|u| u > self.now), "{:#?}", host.log);
        let other = &self.hosts[index(node.peer())];
        assert!(other.running.is_empty(), "still on {:?}: {:?}", node.peer(), other.running);
        assert_eq!(self.record.primary, Some(node));
    }

    pub(super) fn status(&self, node: Node) -> crate::control::Status {
        self.hosts[index(node)].engine.as_ref().unwrap().status(self.now)
    }

    pub(super) fn clear_logs(&mut self) {
        for host in &mut self.hosts {
            host.log.clear();
        }
    }

    /// What was started, stopped, killed, promoted on a node since the logs were cleared.
    pub(super) fn done(&self, node: Node) -> Vec<String> {
        let quiet = |l: &&String| !l.starts_with("alert") && !l.starts_with("leaves");
        self.hosts[index(node)].log.iter().filter(quiet).cloned().collect()
    }
}
