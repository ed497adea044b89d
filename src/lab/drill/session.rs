//! The verb `lab drill`: a pair of its own, one drill after the other, everything taken down again.
//!
//! A drill that breaks a promise is part of the record, not an error of the verb; the next one is begun only on a pair
//! that is healthy.

use std::path::PathBuf;

use super::course::{self, Course, Span};
use super::events::{self, Event};
use super::record::{Asked, Audit, Client, Drill, LeftOut, Record, Rows, Source};
use super::report::Folder;
use super::{Case, System, until_healthy};
use crate::interrupt::Interrupt;
use crate::layout::{Lab, PAIR};
use crate::load;
use crate::own;
use crate::power::Keep;
use crate::stack::Stack;
use crate::stage::Stage;

/// The name of the drills' own lab, which they may make anew at any time.
pub(crate) const OWN_LAB: &str = "drill";

/// What the stacks are made of.
const UNITS: [&str; 3] = ["mariadb", "apache2", "zabbix-server"];

/// What is wanted.
#[derive(Debug)]
pub(crate) struct Order {
    /// None stands for the usual ones.
    pub(crate) cases: Vec<Case>,
    pub(crate) stack: Stack,
    pub(crate) keep: Keep,
    /// Where the record and the page go.
    pub(crate) report: Option<PathBuf>,
}

/// Boots a pair, drills it, and takes it down again, whatever came of it.
pub(crate) fn run(lab: &Lab, order: &Order, interrupt: &Interrupt) -> anyhow::Result<Record> {
    // Before minutes are spent on what cannot be kept.
    let folder = order.report.as_deref().map(Folder::open).transpose()?;
    let mut record = self::record(order.stack)?;
    own::clear(lab, OWN_LAB, interrupt)?;
    let stage = Stage::new(lab, interrupt)?;
    let drilled =
        System::Futago.make(order.stack, &stage).and_then(|()| drill_all(order, &stage, &mut record));
    let gone = leave(lab, order.keep);
    // What was seen is kept, whatever else went wrong; of an interrupted run nothing is expected.
    let kept = match &folder {
        Some(folder) if interrupt.check().is_ok() && !record.drills.is_empty() => {
            folder.keep(&record, order.stack.word()).map(drop)
        }
        _ => Ok(()),
    };
    own::outcome(drilled, gone, interrupt)?;
    kept.map(|()| record)
}

/// A record of nothing yet.
pub(crate) fn record(stack: Stack) -> anyhow::Result<Record> {
    let client =
        Client { asks_for: Asked::Rows, pace: load::PACE, way: "through the virtual address".to_owned() };
    let pair = "two hosts and a witness in a lab of their own".to_owned();
    Record::begin(pair, stack.word().to_owned(), System::Futago.name().to_owned(), client)
}

fn leave(lab: &Lab, keep: Keep) -> anyhow::Result<()> {
    if keep == Keep::Disks {
        eprintln!("\nlab `{lab}` stays up, as asked; remove it: futago lab down --purge --name {lab}");
        return Ok(());
    }
    eprintln!("\ntaking lab `{lab}` down");
    own::take_down(lab)
}

fn drill_all(order: &Order, stage: &Stage, record: &mut Record) -> anyhow::Result<()> {
    let cases = if order.cases.is_empty() { Case::DRILLS.as_slice() } else { &order.cases };
    for case in cases {
        let because = match one(*case, order.stack, stage) {
            Ok(drill) => {
                eprintln!("--- {}", drill.sentence());
                let passed = drill.passed;
                record.drills.push(drill);
                if passed { None } else { until_healthy(System::Futago, stage).err() }
            }
            // Nothing was seen of this one, not even its beginning.
            Err(error) => Some(error.context(format!("begin the drill {}", case.word()))),
        };
        stage.interrupt.check()?;
        if let Some(error) = because {
            let because = format!("{error:#}");
            eprintln!("--- the pair is not fit for another drill: {because}");
            let drills: Vec<String> =
                cases.iter().skip(record.drills.len()).map(|case| case.word()).collect();
            record.left_out = (!drills.is_empty()).then_some(LeftOut { drills, because });
            break;
        }
    }
    Ok(())
}

/// One drill. A broken promise is in it; an error means that there is nothing to tell.
pub(crate) fn one(case: Case, stack: Stack, stage: &Stage) -> anyhow::Result<Drill> {
    eprintln!("\n=== {}: {}", case.word(), case.deed());
    let system = System::Futago;
    let mut course = course::follow(case, system, stage, Span::Whole)?;
    stage.interrupt.check()?;
    if course.outcome.is_ok() {
        course.outcome = stack.look(stage).map(|seen| seen.iter().for_each(|seen| eprintln!("{seen}")));
    }
    if let Err(error) = &course.outcome {
        eprintln!("--- failed: {error:#}");
        system.explain(stage);
    }
    let (events, unread) = listen(stage, &course);
    let Course { active, load, marks, copied, outcome } = course;
    let acknowledged = load.client.acknowledged;
    Ok(Source {
        deed: case.told(active),
        client: &load.client,
        rows: Rows {
            acknowledged,
            checked: if load.unchecked.is_some() { 0 } else { acknowledged },
            lost: load.missing.len(),
            unchecked: load.unchecked,
            pause_s: None,
        },
        audit: Some(Audit::of(&load.audit)),
        marks,
        copied,
        outcome: &outcome,
        events: &events,
        unread,
    }
    .drill())
}

/// What was said on both hosts since the client was started, in the order of time; and why a host was not heard.
fn listen(stage: &Stage, course: &Course) -> (Vec<Event>, Vec<String>) {
    let (mut all, mut unread) = (Vec::new(), Vec::new());
    for host in &PAIR {
        let since_us = course.load.client.started_us;
        match stage.answer(host, &events::command(UNITS, since_us), events::LOOK) {
            Ok(text) => all.extend(events::read(&text, host.name, since_us)),
            Err(error) => unread.push(format!("read the journal of {}: {error:#}", host.name)),
        }
    }
    all.sort_by_key(|event| event.at_us);
    (all, unread)
}
