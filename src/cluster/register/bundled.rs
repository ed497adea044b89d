//! The store of a data node: proposer, with one of the acceptors inside.
//!
//! Rules protected here: the own acceptor is a voter like the others, so its state too must be durable before its
//! vote counts; operations on the record are made one after the other, so that a node never competes with itself;
//! an answer of a store that went back in time, or that knows less than was seen from it before the question was
//! sent, is not counted.

mod polls;

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::acceptor::{self, Acceptor};
use super::journal::Journal;
use super::poll::{Poll, Question};
use super::proposer::{Job, Next, Phase, Reach, Round};
use super::quorum::Electorate;
use super::{Effect, Event};
use crate::config::Quorum;
use crate::event::LogLevel;
use crate::member::{Node, Voter};
use crate::message::{Ask, Ballot, Known, Register, Reply};
use crate::record::{LEAP, Record, Term};
use crate::store::{LeaseRule, Op, Outcome, RecordStore, RequestId};
use crate::timing::{Millis, Timing};

/// Operations that wait for their turn, and questions that are open: more than a manager ever has.
const PENDING_MAX: usize = 16;
/// First wait after a lost duel, about a round trip and a flush; grows with each attempt.
const BACK_OFF_MS: Millis = 10;
/// An operation's question is repeated this many times within its deadline: messages may be lost.
const REPEATS: Millis = 4;

/// What a data node's store must find again after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// The acceptor's.
    pub vote: acceptor::Saved,
    /// What was seen of the other voters' stores.
    pub known: BTreeMap<Voter, Known>,
    /// The newest record known to be committed; kept because only its primary may go on alone by its own vote.
    pub committed: Option<Record>,
}

/// The question that is open, for telling its answers from all others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    request: RequestId,
    /// What was known of each voter when it was asked: its answer cannot know less.
    known: BTreeMap<Voter, Known>,
    repeat_at: Millis,
}

/// The bundled store of a data node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bundled {
    electorate: Electorate,
    timing: Timing,
    fresh: u64,
    acceptor: Acceptor,
    journal: Journal,
    known: BTreeMap<Voter, Known>,
    committed: Option<Record>,
    /// The highest ballot seen anywhere.
    highest: Ballot,
    /// The peer's vote was heard since this start, and the newest ballot it had accepted.
    met: Option<Ballot>,
    /// The peer was seen switched off and was not heard since.
    peer_fenced: bool,
    next_request: u64,
    random: u64,
    round: Option<(Round, Option<Asked>)>,
    queue: VecDeque<Round>,
    polls: Vec<(Poll, Asked)>,
}

impl Bundled {
    /// With what it had stored. `fresh` is a random number: identity of an empty store, and the first of this
    /// run's request numbers.
    #[must_use]
    pub fn new(
        node: Node,
        quorum: Quorum,
        timing: Timing,
        saved: Option<Saved>,
        fresh: u64,
        now: Millis,
    ) -> Self {
        let (vote, known, committed) =
            saved.map_or((None, BTreeMap::new(), None), |s| (Some(s.vote), s.known, s.committed));
        let acceptor = Acceptor::new(vote, fresh, timing.grant_hold_ms, now);
        Self {
            electorate: Electorate { own: node, quorum },
            timing,
            fresh,
            highest: acceptor.saved().promised,
            acceptor,
            journal: Journal::default(),
            known,
            committed,
            met: None,
            peer_fenced: false,
            next_request: fresh,
            random: fresh | 1,
            round: None,
            queue: VecDeque::new(),
            polls: Vec::new(),
        }
    }

    /// The newest record that this store knows to be committed.
    #[must_use]
    pub const fn committed(&self) -> Option<&Record> {
        self.committed.as_ref()
    }

    fn saved(&self) -> Saved {
        Saved {
            vote: self.acceptor.saved().clone(),
            known: self.known.clone(),
            committed: self.committed.clone(),
        }
    }

