//! The rules of the record and of replication, every interleaving within bounds: two hosts, the record as a
//! linearizable register whose requests and answers are delayed and repeated, replicated writes that arrive late,
//! in any order or never, crashes of which only what is durable survives. No clock anywhere: a bid may be made at
//! any time, a timeout may strike at any time.
//!
//! The changes of the record are the real ones (`cluster::record`). One block is written; a write is known by the
//! term it was made in and its number.

use std::collections::BTreeSet;
use std::fmt;

use cluster::member::{Node, Nodes};
use cluster::record::{Record, Term};
use stateright::{Model, Property};

/// A rule that is left out, to see it missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    Nothing,
    /// Lone acknowledgements begin when the change is proposed, not when it is committed.
    AckBeforeCommit,
    /// A bidder does not raise its fence.
    NoFence,
    /// The fence does not survive a crash.
    FenceInRam,
    /// Contact with a newer term does not raise the fence.
    FenceNotRaised,
    /// A node outside of `synced` bids.
    PromoteOutsider,
    /// The register compares primary and `synced` instead of the version.
    CompareContent,
    /// Rejoin is proposed while still acknowledging alone.
    RejoinWhileLone,
    /// A proposer does not check that its term is the present one.
    TermUnchecked,
    /// An unknown outcome is resolved by a plain read.
    PlainRead,
    /// An answer is matched by kind, not by request.
    AnswerByKind,
    /// The witness goes back in time, and votes on.
    WitnessForgets,
}

/// How far to look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) writes: u8,
    /// The last version anybody proposes; the first is 2.
    pub(crate) versions: u64,
    pub(crate) crashes: u8,
    /// Times that a message stays in the network although it was delivered.
    pub(crate) repeats: u8,
    /// Operations given up, after which the outcome is unknown.
    pub(crate) timeouts: u8,
}

/// The model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) dropped: Dropped,
    pub(crate) bounds: Bounds,
}

/// A write: by its term, then by its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Write {
    term: u64,
    number: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Degrade,
    Rejoin,
    Takeover,
    HandOver,
    /// A no-op: what it answers is certain.
    Barrier,
}

/// What is under way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Packet {
    Replicate { to: Node, write: Write },
    Stored { to: Node, write: Write },
    Swap { from: Node, request: u8, kind: Kind, change: Change },
    Answer { to: Node, request: u8, kind: Kind, ok: bool, record: Change },
}

/// A record in a set: ordered by its text, which is unique.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Change(pub(crate) Record);

impl Change {
    fn key(&self) -> (u64, u64, Option<Node>, Nodes) {
        (self.0.version.0, self.0.term.0, self.0.primary, self.0.synced)
    }
}

