//! The text of `futago cluster history`: decisions in sentences, moves as bars with the time of each step.

use cluster::control::Move;
use cluster::event::LogLevel;

use super::facts;
use super::page::{Page, cut};
use super::tone::Tone;
use super::words::{self, Names};
use crate::history::{Entry, What};

/// Columns of the longest bar.
const BAR: u64 = 30;
/// Columns of the name of a step.
const STEP: usize = 28;

/// Writes entries, oldest first.
pub(crate) fn write(page: &mut Page, entries: &[Entry], names: &Names) {
    for entry in entries {
        let at = words::clean(&entry.at).replace('T', " ").replace('Z', "");
        match &entry.what {
            What::Decision { level, text } => {
                let word = match level {
                    LogLevel::Error => "error: ",
                    LogLevel::Warn => "warning: ",
                    LogLevel::Info => "",
                };
                let text = format!("{word}{}", words::clean(text));
                page.sentence(&[(21, Tone::Dim, &at)], Tone::level(*level), &text);
            }
            What::Move(moved) => {
                let end = if moved.finished { "took" } else { "did not end; so far" };
                let text = format!(
                    "{} {} {end} {}: {}",
                    words::clean(&moved.kind),
                    facts::route(moved, names),
                    words::time(facts::duration(moved)),
                    words::clean(&moved.because)
                );
                page.sentence(&[(21, Tone::Dim, &at)], Tone::Strong, &text);
                bars(page, moved);
            }
        }
    }
}

/// The steps of a move one below the other, each as long as it took, beginning where the one before ended.
pub(crate) fn bars(page: &mut Page, moved: &Move) {
    let total = facts::duration(moved).max(1);
    let mut before = 0;
    for (name, ms) in &moved.steps {
        let [from, to] = [before, before + ms].map(|at| usize::try_from(at * BAR / total).unwrap_or(0));
        let bar = format!("{}{}", " ".repeat(from), "█".repeat((to - from).max(1)));
        let label = format!("    {}", cut(&words::clean(name), STEP));
        let value = format!("{:>8}", words::time(*ms));
        page.row(&[(STEP + 5, Tone::Plain, &label), (10, Tone::Plain, &value), (0, Tone::Good, &bar)]);
        before += ms;
    }
}
