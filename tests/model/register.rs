//! The bundled register itself, every interleaving within bounds: two real data nodes that propose and vote, and a
//! real witness. Messages arrive in any order, late or never; only so many are under way, the oldest
//! are lost. What is handed out for storing is durable at once (a crash before it is the same as a lost message,
//! one after it as lost answers). Time stands still, so there is one attempt at each operation; more proposals
//! come from more operations. Checked: what is answered forms one line by version.

use std::collections::BTreeMap;

use cluster::config::Quorum;
use cluster::member::{Node, Voter};
use cluster::message::{Ballot, Known, Register};
use cluster::record::{Record, Term};
use cluster::register::{Bundled, Effect, Event, Saved, SavedVote, Witness};
use cluster::store::{LeaseRule, Op, Outcome, RecordStore, RequestId};
use cluster::timing::Timing;
use stateright::{Model, Property};

const NOW: u64 = 1_000;

/// What becomes of the witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing.
    Keeps,
    /// Its store is lost once, and it comes back under a new identity.
    LosesStore,
    /// It is restored from a snapshot, with its old identity. Who has seen it later notices; who has not, cannot:
    /// the known limit, and why the identity of a store matters.
    Restored,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Voters {
    pub(crate) fate: Fate,
    /// Operations of each data node.
    pub(crate) operations: u8,
    /// Messages under way at most; the oldest is lost when there is another.
    pub(crate) in_flight: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    data: [Bundled; 2],
    witness: Witness,
    network: Vec<(Voter, Voter, Register)>,
    in_flight: usize,
    /// Operations begun.
    begun: [u8; 2],
    known: [Record; 2],
    idle: [bool; 2],
    forgot: bool,
    /// Names of the records that were answered as committed.
    line: BTreeMap<u64, Option<String>>,
    torn: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Begin(Node),
    Deliver(usize),
    WitnessForgets,
}

const fn index(node: Node) -> usize {
    match node {
        Node::A => 0,
        Node::B => 1,
    }
}

fn first() -> (Ballot, Record) {
    let record = Record::created(Node::A).rejoined(Node::A, Term(1)).unwrap();
    (Ballot { round: 1, node: Some(Node::A) }, Record { witness: Some(30), ..record })
}

fn vote(store: u64) -> SavedVote {
    let (promised, record) = first();
    SavedVote { store, promised, accepted: Some((promised, record)), hold_ms: 3_200 }
}

fn data(node: Node) -> Bundled {
    let store = |voter| match voter {
        Voter::A => 10,
        Voter::B => 20,
        Voter::Witness => 30,
    };
    let others = [Voter::from(node.peer()), Voter::Witness];
    let known = others.map(|voter| (voter, Known { store: store(voter), promised: first().0 }));
    let saved = Saved { vote: vote(store(node.into())), known: known.into(), committed: None };
    let timing = Timing::derive(Timing::DEFAULT_MS, 600_000).unwrap();
    Bundled::new(node, Quorum::Witness, timing, Some(saved), 100 * store(node.into()), NOW)
}

impl State {
    fn send(&mut self, from: Voter, to: Voter, message: Register) {
        if self.network.len() >= self.in_flight {
            self.network.remove(0);
        }
        self.network.push((from, to, message));
    }

    fn done(&mut self, node: Node, outcome: Outcome) {
        self.idle[index(node)] = true;
        if let Outcome::Committed(record) | Outcome::Conflict(record) = outcome {
            let name = record.intent.hold.clone();
            let had = self.line.entry(record.version.0).or_insert_with(|| name.clone());
            self.torn |= *had != name;
            self.known[index(node)] = record;
        }
    }

    fn effects(&mut self, node: Node, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, message } => self.send(node.into(), to, message),
                Effect::Persist { seq, .. } => {
                    let mut out = Vec::new();
                    self.data[index(node)].handle(Event::Persisted { seq }, NOW, &mut out);
                    self.effects(node, out);
                }
                Effect::Done { outcome, .. } => self.done(node, outcome),
                Effect::Log { .. } => {}
            }
        }
    }

    fn witness(&mut self, event: Event) {
        let mut out = Vec::new();
        self.witness.handle(event, NOW, &mut out);
        for effect in out {
            match effect {
                Effect::Send { to, message } => self.send(Voter::Witness, to, message),
                Effect::Persist { seq, .. } => self.witness(Event::Persisted { seq }),
                Effect::Done { .. } | Effect::Log { .. } => {}
            }
        }
    }

    fn deliver(&mut self, at: usize) {
        let (from, to, message) = self.network.remove(at);
        let event = Event::Received { from, message };
        match to.node() {
            Some(node) => {
                let mut out = Vec::new();
                self.data[index(node)].handle(event, NOW, &mut out);
                self.effects(node, out);
            }
            None => self.witness(event),
        }
    }

    /// The next operation of a node; one that is still open is given up and remains in the network.
    fn begin(&mut self, node: Node) {
        let count = &mut self.begun[index(node)];
        *count += 1;
        let id = RequestId(u64::from(*count));
        let base = self.known[index(node)].clone();
        let mut record = base.bumped().unwrap();
        record.intent.hold = Some(format!("{node:?}{count}"));
        self.idle[index(node)] = false;
        let op = Op::Swap { expect: base.version, record, lease: LeaseRule::Whatever };
        let mut out = Vec::new();
        self.data[index(node)].submit(id, op, NOW, &mut out);
        self.effects(node, out);
    }
}

impl Model for Voters {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let record = first().1;
        vec![State {
            data: Node::ALL.map(data),
            witness: Witness::new(Some(vote(30)), 31, NOW),
            network: Vec::new(),
            in_flight: self.in_flight,
            begun: [0; 2],
            known: [record.clone(), record.clone()],
            idle: [true; 2],
            forgot: false,
            line: [(record.version.0, None)].into(),
            torn: false,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for node in Node::ALL {
            if state.idle[index(node)] && state.begun[index(node)] < self.operations {
                steps.push(Step::Begin(node));
            }
        }
        steps.extend((0..state.network.len()).map(Step::Deliver));
        if self.fate != Fate::Keeps && !state.forgot {
            steps.push(Step::WitnessForgets);
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::Begin(node) => state.begin(node),
            Step::Deliver(at) => state.deliver(at),
            Step::WitnessForgets => {
                state.forgot = true;
                let saved = (self.fate == Fate::Restored).then(|| vote(30));
                state.witness = Witness::new(saved, 31, NOW);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one line of records", |_, state: &State| !state.torn),
            Property::sometimes("a change is committed", |_, state: &State| state.line.contains_key(&3)),
        ]
    }
}
