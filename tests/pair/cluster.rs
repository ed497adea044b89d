//! The managed pair: performs what managers, stores and replication engines ask for, in virtual time, and checks
//! what must hold at every moment.

mod disks;
mod faults;
mod replicas;
mod rules;
mod sabotage;
mod stun;
mod votes;

use std::collections::{BTreeMap, VecDeque};

use cluster::config::{Class, Config, Quorum, ResourceId};
use cluster::control::{CommandError, Status};
use cluster::engine::Engine;
use cluster::event::{Action, Event, OpId, Running, Verb};
use cluster::member::{Node, Voter};
use cluster::message::Message;
use cluster::record::Record;
use cluster::register::{Bundled, Saved};
use cluster::store::RecordStore as _;
use replica::engine::Essence;
use replica::event::Millis;

use crate::client::Client;
use crate::host::{Clock, Services};
use crate::net::{Lane, Net};
use crate::setup;
use crate::world::World;

pub(crate) use sabotage::Sabotage;
use votes::{Vault, WitnessHost};

/// systemd starts a manager that ended again after so long.
const RESTART_MS: Millis = 150;
/// Until the daemon that follows a killed one goes on with its device.
const BACK_MS: Millis = 300;
/// Steps in a millisecond on average, and the fewest that a stretch of time may take: by far more than any needs.
const STEPS_MS: Millis = 50;
const STEPS: Millis = 50_000;
/// How often the client tries to write a row, unless told otherwise.
const CLIENT_MS: Millis = 20;

enum Happening {
    Deliver { lane: Lane, life: u32, message: Box<Message> },
    Wake { node: Node, life: u32, order: u64, due: Millis },
    StoreWake { node: Node, life: u32, due: Millis },
    Persisted { voter: Voter, life: u32 },
    Event { node: Node, life: u32, event: Box<Event> },
    ResourceEnd { node: Node, boot: u32, life: u32, op: OpId, resource: ResourceId, verb: Verb },
    StartManager { node: Node },
    StartReplicad { node: Node },
    EndPause { node: Node, token: u64 },
    Thaw { node: Node, boot: u32 },
    Client,
}

/// A running manager.
struct Manager {
    engine: Engine,
    store: Bundled,
    /// SIGSTOP: whatever happens to it waits.
    stopped: bool,
    waiting: VecDeque<Happening>,
    seen_replica: Option<Option<Essence>>,
    /// The wake-up that counts: the last one asked for.
    wake: u64,
    /// When the store is woken, if it is.
    store_wake: Option<Millis>,
}

pub(crate) struct Host {
    pub(crate) powered: bool,
    manager: Option<Manager>,
    /// Systemd starts the manager again when it ends.
    restarts: bool,
    life: u32,
    boot: u32,
    vault: Vault<Saved>,
    last_write: Millis,
    clock: Clock,
    /// The whole machine stands still.
    frozen_since: Option<Millis>,
    /// It was suspended: its clock runs on.
    is_asleep: bool,
    /// What happens to it meanwhile.
    held: Vec<Happening>,
    pub(crate) services: Services,
    pub(crate) public_link: bool,
    /// The last right to act, on the host's clock.
    act_until: Millis,
}

pub(crate) struct Cluster {
    pub(crate) world: World,
    pub(crate) net: Net,
    pub(crate) hosts: [Host; 2],
    witness: WitnessHost,
    pub(crate) client: Client,
    pub(crate) client_runs: bool,
    /// The story: what a person would want to read.
    pub(crate) story: Vec<(Millis, String)>,
    pub(crate) replies: BTreeMap<u64, Result<String, CommandError>>,
    happenings: BTreeMap<(Millis, u64), Happening>,
    order: u64,
    next_token: u64,
    replica_ops: BTreeMap<u64, (Node, u32, OpId)>,
    /// Orders to pause that are not answered.
    pauses: BTreeMap<u64, Node>,
    /// No more troubles.
    pub(crate) is_mended: bool,
    pub(crate) witness_was_wiped: bool,
    /// Every version that was ever committed, with its content.
    committed: BTreeMap<u64, Record>,
    violation: Option<String>,
    /// Since when two devices seem to be able to answer writes under a mounted file system.
    rivals_since: Option<Millis>,
    /// A machine stood still: until then it may answer for an address that its kernel has not yet taken away.
    excused_until: Millis,
    pub(crate) sabotage: Option<Sabotage>,
    disks: disks::Disks,
}

impl Host {
    /// Whether it answers for the address.
    fn has_address(&self, now: Millis) -> bool {
        self.powered && self.frozen_since.is_none() && self.services.has_address(now)
    }
}

