//! The record store in an existing etcd cluster: etcd is the linearizable register, and its leases bound the
//! primary's right to act.
//!
//! Rules protected here:
//!
//! - A swap compares the *revision* of the key that was read together with the expected version: no content that
//!   returns later can be mistaken for it. It is sent once. No answer means [`Outcome::Unknown`].
//! - A takeover compares, in the same transaction, that the lease key is gone. etcd removes it when the lease has
//!   run out, and at no other time but a release, an order of an operator, or a change of the primary.
//! - A renewal counts from when its keep-alive was *sent*, and only after a later transaction has seen the lease
//!   key with our name and term, on the lease that was kept alive, beside a record of which we are the primary.
//!   That transaction goes through etcd's consensus; an isolated former leader that still answers keep-alives
//!   cannot make it.
//! - A cluster that knows less than this manager has seen of it (restored from a snapshot, emptied) is not believed.
//!
//! Time to live: whole seconds, at least the grant hold. etcd may let a lease run longer than asked (its smallest
//! time, a new leader that begins all leases anew, its look every half second), never shorter; the holder stops by
//! its own, shorter clock, so a longer lease costs time of a failover and nothing else.

mod request;

use crate::event::LogLevel;
use crate::member::{Node, Voter};
use crate::record::{Record, Term, Version};
use crate::store::{LeaseRule, Op, Outcome, RecordStore, RequestId};
use crate::timing::{Millis, Timing};

pub use request::{Answer, Change, Compare, Holder, LeaseId, Request, Revision, View};

/// Operations that are open: more than a manager ever has.
const OPEN_MAX: usize = 16;

/// What reaches the store: the answer to the request of this number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which.
    pub number: u64,
    /// How it was answered.
    pub answer: Answer,
}

/// What the store wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask etcd, once; a change must not be repeated by anybody.
    Ask {
        /// Named in the answer; never used twice.
        number: u64,
        /// What.
        request: Request,
    },
    /// An operation is over.
    Done {
        /// Which.
        id: RequestId,
        /// How.
        outcome: Outcome,
    },
    /// One line of the log.
    Log {
        /// How much it matters.
        level: LogLevel,
        /// The sentence.
        text: String,
    },
}

/// A swap as it was asked for.
#[derive(Clone, Debug)]
struct Wanted {
    expect: Version,
    record: Record,
    rule: LeaseRule,
}

/// A renewal.
#[derive(Clone, Copy, Debug)]
struct Renewal {
    term: Term,
    /// When the lease's time was begun anew, by the question.
    sent_at: Millis,
}

/// What an operation waits for.
#[derive(Clone, Debug)]
enum Step {
    Reading,
    Asking,
    /// The record that a swap is to replace.
    Finding(Wanted),
    Swapping(Wanted),
    /// The record under which a renewal may be made.
    Meeting(Renewal),
    KeepingAlive(Renewal),
    Granting(Renewal),
    /// Whether the lease key still is ours.
    Checking(Renewal),
    /// The lease key on a new lease, or beside a newer record.
    Putting(Renewal),
    /// The lease key goes; then the lease.
    Dropping,
    Revoking,
}

/// An open operation.
#[derive(Clone, Debug)]
struct Open {
    id: RequestId,
    deadline: Millis,
    /// The question that is open.
    number: u64,
    /// What was known when it was asked: its answer cannot know less.
    known: Version,
    step: Step,
}

/// How an operation goes on.
enum Next {
    Ask(Step, Request),
    Done(Outcome),
}

/// The record store in etcd.
#[derive(Clone, Debug)]
pub struct Etcd {
    node: Node,
    timing: Timing,
    newest: Option<(Record, Revision)>,
    /// The lease of this life.
    lease: Option<LeaseId>,
    next_number: u64,
    open: Vec<Open>,
}

const fn nobody() -> Next {
    Next::Done(Outcome::NoMajority { heard: Vec::new() })
}

