//! Failures of resources: counted, decided by [`crate::policy`], told.
//!
//! Rules: restarts in place first, then one failover in a window, then a human; counters live in the record, so
//! they survive a failover; a failed stop takes the device away instead of the machine down.

use std::collections::BTreeMap;

use super::history::Kind;
use super::phase::{Errand, Phase};
use super::stack::GivenUp;
use super::{Engine, alert, log};
use crate::config::ResourceId;
use crate::event::{Action, AgentResult, LogLevel};
use crate::member::Node;
use crate::policy::{Decision, decide, takes_dependents_along};
use crate::record::{Failures, Intent, Record};
use crate::timing::Millis;

/// Until a service whose start has failed is started again: what it needs may be on its way.
const START_AGAIN_MS: Millis = 500;

/// Until a stop that failed where nothing depends on it is tried again.
const STOP_AGAIN_MS: Millis = 5_000;

/// What was counted here and is not in the record yet.
#[derive(Debug)]
pub(super) struct Tally {
    counts: BTreeMap<String, u32>,
    pub(super) failovers: u32,
    under_way: (BTreeMap<String, u32>, u32),
    forget: bool,
    /// The last failure, or the begin of this reign.
    pub(super) quiet_since: Millis,
    pub(super) public_lost_since: Option<Millis>,
}

impl Tally {
    pub(super) fn new(now: Millis) -> Self {
        Self {
            counts: BTreeMap::new(),
            failovers: 0,
            under_way: (BTreeMap::new(), 0),
            forget: false,
            quiet_since: now,
            public_lost_since: None,
        }
    }

    fn of(&self, name: &str) -> u32 {
        let here = |map: &BTreeMap<String, u32>| map.get(name).copied().unwrap_or_default();
        here(&self.counts).saturating_add(here(&self.under_way.0))
    }

    pub(super) fn is_due(&self) -> bool {
        !self.counts.is_empty() || self.failovers > 0 || self.forget
    }

    pub(super) fn add_to(&self, intent: &mut Intent, me: Node) {
        if self.forget {
            intent.failures.clear();
            intent.failovers = 0;
        }
        for (name, count) in &self.counts {
            let entry = intent.failures.entry(name.clone()).or_default();
            let mine = match me {
                Node::A => &mut entry.a,
                Node::B => &mut entry.b,
            };
            *mine = mine.saturating_add(*count);
        }
        intent.failovers = intent.failovers.saturating_add(self.failovers);
    }

    /// An operator has cleaned up: what is not in the record yet never gets there, and what is under way is not
    /// tried again.
    pub(super) fn forget_counts(&mut self, resource: Option<&str>) {
        match resource {
            Some(name) => {
                self.counts.remove(name);
                self.under_way.0.remove(name);
            }
            None => {
                self.counts.clear();
                self.failovers = 0;
                self.under_way = (BTreeMap::new(), 0);
            }
        }
    }

    /// They are in a proposal now.
    pub(super) fn sent(&mut self) {
        self.under_way = (std::mem::take(&mut self.counts), std::mem::take(&mut self.failovers));
    }

    pub(super) fn saved(&mut self) {
        self.under_way = (BTreeMap::new(), 0);
        self.forget = false;
    }

    pub(super) fn not_saved(&mut self) {
        let (counts, failovers) = std::mem::take(&mut self.under_way);
        for (name, count) in counts {
            let entry = self.counts.entry(name).or_default();
            *entry = entry.saturating_add(count);
        }
        self.failovers = self.failovers.saturating_add(failovers);
    }
}

/// Of one node.
pub(super) fn failures_on(failures: Option<&Failures>, node: Node) -> u32 {
    failures.map_or(0, |f| match node {
        Node::A => f.a,
        Node::B => f.b,
    })
}

impl Engine {
    /// Failures of a resource on this host, with those not in the record yet.
    pub(super) fn failures_here(&self, name: &str) -> u32 {
        let recorded = failures_on(self.record().and_then(|r| r.intent.failures.get(name)), self.me());
        recorded.saturating_add(self.tally.of(name))
    }

