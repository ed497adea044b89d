//! Mistakes in what the user wrote, each with its place; collected, so that all are shown at once.
//!
//! Messages are complete sentences about the user's own words; nothing of this program's inside appears in them.

use std::fmt;
use std::sync::Arc;

use crate::excerpt::Excerpt;
use crate::nearest::nearest;

/// File, line and column, both counted from 1; a line of 0 stands for the file as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as the user knows it.
    pub file: Arc<str>,
    /// Line, from 1, or 0.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
}

impl Place {
    /// The first character of a file.
    #[must_use]
    pub fn start(file: &str) -> Self {
        Self { file: file.into(), line: 1, column: 1 }
    }

    /// A file as a whole: one that cannot be read has no first character.
    #[must_use]
    pub fn whole(file: &str) -> Self {
        Self { file: file.into(), line: 0, column: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What is wrong, with the value and what is allowed.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The line, where it may be shown.
    pub excerpt: Option<Excerpt>,
}

impl Problem {
    /// A mistake without a hint.
    pub fn new(place: &Place, message: impl Into<String>) -> Self {
        Self { place: place.clone(), message: message.into(), hint: None, excerpt: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A word that is not among the allowed ones: names the nearest, or lists them all.
    /// The sentence ends with the word: `a host has no key`.
    #[must_use]
    pub fn unknown_word(place: &Place, sentence: &str, word: &str, allowed: &[&str]) -> Self {
        let problem = Self::new(place, format!("{sentence} {word:?}"));
        match nearest(word, allowed.iter().copied()) {
            Some(near) => problem.hint(format!("did you mean {near:?}?")),
            None if allowed.is_empty() => problem,
            None => problem.hint(format!("allowed: {}", allowed.join(", "))),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        if let Some(excerpt) = &self.excerpt {
            write!(f, "\n{excerpt}")?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Mistakes found together; in the order of files and lines when shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds one, unless the very same is there already.
    pub fn push(&mut self, problem: Problem) {
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order of files and lines.
    #[must_use]
    pub fn sorted(&self) -> Vec<&Problem> {
        let mut sorted: Vec<&Problem> = self.0.iter().collect();
        sorted.sort();
        sorted
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// The value when nothing is wrong with it.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl Extend<Problem> for Problems {
    fn extend<I: IntoIterator<Item = Problem>>(&mut self, problems: I) {
        problems.into_iter().for_each(|p| self.push(p));
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.sorted().iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_shown_in_the_order_of_the_file() {
        let at = |line| Place { file: "a.yml".into(), line, column: 1 };
        let mut problems = Problems::default();
        problems.push(Problem::new(&at(9), "second"));
        problems.push(Problem::new(&at(2), "first").hint("try"));
        problems.push(Problem::new(&at(2), "first").hint("try"));
        assert_eq!(problems.to_string(), "a.yml:2:1: first\n  hint: try\na.yml:9:1: second");
    }
}