impl Cluster {
    /// Two hosts that have just booted, a witness, an empty record. Nothing is started yet.
    pub(crate) fn new(mut world: World, quorum: Quorum, failover_target_ms: Millis) -> Self {
        world.managed = true;
        let mut host = |node: Node| Host {
            powered: false,
            manager: None,
            restarts: false,
            life: 0,
            boot: 0,
            vault: Vault::new(),
            last_write: 0,
            clock: Clock::new(10_000 + world.rng.below(1_000_000), world.rng.below(800) as i64 - 400),
            frozen_since: None,
            is_asleep: false,
            held: Vec::new(),
            services: Services::new(setup::config(node, quorum, failover_target_ms)),
            public_link: true,
            act_until: 0,
        };
        let hosts = [host(Node::A), host(Node::B)];
        let clock = Clock::new(world.rng.below(1_000_000), world.rng.below(800) as i64 - 400);
        let mut cluster = Self {
            world,
            net: Net::new(),
            hosts,
            witness: WitnessHost::new(clock),
            client: Client::new(CLIENT_MS),
            client_runs: false,
            story: Vec::new(),
            replies: BTreeMap::new(),
            happenings: BTreeMap::new(),
            order: 0,
            next_token: 0,
            replica_ops: BTreeMap::new(),
            pauses: BTreeMap::new(),
            is_mended: false,
            witness_was_wiped: false,
            committed: BTreeMap::new(),
            violation: None,
            rivals_since: None,
            excused_until: 0,
            sabotage: None,
            disks: disks::Disks::default(),
        };
        cluster.at(CLIENT_MS, Happening::Client);
        cluster
    }

    /// Changes what both managers will be told. Nothing may be started yet.
    pub(crate) fn configure(&mut self, change: impl Fn(&mut Config)) {
        for host in &mut self.hosts {
            let mut config = host.services.config().clone();
            change(&mut config);
            host.services = Services::new(config);
        }
    }

    pub(crate) fn tell(&mut self, text: String) {
        self.world.say(text.clone());
        self.story.push((self.world.now, text));
    }

    fn fail(&mut self, text: String) {
        self.tell(format!("VIOLATION {text}"));
        self.violation.get_or_insert(text);
    }

    fn at(&mut self, delay: Millis, happening: Happening) {
        self.at_moment(self.world.now + delay, happening);
    }

    fn at_moment(&mut self, moment: Millis, happening: Happening) {
        self.order += 1;
        self.happenings.insert((moment.max(self.world.now), self.order), happening);
    }

    pub(crate) fn host(&self, node: Node) -> &Host {
        &self.hosts[index(node)]
    }

    pub(crate) fn host_mut(&mut self, node: Node) -> &mut Host {
        &mut self.hosts[index(node)]
    }

    /// What the manager of a node would show.
    pub(crate) fn status(&self, node: Node) -> Option<Status> {
        let host = self.host(node);
        host.manager.as_ref().map(|m| m.engine.status(host.clock.show(self.world.now)))
    }

    /// What both managers would answer to `status` and `why`, for a failed test.
    pub(crate) fn told(&self) -> String {
        let told = |node: Node| {
            let replica =
                self.world.status(index(node)).map(|s| (s.role, s.device.disk, s.connection, s.managed));
            match self.status(node) {
                Some(s) => {
                    format!("{}: {:?}: {} {:#?}\n{replica:?}", name(node), s.verdict, s.because, s.why)
                }
                None => format!("{}: no manager\n{replica:?}", name(node)),
            }
        };
        Node::ALL.map(told).join("\n")
    }

    /// The newest record that was ever committed.
    pub(crate) fn record(&self) -> Record {
        self.committed.last_key_value().map(|(_, record)| record.clone()).unwrap_or_default()
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, ms: Millis) -> Result<(), String> {
        let end = self.world.now + ms;
        let most = STEPS + ms * STEPS_MS;
        for _ in 0..most {
            self.notice();
            self.watch();
            self.watch_disks();
            self.show_replicas();
            if let Some(text) = &self.violation {
                return Err(text.clone());
            }
            let own = self.happenings.first_key_value().map(|((at, order), _)| (*at, *order));
            let (world, own_at) = (self.world.next_at(), own.map(|(at, _)| at));
            match own {
                Some(key) if key.0 <= end && world.is_none_or(|w| key.0 <= w) => {
                    self.world.now = self.world.now.max(key.0);
                    let happening = self.happenings.remove(&key).unwrap();
                    self.happen(happening);
                }
                _ if world.is_some_and(|w| w <= end) => {
                    self.world.step(own_at.unwrap_or(end).min(end));
                }
                _ => {
                    self.world.now = end;
                    return Ok(());
                }
            }
        }
        let (now, end) = (self.world.now, end);
        Err(format!("{most} steps did not take {ms} ms: something spins at {now} of {end} ms"))
    }

