//! What happens to the cluster from outside: power, kills, pauses, cut lines, services that fail, operators.

use std::collections::VecDeque;

use cluster::config::Quorum;
use cluster::control::Command;
use cluster::engine::Engine;
use cluster::event::{Event, Health, Running, Shutdown, Token};
use cluster::member::{Node, Voter};
use cluster::register::{Bundled, Witness};

use super::{BACK_MS, Cluster, Happening, Manager, RESTART_MS, index, name};
use crate::host::Fault;
use crate::net::{Lane, Net, PUBLIC};

/// The calendar at the beginning of the world, in seconds since 1970.
const CALENDAR_S: u64 = 1_800_000_600;

impl Cluster {
    /// Boots a host: its replication daemon and its manager start.
    pub(crate) fn power_on(&mut self, node: Node) {
        if self.host(node).powered {
            return;
        }
        self.tell(format!("{} boots", name(node)));
        self.host_mut(node).powered = true;
        self.start_replicad(node);
        self.start_manager(node);
    }

    /// Cuts a host's power.
    pub(crate) fn power_off(&mut self, node: Node) {
        if !self.host(node).powered {
            return;
        }
        self.tell(format!("{} loses power", name(node)));
        self.unfreeze(node);
        self.world.crash(index(node), true);
        self.client.forget(index(node));
        self.end_manager(node);
        let host = self.host_mut(node);
        host.powered = false;
        host.boot += 1;
        host.act_until = 0;
        host.services.power_off();
    }

    pub(crate) fn start_manager(&mut self, node: Node) {
        let now = self.world.now;
        let incarnation = self.world.rng.next();
        let fresh = self.world.rng.next();
        let local = self.host(node).clock.show(now);
        let born = self.started_at(local);
        let host = self.host_mut(node);
        if !host.powered || host.manager.is_some() {
            return;
        }
        let config = host.services.config().clone();
        let store = Bundled::new(node, config.quorum, config.timing, host.vault.saved.clone(), fresh, born);
        let mut out = Vec::new();
        let engine = Engine::new(config, incarnation, local, &mut out);
        host.life += 1;
        host.manager = Some(Manager {
            engine,
            store,
            stopped: false,
            waiting: VecDeque::new(),
            seen_replica: None,
            wake: 0,
            store_wake: None,
        });
        let health = Health { public: host.public_link, ..Health::good() };
        self.tell(format!("{} manager starts", name(node)));
        self.perform(node, out);
        self.later(node, 0, Event::Health(health));
    }

    /// The manager's process is gone, whatever it was doing.
    pub(super) fn end_manager(&mut self, node: Node) {
        let host = &mut self.hosts[index(node)];
        host.manager = None;
        host.life += 1;
        host.vault.tear(&mut self.world.rng);
    }

    /// What the manager of a host has stored is lost, and the manager ends with it.
    pub(crate) fn wipe_manager(&mut self, node: Node) {
        self.tell(format!("{} manager loses its store", name(node)));
        self.end_manager(node);
        self.host_mut(node).vault.saved = None;
        self.at(RESTART_MS, Happening::StartManager { node });
    }

    /// The clock of a member runs too fast or too slow by so many parts per million.
    pub(crate) fn drift(&mut self, member: Voter, ppm: i64) {
        let now = self.world.now;
        match member.node() {
            Some(node) => self.host_mut(node).clock.drifts(ppm, now),
            None => self.witness.clock.drifts(ppm, now),
        }
    }

    pub(crate) fn start_replicad(&mut self, node: Node) {
        if self.host(node).powered && self.world.nodes[index(node)].engine.is_none() {
            self.world.start(index(node));
        }
    }

    /// SIGKILL of the manager; systemd starts it again.
    pub(crate) fn kill_manager(&mut self, node: Node) {
        self.tell(format!("{} manager is killed", name(node)));
        self.end_manager(node);
        self.at(RESTART_MS, Happening::StartManager { node });
    }

