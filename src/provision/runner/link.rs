//! What the runner needs of a host: facts, and one step at a time. The SSH host is one, a scripted one in tests another.

use std::collections::BTreeSet;
use std::future::Future;

use crate::inventory::Member;
use crate::protocol::{Facts, Outcome, Owed, Progress, Step};

/// A host that could not be reached, or was lost on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// What was attempted, on what, and why it failed.
    pub message: String,
    /// It did not answer; otherwise it answered, but was not let in or did not let in.
    pub unreachable: bool,
}

/// A host that runs steps.
pub trait Host: Send + 'static {
    /// What the host is.
    fn facts(&self) -> &Facts;

    /// What earlier runs have left to do.
    fn owed(&self) -> &BTreeSet<Owed>;

    /// Keeps on the host that these handlers are owed, and no others.
    fn owe(&mut self, handlers: BTreeSet<Owed>) -> impl Future<Output = Result<Outcome, Lost>> + Send;

    /// Runs one step to its end.
    fn run(
        &mut self,
        step: &Step,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> impl Future<Output = Result<Outcome, Lost>> + Send;

    /// Says good-bye.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// Where hosts come from.
pub trait Connect: Send + Sync + 'static {
    /// What is connected to.
    type Host: Host;

    /// Connects to one host of the inventory.
    fn connect(&self, member: &Member) -> impl Future<Output = Result<Self::Host, Lost>> + Send;
}
