//! Measurements on a pair of its own: what the provisioner costs, what replication costs, each beside what it
//! is compared with, alternating in one run.
//!
//! Talk goes to stderr; the figures are for stdout. A figure that could not be taken ends the measurement:
//! there is no report with holes.

mod apply;
mod fio;
mod machine;
mod replication;
mod report;

use clap::ValueEnum;

use crate::interrupt::{Interrupt, Interrupted};
use crate::layout::Lab;
use crate::own;
use crate::stage::Stage;
use crate::up::{self, Wish};

use machine::Machine;
pub(crate) use report::Report;

/// The name of the measurements' own lab, which they may make anew at any time.
pub(crate) const OWN_LAB: &str = "bench";

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// An apply that changes nothing, beside one login by the ssh client.
    Apply,
    /// fio on the replicated device, beside the same on its backing disk; a full sync.
    Replication,
}

impl Subject {
    /// How often each figure is taken unless said otherwise.
    fn usual_runs(self) -> u32 {
        match self {
            Self::Apply => 5,
            Self::Replication => 3,
        }
    }
}

/// Boots a pair, provisions it, measures, and takes the pair down again, whatever came of it.
pub(crate) fn run(
    subject: Subject,
    lab: &Lab,
    runs: Option<u32>,
    interrupt: &Interrupt,
) -> anyhow::Result<Report> {
    let mut report = Report::on(Machine::look()?);
    own::clear(lab, OWN_LAB, interrupt)?;
    let stage = Stage::new(lab, interrupt)?;
    let measured = measure(subject, &stage, runs.unwrap_or_else(|| subject.usual_runs()), &mut report);
    if measured.is_err() && interrupt.check().is_ok() {
        stage.explain();
    }
    eprintln!("taking the lab down");
    let gone = own::take_down(lab);
    if interrupt.check().is_err() {
        gone?;
        return Err(Interrupted.into());
    }
    match (measured, gone) {
        (Ok(()), gone) => gone.map(|()| report),
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(left)) => Err(error.context(format!("taking the lab down failed too: {left:#}"))),
    }
}

fn measure(subject: Subject, stage: &Stage, runs: u32, report: &mut Report) -> anyhow::Result<()> {
    up::up(&stage.lab, &Wish::default(), &stage.interrupt)?;
    stage.provision("apply", &[])?;
    match subject {
        Subject::Apply => apply::measure(stage, runs, report),
        Subject::Replication => replication::measure(stage, runs, report),
    }
}
