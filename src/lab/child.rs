//! Runs other programs with a time limit, in a process group of their own, so that they can be ended whole.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::interrupt::{Interrupt, Interrupted};

/// For programs that only ask or set something in the kernel.
pub(crate) const SHORT: Duration = Duration::from_secs(20);
/// How often an interrupt is looked for while a program runs; its end is noticed at once.
const SLICE: Duration = Duration::from_millis(100);
/// How long a program may take to obey SIGTERM.
const GRACE: Duration = Duration::from_secs(5);
/// Lines of a failed program's output that are shown.
const TAIL_LINES: usize = 12;

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChildError {
    /// It could not be started, or its output not be read.
    #[error("run `{command}`: {source}")]
    Start { command: String, source: io::Error },
    /// It ended with an error.
    #[error("`{command}` failed ({}){}", .output.status, tail(.output))]
    Failed { command: String, output: Box<Output> },
    /// It was ended because it took too long.
    #[error("`{command}` was ended: not done within {seconds} s{tail}")]
    TimedOut { command: String, seconds: u64, tail: String },
    /// It was ended because the user wants to stop.
    #[error("interrupted")]
    Interrupted(#[from] Interrupted),
}

/// Where programs for root are, whatever the caller's PATH says.
pub(crate) const PLACES: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// A program of this machine, found where root finds it, speaking English.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", PLACES.join(":")).env("LC_ALL", "C.UTF-8");
    command
}

/// Runs a short program without input; any exit code but 0 is an error with its last words.
pub(crate) fn run(command: &mut Command) -> Result<Output, ChildError> {
    run_for(command, "", SHORT, &Interrupt::never())
}

/// The same with input.
pub(crate) fn feed(command: &mut Command, input: &str) -> Result<Output, ChildError> {
    run_for(command, input, SHORT, &Interrupt::never())
}

/// Runs a program to its end, at most `limit` long; any exit code but 0 is an error with its last words.
pub(crate) fn run_for(
    command: &mut Command,
    input: &str,
    limit: Duration,
    interrupt: &Interrupt,
) -> Result<Output, ChildError> {
    command.stderr(Stdio::piped());
    finish(command, input, limit, interrupt, Echo::Nothing)
}

/// The same, without input, and with everything it says shown on our stderr as it comes.
pub(crate) fn run_shown(
    command: &mut Command,
    limit: Duration,
    interrupt: &Interrupt,
) -> Result<Output, ChildError> {
    command.stderr(Stdio::inherit());
    finish(command, "", limit, interrupt, Echo::Stdout)
}

/// What of a program's output is shown while it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    Nothing,
    Stdout,
}

fn finish(
    command: &mut Command,
    input: &str,
    limit: Duration,
    interrupt: &Interrupt,
    echo: Echo,
) -> Result<Output, ChildError> {
    let line = base::process::line(command);
    let start = |source| ChildError::Start { command: line.clone(), source };
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    command.stdin(stdin).stdout(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(start)?;
    let stdout = collect(child.stdout.take(), echo);
    let stderr = collect(child.stderr.take(), Echo::Nothing);
    if let Some(mut pipe) = child.stdin.take() {
        // A program that does not read its input tells why by its exit code.
        let _ = pipe.write_all(input.as_bytes());
    }
    let ended = wait(&mut child, limit, interrupt);
    if !matches!(ended, Ok(End::Exited)) {
        end_group(&mut child);
    }
    let status = child.wait().map_err(start)?;
    let output = Output { status, stdout: joined(stdout), stderr: joined(stderr) };
    match ended.map_err(start)? {
        End::Interrupted => Err(Interrupted.into()),
        End::TimedOut => {
            Err(ChildError::TimedOut { command: line, seconds: limit.as_secs(), tail: tail(&output) })
        }
        End::Exited if status.success() => Ok(output),
        End::Exited => Err(ChildError::Failed { command: line, output: Box::new(output) }),
    }
}

enum End {
    Exited,
    TimedOut,
    Interrupted,
}

fn wait(child: &mut Child, limit: Duration, interrupt: &Interrupt) -> io::Result<End> {
    let Some(pid) = pid(child) else { return Err(io::Error::from(io::ErrorKind::NotFound)) };
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let slice = Timespec::try_from(left.min(SLICE)).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&slice)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(End::Exited),
            Err(error) => return Err(error.into()),
        }
        if interrupt.check().is_err() {
            return Ok(End::Interrupted);
        }
        if left.is_zero() {
            return Ok(End::TimedOut);
        }
    }
}

/// Ends a program and what it started: first politely, so that it can clean up.
fn end_group(child: &mut Child) {
    let Some(pid) = pid(child) else { return };
    // A group that is gone needs no signal.
    let _ = kill_process_group(pid, Signal::TERM);
    if !matches!(wait(child, GRACE, &Interrupt::never()), Ok(End::Exited)) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

type Collector = JoinHandle<Vec<u8>>;

fn collect(pipe: Option<impl Read + Send + 'static>, echo: Echo) -> Collector {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let Some(pipe) = pipe else { return bytes };
        let mut pipe = BufReader::new(pipe);
        // What was read before an error is still worth showing.
        while let Ok(1..) = pipe.read_until(b'\n', &mut bytes) {
            if echo == Echo::Stdout {
                let line = bytes.split_inclusive(|byte| *byte == b'\n').next_back().unwrap_or_default();
                eprint!("{}", String::from_utf8_lossy(line));
            }
        }
        bytes
    })
}

fn joined(collector: Collector) -> Vec<u8> {
    collector.join().unwrap_or_default()
}

fn tail(output: &Output) -> String {
    let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    last_lines(&String::from_utf8_lossy(said))
}

/// The last lines of a text, each indented on a line of its own.
pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let skip = lines.len().saturating_sub(TAIL_LINES);
    lines.iter().skip(skip).map(|line| format!("\n  {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_takes_too_long_is_ended_with_its_children() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & echo waiting; wait"]);
        let error = run_for(&mut command, "", Duration::from_millis(200), &Interrupt::never()).unwrap_err();
        // Had the inner sleep survived, its open pipe would have kept the collector from ending.
        assert!(error.to_string().contains("waiting"), "{error}");
    }

    #[test]
    fn input_arrives_and_output_comes_back() {
        let output = feed(&mut Command::new("cat"), "hello").unwrap();
        assert_eq!(output.stdout, b"hello");
    }
}