impl Etcd {
    /// `fresh` is a random number: the first of this life's numbers of requests.
    #[must_use]
    pub const fn new(node: Node, timing: Timing, fresh: u64) -> Self {
        Self { node, timing, newest: None, lease: None, next_number: fresh, open: Vec::new() }
    }

    /// Time to live of the lease, in whole seconds.
    #[must_use]
    pub const fn ttl_s(timing: &Timing) -> u64 {
        timing.grant_hold_ms.div_ceil(1000)
    }

    fn known(&self) -> Version {
        self.newest.as_ref().map(|(record, _)| record.version).unwrap_or_default()
    }

    fn begin(&mut self, op: Op, now: Millis) -> Next {
        match op {
            Op::Read => Next::Ask(Step::Reading, Request::Look),
            Op::PreVote => Next::Ask(Step::Asking, Request::Look),
            Op::Swap { expect, record, lease } => {
                let wanted = Wanted { expect, record, rule: lease };
                match &self.newest {
                    Some((newest, revision)) if newest.version == expect => {
                        let (term, revision) = (newest.term, *revision);
                        swap(wanted, term, revision, Revision(0))
                    }
                    _ => Next::Ask(Step::Finding(wanted), Request::Look),
                }
            }
            Op::Renew { term } => {
                let renewal = Renewal { term, sent_at: now };
                match &self.newest {
                    Some((record, _)) if self.reigns(record, term) => self.extend(renewal, now),
                    _ => Next::Ask(Step::Meeting(renewal), Request::Look),
                }
            }
            Op::Release { term } => {
                let when = vec![Compare::HeldBy(Holder { node: self.node, term })];
                Next::Ask(Step::Dropping, Request::Change { when, then: vec![Change::DropLease] })
            }
            // A lease here ends by itself, and nobody's vote is stood for by a fencing.
            Op::PeerFenced => Next::Done(Outcome::NotMet),
            // There is none.
            Op::OwnVote => Next::Done(Outcome::OwnVote { record: None, highest: 0 }),
        }
    }

    fn reigns(&self, record: &Record, term: Term) -> bool {
        record.primary == Some(self.node) && record.term == term
    }

    /// Begins the lease's time anew.
    fn extend(&self, renewal: Renewal, now: Millis) -> Next {
        let renewal = Renewal { sent_at: now, ..renewal };
        match self.lease {
            Some(lease) => Next::Ask(Step::KeepingAlive(renewal), Request::KeepAlive { lease }),
            None => {
                let ttl_s = Self::ttl_s(&self.timing);
                Next::Ask(Step::Granting(renewal), Request::Grant { ttl_s })
            }
        }
    }

    /// The lease key, as it must be for a renewal; `put` writes it.
    fn key(&self, renewal: Renewal, put: bool) -> Next {
        let (Some((_, revision)), Some(lease)) = (&self.newest, self.lease) else { return nobody() };
        let holder = Holder { node: self.node, term: renewal.term };
        let record = Compare::Record(*revision);
        if put {
            let then = vec![Change::PutLease(holder, lease)];
            return Next::Ask(Step::Putting(renewal), Request::Change { when: vec![record], then });
        }
        let when = vec![record, Compare::HeldBy(holder), Compare::On(lease)];
        Next::Ask(Step::Checking(renewal), Request::Change { when, then: Vec::new() })
    }

    /// Remembers what was found; false when it is older than what was known before the question.
    fn learn(&mut self, view: &View, known: Version) -> bool {
        let found = view.record.as_ref().map(|(record, _)| record.version).unwrap_or_default();
        if found < known {
            return false;
        }
        if let Some((record, revision)) = &view.record
            && self.newest.as_ref().is_none_or(|(_, newest)| newest < revision)
        {
            self.newest = Some((record.clone(), *revision));
        }
        true
    }

