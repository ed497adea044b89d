//! The manager's core: [`Engine`]. Events in, actions out.
//!
//! What is true is kept as facts (the record, the lease, the replica, each resource, the peer); after every event
//! all of them are looked at anew and whatever follows is begun ([`Engine::handle`]). So it does not matter which
//! event was lost: what it would have led to is found at the next one. Rules and their files:
//!
//! | rule | file |
//! |---|---|
//! | what is committed, one proposal at a time, unknown outcomes | `ledger`, `proposal` |
//! | who may act until when | `lease` |
//! | is the peer alive, what does it say | `membership` |
//! | the node's own life: boot, idle, starting, active, leaving, dropping | `phase`, `idle`, `active` |
//! | replacing a dead primary | `takeover` |
//! | an operator's word instead of a vote | `force` |
//! | who can take the stack | `fitness` |
//! | order of starts and stops, looks, failures | `stack`, `monitor`, `failure` |
//! | the replicated device | `replica` |
//! | operators | `command`, `restart`, `desk` |
//! | what is told | `status`, `verdict`, `why`, `history` |

mod active;
mod command;
mod desk;
mod ending;
mod failure;
mod fitness;
mod force;
mod history;
mod idle;
mod lease;
mod ledger;
mod membership;
mod monitor;
mod phase;
mod plan;
mod proposal;
mod replica;
mod restart;
mod stack;
mod status;
mod takeover;
#[cfg(test)]
mod tests;
mod verdict;
mod voice;
mod why;

use crate::config::{Config, ResourceId};
use crate::event::{Action, Event, Health, LogLevel, OpId};
use crate::member::Node;
use crate::record::{Record, Term};
use crate::store::RequestId;
use crate::timing::Millis;

use desk::Desk;
use ending::Ending;
use failure::Tally;
use history::Story;
use lease::Lease;
use ledger::Ledger;
use membership::Peer;
use phase::{Errand, Following, Phase};
use replica::Replica;
use stack::Unit;
use takeover::Bid;
use voice::Voice;

/// What follows from one event is found within this many looks at the facts; more would be a loop of decisions.
const ROUNDS: usize = 16;

/// The manager of one data host.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    /// Digest of the configuration.
    setup: u64,
    incarnation: u64,
    next_id: u64,
    started_at: Millis,
    now: Millis,
    /// Counts changes of facts that no action shows, so that [`Engine::settle`] looks again.
    turns: u64,
    ledger: Ledger,
    lease: Lease,
    peer: Peer,
    replica: Replica,
    units: Vec<Unit>,
    phase: Phase,
    errand: Option<Errand>,
    following: Option<Following>,
    bid: Bid,
    tally: Tally,
    health: Health,
    desk: Desk,
    /// When the last order was given here, in seconds since 1970.
    ordered_at: u64,
    ending: Option<Ending>,
    story: Story,
    voice: Voice,
}

impl Engine {
    /// A manager that has just started: asks for the record and looks at every resource. `incarnation` is a
    /// random name of this run.
    pub fn new(config: Config, incarnation: u64, now: Millis, out: &mut Vec<Action>) -> Self {
        let units = config.group.iter().chain(&config.everywhere).map(|r| Unit::new(r, now)).collect();
        let mut engine = Self {
            setup: config.digest(),
            incarnation,
            next_id: incarnation,
            started_at: now,
            now,
            turns: 0,
            ledger: Ledger::new(now),
            lease: Lease::new(now),
            peer: Peer::new(now),
            replica: Replica::default(),
            units,
            phase: Phase::Boot,
            errand: None,
            following: None,
            bid: Bid::new(),
            tally: Tally::new(now),
            health: Health::good(),
            desk: Desk::default(),
            ordered_at: 0,
            ending: None,
            story: Story::default(),
            voice: Voice::new(now),
            config,
        };
        engine.settle(now, out);
        engine
    }