impl PartialOrd for Change {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Change {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = &self.0;
        write!(f, "v{} t{} primary {:?} synced {}", r.version.0, r.term.0, r.primary, r.synced)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Role {
    Secondary,
    Primary { term: u64, lone: bool },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Host {
    // Durable.
    fence: u64,
    disk: Write,
    // Gone in a crash.
    role: Role,
    known: Change,
    /// The open request.
    open: Option<(u8, Kind)>,
    /// What is committed is not known for certain.
    unknown: bool,
    /// Waits for the peer.
    writing: Option<Write>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    register: Change,
    before: Option<Change>,
    hosts: [Host; 2],
    network: BTreeSet<Packet>,
    acked: Write,
    /// A write of an older term was begun after one of a newer term was acknowledged, and was acknowledged too.
    two_writers: bool,
    writes: u8,
    requests: u8,
    crashes: u8,
    repeats: u8,
    timeouts: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Write(Node),
    Deliver {
        packet: Packet,
        stays: bool,
    },
    Degrade(Node),
    Resync(Node),
    Takeover(Node),
    HandOver(Node),
    Barrier(Node),
    /// Reads the record, which resolves nothing that is unknown.
    Read(Node),
    Timeout(Node),
    Crash(Node),
    WitnessForgets,
}

const fn index(node: Node) -> usize {
    match node {
        Node::A => 0,
        Node::B => 1,
    }
}

impl State {
    fn host(&mut self, node: Node) -> &mut Host {
        &mut self.hosts[index(node)]
    }

    fn ack(&mut self, write: Write) {
        // One begun earlier may be acknowledged late: its successor has it too.
        self.two_writers |= write.term < self.acked.term && write.number > self.acked.number;
        self.acked = self.acked.max(write);
    }

    fn ask(&mut self, from: Node, kind: Kind, change: Record) {
        let request = self.requests;
        self.requests += 1;
        self.host(from).open = Some((request, kind));
        self.network.insert(Packet::Swap { from, request, kind, change: Change(change) });
    }

    /// The record says so, for certain: this node may acknowledge alone.
    fn go_alone(&mut self, node: Node) {
        let host = self.host(node);
        if let Role::Primary { lone, .. } = &mut host.role {
            *lone = true;
            if let Some(write) = host.writing.take() {
                self.ack(write);
            }
        }
    }
}

impl Rules {
    fn lost(state: &State) -> bool {
        let synced = state.register.0.synced;
        Node::ALL.into_iter().any(|node| synced.contains(node) && state.hosts[index(node)].disk < state.acked)
    }

    /// What a host may do next by itself.
    fn choices(&self, state: &State, node: Node, steps: &mut Vec<Step>) {
        let host = &state.hosts[index(node)];
        let more = state.register.0.version.0 < self.bounds.versions && host.open.is_none();
        if host.known != state.register {
            steps.push(Step::Read(node));
        }
        if host.open.is_some() && state.timeouts < self.bounds.timeouts {
            steps.push(Step::Timeout(node));
        }
        if state.crashes < self.bounds.crashes {
            steps.push(Step::Crash(node));
        }
        let only_me = host.known.0.synced == Nodes::only(node);
        match host.role {
            Role::Primary { lone, .. } => {
                if host.writing.is_none() && state.writes < self.bounds.writes {
                    steps.push(Step::Write(node));
                }
                if more && !host.unknown {
                    match (lone, only_me) {
                        (false, false) => steps.extend([Step::Degrade(node), Step::HandOver(node)]),
                        (true, _) => steps.push(Step::Resync(node)),
                        (false, true) => steps.push(Step::Barrier(node)),
                    }
                }
            }
            // A bid that is committed is certain, whatever was not known before.
            Role::Secondary if more => steps.push(Step::Takeover(node)),
            Role::Secondary => {}
        }
        if more && host.unknown {
            steps.push(Step::Barrier(node));
        }
    }

    fn write(state: &mut State, node: Node) -> Option<()> {
        let number = state.writes + 1;
        let host = state.host(node);
        let Role::Primary { term, lone } = host.role else { return None };
        let write = Write { term, number };
        host.disk = write;
        if !lone {
            host.writing = Some(write);
            state.network.insert(Packet::Replicate { to: node.peer(), write });
        }
        state.writes = number;
        if lone {
            state.ack(write);
        }
        Some(())
    }

    fn degrade(self, state: &mut State, node: Node) -> Option<()> {
        let host = state.host(node);
        let Role::Primary { term, .. } = host.role else { return None };
        let known = host.known.0.clone();
        let change = if self.dropped == Dropped::TermUnchecked {
            known.degraded(known.primary?, known.term).or_else(|_| known.bumped()).ok().map(|mut change| {
                change.synced = Nodes::only(node);
                change
            })
        } else {
            known.degraded(node, Term(term)).ok()
        }?;
        state.ask(node, Kind::Degrade, change);
        if self.dropped == Dropped::AckBeforeCommit {
            state.go_alone(node);
        }
        Some(())
    }

    /// The peer gets all blocks, the fence is raised, both must acknowledge again; then it is proposed.
    fn resync(self, state: &mut State, node: Node) -> Option<()> {
        let Role::Primary { term, .. } = state.host(node).role else { return None };
        let change = state.host(node).known.0.rejoined(node, Term(term)).ok()?;
        let disk = state.host(node).disk;
        let peer = state.host(node.peer());
        let newer = matches!(peer.role, Role::Primary { term: of_peer, .. } if of_peer >= term);
        if peer.fence > term || newer {
            return None;
        }
        peer.role = Role::Secondary;
        peer.writing = None;
        peer.disk = disk;
        if self.dropped != Dropped::FenceNotRaised {
            peer.fence = term;
        }
        if self.dropped != Dropped::RejoinWhileLone {
            state.host(node).role = Role::Primary { term, lone: false };
        }
        state.ask(node, Kind::Rejoin, change);
        Some(())
    }

    fn take_over(self, state: &mut State, node: Node) -> Option<()> {
        let host = state.host(node);
        let change = match host.known.0.taken_over(node) {
            Ok(change) => change,
            Err(_) if self.dropped == Dropped::PromoteOutsider => host.known.0.forced(node).ok()?,
            Err(_) => return None,
        };
        if host.fence > change.term.0 {
            return None;
        }
        if self.dropped != Dropped::NoFence {
            host.fence = change.term.0;
        }
        state.ask(node, Kind::Takeover, change);
        Some(())
    }

    fn hand_over(state: &mut State, node: Node) -> Option<()> {
        let host = state.host(node);
        let Role::Primary { term, .. } = host.role else { return None };
        if host.writing.is_some() {
            return None;
        }
        let change = host.known.0.handed_over(node, Term(term)).ok()?;
        host.role = Role::Secondary;
        state.ask(node, Kind::HandOver, change);
        Some(())
    }

    fn barrier(self, state: &mut State, node: Node) -> Option<()> {
        let change = state.register.0.bumped().ok()?;
        if self.dropped == Dropped::PlainRead {
            let record = state.register.0.clone();
            self.certain(state, node, &record);
            return Some(());
        }
        state.ask(node, Kind::Barrier, change);
        Some(())
    }

    /// This is committed, and nothing proposed earlier by this node can still be.
    fn certain(self, state: &mut State, node: Node, record: &Record) {
        let host = state.host(node);
        host.unknown = false;
        host.known = Change(record.clone());
        if record.primary != Some(node) || host.fence > record.term.0 {
            host.role = Role::Secondary;
            host.writing = None;
            return;
        }
        let term = record.term.0;
        if !matches!(host.role, Role::Primary { term: own, .. } if own == term) {
            host.role = Role::Primary { term, lone: false };
            host.writing = None;
            if self.dropped != Dropped::NoFence {
                host.fence = term;
            }
        }
        if record.synced == Nodes::only(node) {
            state.go_alone(node);
        }
    }

    fn read(self, state: &mut State, node: Node) {
        let record = state.register.0.clone();
        let host = state.host(node);
        let deposed = matches!(host.role, Role::Primary { term, .. } if term < record.term.0);
        if deposed && self.dropped != Dropped::TermUnchecked {
            host.role = Role::Secondary;
            host.writing = None;
        }
        // A planned switchover: the new primary begins, both must acknowledge.
        let mine = record.primary == Some(node) && host.fence < record.term.0;
        if mine && host.role == Role::Secondary && record.synced == Nodes::BOTH {
            host.fence = record.term.0;
            host.role = Role::Primary { term: record.term.0, lone: false };
        }
        host.known = Change(record);
    }

    fn crash(self, state: &mut State, node: Node) {
        state.crashes += 1;
        let host = state.host(node);
        host.role = Role::Secondary;
        host.open = None;
        host.unknown = true;
        host.writing = None;
        if self.dropped == Dropped::FenceInRam {
            host.fence = 1;
        }
    }

    fn deliver(self, state: &mut State, packet: Packet) {
        match packet {
            Packet::Replicate { to, write } => self.replicate(state, to, write),
            Packet::Stored { to, write } => {
                let host = state.host(to);
                if host.writing == Some(write) {
                    host.writing = None;
                    state.ack(write);
                }
            }
            Packet::Swap { from, request, kind, change } => {
                let ok = match self.dropped {
                    Dropped::CompareContent => Self::fits_content(&state.register.0, kind, &change.0),
                    _ => state.register.0.version.0 + 1 == change.0.version.0,
                };
                if ok {
                    let before = std::mem::replace(&mut state.register, change);
                    if self.dropped == Dropped::WitnessForgets {
                        state.before = Some(before);
                    }
                }
                let record = state.register.clone();
                state.network.insert(Packet::Answer { to: from, request, kind, ok, record });
            }
            Packet::Answer { to, request, kind, ok, record } => {
                self.answered(state, to, request, kind, ok, &record.0);
            }
        }
    }

    /// What a register without versions would compare: the primary and `synced` that the change was made from.
    fn fits_content(now: &Record, kind: Kind, change: &Record) -> bool {
        let same_term = now.primary == change.primary;
        match kind {
            Kind::Degrade => same_term && now.synced == Nodes::BOTH,
            Kind::Rejoin => {
                same_term && change.primary.is_some_and(|primary| now.synced == Nodes::only(primary))
            }
            Kind::Barrier => same_term && now.synced == change.synced,
            Kind::Takeover | Kind::HandOver => now.version.0 + 1 == change.version.0,
        }
    }

    fn replicate(self, state: &mut State, to: Node, write: Write) {
        let host = state.host(to);
        let own = match host.role {
            Role::Primary { term, .. } => term,
            Role::Secondary => 0,
        };
        if write.term < host.fence || own >= write.term {
            return;
        }
        if self.dropped != Dropped::FenceNotRaised {
            host.fence = write.term;
        }
        host.role = Role::Secondary;
        host.writing = None;
        // Within a term writes are numbered; an older one is not done again.
        if write.term != host.disk.term || write.number > host.disk.number {
            host.disk = write;
        }
        state.network.insert(Packet::Stored { to: to.peer(), write });
    }

    fn answered(self, state: &mut State, to: Node, request: u8, kind: Kind, ok: bool, record: &Record) {
        let host = state.host(to);
        let matches = match self.dropped {
            Dropped::AnswerByKind => host.open.is_some_and(|(_, open)| open == kind),
            _ => host.open == Some((request, kind)),
        };
        if !matches {
            return;
        }
        host.open = None;
        let own = match host.role {
            Role::Primary { term, .. } => Some(term),
            Role::Secondary => None,
        };
        if !ok {
            // Not done; whether this node still is what it was, is a matter of the record.
            host.known = Change(record.clone());
            if own.is_some_and(|term| term < record.term.0) {
                host.role = Role::Secondary;
                host.writing = None;
            }
            // Nothing is known of what it had proposed before.
            host.unknown |= kind == Kind::HandOver;
            return;
        }
        if record.version > host.known.0.version {
            host.known = Change(record.clone());
        }
        match kind {
            Kind::Degrade => state.go_alone(to),
            Kind::Barrier | Kind::Takeover => self.certain(state, to, record),
            Kind::Rejoin => {
                if let Role::Primary { lone, .. } = &mut host.role {
                    *lone = false;
                }
            }
            Kind::HandOver => {}
        }
    }
}

impl Model for Rules {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let record = Record::created(Node::A).rejoined(Node::A, Term(1)).unwrap();
        let host = |role| Host {
            fence: 1,
            disk: Write::default(),
            role,
            known: Change(record.clone()),
            open: None,
            unknown: false,
            writing: None,
        };
        vec![State {
            register: Change(record.clone()),
            before: None,
            hosts: [host(Role::Primary { term: 1, lone: false }), host(Role::Secondary)],
            network: BTreeSet::new(),
            acked: Write::default(),
            two_writers: false,
            writes: 0,
            requests: 0,
            crashes: 0,
            repeats: 0,
            timeouts: 0,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for node in Node::ALL {
            self.choices(state, node, steps);
        }
        for packet in &state.network {
            steps.push(Step::Deliver { packet: packet.clone(), stays: false });
            if state.repeats < self.bounds.repeats {
                steps.push(Step::Deliver { packet: packet.clone(), stays: true });
            }
        }
        if state.before.is_some() {
            steps.push(Step::WitnessForgets);
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::Write(node) => Self::write(&mut state, node)?,
            Step::Degrade(node) => self.degrade(&mut state, node)?,
            Step::Resync(node) => self.resync(&mut state, node)?,
            Step::Takeover(node) => self.take_over(&mut state, node)?,
            Step::HandOver(node) => Self::hand_over(&mut state, node)?,
            Step::Barrier(node) => self.barrier(&mut state, node)?,
            Step::Read(node) => self.read(&mut state, node),
            Step::Crash(node) => self.crash(&mut state, node),
            Step::Timeout(node) => {
                state.timeouts += 1;
                let host = state.host(node);
                host.open = None;
                host.unknown = true;
            }
            Step::WitnessForgets => state.register = state.before.take()?,
            Step::Deliver { packet, stays } => {
                if stays {
                    state.repeats += 1;
                } else {
                    state.network.remove(&packet);
                }
                self.deliver(&mut state, packet);
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no acknowledged write is lost", |_, state| !Self::lost(state)),
            Property::always("no two writers", |_, state: &State| !state.two_writers),
            Property::sometimes("the other node has acknowledged writes", |_, state: &State| {
                state.acked.term > 1
            }),
        ]
    }

    fn within_boundary(&self, state: &State) -> bool {
        state.register.0.version.0 <= self.bounds.versions
    }
}
