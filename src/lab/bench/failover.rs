//! How long a client is without the service when something is planned, dies or is cut off.
//!
//! Each system manages a pair of its own, all pairs are up side by side, and runs alternate between them.

use super::report::{Better, Metric, Report};
use super::{Choice, on_labs};
use crate::drill::{self, Case, System};
use crate::interrupt::Interrupt;
use crate::layout::Lab;
use crate::stack::Stack;
use crate::stage::Stage;

const OUTAGE: Metric = Metric { name: "outage", unit: "s", better: Better::Less };

/// Boots the pairs, measures, and takes them down again, whatever came of it.
pub(super) fn run(
    lab: &Lab,
    runs: u32,
    choice: &Choice,
    interrupt: &Interrupt,
    report: &mut Report,
) -> anyhow::Result<()> {
    let systems: Vec<System> = System::ALL
        .into_iter()
        .filter(|one| choice.systems.is_empty() || choice.systems.contains(one))
        .collect();
    let ends: Vec<&str> = systems.iter().map(|one| end_of(*one)).collect();
    on_labs(lab, &ends, interrupt, |stages| {
        let pairs: Vec<(System, &Stage)> = systems.iter().copied().zip(stages).collect();
        measure(&pairs, runs, choice, report)
    })
}

fn measure(
    stages: &[(System, &Stage)],
    runs: u32,
    choice: &Choice,
    report: &mut Report,
) -> anyhow::Result<()> {
    for (system, stage) in stages {
        eprintln!("\n=== {}: lab `{}`", system.name(), stage.lab);
        system.make(Stack::Lamp, stage)?;
    }
    let usual = Case::OUTAGES.as_slice();
    for case in if choice.cases.is_empty() { usual } else { &choice.cases }.iter().copied() {
        for run in 1..=runs {
            // Neither is always the one that comes first.
            let mut order: Vec<&(System, &Stage)> =
                stages.iter().filter(|(one, _)| case.concerns(*one)).collect();
            if run % 2 == 0 {
                order.reverse();
            }
            for (system, stage) in order {
                let seen = drill::run(case, *system, stage)?;
                eprintln!("{}: run {run} of {runs}: {}: {seen}", case.name(), system.name());
                report.add(case.name(), system.name(), OUTAGE, seen.outage_s);
            }
        }
    }
    Ok(())
}

/// How the name of the lab ends that a system's pair lives in.
fn end_of(system: System) -> &'static str {
    match system {
        System::Pacemaker => "-pacemaker",
        System::Futago => "-default",
        System::FutagoFast => "-fast",
    }
}
