//! The bond to the cluster manager (`managed yes`): terms, the promise not to take part in older ones, and
//! whether writes may be answered without the peer. Protects the rules of docs/cluster.md on the record.
//!
//! - Promotion needs a term. The highest one promised is durable before it is answered or acted upon; nothing
//!   of an older term is taken part in, and a Primary that learns of a newer one is Primary no longer.
//! - Writes are answered when both nodes have them and the peer's disk is UpToDate (the peer is *whole*), or
//!   when the manager has said, for this very loss of the peer, that only this node is up to date (*alone*).
//!   Otherwise they wait, and no generation is begun that the record does not know of.
//! - Blocks are copied from the Primary only, and only once it is alone: no node that the record calls up to
//!   date is ever made Inconsistent.

use super::Resume;
use super::handshake::verdict;
use super::link::Phase;
use super::role::{Bid, RoleState};
use super::store::Job;
use super::{Engine, LogLevel, Then};
use crate::control::{Managed, Reason};
use crate::event::{Action, LinkId, Millis, Slot, Token};
use crate::generation::Decision;
use crate::message::Message;
use crate::state::{DiskState, ReplicationState, Role};

/// Milliseconds that a process which has ended may take to be replaced before the peer counts as lost: one that was
/// killed or exchanged is back after a third of a second, and the manager need not decide anything.
pub(super) const REPLACED_MS: Millis = 1000;

/// What stands between this node and its cluster manager.
#[derive(Debug)]
pub(super) struct Bond {
    /// Highest term promised, durable or just being stored.
    promised: u64,
    /// Highest term promised durably.
    durable: u64,
    /// The term under which this node is Primary, or just becomes it.
    term: Option<u64>,
    alone: bool,
    loss: u64,
    /// The peer was whole when last looked at.
    whole: bool,
    /// Answers were held back when last looked at.
    holds_back: bool,
    /// Until when a process that has ended, this one's predecessor or the peer's, may be replaced unnoticed.
    replaced_by: Option<Millis>,
    deposed: bool,
    /// Waiting for the end of a revocation.
    revoking: Vec<Token>,
    /// Confirmations for the peer that must not overtake the storing of its term.
    held: Vec<(LinkId, Message)>,
}

impl Bond {
    pub(super) fn new(fence: u64) -> Self {
        Self {
            promised: fence,
            durable: fence,
            term: None,
            alone: false,
            loss: 0,
            whole: true,
            holds_back: false,
            replaced_by: None,
            deposed: false,
            revoking: Vec::new(),
            held: Vec::new(),
        }
    }
}

impl Engine {
    pub(super) fn managed(&self) -> Option<Managed> {
        let bond = &self.bond;
        self.settings.managed.then(|| Managed {
            fence: bond.durable,
            term: bond.term,
            alone: bond.alone,
            loss: bond.loss,
            blocked: self.is_blocked() && !bond.whole,
            deposed: bond.deposed,
        })
    }

    /// Term, whether without the peer, and losses of the peer.
    pub(super) fn mandate(&self) -> (Option<u64>, bool, u64) {
        (self.bond.term, self.bond.alone, self.bond.loss)
    }

    /// The mandate of an earlier process.
    pub(super) fn take_over_mandate(&mut self, resume: Resume) {
        self.bond.term = resume.term;
        self.bond.alone = resume.alone;
        self.bond.loss = resume.loss;
        self.bond.replaced_by = Some(self.now + REPLACED_MS);
    }

    /// The connection was closed over there, without a word: perhaps only the process has ended.
    pub(super) fn expect_replacement(&mut self) {
        if self.role.has_requests() && self.bond.whole {
            self.bond.replaced_by.get_or_insert(self.now + REPLACED_MS);
        }
    }

    /// When the peer counts as lost, if it is not whole again by then.
    pub(super) fn replacement_due(&self) -> Option<Millis> {
        self.bond.replaced_by.filter(|_| self.is_blocked() && self.bond.whole)
    }

    /// The term in the header of what this node sends: its mandate.
    pub(super) fn wire_term(&self) -> u64 {
        self.bond.term.unwrap_or_default()
    }

