//! Runs a program that belongs to a resource or a fence device: with a deadline, in a process group of its own
//! that is killed as a whole, and never longer than the deadline and [`GRACE`](super::GRACE).
//!
//! A daemon that a program leaves behind may keep its output open; its end, not that of its output, counts.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, Command};
use tokio::time::{Instant, timeout, timeout_at};

use super::GRACE;

/// What is kept of each output of a program; the rest is read and dropped. Meta-data of agents is below 64 KiB.
const KEPT: usize = 256 * 1024;
/// After the end of a program, for what it wrote last; only daemons left behind use it up.
const DRAIN: Duration = Duration::from_millis(20);
/// Enough for every program an agent calls.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program to run. Its environment is empty but for a path and what is given here.
#[derive(Debug, Default)]
pub(crate) struct Run {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    input: Option<Vec<u8>>,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A program gave no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// It could not be started.
    #[error("start {program}: {source}")]
    Start {
        /// Which.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It took too long and was killed.
    #[error("{program} took too long and was killed{}", said(stderr))]
    TimedOut {
        /// Which.
        program: String,
        /// What it had said until then.
        stderr: String,
    },
    /// It took too long and cannot be killed: it waits in the kernel, mostly for a disk.
    #[error(
        "{program} took too long and does not die: it waits in the kernel, mostly for a disk{}",
        said(stderr)
    )]
    WillNotDie {
        /// Which.
        program: String,
        /// What it had said until then.
        stderr: String,
    },
}

fn said(text: &str) -> String {
    last_line(text).map(|line| format!("; it said: {line}")).unwrap_or_default()
}

/// The last line that is not empty.
pub(crate) fn last_line(text: &str) -> Option<&str> {
    text.lines().map(str::trim).rfind(|line| !line.is_empty())
}

impl Finished {
    /// Exit code; `None` when a signal ended it.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Its last words, or how it ended.
    pub(crate) fn reason(&self) -> String {
        let said = last_line(&self.stderr).or_else(|| last_line(&self.stdout));
        said.map_or_else(|| self.status.to_string(), str::to_owned)
    }
}

impl Run {
    pub(crate) fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), ..Self::default() }
    }

    pub(crate) fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    pub(crate) fn environment(mut self, variables: Vec<(String, String)>) -> Self {
        self.environment = variables;
        self
    }

    pub(crate) fn input(mut self, bytes: Vec<u8>) -> Self {
        self.input = Some(bytes);
        self
    }

    /// Runs it to its end.
    pub(crate) async fn until(self, deadline: Instant) -> Result<Finished, RunError> {
        let program = self.program.display().to_string();
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().env("PATH", PATH).env("LC_ALL", "C").envs(self.environment);
        command.stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).current_dir("/");
        let start = |source| RunError::Start { program: program.clone(), source };
        let mut child = command.spawn().map_err(start)?;
        let mut group = Group::of(child.id());
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let status = {
            let talk = async {
                tokio::join!(
                    feed(pipes.0, self.input.unwrap_or_default()),
                    collect(pipes.1, &mut stdout),
                    collect(pipes.2, &mut stderr)
                )
            };
            tokio::pin!(talk);
            let mut talking = true;
            let status = loop {
                tokio::select! {
                    status = child.wait() => break Some(status.map_err(start)?),
                    _ = &mut talk, if talking => talking = false,
                    () = tokio::time::sleep_until(deadline) => break None,
                }
            };
            if talking {
                let _ = timeout(DRAIN, &mut talk).await;
            }
            status
        };
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        if let Some(status) = status {
            group.disarm();
            return Ok(Finished { status, stdout: String::from_utf8_lossy(&stdout).into_owned(), stderr });
        }
        group.kill();
        // A little less, so that this says what happened, and not the one who waits for it.
        let gone = timeout_at(Instant::now() + GRACE.mul_f32(0.9), child.wait()).await;
        group.disarm();
        Err(match gone {
            Ok(_) => RunError::TimedOut { program, stderr },
            Err(_) => RunError::WillNotDie { program, stderr },
        })
    }
}

async fn feed(pipe: Option<ChildStdin>, input: Vec<u8>) {
    if let Some(mut pipe) = pipe {
        // A program that does not read its input says so by its exit code.
        let _ = pipe.write_all(&input).await;
    }
}

async fn collect(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = [0; 4096];
    while let Ok(count) = pipe.read(&mut buffer).await {
        if count == 0 {
            return;
        }
        let room = KEPT.saturating_sub(kept.len()).min(count);
        kept.extend(buffer.iter().take(room));
    }
}

/// The process group of a running child; killed when dropped armed.
struct Group {
    leader: Option<Pid>,
}

impl Group {
    fn of(id: Option<u32>) -> Self {
        Self { leader: id.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) }
    }

    /// The leader has been waited for, or is given up: its number may soon be somebody else's.
    fn disarm(&mut self) {
        self.leader = None;
    }

    fn kill(&self) {
        if let Some(leader) = self.leader {
            // Gone already is as good.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn sh(script: &str) -> Run {
        Run::new("/bin/sh").args(["-c", script])
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn input_output_and_exit_code_are_passed() {
        let done =
            sh("cat; echo problem >&2; exit 3").input(b"words\n".to_vec()).until(soon()).await.unwrap();
        assert_eq!(
            (done.code(), done.stdout.as_str(), done.reason().as_str()),
            (Some(3), "words\n", "problem")
        );
    }

    #[tokio::test]
    async fn a_daemon_that_keeps_the_output_open_does_not_hold_up_the_result() {
        let done = sh("sleep 600 & echo $!").until(soon()).await.unwrap();
        let pid = Pid::from_raw(done.stdout.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn what_takes_too_long_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; echo waiting >&2; wait", file.display());
        let run = sh(&script).until(Instant::now() + Duration::from_secs(1));
        let error = run.await.unwrap_err();
        assert!(matches!(error, RunError::TimedOut { .. }), "{error}");
        assert!(error.to_string().ends_with("it said: waiting"), "{error}");
        let child = std::fs::read_to_string(&file).unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        let dead = || state().is_empty() || state().contains(") Z ");
        while !dead() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_program_that_is_missing_is_named() {
        let error = Run::new("/does/not/exist").until(soon()).await.unwrap_err();
        assert!(error.to_string().starts_with("start /does/not/exist: "), "{error}");
    }
}
