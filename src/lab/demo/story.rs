//! What a story is made of. Each step shows something and proves it, or fails.

use crate::drill::{self, Record};
use crate::stack::Stack;
use crate::stage::Stage;

/// What the steps hand on to each other.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) stage: Stage,
    /// What runs on the pair.
    pub(super) stack: Option<Stack>,
    /// The time stamp that must have reached the other host.
    pub(super) stamp: String,
    /// The checksum of what must have reached the other host.
    pub(super) checksum: String,
    /// What the step that is told has shown, for the report.
    pub(super) shown: Option<String>,
    /// What the faults have cost; none without a stack, where nobody is served.
    pub(super) record: Option<Record>,
}

impl Story {
    pub(super) fn on(stage: Stage, stack: Option<Stack>) -> anyhow::Result<Self> {
        let record = stack.map(drill::begin_record).transpose()?;
        Ok(Self { stage, stack, stamp: String::new(), checksum: String::new(), shown: None, record })
    }
}

/// A step: what it shows, and how.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) perform: fn(&mut Story) -> anyhow::Result<()>,
}

pub(super) const fn step(name: &'static str, perform: fn(&mut Story) -> anyhow::Result<()>) -> Step {
    Step { name, perform }
}