    /// The peer is connected, UpToDate and gets every write.
    fn peer_is_whole(&self) -> bool {
        self.link.joined().is_some_and(|s| {
            s.mirrors && s.replication == ReplicationState::Established && s.peer_disk == DiskState::UpToDate
        })
    }

    /// Whether nothing may be answered without the peer.
    pub(super) fn needs_peer(&self) -> bool {
        self.settings.managed && !self.bond.alone
    }

    /// Whether applications wait for the peer or for the manager.
    pub(super) fn is_blocked(&self) -> bool {
        self.needs_peer() && self.role.has_requests() && !self.is_failed() && !self.peer_is_whole()
    }

    /// Notices that the peer was lost or is whole again.
    pub(super) fn advance_bond(&mut self) -> bool {
        if !self.settings.managed || !self.role.has_requests() || self.is_failed() {
            return false;
        }
        if self.is_blocked() && self.fail_blocked_leave() {
            return true;
        }
        let whole = self.peer_is_whole();
        if whole && std::mem::take(&mut self.bond.alone) {
            self.log(LogLevel::Info, "both nodes are up to date: both must have every write".to_owned());
        }
        // Also what was held back for a peer that was never counted as lost.
        let blocked = self.is_blocked();
        let released = std::mem::replace(&mut self.bond.holds_back, blocked) && !blocked;
        if released {
            self.answer_all();
        }
        if self.replacement_due().is_some_and(|due| self.now < due) {
            return released;
        }
        self.bond.replaced_by = None;
        let lost = std::mem::replace(&mut self.bond.whole, whole) && !whole;
        if lost && !self.bond.alone {
            self.bond.loss += 1;
            let (loss, peer) = (self.bond.loss, &self.settings.peer);
            let text = format!(
                "{peer} is not up to date (loss {loss}): writes wait until it is, or until the cluster manager has recorded that only this node is"
            );
            self.log(LogLevel::Warn, text);
        }
        released || lost
    }

    // ---- commands ----

    /// Checks the term of a promotion; a node that is Primary already takes over a higher one. True when the
    /// promotion shall go its way.
    pub(super) fn may_bid(&mut self, token: Token, bid: Bid) -> bool {
        let term = match (self.settings.managed, bid.term) {
            (false, None) => return true,
            (false, Some(_)) => {
                self.refuse_unmanaged(token);
                return false;
            }
            (true, None) => {
                let text = "a term is needed: move it with `futago cluster switchover`; if the cluster cannot decide any more, `futago cluster force-primary`";
                self.refuse_command(token, Reason::Managed, text);
                return false;
            }
            (true, Some(term)) => term,
        };
        if term < self.bond.promised || term == 0 {
            let text = format!("term {term} is over: term {} was promised", self.bond.promised);
            self.refuse_command(token, Reason::Fenced, &text);
            return false;
        }
        self.bond.deposed = false;
        if self.role == RoleState::Primary && self.bond.term != Some(term) {
            self.bond.promised = term;
            self.store_fence(term, Then::Renewed { token, term });
            return false;
        }
        true
    }

    pub(super) fn renewed(&mut self, token: Token, term: u64) {
        self.fence_raised(term);
        if self.role != RoleState::Primary {
            self.refuse_command(token, Reason::InTransition, "this node has ceased to be Primary meanwhile");
            return;
        }
        self.bond.term = self.bond.term.max(Some(term));
        self.announce();
        self.reply(token, Ok(()));
    }

    pub(super) fn refuse_unmanaged(&mut self, token: Token) {
        let text = "there is no cluster manager for it: the resource file says `managed no`";
        self.refuse_command(token, Reason::Managed, text);
    }

    pub(super) fn fence(&mut self, token: Token, term: u64) {
        if term <= self.bond.durable {
            self.reply(token, Ok(()));
            return;
        }
        self.bond.promised = self.bond.promised.max(term);
        let promised = self.bond.promised;
        let older = self.link.session().filter(|s| (1..promised).contains(&s.peer_term)).map(|s| s.peer_term);
        if let Some(older) = older {
            self.refuse_term(older);
        }
        self.store_fence(term, Then::FenceRaised { term, token: Some(token) });
    }

    fn store_fence(&mut self, term: u64, then: Then) {
        self.store.push(Job::new(then).superblock(move |s| s.fence = s.fence.max(term)));
    }

