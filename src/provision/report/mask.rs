//! Hides the values of secrets in everything that is shown or kept.

use base::problem::{Problem, Problems};
use serde_json::Value;

use super::{Event, forms};

/// What stands in the place of a secret.
const HIDDEN: &str = "********";
/// A line of a secret that is shorter may be anywhere.
const MIN_CHARS: usize = 6;

/// Texts that must not be shown.
#[derive(Clone, Debug, Default)]
pub struct Mask {
    secrets: Vec<String>,
}

impl Mask {
    /// Hides these texts, each line of those that have several, and all of it in the forms of JSON, URLs and base64.
    #[must_use]
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut all: Vec<String> = Vec::new();
        for secret in secrets {
            all.extend(secret.lines().filter(|line| line.len() > 3).map(str::to_owned));
            all.push(secret);
        }
        all.retain(|secret| !secret.is_empty());
        let derived: Vec<String> = all.iter().flat_map(|secret| forms::of(secret)).collect();
        all.extend(derived);
        // A secret inside another one must not leave the rest of the longer one readable.
        all.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        all.dedup();
        Self { secrets: all }
    }

    /// The text without secrets.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.secrets.iter().map(String::as_str) {
            if text.contains(secret) {
                text = text.replace(secret, HIDDEN);
            }
        }
        text
    }

    /// Whether one of the secrets is in a text.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        self.is_new_in(text, "")
    }

    /// The same, leaving out those that are in the text which it was made from: they are words like any other.
    pub(crate) fn is_new_in(&self, text: &str, source: &str) -> bool {
        let mut long = self.secrets.iter().filter(|secret| secret.chars().count() >= MIN_CHARS);
        long.any(|secret| text.contains(secret) && !source.contains(secret))
    }

    /// Mistakes without secrets: a message shows the value that is wrong.
    pub(crate) fn problems(&self, problems: Problems) -> Problems {
        let mut masked = Problems::default();
        masked.extend(problems.into_iter().map(|problem| Problem {
            message: self.text(&problem.message),
            hint: problem.hint.map(|hint| self.text(&hint)),
            ..problem
        }));
        masked
    }

    /// The event without secrets.
    pub(super) fn event(&self, event: Event) -> Event {
        if self.secrets.is_empty() {
            return event;
        }
        let Ok(mut value) = serde_json::to_value(&event) else { return Event::Stopping };
        self.value(&mut value);
        // Masking changes texts only, so the shape still fits.
        serde_json::from_value(value).unwrap_or(Event::Stopping)
    }

    fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(map) => map.values_mut().for_each(|item| self.value(item)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Status, TaskDone};
    use super::*;

    #[test]
    fn a_secret_is_hidden_wherever_it_stands() {
        let mask = Mask::new(["hunter2hunter2".to_owned(), "hunter2".to_owned()]);
        let done = TaskDone {
            host: "ha-a".into(),
            task: "t".into(),
            place: "p".into(),
            item: Some(serde_json::json!({"password": "hunter2"})),
            status: Status::Changed,
            message: "wrote hunter2hunter2".into(),
            diff: Some("+password = hunter2\n".into()),
            seconds: 0.1,
            failure: None,
        };
        let Event::TaskDone(masked) = mask.event(Event::TaskDone(Box::new(done))) else { panic!() };
        assert_eq!(masked.message, "wrote ********");
        assert_eq!(masked.diff.as_deref(), Some("+password = ********\n"));
        assert_eq!(masked.item, Some(serde_json::json!({"password": "********"})));
        assert_eq!(masked.status, Status::Changed);
    }
}
