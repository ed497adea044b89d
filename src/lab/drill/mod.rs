//! Faults under load: a pair serves a client, something is planned, dies or is cut off, and the longest time between
//! two acknowledged rows counts. Then the pair is restored and must be healthy again.

mod case;
mod course;
mod events;
mod futago;
mod outage;
mod pacemaker;
pub mod pair;
mod record;
mod report;
mod session;

use std::fmt;

use anyhow::{Context as _, ensure};
use clap::ValueEnum;

use crate::layout::{Host, PAIR};
use crate::load::LoadReport;
use crate::stack::Stack;
use crate::stage::Stage;

pub(crate) use case::Case;
use course::{Span, until_healthy};
pub(crate) use record::Record;
pub(crate) use report::Folder;
pub(crate) use session::{OWN_LAB, Order, one, record as begin_record, run as rehearse};

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

    /// Makes the pair and everything on it, and waits until it is healthy. Pacemaker knows only the first stack.
    pub(crate) fn make(self, stack: Stack, stage: &Stage) -> anyhow::Result<()> {
        let ready = self.prepare(stack, stage).and_then(|()| until_healthy(self, stage));
        self.explained(stage, ready).with_context(|| format!("prepare {}", self.name()))
    }

    fn prepare(self, stack: Stack, stage: &Stage) -> anyhow::Result<()> {
        match self {
            Self::Pacemaker => pacemaker::prepare(stage),
            Self::Futago => futago::prepare(stage, stack, "default"),
            Self::FutagoFast => futago::prepare(stage, stack, "fast"),
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
    let seen = course::follow(case, system, stage, Span::Fault).and_then(|course| {
        course.outcome?;
        Seen::of(&course.load)
    });
    system.explained(stage, seen).with_context(|| format!("{}: {}", system.name(), case.name()))
}
