//! Who may act until when.
//!
//! Rules: the primary of a term acts for `holder_lease` from when it *sent* the last renewal that a majority
//! confirmed, and not a moment before the first; a primary that is alone up to date by the record needs none,
//! because nobody else may bid. When the right ends the addresses go at once and the services stay: they cannot
//! acknowledge a write anyway, and nothing has to be moved when the lease comes back.

use super::ledger::Pending;
use super::phase::{Phase, Starting};
use super::proposal::Purpose;
use super::{Engine, log};
use crate::event::{Action, LogLevel, Running};
use crate::member::Nodes;
use crate::store::{Op, Outcome};
use crate::timing::Millis;

/// Whether the shell has been told to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acting {
    /// Not yet in this reign; what a former manager left is not touched.
    Never,
    /// Until then.
    Until(Millis),
    /// No more.
    Over,
}

/// This node's lease.
#[derive(Debug)]
pub(super) struct Lease {
    /// A majority has confirmed it until then.
    pub(super) until: Option<Millis>,
    pub(super) renewing: Option<Pending>,
    pub(super) next_at: Millis,
    pub(super) acting: Acting,
    /// When it began to be wanted without being there.
    wanted_since: Option<Millis>,
}

impl Lease {
    pub(super) fn new(now: Millis) -> Self {
        Self { until: None, renewing: None, next_at: now, acting: Acting::Never, wanted_since: None }
    }
}

impl Engine {
    /// The record says that only this node is up to date: nobody else may become primary, with or without a
    /// lease. Not while a rejoin is under way or in doubt: it may be committed without our knowing. And only as
    /// far as this life knows: a former life's rejoin could still be on its way, unless the replica itself still
    /// is alone, which ends before a rejoin is proposed, or this life has committed something since.
    pub(super) fn is_lone(&self) -> bool {
        let Some(term) = self.phase.term() else { return false };
        let me = self.me();
        let says = self
            .record()
            .is_some_and(|r| r.primary == Some(me) && r.term == term && r.synced == Nodes::only(me));
        let rejoining = self.ledger.swap.as_ref().is_some_and(|s| s.purpose == Purpose::Rejoin);
        let known = self.replica.used == Some(term)
            || self.replica.is_proved_in(term)
            || self.replica.view.as_ref().is_some_and(|v| v.alone && v.term == Some(term))
            || matches!(self.phase, Phase::Starting(_));
        says && known && !rejoining && self.ledger.doubt.is_none()
    }

    /// The right to act, now.
    pub(super) fn may_act(&self, now: Millis) -> bool {
        let holds = match self.phase {
            Phase::Starting(Starting { term, .. }) | Phase::Active { term } => self.reigns(term),
            // What comes after an address stops before it: whoever asks for a page is answered meanwhile.
            Phase::Leaving { term, .. } => self.reigns(term) && self.has_address(),
            _ => false,
        };
        holds && (self.is_lone() || self.lease.until.is_some_and(|until| until > now))
    }

    /// An address of the group is on this host, or may be.
    fn has_address(&self) -> bool {
        self.units.iter().any(|unit| unit.address && unit.state != Running::Stopped)
    }

    /// The record says that this node is primary of this very term.
    pub(super) fn reigns(&self, term: crate::record::Term) -> bool {
        self.incumbent() && self.term() == term
    }

    pub(super) fn step_lease(&mut self, now: Millis, out: &mut Vec<Action>) {
        let Some(term) = self.phase.term().filter(|t| self.reigns(*t)) else {
            self.lease.until = None;
            return;
        };
        if self.lease.next_at <= now && self.lease.renewing.is_none() {
            self.lease.next_at = now + self.config.timing.renew_ms;
            self.lease.renewing = Some(self.begin_store(Op::Renew { term }, now, out));
        }
        self.step_acting(now, out);
    }

    fn step_acting(&mut self, now: Millis, out: &mut Vec<Action>) {
        if self.may_act(now) {
            self.lease.wanted_since = None;
            let until = if self.is_lone() {
                // Told anew once a renewal interval.
                let next = now + self.config.timing.holder_lease_ms;
                match self.lease.acting {
                    Acting::Until(told) if told + self.config.timing.renew_ms > next => told,
                    _ => next,
                }
            } else {
                self.lease.until.unwrap_or(now)
            };
            if self.lease.acting != Acting::Until(until) {
                self.lease.acting = Acting::Until(until);
                out.push(Action::MayActUntil { until });
            }
            return;
        }
        match self.phase {
            Phase::Active { .. } => {}
            Phase::Leaving { .. } if self.has_address() => {}
            // The addresses have stopped in their turn; whatever might bring one back ends here.
            Phase::Leaving { .. } => return self.stop_acting(out),
            _ => return,
        }
        match self.lease.acting {
            Acting::Until(_) => {
                log(out, LogLevel::Warn, self.no_lease_sentence());
                self.lease_is_over(out);
            }
            Acting::Never => {
                // A manager that has just started: what its predecessor was granted ends by itself by then.
                let since = *self.lease.wanted_since.get_or_insert(now);
                if since + self.config.timing.holder_lease_ms <= now {
                    self.lease_is_over(out);
                }
            }
            Acting::Over => {}
        }
    }

    pub(super) fn no_lease_sentence(&self) -> String {
        format!(
            "{} reaches too few voters to renew its lease of term {}: the addresses are taken off, services stay as they are and cannot acknowledge writes",
            self.name(self.me()),
            self.term().0
        )
    }

    fn lease_is_over(&mut self, out: &mut Vec<Action>) {
        self.lease.acting = Acting::Over;
        self.turn();
        out.push(Action::MayNotAct);
    }

    /// This node stops acting, whatever its lease says.
    pub(super) fn stop_acting(&mut self, out: &mut Vec<Action>) {
        if self.lease.acting != Acting::Over {
            self.lease.acting = Acting::Over;
            out.push(Action::MayNotAct);
        }
    }

    pub(super) fn renew_done(&mut self, outcome: Outcome, now: Millis, out: &mut Vec<Action>) {
        self.note_majority(&outcome);
        match outcome {
            Outcome::Renewed { sent_at } => {
                let until = sent_at + self.config.timing.holder_lease_ms;
                if self.lease.until.is_none_or(|known| known < until) {
                    self.lease.until = Some(until);
                    self.turn();
                }
            }
            Outcome::Conflict(record) => self.learn(record, now, out),
            // The store has given up within its own bound: ask again at once if that took a whole interval.
            _ => {}
        }
    }

    /// When the lease next wants to be looked at.
    pub(super) fn lease_wake(&self) -> Option<Millis> {
        let term = self.phase.term()?;
        if !self.reigns(term) {
            return None;
        }
        let renewal = self.lease.renewing.is_none().then_some(self.lease.next_at);
        let end = match self.lease.acting {
            Acting::Until(until) if self.is_lone() => {
                Some((until + self.config.timing.renew_ms).saturating_sub(self.config.timing.holder_lease_ms))
            }
            Acting::Until(until) => Some(until),
            Acting::Never => self.lease.wanted_since.map(|s| s + self.config.timing.holder_lease_ms),
            Acting::Over => None,
        };
        [renewal, end].into_iter().flatten().min()
    }
}
