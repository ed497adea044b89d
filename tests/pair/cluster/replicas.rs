//! What the managers ask of the replication engines, what these say, and the exchange of their program.

use cluster::event::{Event, OpId, ReplicaVerb, ReplicaView};
use cluster::member::Node;
use replica::control::Command as ReplicaCommand;
use replica::event::{Millis, Token as ReplicaToken};
use replica::state::{ConnectionState, Role};

use super::{Cluster, Happening, Sabotage, index, name};
use crate::world::Notice;

/// Longest that requests may take to their end before the program is exchanged.
const PAUSE_MS: Millis = 5000;

impl Cluster {
    pub(super) fn replica(&mut self, node: Node, op: OpId, verb: ReplicaVerb) {
        let i = index(node);
        if self.sabotage == Some(Sabotage::SkipsFence) && matches!(verb, ReplicaVerb::Fence { .. }) {
            return self.later(node, 1, Event::ReplicaDone { op, result: Ok(()) });
        }
        if self.world.nodes[i].engine.is_none() {
            let result = Err("the replication daemon does not answer".to_owned());
            self.later(node, 1, Event::ReplicaDone { op, result });
            return;
        }
        let command = match verb {
            ReplicaVerb::Promote { term, alone, force } => {
                ReplicaCommand::Primary { force, term: Some(term.0), alone }
            }
            ReplicaVerb::Demote => ReplicaCommand::Secondary,
            ReplicaVerb::Fence { term } => ReplicaCommand::Fence { term: term.0 },
            ReplicaVerb::GoAlone { term, loss } => ReplicaCommand::GoAlone { term: term.0, loss },
            ReplicaVerb::Revoke => {
                self.client.forget(i);
                ReplicaCommand::Revoke
            }
            ReplicaVerb::Connect => ReplicaCommand::Connect { discard_my_data: false },
            ReplicaVerb::Discard => {
                self.next_token += 1;
                self.world.command(i, ReplicaToken(self.next_token), ReplicaCommand::Disconnect);
                ReplicaCommand::Connect { discard_my_data: true }
            }
        };
        self.next_token += 1;
        self.replica_ops.insert(self.next_token, (node, self.host(node).life, op));
        self.world.command(i, ReplicaToken(self.next_token), command);
    }

    /// What the replication engines have to say.
    pub(super) fn notice(&mut self) {
        while let Some(notice) = self.world.notices.pop_front() {
            match notice {
                Notice::Answered { node, slot, result } => {
                    let visible = self.is_served_by(Node::ALL[node]);
                    let checked = self.client.answered(&mut self.world, node, slot, result, visible);
                    checked.unwrap_or_else(|text| self.fail(text));
                }
                Notice::Primary { node } => {
                    self.world.nodes[node].mixed = false;
                    let checked = self.client.promoted(&self.world, node);
                    checked.unwrap_or_else(|text| self.fail(text));
                }
                Notice::Stopped { node } => self.client.forget(node),
                Notice::Reply { token, result } => {
                    if let Some(node) = self.pauses.remove(&token.0) {
                        self.paused(node, result.is_ok());
                        continue;
                    }
                    let Some((node, life, op)) = self.replica_ops.remove(&token.0) else { continue };
                    let result = result.map_err(|r| format!("{r}: {}", r.detail));
                    self.at(
                        1,
                        Happening::Event { node, life, event: Box::new(Event::ReplicaDone { op, result }) },
                    );
                }
            }
        }
    }

    /// Changes of the replication engines reach the managers, as the daemon's own watch tells them.
    pub(super) fn show_replicas(&mut self) {
        for node in Node::ALL {
            if self.world.nodes[index(node)].legacy.is_some() {
                // The socket is kept: the manager waits there for the next process.
                continue;
            }
            let engine = self.world.nodes[index(node)].engine.as_ref();
            let essence = engine.map(replica::engine::Engine::essence);
            let Some(manager) = &mut self.hosts[index(node)].manager else { continue };
            if manager.seen_replica != Some(essence) {
                manager.seen_replica = Some(essence);
                let view = self.world.status(index(node)).map(|s| view(&s));
                self.later(node, 1, Event::Replica(view));
            }
        }
    }

