//! Becoming the primary by a bid: instead of a dead peer, after a life of one's own that is over, or by an
//! operator's order.
//!
//! Rules: only a node that holds every acknowledged write bids (or one that an operator has ordered); a pre-vote
//! comes first, so that a healthy primary is never disturbed; then the promise to take part in no older term is
//! made durable; only then comes the swap, which the voters grant only when the incumbent's lease has run out.
//! The wait for that end is exact: nothing polls.

use super::desk::Origin;
use super::force::Word;
use super::ledger::{Pending, Swap};
use super::phase::Phase;
use super::proposal::Purpose;
use super::{Engine, alert};
use crate::config::Quorum;
use crate::event::{Action, LogLevel, OpId, ReplicaVerb};
use crate::member::Voter;
use crate::record::Term;
use crate::store::{Op, Outcome};
use crate::timing::{Millis, Timing};

/// A fence device has its own timeout, told in the configuration of the shell; this is the net below.
const FENCE_LOST_MS: Millis = 300_000;
/// After a failed fencing the device is asked again no sooner than this: power switches are slow and lock up.
const FENCE_AGAIN_MS: Millis = 30_000;
/// A peer that is heard, is the primary by the record, and does not act for this many grant holds is stuck.
const STUCK_HOLDS: Millis = 3;

/// Where a bid is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No bid.
    Rest,
    /// The peer is being switched off.
    Shooting,
    /// The store is told that it is off.
    Noting,
    /// The pre-vote.
    Asking,
    /// The own vote is looked at: an operator's word stands for the other.
    Consulting,
    /// The promise is being made durable.
    Promising,
    /// The swap is wanted, or under way.
    Voting,
}

/// A bid for the next term.
#[derive(Debug)]
pub(super) struct Bid {
    pub(super) stage: Stage,
    pub(super) asking: Option<Pending>,
    shot: Option<(OpId, Millis)>,
    rest_until: Millis,
    /// The term that is bid for.
    pub(super) target: Term,
    /// It follows a reign of this node itself.
    pub(super) own: bool,
    pub(super) force: Option<Origin>,
    /// An operator's word stands for the vote of the peer.
    pub(super) word: Option<Word>,
    pub(super) because: String,
    /// Why the last one came to nothing.
    pub(super) refusal: Option<String>,
    /// A pre-vote whose answer leads to nothing.
    pub(super) probing: Option<Pending>,
    probe_at: Millis,
}

impl Bid {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Rest,
            asking: None,
            shot: None,
            rest_until: 0,
            target: Term(0),
            own: false,
            force: None,
            word: None,
            because: String::new(),
            refusal: None,
            probing: None,
            probe_at: 0,
        }
    }
}

impl Engine {
    pub(super) fn step_bid(&mut self, now: Millis, out: &mut Vec<Action>) {
        if let Some((op, deadline)) = self.bid.shot
            && deadline <= now
        {
            self.fence_done(op, Err("no answer".to_owned()), now, out);
        }
        self.step_fence_for_degrade(now, out);
        self.step_probe(now, out);
        match self.bid.stage {
            Stage::Rest => {
                if self.bid.rest_until <= now && self.bid.shot.is_none() && self.may_bid(now).is_ok() {
                    self.begin_bid(now, out);
                }
            }
            Stage::Promising | Stage::Voting => {
                let passed = self.term() >= self.bid.target;
                let moved = !self.is_at_rest();
                if self.ledger.swap.is_none() && (passed || moved) {
                    self.bid_rests(now);
                }
            }
            Stage::Shooting | Stage::Noting | Stage::Asking | Stage::Consulting => {}
        }
    }

    /// A standby has no renewals by which it would notice that the witness is gone.
    fn step_probe(&mut self, now: Millis, out: &mut Vec<Action>) {
        let standby = self.phase == Phase::Idle && self.record().is_some() && !self.incumbent();
        if standby
            && matches!(self.config.quorum, Quorum::Witness | Quorum::Etcd)
            && self.bid.probing.is_none()
            && self.bid.probe_at <= now
        {
            self.bid.probe_at = now + Timing::PROBE_MS;
            self.bid.probing = Some(self.begin_store(Op::PreVote, now, out));
        }
    }

