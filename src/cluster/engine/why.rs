//! `why`: each decision not taken and each refusal standing, one sentence each, with its numbers.

use super::Engine;
use super::idle::Choice;
use super::lease::Acting;
use super::phase::Phase;
use super::takeover::Stage;
use crate::event::ReplicaView;
use crate::timing::Millis;

impl Engine {
    pub(super) fn why(&self, now: Millis) -> Vec<String> {
        let mut all = Vec::new();
        all.extend(self.record_sentence());
        if self.ledger.doubt.is_some() {
            all.push("a change of the record was sent and its fate is not known: nothing else is proposed until a no-op is committed".to_owned());
        }
        if self.ledger.majority.is_err() {
            all.push(format!("too few voters answer: {}", self.heard_sentence()));
        }
        all.extend(self.standing_refusal(now));
        all.extend(self.why_blocked());
        all.extend(self.units.iter().filter_map(|u| u.given_up.as_ref()).map(|g| g.why.clone()));
        all.extend(self.disk_lost());
        all.extend(self.no_failover_sentence(now));
        for unit in self.units.iter().filter(|u| u.foreign) {
            all.push(format!("{} was started here by somebody else", unit.name));
        }
        all.extend(self.problems());
        all
    }

    /// The stack should leave this host and stays: something failed for good here, or its clients cannot reach it.
    fn no_failover_sentence(&self, now: Millis) -> Option<String> {
        let failed = self.units.iter().any(|u| u.given_up.is_some());
        let lost = self.public_is_lost(now);
        let active = matches!(self.phase, Phase::Active { .. } | Phase::Starting(_));
        if !active || !(failed || lost) {
            return None;
        }
        let peer = self.name(self.other());
        match self.may_fail_over(now) {
            Err(refusal) => Some(format!("no failover to {peer}: {refusal}")),
            Ok(()) if lost && !self.peer_has_public() => {
                Some(format!("no failover to {peer}: it has lost the public segment, too"))
            }
            Ok(()) => None,
        }
    }

    fn record_sentence(&self) -> Option<String> {
        let record = self.record()?;
        Some(format!(
            "record version {}: {}, up to date {}",
            record.version.0,
            self.primary_sentence(),
            self.names_of(record.synced)
        ))
    }

    /// Why this node does not do more than it does.
    pub(super) fn standing_refusal(&self, now: Millis) -> Option<String> {
        let me = self.name(self.me());
        match &self.phase {
            Phase::Boot => Some(self.stranded(now).unwrap_or_else(|| self.why_boot())),
            Phase::Idle if self.record().is_none() => {
                Some("nothing is touched until `futago cluster bootstrap --primary HOST`".to_owned())
            }
            Phase::Idle if self.incumbent() => match self.choice(now) {
                Choice::Wait(why) => Some(format!("{me} is the primary and does not start: {why}")),
                Choice::Again => {
                    let last = self.bid.refusal.clone();
                    Some(last.unwrap_or_else(|| format!("{me} begins a new reign")))
                }
                Choice::Peer | Choice::Use => None,
            },
            Phase::Idle => {
                let last = self.bid.refusal.as_ref().filter(|_| self.bid.stage == Stage::Rest);
                match self.may_bid(now) {
                    Ok(()) => last.map(|why| format!("{me} does not take over yet: {why}")),
                    Err(why) => Some(format!("{me} does not take over: {why}")),
                }
            }
            Phase::Starting(_) if !self.may_act(now) => {
                Some(format!("{me} waits for its first lease of term {}", self.term().0))
            }
            Phase::Starting(_) => {
                self.replica.problem.as_ref().map(|why| format!("{me} cannot become Primary: {why}"))
            }
            Phase::Active { .. } if self.lease.acting == Acting::Over => Some(self.no_lease_sentence()),
            Phase::Active { .. } => self.peer_can_take(now).err().map(|why| format!("no switchover: {why}")),
            Phase::Leaving { .. } | Phase::Dropping { .. } => None,
        }
    }

    fn why_boot(&self) -> String {
        if !self.ledger.read {
            return "the record has not been read yet".to_owned();
        }
        let open: Vec<&str> = self
            .units
            .iter()
            .take(self.config.group.len())
            .filter(|u| !u.probed)
            .map(|u| u.name.as_str())
            .collect();
        if open.is_empty() {
            return "the replication daemon has not answered yet".to_owned();
        }
        format!("the first look at {} has not come back yet", open.join(", "))
    }

    fn why_blocked(&self) -> Option<String> {
        let blocked = |v: &&ReplicaView| v.primary && v.blocked;
        self.replica.view.as_ref().filter(blocked).map(|view| {
            format!(
                "writes wait: {} is not up to date (loss {}), and the record must say so first",
                self.name(self.other()),
                view.loss
            )
        })
    }
}
