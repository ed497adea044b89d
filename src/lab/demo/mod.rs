//! The demonstration: a story on real hosts, every step of it verified.
//!
//! The story is told on stderr as it happens, the way a person at two terminals would see it; stdout gets the
//! outcome. A step that cannot show what it claims ends the story.

mod replication;
mod report;
mod service;
mod story;

use std::time::Instant;

pub(crate) use report::Report;
use story::{Step, Story};

use crate::interrupt::{Interrupt, Interrupted};
use crate::layout::Lab;
use crate::own;
use crate::power::Keep;
use crate::stack::Stack;
use crate::stage::Stage;

/// The name of the demonstration's own lab, which it may make anew at any time.
pub(crate) const OWN_LAB: &str = "demo";

/// The last step, done whatever came before.
const TAKE_DOWN: &str = "take the lab down; nothing is left";

/// The article's story without a stack, else that of a service.
fn steps(stack: Option<Stack>) -> &'static [Step] {
    match stack {
        None => &replication::STEPS,
        Some(Stack::Lamp) => &service::STEPS,
        Some(Stack::Zabbix | Stack::Wordpress) => &service::STEPS_WITH_USERS,
    }
}

/// Tells the whole story and returns how it went. With `Keep::Nothing` the lab is gone afterwards.
pub(crate) fn run(
    lab: &Lab,
    stack: Option<Stack>,
    keep: Keep,
    interrupt: &Interrupt,
) -> anyhow::Result<Report> {
    own::clear(lab, OWN_LAB, interrupt)?;
    let mut report = Report::default();
    let mut story = Story::on(Stage::new(lab, interrupt)?, stack);
    for step in steps(stack) {
        eprintln!("\n=== {}", step.name);
        let started = Instant::now();
        let outcome = (step.perform)(&mut story).map_err(|error| format!("{error:#}"));
        let outcome = outcome.map(|()| story.shown.take());
        report.add(step.name, started.elapsed(), outcome.clone());
        if let Err(failure) = outcome {
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
        eprintln!("\n=== {TAKE_DOWN}");
        let started = Instant::now();
        let gone = own::take_down(lab).map_err(|error| format!("{error:#}"));
        report.add(TAKE_DOWN, started.elapsed(), gone.map(|()| None));
    }
    if interrupt.check().is_err() { Err(Interrupted.into()) } else { Ok(report) }
}