    fn answered(&mut self, step: Step, view: View, now: Millis) -> Next {
        let record = view.record.as_ref().map(|(record, _)| record.clone()).unwrap_or_default();
        let foreign = view.lease.filter(|(holder, _)| holder.node != self.node);
        let ttl_ms = Self::ttl_s(&self.timing) * 1000;
        let leased = || Next::Done(Outcome::Leased { by: Voter::Witness, left_ms: ttl_ms });
        match step {
            Step::Reading => Next::Done(Outcome::Committed(record)),
            Step::Asking if foreign.is_some() => leased(),
            Step::Asking => Next::Done(Outcome::WouldGrant(record)),
            Step::Finding(wanted) | Step::Swapping(wanted) if record.version != wanted.expect => {
                Next::Done(Outcome::Conflict(record))
            }
            Step::Finding(wanted) => {
                let revision = view.record.map(|(_, revision)| revision).unwrap_or_default();
                swap(wanted, record.term, revision, Revision(0))
            }
            // The record is the expected one, so it is the lease that was in the way.
            Step::Swapping(_) if foreign.is_some() => leased(),
            Step::Swapping(wanted) => match (view.record, view.lease) {
                // The own one, of a former life or term, is not.
                (Some((_, revision)), Some((_, own))) if wanted.rule == LeaseRule::MustBeOver => {
                    swap(wanted, record.term, revision, own)
                }
                _ => nobody(),
            },
            Step::Meeting(renewal) | Step::Checking(renewal) | Step::Putting(renewal)
                if !self.reigns(&record, renewal.term) =>
            {
                Next::Done(Outcome::Conflict(record))
            }
            Step::Meeting(renewal) => self.extend(renewal, now),
            Step::Checking(renewal) | Step::Putting(renewal) => self.key(renewal, true),
            Step::Dropping => self.drop_lease(),
            Step::KeepingAlive(_) | Step::Granting(_) | Step::Revoking => nobody(),
        }
    }

    fn changed(&mut self, step: Step, revision: Revision) -> Next {
        match step {
            Step::Swapping(wanted) => {
                if self.newest.as_ref().is_none_or(|(_, newest)| *newest < revision) {
                    self.newest = Some((wanted.record.clone(), revision));
                }
                Next::Done(Outcome::Committed(wanted.record))
            }
            Step::Checking(renewal) | Step::Putting(renewal) => {
                Next::Done(Outcome::Renewed { sent_at: renewal.sent_at })
            }
            Step::Dropping => self.drop_lease(),
            _ => nobody(),
        }
    }

    /// With the lease gone no renewal that is still under way can put the key back.
    fn drop_lease(&mut self) -> Next {
        match self.lease.take() {
            Some(lease) => Next::Ask(Step::Revoking, Request::Revoke { lease }),
            None => Next::Done(Outcome::Released),
        }
    }

    fn leased(&mut self, step: Step, lease: LeaseId, ttl_s: u64, now: Millis) -> Next {
        let enough = ttl_s >= Self::ttl_s(&self.timing);
        match step {
            Step::KeepingAlive(renewal) if enough && self.lease == Some(lease) => self.key(renewal, false),
            Step::KeepingAlive(renewal) => {
                self.lease = None;
                self.extend(renewal, now)
            }
            Step::Granting(renewal) if enough => {
                self.lease = Some(lease);
                self.key(renewal, true)
            }
            _ => nobody(),
        }
    }

