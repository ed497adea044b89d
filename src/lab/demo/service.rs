//! A service that moves by itself: the pair with its cluster manager, a web server with a database, and a client that
//! writes rows through the virtual address while things go wrong.

use super::replication::{apply_again, boot_bare};
use super::story::{Step, Story, step};
use crate::drill::{self, Case, System};
use crate::layout::PAIR;
use crate::up::Wish;

/// The whole story.
pub(super) const STEPS: [Step; 7] = [
    step("boot two bare hosts and a witness", boot),
    step("make them a service that survives the loss of any: futago apply", apply),
    step("apply again: nothing changes", apply_again),
    step("under load: order the service to the other host", switchover),
    step("under load: cut the power of the active host", cut_power),
    step("under load: kill the database", kill_database),
    step("under load: cut the line between the hosts", cut_line),
];

fn boot(story: &mut Story) -> anyhow::Result<()> {
    boot_bare(&story.stage, &Wish { witness: true, ..Wish::default() })
}

fn apply(story: &mut Story) -> anyhow::Result<()> {
    System::Futago.make(&story.stage)?;
    status(story)
}

fn switchover(story: &mut Story) -> anyhow::Result<()> {
    suffer(story, Case::Switchover)
}

fn cut_power(story: &mut Story) -> anyhow::Result<()> {
    suffer(story, Case::PowerLoss)
}

fn kill_database(story: &mut Story) -> anyhow::Result<()> {
    suffer(story, Case::DatabaseKilled)
}

fn cut_line(story: &mut Story) -> anyhow::Result<()> {
    suffer(story, Case::LocalCut)
}

/// A fault while a client writes: the service comes back, no row is lost, and the pair mends.
fn suffer(story: &mut Story, case: Case) -> anyhow::Result<()> {
    let seen = drill::run(case, System::Futago, &story.stage)?;
    eprintln!("{}: {seen}", case.name());
    story.shown = Some(format!("{:.2} s without service; {} rows, none lost", seen.outage_s, seen.rows));
    status(story)
}

fn status(story: &Story) -> anyhow::Result<()> {
    let [first, _] = &PAIR;
    story.stage.shell(first, "futago cluster status").map(drop)
}