    /// SIGKILL of the replication daemon: systemd keeps its device, if it may, and starts it again.
    pub(crate) fn kill_replicad(&mut self, node: Node) {
        if self.world.bereave(index(node)) {
            self.tell(format!("{} replication daemon is killed, its device stays", name(node)));
            self.break_off_orders(node);
            self.at(BACK_MS, Happening::StartReplicad { node });
        } else {
            self.lose_replicad(node);
        }
    }

    /// Whether the host has the device.
    pub(crate) fn is_exported(&self, node: Node) -> bool {
        self.world.nodes[index(node)].exported
    }

    /// The end of the replication daemon and of its device.
    pub(crate) fn lose_replicad(&mut self, node: Node) {
        if self.world.nodes[index(node)].engine.is_none() {
            return;
        }
        self.tell(format!("{} replication daemon is killed", name(node)));
        self.world.crash(index(node), false);
        self.client.forget(index(node));
        self.break_off_orders(node);
        self.at(BACK_MS, Happening::StartReplicad { node });
    }

    /// SIGSTOP and SIGCONT of the manager.
    pub(crate) fn pause_manager(&mut self, node: Node, paused: bool) {
        let what = if paused { "is stopped" } else { "goes on" };
        self.tell(format!("{} manager {what}", name(node)));
        let host = self.host_mut(node);
        let Some(manager) = &mut host.manager else { return };
        manager.stopped = paused;
        let waiting = if paused { VecDeque::new() } else { std::mem::take(&mut manager.waiting) };
        for happening in waiting {
            self.happen(happening);
        }
    }

    /// The service manager stops our manager, in good order.
    pub(crate) fn shut_down_manager(&mut self, node: Node, kind: Shutdown) {
        self.host_mut(node).restarts = kind == Shutdown::Restart;
        self.later(node, 0, Event::Shutdown { kind });
    }

    pub(crate) fn start_witness(&mut self) {
        if self.witness.voter.is_some() {
            return;
        }
        self.tell("witness starts".into());
        let born = self.started_at(self.witness.clock.show(self.world.now));
        let fresh = self.world.rng.next();
        self.witness.life += 1;
        self.witness.voter = Some(Witness::new(self.witness.vault.saved.clone(), fresh, born));
    }

    /// The witness goes, keeping its disk; with `wipe`, its store is lost.
    pub(crate) fn stop_witness(&mut self, wipe: bool) {
        self.tell(format!("witness is gone{}", if wipe { ", its store with it" } else { "" }));
        self.witness.voter = None;
        self.witness.life += 1;
        self.witness.vault.tear(&mut self.world.rng);
        if wipe {
            self.witness.vault.saved = None;
            self.witness_was_wiped = true;
        }
    }

    /// Both managers run, nothing is cut or lost, the witness is there.
    pub(crate) fn all_is_well(&self) -> bool {
        let host = |h: &super::Host| {
            h.frozen_since.is_none() && h.public_link && h.manager.as_ref().is_some_and(|m| !m.stopped)
        };
        self.witness.voter.is_some() && self.net.is_well() && self.hosts.iter().all(host)
    }

    /// A copy of the witness's disk, and putting it back: a restored snapshot.
    pub(crate) fn witness_snapshot(&self) -> Option<cluster::register::SavedVote> {
        self.witness.vault.saved.clone()
    }

    pub(crate) fn restore_witness(&mut self, saved: Option<cluster::register::SavedVote>) {
        self.stop_witness(false);
        self.tell("witness is put back to an older copy of its disk".into());
        self.witness.vault.saved = saved;
    }

    /// Cuts every way that goes from one member to another on the given segment.
    pub(crate) fn cut(&mut self, from: Voter, to: Voter, path: cluster::event::PathId, cut: bool) {
        self.net.set(Lane { from, to, path }, cut);
        if path == crate::net::LOCAL
            && let Some(node) = from.node()
        {
            self.world.set_cut(index(node), cut);
        }
    }

    /// Cuts or heals a whole segment.
    pub(crate) fn cut_segment(&mut self, path: cluster::event::PathId, cut: bool) {
        let members = [Voter::A, Voter::B, Voter::Witness];
        for from in members {
            for to in members {
                if from != to && Net::paths(from, to).contains(&path) {
                    self.cut(from, to, path, cut);
                }
            }
        }
    }

