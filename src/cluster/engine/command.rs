//! Operators' commands: which node does it, what must hold, what is told.

use super::desk::{Edit, Origin, refused};
use super::history::Kind;
use super::phase::{Errand, Phase};
use super::{Engine, log};
use crate::config::{Quorum, ResourceId};
use crate::control::{Command, CommandError, CommandErrorKind};
use crate::event::{Action, LogLevel};
use crate::member::Node;
use crate::timing::Millis;

impl Engine {
    pub(super) fn command(&mut self, origin: Origin, command: Command, now: Millis, out: &mut Vec<Action>) {
        if let Origin::Local(_) = origin
            && (self.ledger.read || self.is_unread_for_peer(now))
        {
            log(out, LogLevel::Info, format!("operator: {}", command.words(|n| self.name(n).to_owned())));
        }
        if self.ending.is_some() {
            let text = format!("the manager on {} is ending", self.name(self.me()));
            return self.reply(origin, Err(refused(text)), out);
        }
        if self.is_unread_for_peer(now) {
            return self.command_unread(origin, command, now, out);
        }
        if !self.ledger.read {
            return self.wait_for_record(origin, command, now, out);
        }
        if let Command::Bootstrap { primary, maintenance } = command {
            return self.bootstrap(origin, primary, maintenance, now, out);
        }
        if self.record().is_none() {
            let text = "there is no record yet: type `futago cluster bootstrap --primary HOST` first";
            return self.reply(origin, Err(refused(text)), out);
        }
        let name = |node| self.name(node).to_owned();
        match command {
            Command::Bootstrap { .. } => {}
            Command::Switchover { to } => self.switchover(origin, to, now, out),
            Command::Standby { node } => self.standby(origin, node, now, out),
            Command::Online { node } => {
                let done = format!("{} may run the stack again; nothing is moved by that", name(node));
                self.order_edit(Edit::Online(node), origin, done, now, out);
            }
            Command::Maintenance { on: true } => self.maintain(origin, now, out),
            Command::Maintenance { on: false } => {
                let done = "maintenance is over: resources are looked after again".to_owned();
                self.order_edit(Edit::Maintenance(false), origin, done, now, out);
            }
            Command::Hold { reason } => {
                let done = format!("automatic failover is on hold: {reason}");
                self.order_edit(Edit::Hold(reason), origin, done, now, out);
            }
            Command::Resume => {
                let done = "automatic failover is allowed again".to_owned();
                self.order_edit(Edit::Resume, origin, done, now, out);
            }
            Command::Cleanup { resource } => self.cleanup(origin, resource, now, out),
            Command::Restart { resource } => self.restart(origin, &resource, now, out),
            Command::ForcePrimary { .. } => self.force_primary(origin, command, now, out),
            Command::ConfirmOff { node } => self.confirm_off(origin, node, now, out),
            Command::DiscardDiverged { node } => self.discard_diverged(origin, node, now, out),
        }
    }

    fn bootstrap(
        &mut self,
        origin: Origin,
        primary: Node,
        maintenance: bool,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        if let Some(record) = self.record() {
            let text = format!("there is a record already: {}", self.primary_sentence());
            let same = record.primary == Some(primary);
            return self.reply(origin, if same { Ok(text) } else { Err(refused(text)) }, out);
        }
        if self.desk.bootstrap.is_some() {
            return self.reply(origin, Err(refused("a bootstrap is under way already")), out);
        }
        self.order_bootstrap(primary, maintenance, origin, now);
    }

    /// `ha-a is the primary of term 3`.
    pub(super) fn primary_sentence(&self) -> String {
        let primary = self.record().and_then(|r| r.primary);
        let name = primary.map_or("nobody", |p| self.name(p));
        format!("{name} is the primary of term {}", self.term().0)
    }

    fn switchover(&mut self, origin: Origin, to: Option<Node>, now: Millis, out: &mut Vec<Action>) {
        let Some(primary) = self.record().and_then(|r| r.primary) else { return };
        let to = to.unwrap_or(primary.peer());
        if to == primary {
            let text = format!("{} already", self.primary_sentence());
            return self.reply(origin, Ok(text), out);
        }
        if primary != self.me() {
            return self.pass_on(Command::Switchover { to: Some(to) }, origin, now, out);
        }
        if let Err(error) = self.may_switch_over(now) {
            return self.reply(origin, Err(error), out);
        }
        let because = "an operator has asked for it".to_owned();
        self.leave(
            Errand { kind: Kind::Switchover, because, automatic: false, origins: vec![origin] },
            now,
            out,
        );
    }

    /// Also one of the abilities in the status.
    pub(super) fn may_switch_over(&self, now: Millis) -> Result<(), CommandError> {
        if self.maintenance() {
            return Err(refused(
                "the cluster is in maintenance: resources may not be stopped (`futago cluster maintenance off`)",
            ));
        }
        if let Err(why) = self.peer_can_take(now) {
            return Err(refused(format!("switchover refused: {why}")));
        }
        match self.phase {
            Phase::Dropping { .. } | Phase::Boot => {
                Err(refused("switchover refused: the node is busy recovering; try again in a moment"))
            }
            _ => Ok(()),
        }
    }

    fn standby(&mut self, origin: Origin, node: Node, now: Millis, out: &mut Vec<Action>) {
        let Some(record) = self.record() else { return };
        let primary = record.primary;
        if primary == Some(node) {
            if node != self.me() {
                return self.pass_on(Command::Standby { node }, origin, now, out);
            }
            if let Err(error) = self.may_switch_over(now) {
                let text = format!("standby refused, since the stack would have no place: {}", error.text);
                return self.reply(origin, Err(refused(text)), out);
            }
        }
        let done = format!("{} is in standby: no failover to it", self.name(node));
        self.order_edit(Edit::Standby(node), origin, done, now, out);
    }