    /// The promise is durable: what waited for it may go.
    pub(super) fn fence_raised(&mut self, term: u64) {
        self.bond.durable = self.bond.durable.max(term);
        if self.bond.durable == self.bond.promised {
            for (link, message) in std::mem::take(&mut self.bond.held) {
                self.send(link, message);
            }
        }
    }

    pub(super) fn go_alone(&mut self, token: Token, term: u64, loss: u64) {
        let bond = &self.bond;
        let fits = self.role.has_requests() && bond.term == Some(term) && bond.loss == loss;
        if !fits {
            let now = bond.term.map_or_else(
                || "this node is not Primary".to_owned(),
                |now| format!("the term is {now}, and it is loss {}", bond.loss),
            );
            let text = format!("decided for term {term}, loss {loss}; now {now}");
            self.refuse_command(token, Reason::Stale, &text);
            return;
        }
        if !self.peer_is_whole() && !self.bond.alone {
            self.bond.alone = true;
            self.log(LogLevel::Warn, format!("goes on without {}: loss {loss}", self.settings.peer));
            self.blocked_go_alone();
        }
        self.reply(token, Ok(()));
    }

    // ---- the end of a mandate ----

    /// Takes the device's effect away, whatever is going on with it.
    pub(super) fn revoke(&mut self, token: Token) {
        if self.role == RoleState::Secondary {
            self.reply(token, Ok(()));
            return;
        }
        self.bond.revoking.push(token);
        self.end_mandate("role:Primary -> Secondary: revoked, requests fail");
    }

    fn end_mandate(&mut self, why: &str) {
        if let Some(token) = self.role.token() {
            self.refuse_command(token, Reason::Stopping, "the device was taken away meanwhile");
        }
        self.bond.alone = false;
        self.bond.term = None;
        if self.role == RoleState::Revoking {
            return;
        }
        self.log(LogLevel::Warn, why.to_owned());
        self.role = RoleState::Revoking;
        self.abandon_growth("the device was taken away");
        self.drop_pause(Reason::Stopping, "the device was taken away meanwhile");
        self.out.push(Action::AbortExport);
        self.fail_unanswered();
        self.hang_up("the device was taken away: compare again");
        if self.is_failed() {
            self.revoked();
            return;
        }
        let cold = self.activity.reset();
        self.store.push(Job::new(Then::Revoked).bitmap().superblock(|s| s.primary = false).activity(cold));
    }

    pub(super) fn revoked(&mut self) {
        if self.role != RoleState::Revoking {
            return;
        }
        self.role = RoleState::Secondary;
        for token in std::mem::take(&mut self.bond.revoking) {
            self.reply(token, Ok(()));
        }
    }

    /// The device is being given up in order while nothing can be answered: what is left fails, so that
    /// nobody waits for ever. True when something was done.
    fn fail_blocked_leave(&mut self) -> bool {
        match self.role {
            RoleState::Unexporting { .. } if self.has_unanswered() => self.fail_unanswered(),
            RoleState::Demoting { token, leave, flushing } if !flushing || self.has_unanswered() => {
                self.role = RoleState::Demoting { token, leave, flushing: true };
                self.fail_unanswered();
                self.demotion_flushed();
            }
            _ => return false,
        }
        true
    }

    /// No Primary any more, or not yet: a mandate is given with the next promotion.
    pub(super) fn lay_down_mandate(&mut self) {
        self.bond.term = None;
        self.bond.alone = false;
        self.bond.deposed = false;
    }

    // ---- promotion ----

    /// Takes a mandate, together with the promotion that is being stored; the fence to be stored with it.
    pub(super) fn take_mandate(&mut self, bid: Bid) -> u64 {
        self.bond.term = bid.term;
        self.bond.alone = bid.alone;
        self.bond.whole = true;
        self.bond.replaced_by = None;
        self.bond.promised = self.bond.promised.max(bid.term.unwrap_or_default());
        self.bond.promised
    }

    /// A newer term was promised since the promotion was asked for.
    pub(super) fn is_outbid(&self, bid: Bid) -> bool {
        self.settings.managed && bid.term.unwrap_or_default() < self.bond.promised
    }

