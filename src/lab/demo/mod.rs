//! The demonstration: the article's story on two real hosts, every step of it verified.
//!
//! The story is told on stderr as it happens, the way a person at two terminals would see it; stdout gets the
//! outcome. A step that cannot show what it claims ends the story.

mod report;
mod stage;
mod steps;

use std::time::Instant;

use anyhow::{Context as _, bail, ensure};

pub(crate) use report::Report;
use stage::Stage;
use steps::STEPS;

use crate::control_group;
use crate::interrupt::{Interrupt, Interrupted};
use crate::layout::Lab;
use crate::power::{self, Keep};
use crate::record::Record;
use crate::up;

/// The name of the demonstration's own lab, which it may make anew at any time.
pub(crate) const OWN_LAB: &str = "demo";

/// Tells the whole story and returns how it went. With `Keep::Nothing` the lab is gone afterwards.
pub(crate) fn run(lab: &Lab, keep: Keep, interrupt: &Interrupt) -> anyhow::Result<Report> {
    clear(lab, interrupt)?;
    let mut report = Report::default();
    let mut stage = Stage::new(lab, interrupt)?;
    for step in &STEPS {
        eprintln!("\n=== {}", step.name);
        let started = Instant::now();
        let outcome = (step.perform)(&mut stage);
        let failure = outcome.as_ref().err().map(|error| format!("{error:#}"));
        report.add(step.name, started.elapsed(), failure.clone());
        if let Some(failure) = failure {
            eprintln!("--- failed: {failure}");
            if interrupt.check().is_ok() {
                stage.explain();
            }
            break;
        }
    }
    if keep == Keep::Disks {
        eprintln!("\nlab `{lab}` stays up, as asked; remove it: futago lab down --purge --name {lab}");
    } else {
        eprintln!("\n=== {}", steps::TAKE_DOWN);
        let started = Instant::now();
        let gone = take_down(lab);
        report.add(steps::TAKE_DOWN, started.elapsed(), gone.err().map(|error| format!("{error:#}")));
    }
    if interrupt.check().is_err() { Err(Interrupted.into()) } else { Ok(report) }
}

/// The story begins with bare hosts: what an earlier one left goes away, what others made stays.
fn clear(lab: &Lab, interrupt: &Interrupt) -> anyhow::Result<()> {
    if Record::load(lab)?.is_none() {
        return Ok(());
    }
    if lab.to_string() != OWN_LAB {
        bail!(
            "lab `{lab}` exists, and the demonstration begins with bare hosts; take another --name, or give up \
             that lab: futago lab down --purge --name {lab}"
        );
    }
    eprintln!("removing lab `{lab}` of an earlier demonstration");
    let _lock = up::lock(lab, interrupt)?;
    power::down(lab, Keep::Nothing, &control_group::hierarchies()?)
}

fn take_down(lab: &Lab) -> anyhow::Result<()> {
    let lock = up::lock(lab, &Interrupt::never())?;
    let hierarchies = control_group::hierarchies()?;
    power::down(lab, Keep::Nothing, &hierarchies).context("remove the lab")?;
    let remains = power::remains(lab, &hierarchies)?;
    ensure!(remains.is_empty(), "still there: {}", remains.join(", "));
    lock.retire();
    Ok(())
}