    /// Whether the own vote suffices for a proposal of this term, as things are now.
    fn lone(&self, lease: LeaseRule, term: Option<Term>) -> bool {
        match self.electorate.quorum {
            Quorum::Witness | Quorum::Etcd => false,
            _ if lease == LeaseRule::Forced => true,
            Quorum::Fencing => self.peer_fenced && self.is_of_newest_order(),
            Quorum::Manual => {
                let (Some(committed), Some(peers), Some((ballot, accepted))) =
                    (&self.committed, self.met, self.acceptor.accepted())
                else {
                    return false;
                };
                committed.primary == Some(self.electorate.own)
                    && accepted.term == committed.term
                    && term.is_none_or(|term| term == committed.term)
                    && *ballot >= peers
                    && self.is_of_newest_order()
            }
        }
    }

    /// A ballot from beyond a leap tells that an operator has given an order that this store has no part in: it goes
    /// on alone only by what follows from the newest.
    fn is_of_newest_order(&self) -> bool {
        self.acceptor.accepted().is_some_and(|(ballot, _)| ballot.round / LEAP == self.highest.round / LEAP)
    }

    /// The ballot of the next round. That of an order goes as far as its record does, so that both are newer than
    /// what the overruled host does alone; none, if something newer still has been seen since.
    fn next_ballot(&self, job: &Job) -> Option<Ballot> {
        let next = self.highest.round.saturating_add(1);
        let round = match job {
            Job::Swap { record, lease: LeaseRule::Forced, .. } if self.electorate.quorum.is_of_two() => {
                let leap = record.version.0 / LEAP;
                (next / LEAP <= leap).then_some(next.max(leap.saturating_mul(LEAP)))?
            }
            _ => next,
        };
        Some(Ballot { round, node: Some(self.electorate.own) })
    }

    fn round_lone(&self, round: &Round) -> bool {
        let term = match (&round.phase, &round.job) {
            (Phase::Accepts(proposal), _) => Some(proposal.value.term),
            (_, Job::Swap { record, .. }) => Some(record.term),
            _ => None,
        };
        self.lone(round.lease(), term)
    }

    // Asking.

    fn ask(&mut self, ask: &Ask, reach: Reach, now: Millis, out: &mut Vec<Effect>) -> Asked {
        let request = RequestId(self.next_request);
        self.next_request = self.next_request.wrapping_add(1);
        let asked =
            Asked { request, known: self.known.clone(), repeat_at: now.saturating_add(self.repeat_ms()) };
        for voter in self.electorate.others() {
            self.send(voter, &asked, ask, out);
        }
        if reach == Reach::All {
            self.ask_own(request, ask.clone(), now, out);
        }
        asked
    }

    fn send(&self, to: Voter, asked: &Asked, ask: &Ask, out: &mut Vec<Effect>) {
        let known = self.known.get(&to).copied();
        out.push(Effect::Send {
            to,
            message: Register::Ask { request: asked.request, known, ask: ask.clone() },
        });
    }

    fn ask_own(&mut self, request: RequestId, ask: Ask, now: Millis, out: &mut Vec<Effect>) {
        let own = self.electorate.own();
        self.vote(own, self.electorate.own, request, ask, false, now, out);
    }

    /// The own acceptor answers `to`, when its state is durable.
    #[allow(clippy::too_many_arguments, reason = "an answer is made of exactly these")]
    fn vote(
        &mut self,
        to: Voter,
        node: Node,
        request: RequestId,
        ask: Ask,
        went_back: bool,
        now: Millis,
        out: &mut Vec<Effect>,
    ) {
        let (reply, changed) = self.acceptor.answer(node, ask, now);
        if changed || went_back {
            self.journal.persist(self.saved(), out);
        }
        let (store, promised) = (self.acceptor.saved().store, self.acceptor.saved().promised);
        self.highest = self.highest.max(promised);
        self.journal.answer(to, Register::Reply { request, store, promised, reply });
    }

    const fn repeat_ms(&self) -> Millis {
        let ms = self.timing.store_timeout_ms / REPEATS;
        if ms == 0 { 1 } else { ms }
    }

    // Being asked, and being answered.

    fn received(&mut self, from: Voter, message: Register, now: Millis, out: &mut Vec<Effect>) {
        if from == Voter::from(self.electorate.own.peer()) {
            self.peer_fenced = false;
        }
        match message {
            Register::Ask { request, known, ask } => {
                let Some(node) = from.node() else { return };
                let went_back = self.acceptor.went_back(known, self.fresh);
                if went_back {
                    let text = "this node's record store is older than what its peer remembers of it (restored \
                                from a snapshot?): it counts as empty until it has the record again";
                    log(LogLevel::Warn, text, out);
                }
                self.vote(from, node, request, ask, went_back, now, out);
            }
            Register::Reply { request, store, promised, reply } => {
                self.answered(from, request, Known { store, promised }, reply, now, out);
            }
        }
    }

