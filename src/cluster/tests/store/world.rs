//! A network in memory for members of a record store: messages are lost, repeated and overtaken, members crash
//! before or after any storing; all from a seed. Generic over the store, so that another implementation can be
//! put into the same world by a [`Family`].

use std::collections::BTreeMap;

use cluster::member::{Node, Voter};
use cluster::store::{Op, Outcome, RecordStore, RequestId};
use cluster::timing::Millis;

/// A random number generator that is the same everywhere (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) const fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    pub(crate) const fn percent(&mut self, n: u64) -> bool {
        self.below(100) < n
    }
}

/// An effect, as the world understands it.
pub(crate) enum Did<M, S> {
    Send { to: Voter, message: M },
    Persist { seq: u64, saved: S },
    Done { id: RequestId, outcome: Outcome },
    Nothing,
}

/// What reaches a member.
pub(crate) enum Incoming<M> {
    Message { from: Voter, message: M },
    Persisted { seq: u64 },
}

/// An implementation of the store: how its members are made, and its border translated.
pub(crate) trait Family {
    type Store: RecordStore;
    /// A voter without proposer (the witness), or whatever else stands in the world.
    type Other;
    type Message: Clone;
    type Saved: Clone;

    fn store(&self, node: Node, saved: Option<Self::Saved>, fresh: u64, now: Millis) -> Self::Store;
    fn other(&self, saved: Option<Self::Saved>, fresh: u64, now: Millis) -> Option<Self::Other>;
    fn other_handles(
        other: &mut Self::Other,
        incoming: Incoming<Self::Message>,
        now: Millis,
    ) -> Vec<Did<Self::Message, Self::Saved>>;
    fn event(incoming: Incoming<Self::Message>) -> Option<<Self::Store as RecordStore>::Event>;
    fn did(effect: <Self::Store as RecordStore>::Effect) -> Did<Self::Message, Self::Saved>;
}

enum Member<F: Family> {
    Data(F::Store),
    Other(F::Other),
    Down,
}

enum Due<F: Family> {
    Message { from: Voter, to: Voter, message: F::Message },
    Durable { at: Voter, run: u64, seq: u64, saved: F::Saved },
}

/// How bad the weather is.
#[derive(Clone, Copy)]
pub(crate) struct Weather {
    pub(crate) loss_percent: u64,
    pub(crate) repeat_percent: u64,
    pub(crate) delay_ms: u64,
    pub(crate) flush_ms: u64,
    /// At each storing, in each of: before it, after it.
    pub(crate) crash_permille: u64,
}

pub(crate) const CALM: Weather =
    Weather { loss_percent: 0, repeat_percent: 0, delay_ms: 3, flush_ms: 2, crash_permille: 0 };

/// The world.
pub(crate) struct World<F: Family> {
    pub(crate) family: F,
    pub(crate) random: Random,
    pub(crate) now: Millis,
    pub(crate) weather: Weather,
    members: BTreeMap<Voter, Member<F>>,
    disks: BTreeMap<Voter, F::Saved>,
    runs: BTreeMap<Voter, u64>,
    queue: BTreeMap<(Millis, u64), Due<F>>,
    counter: u64,
    /// Ways that are cut, by sender and receiver.
    pub(crate) cut: Vec<(Voter, Voter)>,
    pub(crate) done: BTreeMap<(Node, RequestId), (Outcome, Millis)>,
    pub(crate) crashed: Vec<Voter>,
}

pub(crate) const VOTERS: [Voter; 3] = [Voter::A, Voter::B, Voter::Witness];

impl<F: Family> World<F> {
    pub(crate) fn new(family: F, seed: u64, weather: Weather) -> Self {
        let mut world = Self {
            family,
            random: Random::new(seed),
            now: 1_000,
            weather,
            members: BTreeMap::new(),
            disks: BTreeMap::new(),
            runs: BTreeMap::new(),
            queue: BTreeMap::new(),
            counter: 0,
            cut: Vec::new(),
            done: BTreeMap::new(),
            crashed: Vec::new(),
        };
        for voter in VOTERS {
            world.start(voter);
        }
        world
    }

    pub(crate) fn start(&mut self, voter: Voter) {
        let saved = self.disks.get(&voter).cloned();
        let fresh = self.random.next() >> 1;
        let member = match voter.node() {
            Some(node) => Member::Data(self.family.store(node, saved, fresh, self.now)),
            None => self.family.other(saved, fresh, self.now).map_or(Member::Down, Member::Other),
        };
        self.members.insert(voter, member);
        *self.runs.entry(voter).or_default() += 1;
    }

    pub(crate) fn crash(&mut self, voter: Voter) {
        self.members.insert(voter, Member::Down);
        *self.runs.entry(voter).or_default() += 1;
        self.crashed.push(voter);
    }

    pub(crate) fn is_up(&self, voter: Voter) -> bool {
        !matches!(self.members.get(&voter), None | Some(Member::Down))
    }

    pub(crate) fn wipe(&mut self, voter: Voter) {
        self.disks.remove(&voter);
    }

    pub(crate) fn disk(&self, voter: Voter) -> Option<F::Saved> {
        self.disks.get(&voter).cloned()
    }

    pub(crate) fn restore(&mut self, voter: Voter, saved: F::Saved) {
        self.disks.insert(voter, saved);
    }

