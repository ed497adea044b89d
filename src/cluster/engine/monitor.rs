//! Looks at resources, beside the system's own events.
//!
//! Rules: a look never overlaps another of the same resource; a look that took too long counts half of one that
//! found something broken, since a loaded machine is not a broken one; in maintenance looks are shown and lead
//! to nothing.

use super::phase::Phase;
use super::stack::{UnitOp, Want};
use super::{Engine, alert, log};
use crate::config::{ForeignStart, ResourceId};
use crate::event::{Action, AgentOutcome, AgentResult, LogLevel, Running, Verb};
use crate::timing::Millis;

/// Where the group does not run it is looked at this seldom: only for what somebody starts by hand.
const STANDBY_LOOK_MS: Millis = 30_000;
/// After a bad look the next one does not wait for the whole interval.
const LOOK_AGAIN_MS: Millis = 2_000;
/// Weight of a look that found something broken, and of one that took too long.
const BROKEN: u32 = 2;
const SLOW: u32 = 1;

impl Engine {
    pub(super) fn step_monitor(&mut self, now: Millis, out: &mut Vec<Action>) {
        for index in 0..self.units.len() {
            let id = ResourceId(index);
            let Some(unit) = self.units.get(index) else { continue };
            let due = unit.look_at.is_some_and(|at| at <= now);
            let free = unit.look.is_none() && unit.op.is_none() && !unit.replica;
            if due && free && self.ending.is_none() {
                self.plan_look(id, now);
                self.begin_unit(id, Verb::Monitor, now, out);
            }
        }
    }

    /// When it is looked at next.
    pub(super) fn plan_look(&mut self, id: ResourceId, now: Millis) {
        let interval = self.config.resource(id).map_or(0, |r| r.monitor_interval_ms);
        let acts = matches!(self.phase, Phase::Active { .. }) || !self.is_group(id);
        let Some(unit) = self.units.get_mut(id.0) else { return };
        unit.look_at = match interval {
            0 => None,
            every if acts => Some(now + every),
            every => Some(now + every.max(STANDBY_LOOK_MS)),
        };
    }

    pub(super) fn look_done(
        &mut self,
        id: ResourceId,
        done: UnitOp,
        outcome: AgentOutcome,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        let Some(unit) = self.units.get_mut(id.0) else { return };
        let AgentOutcome { result, reason } = outcome;
        if !unit.probed {
            unit.probed = true;
            let state = match result {
                AgentResult::Ok | AgentResult::FileSystem => Running::Started,
                // What is not installed or configured here does not run here.
                AgentResult::NotRunning | AgentResult::NotHere | AgentResult::Nowhere => Running::Stopped,
                AgentResult::Failed => Running::Failed,
                AgentResult::TimedOut => Running::Unknown,
            };
            unit.find(state, now);
            self.plan_look(id, now);
            return;
        }
        // Something was done to it meanwhile: the look tells of before.
        if unit.op.is_some() || unit.since > done.began {
            return;
        }
        if self.want(id) == Want::Up && !self.maintenance() {
            self.look_at_wanted(id, result, &reason, now, out);
        } else {
            self.look_at_other(id, result, &reason, now, out);
        }
    }

    fn look_at_wanted(
        &mut self,
        id: ResourceId,
        result: AgentResult,
        reason: &str,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        let threshold = self.bad_looks(id);
        let Some(unit) = self.units.get_mut(id.0) else { return };
        match result {
            AgentResult::Ok => {
                unit.bad = 0;
                unit.told_full = false;
                unit.set(Running::Started, now);
            }
            AgentResult::NotRunning => {
                if unit.state == Running::Started {
                    unit.set(Running::Stopped, now);
                    self.unit_failed(id, AgentResult::Failed, "it does not run", "look", now, out);
                }
            }
            AgentResult::FileSystem => self.unit_failed(id, result, reason, "look", now, out),
            AgentResult::Failed | AgentResult::NotHere | AgentResult::Nowhere | AgentResult::TimedOut => {
                let slow = result == AgentResult::TimedOut;
                unit.bad = unit.bad.saturating_add(if slow { SLOW } else { BROKEN });
                unit.reason = Some(reason.to_owned());
                if unit.bad >= threshold {
                    unit.bad = 0;
                    unit.set(Running::Failed, now);
                    let result = if slow { AgentResult::TimedOut } else { AgentResult::Failed };
                    self.unit_failed(id, result, reason, "look", now, out);
                } else {
                    let text = format!("a look at {} failed and is repeated: {reason}", unit.name);
                    unit.look_at = unit.look_at.map(|at| at.min(now + LOOK_AGAIN_MS));
                    log(out, LogLevel::Warn, text);
                    self.voice.hurry();
                }
            }
        }
    }

