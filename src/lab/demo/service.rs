//! A service that moves by itself: the pair with its cluster manager, a web server with a database, and a client that
//! writes rows through the virtual address while things go wrong.

use super::replication::{apply_again, boot_bare};
use super::story::{Step, Story, step};
use crate::drill::{self, Case, System};
use crate::layout::PAIR;
use crate::stack::Stack;
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

/// The same with somebody who logs in.
pub(super) const STEPS_WITH_USERS: [Step; 8] = [
    STEPS[0],
    STEPS[1],
    step("log in through the virtual address", look),
    STEPS[2],
    STEPS[3],
    STEPS[4],
    STEPS[5],
    STEPS[6],
];

fn boot(story: &mut Story) -> anyhow::Result<()> {
    boot_bare(&story.stage, &Wish { witness: true, ..Wish::default() })
}

fn apply(story: &mut Story) -> anyhow::Result<()> {
    System::Futago.make(story.stack.unwrap_or(Stack::Lamp), &story.stage)?;
    status(story)
}

fn look(story: &mut Story) -> anyhow::Result<()> {
    story.shown = story.stack.map(|stack| stack.look(&story.stage)).transpose()?.flatten();
    story.shown.iter().for_each(|seen| eprintln!("{seen}"));
    Ok(())
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
    let drill = drill::one(case, story.stack.unwrap_or(Stack::Lamp), &story.stage)?;
    eprintln!("--- {}", drill.sentence());
    story.shown = Some(drill.summary());
    story.record.as_mut().map_or(Ok(()), |record| record.add(drill))?;
    status(story)
}

fn status(story: &Story) -> anyhow::Result<()> {
    let [first, _] = &PAIR;
    story.stage.shell(first, "futago cluster status").map(drop)
}
