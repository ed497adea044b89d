//! Which change of the record is proposed next, and what its outcome leads to.
//!
//! Rules protected here: one proposal at a time, by the functions of [`crate::record`]; a doubt is resolved by a
//! committed no-op before anything else is proposed; only the committed answer to a request made after a loss of
//! the peer lets this node go on alone after that very loss.

use super::desk::Edit;
use super::history::Kind;
use super::ledger::Swap;
use super::phase::Phase;
use super::takeover::Stage;
use super::{Engine, alert, log};
use crate::event::{Action, LogLevel};
use crate::member::{Node, Nodes};
use crate::message::Message;
use crate::record::{Record, Term, TransitionError, Version};
use crate::store::{LeaseRule, Outcome};
use crate::timing::Millis;

/// What a swap is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Raise the version: whatever was proposed before has happened or never will.
    Barrier,
    /// The first record.
    Bootstrap,
    /// This node becomes primary: of a new reign after its own, or instead of the peer.
    TakeOver,
    /// An operator's order.
    Force,
    /// A running primary takes the next term, because the peer has promised it.
    Reign,
    /// The stack goes to the peer.
    HandOver,
    /// The peer may lack acknowledged writes after this loss.
    Degrade {
        /// Number of the loss.
        loss: u64,
    },
    /// The record says so already; it still does after this loss.
    Prove {
        /// Number of the loss.
        loss: u64,
    },
    /// The peer has everything again.
    Rejoin,
    /// Operator's intent and counters.
    Intend {
        /// It carries the oldest edit of the desk.
        edit: bool,
    },
}

/// A change to propose.
#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) purpose: Purpose,
    pub(super) expect: Version,
    pub(super) record: Record,
    pub(super) lease: LeaseRule,
}

impl Engine {
    pub(super) fn step_proposal(&mut self, now: Millis, out: &mut Vec<Action>) {
        if self.ledger.swap.is_some() || self.ledger.pause_until > now {
            return;
        }
        if let Some(proposal) = self.next_proposal() {
            self.propose(proposal, now, out);
        }
    }

    /// Urgent ones first: what writes or the whole service wait for, then bookkeeping.
    fn next_proposal(&self) -> Option<Proposal> {
        if self.bid.word.is_some() && self.bid.stage == Stage::Voting {
            return self.ordered();
        }
        let Some(record) = self.record() else { return self.first_record() };
        let purpose = self.next_purpose(record)?;
        let lease = match purpose {
            Purpose::Force => LeaseRule::Forced,
            Purpose::TakeOver if record.primary == Some(self.me()) => LeaseRule::Whatever,
            Purpose::TakeOver => LeaseRule::MustBeOver,
            _ => LeaseRule::Whatever,
        };
        let next = self.changed(record, &purpose).ok()?;
        Some(Proposal { purpose, expect: record.version, record: next, lease })
    }

    fn first_record(&self) -> Option<Proposal> {
        let (primary, maintenance) = self.desk.bootstrap.as_ref().map(|b| (b.primary, b.maintenance))?;
        let mut record = Record::created(primary);
        record.intent.maintenance = maintenance;
        let lease = LeaseRule::Whatever;
        Some(Proposal { purpose: Purpose::Bootstrap, expect: Version(0), record, lease })
    }

    fn next_purpose(&self, record: &Record) -> Option<Purpose> {
        if self.ledger.doubt.is_some() {
            return Some(Purpose::Barrier);
        }
        if self.bid.stage == Stage::Voting {
            return Some(if self.bid.force.is_some() { Purpose::Force } else { Purpose::TakeOver });
        }
        if self.wants_to_hand_over() {
            return Some(Purpose::HandOver);
        }
        if let Some(purpose) = self.data_purpose(record) {
            return Some(purpose);
        }
        let edit = !self.desk.edits.is_empty();
        (edit || self.tally.is_due()).then_some(Purpose::Intend { edit })
    }

