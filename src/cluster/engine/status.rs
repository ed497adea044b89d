//! What is told about this node and the whole cluster.

use super::Engine;
use super::failure::failures_on;
use super::phase::Phase;
use super::stack::Unit;
use crate::config::{Class, Resource, ResourceId};
use crate::control::{NodeView, PathView, ResourceView, Status};
use crate::event::{Health, Running, Verb};
use crate::member::{Node, Nodes, Voter};
use crate::timing::Millis;

impl Engine {
    /// Everything there is to know, seen from here.
    #[must_use]
    pub fn status(&self, now: Millis) -> Status {
        let (verdict, because) = self.verdict(now);
        let acts = self.may_act(now);
        let lease = self.lease.until.filter(|until| acts && *until > now);
        let heard = |at: Option<Millis>| at.map(|at| now.saturating_sub(at));
        Status {
            cluster: self.config.cluster.clone(),
            node: self.me(),
            names: self.config.names.clone(),
            verdict,
            because,
            quorum: self.config.quorum,
            record: self.known_or_own(now).cloned().unwrap_or_default(),
            own_vote_only: self.is_unread_for_peer(now),
            lease_left_ms: lease.map(|until| until - now),
            lone: self.is_lone(),
            local: self.local_view(now),
            peer: self.peer.view.clone(),
            peer_heard_ms_ago: heard(self.peer.heard_at),
            witness_heard_ms_ago: heard(self.peer.witness_at),
            paths: self.path_views(now),
            resources: self.resource_views(now),
            doing: self.doing(now),
            can: self.abilities(now),
            why: self.why(now),
            timing: self.config.timing,
            history: self.story.told(now),
            moves: self.story.moves(),
        }
    }

    /// What this node is doing, in one word.
    pub(super) fn role(&self, now: Millis) -> &'static str {
        match self.phase {
            Phase::Boot => "waiting",
            Phase::Idle if self.incumbent() || self.record().is_none() => "waiting",
            Phase::Idle => "standby",
            Phase::Starting(_) => "starting",
            Phase::Active { .. } if !self.may_act(now) => "waiting",
            Phase::Active { .. } if self.group_has_settled() || self.maintenance() => "active",
            Phase::Active { .. } => "starting",
            Phase::Leaving { .. } | Phase::Dropping { .. } => "stopping",
        }
    }

    /// Everything runs that is still tried.
    pub(super) fn group_has_settled(&self) -> bool {
        let settled = |u: &Unit| u.state == Running::Started || u.given_up.is_some();
        self.units.iter().take(self.config.group.len()).all(settled)
    }

    pub(super) fn group_is_up(&self) -> bool {
        self.units.iter().take(self.config.group.len()).all(|u| u.state == Running::Started)
    }

    pub(super) fn local_view(&self, now: Millis) -> NodeView {
        let with = |wanted: &dyn Fn(&Unit) -> bool| {
            let units = self.units.iter().enumerate();
            units.filter(|(_, u)| wanted(u)).map(|(i, _)| ResourceId(i)).collect()
        };
        NodeView {
            role: self.role(now).to_owned(),
            replica: self.replica.view.clone(),
            health: Health { problems: self.problems(), ..self.health.clone() },
            running: with(&|u| u.state == Running::Started),
            failed: with(&|u| u.state == Running::Failed || u.given_up.is_some()),
            setup: Some(self.setup),
            // What has been handed over is only watched from here.
            doing: self.doing_here().filter(|_| self.following.is_none()),
            given_up: self.given_up(),
        }
    }

    fn path_views(&self, now: Millis) -> Vec<PathView> {
        let views = self.peer.paths.iter().map(|((voter, path), at)| PathView {
            to: if *voter == Voter::Witness { "witness" } else { "peer" }.to_owned(),
            path: path.0,
            heard_ms_ago: Some(now.saturating_sub(*at)),
        });
        views.collect()
    }

    fn resource_views(&self, now: Millis) -> Vec<ResourceView> {
        let resources = self.config.group.iter().chain(&self.config.everywhere);
        let units = self.units.iter().zip(resources).enumerate();
        units.map(|(i, (unit, resource))| self.resource_view(ResourceId(i), unit, resource, now)).collect()
    }

    fn resource_view(&self, id: ResourceId, unit: &Unit, resource: &Resource, now: Millis) -> ResourceView {
        let there = match &self.peer.view {
            _ if !self.peer_is_there(now) || self.setups_differ() => Running::Unknown,
            Some(view) if view.failed.contains(&id) => Running::Failed,
            Some(view) if view.running.contains(&id) => Running::Started,
            Some(_) => Running::Stopped,
            None => Running::Unknown,
        };
        let state = match self.me() {
            Node::A => [unit.state, there],
            Node::B => [there, unit.state],
        };
        let recorded = self.record().and_then(|r| r.intent.failures.get(&unit.name));
        let [a, b] = Node::ALL.map(|node| {
            if node == self.me() { self.failures_here(&unit.name) } else { failures_on(recorded, node) }
        });
        ResourceView {
            name: unit.name.clone(),
            class: class_words(&resource.class),
            everywhere: !self.is_group(id),
            state,
            banned: if unit.given_up.is_some() { Nodes::only(self.me()) } else { Nodes::NONE },
            since_ms: now.saturating_sub(unit.since),
            found: unit.found,
            failures: [a, b],
            reason: unit.given_up.as_ref().map(|g| g.why.clone()).or_else(|| unit.reason.clone()),
        }
    }

    /// What failed here for good, with what to type.
    pub(super) fn given_up(&self) -> Option<String> {
        self.units.iter().find_map(Unit::told_given_up).or_else(|| self.disk_lost())
    }

    /// What is done here; while nothing is started or stopped here, what the peer does.
    pub(super) fn doing(&self, now: Millis) -> Option<String> {
        let peer = self.peer.view.as_ref().filter(|_| self.peer_is_there(now));
        let there = || Some(format!("{}: {}", self.name(self.other()), peer?.doing.as_ref()?));
        if self.operations().is_none() { there().or_else(|| self.doing_here()) } else { self.doing_here() }
    }

    /// `switchover to ha-b: stop mariadb`.
    fn doing_here(&self) -> Option<String> {
        let what = self.story.doing(|n| self.name(n).to_owned());
        let all: Vec<String> = what.into_iter().chain(self.operations()).collect();
        (!all.is_empty()).then(|| all.join(": "))
    }

    /// `stop mariadb, stop apache`.
    fn operations(&self) -> Option<String> {
        let verb = |unit: &Unit| {
            let verb = match unit.op?.verb {
                Verb::Start => "start",
                Verb::Stop => "stop",
                Verb::Kill => "kill",
                Verb::Monitor => return None,
            };
            Some(format!("{verb} {}", unit.name))
        };
        let verbs: Vec<String> = self.units.iter().filter_map(verb).collect();
        (!verbs.is_empty()).then(|| verbs.join(", "))
    }
}

fn class_words(class: &Class) -> String {
    match class {
        Class::Replica { .. } => "futago:replica".to_owned(),
        Class::Mount { .. } => "futago:mount".to_owned(),
        Class::Bind { .. } => "futago:bind".to_owned(),
        Class::Address { .. } => "futago:address".to_owned(),
        Class::Systemd { unit, .. } => format!("systemd:{unit}"),
        Class::Ocf { provider, kind, .. } => format!("ocf:{provider}:{kind}"),
    }
}
