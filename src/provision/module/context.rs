//! What a module is given besides its arguments, and how it says what it did.

use std::time::Duration;

use serde_json::{Map, Value};

use super::planned::Planned;
use crate::protocol::{Outcome, Progress};

/// The run of one module.
pub(crate) struct Context<'a> {
    /// Only find out what would change.
    pub(crate) check: bool,
    /// Describe the change.
    pub(crate) diff: bool,
    report: &'a mut dyn FnMut(Progress),
    /// Has the controller try a new connection; none where there is no controller.
    pub(crate) reached: Option<&'a mut dyn FnMut(Duration) -> bool>,
    /// What earlier steps of the same plan would have brought.
    pub(crate) planned: Planned,
}

impl<'a> Context<'a> {
    pub(crate) fn new(check: bool, diff: bool, report: &'a mut dyn FnMut(Progress)) -> Self {
        Self { check, diff, report, reached: None, planned: Planned::default() }
    }

    /// A sign of life of a long step.
    pub(crate) fn progress(&mut self, sign: Progress) {
        (self.report)(sign);
    }

    /// Whether the controller still gets here by a new connection, asked within a step.
    pub(crate) fn is_reached(&mut self, within: Duration) -> bool {
        self.reached.as_mut().is_none_or(|reached| reached(within))
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

/// The parts of a step as one outcome: it tells what changed, or, when nothing did, what is as asked.
pub(crate) fn joined(parts: Vec<Outcome>) -> Outcome {
    let changed = parts.iter().any(|part| part.changed);
    let unknown = parts.iter().any(|part| part.unknown);
    let told = parts.iter().filter(|part| part.changed == changed || part.unknown);
    let message = told.map(|part| part.message.as_str()).collect::<Vec<_>>().join("; ");
    let diffs: Vec<&str> = parts.iter().filter_map(|part| part.diff.as_deref()).collect();
    let diff = (!diffs.is_empty()).then(|| diffs.join("\n"));
    Outcome { changed, unknown, message, diff, ..Outcome::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_step_tell_what_changed_or_else_what_is_as_asked() {
        let part = |changed, message: &str, diff: Option<&str>| Outcome {
            changed,
            message: message.into(),
            diff: diff.map(str::to_owned),
            ..Outcome::default()
        };
        let mixed = joined(vec![part(false, "a is", None), part(true, "b set", Some("+ b"))]);
        assert_eq!((mixed.changed, &*mixed.message, mixed.diff.as_deref()), (true, "b set", Some("+ b")));
        let same = joined(vec![part(false, "a is", None), part(false, "b is", None)]);
        assert_eq!((same.changed, &*same.message, same.diff), (false, "a is; b is", None));
        let unknown = joined(vec![part(false, "a is", None), Context::unknown("b is not there yet")]);
        assert!(unknown.unknown && unknown.message.contains("b is not there yet"));
    }
}
