//! The node's own life, as far as the stack goes:
//!
//! ```text
//! Boot ──► Idle ──► Starting ──► Active ──► Leaving ──► Idle
//!                      │            └─────► Dropping ──► Idle
//!                      └──────────────────────┘
//! ```
//! Rules: nothing of the group is started outside of `Active`, which is entered only when the replica is Primary
//! in the very term of which the record says that this node is the primary; whoever learns of a newer term drops
//! everything (device first, so that nothing more is written), whatever it was doing.

use super::desk::Origin;
use super::history::Kind;
use super::{Engine, alert, log};
use crate::config::ResourceId;
use crate::event::{Action, LogLevel, ReplicaVerb, Running};
use crate::record::Term;
use crate::timing::Millis;

/// A manager that starts waits this long to hear from the replication daemon before it goes on without.
const BOOT_REPLICA_MS: Millis = 10_000;
/// Tries of a demotion before the device is taken away by force: somebody holds it open.
const DEMOTE_TRIES: u32 = 5;
/// Between two tries.
pub(super) const RETRY_MS: Millis = 200;
/// Longest pause between two tries of something that keeps failing.
const RETRY_MAX_MS: Millis = 5_000;
/// Failed promotions after which the stack goes to the peer, if that can take it.
const PROMOTE_TRIES: u32 = 8;
/// What a move of the stack may take beside the starts, before an operator is told that it has not come to its end.
const HANDOVER_SLACK_MS: Millis = 10_000;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not all that is needed to decide is known yet.
    Boot,
    /// Not acting: a standby, or a primary that does not act (yet).
    Idle,
    /// The record says that this node is primary: wait for the lease, promote.
    Starting(Starting),
    /// The replica is Primary; the stack runs, or is being started.
    Active { term: Term },
    /// Stopping in good order.
    Leaving { term: Term, tries: u32, retry_at: Millis },
    /// The device is taken away, everything is stopped by force.
    Dropping { term: Term, revoked: bool },
}

/// A reign that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Starting {
    pub(super) term: Term,
    pub(super) tries: u32,
    pub(super) retry_at: Millis,
    /// The device was Primary already: what runs on it belongs to the stack.
    pub(super) adopts: bool,
}

impl Phase {
    /// The term of the reign, while there is one.
    pub(super) fn term(&self) -> Option<Term> {
        match self {
            Self::Boot | Self::Idle => None,
            Self::Starting(Starting { term, .. })
            | Self::Active { term }
            | Self::Leaving { term, .. }
            | Self::Dropping { term, .. } => Some(*term),
        }
    }
}

/// Why the stack is to go to the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Errand {
    pub(super) kind: Kind,
    pub(super) because: String,
    /// Decided by the manager: `hold` forbids it.
    pub(super) automatic: bool,
    /// Who wants to hear how it ended.
    pub(super) origins: Vec<Origin>,
}

/// A stack that has been handed over and is being started by the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Following {
    pub(super) term: Term,
    pub(super) began: Millis,
    pub(super) deadline: Millis,
    pub(super) origins: Vec<Origin>,
}

impl Engine {
    pub(super) fn set_phase(&mut self, phase: Phase, now: Millis) {
        if self.phase.term() != phase.term() {
            // An answer to a renewal of another term extends nothing.
            self.lease.renewing = None;
            self.lease.until = None;
            self.lease.next_at = now;
        }
        self.phase = phase;
        if matches!(self.phase, Phase::Active { .. }) {
            for id in self.group_ids() {
                self.plan_look(id, now);
            }
        }
        self.turn();
        self.voice.hurry();
    }

    pub(super) fn step_phase(&mut self, now: Millis, out: &mut Vec<Action>) {
        self.step_deposed(now, out);
        match self.phase.clone() {
            Phase::Boot => self.step_boot(now, out),
            Phase::Idle => self.step_idle(now, out),
            Phase::Starting(starting) => self.step_starting(starting, now, out),
            Phase::Active { term } => self.step_active(term, now, out),
            Phase::Leaving { term, tries, retry_at } => self.step_leaving(term, tries, retry_at, now, out),
            Phase::Dropping { term, revoked } => self.step_dropping(term, revoked, now, out),
        }
        self.step_following(now, out);
    }

    /// A newer term is known: this reign is over.
    fn step_deposed(&mut self, now: Millis, out: &mut Vec<Action>) {
        let (Phase::Starting(Starting { term, .. }) | Phase::Active { term } | Phase::Leaving { term, .. }) =
            self.phase
        else {
            return;
        };
        // What is said of a former reign lasts until the next promotion.
        let starting = matches!(self.phase, Phase::Starting(_));
        let taken = !starting && self.replica.view.as_ref().is_some_and(|v| v.deposed);
        if self.reigns(term) && !taken {
            return;
        }
        if self.incumbent()
            && !taken
            && (self.term() == Term(term.0 + 1) || self.ledger.reign == Some(self.term()))
            && matches!(self.phase, Phase::Active { .. })
        {
            // The next term after an own one can only be an own one: a reign whose outcome was unknown.
            self.raise_term(self.term());
            return;
        }
        let by = self.record().filter(|r| r.term > term).and_then(|r| r.primary).unwrap_or(self.other());
        let text = format!(
            "{} is no longer the primary of term {}: {} has a newer one; everything here is stopped by force",
            self.name(self.me()),
            term.0,
            self.name(by)
        );
        alert(out, LogLevel::Error, "deposed", text);
        self.read_again(now);
        self.drop_stack(now, out);
    }

