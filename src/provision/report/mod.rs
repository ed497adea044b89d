//! What a run says: one stream of events, given to every place that shows or keeps them.
//!
//! The only way out once a run has begun: whatever leaves goes through [`Report::say`], where secrets are masked.
//! What is wrong before is masked by `Mask::problems`.

mod bars;
mod event;
mod forms;
mod human;
mod json;
mod kept;
mod log;
mod mask;
mod recap;
mod terminal;

use std::sync::{Mutex, PoisonError};

pub use event::{Event, HostRecap, Status, TaskDone, TaskTime, VERSION};
pub use human::Human;
pub use json::Json;
pub(crate) use kept::Kept;
pub use log::Log;
pub use mask::Mask;
pub(crate) use recap::{Ended, of_all as recap_of_all, worst};

/// A place that shows or keeps events.
pub trait Sink: Send {
    /// Takes one event. Failing to show something must not stop a run, so there is no error.
    fn event(&mut self, event: &Event);
}

/// All places of one run.
pub struct Report {
    sinks: Mutex<Vec<Box<dyn Sink>>>,
    mask: Mask,
}

impl Report {
    /// Shows to these; hides what the mask knows.
    #[must_use]
    pub fn new(sinks: Vec<Box<dyn Sink>>, mask: Mask) -> Self {
        Self { sinks: Mutex::new(sinks), mask }
    }

    /// Tells everyone.
    pub fn say(&self, event: Event) {
        let event = self.mask.event(event);
        // A sink that panicked has lost at most its own output.
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        sinks.iter_mut().for_each(|sink| sink.event(&event));
    }
}
