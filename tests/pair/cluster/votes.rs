//! The stores of the members and the witness around them: messages, disks that are written in order and torn by
//! crashes, deadlines.

use std::collections::VecDeque;

use cluster::event::Event;
use cluster::member::{Node, Voter};
use cluster::message::{Message, Register};
use cluster::register::{self, Saved, SavedVote, Witness};
use cluster::store::{Outcome, RecordStore as _};
use replica::event::Millis;

use super::{Cluster, Happening, index, name};
use crate::host::Clock;
use crate::rng::Rng;

/// Most milliseconds that a write of a voter's state takes.
const WRITE_MS: Millis = 4;

/// A voter's state on its disk: written one after the other.
pub(super) struct Vault<S> {
    pub(super) saved: Option<S>,
    writing: VecDeque<(u64, S)>,
    /// Every write is lost although it was answered: what a broken voter does.
    pub(super) forgets: bool,
}

impl<S> Vault<S> {
    pub(super) fn new() -> Self {
        Self { saved: None, writing: VecDeque::new(), forgets: false }
    }

    /// The oldest write is over.
    fn written(&mut self) -> Option<u64> {
        let (seq, saved) = self.writing.pop_front()?;
        if !self.forgets {
            self.saved = Some(saved);
        }
        Some(seq)
    }

    /// The voter ends now: of what was being written, a part may have reached the disk.
    pub(super) fn tear(&mut self, rng: &mut Rng) {
        while rng.one_in(2) && self.written().is_some() {}
        self.writing.clear();
    }
}

/// The third machine.
pub(super) struct WitnessHost {
    pub(super) voter: Option<Witness>,
    pub(super) vault: Vault<SavedVote>,
    pub(super) life: u32,
    pub(super) clock: Clock,
    last_write: Millis,
}

impl WitnessHost {
    pub(super) fn new(clock: Clock) -> Self {
        Self { voter: None, vault: Vault::new(), life: 0, clock, last_write: 0 }
    }
}

impl Cluster {
    pub(super) fn node_hears(&mut self, node: Node, from: Voter, message: Register) {
        let now = self.host(node).clock.show(self.world.now);
        let mut out = Vec::new();
        if let Some(manager) = &mut self.host_mut(node).manager {
            manager.store.handle(register::Event::Received { from, message }, now, &mut out);
        }
        self.effects(node, out);
    }

    pub(super) fn witness_hears(&mut self, from: Voter, message: Register) {
        let now = self.witness.clock.show(self.world.now);
        let mut out = Vec::new();
        if let Some(voter) = &mut self.witness.voter {
            voter.handle(register::Event::Received { from, message }, now, &mut out);
        }
        self.witness_effects(out);
    }

    pub(super) fn effects(&mut self, node: Node, effects: Vec<register::Effect<Saved>>) {
        for effect in effects {
            match effect {
                register::Effect::Send { to, message } => {
                    self.send(node.into(), to, Message::Register(message));
                }
                register::Effect::Persist { seq, saved } => {
                    let at = self.world.now + 1 + self.world.rng.below(WRITE_MS);
                    let host = self.host_mut(node);
                    host.vault.writing.push_back((seq, saved));
                    host.last_write = host.last_write.max(at);
                    let (at, life) = (host.last_write, host.life);
                    self.at_moment(at, Happening::Persisted { voter: node.into(), life });
                }
                register::Effect::Done { id, outcome } => {
                    // A change whose proposer heard too little is seen first by whoever meets it.
                    if let Outcome::Committed(record) | Outcome::Conflict(record) = &outcome {
                        self.is_committed(record);
                    }
                    self.later(node, 0, Event::StoreDone { id, outcome });
                }
                register::Effect::Log { text, .. } => self.tell(format!("{} store: {text}", name(node))),
            }
        }
        self.arm_store(node);
    }

    fn witness_effects(&mut self, effects: Vec<register::Effect<SavedVote>>) {
        for effect in effects {
            match effect {
                register::Effect::Send { to, message } => {
                    self.send(Voter::Witness, to, Message::Register(message));
                }
                register::Effect::Persist { seq, saved } => {
                    let at = self.world.now + 1 + self.world.rng.below(WRITE_MS);
                    let witness = &mut self.witness;
                    witness.vault.writing.push_back((seq, saved));
                    witness.last_write = witness.last_write.max(at);
                    let (at, life) = (witness.last_write, witness.life);
                    self.at_moment(at, Happening::Persisted { voter: Voter::Witness, life });
                }
                register::Effect::Done { .. } => {}
                register::Effect::Log { text, .. } => self.tell(format!("witness: {text}")),
            }
        }
    }

    /// A voter's oldest write is over.
    pub(super) fn persisted(&mut self, voter: Voter) {
        let Some(node) = voter.node() else {
            let now = self.witness.clock.show(self.world.now);
            let mut out = Vec::new();
            if let (Some(seq), Some(voter)) = (self.witness.vault.written(), &mut self.witness.voter) {
                voter.handle(register::Event::Persisted { seq }, now, &mut out);
            }
            return self.witness_effects(out);
        };
        let host = &mut self.hosts[index(node)];
        let now = host.clock.show(self.world.now);
        let mut out = Vec::new();
        if let (Some(seq), Some(manager)) = (host.vault.written(), &mut host.manager) {
            manager.store.handle(register::Event::Persisted { seq }, now, &mut out);
        }
        self.effects(node, out);
    }

    fn arm_store(&mut self, node: Node) {
        let host = &mut self.hosts[index(node)];
        let (life, clock) = (host.life, host.clock);
        let Some(manager) = &mut host.manager else { return };
        let due = manager.store.deadline();
        if manager.store_wake == due {
            return;
        }
        manager.store_wake = due;
        if let Some(due) = due {
            self.at_moment(clock.when(due), Happening::StoreWake { node, life, due });
        }
    }

    pub(super) fn store_tick(&mut self, node: Node, due: Millis) {
        let host = &mut self.hosts[index(node)];
        let now = host.clock.show(self.world.now);
        let Some(manager) = host.manager.as_mut().filter(|m| m.store_wake == Some(due)) else { return };
        manager.store_wake = None;
        if now < due {
            // The clock stood still meanwhile.
            return self.arm_store(node);
        }
        let mut out = Vec::new();
        manager.store.tick(now, &mut out);
        self.effects(node, out);
    }
}