    /// The record has ended the mandate of a peer that still takes itself for the Primary. True when it was so.
    pub(super) fn drop_old_primary(&mut self) -> bool {
        let primary =
            self.settings.managed && self.link.joined().is_some_and(|s| s.peer_role == Role::Primary);
        if primary {
            self.hang_up("the record has given the peer's place to this node");
        }
        primary
    }

    // ---- the peer's term ----

    /// Takes note of the term in a message's header. False when the message must not be looked at.
    pub(super) fn heed_term(
        &mut self,
        link: LinkId,
        term: u64,
        message: &Message,
        payload: Option<Slot>,
    ) -> bool {
        if !self.settings.managed {
            return true;
        }
        if let Some(session) = self.link.session_mut() {
            session.peer_term = term;
        }
        if (1..self.bond.promised).contains(&term) {
            self.release(payload);
            self.refuse_term(term);
            return false;
        }
        if term == 0 && message.changes_disk() {
            self.release(payload);
            self.unexpected(&format!("{} from a node that is not Primary", message.name()));
            return false;
        }
        if term > self.bond.promised {
            self.learn_term(term);
        }
        let stands = self.link.session().is_some_and(|s| s.id == link);
        if !stands {
            self.release(payload);
        }
        stands
    }

    fn learn_term(&mut self, term: u64) {
        self.bond.promised = term;
        self.store_fence(term, Then::FenceRaised { term, token: None });
        if self.bond.term.is_some_and(|own| own < term) {
            self.bond.deposed = true;
            self.end_mandate(&format!(
                "role:Primary -> Secondary: {} has term {term}, this node was deposed",
                self.settings.peer
            ));
        }
    }

    /// Says no to a peer of an older term, and closes: it comes back as Secondary, or with a newer term.
    fn refuse_term(&mut self, older: u64) {
        let promised = self.bond.promised;
        let text =
            format!("{} has term {older}, but term {promised} was promised: refused", self.settings.peer);
        if let Some(id) = self.link.session().map(|s| s.id) {
            self.send(id, Message::Fenced { term: promised });
        }
        self.log(LogLevel::Warn, text.clone());
        self.hang_up(&text);
        self.link.reason = Some(text);
    }

    /// The peer has promised a newer term than this node's.
    pub(super) fn fenced(&mut self, promised: u64) {
        let text = format!(
            "{} has promised term {promised} and does not take part in term {} of this node",
            self.settings.peer,
            self.wire_term()
        );
        self.log(LogLevel::Warn, text.clone());
        self.hang_up(&text);
        self.link.reason = Some(text);
    }

    /// Confirms something to the peer, not before its term is promised durably.
    pub(super) fn confirm(&mut self, link: LinkId, message: Message) {
        if self.bond.durable < self.bond.promised {
            self.bond.held.push((link, message));
        } else {
            self.send(link, message);
        }
    }

    // ---- the handshake ----

    /// Whether this side must not yet say what it has: a Primary without the right to go on alone first hears
    /// the peer, and if it would have to copy blocks to it, waits until the record no longer counts on the peer.
    pub(super) fn must_wait_for_grant(&mut self) -> bool {
        if !self.needs_peer() || !self.role.has_requests() {
            return false;
        }
        let Some(peer) =
            self.link.session().filter(|s| s.phase == Phase::Greeted).and_then(|s| s.early.clone())
        else {
            return true;
        };
        if !peer.reconnect {
            // It may have lost what it has confirmed and not flushed.
            self.mark_unanswered();
        }
        let waits =
            matches!(verdict(&self.settings, &self.own_state(), &peer).decision, Decision::Source { .. });
        if waits {
            self.bond.replaced_by = None;
        }
        if waits && self.link.reason.is_none() {
            let text = format!(
                "{} lacks data: waits until the cluster manager has recorded that only this node is up to date",
                self.settings.peer
            );
            self.link.reason = Some(text);
        }
        waits
    }

    /// Nothing is copied between two Secondaries: the record first names the one whose data counts.
    pub(super) fn waits_for_primary(&self, me: Role, peer: Role, decision: Decision) -> bool {
        let copies = matches!(decision, Decision::Source { .. } | Decision::Target { .. });
        self.settings.managed && copies && me != Role::Primary && peer != Role::Primary
    }
}