    /// A resource that was to run has failed.
    pub(super) fn unit_failed(
        &mut self,
        id: ResourceId,
        result: AgentResult,
        reason: &str,
        noticed: &str,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        let Some(resource) = self.config.resource(id).cloned() else { return };
        let started = noticed != "start";
        let full = result == AgentResult::FileSystem;
        let name = resource.name.clone();
        if !(full && started) {
            *self.tally.counts.entry(name.clone()).or_default() += 1;
            self.tally.quiet_since = now;
        }
        let count = self.failures_here(&name);
        let decision = decide(&resource, result, count, started);
        let host = self.name(self.me()).to_owned();
        let Some(unit) = self.units.get_mut(id.0) else { return };
        unit.reason = Some(reason.to_owned());
        match decision {
            Decision::OnlyTell => {
                if !std::mem::replace(&mut unit.told_full, true) {
                    let text = format!(
                        "{name} on {host}: {reason}; the other host would meet the same, so nothing is moved: make room or repair the file system"
                    );
                    alert(out, LogLevel::Error, "file-system", text);
                }
            }
            Decision::Restart => {
                let text = format!(
                    "{name} failed on {host} ({noticed}: {reason}): restart {count} of {}",
                    resource.restarts
                );
                alert(out, LogLevel::Warn, "resource-failed", text);
                self.recycle(id, now);
                if !started && let Some(unit) = self.units.get_mut(id.0) {
                    unit.retry_at = now + START_AGAIN_MS;
                }
            }
            Decision::GiveUp | Decision::Hold => {
                let why = format!("{name} failed on {host} ({noticed}: {reason}), {count} times by now");
                unit.given_up = Some(GivenUp { why: why.clone(), movable: decision == Decision::GiveUp });
                alert(
                    out,
                    LogLevel::Error,
                    "resource-failed",
                    format!("{why}: it is not started again here"),
                );
                let moves = self.is_group(id) && decision == Decision::GiveUp;
                if !moves || self.may_fail_over(now).is_err() {
                    let hint = format!("{why}; repair it, then type `futago cluster cleanup {name}`");
                    alert(out, LogLevel::Error, "held", hint);
                }
            }
        }
    }

    /// A resource, and those on top of it where they have to be restarted with it.
    pub(super) fn taken_along(&self, id: ResourceId) -> Vec<ResourceId> {
        let along = self.config.resource(id).is_some_and(takes_dependents_along);
        let dependents = if along { self.dependents(id) } else { Vec::new() };
        std::iter::once(id).chain(dependents).collect()
    }

    /// Stop and start in place, with what runs on top of it where that is needed.
    pub(super) fn recycle(&mut self, id: ResourceId, now: Millis) {
        for id in self.taken_along(id) {
            if let Some(unit) = self.units.get_mut(id.0) {
                unit.recycle = true;
                unit.retry_at = now;
            }
        }
        self.turn();
    }

    /// A stop has failed: where, decides what follows.
    pub(super) fn stop_went_wrong(
        &mut self,
        id: ResourceId,
        reason: &str,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        let Some(name) = self.units.get(id.0).map(|u| u.name.clone()) else { return };
        let acts = matches!(self.phase, Phase::Active { .. } | Phase::Leaving { .. });
        if self.is_group(id) && acts {
            *self.tally.counts.entry(name.clone()).or_default() += 1;
            self.tally.quiet_since = now;
            self.stop_failed(&format!("{name} could not be stopped: {reason}"), now, out);
            return;
        }
        let group = self.is_group(id);
        if let Some(unit) = self.units.get_mut(id.0) {
            unit.stuck = group;
            unit.retry_at = now + STOP_AGAIN_MS;
        }
        log(out, LogLevel::Error, format!("{name} could not be stopped: {reason}"));
    }

