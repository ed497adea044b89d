//! The course of one drill on a real pair: pages and rows flow, the fault is made, the service comes back, the fault is taken
//! back, the pair is PROTECTED again. The fault is taken back whatever happens, also after Ctrl-C.

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use provision::remote::PROGRAM;

use super::fault::Fault;
use super::hosts::{Hosts, Remote};
use super::page::{PACE, Visitor};
use super::writer::Writer;
use crate::drill::case::STANDBY_FELT;
use crate::drill::course::{AFTER, BACK, BEFORE, FLOWING, HEALTHY};
use crate::drill::events::{self, Event};
use crate::drill::record::{Copied, Drill, Marks, Rows, Source};
use crate::interrupt::Interrupt;
use crate::load::{Client, ClientReport, calendar_us};
use crate::stage::Status;
use crate::wait;

/// So many pages in a row, half a second of them, show that the service works.
const ENOUGH: usize = 10;
/// For a daemon to start or for a command that takes something back.
const UNDO: Duration = Duration::from_secs(120);
/// How often replication is asked while a disk catches up.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// What all drills of a run work with.
pub(super) struct Scene<'a> {
    pub(super) hosts: &'a Hosts,
    pub(super) visitor: &'a Visitor,
    /// Whose words are read besides those of our daemons.
    pub(super) units: &'a [String],
    pub(super) interrupt: &'a Interrupt,
}

/// One drill, and why the pair could not be put back; nothing when it was.
pub(super) struct Done {
    pub(super) drill: Drill,
    pub(super) left: Option<String>,
}

/// Does one drill. A broken promise is in its record; an error means that nothing was done and there is nothing to tell.
pub(super) fn follow(fault: Fault, scene: &Scene<'_>) -> anyhow::Result<Done> {
    let Scene { hosts, interrupt, visitor, .. } = scene;
    let active = hosts.until_active(FLOWING, interrupt)?;
    let struck = if fault.must_stay() { hosts.peer_of(active)? } else { active };
    let ahead = clocks(hosts, interrupt)?;
    let client = Client::start(visitor.page.clone(), PACE, visitor.netns.clone(), None)?;
    let writer = Writer::start(hosts, active, calendar_us()? / 1000);
    let mut way = Way { fault, scene, active, struck, marks: Marks::default(), copied: None };
    let mut outcome = way.suffer(&client, &writer);
    let mended = way.mend();
    let left = mended.as_ref().err().map(|error| format!("{error:#}"));
    outcome = outcome.and(mended);
    if outcome.is_ok() {
        outcome = way.look_after(&client, &writer);
    }
    // What was seen counts also when the user wants to stop.
    let calm = Interrupt::never();
    let now = hosts.until_active(BACK, &calm);
    let moved = now.as_ref().ok().map(|now| now.name != active.name);
    let rows = writer.stop(hosts, now, &calm);
    let client = client.stop().context("ask for pages")?;
    outcome = outcome.and_then(|()| kept(fault, &client, &rows, moved));
    let (events, unread) = listen(scene, client.started_us, &ahead);
    let Way { marks, copied, .. } = way;
    let deed = fault.told(active, struck);
    let source = Source {
        deed,
        client: &client,
        rows,
        audit: None,
        marks,
        copied,
        outcome: &outcome,
        events: &events,
        unread,
    };
    Ok(Done { drill: source.drill(), left })
}

fn kept(fault: Fault, client: &ClientReport, rows: &Rows, moved: Option<bool>) -> anyhow::Result<()> {
    let mut broken = Vec::new();
    broken.extend(rows.unchecked.iter().map(|why| format!("the rows could not be checked: {why}")));
    if rows.lost > 0 {
        broken.push(format!("{} of {} acknowledged rows are missing", rows.lost, rows.acknowledged));
    }
    // An application may answer with a page while its database is away.
    let away_s = client.longest.map_or(0.0, |gap| gap.length_ms() / 1000.0).max(rows.pause_s.unwrap_or(0.0));
    if fault.must_stay() && away_s > STANDBY_FELT.as_secs_f64() {
        let most = STANDBY_FELT.as_secs();
        broken.push(format!("the service was away for {away_s:.1} s, at most {most} s are promised"));
    }
    match moved {
        Some(true) if fault.must_stay() => {
            broken.push("the service moved although only the standby was struck".to_owned());
        }
        Some(false) if fault.must_move() => broken.push("the service did not move".to_owned()),
        _ => {}
    }
    ensure!(broken.is_empty(), "promises were broken: {}", broken.join("; "));
    Ok(())
}