    fn step_boot(&mut self, now: Millis, out: &mut Vec<Action>) {
        let looked = self.units.iter().take(self.config.group.len()).all(|u| u.probed);
        let replica = self.replica.heard || self.started_at + BOOT_REPLICA_MS <= now;
        if !self.ledger.read || !looked || !replica {
            return;
        }
        if self.record().is_none() {
            self.set_phase(Phase::Idle, now);
            log(
                out,
                LogLevel::Info,
                "there is no record: nothing is touched until `futago cluster bootstrap`",
            );
            return;
        }
        let term = self.term();
        let (primary, ours, deposed) =
            self.replica.view.as_ref().map_or((false, None, false), |v| (v.primary, v.term, v.deposed));
        if self.incumbent() && primary && ours == Some(term) && !deposed {
            log(out, LogLevel::Info, format!("still the primary of term {}: nothing is moved", term.0));
            self.tally.quiet_since = now;
            for unit in self.units.iter_mut().filter(|u| u.replica) {
                unit.find(Running::Started, now);
            }
            self.set_phase(Phase::Active { term }, now);
        } else if deposed || (primary && ours.is_some()) {
            log(
                out,
                LogLevel::Warn,
                "the device is Primary here under a term that is over: it is taken away",
            );
            self.set_phase(Phase::Idle, now);
            self.drop_stack(now, out);
        } else {
            let foreign = !self.incumbent();
            for unit in self.units.iter_mut().take(self.config.group.len()) {
                unit.foreign = foreign && unit.state != Running::Stopped;
            }
            self.set_phase(Phase::Idle, now);
            self.tell_foreign(out);
        }
    }

