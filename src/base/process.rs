//! Runs another program to its end and keeps what it said.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::process::{Command, Output, Stdio};

/// Lines of a failed program's output that are shown.
const TAIL_LINES: usize = 12;

/// A program could not be started, or did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("start `{command}`: {source}")]
    Start {
        /// The command line.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("`{command}` failed ({status}){tail}")]
    Failed {
        /// The command line.
        command: String,
        /// `exit status: 1`, `signal: 9`.
        status: String,
        /// The last lines of its output, each on a line of its own; empty when it said nothing.
        tail: String,
    },
}

/// Runs a program with no input and returns its output; an exit code other than 0 is an error that carries
/// the last lines of what it wrote.
pub fn run(command: &mut Command) -> Result<Output, ProcessError> {
    run_or(command, &[])
}

/// As [`run`], where these exit codes are no failure either.
pub fn run_or(command: &mut Command, codes: &[i32]) -> Result<Output, ProcessError> {
    let output = output(command)?;
    if output.status.success() || output.status.code().is_some_and(|code| codes.contains(&code)) {
        return Ok(output);
    }
    let tail = tail(&output);
    Err(ProcessError::Failed { command: line(command), status: output.status.to_string(), tail })
}

/// Runs a program with no input to its end, whatever its exit code.
pub fn output(command: &mut Command) -> Result<Output, ProcessError> {
    let started = command.stdin(Stdio::null()).output();
    started.map_err(|source| ProcessError::Start { command: line(command), source })
}

/// The command line as a person would type it.
#[must_use]
pub fn line(command: &Command) -> String {
    let mut words = vec![quoted(command.get_program())];
    words.extend(command.get_args().map(quoted));
    words.join(" ")
}

fn quoted(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.into_owned() } else { format!("'{text}'") }
}

fn tail(output: &Output) -> String {
    let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text.lines().collect();
    let skip = lines.len().saturating_sub(TAIL_LINES);
    lines.iter().skip(skip).fold(String::new(), |mut out, line| {
        let _ = write!(out, "\n  {line}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_its_last_words() {
        let error = run(Command::new("sh").args(["-c", "echo 'disk full' >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("sh -c") && text.contains("exit status: 3") && text.contains("disk full"),
            "{text}"
        );
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("/does/not/exist")).unwrap_err();
        assert!(error.to_string().starts_with("start `/does/not/exist`:"), "{error}");
    }
}
