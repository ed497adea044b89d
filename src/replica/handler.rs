//! The scripts of an administrator that are called when something happens (section `handlers` of the resource file):
//! which there are. When one is owed is decided in `engine/script.rs`; the shell runs it.

use serde::{Deserialize, Serialize};

/// One of them; names and occasions are DRBD's (drbd.conf, section `handlers`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Handler {
    /// This disk is about to be the target of a resync: nothing was changed yet. It must end with 0.
    BeforeResyncTarget,
    /// The resync of this disk has ended: it is UpToDate.
    AfterResyncTarget,
    /// This disk is about to be the source of a resync. It must end with 0.
    BeforeResyncSource,
    /// A split brain was found; called before [`Handler::SplitBrain`].
    InitialSplitBrain,
    /// A split brain was found, and a person must decide.
    SplitBrain,
    /// A verify that was begun here has found differences.
    OutOfSync,
    /// The local disk has failed; only with `on-io-error call-local-io-error`.
    LocalIoError,
    /// The disk of this Primary has failed, and the peer's is not UpToDate either.
    PriOnInconDegr,
    /// The connection was lost, or the peer has left on purpose.
    Disconnected,
}

impl Handler {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::BeforeResyncTarget,
        Self::AfterResyncTarget,
        Self::BeforeResyncSource,
        Self::InitialSplitBrain,
        Self::SplitBrain,
        Self::OutOfSync,
        Self::LocalIoError,
        Self::PriOnInconDegr,
        Self::Disconnected,
    ];

    /// The word in the resource file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BeforeResyncTarget => "before-resync-target",
            Self::AfterResyncTarget => "after-resync-target",
            Self::BeforeResyncSource => "before-resync-source",
            Self::InitialSplitBrain => "initial-split-brain",
            Self::SplitBrain => "split-brain",
            Self::OutOfSync => "out-of-sync",
            Self::LocalIoError => "local-io-error",
            Self::PriOnInconDegr => "pri-on-incon-degr",
            Self::Disconnected => "disconnected",
        }
    }
}

/// Which ones a resource has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handlers(u32);

impl Handlers {
    /// Whether it has this one.
    #[must_use]
    pub fn has(self, handler: Handler) -> bool {
        self.0 & Self::bit(handler) != 0
    }

    fn bit(handler: Handler) -> u32 {
        Handler::ALL
            .iter()
            .zip(0u32..)
            .find_map(|(one, at)| (*one == handler).then_some(1 << at))
            .unwrap_or(0)
    }
}

impl FromIterator<Handler> for Handlers {
    fn from_iter<T: IntoIterator<Item = Handler>>(handlers: T) -> Self {
        Self(handlers.into_iter().fold(0, |all, handler| all | Self::bit(handler)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_has_what_it_was_given() {
        for given in Handler::ALL {
            let handlers: Handlers = [*given].into_iter().collect();
            assert!(Handler::ALL.iter().all(|one| handlers.has(*one) == (one == given)), "{given:?}");
        }
    }
}
