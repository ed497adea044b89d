//! What the verbs that tell or measure something work with: two hosts, their terminals, the provisioner.
//!
//! Nothing here knows what is told or measured.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::child;
use crate::control_group::{self, Hierarchies};
use crate::host;
use crate::interrupt::Interrupt;
use crate::layout::{Host, Lab, PAIR, VIRTUAL_IP};
use crate::wait::{self, WaitError};

/// For one command in a host.
const COMMAND: Duration = Duration::from_secs(60);
/// For the provisioner: it installs packages and waits for the first sync.
const APPLY: Duration = Duration::from_secs(900);

/// The stage.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) lab: Lab,
    pub(crate) hierarchies: Hierarchies,
    pub(crate) interrupt: Interrupt,
}

/// What a command in a host said, and whether it succeeded.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) ok: bool,
    pub(crate) text: String,
}

impl Stage {
    pub(crate) fn new(lab: &Lab, interrupt: &Interrupt) -> anyhow::Result<Self> {
        Ok(Self {
            lab: lab.clone(),
            hierarchies: control_group::hierarchies()?,
            interrupt: interrupt.clone(),
        })
    }

    /// Runs a shell command in a host and shows both, as on a terminal there. It must succeed.
    pub(crate) fn shell(&self, host: &Host, line: &str) -> anyhow::Result<String> {
        let said = self.try_shell(host, line)?;
        if said.ok {
            return Ok(said.text);
        }
        bail!("`{line}` failed on {}: {}", host.name, said.text)
    }

    /// The same, whatever comes of it.
    pub(crate) fn try_shell(&self, host: &Host, line: &str) -> anyhow::Result<Said> {
        eprintln!("[root@{} ~]# {line}", host.name);
        let said = self.quietly(host, line)?;
        if !said.text.is_empty() {
            eprintln!("{}", said.text);
        }
        Ok(said)
    }

    /// The same, without showing anything.
    pub(crate) fn quietly(&self, host: &Host, line: &str) -> anyhow::Result<Said> {
        // One stream, in the order things were said.
        self.feed(host, &["sh", "-c", &format!("exec 2>&1; {line}")], "", COMMAND)
    }

    /// Runs a shell command in a host without showing anything and returns what it said on stdout. It must
    /// succeed.
    pub(crate) fn answer(&self, host: &Host, line: &str, limit: Duration) -> anyhow::Result<String> {
        let leader = host::running(&self.lab, host, &self.hierarchies)?;
        let mut command = host::inside(leader);
        command.args(["sh", "-c", line]);
        let output = child::run_for(&mut command, "", limit, &self.interrupt);
        Ok(text(&output.with_context(|| format!("run `{line}` on {}", host.name))?.stdout))
    }

    /// Runs a program in a host with this input, without showing anything.
    pub(crate) fn feed(
        &self,
        host: &Host,
        words: &[&str],
        input: &str,
        limit: Duration,
    ) -> anyhow::Result<Said> {
        let leader = host::running(&self.lab, host, &self.hierarchies)?;
        let mut command = host::inside(leader);
        command.args(words);
        match child::run_for(&mut command, input, limit, &self.interrupt) {
            Ok(output) => Ok(Said { ok: true, text: text(&output.stdout) }),
            Err(child::ChildError::Failed { output, .. }) => {
                Ok(Said { ok: false, text: text(&output.stdout) })
            }
            Err(error) => Err(error).with_context(|| format!("run `{}` on {}", words.join(" "), host.name)),
        }
    }