    /// Whose process it happens to, and in which life of it.
    fn process(&self, happening: &Happening) -> Option<(Voter, u32)> {
        match happening {
            Happening::Deliver { lane, life, .. } => Some((lane.to, *life)),
            Happening::Persisted { voter, life } => Some((*voter, *life)),
            Happening::Wake { node, life, .. }
            | Happening::StoreWake { node, life, .. }
            | Happening::Event { node, life, .. } => Some(((*node).into(), *life)),
            _ => None,
        }
    }

    fn happen(&mut self, happening: Happening) {
        let Some(happening) = self.unless_frozen(happening) else { return };
        if let Some((voter, life)) = self.process(&happening) {
            if self.life(voter) != life {
                return;
            }
            let manager = voter.node().and_then(|node| self.host_mut(node).manager.as_mut());
            if let Some(manager) = manager.filter(|m| m.stopped) {
                manager.waiting.push_back(happening);
                return;
            }
        }
        match happening {
            Happening::Deliver { lane, message, .. } => self.deliver(lane, *message),
            Happening::Wake { node, life, order, due } => {
                if self.host(node).manager.as_ref().is_some_and(|m| m.wake == order) {
                    self.wake(node, life, due);
                }
            }
            Happening::StoreWake { node, due, .. } => self.store_tick(node, due),
            Happening::Persisted { voter, .. } => self.persisted(voter),
            Happening::Event { node, life, event } => self.event(node, life, *event),
            Happening::ResourceEnd { node, boot, life, op, resource, verb } => {
                self.resource_end(node, boot, life, op, resource, verb);
            }
            Happening::Thaw { node, boot } => self.thaw(node, boot),
            Happening::StartManager { node } => self.start_manager(node),
            Happening::StartReplicad { node } => self.start_replicad(node),
            Happening::EndPause { node, token } => self.end_pause(node, token),
            Happening::Client => {
                self.at(self.client.pace, Happening::Client);
                self.sabotage();
                for node in Node::ALL {
                    if self.client_runs && self.is_served_by(node) {
                        self.client.write(&mut self.world, index(node));
                    }
                }
            }
        }
    }

    /// Whether clients find the address on a node and everything behind it runs.
    pub(crate) fn is_served_by(&self, node: Node) -> bool {
        let host = self.host(node);
        host.has_address(self.world.now) && host.services.serves()
    }

    fn event(&mut self, node: Node, life: u32, event: Event) {
        let now = self.world.now;
        let host = &mut self.hosts[index(node)];
        let Some(manager) = host.manager.as_mut().filter(|_| host.life == life) else { return };
        let mut out = Vec::new();
        manager.engine.handle(event, host.clock.show(now), &mut out);
        self.perform(node, out);
    }

    fn wake_at(&mut self, node: Node, due: Millis) {
        let (life, order) = (self.host(node).life, self.order + 1);
        let moment = self.host(node).clock.when(due);
        self.at_moment(moment, Happening::Wake { node, life, order, due });
        if let Some(manager) = &mut self.host_mut(node).manager {
            manager.wake = order;
        }
    }

    /// The clock may have stood still meanwhile.
    fn wake(&mut self, node: Node, life: u32, due: Millis) {
        if self.host(node).clock.show(self.world.now) < due {
            self.wake_at(node, due);
        } else {
            self.event(node, life, Event::Tick);
        }
    }

    fn later(&mut self, node: Node, delay: Millis, event: Event) {
        let life = self.host(node).life;
        self.at(delay, Happening::Event { node, life, event: Box::new(event) });
    }

