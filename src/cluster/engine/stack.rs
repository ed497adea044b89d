//! Resources: their state, and the order of starts and stops.
//!
//! Rules: a resource of the group starts only while this node acts as primary and everything it comes after
//! runs; it stops only when everything that comes after it has stopped; what is independent runs in parallel;
//! one operation on a resource at a time. Addresses are on only while this node may act.

use super::phase::Phase;
use super::{Engine, log};
use crate::config::{Class, ForeignStart, Resource, ResourceId};
use crate::event::{Action, AgentOutcome, AgentResult, LogLevel, OpId, Running, Verb};
use crate::timing::Millis;

/// Longest that killing one resource may take: a SIGKILL and a detached mount take moments or never end.
const KILL_MS: Millis = 5_000;
/// Until something that could not be killed is tried again.
const KILL_AGAIN_MS: Millis = 10_000;
/// The agents answer within the timeout and some seconds; this is the net below.
const AGENT_LOST_MS: Millis = 20_000;

/// An operation on a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnitOp {
    pub(super) id: OpId,
    pub(super) verb: Verb,
    pub(super) began: Millis,
    pub(super) deadline: Millis,
}

/// Why a resource is not tried any more on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GivenUp {
    pub(super) why: String,
    /// The other host may do better.
    pub(super) movable: bool,
}

/// One resource on this host.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) name: String,
    pub(super) replica: bool,
    pub(super) address: bool,
    pub(super) state: Running,
    pub(super) since: Millis,
    /// It was in this state when it was looked at first.
    pub(super) found: bool,
    /// It has been looked at once.
    pub(super) probed: bool,
    pub(super) op: Option<UnitOp>,
    pub(super) look: Option<UnitOp>,
    pub(super) look_at: Option<Millis>,
    /// Weight of the bad looks in a row.
    pub(super) bad: u32,
    /// Must be stopped before it is started.
    pub(super) recycle: bool,
    pub(super) given_up: Option<GivenUp>,
    /// Could not be stopped or killed.
    pub(super) stuck: bool,
    /// Somebody else has started it here.
    pub(super) foreign: bool,
    pub(super) retry_at: Millis,
    pub(super) reason: Option<String>,
    pub(super) told_full: bool,
}

impl Unit {
    pub(super) fn new(resource: &Resource, now: Millis) -> Self {
        let replica = matches!(resource.class, Class::Replica { .. });
        let address = match &resource.class {
            Class::Address { .. } => true,
            Class::Ocf { kind, .. } => kind == "IPaddr2",
            _ => false,
        };
        Self {
            name: resource.name.clone(),
            replica,
            address,
            state: if replica { Running::Stopped } else { Running::Unknown },
            since: now,
            found: true,
            probed: replica,
            op: None,
            look: None,
            look_at: Some(now),
            bad: 0,
            recycle: false,
            given_up: None,
            stuck: false,
            foreign: false,
            retry_at: now,
            reason: None,
            told_full: false,
        }
    }

    /// It has come into this state, unless it was in it already.
    pub(super) fn set(&mut self, state: Running, now: Millis) {
        if self.state != state {
            self.found = self.state == Running::Unknown;
            self.state = state;
            self.since = now;
        }
    }

    /// The manager finds it in this state, for who knows how long.
    pub(super) fn find(&mut self, state: Running, now: Millis) {
        (self.state, self.since, self.found) = (state, now, true);
    }

    /// What failed for good, with what to type.
    pub(super) fn told_given_up(&self) -> Option<String> {
        let why = &self.given_up.as_ref()?.why;
        Some(format!("{why}; repair it, then type `futago cluster cleanup {}`", self.name))
    }

    /// An operator has cleaned up: it is looked at without prejudice.
    pub(super) fn forget(&mut self, now: Millis) {
        self.given_up = None;
        self.reason = None;
        self.bad = 0;
        self.retry_at = now;
    }

    fn is_down(&self) -> bool {
        self.replica || (self.probed && self.state == Running::Stopped && self.op.is_none())
    }
}

/// What is wanted of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    Up,
    Down,
    Kill,
    Leave,
}

impl Engine {
    pub(super) fn want(&self, id: ResourceId) -> Want {
        let Some(unit) = self.units.get(id.0) else { return Want::Leave };
        if unit.replica {
            return Want::Leave;
        }
        if !self.is_group(id) {
            return self.want_everywhere(unit);
        }
        if matches!(self.phase, Phase::Dropping { .. }) {
            return Want::Kill;
        }
        if self.maintenance() && !matches!(self.phase, Phase::Leaving { .. }) {
            return Want::Leave;
        }
        match self.phase {
            Phase::Boot | Phase::Dropping { .. } => Want::Leave,
            Phase::Idle => self.want_idle(unit),
            Phase::Leaving { .. } => Want::Down,
            // What runs already is that of a pair taken over by `bootstrap`.
            Phase::Starting(_) => Want::Leave,
            Phase::Active { .. } => self.want_active(unit),
        }
    }