    /// The stack cannot leave in good order: the device is taken away, so that nothing more is written, and the
    /// peer gets it; the machine goes on running.
    pub(super) fn stop_failed(&mut self, why: &str, now: Millis, out: &mut Vec<Action>) {
        let text =
            format!("{why}: the device is taken away from its users and everything is stopped by force");
        alert(out, LogLevel::Error, "stop-failed", text);
        if self.errand.is_none() && self.may_move(now).is_ok() && self.ending.is_none() {
            self.errand = Some(Errand {
                kind: Kind::Failover,
                because: why.to_owned(),
                automatic: true,
                origins: Vec::new(),
            });
            self.tally.failovers = self.tally.failovers.saturating_add(1);
            let next = crate::record::Term(self.term().0.saturating_add(1));
            let (from, to) = (Some(self.me()), self.other());
            self.begin_move(Kind::Failover, next, from, to, why.to_owned(), now);
        }
        self.drop_stack(now, out);
    }

    /// The last resort, only when configured.
    pub(super) fn reboot_if_stuck(&self, out: &mut Vec<Action>) {
        let stuck: Vec<&str> = self.units.iter().filter(|u| u.stuck).map(|u| u.name.as_str()).collect();
        if self.config.policy.reboot_on_failed_stop && !stuck.is_empty() {
            let reason = format!("{} cannot be stopped even by force", stuck.join(", "));
            alert(out, LogLevel::Error, "reboot", format!("this host is reset: {reason}"));
            out.push(Action::Reboot { reason });
        }
    }

    /// The stack goes to the peer because of a failure; counted.
    pub(super) fn fail_over(&mut self, because: String, now: Millis, out: &mut Vec<Action>) {
        self.tally.failovers = self.tally.failovers.saturating_add(1);
        self.tally.quiet_since = now;
        self.leave(Errand { kind: Kind::Failover, because, automatic: true, origins: Vec::new() }, now, out);
    }

    /// Something was given up here that the peer may run.
    pub(super) fn leave_for_failure(&mut self, now: Millis, out: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Active { .. }) || self.may_fail_over(now).is_err() {
            return;
        }
        let peer = self.other();
        let group = self.units.iter().take(self.config.group.len()).zip(&self.config.group);
        let found = group
            .filter(|(_, r)| {
                let there = self.record().and_then(|rec| rec.intent.failures.get(&r.name));
                failures_on(there, peer) <= r.restarts
            })
            .find_map(|(unit, _)| unit.given_up.as_ref().filter(|g| g.movable).map(|g| g.why.clone()));
        if let Some(why) = found {
            self.fail_over(why, now, out);
        }
    }

    /// After a quiet window nothing is held against anybody any more, unless a human was called.
    pub(super) fn forget_failures(&mut self, now: Millis) {
        if self.forget_at().is_some_and(|at| at <= now) {
            self.tally.forget = true;
            self.tally.quiet_since = now;
            self.turn();
        }
    }

    pub(super) fn forget_at(&self) -> Option<Millis> {
        let counted = self.record().is_some_and(|r| !r.intent.failures.is_empty() || r.intent.failovers > 0);
        let called = self.units.iter().any(|u| u.given_up.is_some());
        (counted && !called && !self.tally.forget)
            .then_some(self.tally.quiet_since + self.config.timing.window_ms)
    }

    /// Operators have changed something: what was given up is tried again after a cleanup, everything is looked
    /// at after maintenance.
    pub(super) fn intent_changed(&mut self, before: Option<&Record>, after: &Record, now: Millis) {
        let Some(before) = before else { return };
        let woken = before.intent.maintenance && !after.intent.maintenance;
        let me = self.me();
        for unit in &mut self.units {
            let had = before.intent.failures.contains_key(&unit.name);
            let cleaned = had && !after.intent.failures.contains_key(&unit.name);
            if cleaned {
                unit.forget(now);
            }
            if (cleaned || woken) && !unit.replica {
                unit.look_at = Some(now);
            }
        }
        if before.intent.diverged.contains(me) && !after.intent.diverged.contains(me) {
            self.replica.discard = after.primary != Some(me);
        }
        if before.intent.diverged != after.intent.diverged {
            // The one that gives up its data goes first.
            self.replica.connect_at = now + super::replica::CONNECT_AFTER_MS;
        }
    }
}
