//! The demonstration: a story on real hosts, every step of it verified.
//!
//! The story is told on stderr as it happens, the way a person at two terminals would see it; stdout gets the
//! outcome. A step that cannot show what it claims ends the story.

mod replication;
mod report;
mod service;
mod story;

use std::path::PathBuf;
use std::time::Instant;

use provision::inventory::Inventory;

pub(crate) use report::Report;
use story::{Step, Story};

use crate::drill::Folder;
use crate::interrupt::Interrupt;
use crate::layout::Lab;
use crate::own;
use crate::power::Keep;
use crate::publish::Visit;
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

/// What is wanted.
#[derive(Debug)]
pub(crate) struct Order {
    /// None is the article's story.
    pub(crate) stack: Option<Stack>,
    pub(crate) keep: Keep,
    /// Where the report of the faults goes.
    pub(crate) report: Option<PathBuf>,
}

/// Tells the whole story and returns how it went. With `Keep::Nothing` the lab is gone afterwards.
pub(crate) fn run(lab: &Lab, order: &Order, interrupt: &Interrupt) -> anyhow::Result<Report> {
    let folder = order.report.as_deref().map(Folder::open).transpose()?;
    own::clear(lab, OWN_LAB, interrupt)?;
    let mut story = Story::on(Stage::new(lab, interrupt)?, order.stack)?;
    let mut report = tell(&mut story, interrupt);
    if order.keep == Keep::Disks {
        eprintln!("\nlab `{lab}` stays up, as asked; remove it: futago lab down --purge --name {lab}");
        report.visit = order.stack.and_then(|_| visit(lab));
    } else {
        eprintln!("\n=== {TAKE_DOWN}");
        let started = Instant::now();
        let gone = own::take_down(lab).map_err(|error| format!("{error:#}"));
        report.add(TAKE_DOWN, started.elapsed(), gone.map(|()| None));
    }
    interrupt.check()?;
    if let (Some(folder), Some(record), Some(stack)) = (folder, &story.record, order.stack) {
        report.drills = Some(folder.keep(record, stack.word())?);
    }
    Ok(report)
}

/// How to look at what stays; none while there is nothing to look at.
fn visit(lab: &Lab) -> Option<Visit> {
    let inventory = Inventory::load(&lab.inventory()).ok()?;
    Some(Visit::of(lab, &inventory))
}

fn tell(story: &mut Story, interrupt: &Interrupt) -> Report {
    let mut report = Report::default();
    for step in steps(story.stack) {
        eprintln!("\n=== {}", step.name);
        let started = Instant::now();
        let outcome = (step.perform)(story).map_err(|error| format!("{error:#}"));
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
    report
}