    fn want_everywhere(&self, unit: &Unit) -> Want {
        // Without a record nothing is touched; one that is not read yet may say "maintenance". Where too few voters
        // answer it is not waited for.
        let waits = self.record().is_none() && (self.ledger.read || self.ledger.majority.is_ok());
        if self.ending.as_ref().is_some_and(super::Ending::stops_everything) {
            Want::Down
        } else if waits || self.maintenance() || unit.given_up.is_some() {
            Want::Leave
        } else if unit.recycle {
            Want::Down
        } else {
            Want::Up
        }
    }

    fn want_idle(&self, unit: &Unit) -> Want {
        let adopts = self.incumbent() && self.replica.view.as_ref().is_some_and(|v| v.primary);
        if self.record().is_none() || adopts {
            return Want::Leave;
        }
        let tolerated = unit.foreign && self.config.policy.foreign_start == ForeignStart::Alarm;
        if tolerated && !self.incumbent() {
            Want::Leave
        } else if unit.stuck {
            Want::Kill
        } else {
            Want::Down
        }
    }

    fn want_active(&self, unit: &Unit) -> Want {
        let over = self.lease.acting == super::lease::Acting::Over;
        if unit.address && over {
            return Want::Down;
        }
        if unit.recycle {
            Want::Down
        } else if unit.given_up.is_some() || (unit.address && !self.may_act(self.now)) {
            Want::Leave
        } else {
            Want::Up
        }
    }

    pub(super) fn step_stack(&mut self, now: Millis, out: &mut Vec<Action>) {
        self.mirror_replica(now);
        for index in 0..self.units.len() {
            self.step_unit(ResourceId(index), now, out);
        }
    }

    /// The device is a resource, too: the first of the stack.
    fn mirror_replica(&mut self, now: Millis) {
        let up = match self.phase {
            Phase::Active { term } => self.replica.primary_in(term).is_some(),
            _ => false,
        };
        let raising = matches!(self.phase, Phase::Active { .. })
            && self.replica.view.as_ref().is_some_and(|v| v.primary && !v.deposed);
        let state = if up || raising { Running::Started } else { Running::Stopped };
        for unit in self.units.iter_mut().filter(|u| u.replica) {
            unit.set(state, now);
        }
    }

    fn step_unit(&mut self, id: ResourceId, now: Millis, out: &mut Vec<Action>) {
        let want = self.want(id);
        let Some(unit) = self.units.get(id.0) else { return };
        if unit.op.is_some() || !unit.probed || unit.retry_at > now {
            return;
        }
        let state = unit.state;
        match want {
            Want::Leave => {}
            Want::Up if state == Running::Started => {}
            Want::Up if state == Running::Stopped => {
                if self.befores_run(id) && self.afters_are_down(id) {
                    self.begin_unit(id, Verb::Start, now, out);
                }
            }
            Want::Up => {
                // Broken, or nobody knows: in good order first.
                if let Some(unit) = self.units.get_mut(id.0) {
                    unit.recycle = true;
                    self.turn();
                }
            }
            Want::Down if state == Running::Stopped => {
                if let Some(unit) = self.units.get_mut(id.0)
                    && unit.recycle
                {
                    unit.recycle = false;
                    self.turn();
                }
            }
            Want::Down => {
                if self.afters_are_down(id) {
                    self.begin_unit(id, Verb::Stop, now, out);
                }
            }
            Want::Kill => {
                if state != Running::Stopped && self.afters_are_down(id) {
                    self.begin_unit(id, Verb::Kill, now, out);
                }
            }
        }
    }

    pub(super) fn befores_run(&self, id: ResourceId) -> bool {
        let Some(resource) = self.config.resource(id) else { return false };
        let device = !self.is_group(id)
            || self.units.iter().filter(|u| u.replica).all(|u| u.state == Running::Started);
        device
            && resource.after.iter().all(|before| {
                self.units
                    .get(before.0)
                    .is_some_and(|u| u.state == Running::Started && u.op.is_none() && !u.recycle)
            })
    }

    /// Whatever comes after it and is to stop as well has stopped, or cannot be.
    fn afters_are_down(&self, id: ResourceId) -> bool {
        self.dependents(id).into_iter().all(|after| {
            let stops = matches!(self.want(after), Want::Down | Want::Kill);
            !stops || self.units.get(after.0).is_none_or(|u| u.is_down() || u.stuck)
        })
    }

    /// Those that name it in their `after`, and so on.
    pub(super) fn dependents(&self, id: ResourceId) -> Vec<ResourceId> {
        let mut found: Vec<ResourceId> = Vec::new();
        for after in self.group_ids() {
            let Some(resource) = self.config.resource(after) else { continue };
            if resource.after.iter().any(|b| *b == id || found.contains(b)) {
                found.push(after);
            }
        }
        found
    }

    pub(super) fn group_is_down(&self) -> bool {
        self.units.iter().take(self.config.group.len()).all(Unit::is_down)
    }

    pub(super) fn group_is_down_or_stuck(&self) -> bool {
        let over = |u: &Unit| u.is_down() || (u.stuck && u.op.is_none());
        self.units.iter().take(self.config.group.len()).all(over)
    }

    pub(super) fn everything_is_down(&self) -> bool {
        self.units.iter().all(|u| u.is_down() || (u.stuck && u.op.is_none()))
    }