    pub(super) fn break_off_orders(&mut self, node: Node) {
        self.pauses.retain(|_, at| *at != node);
        let broken: Vec<u64> =
            self.replica_ops.iter().filter(|(_, (at, ..))| *at == node).map(|(token, _)| *token).collect();
        for (at, life, op) in
            broken.iter().filter_map(|token| self.replica_ops.remove(token)).collect::<Vec<_>>()
        {
            let result = Err("the replication daemon has closed the connection".to_owned());
            let event = Box::new(Event::ReplicaDone { op, result });
            self.at(1, Happening::Event { node: at, life, event });
        }
    }

    /// The replication daemon is told to become another program.
    pub(crate) fn exchange_replicad(&mut self, node: Node) {
        let i = index(node);
        if self.world.nodes[i].engine.is_none() || self.world.nodes[i].paused {
            return;
        }
        self.world.nodes[i].paused = true;
        self.next_token += 1;
        self.pauses.insert(self.next_token, node);
        self.at(PAUSE_MS, Happening::EndPause { node, token: self.next_token });
        self.world.command(i, ReplicaToken(self.next_token), ReplicaCommand::Pause);
    }

    /// The device is told to become as large as the disks allow.
    pub(crate) fn resize(&mut self, node: Node) {
        self.next_token += 1;
        self.world.command(index(node), ReplicaToken(self.next_token), ReplicaCommand::Resize);
    }

    /// What `force-primary` asks for on a host whose resync has lost its source.
    pub(crate) fn roll_back(&mut self, node: Node) {
        let is_chosen = self.record().primary == Some(node) && self.record().synced.contains(node);
        let may = |s: &replica::control::Status| {
            s.device.undo.is_some() && s.connection.state != ConnectionState::Connected
        };
        if is_chosen && self.world.status(index(node)).as_ref().is_some_and(may) {
            self.tell(format!("{} operator: rollback", name(node)));
            self.next_token += 1;
            self.world.command(index(node), ReplicaToken(self.next_token), ReplicaCommand::Rollback);
        }
    }

    /// It has taken too long.
    pub(super) fn end_pause(&mut self, node: Node, token: u64) {
        if self.pauses.remove(&token).is_some() {
            self.paused(node, false);
        }
    }

    /// Everything that was asked for is done, or that was refused.
    pub(super) fn paused(&mut self, node: Node, complete: bool) {
        let i = index(node);
        if complete {
            self.tell(format!("{} replication daemon goes on as another program", name(node)));
            self.break_off_orders(node);
            self.world.exchange(i);
            // Troubles come together.
            if !self.is_mended && self.world.rng.one_in(4) {
                self.isolate(node.into(), true);
            }
        } else {
            self.next_token += 1;
            self.world.command(i, ReplicaToken(self.next_token), ReplicaCommand::Unpause);
            self.world.end_pause(i);
        }
    }
}

fn view(status: &replica::control::Status) -> ReplicaView {
    let managed = status.managed.expect("a managed resource");
    let c = &status.connection;
    ReplicaView {
        primary: status.role == Role::Primary,
        disk: status.device.disk.to_string(),
        connected: c.state == ConnectionState::Connected,
        stands_alone: c.state == ConnectionState::StandAlone,
        alone_because: c.standalone_reason.clone(),
        peer_primary: c.peer_role == Role::Primary,
        peer_disk: c.peer_disk.to_string(),
        sync_permille: c.sync.map(|s| (s.done * 10.0) as u32),
        out_of_sync_kib: c.out_of_sync_kib,
        sent_kib: c.sent_kib,
        received_kib: c.received_kib,
        writes: status.device.waits.writes,
        write_us: status.device.waits.write_us,
        flushes: status.device.waits.flushes,
        flush_us: status.device.waits.flush_us,
        fence: cluster::record::Term(managed.fence),
        term: managed.term.map(cluster::record::Term),
        alone: managed.alone,
        loss: managed.loss,
        blocked: managed.blocked,
        deposed: managed.deposed,
    }
}
