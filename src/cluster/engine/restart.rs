//! `restart`: a resource is stopped and started in place, and the operator hears how it ended.

use super::Engine;
use super::desk::{Origin, failed, refused};
use super::phase::Phase;
use super::stack::Unit;
use crate::config::ResourceId;
use crate::control::{Command, CommandError};
use crate::event::{Action, Running};
use crate::timing::Millis;

/// What a restart may take beside the timeouts of its stops and starts.
const SLACK_MS: Millis = 10_000;

/// A restart that an operator waits for.
#[derive(Debug)]
pub(super) struct Restart {
    origin: Origin,
    id: ResourceId,
    began: Millis,
    pub(super) deadline: Millis,
}

impl Engine {
    pub(super) fn restart(&mut self, origin: Origin, resource: &str, now: Millis, out: &mut Vec<Action>) {
        let id = match self.find(resource) {
            Ok(id) => id,
            Err(error) => return self.reply(origin, Err(error), out),
        };
        if self.is_group(id) && !self.incumbent() {
            let command = Command::Restart { resource: resource.to_owned() };
            return self.pass_on(command, origin, now, out);
        }
        if let Err(error) = self.may_restart(id) {
            return self.reply(origin, Err(error), out);
        }
        self.recycle(id, now);
        let all = self.taken_along(id);
        let limits = all.iter().filter_map(|id| self.config.resource(*id));
        let longest: Millis = limits.map(|r| r.stop_timeout_ms + r.start_timeout_ms).sum();
        self.desk.restarts.push(Restart { origin, id, began: now, deadline: now + longest + SLACK_MS });
    }

    fn may_restart(&self, id: ResourceId) -> Result<(), CommandError> {
        let Some(unit) = self.units.get(id.0) else { return Ok(()) };
        if unit.replica {
            return Err(refused(
                "the device is not restarted by itself: `futago cluster switchover` moves the stack off it",
            ));
        }
        if let Some(given_up) = unit.told_given_up() {
            return Err(refused(given_up));
        }
        self.can_restart(id).map_err(refused)
    }

    /// Whether resources are started and stopped here just now.
    fn can_restart(&self, id: ResourceId) -> Result<(), String> {
        if self.maintenance() {
            return Err("the cluster is in maintenance (`futago cluster maintenance off`)".to_owned());
        }
        let acts = matches!(self.phase, Phase::Active { .. }) || !self.is_group(id);
        if !acts || self.ending.is_some() {
            return Err(format!("the stack does not run on {} just now", self.name(self.me())));
        }
        Ok(())
    }

    pub(super) fn step_restarts(&mut self, now: Millis, out: &mut Vec<Action>) {
        for restart in std::mem::take(&mut self.desk.restarts) {
            match self.restart_ended(&restart, now) {
                Some(result) => self.reply(restart.origin, result, out),
                None => self.desk.restarts.push(restart),
            }
        }
    }

    fn restart_ended(&self, restart: &Restart, now: Millis) -> Option<Result<String, CommandError>> {
        let all = self.taken_along(restart.id);
        let units = || all.iter().filter_map(|id| self.units.get(id.0));
        let (name, host) = (&self.units.get(restart.id.0)?.name, self.name(self.me()));
        if let Some(given_up) = units().find_map(Unit::told_given_up) {
            return Some(Err(failed(given_up)));
        }
        if let Err(why) = self.can_restart(restart.id) {
            return Some(Err(failed(format!("the restart of {name} was cut short: {why}"))));
        }
        if units().all(|u| u.state == Running::Started && u.op.is_none() && !u.recycle) {
            let took = now.saturating_sub(restart.began);
            return Some(Ok(format!("{name} runs again on {host} after {took} ms")));
        }
        let late = format!("{name} does not run again on {host} in time: `futago cluster status` tells why");
        (restart.deadline <= now).then(|| Err(failed(late)))
    }
}