    pub(super) fn begin_unit(&mut self, id: ResourceId, verb: Verb, now: Millis, out: &mut Vec<Action>) {
        let Some(resource) = self.config.resource(id) else { return };
        let timeout_ms = match verb {
            Verb::Start => resource.start_timeout_ms,
            Verb::Stop => resource.stop_timeout_ms,
            Verb::Kill => KILL_MS,
            Verb::Monitor => resource.monitor_timeout_ms,
        };
        let op = self.op_id();
        let Some(unit) = self.units.get_mut(id.0) else { return };
        let begun = UnitOp { id: op, verb, began: now, deadline: now + timeout_ms + AGENT_LOST_MS };
        if verb == Verb::Monitor {
            unit.look = Some(begun);
        } else {
            unit.op = Some(begun);
        }
        out.push(Action::Resource { op, resource: id, verb, timeout_ms });
    }

    pub(super) fn resource_done(
        &mut self,
        op: OpId,
        outcome: AgentOutcome,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        for index in 0..self.units.len() {
            let id = ResourceId(index);
            let Some(unit) = self.units.get_mut(index) else { return };
            if let Some(done) = unit.op.take_if(|o| o.id == op) {
                // A look that was begun before tells of a time that is over.
                unit.bad = 0;
                self.turn();
                return self.verb_done(id, done, outcome, now, out);
            }
            if let Some(done) = unit.look.take_if(|o| o.id == op) {
                self.turn();
                return self.look_done(id, done, outcome, now, out);
            }
        }
    }

    fn verb_done(
        &mut self,
        id: ResourceId,
        done: UnitOp,
        outcome: AgentOutcome,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        let Some(unit) = self.units.get_mut(id.0) else { return };
        let name = unit.name.clone();
        let took = now.saturating_sub(done.began);
        let AgentOutcome { result, reason } = outcome;
        match (done.verb, result) {
            (Verb::Start, AgentResult::Ok) => {
                unit.set(Running::Started, now);
                unit.reason = None;
                unit.foreign = false;
                unit.told_full = false;
                self.unit_step(&format!("start {name}"), took);
                self.plan_look(id, now);
            }
            (Verb::Start, _) => {
                unit.set(Running::Failed, now);
                self.unit_failed(id, result, &reason, "start", now, out);
            }
            (Verb::Stop | Verb::Kill, AgentResult::Ok | AgentResult::NotRunning) => {
                unit.set(Running::Stopped, now);
                unit.foreign = false;
                unit.stuck = false;
                unit.recycle = false;
                let word = if done.verb == Verb::Stop { "stop" } else { "kill" };
                self.unit_step(&format!("{word} {name}"), took);
            }
            (Verb::Stop, _) => {
                unit.set(Running::Failed, now);
                unit.reason = Some(reason.clone());
                self.stop_went_wrong(id, &reason, now, out);
            }
            (Verb::Kill, _) => {
                unit.stuck = true;
                unit.retry_at = now + KILL_AGAIN_MS;
                unit.reason = Some(reason.clone());
                log(out, LogLevel::Error, format!("{name} cannot be stopped even by force: {reason}"));
            }
            (Verb::Monitor, _) => {}
        }
    }

    pub(super) fn expire_units(&mut self, now: Millis, out: &mut Vec<Action>) {
        let lost: Vec<OpId> = self
            .units
            .iter()
            .flat_map(|u| [u.op, u.look])
            .flatten()
            .filter(|o| o.deadline <= now)
            .map(|o| o.id)
            .collect();
        for op in lost {
            let outcome = AgentOutcome { result: AgentResult::TimedOut, reason: "no answer".to_owned() };
            self.resource_done(op, outcome, now, out);
        }
    }

    /// A new reign begins, and its device has only just come: what runs already was started by somebody else, a database in the
    /// empty folder below its mount point perhaps. It is stopped before the stack is started.
    pub(super) fn recycle_strangers(&mut self, out: &mut Vec<Action>) {
        let group = self.units.iter_mut().take(self.config.group.len());
        for unit in group.filter(|u| !u.replica && u.state == Running::Started) {
            unit.recycle = true;
            unit.foreign = false;
            let text = format!(
                "{} runs here already, on its own: it is stopped before the stack is started",
                unit.name
            );
            log(out, LogLevel::Warn, text);
        }
    }

    /// A new reign: old verdicts about this host are forgotten, what was counted stays.
    pub(super) fn forgive_group(&mut self, now: Millis) {
        for unit in self.units.iter_mut().take(self.config.group.len()) {
            unit.given_up = None;
            unit.recycle = false;
            unit.stuck = false;
            unit.retry_at = now;
            unit.bad = 0;
        }
    }

    pub(super) fn units_wake(&self) -> Option<Millis> {
        let now = self.now;
        let units = self.units.iter().flat_map(|u| {
            let look = if u.look.is_none() { u.look_at } else { None };
            [Some(u.retry_at), look, u.op.map(|o| o.deadline), u.look.map(|o| o.deadline)]
        });
        units.chain([self.replica_wake()]).flatten().filter(|at| *at > now).min()
    }
}
