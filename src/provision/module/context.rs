//! What a module is given besides its arguments, and how it says what it did.

use serde_json::{Map, Value};

use crate::protocol::{Outcome, Progress};

/// The run of one module.
pub(crate) struct Context<'a> {
    /// Only find out what would change.
    pub(crate) check: bool,
    /// Describe the change.
    pub(crate) diff: bool,
    report: &'a mut dyn FnMut(Progress),
}

impl<'a> Context<'a> {
    pub(crate) fn new(check: bool, diff: bool, report: &'a mut dyn FnMut(Progress)) -> Self {
        Self { check, diff, report }
    }

    /// A sign of life of a long step.
    pub(crate) fn progress(&mut self, sign: Progress) {
        (self.report)(sign);
    }

    /// Something was changed, or would be: a sentence, and a line for each change.
    pub(crate) fn changed(&self, message: impl Into<String>, lines: &[String]) -> Outcome {
        let diff = (self.diff && !lines.is_empty()).then(|| lines.join("\n"));
        Outcome { changed: true, message: message.into(), diff, ..Outcome::default() }
    }

    /// Everything is as asked.
    pub(crate) fn same(message: impl Into<String>) -> Outcome {
        Outcome { message: message.into(), ..Outcome::default() }
    }

    /// It depends on steps that have not really been done.
    pub(crate) fn unknown(message: impl Into<String>) -> Outcome {
        Outcome { unknown: true, message: message.into(), ..Outcome::default() }
    }
}

/// Results for `register`.
pub(crate) fn with_data<const N: usize>(outcome: Outcome, data: [(&str, Value); N]) -> Outcome {
    let data: Map<String, Value> = data.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Outcome { data, ..outcome }
}
