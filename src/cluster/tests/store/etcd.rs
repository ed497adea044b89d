//! The store in etcd, and an etcd: a linearizable key-value with leases in memory, which stands where the witness
//! stands. It does each request once and answers when that is durable; like the real one it begins all leases anew
//! when it starts.

use std::collections::{BTreeMap, BTreeSet};

use cluster::etcd::{Answer, Change, Compare, Effect, Etcd, Event, Holder, LeaseId, Request, Revision, View};
use cluster::member::{Node, Voter};
use cluster::record::Record;
use cluster::timing::Millis;

use crate::bundled::timing;
use crate::world::{Did, Family, Incoming};

#[derive(Clone, Copy)]
pub(crate) struct OfEtcd;

#[derive(Clone)]
pub(crate) enum Wire {
    Ask(u64, Request),
    Answer(u64, Answer),
}

/// What is in it.
#[derive(Clone, Default)]
pub(crate) struct Data {
    revision: u64,
    record: Option<(Record, Revision)>,
    key: Option<(Holder, Revision, LeaseId)>,
    next_lease: i64,
    /// Time to live, and when it is over.
    leases: BTreeMap<LeaseId, (Millis, Millis)>,
    done: BTreeSet<(Voter, u64)>,
}

pub(crate) struct Server {
    data: Data,
    next_seq: u64,
    answers: BTreeMap<u64, (Voter, u64, Answer)>,
}

impl Data {
    fn expire(&mut self, now: Millis) {
        self.leases.retain(|_, (_, until)| *until > now);
        self.key = self.key.filter(|(.., lease)| self.leases.contains_key(lease));
    }

    fn holds(&self, compare: Compare) -> bool {
        let record = self.record.as_ref().map(|(_, revision)| *revision).unwrap_or_default();
        match compare {
            Compare::Record(revision) => record == revision,
            Compare::Lease(revision) => self.key.map(|(_, at, _)| at).unwrap_or_default() == revision,
            Compare::HeldBy(holder) => self.key.is_some_and(|(who, ..)| who == holder),
            Compare::On(lease) => self.key.is_some_and(|(.., on)| on == lease),
        }
    }

    fn view(&self) -> View {
        View { record: self.record.clone(), lease: self.key.map(|(holder, revision, _)| (holder, revision)) }
    }

    fn change(&mut self, then: Vec<Change>) -> Answer {
        let missing = |change: &Change| matches!(change, Change::PutLease(_, lease) if !self.leases.contains_key(lease));
        if then.iter().any(missing) {
            return Answer::NoLease;
        }
        self.revision += u64::from(!then.is_empty());
        let revision = Revision(self.revision);
        for change in then {
            match change {
                Change::PutRecord(record) => self.record = Some((record, revision)),
                Change::PutLease(holder, lease) => self.key = Some((holder, revision, lease)),
                Change::DropLease => self.key = None,
            }
        }
        Answer::Changed(revision)
    }

    fn answer(&mut self, request: Request, now: Millis) -> Answer {
        self.expire(now);
        match request {
            Request::Look => Answer::Found(self.view()),
            Request::Change { when, .. } if when.iter().any(|compare| !self.holds(*compare)) => {
                Answer::Found(self.view())
            }
            Request::Change { then, .. } => self.change(then),
            Request::Grant { ttl_s } => {
                self.next_lease += 1;
                let lease = LeaseId(self.next_lease);
                self.leases.insert(lease, (ttl_s * 1000, now + ttl_s * 1000));
                Answer::Lease { lease, ttl_s }
            }
            Request::KeepAlive { lease } => match self.leases.get_mut(&lease) {
                Some((ttl, until)) => {
                    *until = now + *ttl;
                    Answer::Lease { lease, ttl_s: *ttl / 1000 }
                }
                None => Answer::Lease { lease, ttl_s: 0 },
            },
            Request::Revoke { lease } => {
                let was = self.leases.remove(&lease);
                self.expire(now);
                if was.is_some() { Answer::Revoked } else { Answer::NoLease }
            }
        }
    }
}

impl Family for OfEtcd {
    type Store = Etcd;
    type Other = Server;
    type Message = Wire;
    type Saved = Data;

    fn store(&self, node: Node, _: Option<Data>, fresh: u64, _: Millis) -> Etcd {
        Etcd::new(node, timing(), fresh)
    }

    fn other(&self, saved: Option<Data>, _: u64, now: Millis) -> Option<Server> {
        let mut data = saved.unwrap_or_default();
        for (ttl, until) in data.leases.values_mut() {
            *until = now + *ttl;
        }
        Some(Server { data, next_seq: 0, answers: BTreeMap::new() })
    }

    fn other_handles(other: &mut Server, incoming: Incoming<Wire>, now: Millis) -> Vec<Did<Wire, Data>> {
        match incoming {
            Incoming::Message { from, message: Wire::Ask(number, request) } => {
                if !other.data.done.insert((from, number)) {
                    return Vec::new();
                }
                let answer = other.data.answer(request, now);
                other.next_seq += 1;
                let seq = other.next_seq;
                other.answers.insert(seq, (from, number, answer));
                vec![Did::Persist { seq, saved: other.data.clone() }]
            }
            Incoming::Message { .. } => Vec::new(),
            Incoming::Persisted { seq } => {
                let (to, number, answer) = other.answers.remove(&seq).unwrap();
                vec![Did::Send { to, message: Wire::Answer(number, answer) }]
            }
        }
    }

    fn event(incoming: Incoming<Wire>) -> Option<Event> {
        match incoming {
            Incoming::Message { message: Wire::Answer(number, answer), .. } => Some(Event { number, answer }),
            _ => None,
        }
    }

    fn did(effect: Effect) -> Did<Wire, Data> {
        match effect {
            Effect::Ask { number, request } => {
                Did::Send { to: Voter::Witness, message: Wire::Ask(number, request) }
            }
            Effect::Done { id, outcome } => Did::Done { id, outcome },
            Effect::Log { .. } => Did::Nothing,
        }
    }
}