    /// Answers whose state is durable by now leave; the own acceptor's are counted.
    fn pump(&mut self, now: Millis, out: &mut Vec<Effect>) {
        while let Some((to, message)) = self.journal.next() {
            match message {
                Register::Reply { request, store, promised, reply } if to == self.electorate.own() => {
                    self.answered(to, request, Known { store, promised }, reply, now, out);
                }
                message => out.push(Effect::Send { to, message }),
            }
        }
    }

    fn answered(
        &mut self,
        from: Voter,
        request: RequestId,
        said: Known,
        reply: Reply,
        now: Millis,
        out: &mut Vec<Effect>,
    ) {
        self.highest = self.highest.max(said.promised);
        let of_round =
            self.round.as_ref().and_then(|(_, asked)| asked.as_ref()).filter(|a| a.request == request);
        let of_poll = self.polls.iter().position(|(_, asked)| asked.request == request);
        let asked = of_round.or_else(|| self.polls.get(of_poll?).map(|(_, asked)| asked));
        let Some(asked) = asked else { return };
        if asked.known.get(&from).is_some_and(|had| had.store == said.store && had.promised > said.promised) {
            let text = format!(
                "the record store of {from:?} knows less than it did before: its vote is not counted until it has \
                 noticed"
            );
            log(LogLevel::Warn, &text, out);
            return;
        }
        self.remember(from, said, &reply);
        match of_poll {
            Some(index) => self.poll_reply(index, from, said.store, reply, now, out),
            None => self.round_reply(from, said.store, reply, now, out),
        }
    }

    fn remember(&mut self, from: Voter, said: Known, reply: &Reply) {
        if from == self.electorate.own() {
            return;
        }
        let known = self.known.entry(from).or_insert(said);
        if known.store == said.store {
            known.promised = known.promised.max(said.promised);
        } else {
            *known = said;
        }
        if let (true, Reply::Promised { accepted } | Reply::WouldGrant { accepted }) =
            (from.node().is_some(), reply)
        {
            let newest = accepted.as_ref().map_or(Ballot::default(), |(ballot, _)| *ballot);
            self.met = Some(self.met.map_or(newest, |met| met.max(newest)));
        }
    }

    fn round_reply(&mut self, from: Voter, store: u64, reply: Reply, now: Millis, out: &mut Vec<Effect>) {
        let Some((mut round, asked)) = self.round.take() else { return };
        let lone = self.round_lone(&round);
        let next = round.reply(from, store, reply, self.electorate, lone);
        self.go_on(round, asked, next, now, out);
    }

    /// Does what a round wants next, and puts it back unless it is over.
    fn go_on(
        &mut self,
        mut round: Round,
        asked: Option<Asked>,
        next: Next,
        now: Millis,
        out: &mut Vec<Effect>,
    ) {
        match next {
            Next::Wait => self.round = Some((round, asked)),
            Next::Ask(ask, reach) => {
                let asked = self.ask(&ask, reach, now, out);
                self.round = Some((round, Some(asked)));
            }
            Next::AlsoOwn => {
                let question = round.question();
                if let (Some(ask), Some(asked)) = (question, &asked) {
                    self.ask_own(asked.request, ask, now, out);
                }
                self.round = Some((round, asked));
            }
            Next::Again => {
                let until = now.saturating_add(self.back_off_ms(round.attempt));
                match round.wait(until) {
                    Next::Done(outcome) => self.round_done(&round, outcome, now, out),
                    _ => self.round = Some((round, None)),
                }
            }
            Next::Done(outcome) => self.round_done(&round, outcome, now, out),
        }
    }

    /// Longer with each attempt, and by chance, so that two proposers get out of each other's way.
    fn back_off_ms(&mut self, attempt: u32) -> Millis {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let most = BACK_OFF_MS.saturating_mul(u64::from(attempt));
        BACK_OFF_MS + self.random % most.max(1)
    }

