//! The text of `futago cluster plan`: the order as a heading, its steps numbered.

use super::page::Page;
use super::tone::Tone;
use super::words;

/// Writes the steps of an order; without a title, what the manager does by itself.
pub(crate) fn write(page: &mut Page, title: Option<&str>, steps: &[String]) {
    if let Some(title) = title {
        page.heading(&format!("futago cluster {}:", words::clean(title)));
    }
    for (step, number) in steps.iter().zip(1..) {
        page.sentence(&[(5, Tone::Plain, &format!("{number:3}."))], Tone::Plain, &words::clean(step));
    }
}
