//! Measurements on pairs of their own: what the provisioner costs, what replication costs, how long a failover
//! takes, each beside what it is compared with, alternating in one run.
//!
//! Talk goes to stderr; the figures are for stdout. A figure that could not be taken ends the measurement:
//! there is no report with holes.

mod apply;
mod failover;
mod fio;
mod replication;
mod report;

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
    /// fio on the replicated device, beside the same on its backing disk; a full sync.
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
        Subject::Apply => on_a_pair(lab, runs, apply::measure, interrupt, &mut report),
        Subject::Replication => on_a_pair(lab, runs, replication::measure, interrupt, &mut report),
        Subject::Failover => failover::run(lab, runs, choice, interrupt, &mut report),
    };
    measured.map(|()| report)
}

/// Takes figures on a pair that is provisioned.
type Measure = fn(&Stage, u32, &mut Report) -> anyhow::Result<()>;

fn on_a_pair(
    lab: &Lab,
    runs: u32,
    measure: Measure,
    interrupt: &Interrupt,
    report: &mut Report,
) -> anyhow::Result<()> {
    own::clear(lab, OWN_LAB, interrupt)?;
    let stage = Stage::new(lab, interrupt)?;
    let measured = up::up(&stage.lab, &Wish::default(), &stage.interrupt)
        .and_then(|()| stage.provision("apply", &[]))
        .and_then(|_| measure(&stage, runs, report));
    if measured.is_err() && interrupt.check().is_ok() {
        stage.explain();
    }
    eprintln!("taking the lab down");
    own::outcome(measured, own::take_down(lab), interrupt)
}
