//! `plan`: what would be done, in sentences, without doing it.

use super::Engine;
use super::idle::Choice;
use super::phase::Phase;
use crate::control::Command;
use crate::event::Running;
use crate::member::Node;

impl Engine {
    /// What this command would do now; without one, what the manager is about to do by itself.
    #[must_use]
    pub fn plan(&self, command: Option<&Command>) -> Vec<String> {
        let Some(command) = command else { return self.plan_of_its_own() };
        match command {
            Command::Switchover { to } => self.plan_switchover(*to),
            Command::Standby { node } => self.plan_standby(*node),
            Command::Restart { resource } => self.plan_restart(resource),
            Command::ForcePrimary { node, .. } => self.plan_force(*node),
            Command::Bootstrap { primary, maintenance } => self.plan_bootstrap(*primary, *maintenance),
            Command::DiscardDiverged { node } => vec![
                format!("the record no longer marks {} as diverged", self.name(*node)),
                format!("{} gives up its own changes and is resynchronised", self.name(*node)),
            ],
            Command::ConfirmOff { node } => {
                vec![format!("{} counts as off until it is heard again", self.name(*node))]
            }
            Command::Online { .. }
            | Command::Maintenance { .. }
            | Command::Hold { .. }
            | Command::Resume
            | Command::Cleanup { .. } => vec!["the record is changed; nothing is moved by that".to_owned()],
        }
    }

    fn plan_of_its_own(&self) -> Vec<String> {
        match self.phase {
            Phase::Idle if self.incumbent() => match self.choice(self.now) {
                Choice::Peer => self.plan_switchover(Some(self.other())),
                Choice::Again | Choice::Use => self.plan_start(self.me()),
                Choice::Wait(why) => vec![format!("nothing: {why}")],
            },
            Phase::Idle => match self.may_bid(self.now) {
                Ok(()) => self.plan_start(self.me()),
                Err(why) => vec![format!("nothing: {why}")],
            },
            _ => {
                let open: Vec<String> = self
                    .units
                    .iter()
                    .filter(|u| u.state != Running::Started && u.given_up.is_none())
                    .map(|u| format!("start {}", u.name))
                    .collect();
                if open.is_empty() { vec!["nothing: everything is as it should be".to_owned()] } else { open }
            }
        }
    }

    fn plan_switchover(&self, to: Option<Node>) -> Vec<String> {
        let Some(primary) = self.record().and_then(|r| r.primary) else {
            return vec!["refused: there is no record yet".to_owned()];
        };
        let to = to.unwrap_or(primary.peer());
        if to == primary {
            return vec![format!("nothing: {} already", self.primary_sentence())];
        }
        if self.incumbent()
            && let Err(error) = self.may_switch_over(self.now)
        {
            return vec![format!("refused: {}", error.text)];
        }
        let mut steps = self.plan_stop(primary);
        steps.push(format!("the record names {} as primary of term {}", self.name(to), self.term().0 + 1));
        steps.extend(self.plan_start(to));
        steps
    }

    fn plan_standby(&self, node: Node) -> Vec<String> {
        let mut steps = vec![format!("the record marks {} as standby", self.name(node))];
        if self.record().is_some_and(|r| r.primary == Some(node)) {
            steps.extend(self.plan_switchover(Some(node.peer())));
        }
        steps
    }

    fn plan_restart(&self, resource: &str) -> Vec<String> {
        let Some(index) = self.units.iter().position(|u| u.name == resource) else {
            return vec![format!("refused: there is no resource {resource}")];
        };
        let all = self.taken_along(crate::config::ResourceId(index));
        let names: Vec<&str> =
            all.iter().filter_map(|id| self.units.get(id.0)).map(|u| u.name.as_str()).collect();
        let stops = names.iter().rev().map(|n| format!("stop {n}"));
        stops.chain(names.iter().map(|n| format!("start {n}"))).collect()
    }

    fn plan_force(&self, node: Node) -> Vec<String> {
        if node == self.me()
            && let Err(error) = self.may_force_primary(true, self.now)
        {
            return vec![format!("refused: {}", error.text)];
        }
        let mut steps = vec![format!(
            "the record names {} as primary and marks the data of {} as diverged: what only {1} has is lost",
            self.name(node),
            self.name(node.peer())
        )];
        steps.extend(self.plan_start(node));
        steps
    }

    fn plan_bootstrap(&self, primary: Node, maintenance: bool) -> Vec<String> {
        if self.record().is_some() {
            return vec![format!("refused: there is a record already: {}", self.primary_sentence())];
        }
        let mut steps = vec![format!("the first record names {} as primary", self.name(primary))];
        if maintenance {
            steps.push(format!(
                "{}: the device becomes Primary; resources are left alone",
                self.name(primary)
            ));
        } else {
            steps.extend(self.plan_start(primary));
        }
        steps
    }

    fn plan_stop(&self, node: Node) -> Vec<String> {
        let host = self.name(node);
        let mut steps = Vec::new();
        let names = self.config.group.iter().rev().map(|r| r.name.as_str());
        let replica = |n: &&str| !self.units.iter().any(|u| u.replica && u.name == **n);
        steps.extend(names.filter(replica).map(|n| format!("{host}: stop {n}")));
        steps.push(format!("{host}: the device becomes Secondary"));
        steps
    }

    fn plan_start(&self, node: Node) -> Vec<String> {
        let host = self.name(node);
        let mut steps = vec![format!("{host}: the device becomes Primary")];
        let units = self.units.iter().take(self.config.group.len()).filter(|u| !u.replica);
        steps.extend(units.map(|u| format!("{host}: start {}", u.name)));
        steps
    }
}
