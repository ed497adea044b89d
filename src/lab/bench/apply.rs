//! What an apply costs that changes nothing, beside one login by the real ssh client.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::report::{Better, Metric, Report};
use super::{on_labs, provisioned};
use crate::child;
use crate::host;
use crate::interrupt::Interrupt;
use crate::layout::{Lab, PAIR};
use crate::stage::{self, Stage};

/// For one apply or one login; seconds in practice.
const LIMIT: Duration = Duration::from_secs(120);

const CASE: &str = "nothing to change";
const DURATION: Metric = Metric { name: "duration", unit: "s", better: Better::Less };
const RATIO: Metric = Metric { name: "ratio", unit: "", better: Better::Less };

/// Boots and provisions a pair, measures, and takes it down again.
pub(super) fn run(lab: &Lab, runs: u32, interrupt: &Interrupt, report: &mut Report) -> anyhow::Result<()> {
    on_labs(lab, &[""], interrupt, |stages| {
        stages.iter().try_for_each(|pair| provisioned(pair, |stage| measure(stage, runs, report)))
    })
}

/// Takes both times `runs` times, in turn.
fn measure(stage: &Stage, runs: u32, report: &mut Report) -> anyhow::Result<()> {
    for run in 1..=runs {
        let (apply, said) = timed(stage, &mut stage.provisioner("apply")?).context("apply again")?;
        stage::nothing_changed(&said)?;
        let [first, _] = &PAIR;
        let mut login = host::ssh(&stage.lab, first);
        login.args(["-o", "BatchMode=yes", "true"]);
        let (ssh, _) = timed(stage, &mut login)?;
        eprintln!("run {run} of {runs}: futago apply {apply:.3} s, ssh {} true {ssh:.3} s", first.name);
        report.add(CASE, "futago apply, both hosts", DURATION, apply);
        report.add(CASE, "ssh HOST true", DURATION, ssh);
        report.add(CASE, "apply / ssh", RATIO, apply / ssh);
    }
    Ok(())
}

/// Runs a command and returns its seconds and its stdout.
fn timed(stage: &Stage, command: &mut Command) -> anyhow::Result<(f64, String)> {
    let started = Instant::now();
    let output = child::run_for(command, "", LIMIT, &stage.interrupt)?;
    let seconds = started.elapsed().as_secs_f64();
    Ok((seconds, String::from_utf8_lossy(&output.stdout).into_owned()))
}