    /// Whether this standby may take over now; if not, why not.
    pub(super) fn may_bid(&self, now: Millis) -> Result<(), String> {
        let (me, peer) = (self.name(self.me()), self.name(self.other()));
        let Some(record) = self.record().filter(|r| r.primary == Some(self.other())) else {
            return Err(format!("{peer} is not the primary"));
        };
        if self.phase != Phase::Idle || self.ending.is_some() {
            return Err(format!("{me} is busy with something else"));
        }
        if record.intent.diverged.contains(self.me()) {
            return Err(format!("the data of {me} has been overruled by an operator"));
        }
        if !record.synced.contains(self.me()) {
            return Err(format!(
                "{me} may lack acknowledged writes: only {peer} is up to date by the record"
            ));
        }
        if record.intent.standby.contains(self.me()) {
            return Err(format!("{me} is in standby (`futago cluster online {me}`)"));
        }
        if let Some(reason) = &record.intent.hold {
            return Err(format!("automatic failover is on hold: {reason} (`futago cluster resume`)"));
        }
        if record.intent.maintenance {
            return Err("the cluster is in maintenance (`futago cluster maintenance off`)".to_owned());
        }
        self.fit_here()?;
        self.complete_here()?;
        if !self.health.state_writable {
            return Err(format!("the manager on {me} cannot store its state"));
        }
        if !self.group_is_down() {
            return Err(format!("something of the group still runs on {me}"));
        }
        self.peer_needs_replacing(now)?;
        if self.config.quorum == Quorum::Manual {
            return Err(format!(
                "without a witness or a fence device nobody can tell whether {peer} is off or what it has acknowledged alone: bring it back, or make sure that it is off and type `futago cluster force-primary {me} --accept-loss`"
            ));
        }
        if self.replica.op.is_some() || self.ledger.swap.is_some() || self.ledger.doubt.is_some() {
            return Err("an earlier step is still under way".to_owned());
        }
        Ok(())
    }

    fn peer_needs_replacing(&self, now: Millis) -> Result<(), String> {
        let peer = self.name(self.other());
        let stuck_after = STUCK_HOLDS * self.config.timing.grant_hold_ms;
        let stuck = self.peer.idle_since.is_some_and(|since| since + stuck_after <= now);
        if !self.peer_is_gone(now) && !stuck {
            return Err(format!("{peer} is the primary and alive"));
        }
        // The incumbent's shot comes first: whoever fires second is off already.
        let patience = self.config.timing.grant_hold_ms + self.config.timing.peer_silence_ms;
        if self.config.quorum == Quorum::Fencing && !self.peer.off && self.peer.quiet_since + patience > now {
            return Err(format!("{peer} is silent; the fence device is asked in a moment"));
        }
        if self.config.quorum == Quorum::Fencing && !self.peer.off && self.peer.heard_at.is_none() {
            return Err(format!(
                "{peer} was never heard since the manager here started: it may be the better one and is not fenced (make sure that it is off, then type `futago cluster confirm-off {peer}`)"
            ));
        }
        Ok(())
    }

    fn begin_bid(&mut self, now: Millis, out: &mut Vec<Action>) {
        self.turn();
        let peer = self.name(self.other()).to_owned();
        self.bid.own = false;
        self.bid.because = if self.peer.goodbye {
            format!("{peer} said goodbye")
        } else if self.peer_is_gone(now) {
            format!("{peer} is silent")
        } else {
            format!("{peer} is the primary and does not act")
        };
        if self.operator_decides() {
            self.take_the_word(now, out);
        } else if self.config.quorum == Quorum::Fencing && !self.peer.off {
            self.bid.stage = Stage::Shooting;
            self.shoot(now, out);
        } else if self.config.quorum == Quorum::Fencing {
            self.bid.stage = Stage::Noting;
            self.bid.asking = Some(self.begin_store(Op::PeerFenced, now, out));
        } else {
            self.bid.stage = Stage::Asking;
            self.bid.asking = Some(self.begin_store(Op::PreVote, now, out));
        }
    }

    /// An operator has confirmed that the peer is off: where a fence device should have seen it.
    fn operator_decides(&self) -> bool {
        self.config.quorum == Quorum::Fencing && self.peer.confirmed
    }

    fn shoot(&mut self, now: Millis, out: &mut Vec<Action>) {
        let op = self.op_id();
        self.bid.shot = Some((op, now + FENCE_LOST_MS));
        let target = self.other();
        alert(out, LogLevel::Warn, "fencing", format!("{} is being switched off", self.name(target)));
        out.push(Action::Fence { op, target });
    }

