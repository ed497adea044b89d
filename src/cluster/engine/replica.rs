//! The replicated device: what it says, what it is asked for.
//!
//! Rule protected here: it is told to go on alone only for the very loss for which the record was committed, by
//! a request made after that loss, and only while the record still says so.

use super::phase::{Phase, RETRY_MS};
use super::{Engine, log};
use crate::event::{Action, LogLevel, OpId, ReplicaVerb, ReplicaView};
use crate::member::Nodes;
use crate::record::Term;
use crate::timing::Millis;

/// The replication daemon answers within its own bounds; this is the net below.
const REPLICA_LOST_MS: Millis = 30_000;
/// The one whose data is given up has connected by then.
pub(super) const CONNECT_AFTER_MS: Millis = 1_000;
/// Two that part again and again tell so in their logs no more often than this.
const CONNECT_AGAIN_MS: Millis = 10_000;

/// An operation that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReplicaOp {
    id: OpId,
    pub(super) verb: ReplicaVerb,
    deadline: Millis,
}

/// The replica of this node.
#[derive(Debug, Default)]
pub(super) struct Replica {
    pub(super) view: Option<ReplicaView>,
    /// The shell has told something, be it that there is nothing.
    pub(super) heard: bool,
    /// The promise found first in this life: a former one may have written under it.
    pub(super) first_fence: Option<Term>,
    /// The highest term under which this life has promoted.
    pub(super) used: Option<Term>,
    pub(super) op: Option<ReplicaOp>,
    retry_at: Millis,
    /// A device that stands alone tries to be connected again no sooner than this.
    pub(super) connect_at: Millis,
    /// The last refusal.
    pub(super) problem: Option<String>,
    /// `synced = {self}` was committed in this term by a request made after this loss.
    pub(super) proof: Option<(Term, u64)>,
    /// An operator has given up what only this disk has.
    pub(super) discard: bool,
    /// People know that the disk has failed and the peer cannot take the stack.
    pub(super) told_disk_lost: bool,
}

impl Replica {
    /// Its view, if it is Primary in this term.
    pub(super) fn primary_in(&self, term: Term) -> Option<&ReplicaView> {
        self.view.as_ref().filter(|v| v.primary && !v.deposed && v.term == Some(term))
    }

    pub(super) fn is_proved(&self, term: Term, loss: u64) -> bool {
        self.proof == Some((term, loss))
    }

    pub(super) fn is_proved_in(&self, term: Term) -> bool {
        self.proof.is_some_and(|(proved, _)| proved == term)
    }
}

impl Engine {
    pub(super) fn replica_changed(&mut self, view: Option<ReplicaView>, now: Millis) {
        self.replica.heard = true;
        if let Some(view) = &view
            && self.replica.first_fence.is_none()
        {
            self.replica.first_fence = Some(view.fence);
        }
        let state = |v: &Option<ReplicaView>| v.as_ref().map(|v| (v.primary, v.term));
        if state(&self.replica.view) != state(&view) {
            self.replica.retry_at = now;
        }
        self.replica.view = view;
        self.turn();
    }

    pub(super) fn begin_replica(&mut self, verb: ReplicaVerb, now: Millis, out: &mut Vec<Action>) {
        let id = self.op_id();
        self.replica.op = Some(ReplicaOp { id, verb, deadline: now + REPLICA_LOST_MS });
        out.push(Action::Replica { op: id, verb });
    }

    pub(super) fn replica_done(
        &mut self,
        op: OpId,
        result: Result<(), String>,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        let Some(done) = self.replica.op.take_if(|o| o.id == op) else { return };
        self.turn();
        match &result {
            Ok(()) => self.replica.problem = None,
            Err(why) => {
                self.replica.retry_at = now + RETRY_MS;
                self.replica.problem = Some(why.clone());
                log(out, LogLevel::Warn, format!("the replica refused to {}: {why}", verb_words(done.verb)));
            }
        }
        if let ReplicaVerb::Fence { term } = done.verb {
            self.promised(term, result, now);
        }
    }

    pub(super) fn expire_replica(&mut self, now: Millis, out: &mut Vec<Action>) {
        if let Some(op) = self.replica.op.as_ref().filter(|o| o.deadline <= now) {
            let id = op.id;
            self.replica_done(id, Err("no answer".to_owned()), now, out);
        }
    }

    pub(super) fn step_replica(&mut self, now: Millis, out: &mut Vec<Action>) {
        if self.replica.op.is_some() || self.replica.retry_at > now {
            return;
        }
        if self.replica.discard && self.phase == Phase::Idle && self.replica.view.is_some() {
            self.replica.discard = false;
            self.begin_replica(ReplicaVerb::Discard, now, out);
            return;
        }
        if let Some(verb) = self.reconnection(now) {
            self.replica.connect_at = now + CONNECT_AGAIN_MS;
            self.begin_replica(verb, now, out);
            return;
        }
        let Phase::Active { term } = self.phase else { return };
        let Some(view) = self.replica.view.as_ref().filter(|v| v.primary && !v.deposed) else { return };
        let alone = self.record().is_some_and(|r| r.synced == Nodes::only(self.me()));
        if !self.reigns(term) {
            return;
        }
        if view.term != Some(term) {
            // A new term of the same reign takes the place of the one it has.
            self.replica.used = Some(term);
            self.begin_replica(ReplicaVerb::Promote { term, alone, force: false }, now, out);
            return;
        }
        let loss = view.loss;
        if view.blocked && !view.alone && alone && self.replica.is_proved(term, loss) {
            self.begin_replica(ReplicaVerb::GoAlone { term, loss }, now, out);
        }
    }

    /// The record tells whose data counts, so nobody has to be asked after a split brain: who is not up to date by
    /// it, and was not overruled, gives up what only it has.
    fn reconnection(&self, now: Millis) -> Option<ReplicaVerb> {
        let record = self.record()?;
        let alone = self.replica.view.as_ref().is_some_and(|v| v.stands_alone);
        let asked = record.intent.maintenance || !record.intent.diverged.is_empty();
        if !alone || asked || self.replica.connect_at > now {
            return None;
        }
        match self.phase {
            Phase::Idle if record.primary == Some(self.other()) && !record.synced.contains(self.me()) => {
                Some(ReplicaVerb::Discard)
            }
            Phase::Idle | Phase::Active { .. } => Some(ReplicaVerb::Connect),
            _ => None,
        }
    }

    /// The next term of the running reign is committed.
    pub(super) fn raise_term(&mut self, term: Term) {
        let now = self.now;
        self.replica.used = Some(term);
        self.set_phase(Phase::Active { term }, now);
    }

    pub(super) fn replica_wake(&self) -> Option<Millis> {
        let (retry, connect) = (Some(self.replica.retry_at), Some(self.replica.connect_at));
        let lost = self.replica.op.as_ref().map(|o| o.deadline);
        [retry, connect, lost].into_iter().flatten().filter(|at| *at > self.now).min()
    }
}

fn verb_words(verb: ReplicaVerb) -> String {
    match verb {
        ReplicaVerb::Promote { term, .. } => format!("become Primary of term {}", term.0),
        ReplicaVerb::Demote => "become Secondary".to_owned(),
        ReplicaVerb::Fence { term } => format!("promise term {}", term.0),
        ReplicaVerb::GoAlone { loss, .. } => format!("go on alone after loss {loss}"),
        ReplicaVerb::Revoke => "take the device away".to_owned(),
        ReplicaVerb::Discard => "give up its data".to_owned(),
        ReplicaVerb::Connect => "connect".to_owned(),
    }
}
