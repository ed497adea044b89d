//! Where the record is kept, as configured: among A, B and the witness, or in etcd. What the store wants done is
//! done here; what has ended is returned.

use cluster::etcd::{self, Answer, Etcd};
use cluster::member::Voter;
use cluster::message::{Message, Register};
use cluster::register::{self, Bundled, Saved};
use cluster::store::{Op, Outcome, RecordStore as _, RequestId};
use cluster::timing::Millis;
use tokio::sync::watch;

use crate::etcd::Members;
use crate::keep::Keeper;
use crate::links::Links;
use crate::tell::log;

/// An operation that has ended, and how.
pub(crate) type Done = (RequestId, Outcome);

/// The store and what it acts with.
pub(crate) enum Book {
    /// A, B and the witness, if there is one.
    Voters {
        /// Proposer and own acceptor.
        store: Box<Bundled>,
        /// The acceptor's disk.
        keeper: Keeper<Saved>,
    },
    /// An etcd cluster. Nothing is kept here.
    Etcd {
        /// What to ask.
        store: Box<Etcd>,
        /// Whom to ask.
        members: Members,
    },
}

impl Book {
    /// When it next wants a tick.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        match self {
            Self::Voters { store, .. } => store.deadline(),
            Self::Etcd { store, .. } => store.deadline(),
        }
    }

    /// What stands in the way of writing this member's vote.
    pub(crate) fn problem(&self) -> watch::Receiver<Option<String>> {
        match self {
            Self::Voters { keeper, .. } => keeper.problem(),
            Self::Etcd { .. } => watch::channel(None).1,
        }
    }

    /// Why etcd has not answered for long.
    pub(crate) fn silence(&self) -> watch::Receiver<Option<String>> {
        match self {
            Self::Voters { .. } => watch::channel(None).1,
            Self::Etcd { members, .. } => members.problem(),
        }
    }

    /// Begins an operation.
    pub(crate) fn submit(&mut self, id: RequestId, op: Op, now: Millis, links: &Links) -> Vec<Done> {
        match self {
            Self::Voters { store, keeper } => {
                let mut effects = Vec::new();
                store.submit(id, op, now, &mut effects);
                with_voters(effects, keeper, links)
            }
            Self::Etcd { store, members } => {
                let mut effects = Vec::new();
                store.submit(id, op, now, &mut effects);
                with_etcd(effects, members)
            }
        }
    }

    /// The time has come.
    pub(crate) fn tick(&mut self, now: Millis, links: &Links) -> Vec<Done> {
        match self {
            Self::Voters { store, keeper } => {
                let mut effects = Vec::new();
                store.tick(now, &mut effects);
                with_voters(effects, keeper, links)
            }
            Self::Etcd { store, members } => {
                let mut effects = Vec::new();
                store.tick(now, &mut effects);
                with_etcd(effects, members)
            }
        }
    }

    /// Another voter said something.
    pub(crate) fn received(
        &mut self,
        from: Voter,
        message: Register,
        now: Millis,
        links: &Links,
    ) -> Vec<Done> {
        self.register(register::Event::Received { from, message }, now, links)
    }

    /// The own acceptor's state of this number is durable.
    pub(crate) fn stored(&mut self, seq: u64, now: Millis, links: &Links) -> Vec<Done> {
        self.register(register::Event::Persisted { seq }, now, links)
    }

    fn register(&mut self, event: register::Event, now: Millis, links: &Links) -> Vec<Done> {
        match self {
            Self::Voters { store, keeper } => {
                let mut effects = Vec::new();
                store.handle(event, now, &mut effects);
                with_voters(effects, keeper, links)
            }
            // A peer that is configured otherwise.
            Self::Etcd { .. } => Vec::new(),
        }
    }

    /// etcd has answered, or not.
    pub(crate) fn answered(&mut self, number: u64, answer: Answer, now: Millis) -> Vec<Done> {
        match self {
            Self::Etcd { store, members } => {
                let mut effects = Vec::new();
                store.handle(etcd::Event { number, answer }, now, &mut effects);
                with_etcd(effects, members)
            }
            Self::Voters { .. } => Vec::new(),
        }
    }
}

fn with_voters(effects: Vec<register::Effect>, keeper: &Keeper<Saved>, links: &Links) -> Vec<Done> {
    let mut done = Vec::new();
    for effect in effects {
        match effect {
            register::Effect::Send { to, message } => links.send(to, &Message::Register(message)),
            register::Effect::Persist { seq, saved } => keeper.persist(seq, saved),
            register::Effect::Done { id, outcome } => done.push((id, outcome)),
            register::Effect::Log { level, text } => log(level, &text),
        }
    }
    done
}

fn with_etcd(effects: Vec<etcd::Effect>, members: &Members) -> Vec<Done> {
    let mut done = Vec::new();
    for effect in effects {
        match effect {
            etcd::Effect::Ask { number, request } => members.ask(number, request),
            etcd::Effect::Done { id, outcome } => done.push((id, outcome)),
            etcd::Effect::Log { level, text } => log(level, &text),
        }
    }
    done
}
