//! Operators' orders that are under way: edits of the intent, a first record, orders passed on to the peer, and
//! what was answered to the peer's.
//!
//! Rules: every order is answered exactly once, within a bound; an order of the peer is done once, however often
//! it is repeated.

use std::collections::{BTreeMap, VecDeque};

use super::ledger::Swap;
use super::proposal::Purpose;
use super::restart::Restart;
use super::{Engine, alert};
use crate::control::{Command, CommandError, CommandErrorKind};
use crate::event::{Action, LogLevel, Token};
use crate::member::Node;
use crate::message::Message;
use crate::store::RequestId;
use crate::timing::Millis;

/// Orders that wait at most; an operator types one at a time.
const ORDERS: usize = 32;
/// Answers to the peer's orders that are remembered, for repetitions.
const ANSWERS: usize = 32;
/// An order that was passed on is answered within this, or the operator is told to look at the status. A stack
/// may take minutes to stop and start.
const PASSED_ON_MS: Millis = 600_000;
/// Repetition of an order that was passed on and not answered: the peer knows repetitions by their number.
const REPEAT_MS: Millis = 1_000;
/// How long an order waits for the record after the manager has started: the first votes take a moment.
const EARLY_MS: Millis = 5_000;
/// A change of the intent that could not be committed within this is given back.
const EDIT_MS: Millis = 10_000;

/// Who has asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// An operator on this host.
    Local(Token),
    /// An operator on the other one.
    Remote(RequestId),
}

/// A change of the intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    Standby(Node),
    Online(Node),
    Maintenance(bool),
    Hold(String),
    Resume,
    Cleanup(Option<String>),
    DiscardDiverged(Node),
}

/// An edit that waits for its commit.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) edit: Edit,
    pub(super) origin: Origin,
    /// What the operator is told.
    pub(super) done: String,
    pub(super) deadline: Millis,
}

/// The first record.
#[derive(Debug)]
pub(super) struct Bootstrap {
    pub(super) primary: Node,
    pub(super) maintenance: bool,
    pub(super) origin: Origin,
    pub(super) deadline: Millis,
}

#[derive(Debug)]
struct PassedOn {
    origin: Origin,
    command: Command,
    again_at: Millis,
    deadline: Millis,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Desk {
    pub(super) edits: VecDeque<Order>,
    pub(super) bootstrap: Option<Bootstrap>,
    pub(super) restarts: Vec<Restart>,
    /// Answers that are found where no action can be given out.
    pub(super) late: Vec<(Origin, Result<String, CommandError>)>,
    /// Orders that came before the record was read for the first time.
    early: VecDeque<(Origin, Command, Millis)>,
    passed_on: BTreeMap<RequestId, PassedOn>,
    answers: VecDeque<(RequestId, Option<Result<String, CommandError>>)>,
}

impl Desk {
    /// The peer's order is known: with its answer, if there is one already.
    pub(super) fn seen(&self, request: RequestId) -> Option<Option<Result<String, CommandError>>> {
        self.answers.iter().find(|(id, _)| *id == request).map(|(_, answer)| answer.clone())
    }

    pub(super) fn remember(&mut self, request: RequestId) {
        if self.answers.len() >= ANSWERS {
            self.answers.pop_front();
        }
        self.answers.push_back((request, None));
    }
}

pub(super) fn refused(text: impl Into<String>) -> CommandError {
    CommandError { kind: CommandErrorKind::Refused, text: text.into() }
}

pub(super) fn failed(text: impl Into<String>) -> CommandError {
    CommandError { kind: CommandErrorKind::Failed, text: text.into() }
}

pub(super) fn unreachable(text: impl Into<String>) -> CommandError {
    CommandError { kind: CommandErrorKind::Unreachable, text: text.into() }
}

impl Engine {
    pub(super) fn reply(
        &mut self,
        origin: Origin,
        result: Result<String, CommandError>,
        out: &mut Vec<Action>,
    ) {
        match origin {
            Origin::Local(token) => out.push(Action::Reply { token, result }),
            Origin::Remote(request) => {
                if let Some((_, answer)) = self.desk.answers.iter_mut().find(|(id, _)| *id == request) {
                    *answer = Some(result.clone());
                }
                let message = Message::Answer { request, result };
                out.push(Action::Send { to: self.other().into(), message });
            }
        }
    }

    pub(super) fn order_edit(
        &mut self,
        edit: Edit,
        origin: Origin,
        done: String,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        if self.desk.edits.len() >= ORDERS {
            self.reply(origin, Err(refused("too many orders wait already: try again in a moment")), out);
            return;
        }
        self.desk.edits.push_back(Order { edit, origin, done, deadline: now + EDIT_MS });
        self.turn();
    }

    pub(super) fn order_bootstrap(&mut self, primary: Node, maintenance: bool, origin: Origin, now: Millis) {
        let deadline = now + EDIT_MS;
        self.desk.bootstrap = Some(Bootstrap { primary, maintenance, origin, deadline });
        self.turn();
    }

    pub(super) fn pass_on(&mut self, command: Command, origin: Origin, now: Millis, out: &mut Vec<Action>) {
        if !self.peer_is_there(now) || self.desk.passed_on.len() >= ORDERS {
            let peer = self.name(self.other());
            let text = format!("{peer} must do this and cannot be reached");
            self.reply(origin, Err(unreachable(text)), out);
            return;
        }
        let request = self.request_id();
        let message = Message::Ask { request, command: command.clone() };
        out.push(Action::Send { to: self.other().into(), message });
        let (again_at, deadline) = (now + REPEAT_MS, now + PASSED_ON_MS);
        self.desk.passed_on.insert(request, PassedOn { origin, command, again_at, deadline });
    }