    /// A primary that has lost its peer, and whose vote for going on alone is missing.
    fn step_fence_for_degrade(&mut self, now: Millis, out: &mut Vec<Action>) {
        let two = self.config.quorum == Quorum::Fencing;
        let Phase::Active { term } = self.phase else { return };
        let blocked = self.replica.primary_in(term).is_some_and(|v| v.blocked);
        let idle = self.bid.stage == Stage::Rest && self.bid.shot.is_none() && self.bid.asking.is_none();
        if !two || !blocked || !idle || self.ledger.majority.is_ok() || self.bid.rest_until > now {
            return;
        }
        if self.peer.off {
            self.bid.rest_until = now + self.config.timing.renew_ms;
            self.bid.stage = Stage::Noting;
            self.bid.asking = Some(self.begin_store(Op::PeerFenced, now, out));
            self.turn();
        } else if self.peer_is_gone(now) && self.peer.heard_at.is_some() && !self.maintenance() {
            self.bid.stage = Stage::Shooting;
            self.shoot(now, out);
        }
    }

    pub(super) fn fence_done(
        &mut self,
        op: OpId,
        result: Result<(), String>,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        if self.bid.shot.is_none_or(|(id, _)| id != op) {
            return;
        }
        self.bid.shot = None;
        self.turn();
        let peer = self.name(self.other()).to_owned();
        match result {
            Ok(()) => {
                alert(out, LogLevel::Warn, "fencing", format!("{peer} is off"));
                self.peer.off = true;
                self.bid.stage = Stage::Noting;
                self.bid.asking = Some(self.begin_store(Op::PeerFenced, now, out));
            }
            Err(why) => {
                let text = format!(
                    "{peer} could not be switched off: {why}; make sure that it is off, then type `futago cluster confirm-off {peer}`"
                );
                alert(out, LogLevel::Error, "held", text.clone());
                self.bid_refused(text, now + FENCE_AGAIN_MS);
            }
        }
    }

    /// The answer to the pre-vote, or to the note that the peer is off.
    pub(super) fn bid_answered(&mut self, outcome: Outcome, now: Millis, out: &mut Vec<Action>) {
        self.turn();
        let active = matches!(self.phase, Phase::Active { .. });
        match (self.bid.stage, outcome) {
            (Stage::Noting, Outcome::Fenced) if active => {
                // The vote that was missing is there: the degradation is proposed at once, and this is not noted
                // again until it had its time.
                self.ledger.pause_until = now;
                self.bid_rests(now);
                self.bid.rest_until = now + self.config.timing.renew_ms;
            }
            (Stage::Noting, Outcome::Fenced) => {
                self.bid.stage = Stage::Asking;
                self.bid.asking = Some(self.begin_store(Op::PreVote, now, out));
            }
            (Stage::Noting, Outcome::NotMet) => {
                let peer = self.name(self.other());
                let text = format!(
                    "{peer} was not heard since the manager here started: this host may be the older one, so switching {peer} off does not decide"
                );
                self.bid_refused(text, now + FENCE_AGAIN_MS);
            }
            (Stage::Consulting, Outcome::OwnVote { record, highest }) => {
                self.own_vote_told(record, highest, now, out);
            }
            (Stage::Asking, Outcome::WouldGrant(record)) => {
                self.ledger.majority = Ok(());
                self.learn(record, now, out);
                // Ready until the answer came; the newest record is known now: everything is asked again.
                self.bid.stage = Stage::Rest;
                match self.may_bid(now) {
                    Ok(()) => self.promise(now, out),
                    Err(why) => self.bid_refused(why, now),
                }
            }
            (_, Outcome::Leased { by, left_ms }) => {
                self.ledger.majority = Ok(());
                self.bid_leased(by, left_ms, now);
            }
            (_, other) => {
                self.note_majority(&other);
                let heard = self.heard_sentence();
                self.bid_refused(
                    format!("too few voters answer ({heard})"),
                    now + self.config.timing.renew_ms,
                );
            }
        }
    }

    pub(super) fn heard_sentence(&self) -> String {
        let Err(heard) = &self.ledger.majority else { return "a majority answers".to_owned() };
        if self.config.quorum == Quorum::Etcd {
            return "etcd did not answer".to_owned();
        }
        let names: Vec<&str> =
            heard.iter().map(|v| v.node().map_or("the witness", |n| self.name(n))).collect();
        if names.is_empty() {
            "nobody answered".to_owned()
        } else {
            format!("only {} answered", names.join(" and "))
        }
    }

    /// The promise comes before the vote: a node that is still willing to help the old term must not end it.
    pub(super) fn promise(&mut self, now: Millis, out: &mut Vec<Action>) {
        let promised = self.replica.view.as_ref().map_or(Term(0), |v| v.fence);
        let next = Term(self.term().0.saturating_add(1)).max(promised);
        let target = self.bid.word.as_ref().map_or(next, |word| Term(word.leap));
        self.bid.target = target;
        self.bid.stage = Stage::Promising;
        self.begin_replica(ReplicaVerb::Fence { term: target }, now, out);
    }