    fn step_starting(&mut self, starting: Starting, now: Millis, out: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Starting(_)) {
            return;
        }
        let Starting { term, tries, retry_at, adopts } = starting;
        // It shows as Primary before its device is there: only the answer says that it can be mounted.
        if self.replica.op.is_none() && self.replica.primary_in(term).is_some() {
            self.tally.quiet_since = now;
            self.forgive_group(now);
            if !adopts {
                self.recycle_strangers(out);
            }
            self.step_of_move("promote", now);
            self.set_phase(Phase::Active { term }, now);
            return;
        }
        if self.errand.is_some() && self.replica.op.is_none() {
            self.set_phase(Phase::Leaving { term, tries: 0, retry_at: now }, now);
            self.stop_acting(out);
            return;
        }
        if tries >= PROMOTE_TRIES && self.may_fail_over(now).is_ok() {
            let because = format!(
                "{} cannot become Primary: {}",
                self.name(self.me()),
                self.replica.problem.clone().unwrap_or_default()
            );
            self.fail_over(because, now, out);
            return;
        }
        let granted = matches!(self.lease.acting, super::lease::Acting::Until(until) if until > now);
        if self.replica.op.is_some() || retry_at > now || !self.may_act(now) || !granted {
            return;
        }
        let alone = self.record().is_some_and(|r| r.synced == crate::member::Nodes::only(self.me()));
        let force = self.may_force();
        self.replica.used = Some(term);
        let pause = (RETRY_MS << tries.min(5)).min(RETRY_MAX_MS);
        let again = Starting { tries: tries + 1, retry_at: now + pause, ..starting };
        self.set_phase(Phase::Starting(again), now);
        self.begin_replica(ReplicaVerb::Promote { term, alone, force }, now, out);
    }

    fn step_leaving(&mut self, term: Term, tries: u32, retry_at: Millis, now: Millis, out: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Leaving { .. }) || !self.group_is_down() {
            return;
        }
        let Some(view) = self.replica.view.as_ref().filter(|v| v.primary) else {
            if self.replica.op.is_none() {
                self.step_of_move("demote", now);
                self.set_phase(Phase::Idle, now);
            }
            return;
        };
        if self.replica.op.is_some() || retry_at > now || view.deposed {
            return;
        }
        if tries >= DEMOTE_TRIES {
            let why = self.replica.problem.clone().unwrap_or_default();
            self.stop_failed(&format!("the device cannot be made Secondary: {why}"), now, out);
            return;
        }
        self.set_phase(Phase::Leaving { term, tries: tries + 1, retry_at: now + RETRY_MS }, now);
        self.begin_replica(ReplicaVerb::Demote, now, out);
    }

    fn step_dropping(&mut self, term: Term, revoked: bool, now: Millis, out: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Dropping { .. }) {
            return;
        }
        let primary = self.replica.view.as_ref().is_some_and(|v| v.primary);
        if !revoked {
            self.set_phase(Phase::Dropping { term, revoked: true }, now);
            if self.replica.view.is_some() {
                // Overtakes whatever was asked of the replica before.
                self.begin_replica(ReplicaVerb::Revoke, now, out);
            }
            return;
        }
        if self.group_is_down_or_stuck() && self.replica.op.is_none() {
            if primary {
                self.begin_replica(ReplicaVerb::Revoke, now, out);
                return;
            }
            self.reboot_if_stuck(out);
            self.set_phase(Phase::Idle, now);
        }
    }

    /// Everything of the group is stopped by force; the device answers EIO first.
    pub(super) fn drop_stack(&mut self, now: Millis, out: &mut Vec<Action>) {
        let term = self.phase.term().unwrap_or_default();
        self.stop_acting(out);
        for unit in self.units.iter_mut().take(self.config.group.len()) {
            unit.recycle = false;
            unit.stuck = false;
            unit.foreign = false;
            unit.retry_at = now;
        }
        self.set_phase(Phase::Dropping { term, revoked: false }, now);
    }

    /// The stack is to leave this node in good order.
    pub(super) fn leave(&mut self, errand: Errand, now: Millis, out: &mut Vec<Action>) {
        if let Some(running) = &mut self.errand {
            running.origins.extend(errand.origins);
            return;
        }
        let text = format!("{} to {}: {}", errand.kind.word(), self.name(self.other()), errand.because);
        let level = if errand.automatic { LogLevel::Warn } else { LogLevel::Info };
        if errand.automatic {
            alert(out, level, "failover", text);
        } else {
            log(out, level, text);
        }
        let next = Term(self.term().0.saturating_add(1));
        let because = errand.because.clone();
        self.begin_move(errand.kind, next, Some(self.me()), self.other(), because, now);
        self.errand = Some(errand);
        self.turn();
        if let Phase::Active { term } = self.phase {
            self.set_phase(Phase::Leaving { term, tries: 0, retry_at: now }, now);
        }
    }

    /// The record says that the peer is the primary now, by our own hand.
    pub(super) fn handed_over(&mut self, term: Term, now: Millis, out: &mut Vec<Action>) {
        self.step_of_move("hand over", now);
        let text = format!("{} is the primary of term {}", self.name(self.other()), term.0);
        log(out, LogLevel::Info, text);
        self.peer.idle_since = None;
        let starts: Millis = self.config.group.iter().map(|r| r.start_timeout_ms).sum();
        let origins = self.errand.take().map(|e| e.origins).unwrap_or_default();
        let deadline = now + starts + HANDOVER_SLACK_MS;
        self.following = Some(Following { term, began: now, deadline, origins });
    }

    fn step_following(&mut self, now: Millis, out: &mut Vec<Action>) {
        let Some(following) = self.following.clone() else { return };
        let there = self.peer.view_at > following.began
            && self.peer.view.as_ref().is_some_and(|v| v.role == "active")
            && self.term() == following.term;
        let (result, done) = if there {
            self.step_of_move("start there", now);
            self.end_move(true, now);
            let took = self.story.last_took_ms();
            (Ok(format!("the stack runs on {} after {took} ms", self.name(self.other()))), true)
        } else if self.term() > following.term {
            self.end_move(false, now);
            let text = format!(
                "{} could not start the stack: see `futago cluster status` for where it is now",
                self.name(self.other())
            );
            (Err(super::desk::failed(text)), true)
        } else if following.deadline <= now {
            let text = format!(
                "{} is the primary, but has not started everything in time: `futago cluster status` tells what is missing",
                self.name(self.other())
            );
            (Err(super::desk::failed(text)), true)
        } else {
            (Ok(String::new()), false)
        };
        if done {
            self.following = None;
            self.turn();
            for origin in following.origins {
                self.reply(origin, result.clone(), out);
            }
        }
    }

    pub(super) fn group_ids(&self) -> impl Iterator<Item = ResourceId> + use<> {
        (0..self.config.group.len()).map(ResourceId)
    }

    pub(super) fn phase_wake(&self, _now: Millis) -> Option<Millis> {
        let own = match self.phase {
            Phase::Boot => Some(self.started_at + BOOT_REPLICA_MS),
            Phase::Starting(Starting { retry_at, .. }) | Phase::Leaving { retry_at, .. } => Some(retry_at),
            Phase::Active { .. } => self.active_wake(),
            Phase::Idle | Phase::Dropping { .. } => None,
        };
        let following = self.following.as_ref().map(|f| f.deadline);
        let ending = self.ending.as_ref().map(super::Ending::deadline);
        [own, following, ending].into_iter().flatten().min()
    }
}