    /// Resources are left alone as they are: not in the middle of a move, which would end with half a stack. The
    /// primary knows best what is under way.
    fn maintain(&mut self, origin: Origin, now: Millis, out: &mut Vec<Action>) {
        if self.is_under_way() {
            let what = self.doing(now).unwrap_or_else(|| "a move of the stack".to_owned());
            let text = format!(
                "maintenance refused: it would stop halfway what is under way ({what}); wait for its end, which `futago cluster status` shows"
            );
            return self.reply(origin, Err(refused(text)), out);
        }
        if !self.incumbent() && self.peer_is_there(now) {
            return self.pass_on(Command::Maintenance { on: true }, origin, now, out);
        }
        let done = "maintenance: resources are left alone, no failover".to_owned();
        self.order_edit(Edit::Maintenance(true), origin, done, now, out);
    }

    /// The stack, or a part of it, is on its way, and nothing has failed on it yet: then operators may have to step in.
    fn is_under_way(&self) -> bool {
        let me = self.me();
        let to_leave = self.incumbent() && self.desk.edits.iter().any(|o| o.edit == Edit::Standby(me));
        let starting = match self.phase {
            Phase::Starting(_) => self.replica.problem.is_none(),
            Phase::Active { .. } => {
                let troubled = self.units.iter().any(|u| u.reason.is_some());
                self.story.is_open() && !self.group_has_settled() && !troubled
            }
            _ => false,
        };
        let moving = self.errand.is_some() || self.following.is_some();
        moving || to_leave || starting || !self.desk.restarts.is_empty()
    }

    pub(super) fn find(&self, resource: &str) -> Result<ResourceId, CommandError> {
        let index = self.units.iter().position(|u| u.name == resource);
        index.map(ResourceId).ok_or_else(|| {
            let names: Vec<&str> = self.units.iter().map(|u| u.name.as_str()).collect();
            CommandError {
                kind: CommandErrorKind::NotFound,
                text: format!("there is no resource {resource}; there are: {}", names.join(", ")),
            }
        })
    }

    fn cleanup(&mut self, origin: Origin, resource: Option<String>, now: Millis, out: &mut Vec<Action>) {
        if let Some(name) = &resource
            && let Err(error) = self.find(name)
        {
            return self.reply(origin, Err(error), out);
        }
        for unit in &mut self.units {
            if resource.as_ref().is_none_or(|name| *name == unit.name) && !unit.replica {
                unit.forget(now);
                unit.look_at = Some(now);
            }
        }
        self.tally.forget_counts(resource.as_deref());
        let done = match &resource {
            Some(name) => format!("failures of {name} are forgotten, it is looked at again"),
            None => "all failures are forgotten, everything is looked at again".to_owned(),
        };
        self.order_edit(Edit::Cleanup(resource), origin, done, now, out);
    }

    fn confirm_off(&mut self, origin: Origin, node: Node, now: Millis, out: &mut Vec<Action>) {
        let name = self.name(node).to_owned();
        let result = if node == self.me() {
            Err(refused(format!("{name} is this very host: type it on the other one")))
        } else if !self.config.quorum.is_of_two() {
            Err(refused("a witness decides here: nothing needs confirming"))
        } else if self.peer_is_there(now) {
            Err(refused(format!("{name} is alive: it was heard a moment ago")))
        } else if !self.word_suffices() {
            Err(refused(format!(
                "that {name} is off does not tell whether it has acknowledged writes alone before: bring it back, or give these writes up with `futago cluster force-primary {} --accept-loss`",
                self.name(self.me())
            )))
        } else {
            self.peer.off = true;
            self.peer.confirmed = true;
            self.bid_again(now);
            Ok(format!("{name} counts as off until it is heard again"))
        };
        self.reply(origin, result, out);
    }

    /// Whether a silent peer that is off cannot have gone on alone unheard. With a fence device it needs the vote
    /// of this host, or this host switched off: neither happened while this manager runs and has heard it. With
    /// two hosts and nothing else it needs nobody, or an order that nobody here has heard of.
    fn word_suffices(&self) -> bool {
        self.config.quorum == Quorum::Fencing && self.peer.heard_at.is_some()
    }

    /// Whether the device of a node stands, as far as is known here.
    fn runs_as_primary(&self, node: Node) -> bool {
        let view = if node == self.me() {
            self.replica.view.as_ref()
        } else {
            self.peer.view.as_ref().and_then(|peer| peer.replica.as_ref())
        };
        view.is_some_and(|view| view.primary)
    }

    fn discard_diverged(&mut self, origin: Origin, node: Node, now: Millis, out: &mut Vec<Action>) {
        let name = self.name(node).to_owned();
        if self.record().is_none_or(|r| !r.intent.diverged.contains(node)) {
            let text = format!("{name} has no overruled data");
            return self.reply(origin, Err(refused(text)), out);
        }
        if !self.runs_as_primary(node.peer()) {
            let other = self.name(node.peer());
            let text = format!(
                "{other} does not run with its own data yet: until it does, the data of {name} may be the only that can be used. `futago cluster why` tells what {other} waits for"
            );
            return self.reply(origin, Err(refused(text)), out);
        }
        let done = format!("the overruled data of {name} is given up; it is resynchronised");
        self.order_edit(Edit::DiscardDiverged(node), origin, done, now, out);
    }
}