/// One drill while it is under way.
struct Way<'a> {
    fault: Fault,
    scene: &'a Scene<'a>,
    active: &'a Remote,
    struck: &'a Remote,
    marks: Marks,
    copied: Option<Copied>,
}

impl Way<'_> {
    /// The fault, until the service works again.
    fn suffer(&mut self, client: &Client, writer: &Writer) -> anyhow::Result<()> {
        let Scene { hosts, interrupt, .. } = *self.scene;
        let started = Instant::now();
        wait::pause(BEFORE, interrupt)?;
        flowing(client, writer, started, FLOWING, interrupt).context("before the fault")?;
        self.marks.struck_us = Some(calendar_us()?);
        self.fault.strike(hosts, self.active, self.struck, interrupt).context("make the fault")?;
        self.marks.done_us = Some(calendar_us()?);
        flowing(client, writer, Instant::now(), BACK, interrupt).context("after the fault")?;
        wait::pause(self.fault.aftermath(), interrupt)?;
        flowing(client, writer, Instant::now(), BACK, interrupt).context("after the service was back")
    }

    /// Takes the fault back and waits for the pair, whatever the user wants meanwhile.
    fn mend(&mut self) -> anyhow::Result<()> {
        let calm = Interrupt::never();
        let hosts = self.scene.hosts;
        if self.scene.interrupt.check().is_err() {
            eprintln!("--- interrupted: the pair is put back first; please wait");
        }
        // For the figures only: nothing is taken back later because of them.
        let before = self.look_at_disks(&calm);
        self.marks.undone_us = Some(calendar_us()?);
        if let Some(line) = self.fault.undo()
            && self.marks.struck_us.is_some()
        {
            let order = || hosts.order(self.struck, line, UNDO, &calm);
            // A connection may have been lost while the host is there: the second try makes a new one.
            order().or_else(|_| order()).map_err(|error| anyhow!("{error:#}; type it there yourself"))?;
        }
        if let Some(before) = before {
            self.catch_up(&before, &calm)?;
        }
        hosts.until_protected(HEALTHY, &calm)?;
        // Failures that count are forgotten, so that the next one is met like the first.
        hosts.order(self.active, &format!("{PROGRAM} cluster cleanup"), UNDO, &calm)?;
        hosts.until_protected(HEALTHY, &calm)?;
        self.marks.healthy_us = Some(calendar_us()?);
        Ok(())
    }

    fn look_after(&self, client: &Client, writer: &Writer) -> anyhow::Result<()> {
        wait::pause(AFTER, self.scene.interrupt)?;
        flowing(client, writer, Instant::now(), BACK, self.scene.interrupt).context("after all")
    }

    fn look_at_disks(&self, calm: &Interrupt) -> Option<Status> {
        self.fault.must_stay().then(|| self.scene.hosts.replication(self.active, calm).ok()).flatten()
    }

    fn catch_up(&mut self, before: &Status, calm: &Interrupt) -> anyhow::Result<()> {
        let (hosts, host) = (self.scene.hosts, self.active);
        let synced = || {
            let status = hosts.replication(host, calm)?;
            Ok(status.is_in_sync().then_some(status))
        };
        let after = wait::until_every(ASK_EVERY, HEALTHY, calm, synced)
            .with_context(|| format!("wait until both disks are UpToDate, seen from {}", host.name))?;
        self.marks.in_sync_us = Some(calendar_us()?);
        let (lacking_kib, sent_kib) = (before.out_of_sync_kib()?, after.sent_kib()? - before.sent_kib()?);
        self.copied = Some(Copied { lacking_kib, sent_kib });
        Ok(())
    }
}