    /// Takes an event and begins whatever follows from it.
    pub fn handle(&mut self, event: Event, now: Millis, out: &mut Vec<Action>) {
        if self.ending.as_ref().is_some_and(Ending::is_over) {
            return;
        }
        // The clock of the shell does not go back; were it to, nothing here may become younger.
        self.now = self.now.max(now);
        let now = self.now;
        self.take(event, now, out);
        self.settle(now, out);
    }

    fn take(&mut self, event: Event, now: Millis, out: &mut Vec<Action>) {
        match event {
            Event::Heard { from, path, message } => self.heard(from, path, message, now, out),
            Event::StoreDone { id, outcome } => self.store_done(id, outcome, now, out),
            Event::Replica(view) => self.replica_changed(view, now),
            Event::ReplicaDone { op, result } => self.replica_done(op, result, now, out),
            Event::ResourceDone { op, outcome } => self.resource_done(op, outcome, now, out),
            Event::ResourceChanged { resource, state, reason } => {
                self.resource_changed(resource, state, reason, now, out);
            }
            Event::FenceDone { op, result } => self.fence_done(op, result, now, out),
            Event::Health(health) => self.health_changed(health, now),
            Event::Command { token, command, at } => {
                self.ordered_at = at;
                self.command(desk::Origin::Local(token), command, now, out);
            }
            Event::Shutdown { kind } => self.shutdown(kind, now, out),
            Event::Tick => {}
        }
    }

    fn settle(&mut self, now: Millis, out: &mut Vec<Action>) {
        for _ in 0..ROUNDS {
            let before = (out.len(), self.turns);
            self.step(now, out);
            if before == (out.len(), self.turns) {
                break;
            }
        }
        self.speak(now, out);
    }

    /// Every concern looks at the facts once.
    fn step(&mut self, now: Millis, out: &mut Vec<Action>) {
        self.step_deadlines(now, out);
        self.step_read(now, out);
        self.step_phase(now, out);
        self.step_lease(now, out);
        self.step_bid(now, out);
        self.step_proposal(now, out);
        self.step_replica(now, out);
        self.step_stack(now, out);
        self.step_monitor(now, out);
        self.step_desk(now, out);
        self.step_ending(now, out);
    }

    /// Operations whose answer never came: the shell guarantees one, and still nothing may wait for ever.
    fn step_deadlines(&mut self, now: Millis, out: &mut Vec<Action>) {
        self.expire_store(now, out);
        self.expire_replica(now, out);
        self.expire_units(now, out);
    }

    fn me(&self) -> Node {
        self.config.node
    }

    fn other(&self) -> Node {
        self.config.node.peer()
    }

    fn name(&self, node: Node) -> &str {
        self.config.name(node)
    }

    fn record(&self) -> Option<&Record> {
        self.ledger.record.as_ref()
    }

    fn term(&self) -> Term {
        self.record().map(|r| r.term).unwrap_or_default()
    }

    /// The record says that this node is the primary.
    fn incumbent(&self) -> bool {
        self.record().is_some_and(|r| r.primary == Some(self.me()))
    }

    fn maintenance(&self) -> bool {
        self.record().is_some_and(|r| r.intent.maintenance)
    }

    fn request_id(&mut self) -> RequestId {
        self.next_id = self.next_id.wrapping_add(1);
        RequestId(self.next_id)
    }

    fn op_id(&mut self) -> OpId {
        self.next_id = self.next_id.wrapping_add(1);
        OpId(self.next_id)
    }

    fn is_group(&self, id: ResourceId) -> bool {
        id.0 < self.config.group.len()
    }

    fn turn(&mut self) {
        self.turns = self.turns.wrapping_add(1);
    }
}

fn log(out: &mut Vec<Action>, level: LogLevel, text: impl Into<String>) {
    out.push(Action::Log { level, text: text.into() });
}

/// Tells people, and writes it to the log.
fn alert(out: &mut Vec<Action>, level: LogLevel, kind: &'static str, text: impl Into<String>) {
    let text = text.into();
    out.push(Action::Log { level, text: text.clone() });
    out.push(Action::Alert { level, kind, text });
}
