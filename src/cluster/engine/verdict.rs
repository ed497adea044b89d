//! The one word that a status begins with, the sentence after it, and the three questions: can it fail over,
//! switch over, lose the witness, right now?

use super::Engine;
use super::fitness::cannot_run;
use super::phase::Phase;
use crate::config::Quorum;
use crate::control::{Ability, NodeView, Verdict};
use crate::event::ReplicaView;
use crate::member::{Node, Nodes};
use crate::record::Record;
use crate::timing::Millis;

impl Engine {
    pub(super) fn verdict(&self, now: Millis) -> (Verdict, String) {
        let Some(record) = self.record() else { return self.verdict_without_record() };
        let runs = self.runs_on(now);
        if let Some(held) = self.held(record, runs.is_some()) {
            return (Verdict::Held, held);
        }
        let Some(on) = runs else {
            return (Verdict::Down, self.down_because(now));
        };
        match self.weakness(record, on, now) {
            Some(weakness) => (Verdict::Degraded, weakness),
            None => {
                (Verdict::Protected, format!("the stack runs on {}; any one machine may fail", self.name(on)))
            }
        }
    }

    fn verdict_without_record(&self) -> (Verdict, String) {
        if self.ledger.read {
            let text = "there is no record yet: type `futago cluster bootstrap --primary HOST` once";
            return (Verdict::Held, text.to_owned());
        }
        if let Some(stranded) = self.stranded(self.now) {
            return (Verdict::Held, stranded);
        }
        (Verdict::Down, format!("the record is not known: too few voters answer ({})", self.heard_sentence()))
    }

    /// Where everything runs.
    fn runs_on(&self, now: Millis) -> Option<Node> {
        if matches!(self.phase, Phase::Active { .. }) && self.may_act(now) && self.group_is_up() {
            return Some(self.me());
        }
        let all = |v: &NodeView| self.group_ids().all(|id| v.running.contains(&id));
        // Of another configuration, only the peer itself knows whether all of it runs.
        let settled = |v: &NodeView| self.setups_differ() && v.failed.is_empty();
        let there = self.peer.view.as_ref().is_some_and(|v| v.role == "active" && (all(v) || settled(v)));
        let names_peer = self.record().is_some_and(|r| r.primary == Some(self.other()));
        (there && names_peer && self.peer_is_there(now)).then_some(self.other())
    }

    /// Something waits for a human.
    fn held(&self, record: &Record, runs: bool) -> Option<String> {
        if record.intent.maintenance {
            return Some(
                "maintenance: resources are left alone, nothing is recovered; `futago cluster maintenance off` ends it"
                    .to_owned(),
            );
        }
        if let Some(reason) = &record.intent.hold {
            return Some(format!("automatic failover is on hold: {reason}; `futago cluster resume` ends it"));
        }
        let there = self.peer.view.as_ref().filter(|_| self.peer_is_there(self.now));
        if let Some(given_up) = self.given_up().or_else(|| there?.given_up.clone()) {
            return Some(given_up);
        }
        if !runs && let Some(node) = Node::ALL.into_iter().find(|n| record.intent.diverged.contains(*n)) {
            return Some(format!(
                "the data of {0} has been overruled; `futago cluster discard-diverged {0}` gives it up",
                self.name(node)
            ));
        }
        if !runs && let Some(stranded) = self.stranded(self.now) {
            return Some(stranded);
        }
        let waits = self.config.quorum == Quorum::Manual
            && !runs
            && record.primary == Some(self.other())
            && self.peer_is_gone(self.now)
            && !self.peer.off;
        waits.then(|| self.may_bid(self.now).err().unwrap_or_default())
    }

    fn down_because(&self, now: Millis) -> String {
        let primary = self.primary_sentence();
        if self.incumbent() {
            let why = self.standing_refusal(now).unwrap_or_else(|| "it is being started".to_owned());
            return format!("{primary}: {why}");
        }
        match self.may_bid(now) {
            Err(why) if !self.peer_is_there(now) => format!("{primary} and silent; no takeover: {why}"),
            Ok(()) => format!("{primary} and silent; {} is taking over", self.name(self.me())),
            Err(_) => format!("{primary}, and does not run everything yet"),
        }
    }

    /// Everything runs; what one more failure would meet.
    fn weakness(&self, record: &Record, on: Node, now: Millis) -> Option<String> {
        let idle = on.peer();
        let (here, there) = (self.name(on), self.name(idle));
        if record.intent.diverged.contains(idle) {
            return Some(format!(
                "the data of {there} has been overruled and is kept aside (`futago cluster discard-diverged {there}`): if {here} fails, the service stops"
            ));
        }
        if record.synced != Nodes::BOTH {
            let view = if on == self.me() { self.replica.view.as_ref() } else { self.peer_replica() };
            let progress = view.and_then(|v| v.sync_permille);
            let progress =
                progress.map_or_else(String::new, |p| format!(", resync at {}.{} %", p / 10, p % 10));
            let silent = if self.peer_is_there(now) { "" } else { "is not heard and " };
            return Some(format!(
                "{there} {silent}may lack acknowledged writes{progress}: if {here} fails, the service stops"
            ));
        }
        if !self.peer_is_there(now) {
            return Some(format!("{there} is not heard: if {here} fails, the service stops"));
        }
        if record.intent.standby.contains(idle) {
            return Some(format!("{there} is in standby: if {here} fails, the service stops"));
        }
        if let Some(text) = self.unfit_standby(idle) {
            return Some(format!("{text}: if {here} fails, the service stops"));
        }
        if !self.witness_is_there(now) {
            let third = self.third();
            return Some(format!(
                "{third} is not heard: if one more machine fails, the other cannot decide alone and the service stops"
            ));
        }
        if self.config.quorum == Quorum::Manual {
            return Some(format!("no witness and no fence device: if {here} fails, an operator must decide"));
        }
        let ours = self.problems().into_iter().next().map(|p| (self.me(), p));
        let theirs = || self.peer.view.as_ref().and_then(|v| v.health.problems.first().cloned());
        ours.or_else(|| theirs().map(|p| (self.other(), p)))
            .map(|(node, problem)| format!("{}: {problem}", self.name(node)))
            .or_else(|| self.setups_differ().then(|| self.different_setups()))
    }

