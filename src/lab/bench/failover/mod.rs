//! How long a client is without the service when something is planned, dies or is cut off.
//!
//! Each system manages a pair of its own, all pairs are up side by side, and runs alternate between them. In
//! each run a client writes rows through the virtual address, the fault is made, and the longest time between
//! two acknowledged rows counts. Then the pair is restored and must be healthy before its next run.

mod fault;
mod futago;
mod pacemaker;

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use clap::ValueEnum;

use super::report::{Better, Metric, Report};
use super::{Choice, OWN_LAB, finish};
use crate::interrupt::Interrupt;
use crate::layout::{Host, Lab, PAIR, VIRTUAL_IP};
use crate::load::{Load, LoadReport};
use crate::own;
use crate::stage::Stage;
use crate::wait;

pub(crate) use fault::Case;

const OUTAGE: Metric = Metric { name: "outage", unit: "s", better: Better::Less };
/// So many acknowledged rows in a row, half a second of them, show that the service works.
const ENOUGH: usize = 25;
/// For rows to flow before a fault: the pair is healthy.
const FLOWING: Duration = Duration::from_secs(20);
/// For the service to come back after a fault, far beyond what any system promises.
const BACK: Duration = Duration::from_secs(120);
/// For a pair to be healthy again once the fault was taken back: a boot, a resync, a restart.
const HEALTHY: Duration = Duration::from_secs(180);

/// Who manages the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum System {
    /// Debian's Pacemaker and corosync, without fencing and without replication.
    Pacemaker,
    /// This program with its default times.
    Futago,
    /// This program with its fast times.
    FutagoFast,
}

impl System {
    const ALL: [Self; 3] = [Self::Pacemaker, Self::Futago, Self::FutagoFast];

    /// As the table has it.
    fn name(self) -> &'static str {
        match self {
            Self::Pacemaker => "Pacemaker, nothing replicated",
            Self::Futago => "futago, default",
            Self::FutagoFast => "futago, fast",
        }
    }

    /// The end of its lab's name.
    fn suffix(self) -> &'static str {
        match self {
            Self::Pacemaker => "pacemaker",
            Self::Futago => "default",
            Self::FutagoFast => "fast",
        }
    }

    fn lab(self, base: &str) -> anyhow::Result<Lab> {
        format!("{base}-{}", self.suffix()).parse().context("name the lab of a system")
    }

    /// Makes the pair and everything on it.
    fn prepare(self, stage: &Stage) -> anyhow::Result<()> {
        match self {
            Self::Pacemaker => pacemaker::prepare(stage),
            Self::Futago => futago::prepare(stage, "default"),
            Self::FutagoFast => futago::prepare(stage, "fast"),
        }
    }

    /// Whether both hosts are there, the service runs on one, and nothing is left to be done.
    fn is_healthy(self, stage: &Stage) -> anyhow::Result<bool> {
        match self {
            Self::Pacemaker => pacemaker::is_healthy(stage),
            Self::Futago | Self::FutagoFast => futago::is_healthy(stage),
        }
    }

    /// Orders the service to move away from a host; it need not have moved yet.
    fn switchover(self, stage: &Stage, from: &Host) -> anyhow::Result<()> {
        match self {
            Self::Pacemaker => pacemaker::switchover(stage, from),
            Self::Futago | Self::FutagoFast => futago::switchover(stage, from),
        }
    }

    /// Forgets the fault that was, so that the next run meets the same pair.
    fn forget(self, stage: &Stage) -> anyhow::Result<()> {
        match self {
            Self::Pacemaker => pacemaker::forget(stage),
            Self::Futago | Self::FutagoFast => futago::forget(stage),
        }
    }

    /// Which promises a run has broken.
    fn broken(self, report: &LoadReport) -> Vec<String> {
        match self {
            // Its rows stay where they were written.
            Self::Pacemaker => report.audit.evidence(),
            Self::Futago | Self::FutagoFast => report.broken(),
        }
    }

    /// Shows what may explain a failure.
    fn explain(self, stage: &Stage) {
        let lines: &[&str] = match self {
            Self::Pacemaker => &pacemaker::EXPLAIN,
            Self::Futago | Self::FutagoFast => &futago::EXPLAIN,
        };
        for (host, line) in PAIR.iter().flat_map(|host| lines.iter().map(move |line| (host, line))) {
            // The host may be off, and the failure is reported anyway.
            let _ = stage.try_shell(host, line);
        }
    }
}

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
    let mut stages = Vec::new();
    for system in systems {
        let name = system.lab(&lab.to_string())?;
        own::clear(&name, &system.lab(OWN_LAB)?.to_string(), interrupt)?;
        stages.push((system, Stage::new(&name, interrupt)?));
    }
    let measured = measure(&stages, runs, choice, report);
    let mut failures = Vec::new();
    for (_, stage) in &stages {
        eprintln!("taking lab `{}` down", stage.lab);
        failures.extend(own::take_down(&stage.lab).err().map(|error| format!("{error:#}")));
    }
    let gone = if failures.is_empty() { Ok(()) } else { Err(anyhow!(failures.join("; "))) };
    finish(measured, gone, interrupt)
}

