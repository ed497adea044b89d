//! The bundled store in the world of the conformance tests.

use cluster::config::Quorum;
use cluster::member::Node;
use cluster::message::Register;
use cluster::register::{Bundled, Effect, Event, Saved, SavedVote, Witness};
use cluster::timing::{Millis, Timing};

use crate::world::{Did, Family, Incoming};

#[derive(Clone, Copy)]
pub(crate) struct OfBundled {
    pub(crate) quorum: Quorum,
}

/// What either kind of member stores.
#[derive(Clone, Debug)]
pub(crate) enum Disk {
    Data(Saved),
    Witness(SavedVote),
}

pub(crate) fn timing() -> Timing {
    Timing::derive(Timing::DEFAULT_MS, 600_000).unwrap()
}

impl Family for OfBundled {
    type Store = Bundled;
    type Other = Witness;
    type Message = Register;
    type Saved = Disk;

    fn store(&self, node: Node, saved: Option<Disk>, fresh: u64, now: Millis) -> Bundled {
        let saved = saved.and_then(|saved| match saved {
            Disk::Data(saved) => Some(saved),
            Disk::Witness(_) => None,
        });
        Bundled::new(node, self.quorum, timing(), saved, fresh, now)
    }

    fn other(&self, saved: Option<Disk>, fresh: u64, now: Millis) -> Option<Witness> {
        let saved = saved.and_then(|saved| match saved {
            Disk::Witness(saved) => Some(saved),
            Disk::Data(_) => None,
        });
        (self.quorum == Quorum::Witness).then(|| Witness::new(saved, fresh, now))
    }

    fn other_handles(
        other: &mut Witness,
        incoming: Incoming<Register>,
        now: Millis,
    ) -> Vec<Did<Register, Disk>> {
        let mut out = Vec::new();
        other.handle(event(incoming), now, &mut out);
        out.into_iter().map(|effect| did(effect, Disk::Witness)).collect()
    }

    fn event(incoming: Incoming<Register>) -> Option<Event> {
        Some(event(incoming))
    }

    fn did(effect: Effect) -> Did<Register, Disk> {
        did(effect, Disk::Data)
    }
}

fn event(incoming: Incoming<Register>) -> Event {
    match incoming {
        Incoming::Message { from, message } => Event::Received { from, message },
        Incoming::Persisted { seq } => Event::Persisted { seq },
    }
}

fn did<S>(effect: Effect<S>, disk: impl Fn(S) -> Disk) -> Did<Register, Disk> {
    match effect {
        Effect::Send { to, message } => Did::Send { to, message },
        Effect::Persist { seq, saved } => Did::Persist { seq, saved: disk(saved) },
        Effect::Done { id, outcome } => Did::Done { id, outcome },
        Effect::Log { .. } => Did::Nothing,
    }
}