    pub(super) fn promised(&mut self, term: Term, result: Result<(), String>, now: Millis) {
        if self.bid.stage != Stage::Promising || term != self.bid.target {
            return;
        }
        self.turn();
        match result {
            Ok(()) if self.is_at_rest() => self.bid.stage = Stage::Voting,
            Ok(()) => self.bid_rests(now),
            Err(why) => self.bid_refused(
                format!("the replication daemon cannot promise term {}: {why}", term.0),
                now + self.config.timing.renew_ms,
            ),
        }
    }

    /// A primary whose former life is over begins a new reign.
    pub(super) fn begin_reign(&mut self, now: Millis, out: &mut Vec<Action>) {
        let free = self.bid.stage == Stage::Rest && self.bid.rest_until <= now;
        if !free || self.replica.op.is_some() || self.ledger.swap.is_some() || self.ledger.doubt.is_some() {
            return;
        }
        self.bid.own = true;
        self.bid.because = "it was the last primary and begins anew".to_owned();
        if self.operator_decides() {
            self.take_the_word(now, out);
        } else {
            self.promise(now, out);
        }
    }

    pub(super) fn bid_won(&mut self) {
        self.bid.stage = Stage::Rest;
        self.bid.word = None;
        self.bid.refusal = None;
    }

    /// Not of an earlier one that an operator's order has taken the place of.
    pub(super) fn is_of_this_bid(&self, swap: &Swap) -> bool {
        match swap.purpose {
            Purpose::Force => true,
            Purpose::TakeOver => self.bid.force.is_none(),
            _ => false,
        }
    }

    pub(super) fn bid_lost_the_vote(&mut self, swap: &Swap, now: Millis) {
        if self.is_of_this_bid(swap) {
            let why = format!("the vote was lost: {}", self.heard_sentence());
            self.bid_refused(why, now + self.config.timing.renew_ms);
        }
    }

    /// The votes that were heard do not tell whether the record names this host now: the next answers will. Who has
    /// ordered it must not think that nothing happened.
    pub(super) fn bid_in_doubt(&mut self, swap: &Swap, now: Millis) {
        if self.is_of_this_bid(swap) {
            let (me, heard) = (self.name(self.me()), self.heard_sentence());
            let why = format!(
                "it is not known whether {me} has become the primary ({heard}): that can still come true as soon as more voters answer; `futago cluster status` tells"
            );
            self.bid_refused(why, now + self.config.timing.renew_ms);
        }
    }

    /// The incumbent's lease still runs: the very moment of its end is worth the next try.
    pub(super) fn bid_leased(&mut self, by: Voter, left_ms: Millis, now: Millis) {
        let peer = self.name(self.other());
        if self.config.quorum == Quorum::Etcd {
            // It only says that the lease is there, so it is asked again and again.
            let why = format!("the lease of {peer} runs for at most another {left_ms} ms in etcd");
            return self.bid_refused(why, now + left_ms.min(self.config.timing.renew_ms).max(1));
        }
        let who = by.node().map_or("the witness", |n| self.name(n));
        let why = format!("the lease of {peer} runs for another {left_ms} ms at {who}");
        self.bid_refused(why, now + left_ms.max(1));
    }

    pub(super) fn bid_refused(&mut self, why: String, until: Millis) {
        self.turn();
        if let Some(origin) = self.bid.force.take() {
            self.desk.late.push((origin, Err(super::desk::failed(why.clone()))));
        }
        self.bid.word = None;
        self.bid.refusal = Some(why);
        self.bid.stage = Stage::Rest;
        self.bid.rest_until = until;
    }

    /// Something has changed that the last refusal rested on.
    pub(super) fn bid_again(&mut self, now: Millis) {
        self.turn();
        self.bid.rest_until = now;
    }

    fn bid_rests(&mut self, now: Millis) {
        self.turn();
        if let Some(origin) = self.bid.force.take() {
            let text = format!("{} meanwhile", self.primary_sentence());
            self.desk.late.push((origin, Err(super::desk::failed(text))));
        }
        self.bid.word = None;
        self.bid.stage = Stage::Rest;
        self.bid.rest_until = now;
    }

    pub(super) fn bid_wake(&self, now: Millis) -> Option<Millis> {
        let shot = self.bid.shot.map(|(_, deadline)| deadline);
        let rest = (self.bid.stage == Stage::Rest).then_some(self.bid.rest_until);
        let stuck = self.peer.idle_since.map(|s| s + STUCK_HOLDS * self.config.timing.grant_hold_ms);
        let patience =
            self.peer.quiet_since + self.config.timing.grant_hold_ms + self.config.timing.peer_silence_ms;
        [shot, rest, stuck, Some(patience), Some(self.bid.probe_at)]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min()
    }
}