    fn round_done(&mut self, round: &Round, outcome: Outcome, now: Millis, out: &mut Vec<Effect>) {
        if let Outcome::Committed(record) | Outcome::Conflict(record) = &outcome {
            self.learn(record, out);
        }
        if matches!(outcome, Outcome::Committed(_)) && round.lease() == LeaseRule::Forced {
            self.operator_decided();
        }
        // A renewal whose refusal came from a record that nobody else has, and that was replaced meanwhile.
        let still_primary = |record: &Record| record.primary == Some(self.electorate.own);
        let outcome = match (&round.job, outcome) {
            (Job::Settle, Outcome::Conflict(record)) if still_primary(&record) => {
                Outcome::NoMajority { heard: Vec::new() }
            }
            (_, outcome) => outcome,
        };
        match (round.id, outcome) {
            (Some(id), outcome) => out.push(Effect::Done { id, outcome }),
            (None, Outcome::Committed(_)) if round.job == Job::Read => self.settle_leases(out),
            (None, Outcome::Committed(record)) => {
                let text = match record.witness {
                    Some(store) => format!("the witness's store {store:016x} is admitted by both data nodes"),
                    None => "the vote of the lost witness store is taken away by both data nodes".to_owned(),
                };
                log(LogLevel::Info, &text, out);
            }
            (None, _) => {}
        }
        self.next_round(now, out);
    }

    /// The operator who has given the order has made sure that the peer is off: until it is heard, this node goes on
    /// without it.
    fn operator_decided(&mut self) {
        if self.electorate.quorum.is_of_two() {
            self.met.get_or_insert_default();
            self.peer_fenced = true;
            self.acceptor.forget_lease_of(self.electorate.own.peer());
        }
    }

    fn learn(&mut self, record: &Record, out: &mut Vec<Effect>) {
        let known = self.committed.as_ref();
        let newer = known.is_none_or(|had| had.version < record.version || had.term < record.term);
        if record.primary.is_none() || !newer {
            return;
        }
        let new_term = known.is_none_or(|had| had.term != record.term);
        self.committed = Some(record.clone());
        if new_term && self.electorate.quorum == Quorum::Manual {
            self.journal.persist(self.saved(), out);
        }
    }

    fn next_round(&mut self, now: Millis, out: &mut Vec<Effect>) {
        while self.round.is_none() {
            let Some(round) = self.queue.pop_front() else { return };
            if round.deadline <= now {
                if let Some(id) = round.id {
                    out.push(Effect::Done { id, outcome: round.out_of_time() });
                }
                continue;
            }
            self.begin(round, now, out);
        }
    }

    fn begin(&mut self, mut round: Round, now: Millis, out: &mut Vec<Effect>) {
        let Some(ballot) = self.next_ballot(&round.job) else {
            let outcome = round.out_of_time();
            return self.round_done(&round, outcome, now, out);
        };
        self.highest = ballot;
        let next = round.begin(ballot);
        self.go_on(round, None, next, now, out);
    }

    /// The primary, with both data nodes there, exchanges a witness whose identity is not the recorded one.
    fn exchange_witness(&mut self, now: Millis, out: &mut Vec<Effect>) {
        let (Some(witness), Some(record)) = (self.known.get(&Voter::Witness), &self.committed) else {
            return;
        };
        let wanted = self.electorate.quorum == Quorum::Witness && record.witness != Some(witness.store);
        if !wanted || self.round.is_some() {
            return;
        }
        let step = if record.witness.is_some() { None } else { Some(witness.store) };
        if let Ok(next) = record.admitted(step) {
            let job = Job::Swap { expect: record.version, record: next, lease: LeaseRule::Whatever };
            let deadline = now.saturating_add(self.timing.store_timeout_ms);
            self.enqueue(Round::new(None, job, now, deadline), now, out);
        }
    }

    fn enqueue(&mut self, round: Round, now: Millis, out: &mut Vec<Effect>) {
        if self.queue.len() >= PENDING_MAX {
            if let Some(id) = round.id {
                out.push(Effect::Done { id, outcome: round.out_of_time() });
            }
            return;
        }
        self.queue.push_back(round);
        self.next_round(now, out);
    }

    fn peer_was_fenced(&mut self, id: RequestId, out: &mut Vec<Effect>) {
        let outcome = if self.met.is_some() && self.acceptor.accepted().is_some() {
            self.peer_fenced = true;
            self.acceptor.forget_lease_of(self.electorate.own.peer());
            Outcome::Fenced
        } else {
            Outcome::NotMet
        };
        out.push(Effect::Done { id, outcome });
    }

