//! Walks a mapping that has known keys: refuses every other key and every wrong type, with its place.
//!
//! Nothing stops at the first mistake; a value that is wrong is reported and then treated as absent.

use crate::nearest::nearest;
use crate::problem::{Problem, Problems};
use crate::yaml::{Content, Entry, Node};

/// One mapping under check.
pub struct Fields<'a, 'p> {
    node: &'a Node,
    problems: &'p mut Problems,
    /// Known keys that were probably meant by unknown ones; they are not reported as missing too.
    meant: Vec<String>,
}

impl<'a, 'p> Fields<'a, 'p> {
    /// Checks that the value is a mapping with no other than these keys. `what` names it in messages: `a host`.
    pub fn of(node: &'a Node, what: &str, allowed: &[&str], problems: &'p mut Problems) -> Option<Self> {
        if !matches!(node.content, Content::Map(_)) {
            let message = format!("{what} must be a mapping, not {}", node.shown());
            problems.push(Problem::new(&node.place, message).hint(format!("keys: {}", allowed.join(", "))));
            return None;
        }
        let mut meant = Vec::new();
        for entry in node.entries().iter().filter(|e| !allowed.contains(&e.key.as_str())) {
            // A caller with better advice about a key has reported it already.
            if problems.iter().any(|p| p.place == entry.place) {
                continue;
            }
            let sentence = format!("{what} has no key");
            problems.push(Problem::unknown_word(&entry.place, &sentence, &entry.key, allowed));
            meant.extend(nearest(&entry.key, allowed.iter().copied()).map(str::to_owned));
        }
        Some(Self { node, problems, meant })
    }

    /// The value of a key, if it is there and not null.
    pub fn get(&self, key: &str) -> Option<&'a Node> {
        self.node.get(key).filter(|n| n.content != Content::Null)
    }

    /// Reports a mistake in the value of a key.
    pub fn report(&mut self, node: &Node, message: impl Into<String>) {
        self.problems.push(Problem::new(&node.place, message));
    }

    /// The collected mistakes, for checks of what is inside.
    pub fn problems(&mut self) -> &mut Problems {
        self.problems
    }

    /// A value that must be there.
    pub fn required(&mut self, key: &str, meaning: &str) -> Option<&'a Node> {
        let found = self.get(key);
        if found.is_none() && !self.meant.iter().any(|k| k == key) {
            let place = self.node.get(key).map_or(&self.node.place, |n| &n.place);
            self.problems.push(Problem::new(place, format!("{key:?} is missing: {meaning}")));
        }
        found
    }

    /// Text; a number is taken as its digits.
    pub fn text(&mut self, key: &str) -> Option<String> {
        let node = self.get(key)?;
        text(key, node, self.problems)
    }

    /// `true` or `false`.
    pub fn bool(&mut self, key: &str) -> Option<bool> {
        let node = self.get(key)?;
        if let Content::Bool(value) = node.content {
            return Some(value);
        }
        let problem =
            Problem::new(&node.place, format!("{key:?} must be true or false, not {}", node.shown()));
        let word = if let Content::Text(text) = &node.content { text.to_lowercase() } else { String::new() };
        let problem = match word.as_str() {
            "yes" | "on" => problem.hint("write true"),
            "no" | "off" => problem.hint("write false"),
            _ => problem,
        };
        self.problems.push(problem);
        None
    }

    /// A whole number within bounds.
    pub fn int(&mut self, key: &str, min: u64, max: u64) -> Option<u64> {
        let node = self.get(key)?;
        let number = if let Content::Number(n) = &node.content { n.as_u64() } else { None };
        let fitting = number.filter(|n| (min..=max).contains(n));
        if fitting.is_none() {
            let shown = node.shown();
            self.report(node, format!("{key:?} must be a whole number from {min} to {max}, not {shown}"));
        }
        fitting
    }

    /// A list of texts; one text is a list of one.
    pub fn texts(&mut self, key: &str) -> Vec<(String, &'a Node)> {
        let Some(node) = self.get(key) else { return Vec::new() };
        let items = match &node.content {
            Content::List(items) => items.iter().collect(),
            _ => vec![node],
        };
        let read = |item: &'a Node| Some((text(key, item, self.problems)?, item));
        items.into_iter().filter_map(read).collect()
    }

    /// The entries of a mapping.
    pub fn map(&mut self, key: &str) -> &'a [Entry] {
        let Some(node) = self.get(key) else { return &[] };
        if !matches!(node.content, Content::Map(_)) {
            self.report(node, format!("{key:?} must be a mapping, not {}", node.shown()));
        }
        node.entries()
    }

    /// The items of a list.
    pub fn list(&mut self, key: &str) -> &'a [Node] {
        let Some(node) = self.get(key) else { return &[] };
        if let Content::List(items) = &node.content {
            return items;
        }
        self.report(node, format!("{key:?} must be a list, not {}", node.shown()));
        &[]
    }
}

fn text(key: &str, node: &Node, problems: &mut Problems) -> Option<String> {
    match &node.content {
        Content::Text(text) => Some(text.clone()),
        Content::Number(n) => Some(n.to_string()),
        _ => {
            let message = format!("{key:?} must be text, not {}", node.shown());
            problems.push(Problem::new(&node.place, message));
            None
        }
    }
}

/// A name that expressions can use.
pub fn is_identifier(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
