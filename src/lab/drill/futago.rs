//! This program: the whole site on a pair with a witness, the database on the replicated file system.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::layout::{Host, PAIR};
use crate::stack::{self, Stack};
use crate::stage::Stage;
use crate::up::{self, Wish};
use crate::wait;

/// For the manager of a host that is on to take a command.
const ANSWER: Duration = Duration::from_secs(120);

pub(super) const EXPLAIN: [&str; 4] = [
    "futago cluster status",
    "futago cluster why",
    "futago replica status r0",
    "journalctl --unit futago-clusterd --unit futago-replicad --lines 40 --no-pager --output short",
];

/// `failover_target` is one of the manager's profiles.
pub(super) fn prepare(stage: &Stage, stack: Stack, failover_target: &str) -> anyhow::Result<()> {
    up::up(&stage.lab, &Wish { witness: true, ..Wish::default() }, &stage.interrupt)?;
    stack::manage(&stage.lab, stack, failover_target)?;
    stage.provision("apply", &[]).map(drop)
}

pub(super) fn is_healthy(stage: &Stage) -> anyhow::Result<bool> {
    for host in &PAIR {
        if verdict(stage, host)?.as_deref() != Some("PROTECTED") {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn switchover(stage: &Stage, from: &Host) -> anyhow::Result<()> {
    stage.shell(from, "futago cluster switchover").map(drop)
}

/// Failures and failovers that count are forgotten, so that the next one is met like the first.
pub(super) fn forget(stage: &Stage) -> anyhow::Result<()> {
    let [first, _] = &PAIR;
    // The manager of a host that was just powered on does not answer yet.
    let told = || Ok(stage.quietly(first, "futago cluster cleanup")?.ok.then_some(()));
    wait::until(ANSWER, &stage.interrupt, told).context("let the manager forget the fault")
}

/// `None` while the manager of that host cannot be asked.
fn verdict(stage: &Stage, host: &Host) -> anyhow::Result<Option<String>> {
    let said = stage.quietly(host, "futago cluster status --json")?;
    if !said.ok {
        return Ok(None);
    }
    let status: Value = serde_json::from_str(&said.text)
        .with_context(|| format!("read the manager's status on {}: {}", host.name, said.text))?;
    Ok(status.get("verdict").and_then(Value::as_str).map(str::to_owned))
}