    // Time.

    fn tick_round(&mut self, now: Millis, out: &mut Vec<Effect>) {
        let Some((round, asked)) = self.round.take() else { return };
        if round.deadline <= now {
            let outcome = round.out_of_time();
            self.round_done(&round, outcome, now, out);
        } else if matches!(round.phase, Phase::Waits { until } if until <= now) {
            self.begin(round, now, out);
        } else if round.outbid() && asked.as_ref().is_some_and(|asked| asked.repeat_at <= now) {
            self.go_on(round, asked, Next::Again, now, out);
        } else {
            let asked = match (asked, round.question()) {
                (Some(asked), Some(ask)) if asked.repeat_at <= now => {
                    Some(self.repeat(asked, &ask, |voter| round.answered(voter), now, out))
                }
                (asked, _) => asked,
            };
            self.round = Some((round, asked));
        }
    }

    /// Asks those again that have not answered.
    fn repeat(
        &mut self,
        asked: Asked,
        ask: &Ask,
        answered: impl Fn(Voter) -> bool,
        now: Millis,
        out: &mut Vec<Effect>,
    ) -> Asked {
        for voter in self.electorate.others().filter(|voter| !answered(*voter)) {
            self.send(voter, &asked, ask, out);
        }
        Asked { repeat_at: now.saturating_add(self.repeat_ms()), ..asked }
    }
}

impl RecordStore for Bundled {
    type Event = Event;
    type Effect = Effect;

    fn submit(&mut self, id: RequestId, op: Op, now: Millis, out: &mut Vec<Effect>) {
        let deadline = now.saturating_add(self.timing.store_timeout_ms);
        match op {
            Op::Read => self.enqueue(Round::new(Some(id), Job::Read, now, deadline), now, out),
            Op::Swap { expect, record, lease } => {
                let job = Job::Swap { expect, record, lease };
                self.enqueue(Round::new(Some(id), job, now, deadline), now, out);
            }
            Op::Renew { term } => {
                let hold_ms = self.timing.grant_hold_ms;
                self.ask_all(id, Question::Renew { term, hold_ms }, now, out);
            }
            Op::Release { term } => self.ask_all(id, Question::Release { term }, now, out),
            Op::PreVote => self.ask_all(id, Question::PreVote, now, out),
            Op::PeerFenced => self.peer_was_fenced(id, out),
            Op::OwnVote => {
                let record = self.acceptor.accepted().map(|(_, record)| record.clone());
                let outcome = Outcome::OwnVote { record, highest: self.highest.round };
                out.push(Effect::Done { id, outcome });
            }
        }
        self.pump(now, out);
    }

    fn handle(&mut self, event: Event, now: Millis, out: &mut Vec<Effect>) {
        match event {
            Event::Received { from, message } => self.received(from, message, now, out),
            Event::Persisted { seq } => self.journal.persisted(seq),
        }
        self.pump(now, out);
    }

    fn deadline(&self) -> Option<Millis> {
        let round = self.round.iter().flat_map(|(round, asked)| {
            let waits = match round.phase {
                Phase::Waits { until } => Some(until),
                _ => None,
            };
            [Some(round.deadline), waits, asked.as_ref().map(|asked| asked.repeat_at)]
        });
        let polls = self.polls.iter().flat_map(|(poll, asked)| [Some(poll.deadline), Some(asked.repeat_at)]);
        round.chain(polls).flatten().chain(self.queue.iter().map(|round| round.deadline)).min()
    }

    fn tick(&mut self, now: Millis, out: &mut Vec<Effect>) {
        self.tick_round(now, out);
        let (late, rest): (VecDeque<_>, _) =
            std::mem::take(&mut self.queue).into_iter().partition(|round| round.deadline <= now);
        self.queue = rest;
        for round in late {
            if let Some(id) = round.id {
                out.push(Effect::Done { id, outcome: round.out_of_time() });
            }
        }
        self.tick_polls(now, out);
        self.pump(now, out);
    }
}

fn log(level: LogLevel, text: &str, out: &mut Vec<Effect>) {
    out.push(Effect::Log { level, text: text.to_owned() });
}
