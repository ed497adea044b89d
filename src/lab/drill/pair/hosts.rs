//! The hosts of a real pair over SSH: shell commands, and what their managers say.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use provision::host::{Shell, Target};
use provision::inventory::{Inventory, Member};
use provision::remote::PROGRAM;
use provision::runner::OverSsh;
use provision::sudo::Sudo;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::interrupt::Interrupt;
use crate::load::calendar_us;
use crate::stage::{Said, Status};
use crate::wait;

/// For a command that only asks, or starts or stops a daemon of ours.
const COMMAND: Duration = Duration::from_secs(60);
/// How often a manager is asked while its answer is waited for.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// How often a clock is compared: the quickest answer counts.
const LOOKS_AT_CLOCK: u32 = 3;

/// One host.
pub(super) struct Remote {
    pub(super) name: String,
    pub(super) target: Target,
    /// Made anew when it is lost.
    shell: RefCell<Option<Shell>>,
}

/// The two hosts that carry data.
pub(super) struct Hosts {
    pub(super) runtime: Runtime,
    pub(super) pair: Vec<Remote>,
}

impl Hosts {
    pub(super) fn of(inventory: &Inventory) -> anyhow::Result<Self> {
        let runtime = Runtime::new().context("start the runtime")?;
        let over = over_ssh(inventory)?;
        let remote = |member: &Member| Remote {
            name: member.name.clone(),
            target: over.target(member),
            shell: RefCell::new(None),
        };
        Ok(Self { runtime, pair: inventory.hosts.iter().map(remote).collect() })
    }

    /// Runs a shell command on a host as root, whatever comes of it.
    pub(super) fn ask(&self, host: &Remote, line: &str, interrupt: &Interrupt) -> anyhow::Result<Said> {
        self.ask_for(host, line, COMMAND, interrupt)
    }