fn measure(
    stages: &[(System, Stage)],
    runs: u32,
    choice: &Choice,
    report: &mut Report,
) -> anyhow::Result<()> {
    for (system, stage) in stages {
        eprintln!("\n=== {}: lab `{}`", system.name(), stage.lab);
        let ready = system.prepare(stage).and_then(|()| until_healthy(*system, stage));
        explained(*system, stage, ready).with_context(|| format!("prepare {}", system.name()))?;
    }
    for case in Case::ALL.into_iter().filter(|one| choice.cases.is_empty() || choice.cases.contains(one)) {
        for run in 1..=runs {
            // Neither is always the one that comes first.
            let mut order: Vec<&(System, Stage)> =
                stages.iter().filter(|(one, _)| case.concerns(*one)).collect();
            if run % 2 == 0 {
                order.reverse();
            }
            for (system, stage) in order {
                let seen = one_run(case, *system, stage);
                let seen = explained(*system, stage, seen)
                    .with_context(|| format!("{}: {}", system.name(), case.name()))?;
                let outage_s = outage_s(&seen)?;
                let (rows, errors) = (seen.client.acknowledged, seen.client.errors);
                eprintln!(
                    "{}: run {run} of {runs}: {}: out of service for {outage_s:.2} s ({rows} rows, {errors} errors)",
                    case.name(),
                    system.name()
                );
                report.add(case.name(), system.name(), OUTAGE, outage_s);
            }
        }
    }
    Ok(())
}

fn explained<T>(system: System, stage: &Stage, outcome: anyhow::Result<T>) -> anyhow::Result<T> {
    if outcome.is_err() && stage.interrupt.check().is_ok() {
        system.explain(stage);
    }
    outcome
}

/// One fault under load, and everything made good again.
fn one_run(case: Case, system: System, stage: &Stage) -> anyhow::Result<LoadReport> {
    let active = active(stage)?.context("find the active host: no host has the virtual address")?;
    let load = Load::start(&stage.lab, stage.lab.folder().join("rows.jsonl"))?;
    let started = Instant::now();
    flowing(&load, started, FLOWING, stage).context("wait for rows before the fault")?;
    case.strike(system, stage, active, &load)
        .with_context(|| format!("make the fault on {}", active.name))?;
    let struck = Instant::now();
    flowing(&load, struck, BACK, stage).context("wait for the service to come back")?;
    watch(case.aftermath(), stage)?;
    flowing(&load, Instant::now(), BACK, stage).context("wait for the service to stay")?;
    let report = load.stop(stage)?;
    let broken = system.broken(&report);
    ensure!(broken.is_empty(), "promises were broken: {}", broken.join("; "));
    case.undo(stage, active)?;
    system.forget(stage)?;
    until_healthy(system, stage)?;
    Ok(report)
}

/// Waits until enough rows were acknowledged that were sent after a moment.
fn flowing(load: &Load, since: Instant, limit: Duration, stage: &Stage) -> anyhow::Result<()> {
    let enough = || Ok((load.client.acknowledged_since(since) >= ENOUGH).then_some(()));
    wait::until(limit, &stage.interrupt, enough).map_err(Into::into)
}

/// Lets time pass in which a late effect of the fault would show.
fn watch(time: Duration, stage: &Stage) -> anyhow::Result<()> {
    let end = Instant::now() + time;
    let over = || Ok((Instant::now() >= end).then_some(()));
    wait::until(time + FLOWING, &stage.interrupt, over).map_err(Into::into)
}

fn until_healthy(system: System, stage: &Stage) -> anyhow::Result<()> {
    let healthy = || Ok(system.is_healthy(stage)?.then_some(()));
    wait::until(HEALTHY, &stage.interrupt, healthy).context("wait until the pair is healthy")
}

/// The host that has the virtual address.
fn active(stage: &Stage) -> anyhow::Result<Option<&'static Host>> {
    for host in &PAIR {
        if !stage.quietly(host, &format!("ip -oneline address show to {}", VIRTUAL_IP.0))?.text.is_empty() {
            return Ok(Some(host));
        }
    }
    Ok(None)
}

fn outage_s(report: &LoadReport) -> anyhow::Result<f64> {
    let longest = report.client.longest.context("the client has seen no time pass")?;
    ensure!(!longest.open, "the service was not back when the client ended");
    Ok(longest.length_ms() / 1000.0)
}
