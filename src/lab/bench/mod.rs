//! Measurements on pairs of their own: what the provisioner costs, what replication costs, how long a failover
//! takes, each beside what it is compared with, alternating in one run.
//!
//! Talk goes to stderr; the figures are for stdout. A figure that could not be taken ends the measurement:
//! there is no report with holes.

mod apply;
mod cost;
mod failover;
mod fio;
mod glusterfs;
mod replication;
mod report;

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};

use crate::drill::{Case, System};
use crate::interrupt::Interrupt;
use crate::layout::Lab;
use crate::machine::Machine;
use crate::own;
use crate::stage::Stage;
use crate::up::{self, Wish};

pub(crate) use report::Report;

/// The name of the measurements' own lab, which they may make anew at any time.
pub(crate) const OWN_LAB: &str = "bench";

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// An apply that changes nothing, beside one login by the ssh client.
    Apply,
    /// fio on the replicated device, beside its backing disk and a replicated volume of GlusterFS; a full sync.
    Replication,
    /// How long clients are without the service, beside Pacemaker.
    Failover,
}

/// A part of the failovers; everything where nothing is named.
#[derive(Debug, Args)]
pub(crate) struct Choice {
    /// Failover: only these systems.
    #[arg(long = "system", value_enum, value_name = "SYSTEM")]
    systems: Vec<System>,
    /// Failover: only these faults.
    #[arg(long = "case", value_enum, value_name = "CASE")]
    cases: Vec<Case>,
}

impl Subject {
    /// How often each figure is taken unless said otherwise.
    fn usual_runs(self) -> u32 {
        match self {
            Self::Apply => 5,
            Self::Replication => 3,
            Self::Failover => 10,
        }
    }
}

/// Boots what it needs, measures, and takes everything down again, whatever came of it.
pub(crate) fn run(
    subject: Subject,
    lab: &Lab,
    runs: Option<u32>,
    choice: &Choice,
    interrupt: &Interrupt,
) -> anyhow::Result<Report> {
    let mut report = Report::on(Machine::look()?);
    let runs = runs.unwrap_or_else(|| subject.usual_runs());
    let measured = match subject {
        Subject::Apply => apply::run(lab, runs, interrupt, &mut report),
        Subject::Replication => replication::run(lab, runs, interrupt, &mut report),
        Subject::Failover => failover::run(lab, runs, choice, interrupt, &mut report),
    };
    measured.map(|()| report)
}

/// Measures on labs that are named like `lab` with these ends, begin as nothing, and are taken down whatever came
/// of it.
fn on_labs(
    lab: &Lab,
    ends: &[&str],
    interrupt: &Interrupt,
    measure: impl FnOnce(&[Stage]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut stages = Vec::new();
    for end in ends {
        let name = format!("{lab}{end}").parse().context("name a lab of the measurement")?;
        own::clear(&name, &format!("{OWN_LAB}{end}"), interrupt)?;
        stages.push(Stage::new(&name, interrupt)?);
    }
    let measured = measure(&stages);
    let mut failures = Vec::new();
    for stage in &stages {
        eprintln!("taking lab `{}` down", stage.lab);
        failures.extend(own::take_down(&stage.lab).err().map(|error| format!("{error:#}")));
    }
    let gone = if failures.is_empty() { Ok(()) } else { Err(anyhow!(failures.join("; "))) };
    own::outcome(measured, gone, interrupt)
}

/// Takes figures on a pair that is provisioned first; tells what the hosts say of an error.
fn provisioned(stage: &Stage, measure: impl FnOnce(&Stage) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let measured = up::up(&stage.lab, &Wish::default(), &stage.interrupt)
        .and_then(|()| stage.provision("apply", &[]))
        .and_then(|_| measure(stage));
    if measured.is_err() && stage.interrupt.check().is_ok() {
        stage.explain();
    }
    measured
}