    /// The same, with another limit.
    pub(super) fn ask_for(
        &self,
        host: &Remote,
        line: &str,
        limit: Duration,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Said> {
        let shell = host.shell.take();
        let asked = self.runtime.block_on(async {
            tokio::select! {
                asked = tokio::time::timeout(limit, ask(shell, &host.target, line)) => asked,
                () = interrupt.told() => Ok(Err(anyhow!("interrupted"))),
            }
        });
        interrupt.check()?;
        let place = || format!("run `{line}` on {}", host.name);
        let asked = asked.map_err(|_| anyhow!("no answer within {} s", limit.as_secs()));
        let (shell, said) = asked.and_then(|asked| asked).with_context(place)?;
        host.shell.replace(Some(shell));
        Ok(said)
    }

    /// The same; it must succeed.
    pub(super) fn order(
        &self,
        host: &Remote,
        line: &str,
        limit: Duration,
        interrupt: &Interrupt,
    ) -> anyhow::Result<String> {
        eprintln!("[root@{} ~]# {line}", host.name);
        let said = self.ask_for(host, line, limit, interrupt)?;
        if !said.text.is_empty() {
            eprintln!("{}", said.text);
        }
        if !said.ok {
            bail!("`{line}` failed on {}: {}", host.name, said.text);
        }
        Ok(said.text)
    }

    /// What the manager of a host says of the cluster.
    fn status(&self, host: &Remote, interrupt: &Interrupt) -> anyhow::Result<Value> {
        // Its exit code is the verdict.
        let said = self.ask(host, &format!("{PROGRAM} cluster status --json"), interrupt)?;
        serde_json::from_str(&said.text).map_err(|_| {
            anyhow!("the cluster manager on {} does not tell its status: {}", host.name, said.text)
        })
    }

    /// Why the pair is not fit for a drill; an error when a host cannot be asked.
    pub(super) fn unfit(&self, interrupt: &Interrupt) -> anyhow::Result<Option<String>> {
        for host in &self.pair {
            let status = self.status(host, interrupt)?;
            let text = |key: &str| status.get(key).and_then(Value::as_str).unwrap_or("unknown").to_owned();
            if text("verdict") != "PROTECTED" {
                return Ok(Some(format!("{} says {}: {}", host.name, text("verdict"), text("because"))));
            }
        }
        Ok(None)
    }

    /// Waits until both managers say PROTECTED.
    pub(super) fn until_protected(&self, limit: Duration, interrupt: &Interrupt) -> anyhow::Result<()> {
        let mut last = String::new();
        let waited = wait::until_every(ASK_EVERY, limit, interrupt, || {
            // A manager that is just being started does not answer.
            match self.unfit(interrupt) {
                Ok(None) => return Ok(Some(())),
                Ok(Some(why)) => last = why,
                Err(error) => last = format!("{error:#}"),
            }
            Ok(None)
        });
        waited.with_context(|| format!("wait until both hosts say PROTECTED: {last}"))
    }

    /// The host where the service runs, by the managers themselves.
    pub(super) fn active(&self, interrupt: &Interrupt) -> anyhow::Result<Option<&Remote>> {
        for host in &self.pair {
            // One whose manager is stopped runs nothing.
            let status = self.status(host, interrupt);
            interrupt.check()?;
            if status.is_ok_and(|s| s.pointer("/local/role").and_then(Value::as_str) == Some("active")) {
                return Ok(Some(host));
            }
        }
        Ok(None)
    }

    /// Waits until the service runs somewhere.
    pub(super) fn until_active(&self, limit: Duration, interrupt: &Interrupt) -> anyhow::Result<&Remote> {
        let found = wait::until_every(ASK_EVERY, limit, interrupt, || self.active(interrupt));
        found.context("find the host where the service runs")
    }

    /// The other one.
    pub(super) fn peer_of(&self, host: &Remote) -> anyhow::Result<&Remote> {
        self.pair.iter().find(|other| other.name != host.name).context("find the other host of the pair")
    }

    /// What the replication daemon of a host says.
    pub(super) fn replication(&self, host: &Remote, interrupt: &Interrupt) -> anyhow::Result<Status> {
        let said = self.ask(host, &format!("{PROGRAM} replica status --json r0"), interrupt)?;
        Status::read(&host.name, &said)
    }

    /// How far the clock of a host is ahead of ours, in microseconds.
    pub(super) fn ahead_us(&self, host: &Remote, interrupt: &Interrupt) -> anyhow::Result<i64> {
        let mut best: Option<(u64, i64)> = None;
        for _ in 0..LOOKS_AT_CLOCK {
            let before = calendar_us()?;
            let said = self.ask(host, "date +%s%6N", interrupt)?.text;
            let after = calendar_us()?;
            let there: u64 =
                said.trim().parse().with_context(|| format!("read the clock of {}: {said}", host.name))?;
            let here = before.midpoint(after);
            let ahead = there.cast_signed().wrapping_sub(here.cast_signed());
            if best.is_none_or(|(took, _)| after.saturating_sub(before) < took) {
                best = Some((after.saturating_sub(before), ahead));
            }
        }
        best.map(|(_, ahead)| ahead).context("compare the clocks")
    }
}

/// How the hosts of an inventory are reached.
pub(super) fn over_ssh(inventory: &Inventory) -> anyhow::Result<OverSsh> {
    Ok(OverSsh::new(&inventory.ssh, false, Sudo::default().password(inventory)?))
}

async fn ask(shell: Option<Shell>, target: &Target, line: &str) -> anyhow::Result<(Shell, Said)> {
    let shell = match shell {
        Some(shell) => shell,
        None => Shell::connect(target.clone()).await?,
    };
    // One stream, in the order things were said.
    let (code, text) = shell.answer(&["sh", "-c", &format!("exec 2>&1; {line}")]).await?;
    Ok((shell, Said { ok: code == 0, text: text.trim_end().to_owned() }))
}
