//! An operator's word instead of a vote: `force-primary`, and, with a fence device, `confirm-off`.
//!
//! Rules: of two voters one suffices for it, so the order goes out from the own vote, also where the peer was never
//! heard and the record could not be read; it leaps beyond all that the peer may have recorded alone
//! ([`crate::record::leap_beyond`]), and it marks the peer's data as overruled. What may be lost is said before.

use super::desk::{Origin, failed, refused, unreachable};
use super::phase::Phase;
use super::proposal::{Proposal, Purpose};
use super::takeover::Stage;
use super::{Engine, log};
use crate::config::Quorum;
use crate::control::{Command, CommandError};
use crate::event::{Action, LogLevel};
use crate::member::Nodes;
use crate::record::{Record, leap_beyond};
use crate::store::{LeaseRule, Op, Outcome};
use crate::timing::Millis;

/// An order that the own vote suffices for.
#[derive(Clone, Debug)]
pub(super) struct Word {
    /// What the own vote says.
    own: Record,
    /// Where version and term leap to.
    pub(super) leap: u64,
}

impl Engine {
    /// One of two voters, and the other was not heard since this manager started: the record cannot be read.
    pub(super) fn is_unread_for_peer(&self, now: Millis) -> bool {
        let two = self.config.quorum.is_of_two();
        two && !self.ledger.read && self.ledger.majority.is_err() && self.peer_is_gone(now)
    }

    /// The primary by its own vote, of two voters, that cannot act without the other.
    fn is_stranded(&self, now: Millis) -> bool {
        let idle = self.phase == Phase::Idle && self.incumbent() && self.peer_is_gone(now);
        let unheard = idle && self.config.quorum.is_of_two() && self.ledger.majority.is_err();
        unheard || self.is_unread_for_peer(now)
    }

    /// What a stranded host waits for, and what to type.
    pub(super) fn stranded(&self, now: Millis) -> Option<String> {
        if !self.is_stranded(now) {
            return None;
        }
        let (me, peer) = (self.name(self.me()), self.name(self.other()));
        let silent = match self.peer.heard_at {
            None => "was not heard since the manager here started",
            Some(_) => "is silent",
        };
        if self.known_or_own(now).is_none() {
            return Some(format!(
                "{peer} {silent}, and {me} has no record of its own: no order helps, bring {peer} back"
            ));
        }
        Some(format!(
            "{peer} {silent} and may have gone on without {me}: bring it back, or make sure that it is off and type `futago cluster force-primary {me} --accept-loss` ({})",
            self.may_be_lost(now)
        ))
    }

    /// The record, or, where it cannot be read, what the own vote says.
    pub(super) fn known_or_own(&self, now: Millis) -> Option<&Record> {
        if self.is_unread_for_peer(now) { self.ledger.own.as_ref() } else { self.record() }
    }

    /// What this host lacks, as far as its own record tells.
    fn may_be_lost(&self, now: Millis) -> String {
        let (me, peer) = (self.name(self.me()), self.name(self.other()));
        let Some(record) = self.known_or_own(now) else { return format!("{me} has no record") };
        let by = format!("by its record of term {}", record.term.0);
        if record.primary == Some(self.me()) {
            format!(
                "{by} {me} has every acknowledged write, except what {peer} has acknowledged if it was made the primary since"
            )
        } else if record.synced.contains(self.me()) {
            format!("{by} {me} lacks only what {peer} has acknowledged alone since")
        } else {
            let kib = self.replica.view.as_ref().map_or(0, |v| v.out_of_sync_kib);
            format!(
                "{me} lacks whatever {peer} has acknowledged alone since it was last heard ({kib} KiB were known to differ)"
            )
        }
    }

    /// An order on a host that cannot read the record for want of its peer: there is only one that helps.
    pub(super) fn command_unread(
        &mut self,
        origin: Origin,
        command: Command,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        if matches!(command, Command::ForcePrimary { .. }) {
            return self.force_primary(origin, command, now, out);
        }
        let why = self.stranded(now).unwrap_or_default();
        self.reply(origin, Err(unreachable(format!("the record is not known: {why}"))), out);
    }

    pub(super) fn force_primary(
        &mut self,
        origin: Origin,
        order: Command,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        let Command::ForcePrimary { node, accept_loss } = order else { return };
        if node != self.me() {
            return self.pass_on(order, origin, now, out);
        }
        if let Err(error) = self.may_force_primary(accept_loss, now) {
            return self.reply(origin, Err(error), out);
        }
        self.begin_force(origin, now, out);
    }

