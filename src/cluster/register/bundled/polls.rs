//! Questions that change no record, asked by a data node: renewals, releases, pre-votes.
//!
//! The rule protected: a lease counts only by the votes of those whom the committed record admits; a store that
//! has not seen the record of that term reads it first.

use super::{Bundled, PENDING_MAX};
use crate::member::Voter;
use crate::message::Reply;
use crate::register::Effect;
use crate::register::poll::{self, Poll, Question};
use crate::register::proposer::{Job, Reach, Round};
use crate::register::quorum::ENOUGH;
use crate::store::{LeaseRule, Outcome, RequestId};
use crate::timing::Millis;

impl Bundled {
    pub(super) fn poll_reply(
        &mut self,
        index: usize,
        from: Voter,
        store: u64,
        reply: Reply,
        now: Millis,
        out: &mut Vec<Effect>,
    ) {
        let (lone, electorate) = (self.lone(LeaseRule::Whatever, None), self.electorate);
        let Some((poll, _)) = self.polls.get_mut(index) else { return };
        match poll.reply(from, store, reply, electorate, self.committed.as_ref(), lone) {
            poll::Next::Wait => self.learn_for_lease(index, now, out),
            poll::Next::Done(outcome) => {
                let (poll, _) = self.polls.swap_remove(index);
                out.push(Effect::Done { id: poll.id, outcome });
                if matches!(poll.question, Question::Renew { .. }) {
                    self.exchange_witness(now, out);
                }
            }
            poll::Next::Settle => {
                let (poll, _) = self.polls.swap_remove(index);
                self.enqueue(Round::new(Some(poll.id), Job::Settle, now, poll.deadline), now, out);
            }
        }
    }

    /// Enough voters have extended a lease under a term that this store has not seen committed: which witness
    /// counts is in the record, so it is read.
    fn learn_for_lease(&mut self, index: usize, now: Millis, out: &mut Vec<Effect>) {
        let Some((poll, _)) = self.polls.get(index) else { return };
        let Question::Renew { term, .. } = poll.question else { return };
        let unknown = self.committed.as_ref().is_none_or(|record| record.term < term);
        if unknown && poll.agreed.len() >= ENOUGH && self.round.is_none() {
            self.enqueue(Round::new(None, Job::Read, now, poll.deadline), now, out);
        }
    }

    /// A lease for which only the record was missing.
    pub(super) fn settle_leases(&mut self, out: &mut Vec<Effect>) {
        let lone = self.lone(LeaseRule::Whatever, None);
        for (poll, asked) in std::mem::take(&mut self.polls) {
            let renews = matches!(poll.question, Question::Renew { .. });
            if renews && self.electorate.leases(&poll.agreed, self.committed.as_ref(), lone) {
                let outcome = Outcome::Renewed { sent_at: poll.sent_at };
                out.push(Effect::Done { id: poll.id, outcome });
            } else {
                self.polls.push((poll, asked));
            }
        }
    }

    pub(super) fn ask_all(&mut self, id: RequestId, question: Question, now: Millis, out: &mut Vec<Effect>) {
        let poll = Poll::new(id, question, now, now.saturating_add(self.timing.store_timeout_ms));
        if self.polls.len() >= PENDING_MAX {
            out.push(Effect::Done { id, outcome: poll.out_of_time() });
            return;
        }
        let asked = self.ask(&question.ask(), Reach::All, now, out);
        self.polls.push((poll, asked));
    }

    pub(super) fn tick_polls(&mut self, now: Millis, out: &mut Vec<Effect>) {
        for (poll, asked) in std::mem::take(&mut self.polls) {
            if poll.deadline <= now {
                out.push(Effect::Done { id: poll.id, outcome: poll.out_of_time() });
                if matches!(poll.question, Question::Renew { .. }) {
                    self.exchange_witness(now, out);
                }
            } else if asked.repeat_at <= now {
                let asked = self.repeat(asked, &poll.question.ask(), |voter| poll.answered(voter), now, out);
                self.polls.push((poll, asked));
            } else {
                self.polls.push((poll, asked));
            }
        }
    }
}