    pub(super) fn answered(
        &mut self,
        request: RequestId,
        result: Result<String, CommandError>,
        out: &mut Vec<Action>,
    ) {
        if let Some(passed) = self.desk.passed_on.remove(&request) {
            self.reply(passed.origin, result, out);
        }
    }

    pub(super) fn edit_committed(&mut self, now: Millis, out: &mut Vec<Action>) {
        let Some(order) = self.desk.edits.pop_front() else { return };
        if let Edit::Hold(_) | Edit::Maintenance(true) = order.edit {
            alert(out, LogLevel::Info, "held", order.done.clone());
        }
        if order.edit == Edit::Standby(self.me()) && self.incumbent() {
            return self.leave_and_tell(order.origin, now, out);
        }
        self.reply(order.origin, Ok(order.done), out);
    }

    /// Too few voters: operators hear it at once instead of waiting.
    pub(super) fn desk_without_majority(&mut self, swap: &Swap, out: &mut Vec<Action>) {
        let text = format!(
            "too few voters can be reached ({}): the record cannot be changed",
            self.heard_sentence()
        );
        let origin = match swap.purpose {
            Purpose::Intend { edit: true } => self.desk.edits.pop_front().map(|o| o.origin),
            Purpose::Bootstrap => self.desk.bootstrap.take().map(|b| b.origin),
            _ => None,
        };
        if let Some(origin) = origin {
            self.reply(origin, Err(unreachable(text)), out);
        }
    }

    pub(super) fn bootstrapped(&mut self, out: &mut Vec<Action>) {
        if let Some(bootstrap) = self.desk.bootstrap.take() {
            let name = self.name(bootstrap.primary).to_owned();
            alert(out, LogLevel::Info, "bootstrap", format!("the cluster begins with {name} as primary"));
            self.reply(bootstrap.origin, Ok(format!("{name} is the primary of term 1")), out);
        }
    }

    pub(super) fn step_desk(&mut self, now: Millis, out: &mut Vec<Action>) {
        for (origin, result) in std::mem::take(&mut self.desk.late) {
            self.reply(origin, result, out);
        }
        self.step_early(now, out);
        self.bootstrap_overtaken(now, out);
        let late = self.desk.edits.front().is_some_and(|o| o.deadline <= now);
        if late && let Some(order) = self.desk.edits.pop_front() {
            let text =
                "the change could not be committed in time; `futago cluster status` tells whether it was";
            self.reply(order.origin, Err(failed(text)), out);
        }
        self.step_restarts(now, out);
        self.repeat_passed_on(now, out);
    }

    /// The record is not read yet: the manager has just started. The order waits for a moment.
    pub(super) fn wait_for_record(
        &mut self,
        origin: Origin,
        command: Command,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        if self.desk.early.len() >= ORDERS {
            let text = "the record is not known yet, and too many orders wait for it already";
            return self.reply(origin, Err(refused(text)), out);
        }
        self.desk.early.push_back((origin, command, now + EARLY_MS));
        self.turn();
    }

    fn step_early(&mut self, now: Millis, out: &mut Vec<Action>) {
        if self.ledger.read || self.is_unread_for_peer(now) {
            for (origin, command, _) in std::mem::take(&mut self.desk.early) {
                self.command(origin, command, now, out);
            }
        }
        while self.desk.early.front().is_some_and(|(_, _, deadline)| *deadline <= now) {
            let Some((origin, ..)) = self.desk.early.pop_front() else { break };
            let text = "the record is not known yet: too few voters have answered";
            self.reply(origin, Err(unreachable(text)), out);
        }
    }

    fn bootstrap_overtaken(&mut self, now: Millis, out: &mut Vec<Action>) {
        let Some(bootstrap) = &self.desk.bootstrap else { return };
        let (origin, primary) = (bootstrap.origin, bootstrap.primary);
        if let Some(record) = self.record() {
            let same = record.primary == Some(primary);
            let text = format!("there is a record already: {}", self.primary_sentence());
            self.desk.bootstrap = None;
            self.reply(origin, if same { Ok(text) } else { Err(refused(text)) }, out);
        } else if bootstrap.deadline <= now {
            self.desk.bootstrap = None;
            let text = format!(
                "the first record could not be committed in time: are the manager on the other host and {} running?",
                self.third()
            );
            self.reply(origin, Err(unreachable(text)), out);
        }
    }

    fn repeat_passed_on(&mut self, now: Millis, out: &mut Vec<Action>) {
        let to = self.other().into();
        let mut late = Vec::new();
        for (request, passed) in &mut self.desk.passed_on {
            if passed.deadline <= now {
                late.push(*request);
            } else if passed.again_at <= now {
                passed.again_at = now + REPEAT_MS;
                let message = Message::Ask { request: *request, command: passed.command.clone() };
                out.push(Action::Send { to, message });
            }
        }
        for request in late {
            let text = format!(
                "{} has not answered: `futago cluster status` tells where things are",
                self.name(self.other())
            );
            self.answered(request, Err(failed(text)), out);
        }
    }

    pub(super) fn desk_wake(&self) -> Option<Millis> {
        let edits = self.desk.edits.front().map(|o| o.deadline);
        let bootstrap = self.desk.bootstrap.as_ref().map(|b| b.deadline);
        let passed = self.desk.passed_on.values().map(|p| p.again_at.min(p.deadline)).min();
        let restarts = self.desk.restarts.iter().map(|r| r.deadline).min();
        let early = self.desk.early.front().map(|(_, _, deadline)| *deadline);
        [edits, bootstrap, restarts, passed, early].into_iter().flatten().filter(|at| *at > self.now).min()
    }
}