    /// What the running primary has to say about the data.
    fn data_purpose(&self, record: &Record) -> Option<Purpose> {
        let Phase::Active { term } = self.phase else { return None };
        if record.primary != Some(self.me()) || record.term != term {
            return None;
        }
        if self.peer_promised().is_some_and(|fence| fence > term) {
            return Some(Purpose::Reign);
        }
        let view = self.replica.primary_in(term)?;
        let alone = record.synced == Nodes::only(self.me());
        if view.blocked {
            if self.replica.is_proved(term, view.loss) {
                return None;
            }
            let loss = view.loss;
            return Some(if alone { Purpose::Prove { loss } } else { Purpose::Degrade { loss } });
        }
        let peer_is_whole = view.connected && view.peer_disk == "UpToDate" && !view.alone;
        let may = !record.intent.diverged.contains(self.other());
        // From the proposal on the right to act rests on the lease: without one the address would go and come back.
        let leased = self.lease.until.is_some_and(|until| until > self.now);
        (alone && peer_is_whole && may && leased).then_some(Purpose::Rejoin)
    }

    fn changed(&self, record: &Record, purpose: &Purpose) -> Result<Record, TransitionError> {
        let me = self.me();
        match purpose {
            Purpose::Barrier | Purpose::Prove { .. } => record.intended(record.intent.clone()),
            Purpose::Bootstrap => Ok(record.clone()),
            Purpose::TakeOver => Ok(record.taken_over(me)?.under(self.bid.target)),
            Purpose::Reign => Ok(record.taken_over(me)?.under(self.peer_promised().unwrap_or_default())),
            Purpose::Force => record.forced(me),
            Purpose::HandOver => record.handed_over(me, record.term),
            Purpose::Degrade { .. } => record.degraded(me, record.term),
            Purpose::Rejoin => record.rejoined(me, record.term),
            Purpose::Intend { edit } => {
                let mut intent = record.intent.clone();
                if *edit && let Some(order) = self.desk.edits.front() {
                    order.edit.apply(&mut intent);
                }
                self.tally.add_to(&mut intent, me);
                record.intended(intent)
            }
        }
    }

    pub(super) fn swap_done(&mut self, swap: &Swap, outcome: Outcome, now: Millis, out: &mut Vec<Action>) {
        self.turn();
        self.note_majority(&outcome);
        if !matches!(outcome, Outcome::Committed(_)) {
            self.tally.not_saved();
        }
        match outcome {
            Outcome::Committed(record) => self.swap_committed(swap, record, now, out),
            Outcome::Conflict(record) => {
                if self.ledger.record.as_ref().is_none_or(|known| record.version > known.version) {
                    self.learn(record, now, out);
                } else {
                    // An answer that knows less than is known here: ask before proposing again.
                    self.read_again(now);
                    self.ledger.pause_until = now + self.config.timing.renew_ms;
                }
                self.bid_lost_the_vote(swap, now);
            }
            Outcome::Leased { by, left_ms } if self.is_of_this_bid(swap) => {
                self.bid_leased(by, left_ms, now);
            }
            Outcome::Leased { .. } => {}
            Outcome::NoMajority { .. } => {
                self.ledger.pause_until = now + self.config.timing.renew_ms;
                self.bid_lost_the_vote(swap, now);
                self.desk_without_majority(swap, out);
            }
            _ => {
                self.ledger.doubt = Some(swap.expect);
                self.ledger.pause_until = now + self.config.timing.renew_ms;
                self.bid_in_doubt(swap, now);
                if swap.purpose == Purpose::Bootstrap {
                    self.read_again(now);
                }
                log(
                    out,
                    LogLevel::Warn,
                    "too few voters answered; whether the record has changed is not known: a committed no-op will tell",
                );
            }
        }
    }