    fn next(
        &mut self,
        step: Step,
        known: Version,
        answer: Answer,
        now: Millis,
        out: &mut Vec<Effect>,
    ) -> Next {
        match (step, answer) {
            (step, Answer::Found(view)) => {
                if self.learn(&view, known) {
                    return self.answered(step, view, now);
                }
                let text = "etcd knows less of the record than it did before (restored from a snapshot, or \
                            emptied?): it is not believed until it has the record again";
                out.push(Effect::Log { level: LogLevel::Error, text: text.to_owned() });
                nobody()
            }
            (step, Answer::Changed(revision)) => self.changed(step, revision),
            (step, Answer::Lease { lease, ttl_s }) => self.leased(step, lease, ttl_s, now),
            (Step::Revoking, Answer::Revoked | Answer::NoLease) => Next::Done(Outcome::Released),
            (Step::KeepingAlive(renewal), Answer::NoLease) => {
                self.lease = None;
                self.extend(renewal, now)
            }
            (Step::Putting(_), Answer::NoLease) => {
                self.lease = None;
                nobody()
            }
            (step, Answer::Lost) => Next::Done(out_of_time(&step)),
            _ => nobody(),
        }
    }

    fn go_on(&mut self, mut open: Open, next: Next, out: &mut Vec<Effect>) {
        match next {
            Next::Ask(step, request) => {
                open.number = self.next_number;
                self.next_number = self.next_number.wrapping_add(1);
                open.known = self.known();
                open.step = step;
                out.push(Effect::Ask { number: open.number, request });
                self.open.push(open);
            }
            Next::Done(outcome) => out.push(Effect::Done { id: open.id, outcome }),
        }
    }

    /// A goodbye: renewals that are under way come to nothing.
    fn stop_renewals(&mut self, out: &mut Vec<Effect>) {
        let renews = |open: &mut Open| {
            matches!(
                open.step,
                Step::Meeting(_)
                    | Step::KeepingAlive(_)
                    | Step::Granting(_)
                    | Step::Checking(_)
                    | Step::Putting(_)
            )
        };
        let stopped: Vec<Open> = self.open.extract_if(.., renews).collect();
        for open in stopped {
            self.go_on(open, nobody(), out);
        }
    }
}

/// The one transaction of a swap; `lease`: revision of the lease key that a takeover may find, 0 for none.
fn swap(wanted: Wanted, term: Term, revision: Revision, lease: Revision) -> Next {
    let mut when = vec![Compare::Record(revision)];
    if wanted.rule == LeaseRule::MustBeOver {
        when.push(Compare::Lease(lease));
    }
    let mut then = vec![Change::PutRecord(wanted.record.clone())];
    if wanted.record.term != term {
        // What it promised is over with its term.
        then.push(Change::DropLease);
    }
    Next::Ask(Step::Swapping(wanted), Request::Change { when, then })
}

/// How an operation ends when nothing more comes.
const fn out_of_time(step: &Step) -> Outcome {
    match step {
        Step::Swapping(_) => Outcome::Unknown,
        _ => Outcome::NoMajority { heard: Vec::new() },
    }
}

impl RecordStore for Etcd {
    type Event = Event;
    type Effect = Effect;

    fn submit(&mut self, id: RequestId, op: Op, now: Millis, out: &mut Vec<Effect>) {
        if matches!(op, Op::Release { .. }) {
            self.stop_renewals(out);
        }
        let deadline = now.saturating_add(self.timing.store_timeout_ms);
        let next = if self.open.len() < OPEN_MAX { self.begin(op, now) } else { nobody() };
        let open = Open { id, deadline, number: 0, known: Version(0), step: Step::Reading };
        self.go_on(open, next, out);
    }

    fn handle(&mut self, event: Event, now: Millis, out: &mut Vec<Effect>) {
        let Some(index) = self.open.iter().position(|open| open.number == event.number) else { return };
        let open = self.open.swap_remove(index);
        let next = self.next(open.step.clone(), open.known, event.answer, now, out);
        self.go_on(open, next, out);
    }

    fn deadline(&self) -> Option<Millis> {
        self.open.iter().map(|open| open.deadline).min()
    }

    fn tick(&mut self, now: Millis, out: &mut Vec<Effect>) {
        let late: Vec<Open> = self.open.extract_if(.., |open| open.deadline <= now).collect();
        for open in late {
            out.push(Effect::Done { id: open.id, outcome: out_of_time(&open.step) });
        }
    }
}
