//! The course of one fault: rows flow, the fault is made, the service comes back, the fault is taken back, the pair
//! is healthy again. What was seen until then is there also when something went wrong on the way.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::record::{Copied, Marks};
use super::{Case, System};
use crate::layout::Host;
use crate::load::{Load, LoadReport, calendar_us};
use crate::stage::{Stage, Status};
use crate::wait;

/// So many acknowledged rows in a row, half a second of them, show that the service works.
const ENOUGH: usize = 25;
/// For requests to be answered before a fault: the pair is healthy.
pub(super) const FLOWING: Duration = Duration::from_secs(20);
/// For the service to come back after a fault, far beyond what any system promises.
pub(super) const BACK: Duration = Duration::from_secs(120);
/// For a pair to be healthy again once the fault was taken back: a boot, a resync, a restart.
pub(super) const HEALTHY: Duration = Duration::from_secs(180);
/// What a whole course shows of the time before the fault, and after everything is good again.
pub(super) const BEFORE: Duration = Duration::from_secs(3);
pub(super) const AFTER: Duration = Duration::from_secs(1);

/// How long the client looks on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Span {
    /// Until the service works again; the fault is taken back without a client.
    Fault,
    /// Until the pair is healthy again.
    Whole,
}

/// What was seen.
pub(super) struct Course {
    pub(super) active: &'static Host,
    pub(super) load: LoadReport,
    pub(super) marks: Marks,
    pub(super) copied: Option<Copied>,
    /// An error where it went wrong or a promise was broken.
    pub(super) outcome: anyhow::Result<()>,
}

/// Makes one fault under load and everything good again. An error means that nothing was seen at all.
pub(super) fn follow(case: Case, system: System, stage: &Stage, span: Span) -> anyhow::Result<Course> {
    let active = stage.active()?.context("find the active host: no host has the virtual address")?;
    let load = Load::start(&stage.lab, stage.lab.folder().join("rows.jsonl"))?;
    let mut way = Way { case, system, stage, active, marks: Marks::default(), copied: None };
    // Where only the standby is struck, its return is what may be felt.
    let whole = span == Span::Whole || case.must_stay();
    let mut outcome = way.suffer(&load, span);
    if whole {
        // Also after a failure: whoever comes next needs the pair.
        let mended = way.mend(Some(&load));
        outcome = outcome.and(mended);
    }
    let load = load.stop(stage)?;
    outcome = outcome.and_then(|()| kept(case, system, &load));
    if !whole {
        outcome = outcome.and_then(|()| way.mend(None));
    }
    let Way { marks, copied, .. } = way;
    Ok(Course { active, load, marks, copied, outcome })
}

fn kept(case: Case, system: System, load: &LoadReport) -> anyhow::Result<()> {
    let mut broken = system.broken(load);
    if case.must_stay() && load.audit.moves.len() > 1 {
        broken.push("the service moved although only the standby was struck".to_owned());
    }
    let away = load.client.longest.map(|gap| gap.length_ms() / 1000.0);
    if let (Some(most), Some(away)) = (case.most(), away)
        && away > most.as_secs_f64()
    {
        let most = most.as_secs();
        broken.push(format!("the service was away for {away:.1} s, at most {most} s are promised"));
    }
    ensure!(broken.is_empty(), "promises were broken: {}", broken.join("; "));
    Ok(())
}

/// One course while it is under way.
struct Way<'a> {
    case: Case,
    system: System,
    stage: &'a Stage,
    active: &'static Host,
    marks: Marks,
    copied: Option<Copied>,
}

impl Way<'_> {
    /// The fault, until the service works again.
    fn suffer(&mut self, load: &Load, span: Span) -> anyhow::Result<()> {
        let (case, stage) = (self.case, self.stage);
        let started = Instant::now();
        if span == Span::Whole {
            wait::pause(BEFORE, &stage.interrupt)?;
        }
        flowing(load, started, FLOWING, stage).context("wait for rows before the fault")?;
        self.marks.struck_us = Some(calendar_us()?);
        case.strike(self.system, stage, self.active, load)
            .with_context(|| format!("make the fault: {}", case.place(self.active)))?;
        self.marks.done_us = Some(calendar_us()?);
        flowing(load, Instant::now(), BACK, stage).context("wait for the service to come back")?;
        wait::pause(case.aftermath(), &stage.interrupt)?;
        flowing(load, Instant::now(), BACK, stage).context("wait for the service to stay")
    }

    /// Takes the fault back and waits for the pair.
    fn mend(&mut self, load: Option<&Load>) -> anyhow::Result<()> {
        let (case, stage) = (self.case, self.stage);
        let before = if self.copies() { self.look_at_disks() } else { None };
        self.marks.undone_us = Some(calendar_us()?);
        case.undo(stage, self.active)?;
        if let Some((host, before)) = before {
            self.catch_up(host, &before)?;
        }
        self.system.forget(stage)?;
        until_healthy(self.system, stage)?;
        self.marks.healthy_us = Some(calendar_us()?);
        if let Some(load) = load {
            wait::pause(AFTER, &stage.interrupt)?;
            flowing(load, Instant::now(), BACK, stage).context("wait for rows after all")?;
        }
        case.tidy(stage, self.active)
    }

    fn copies(&self) -> bool {
        self.system != System::Pacemaker && self.case.parts_the_disks()
    }

    /// The host that has the service now, and what its replication daemon says: for the figures only, so that nothing
    /// is taken back later because of them.
    fn look_at_disks(&self) -> Option<(&'static Host, Status)> {
        let host = self.stage.active().ok().flatten()?;
        Some((host, self.stage.status(host).ok()?))
    }

    fn catch_up(&mut self, host: &'static Host, before: &Status) -> anyhow::Result<()> {
        let synced = || Ok(Some(self.stage.status(host)?).filter(Status::is_in_sync));
        let after = wait::until(HEALTHY, &self.stage.interrupt, synced)
            .with_context(|| format!("wait until both disks are UpToDate, seen from {}", host.name))?;
        self.marks.in_sync_us = Some(calendar_us()?);
        let (lacking_kib, sent_kib) = (before.out_of_sync_kib()?, after.sent_kib()? - before.sent_kib()?);
        self.copied = Some(Copied { lacking_kib, sent_kib });
        Ok(())
    }
}

/// Waits until enough rows were acknowledged that were sent after a moment.
fn flowing(load: &Load, since: Instant, limit: Duration, stage: &Stage) -> anyhow::Result<()> {
    let enough = || Ok((load.client.acknowledged_since(since) >= ENOUGH).then_some(()));
    wait::until(limit, &stage.interrupt, enough).map_err(Into::into)
}

pub(super) fn until_healthy(system: System, stage: &Stage) -> anyhow::Result<()> {
    let healthy = || Ok(system.is_healthy(stage)?.then_some(()));
    wait::until(HEALTHY, &stage.interrupt, healthy).context("wait until the pair is healthy")
}