    fn perform(&mut self, node: Node, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Store { id, op } => {
                    if let Some(outcome) = self.unasked(&op) {
                        self.later(node, 1, Event::StoreDone { id, outcome });
                        continue;
                    }
                    let now = self.host(node).clock.show(self.world.now);
                    let (op, mut out) = (self.sabotaged_op(op), Vec::new());
                    if let Some(manager) = &mut self.host_mut(node).manager {
                        manager.store.submit(id, op, now, &mut out);
                    }
                    self.effects(node, out);
                }
                Action::Send { to, message } => self.send(node.into(), to, message),
                Action::Replica { op, verb } => self.replica(node, op, verb),
                Action::Resource { op, resource, verb, .. } => self.resource(node, op, resource, verb),
                Action::MayActUntil { until } => self.may_act(node, until),
                Action::MayNotAct => self.may_act(node, 0),
                Action::Fence { op, target } => self.fence(node, op, target),
                Action::Reboot { reason } => {
                    self.tell(format!("{} reboots: {reason}", name(node)));
                    self.power_off(node);
                    self.power_on(node);
                }
                Action::Reply { token, result } => {
                    let text = match &result {
                        Ok(text) => format!("{} answers: {text}", name(node)),
                        Err(error) => format!("{} refuses: {error}", name(node)),
                    };
                    self.tell(text);
                    self.replies.insert(token.0, result);
                }
                Action::Publish(_) => {}
                Action::Log { level, text } => self.tell(format!("{} {level:?} {text}", name(node))),
                Action::Alert { kind, text, .. } => self.tell(format!("{} ALERT {kind}: {text}", name(node))),
                Action::WakeAt { at } => {
                    self.wake_at(node, at);
                }
                Action::Exit { .. } => {
                    self.tell(format!("{} manager ends", name(node)));
                    self.end_manager(node);
                    if std::mem::take(&mut self.host_mut(node).restarts) {
                        self.at(RESTART_MS, Happening::StartManager { node });
                    }
                }
            }
        }
    }

    /// The address lives for whole seconds in the kernel, and up to one more.
    fn may_act(&mut self, node: Node, until: Millis) {
        if self.keeps_address(node, until) {
            return;
        }
        let now = self.world.now;
        let host = &mut self.hosts[index(node)];
        let services = &mut host.services;
        let started = services.ids().any(|id| {
            matches!(services.class(id), Some(Class::Address { .. }))
                && services.state(id) == Running::Started
        });
        host.act_until = until;
        let left = until.saturating_sub(host.clock.show(now));
        if left == 0 {
            services.address_until = None;
            return;
        }
        let valid_s = u64::from(services.config().timing.address_valid_s).min((left / 1000).max(1));
        services.address_until = started.then_some(now + valid_s * 1000 + 1000);
    }

    fn send(&mut self, from: Voter, to: Voter, message: Message) {
        let (life, message) = (self.life(to), self.sabotaged(message));
        for path in Net::paths(from, to) {
            let lane = Lane { from, to, path: *path };
            if from == Voter::Witness
                || self.host_of(from).is_none_or(|h| *path == crate::net::LOCAL || h.public_link)
            {
                for delay in self.net.arrivals(lane, &mut self.world.rng) {
                    self.at(delay, Happening::Deliver { lane, life, message: Box::new(message.clone()) });
                }
            }
        }
    }

    fn host_of(&self, voter: Voter) -> Option<&Host> {
        voter.node().map(|node| self.host(node))
    }

    fn life(&self, voter: Voter) -> u32 {
        self.host_of(voter).map_or(self.witness.life, |h| h.life)
    }

    fn deliver(&mut self, lane: Lane, message: Message) {
        if self.net.is_cut(lane) {
            return;
        }
        match (lane.to.node(), message) {
            (Some(node), message) => {
                if let Message::Register(message) = &message {
                    self.node_hears(node, lane.from, message.clone());
                }
                let event = Event::Heard { from: lane.from, path: lane.path, message };
                self.event(node, self.host(node).life, event);
            }
            (None, Message::Register(message)) => self.witness_hears(lane.from, message),
            (None, _) => {}
        }
    }

    fn resource(&mut self, node: Node, op: OpId, resource: ResourceId, verb: Verb) {
        let (life, boot) = (self.host(node).life, self.host(node).boot);
        self.check_start(node, resource, verb);
        let delay = match verb {
            Verb::Monitor => 1 + self.world.rng.below(10),
            Verb::Start => 20 + self.world.rng.below(200),
            Verb::Stop | Verb::Kill => 10 + self.world.rng.below(100),
        };
        self.at(delay, Happening::ResourceEnd { node, boot, life, op, resource, verb });
    }

    fn resource_end(&mut self, node: Node, boot: u32, life: u32, op: OpId, resource: ResourceId, verb: Verb) {
        if self.host(node).boot != boot || !self.host(node).powered {
            return;
        }
        let device = self.world.nodes[index(node)].exported;
        let outcome = self.host_mut(node).services.perform(resource, verb, device);
        if verb == Verb::Start
            && matches!(self.host(node).services.class(resource), Some(Class::Address { .. }))
        {
            let until = self.host(node).act_until;
            self.may_act(node, until);
        }
        self.at(0, Happening::Event { node, life, event: Box::new(Event::ResourceDone { op, outcome }) });
    }

    fn fence(&mut self, node: Node, op: OpId, target: Node) {
        self.tell(format!("{} fences {}", name(node), name(target)));
        self.power_off(target);
        self.later(node, 1500, Event::FenceDone { op, result: Ok(()) });
    }
}

/// The position of a node.
pub(crate) fn index(node: Node) -> usize {
    match node {
        Node::A => 0,
        Node::B => 1,
    }
}

/// The name of a node.
pub(crate) fn name(node: Node) -> &'static str {
    crate::world::name(index(node))
}