    /// The weight of bad looks in a row that counts as a failure.
    fn bad_looks(&self, id: ResourceId) -> u32 {
        self.config.resource(id).map_or(1, |r| r.monitor_failures.max(1)).saturating_mul(BROKEN)
    }

    /// What is not well here, and what of that which is to run looks as if it were not.
    pub(super) fn problems(&self) -> Vec<String> {
        let wanted = self
            .units
            .iter()
            .enumerate()
            .filter(|(index, _)| self.want(ResourceId(*index)) == Want::Up && !self.maintenance());
        let told = wanted.filter(|(_, unit)| unit.bad > 0 || unit.told_full).map(|(index, unit)| {
            let reason = unit.reason.as_deref().unwrap_or("the look has failed");
            let most = self.bad_looks(ResourceId(index));
            let weight = format!("; {} % of what counts as a failure", unit.bad * 100 / most);
            format!("{}: {reason}{}", unit.name, if unit.bad > 0 { &weight } else { "" })
        });
        self.health.problems.iter().cloned().chain(told).collect()
    }

    /// Not ours to keep running just now: only its state is noted.
    fn look_at_other(
        &mut self,
        id: ResourceId,
        result: AgentResult,
        reason: &str,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        let state = match result {
            AgentResult::Ok | AgentResult::FileSystem => Running::Started,
            AgentResult::NotRunning | AgentResult::NotHere | AgentResult::Nowhere => Running::Stopped,
            AgentResult::Failed => Running::Failed,
            AgentResult::TimedOut => return,
        };
        self.note_state(id, state, reason, now, out);
    }

    fn note_state(
        &mut self,
        id: ResourceId,
        state: Running,
        reason: &str,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        let standby = self.phase == Phase::Idle && self.record().is_some() && !self.incumbent();
        let foreign = standby && self.is_group(id) && !self.maintenance();
        let early = matches!(self.phase, Phase::Active { .. }) && self.is_group(id) && !self.befores_run(id);
        let Some(unit) = self.units.get_mut(id.0) else { return };
        let was = unit.state;
        unit.set(state, now);
        if early && was == Running::Stopped && state == Running::Started {
            // Somebody was faster than the mount: what it does is done to the folder below.
            unit.recycle = true;
        }
        if !reason.is_empty() && state == Running::Failed {
            unit.reason = Some(reason.to_owned());
        }
        if foreign && was == Running::Stopped && state != Running::Stopped && !unit.foreign {
            unit.foreign = true;
            self.tell_foreign(out);
        }
    }

    /// Alerts about everything of the group that somebody else has started here.
    pub(super) fn tell_foreign(&self, out: &mut Vec<Action>) {
        let names: Vec<&str> = self.units.iter().filter(|u| u.foreign).map(|u| u.name.as_str()).collect();
        if names.is_empty() {
            return;
        }
        let what = match self.config.policy.foreign_start {
            ForeignStart::Stop => "it is stopped",
            ForeignStart::Alarm => "it is left alone, as configured",
        };
        let text = format!(
            "{} runs on {}, where the group must not run (started by hand, or enabled at boot?): {what}",
            names.join(", "),
            self.name(self.me())
        );
        alert(out, LogLevel::Warn, "foreign-start", text);
    }

    pub(super) fn resource_changed(
        &mut self,
        id: ResourceId,
        state: Running,
        reason: String,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        let wanted = self.want(id) == Want::Up && !self.maintenance();
        let Some(unit) = self.units.get_mut(id.0) else { return };
        // The answer of an operation under way tells more; the first look has not come back yet.
        if unit.op.is_some() || !unit.probed || unit.replica {
            return;
        }
        self.turn();
        let Some(unit) = self.units.get_mut(id.0) else { return };
        match state {
            Running::Unknown => {}
            Running::Stopped | Running::Failed if wanted && unit.state == Running::Started => {
                unit.set(state, now);
                self.unit_failed(id, AgentResult::Failed, &reason, "event", now, out);
            }
            _ => self.note_state(id, state, &reason, now, out),
        }
    }
}
