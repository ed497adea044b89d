//! What a primary that acts looks out for: its device, its disk, its network, what operators want.

use super::desk::{Origin, failed};
use super::fitness::disk_has_failed;
use super::history::Kind;
use super::phase::{Errand, Phase};
use super::{Engine, alert};
use crate::event::{Action, Health, LogLevel};
use crate::record::Term;
use crate::timing::Millis;

/// Loss of the public segment must last this long: a switch that reboots a port, a spanning tree that is laid anew.
const PUBLIC_LOST_MS: Millis = 3_000;

impl Engine {
    pub(super) fn step_active(&mut self, term: Term, now: Millis, out: &mut Vec<Action>) {
        if self.phase != (Phase::Active { term }) {
            return;
        }
        if let Some(why) = self.device_lost() {
            self.device_is_lost(&why, now, out);
            return;
        }
        self.tell_disk_lost(out);
        if self.errand.is_some() {
            // Begun before this node acted.
            self.set_phase(Phase::Leaving { term, tries: 0, retry_at: now }, now);
            self.stop_acting(out);
            return;
        }
        if self.maintenance() {
            return;
        }
        if self.leave_for_operator(now, out) || self.leave_for_health(now, out) {
            return;
        }
        self.leave_for_failure(now, out);
        self.forget_failures(now);
        self.finish_start(now, out);
    }

    fn device_lost(&self) -> Option<String> {
        let me = self.name(self.me());
        match &self.replica.view {
            None => Some(format!("the replication daemon on {me} is gone")),
            Some(view) if !view.primary => Some(format!("the device on {me} is no longer Primary")),
            Some(view) if disk_has_failed(view) => {
                // Without a peer that can take over, what still works goes on.
                self.may_fail_over(self.now).ok().map(|()| format!("the disk on {me} has failed"))
            }
            Some(_) => None,
        }
    }

    fn device_is_lost(&mut self, why: &str, now: Millis, out: &mut Vec<Action>) {
        alert(out, LogLevel::Error, "resource-failed", format!("{why}: the stack cannot run here"));
        if self.may_fail_over(now).is_ok() {
            self.fail_over(why.to_owned(), now, out);
        }
        self.drop_stack(now, out);
    }

    fn tell_disk_lost(&mut self, out: &mut Vec<Action>) {
        let lost = self.disk_lost();
        let told = std::mem::replace(&mut self.replica.told_disk_lost, lost.is_some());
        if let Some(text) = lost.filter(|_| !told) {
            alert(out, LogLevel::Error, "held", text);
        }
    }

    fn leave_for_operator(&mut self, now: Millis, out: &mut Vec<Action>) -> bool {
        let me = self.me();
        let standby = self.record().is_some_and(|r| r.intent.standby.contains(me));
        if !standby || self.peer_can_take(now).is_err() {
            return false;
        }
        self.leave_for_standby(Vec::new(), now, out);
        true
    }

    /// An operator has put this node into standby and waits for the end of the move.
    pub(super) fn leave_and_tell(&mut self, origin: Origin, now: Millis, out: &mut Vec<Action>) {
        if let Err(error) = self.may_switch_over(now) {
            let me = self.name(self.me());
            let text =
                format!("{me} is in standby, and the stack leaves it as soon as it can: {}", error.text);
            return self.reply(origin, Err(failed(text)), out);
        }
        self.leave_for_standby(vec![origin], now, out);
    }

    fn leave_for_standby(&mut self, origins: Vec<Origin>, now: Millis, out: &mut Vec<Action>) {
        let because = format!("{} is in standby", self.name(self.me()));
        self.leave(Errand { kind: Kind::Switchover, because, automatic: false, origins }, now, out);
    }

    fn leave_for_health(&mut self, now: Millis, out: &mut Vec<Action>) -> bool {
        let me = self.name(self.me()).to_owned();
        if !self.health.state_writable && self.may_move(now).is_ok() {
            let because = format!("the manager on {me} cannot store its state");
            let errand = Errand { kind: Kind::Failover, because, automatic: true, origins: Vec::new() };
            self.leave(errand, now, out);
            return true;
        }
        if self.public_is_lost(now) && self.peer_has_public() && self.may_fail_over(now).is_ok() {
            self.fail_over(
                format!("{me} has lost the public segment, and {} has not", self.name(self.other())),
                now,
                out,
            );
            return true;
        }
        false
    }

    /// Watched, and lost here for long enough to act on it.
    pub(super) fn public_is_lost(&self, now: Millis) -> bool {
        let lost = self.tally.public_lost_since.is_some_and(|since| since + PUBLIC_LOST_MS <= now);
        self.config.policy.watch_public_link && lost
    }

    pub(super) fn peer_has_public(&self) -> bool {
        self.peer.view.as_ref().is_some_and(|v| v.health.public)
    }

    pub(super) fn health_changed(&mut self, health: Health, now: Millis) {
        if health.public {
            self.tally.public_lost_since = None;
        } else {
            self.tally.public_lost_since.get_or_insert(now);
        }
        self.health = health;
        self.turn();
        self.voice.hurry();
    }

    pub(super) fn active_wake(&self) -> Option<Millis> {
        let public = self.tally.public_lost_since.map(|since| since + PUBLIC_LOST_MS);
        let forget = self.forget_at();
        [public, forget].into_iter().flatten().filter(|at| *at > self.now).min()
    }
}