    /// Everything that a member sends and hears is lost, or is not any longer.
    pub(crate) fn isolate(&mut self, member: Voter, cut: bool) {
        for other in [Voter::A, Voter::B, Voter::Witness] {
            for path in Net::paths(member, other).iter().filter(|_| other != member) {
                self.cut(member, other, *path, cut);
                self.cut(other, member, *path, cut);
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        self.net.heal();
        self.world.set_cut(0, false);
        self.world.set_cut(1, false);
        for node in Node::ALL {
            self.set_public_link(node, true);
        }
    }

    /// The cable of the public segment at one host.
    pub(crate) fn set_public_link(&mut self, node: Node, up: bool) {
        if self.host(node).public_link == up {
            return;
        }
        self.host_mut(node).public_link = up;
        for other in [Voter::from(node.peer()), Voter::Witness] {
            self.cut(node.into(), other, PUBLIC, !up);
            self.cut(other, node.into(), PUBLIC, !up);
        }
        self.tell(format!("{} public link {}", name(node), if up { "up" } else { "down" }));
        self.later(node, 1, Event::Health(Health { public: up, ..Health::good() }));
    }

    /// A service ends by itself.
    pub(crate) fn kill_service(&mut self, node: Node, service: &str) {
        let services = &mut self.host_mut(node).services;
        let Some(resource) = services.id(service) else { return };
        if services.state(resource) != Running::Started {
            return;
        }
        services.set(resource, Running::Failed);
        self.tell(format!("{} {service} is killed", name(node)));
        let reason = "main process exited, code=killed, status=9/KILL".to_owned();
        self.later(node, 1, Event::ResourceChanged { resource, state: Running::Failed, reason });
    }

    /// Somebody starts a service by hand.
    pub(crate) fn start_service(&mut self, node: Node, service: &str) {
        let services = &mut self.host_mut(node).services;
        let Some(resource) = services.id(service) else { return };
        services.set(resource, Running::Started);
        self.tell(format!("{} {service} is started by hand", name(node)));
        let (state, reason) = (Running::Started, "started".to_owned());
        self.later(node, 1, Event::ResourceChanged { resource, state, reason });
    }

    /// How the disk below a host's device behaves from now on: `fails`, `hangs`, `slow` or `well`.
    pub(crate) fn set_disk(&mut self, node: Node, how: &str) {
        let what = if how == "slow" || how == "well" { format!("is {how}") } else { how.to_owned() };
        self.tell(format!("{} disk {what}", name(node)));
        let on = &mut self.world.nodes[index(node)];
        (on.slow, on.broken, on.hangs) = (how == "slow", how == "fails", how == "hangs");
    }

    pub(crate) fn set_fault(&mut self, node: Node, service: &str, fault: Option<Fault>) {
        let services = &mut self.host_mut(node).services;
        let Some(id) = services.id(service) else { return };
        match fault {
            Some(fault) => services.faults.insert(id, fault),
            None => services.faults.remove(&id),
        };
        self.tell(format!("{} {service} fault: {fault:?}", name(node)));
    }

    pub(crate) fn command(&mut self, node: Node, command: Command) -> u64 {
        self.next_token += 1;
        let token = self.next_token;
        self.tell(format!("{} operator: {command:?}", name(node)));
        let at = CALENDAR_S + self.world.now / 1000;
        self.later(node, 0, Event::Command { token: Token(token), command, at });
        token
    }

    /// From bare hosts to a running stack, without a fault.
    pub(crate) fn bring_up(&mut self, quorum: Quorum) -> Result<(), String> {
        if quorum == Quorum::Witness {
            self.start_witness();
        }
        self.power_on(Node::A);
        self.power_on(Node::B);
        self.pass(2000)?;
        self.command(Node::A, Command::Bootstrap { primary: Node::A, maintenance: false });
        self.client_runs = true;
        for _ in 0..60 {
            self.pass(500)?;
            let complete = self.record().synced == cluster::member::Nodes::BOTH;
            if complete && self.is_served_by(Node::A) && self.client.last_row > 0 {
                return Ok(());
            }
        }
        Err(format!("the stack did not come up: {:?}", self.status(Node::A)))
    }
}