    pub(super) fn may_force_primary(&self, accept: bool, now: Millis) -> Result<(), CommandError> {
        let (me, peer) = (self.name(self.me()), self.name(self.other()));
        let Some(record) = self.known_or_own(now) else {
            return Err(refused(self.stranded(now).unwrap_or_else(|| "there is no record yet".to_owned())));
        };
        let stranded = self.is_stranded(now);
        if record.primary == Some(self.me()) && !stranded {
            return Err(refused(format!("{} already", self.primary_sentence())));
        }
        // With two hosts and nothing else, or unheard, the peer may have gone on alone without being able to say so.
        let certain = self.config.quorum != Quorum::Manual && !stranded;
        if certain && record.synced.contains(self.me()) {
            return Err(refused(format!(
                "{me} has every acknowledged write, so nothing needs forcing: `futago cluster switchover --to {me}` while {peer} is alive; when it is dead {me} takes over by itself (`futago cluster why` tells what it waits for)"
            )));
        }
        if self.peer_is_there(now) {
            return Err(refused(format!(
                "{peer} is alive and has the newest data: stop its manager first if {me} shall really replace it"
            )));
        }
        self.force_is_possible(now)?;
        if !accept {
            return Err(refused(format!(
                "{}: these writes would be LOST, and the data of {peer} kept aside as diverged. If that is what you want: `futago cluster force-primary {me} --accept-loss`",
                self.may_be_lost(now)
            )));
        }
        Ok(())
    }

    fn force_is_possible(&self, now: Millis) -> Result<(), CommandError> {
        let (me, peer) = (self.name(self.me()), self.name(self.other()));
        let looked = self.units.iter().take(self.config.group.len()).all(|u| u.probed);
        let rests = self.phase == Phase::Idle || (self.is_unread_for_peer(now) && looked);
        let Some(view) = self.replica.view.as_ref().filter(|_| rests && self.replica.op.is_none()) else {
            return Err(failed(format!(
                "{me} is not ready: the replication daemon must be up and nothing under way"
            )));
        };
        if self.config.quorum.is_of_two() && view.connected && view.peer_primary {
            return Err(refused(format!("{peer} is alive: its device is Primary and connected")));
        }
        Ok(())
    }

    /// An operator's order to become primary.
    fn begin_force(&mut self, origin: Origin, now: Millis, out: &mut Vec<Action>) {
        self.bid.asking = None;
        self.bid.own = false;
        self.bid.force = Some(origin);
        self.bid.because = "an operator has ordered it and accepts that writes may be lost".to_owned();
        log(out, LogLevel::Warn, self.bid.because.clone());
        if self.config.quorum.is_of_two() {
            self.take_the_word(now, out);
        } else {
            self.promise(now, out);
        }
    }

    /// Nobody else is to be asked: the operator's word stands for the peer's vote and for its lease.
    pub(super) fn take_the_word(&mut self, now: Millis, out: &mut Vec<Action>) {
        self.turn();
        self.bid.stage = Stage::Consulting;
        self.bid.asking = Some(self.begin_store(Op::OwnVote, now, out));
    }

    pub(super) fn own_vote_told(
        &mut self,
        own: Option<Record>,
        highest: u64,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        let me = self.name(self.me());
        let Some(own) = own.filter(|_| self.replica.op.is_none() && self.is_at_rest()) else {
            let why = format!("{me} is not ready: its own vote must be there and nothing under way");
            return self.bid_refused(why, now + self.config.timing.renew_ms);
        };
        let known = self.record().map_or([0, 0], |r| [r.version.0, r.term.0]);
        let fence = self.replica.view.as_ref().map_or(0, |v| v.fence.0);
        let seen = [highest, own.version.0, own.term.0, fence].into_iter().chain(known);
        self.bid.word = Some(Word { leap: leap_beyond(self.me(), self.ordered_at, seen), own });
        self.promise(now, out);
    }

    /// Idle, or, for an order, still without the record.
    pub(super) fn is_at_rest(&self) -> bool {
        self.phase == Phase::Idle || (self.phase == Phase::Boot && self.bid.force.is_some())
    }

    /// The order, when its promise is durable. It comes before everything else, also before a doubt: by the own vote
    /// it is known what the doubt has come to.
    pub(super) fn ordered(&self) -> Option<Proposal> {
        let Word { own, leap } = self.bid.word.as_ref().filter(|_| self.bid.stage == Stage::Voting)?;
        let me = self.me();
        // What is known to be committed may be newer than the own vote.
        let known = self.record().filter(|known| known.version > own.version).unwrap_or(own);
        let (purpose, next) = match self.bid.force {
            Some(_) => (Purpose::Force, known.forced(me)),
            None => (Purpose::TakeOver, known.taken_over(me)),
        };
        let record = next.and_then(|next| next.leapt(*leap)).ok()?;
        Some(Proposal { purpose, expect: own.version, record, lease: LeaseRule::Forced })
    }

    /// What the own vote says, where the record cannot be read.
    pub(super) fn look_at_own_vote(&mut self, now: Millis, out: &mut Vec<Action>) {
        if self.config.quorum.is_of_two() && self.ledger.looking.is_none() && self.ledger.own.is_none() {
            self.ledger.looking = Some(self.begin_store(Op::OwnVote, now, out));
        }
    }

    pub(super) fn own_vote_seen(&mut self, outcome: Outcome) {
        self.turn();
        if let Outcome::OwnVote { record, .. } = outcome {
            self.ledger.own = record.filter(|r| r.primary.is_some() && r.synced != Nodes::NONE);
        }
    }
}