    fn swap_committed(&mut self, swap: &Swap, record: Record, now: Millis, out: &mut Vec<Action>) {
        self.turn();
        self.ledger.read = true;
        let term = record.term;
        match &swap.purpose {
            Purpose::Degrade { loss } | Purpose::Prove { loss } => {
                // The request was made while this loss was seen, so the commit is younger than the loss; with the
                // version raised, no proposal made before it can come true any more.
                if record.synced == Nodes::only(self.me()) && record.primary == Some(self.me()) {
                    self.replica.proof = Some((term, *loss));
                }
            }
            Purpose::Reign => self.raise_term(term),
            Purpose::TakeOver | Purpose::Force => self.bid_won(),
            Purpose::Intend { edit } => {
                self.tally.saved();
                if *edit {
                    self.edit_committed(now, out);
                }
            }
            Purpose::Bootstrap | Purpose::HandOver | Purpose::Rejoin | Purpose::Barrier => {}
        }
        self.learn(record.clone(), now, out);
        self.tell_commit(&swap.purpose, term, now, out);
        if swap.purpose == Purpose::HandOver {
            self.handed_over(term, now, out);
        }
        out.push(Action::Send { to: self.other().into(), message: Message::Committed { record } });
    }

    fn tell_commit(&mut self, purpose: &Purpose, term: Term, now: Millis, out: &mut Vec<Action>) {
        let (me, peer) = (self.name(self.me()).to_owned(), self.name(self.other()).to_owned());
        match purpose {
            Purpose::Degrade { .. } => alert(
                out,
                LogLevel::Warn,
                "degraded",
                format!("{peer} is lost to replication: {me} alone is up to date now and goes on alone"),
            ),
            Purpose::Rejoin => {
                let text = if self.peer_is_there(now) {
                    format!("{peer} is up to date again and can take over")
                } else {
                    format!("{peer} is up to date again, but its manager is not heard: it cannot take over")
                };
                alert(out, LogLevel::Info, "protected", text);
            }
            Purpose::TakeOver | Purpose::Force => {
                let because = self.bid.because.clone();
                let kind = if self.bid.own { Kind::Start } else { Kind::Takeover };
                let from = (kind == Kind::Takeover).then_some(self.other());
                self.begin_move(kind, term, from, self.me(), because.clone(), now);
                if let Some(origin) = self.bid.force.take() {
                    self.reply(origin, Ok(format!("{me} is the primary of term {}", term.0)), out);
                }
                let level = if kind == Kind::Start { LogLevel::Info } else { LogLevel::Warn };
                alert(
                    out,
                    level,
                    "failover",
                    format!("{me} becomes the primary, term {}: {because}", term.0),
                );
            }
            Purpose::Reign => {
                log(
                    out,
                    LogLevel::Info,
                    format!("{me} goes on under term {}, which {peer} has promised", term.0),
                );
            }
            Purpose::Bootstrap => self.bootstrapped(out),
            _ => {}
        }
    }

    /// Host names of a set.
    pub(super) fn names_of(&self, nodes: Nodes) -> String {
        let names: Vec<&str> =
            Node::ALL.into_iter().filter(|n| nodes.contains(*n)).map(|n| self.name(n)).collect();
        if names.is_empty() { "nobody".to_owned() } else { names.join(" and ") }
    }
}

impl Edit {
    /// What it changes in the intent.
    pub(super) fn apply(&self, intent: &mut crate::record::Intent) {
        match self {
            Self::Standby(node) => intent.standby = intent.standby.with(*node),
            Self::Online(node) => intent.standby = intent.standby.without(*node),
            Self::Maintenance(on) => intent.maintenance = *on,
            Self::Hold(reason) => intent.hold = Some(reason.clone()),
            Self::Resume => {
                intent.hold = None;
                intent.failovers = 0;
            }
            Self::Cleanup(Some(name)) => {
                intent.failures.remove(name);
            }
            Self::Cleanup(None) => {
                intent.failures.clear();
                intent.failovers = 0;
            }
            Self::DiscardDiverged(node) => intent.diverged = intent.diverged.without(*node),
        }
    }
}