    /// The host that has the virtual address.
    pub(crate) fn active(&self) -> anyhow::Result<Option<&'static Host>> {
        for host in &PAIR {
            let asked = format!("ip -oneline address show to {}", VIRTUAL_IP.0);
            // One that is off has no address.
            if self.quietly(host, &asked).is_ok_and(|said| !said.text.is_empty()) {
                return Ok(Some(host));
            }
        }
        self.interrupt.check()?;
        Ok(None)
    }

    /// What the replication daemon of a host says of r0.
    pub(crate) fn status(&self, host: &Host) -> anyhow::Result<Status> {
        Status::read(host.name, &self.quietly(host, "futago replica status --json r0")?)
    }

    /// Waits until a host's status is as wanted, and shows it.
    pub(crate) fn until(
        &self,
        host: &Host,
        what: &str,
        limit: Duration,
        is_so: impl Fn(&Status) -> bool,
    ) -> anyhow::Result<Status> {
        let seen = wait::until(limit, &self.interrupt, || Ok(Some(self.status(host)?).filter(&is_so)));
        if let Err(WaitError::TimedOut(_)) = seen {
            self.try_shell(host, "futago replica status r0")?;
        }
        let seen = seen.with_context(|| format!("wait until {} says: {what}", host.name))?;
        self.shell(host, "futago replica status r0")?;
        Ok(seen)
    }

    /// Runs this program's provisioner on the lab's inventory, live, and returns what it said on stdout. `words`
    /// follow on its command line.
    pub(crate) fn provision(&self, verb: &str, words: &[&str]) -> anyhow::Result<String> {
        let mut command = self.provisioner(verb)?;
        command.args(words);
        eprintln!(
            "# futago {}",
            [&[verb, "-i", &self.lab.inventory().display().to_string()], words].concat().join(" ")
        );
        match child::run_shown(&mut command, APPLY, &self.interrupt) {
            Ok(output) => Ok(text(&output.stdout)),
            Err(child::ChildError::Failed { output, .. }) => {
                bail!("futago {verb} failed ({})", output.status)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The command for it.
    pub(crate) fn provisioner(&self, verb: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe().context("find this program")?);
        command.arg(verb).arg("-i").arg(self.lab.inventory());
        Ok(command)
    }

    /// Shows what may explain a failure. Nothing here may fail itself.
    pub(crate) fn explain(&self) {
        for host in &PAIR {
            for line in [
                "futago replica status r0",
                "journalctl --unit futago-replicad --lines 30 --no-pager --output short",
            ] {
                let _ = self.try_shell(host, line);
            }
        }
    }
}

/// What `futago replica status --json` says of one resource.
#[derive(Debug)]
pub(crate) struct Status(Value);

impl Status {
    /// Reads what that command has said on a host.
    pub(crate) fn read(host: &str, said: &Said) -> anyhow::Result<Self> {
        ensure!(said.ok, "ask {host} for the status of r0: {}", said.text);
        let value = serde_json::from_str(&said.text);
        Ok(Self(value.with_context(|| format!("read the status of r0 on {host}: {}", said.text))?))
    }

    fn word(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    fn number(&self, pointer: &str) -> anyhow::Result<f64> {
        let number = self.0.pointer(pointer).and_then(Value::as_f64);
        number.with_context(|| format!("the status has no number at {pointer}: {}", self.0))
    }

    pub(crate) fn role(&self) -> &str {
        self.word("/0/role")
    }

    pub(crate) fn disk(&self) -> &str {
        self.word("/0/devices/0/disk-state")
    }

    pub(crate) fn connection(&self) -> &str {
        self.word("/0/connections/0/connection-state")
    }

    pub(crate) fn replication(&self) -> &str {
        self.word("/0/connections/0/peer_devices/0/replication-state")
    }

    pub(crate) fn peer_disk(&self) -> &str {
        self.word("/0/connections/0/peer_devices/0/peer-disk-state")
    }

    /// How much of the peer's disk equals ours.
    pub(crate) fn percent_in_sync(&self) -> anyhow::Result<f64> {
        self.number("/0/connections/0/peer_devices/0/percent-in-sync")
    }

    /// What the peer still lacks.
    pub(crate) fn out_of_sync_kib(&self) -> anyhow::Result<f64> {
        self.number("/0/connections/0/peer_devices/0/out-of-sync")
    }

    /// What came from the peer since the daemon was started.
    pub(crate) fn received_kib(&self) -> anyhow::Result<f64> {
        self.number("/0/connections/0/peer_devices/0/received")
    }

    /// What went to the peer since the daemon was started.
    pub(crate) fn sent_kib(&self) -> anyhow::Result<f64> {
        self.number("/0/connections/0/peer_devices/0/sent")
    }

    pub(crate) fn size_kib(&self) -> anyhow::Result<f64> {
        self.number("/0/devices/0/size")
    }

    /// Connected, and both disks carry the newest data.
    pub(crate) fn is_in_sync(&self) -> bool {
        self.connection() == "Connected" && self.disk() == "UpToDate" && self.peer_disk() == "UpToDate"
    }
}

/// An error unless the provisioner said that it found nothing to do on either host.
pub(crate) fn nothing_changed(said: &str) -> anyhow::Result<()> {
    for host in &PAIR {
        let recap = said.lines().find(|line| line.starts_with(host.name) && line.contains(" changed="));
        let recap = recap.with_context(|| format!("the recap has no line for {}", host.name))?;
        ensure!(
            recap.contains(" changed=0 ") && recap.contains(" failed=0 "),
            "not without changes: {recap}"
        );
    }
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_without_a_connection_is_not_in_sync() {
        let status =
            Status(serde_json::json!([{"role": "Primary", "devices": [{"disk-state": "UpToDate"}]}]));
        assert_eq!((status.role(), status.disk(), status.connection()), ("Primary", "UpToDate", ""));
        assert!(!status.is_in_sync());
        assert!(status.received_kib().is_err());
    }
}