    pub(crate) fn submit(&mut self, node: Node, id: RequestId, op: Op) {
        let mut out = Vec::new();
        if let Some(Member::Data(store)) = self.members.get_mut(&node.into()) {
            store.submit(id, op, self.now, &mut out);
        }
        self.effects(node.into(), out.into_iter().map(F::did).collect());
    }

    /// Submits and runs until it is answered.
    pub(crate) fn call(&mut self, node: Node, id: u64, op: Op) -> Outcome {
        let id = RequestId(id);
        self.done.remove(&(node, id));
        self.submit(node, id, op);
        for _ in 0..100_000 {
            if let Some((outcome, _)) = self.done.get(&(node, id)) {
                return outcome.clone();
            }
            assert!(self.step(), "nothing left to happen, and no answer");
        }
        panic!("no answer in 100000 steps");
    }

    /// Until nothing happens before this time.
    pub(crate) fn run_until(&mut self, until: Millis) {
        while self.next_at().is_some_and(|at| at <= until) {
            self.step();
        }
        self.now = self.now.max(until);
    }

    fn wakes(&self) -> Option<(Millis, Voter)> {
        let wake = |(voter, member): (&Voter, &Member<F>)| match member {
            Member::Data(store) => store.deadline().map(|at| (at, *voter)),
            _ => None,
        };
        self.members.iter().filter_map(wake).min()
    }

    fn next_at(&self) -> Option<Millis> {
        let due = self.queue.keys().next().map(|(at, _)| *at);
        [due, self.wakes().map(|(at, _)| at)].into_iter().flatten().min()
    }

    /// The next thing happens; false if there is none.
    pub(crate) fn step(&mut self) -> bool {
        let due = self.queue.keys().next().copied();
        match (due, self.wakes()) {
            (Some((at, _)), Some((wake, voter))) if wake < at => self.tick(voter, wake),
            (None, Some((wake, voter))) => self.tick(voter, wake),
            (Some(key), _) => {
                self.now = self.now.max(key.0);
                if let Some(due) = self.queue.remove(&key) {
                    self.happen(due);
                }
            }
            (None, None) => return false,
        }
        true
    }

    fn tick(&mut self, voter: Voter, at: Millis) {
        self.now = self.now.max(at);
        let mut out = Vec::new();
        if let Some(Member::Data(store)) = self.members.get_mut(&voter) {
            store.tick(self.now, &mut out);
        }
        self.effects(voter, out.into_iter().map(F::did).collect());
    }

    fn happen(&mut self, due: Due<F>) {
        match due {
            Due::Message { from, to, message } => self.deliver(to, Incoming::Message { from, message }),
            Due::Durable { at, run, seq, saved } => {
                if self.runs.get(&at) != Some(&run) {
                    return;
                }
                if self.random.below(1000) < self.weather.crash_permille {
                    return self.crash(at);
                }
                self.disks.insert(at, saved);
                if self.random.below(1000) < self.weather.crash_permille {
                    return self.crash(at);
                }
                self.deliver(at, Incoming::Persisted { seq });
            }
        }
    }

    fn deliver(&mut self, to: Voter, incoming: Incoming<F::Message>) {
        let did = match self.members.get_mut(&to) {
            Some(Member::Data(store)) => {
                let mut out = Vec::new();
                if let Some(event) = F::event(incoming) {
                    store.handle(event, self.now, &mut out);
                }
                out.into_iter().map(F::did).collect()
            }
            Some(Member::Other(other)) => F::other_handles(other, incoming, self.now),
            _ => Vec::new(),
        };
        self.effects(to, did);
    }

    fn effects(&mut self, by: Voter, did: Vec<Did<F::Message, F::Saved>>) {
        for did in did {
            match did {
                Did::Send { to, message } => self.send(by, to, message),
                Did::Persist { seq, saved } => {
                    let run = self.runs.get(&by).copied().unwrap_or_default();
                    // One after the other: a state that is stored later is never durable earlier.
                    let at = self.now + self.weather.flush_ms;
                    self.counter += 1;
                    self.queue.insert((at, self.counter), Due::Durable { at: by, run, seq, saved });
                }
                Did::Done { id, outcome } => {
                    if let Some(node) = by.node() {
                        let twice = self.done.insert((node, id), (outcome, self.now));
                        assert!(twice.is_none(), "an operation ended twice");
                    }
                }
                Did::Nothing => {}
            }
        }
    }

    fn send(&mut self, from: Voter, to: Voter, message: F::Message) {
        if self.cut.contains(&(from, to)) {
            return;
        }
        let copies = 1 + u64::from(self.random.percent(self.weather.repeat_percent));
        for _ in 0..copies {
            if self.random.percent(self.weather.loss_percent) {
                continue;
            }
            // Some messages are very late.
            let slow = if self.random.percent(self.weather.repeat_percent) { 50 } else { 1 };
            let at = self.now + 1 + self.random.below(self.weather.delay_ms * slow);
            self.counter += 1;
            let due = Due::Message { from, to, message: message.clone() };
            self.queue.insert((at, self.counter), due);
        }
    }

    pub(crate) fn cut_off(&mut self, one: Voter, other: Voter) {
        self.cut.push((one, other));
        self.cut.push((other, one));
    }
}
