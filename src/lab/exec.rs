//! Runs commands in hosts for the user: through the container, or by the real ssh client.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

/// A command that was ended by signal N counts as exit code 128 + N, as in shells.
const SIGNAL_BASE: i32 = 128;

/// Runs a command with our own input and output and returns its exit code.
///
/// What would end us is passed on to the command, so that it does not live on in the host unattended.
pub(crate) fn passed_through(command: &mut Command) -> anyhow::Result<u8> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    let line = base::process::line(command);
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("watch signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("watch signals")?;
        let mut hangup = signal(SignalKind::hangup()).context("watch signals")?;
        let command = std::mem::replace(command, Command::new("true"));
        let mut child = tokio::process::Command::from(command).spawn().with_context(|| format!("run `{line}`"))?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        loop {
            tokio::select! {
                status = child.wait() => return Ok(exit_code(status.with_context(|| format!("run `{line}`"))?)),
                // The terminal has sent it to the command already.
                _ = interrupt.recv() => {}
                _ = terminate.recv() => pass_on(pid, Signal::TERM),
                _ = hangup.recv() => pass_on(pid, Signal::HUP),
            }
        }
    })
}

/// nsenter does not pass signals on to its child, so the child is sent them itself.
fn pass_on(pid: Option<i32>, signal: Signal) {
    let Some(pid) = pid else { return };
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut receivers: Vec<i32> = children.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    if receivers.is_empty() {
        receivers.push(pid);
    }
    for receiver in receivers.into_iter().filter_map(Pid::from_raw) {
        // It may be gone already.
        let _ = kill_process(receiver, signal);
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|number| SIGNAL_BASE + number));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_pass_through_and_signals_count_from_128() {
        let run = |script: &str| passed_through(Command::new("sh").args(["-c", script])).unwrap();
        assert_eq!(run("exit 0"), 0);
        assert_eq!(run("exit 7"), 7);
        assert_eq!(run("kill -KILL $$"), 137);
    }
}
