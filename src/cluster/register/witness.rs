//! The witness: an acceptor without data, for one cluster. It never proposes.

use super::acceptor::{Acceptor, Saved};
use super::journal::Journal;
use super::{Effect, Event};
use crate::event::LogLevel;
use crate::message::Register;
use crate::timing::{Millis, Timing};

/// The vote of the witness in one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Witness {
    acceptor: Acceptor,
    journal: Journal,
    fresh: u64,
}

impl Witness {
    /// The hold that a witness assumes to have promised when its store does not say: the default profile's.
    const HOLD_MS: Millis = Timing::DEFAULT_MS / 2 + 1_200;

    /// With what it had stored. `fresh` is a random number: the identity of an empty store, and of one that
    /// turns out to have gone back in time.
    #[must_use]
    pub fn new(saved: Option<Saved>, fresh: u64, now: Millis) -> Self {
        Self { acceptor: Acceptor::new(saved, fresh, Self::HOLD_MS, now), journal: Journal::default(), fresh }
    }

    /// Takes an event. `Received` is from a data node; anything else is ignored.
    pub fn handle(&mut self, event: Event, now: Millis, out: &mut Vec<Effect<Saved>>) {
        match event {
            Event::Persisted { seq } => self.journal.persisted(seq),
            Event::Received { from, message: Register::Ask { request, known, ask } } => {
                let Some(node) = from.node() else { return };
                let went_back = self.acceptor.went_back(known, self.fresh);
                if went_back {
                    let text = "the witness's store is older than what a data node remembers of it (restored from \
                                a snapshot?): it votes again when both data nodes have admitted it";
                    out.push(Effect::Log { level: LogLevel::Warn, text: text.to_owned() });
                }
                let (reply, changed) = self.acceptor.answer(node, ask, now);
                let saved = self.acceptor.saved();
                if changed || went_back {
                    self.journal.persist(saved.clone(), out);
                }
                let (store, promised) = (saved.store, saved.promised);
                self.journal.answer(from, Register::Reply { request, store, promised, reply });
            }
            Event::Received { message: Register::Reply { .. }, .. } => {}
        }
        while let Some((to, message)) = self.journal.next() {
            out.push(Effect::Send { to, message });
        }
    }
}
