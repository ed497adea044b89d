//! Faults under load: a pair serves a client, something is planned, dies or is cut off, and the longest time between
//! two acknowledged rows counts. Then the pair is restored and must be healthy again.

mod case;
mod futago;
mod pacemaker;

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;

use crate::layout::{Host, PAIR, VIRTUAL_IP};
use crate::load::{Load, LoadReport};
use crate::stage::Stage;
use crate::wait;

pub(crate) use case::Case;

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
    pub(crate) const ALL: [Self; 3] = [Self::Pacemaker, Self::Futago, Self::FutagoFast];

    /// As tables have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pacemaker => "Pacemaker, nothing replicated",
            Self::Futago => "futago, default",
            Self::FutagoFast => "futago, fast",
        }
    }

    /// Makes the pair and everything on it, and waits until it is healthy.
    pub(crate) fn make(self, stage: &Stage) -> anyhow::Result<()> {
        let ready = self.prepare(stage).and_then(|()| until_healthy(self, stage));
        self.explained(stage, ready).with_context(|| format!("prepare {}", self.name()))
    }

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

    fn explained<T>(self, stage: &Stage, outcome: anyhow::Result<T>) -> anyhow::Result<T> {
        if outcome.is_err() && stage.interrupt.check().is_ok() {
            self.explain(stage);
        }
        outcome
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

/// What a client has seen of a fault; the promises that its system makes were kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// The longest time between two acknowledged rows, in seconds.
    pub(crate) outage_s: f64,
    /// Acknowledged rows.
    pub(crate) rows: u64,
    /// Requests that were not acknowledged.
    pub(crate) errors: u64,
}

impl Seen {
    fn of(report: &LoadReport) -> anyhow::Result<Self> {
        let longest = report.client.longest.context("the client has seen no time pass")?;
        ensure!(!longest.open, "the service was not back when the client ended");
        let (rows, errors) = (report.client.acknowledged, report.client.errors);
        Ok(Self { outage_s: longest.length_ms() / 1000.0, rows, errors })
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { outage_s, rows, errors } = self;
        write!(f, "out of service for {outage_s:.2} s ({rows} rows, {errors} errors)")
    }
}

/// Makes one fault under load and everything good again. A broken promise is an error.
pub(crate) fn run(case: Case, system: System, stage: &Stage) -> anyhow::Result<Seen> {
    let seen = one_run(case, system, stage);
    system.explained(stage, seen).with_context(|| format!("{}: {}", system.name(), case.name()))
}

fn one_run(case: Case, system: System, stage: &Stage) -> anyhow::Result<Seen> {
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
    Seen::of(&report)
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
