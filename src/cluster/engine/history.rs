//! The last moves of the stack, with the time of each step, as this node saw them.

use std::collections::BTreeMap;

use super::{Engine, alert};
use crate::control::Move;
use crate::event::{Action, LogLevel};
use crate::member::Node;
use crate::record::Term;
use crate::timing::Millis;

/// Moves that are remembered.
const MOVES: usize = 20;
/// Steps of one move that are remembered.
const STEPS: usize = 64;

/// Kinds of moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// An operator's wish.
    Switchover,
    /// The manager's decision, while the old primary lives.
    Failover,
    /// The old primary was dead.
    Takeover,
    /// From nowhere: a first start, or one after a reboot.
    Start,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Switchover, Self::Failover, Self::Takeover, Self::Start];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Switchover => "switchover",
            Self::Failover => "failover",
            Self::Takeover => "takeover",
            Self::Start => "start",
        }
    }
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    term: Term,
    from: Option<Node>,
    to: Node,
    because: String,
    began: Millis,
    /// End of the last step that was timed from the one before it.
    mark: Millis,
    ended: Option<Millis>,
    steps: Vec<(String, Millis)>,
    finished: bool,
}

/// See the module; newest last.
#[derive(Debug, Default)]
pub(super) struct Story {
    entries: Vec<Entry>,
    /// Moves hither that have come to a good end, by their kind.
    arrived: BTreeMap<Kind, u64>,
}

impl Story {
    /// A move has begun and not ended.
    pub(super) fn is_open(&self) -> bool {
        self.entries.last().is_some_and(|e| e.ended.is_none())
    }

    pub(super) fn last_took_ms(&self) -> Millis {
        self.entries.last().map_or(0, |e| e.ended.unwrap_or(e.mark).saturating_sub(e.began))
    }

    pub(super) fn moves(&self) -> BTreeMap<String, u64> {
        let count = |kind| self.arrived.get(&kind).copied().unwrap_or_default();
        Kind::ALL.map(|kind| (kind.word().to_owned(), count(kind))).into()
    }

    fn open(&mut self) -> Option<&mut Entry> {
        self.entries.last_mut().filter(|e| e.ended.is_none() && e.steps.len() < STEPS)
    }

    /// `switchover to ha-b`.
    pub(super) fn doing(&self, name: impl Fn(Node) -> String) -> Option<String> {
        let entry = self.entries.last().filter(|e| e.ended.is_none())?;
        let whither = if entry.kind == Kind::Start { "on" } else { "to" };
        Some(format!("{} {whither} {}", entry.kind.word(), name(entry.to)))
    }

    pub(super) fn told(&self, now: Millis) -> Vec<Move> {
        let tell = |e: &Entry| Move {
            kind: e.kind.word().to_owned(),
            term: e.term,
            from: e.from,
            to: e.to,
            because: e.because.clone(),
            ago_ms: now.saturating_sub(e.began),
            steps: e.steps.clone(),
            finished: e.finished,
        };
        self.entries.iter().rev().map(tell).collect()
    }
}

impl Engine {
    pub(super) fn begin_move(
        &mut self,
        kind: Kind,
        term: Term,
        from: Option<Node>,
        to: Node,
        because: String,
        now: Millis,
    ) {
        self.end_move(false, now);
        if self.story.entries.len() >= MOVES {
            self.story.entries.remove(0);
        }
        self.story.entries.push(Entry {
            kind,
            term,
            from,
            to,
            because,
            began: now,
            mark: now,
            ended: None,
            steps: Vec::new(),
            finished: false,
        });
    }

    /// A step that began when the one before it ended.
    pub(super) fn step_of_move(&mut self, name: &str, now: Millis) {
        if let Some(entry) = self.story.open() {
            entry.steps.push((name.to_owned(), now.saturating_sub(entry.mark)));
            entry.mark = now;
        }
    }

    /// A step with its own begin: of several at the same time.
    pub(super) fn unit_step(&mut self, name: &str, took_ms: Millis) {
        let now = self.now;
        if let Some(entry) = self.story.open() {
            entry.steps.push((name.to_owned(), took_ms));
            entry.mark = now;
        }
    }

    pub(super) fn end_move(&mut self, finished: bool, now: Millis) {
        if let Some(entry) = self.story.entries.last_mut().filter(|e| e.ended.is_none()) {
            entry.ended = Some(now);
            entry.finished = finished;
        }
    }

    /// The move hither is over when everything runs.
    pub(super) fn finish_start(&mut self, now: Millis, out: &mut Vec<Action>) {
        let me = self.me();
        let Some(entry) = self.story.entries.last().filter(|e| e.ended.is_none() && e.to == me) else {
            return;
        };
        if self.group_is_up() {
            let (kind, name, word) = (entry.kind, self.name(me), entry.kind.word());
            let took = now.saturating_sub(entry.began);
            alert(
                out,
                LogLevel::Info,
                "running",
                format!("the stack runs on {name}, {took} ms after the begin of its {word}"),
            );
            *self.story.arrived.entry(kind).or_default() += 1;
            self.end_move(true, now);
        }
    }
}
