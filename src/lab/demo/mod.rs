//! The demonstration: the article's story on two real hosts, every step of it verified.
//!
//! The story is told on stderr as it happens, the way a person at two terminals would see it; stdout gets the
//! outcome. A step that cannot show what it claims ends the story.

mod report;
mod steps;

use std::time::Instant;

pub(crate) use report::Report;
use steps::{STEPS, Story};

use crate::interrupt::{Interrupt, Interrupted};
use crate::layout::Lab;
use crate::own;
use crate::power::Keep;
use crate::stage::Stage;

/// The name of the demonstration's own lab, which it may make anew at any time.
pub(crate) const OWN_LAB: &str = "demo";

/// Tells the whole story and returns how it went. With `Keep::Nothing` the lab is gone afterwards.
pub(crate) fn run(lab: &Lab, keep: Keep, interrupt: &Interrupt) -> anyhow::Result<Report> {
    own::clear(lab, OWN_LAB, interrupt)?;
    let mut report = Report::default();
    let mut story = Story::on(Stage::new(lab, interrupt)?);
    for step in &STEPS {
        eprintln!("\n=== {}", step.name);
        let started = Instant::now();
        let outcome = (step.perform)(&mut story);
        let failure = outcome.as_ref().err().map(|error| format!("{error:#}"));
        report.add(step.name, started.elapsed(), failure.clone());
        if let Some(failure) = failure {
            eprintln!("--- failed: {failure}");
            if interrupt.check().is_ok() {
                story.stage.explain();
            }
            break;
        }
    }
    if keep == Keep::Disks {
        eprintln!("\nlab `{lab}` stays up, as asked; remove it: futago lab down --purge --name {lab}");
    } else {
        eprintln!("\n=== {}", steps::TAKE_DOWN);
        let started = Instant::now();
        let gone = own::take_down(lab);
        report.add(steps::TAKE_DOWN, started.elapsed(), gone.err().map(|error| format!("{error:#}")));
    }
    if interrupt.check().is_err() { Err(Interrupted.into()) } else { Ok(report) }
}
