//! The end of a run, kept for a recap over several.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Event, Sink};

/// Keeps the last event of a run.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Option<Event>>>);

impl Kept {
    /// The end, when it was reached.
    pub(crate) fn last(&self) -> Option<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Sink for Kept {
    fn event(&mut self, event: &Event) {
        if matches!(event, Event::RunFinished { .. }) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(event.clone());
        }
    }
}