/// Waits until pages were answered and a row was written that were asked for after a moment.
fn flowing(
    client: &Client,
    writer: &Writer,
    since: Instant,
    limit: Duration,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let pages = || Ok((client.acknowledged_since(since) >= ENOUGH).then_some(()));
    wait::until(limit, interrupt, pages).context("wait for pages")?;
    let rows = || Ok(writer.accepts_since(since).then_some(()));
    wait::until(limit, interrupt, rows).with_context(|| format!("wait for a row; {}", writer.trouble()))
}

/// How far the clock of each host is ahead of ours.
fn clocks(hosts: &Hosts, interrupt: &Interrupt) -> anyhow::Result<Vec<i64>> {
    hosts.pair.iter().map(|host| hosts.ahead_us(host, interrupt)).collect()
}

/// What was said on both hosts since the client was started, by our clock, in the order of time; and why a host was not heard.
fn listen(scene: &Scene<'_>, since_us: u64, ahead: &[i64]) -> (Vec<Event>, Vec<String>) {
    let (mut all, mut unread) = (Vec::new(), Vec::new());
    for (host, ahead) in scene.hosts.pair.iter().zip(ahead) {
        let since_there = since_us.saturating_add_signed(*ahead);
        let line = events::command(scene.units.iter().map(String::as_str), since_there);
        match scene.hosts.ask_for(host, &line, events::LOOK, &Interrupt::never()) {
            Ok(said) => {
                let events = events::read(&said.text, &host.name, since_there).into_iter();
                all.extend(
                    events.map(|event| Event { at_us: event.at_us.saturating_add_signed(-ahead), ..event }),
                );
            }
            Err(error) => unread.push(format!("read the journal of {}: {error:#}", host.name)),
        }
    }
    all.sort_by_key(|event| event.at_us);
    (all, unread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Gap;

    /// What is said of a drill with so many seconds without a page and without a row, so many lost rows, and whether the
    /// service moved.
    fn said(fault: Fault, away_s: [f64; 2], lost: usize, moved: Option<bool>) -> String {
        let [pages_s, rows_s] = away_s;
        let longest = Some(Gap { from_ms: 0.0, to_ms: pages_s * 1000.0, open: false });
        let client = ClientReport {
            started_us: 0,
            acknowledged: 9,
            errors: 0,
            kinds: std::collections::BTreeMap::new(),
            longest,
            gaps: Vec::new(),
            rows: Vec::new(),
            failed: Vec::new(),
        };
        let rows = Rows { acknowledged: 9, checked: 9, lost, unchecked: None, pause_s: Some(rows_s) };
        kept(fault, &client, &rows, moved).map_or_else(|error| error.to_string(), |()| "kept".to_owned())
    }

    #[test]
    fn each_promise_of_a_drill_is_judged() {
        assert_eq!(said(Fault::Switchover, [9.0, 8.0], 0, Some(true)), "kept");
        assert_eq!(said(Fault::Resync, [1.0, 2.0], 0, Some(false)), "kept");
        assert_eq!(said(Fault::MariadbCrash, [9.0, 9.0], 0, Some(true)), "kept", "it may move");
        for (broken, words) in [
            (said(Fault::MariadbCrash, [1.0, 1.0], 2, Some(false)), "2 of 9 acknowledged rows are missing"),
            (said(Fault::StandbyLoss, [5.5, 0.1], 0, Some(false)), "away for 5.5 s, at most 5 s"),
            (said(Fault::StandbyLoss, [0.1, 6.0], 0, Some(false)), "away for 6.0 s, at most 5 s"),
            (said(Fault::StandbyLoss, [1.0, 1.0], 0, Some(true)), "moved although only the standby"),
            (said(Fault::ManagerStop, [1.0, 1.0], 0, Some(false)), "did not move"),
        ] {
            assert!(broken.contains(words), "{broken}");
        }
    }
}