    fn different_setups(&self) -> String {
        let [a, b] = Node::ALL.map(|node| self.name(node));
        format!(
            "the managers on {a} and {b} have read different configurations: make /etc/futago/cluster.yml the same on both and `systemctl restart futago-clusterd`, or `futago apply` from the inventory"
        )
    }

    fn peer_replica(&self) -> Option<&ReplicaView> {
        self.peer.view.as_ref().and_then(|v| v.replica.as_ref())
    }

    fn unfit_standby(&self, idle: Node) -> Option<String> {
        let name = self.name(idle);
        let mine = idle == self.me();
        let starting = if mine {
            self.phase == Phase::Boot
        } else {
            self.peer.view.as_ref().is_some_and(|v| v.role == "waiting")
        };
        if starting {
            return Some(format!("the manager on {name} is still starting"));
        }
        let public =
            if mine { self.health.public } else { self.peer.view.as_ref().is_none_or(|v| v.health.public) };
        if !public {
            return Some(format!("{name} has lost the public segment"));
        }
        let theirs = self.peer.view.as_ref().map(|v| &v.health);
        let health = if mine { Some(&self.health) } else { theirs };
        if let Some(lack) = health.and_then(|h| h.lacking.first()) {
            return Some(cannot_run(name, lack));
        }
        let replica = if mine { self.replica.view.as_ref() } else { self.peer_replica() };
        match replica {
            None => Some(format!("the replication daemon on {name} does not answer")),
            Some(view) if view.disk != "UpToDate" => Some(format!("the disk on {name} is {}", view.disk)),
            Some(view) if !view.connected => Some(format!("replication to {name} is interrupted")),
            Some(_) => None,
        }
    }

    pub(super) fn abilities(&self, now: Millis) -> Vec<Ability> {
        let answer = |what: &str, result: Result<String, String>| {
            let yes = result.is_ok();
            let because = result.unwrap_or_else(|why| why);
            Ability { what: what.to_owned(), yes, because }
        };
        vec![
            answer("fail over", self.can_fail_over(now)),
            answer("switch over", self.can_switch_over(now)),
            answer("lose the witness", self.can_lose_witness(now)),
        ]
    }

    fn can_fail_over(&self, now: Millis) -> Result<String, String> {
        if self.config.quorum == Quorum::Manual {
            return Err("without a witness or a fence device an operator must decide".to_owned());
        }
        if !self.witness_is_there(now) {
            return Err(format!("{} is not heard: no majority without the primary", self.third()));
        }
        self.move_is_possible(now)?;
        if let Some(reason) = self.record().and_then(|r| r.intent.hold.as_ref()) {
            return Err(format!("automatic failover is on hold: {reason}"));
        }
        Ok(format!("{} has every acknowledged write", self.name(self.standby_node())))
    }

    fn can_switch_over(&self, now: Millis) -> Result<String, String> {
        self.move_is_possible(now)?;
        Ok(format!("{} has every acknowledged write and is ready", self.name(self.standby_node())))
    }

    fn standby_node(&self) -> Node {
        self.record().and_then(|r| r.primary).map_or(self.other(), Node::peer)
    }

    /// The node that does not act could act.
    fn move_is_possible(&self, now: Millis) -> Result<(), String> {
        let Some(record) = self.record() else { return Err("there is no record".to_owned()) };
        if record.intent.maintenance {
            return Err("the cluster is in maintenance".to_owned());
        }
        if self.incumbent() {
            return self.peer_can_take(now);
        }
        let me = self.name(self.me());
        if self.phase == Phase::Boot {
            return Err(format!("the manager on {me} is still starting"));
        }
        if !record.synced.contains(self.me()) {
            return Err(format!("{me} may lack acknowledged writes"));
        }
        if record.intent.standby.contains(self.me()) {
            return Err(format!("{me} is in standby (`futago cluster online {me}`)"));
        }
        if record.intent.diverged.contains(self.me()) {
            return Err(format!("the data of {me} has been overruled"));
        }
        self.fit_here()?;
        self.complete_here()
    }

    fn can_lose_witness(&self, now: Millis) -> Result<String, String> {
        if self.config.quorum != Quorum::Witness {
            return Ok("there is none".to_owned());
        }
        if self.peer_is_there(now) {
            return Ok("the two hosts are a majority".to_owned());
        }
        let lone = self.record().is_some_and(|r| r.primary.is_some_and(|p| r.synced == Nodes::only(p)));
        if lone && self.incumbent() {
            return Ok(format!("only {} is up to date and needs no vote to go on", self.name(self.me())));
        }
        Err(format!("{} is not heard: with the witness the majority would be lost", self.name(self.other())))
    }
}
