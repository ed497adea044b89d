//! The cluster manager, driven through `futago cluster` on the host.
//!
//! A running cluster is never initialised again, nothing moves because of a deployment, and what an operator has
//! put into maintenance stays in it: only the maintenance of the first start is ended here.

mod status;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use base::process::{self, ProcessError};
use serde::Deserialize;
use serde_json::Value;

use super::Module;
use super::context::{Context, with_data};
use super::error::Error;
use super::exec::program;
use super::program::DEFAULT_DEST;
use super::schema::{ArgError, Kind, Schema};
use super::service;
use crate::protocol::{Outcome, Progress};
use status::Status;

const UNIT: &str = "futago-clusterd";
const DEFAULT_FOLDER: &str = "/var/lib/futago/cluster";
/// In the folder from the bootstrap until the stack has run for the first time.
const FIRST_START: &str = "first-start";
/// In the folder since the stack has run: which one it is.
const STACK: &str = "stack";
/// What it is called that there is none.
const NO_STACK: &str = "none";
const DEFAULT_TIMEOUT_SECONDS: u64 = 120;
const POLL: Duration = Duration::from_millis(200);
/// For a manager that has just started to look at everything again: then HELD stays so until somebody acts.
const HELD: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    state: State,
    primary: Option<String>,
    #[serde(default)]
    files: Vec<PathBuf>,
    stack: Option<String>,
    timeout: Option<u64>,
    program: Option<PathBuf>,
    folder: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Unchanged,
    Bootstrapped,
    Joined,
    Current,
    Running,
}

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "cluster",
        summary: "Brings the cluster manager into a state: with a record, known here, up to date, running the stack.",
        returns: &["here", "primary", "verdict", "maintenance", "first_start"],
        example: "\
- name: Wait until the pair is PROTECTED
  cluster: {state: running, timeout: 600}
",
        keys: &[
            Schema::must(
                "state",
                Kind::Choice(&["bootstrapped", "joined", "current", "running", "unchanged"]),
                "bootstrapped (in maintenance), joined (knows the record), current (has read its files), running \
                 (PROTECTED; without witness and fence device as near to it as there is), unchanged (no other stack has \
                 run here)",
            ),
            Schema::may("primary", Kind::Text, "for bootstrapped: full name of the first primary"),
            Schema::may(
                "files",
                Kind::TextList,
                "for current: what the manager reads when it starts; it is restarted when one is newer, and nothing \
                 moves",
            ),
            Schema::may("stack", Kind::Text, "for unchanged: the stack that is asked for, or none"),
            Schema::may(
                "timeout",
                Kind::Int,
                "seconds without any progress after which waiting ends (default: 120)",
            ),
            Schema::may("program", Kind::Path, "the program on the host (default: /usr/local/sbin/futago)"),
            Schema::may("folder", Kind::Path, "the manager's own state (default: /var/lib/futago/cluster)"),
        ],
    };

    fn validate(&self) -> Vec<ArgError> {
        let mut errors = Vec::new();
        for (key, state, word, given) in [
            ("primary", State::Bootstrapped, "bootstrapped", self.primary.is_some()),
            ("files", State::Current, "current", !self.files.is_empty()),
            ("stack", State::Unchanged, "unchanged", self.stack.is_some()),
        ] {
            if (self.state == state) != given {
                let message =
                    format!("module cluster needs the argument \"{key}\" with state {word}, and only then");
                errors.push(ArgError::at(key, message));
            }
        }
        errors
    }

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        match (self.state, &self.primary, &self.stack) {
            (State::Bootstrapped, Some(primary), _) => self.bootstrapped(primary, context),
            (State::Unchanged, _, Some(stack)) => self.unchanged(stack),
            (State::Current, ..) => self.current(context),
            (State::Running, ..) => self.running(context),
            _ => self.joined(context),
        }
    }
}

impl Args {
    /// Refuses another stack than the one that has run here: the data of that one would be left behind, and those of the
    /// new one are made at a first start only.
    fn unchanged(&self, asked: &str) -> Result<Outcome, Error> {
        let path = self.own(STACK);
        let found = match fs::read_to_string(&path) {
            Ok(text) => text.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Context::same("no stack has run here yet"));
            }
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        if found == asked {
            return Ok(Context::same(format!("stack: {found}")));
        }
        let what = format!("the stack of this pair is {found}, and the inventory asks for {asked}");
        let back =
            if found == NO_STACK { "drop `stack`".to_owned() } else { format!("write `stack: {found}`") };
        let hint = format!(
            "nothing was changed. A pair that has run keeps its stack, for nothing carries its data over: {back}, and make \
             another pair for another stack"
        );
        Err(Error::refused(what, hint))
    }

    fn bootstrapped(&self, primary: &str, context: &mut Context) -> Result<Outcome, Error> {
        let found = if context.check { self.status(true)? } else { Some(self.answering(context)?) };
        let Some(status) = found else { return Ok(Context::unknown("the cluster manager does not run yet")) };
        if !status.knows_the_record() {
            return Ok(Context::unknown(status.to_string()));
        }
        if status.has_record() {
            return Ok(self.told(Context::same(format!("the cluster has its record: {status}")), &status));
        }
        if context.check {
            return Ok(context.changed(format!("would create the record, with {primary} as primary"), &[]));
        }
        // Before the record: who finds it later knows that the stack never ran.
        let marker = self.first_start();
        let folder = marker.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).map_err(Error::io("make", folder))?;
        base::file::replace(&marker, b"", 0o600).map_err(Error::io("write", &marker))?;
        self.verb(&["bootstrap", "--primary", primary, "--maintenance"])?;
        let leads = |s: &Status| s.has_record() && (!s.is_here() || s.leads);
        let status = self.wait(context, "creating the record", leads)?;
        let message = format!("record created: {status}");
        Ok(self.told(context.changed(message, &[format!("+ record, primary {primary}")]), &status))
    }

    fn joined(&self, context: &mut Context) -> Result<Outcome, Error> {
        if context.check {
            return Ok(match self.status(true)? {
                Some(status) if status.has_record() => self.told(Context::same(status.to_string()), &status),
                _ => Context::unknown("this host does not know the record yet"),
            });
        }
        let status = self.wait(context, "waiting for the record", Status::has_record)?;
        Ok(self.told(Context::same(status.to_string()), &status))
    }

    /// Restarts a manager that runs since before one of its files was changed; the stack stays where it is.
    fn current(&self, context: &mut Context) -> Result<Outcome, Error> {
        let Some(newer) = service::newer_than_start(UNIT, &self.files)? else {
            return Ok(Context::same(format!("{UNIT} has read its files")));
        };
        let message = format!("{UNIT} restarted: {} is newer", newer.display());
        let lines = [format!("~ {UNIT} restarted")];
        if context.check {
            return Ok(context.changed(message, &lines));
        }
        let before = self.status(false)?;
        // A restart, unlike a stop, hands nothing over: the stack runs on while the program is exchanged.
        service::act("restart", UNIT)?;
        let known = before.as_ref().map_or(0, |b| b.version);
        let protected = before.is_some_and(|b| b.is_protected());
        // The other manager has its turn after this one.
        let back = |s: &Status| s.version >= known && (!protected || s.is_protected() || s.setups_differ);
        let status = self.wait(context, "coming back", back)?;
        Ok(self.told(context.changed(format!("{message}; {status}"), &lines), &status))
    }

    /// Lets the stack run for the first time, and waits until it is protected.
    fn running(&self, context: &mut Context) -> Result<Outcome, Error> {
        let found = if context.check { self.status(true)? } else { Some(self.answering(context)?) };
        let Some(status) = found.filter(Status::has_record) else {
            return Ok(Context::unknown("the cluster has no record yet"));
        };
        let marker = self.first_start();
        let first = marker.exists();
        if status.maintenance && !first {
            let message = format!("left alone, an operator has asked for it: {status}");
            return Ok(self.told(Context::same(message), &status));
        }
        if context.check {
            let outcome = if first {
                context.changed("would start the stack", &[])
            } else if status.is_protected() {
                Context::same(status.to_string())
            } else {
                Context::unknown(format!("the stack is not protected now: {status}"))
            };
            return Ok(self.told(outcome, &status));
        }
        if status.maintenance {
            self.verb(&["maintenance", "off"])?;
        }
        let status = self.wait(context, "starting the stack", Status::is_as_wanted)?;
        if !first {
            return Ok(self.told(Context::same(status.to_string()), &status));
        }
        fs::remove_file(&marker).map_err(Error::io("remove", &marker))?;
        Ok(self.told(context.changed(format!("the stack runs: {status}"), &["+ stack".to_owned()]), &status))
    }

    fn first_start(&self) -> PathBuf {
        self.own(FIRST_START)
    }

    /// A file of the manager's own state.
    fn own(&self, name: &str) -> PathBuf {
        self.folder.as_deref().unwrap_or(Path::new(DEFAULT_FOLDER)).join(name)
    }

    fn told(&self, outcome: Outcome, status: &Status) -> Outcome {
        let data = [
            ("here", status.is_here().into()),
            ("primary", status.primary.clone().into()),
            ("verdict", status.verdict.clone().into()),
            ("maintenance", status.maintenance.into()),
            ("first_start", self.first_start().exists().into()),
        ];
        with_data(outcome, data)
    }

    /// A manager that has just started does not know yet whether there is a record.
    fn answering(&self, context: &mut Context) -> Result<Status, Error> {
        self.wait(context, "waiting for the manager", Status::knows_the_record)
    }

    /// Looks again and again until `done`; gives up when nothing has moved for the time given.
    fn wait(
        &self,
        context: &mut Context,
        word: &str,
        done: impl Fn(&Status) -> bool,
    ) -> Result<Status, Error> {
        let bound = Duration::from_secs(self.timeout.unwrap_or(DEFAULT_TIMEOUT_SECONDS));
        let mut moved = Instant::now();
        let mut last: Option<Status> = None;
        loop {
            let status = self.status(false)?;
            if let Some(status) = status.as_ref().filter(|status| done(status)) {
                return Ok(status.clone());
            }
            let same = match (&status, &last) {
                (Some(now), Some(before)) => !now.differs(before),
                (now, before) => now.is_none() && before.is_none(),
            };
            if !same {
                moved = Instant::now();
                let percent = status.as_ref().map(|s| s.running);
                context.progress(Progress {
                    message: status.as_ref().map_or(word.to_owned(), |status| format!("{word}: {status}")),
                    percent: percent.and_then(|(some, all)| share(some, all)),
                    eta_seconds: None,
                });
                last = status;
            } else {
                let held = last.as_ref().is_some_and(|status| status.is_held() && !status.maintenance);
                let bound = if held { bound.min(HELD) } else { bound };
                if moved.elapsed() >= bound {
                    return Err(self.stalled(word, last.as_ref(), bound));
                }
            }
            thread::sleep(POLL);
        }
    }

    fn stalled(&self, word: &str, last: Option<&Status>, bound: Duration) -> Error {
        let state = last.map_or("the manager does not answer".to_owned(), ToString::to_string);
        let said = process::output(&mut self.command(&["why"]));
        let said = said.map(|output| String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
        Error::Late {
            what: format!("cluster, {word}: nothing has moved for {} s ({state})", bound.as_secs()),
            output: said.unwrap_or_default(),
            hint: format!("`futago cluster status` and `journalctl -u {UNIT}` on the host tell more"),
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let path = self.program.as_deref().unwrap_or(Path::new(DEFAULT_DEST));
        let mut command = program(&path.to_string_lossy());
        command.arg("cluster").args(words);
        command
    }

    fn verb(&self, words: &[&str]) -> Result<(), Error> {
        process::run(&mut self.command(words))?;
        Ok(())
    }

    /// `None` when the manager does not run, or for a plan when the program is not there yet.
    fn status(&self, plan: bool) -> Result<Option<Status>, Error> {
        let mut command = self.command(&["status", "--json"]);
        let output = match process::output(&mut command) {
            Err(ProcessError::Start { source, .. }) if plan && source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            result => result?,
        };
        // The exit code tells the verdict; a manager that does not run has nothing to say.
        if output.stdout.is_empty() {
            return Ok(None);
        }
        let answer = |reason: String| Error::Answer { command: process::line(&command), reason };
        let value: Value = serde_json::from_slice(&output.stdout).map_err(|e| answer(e.to_string()))?;
        let status = Status::parse(&value);
        status.map(Some).ok_or_else(|| answer("it is not the status of a cluster".to_owned()))
    }
}

/// Percent of resources that run.
fn share(some: usize, all: usize) -> Option<f64> {
    let (some, all) = (u32::try_from(some).ok()?, u32::try_from(all).ok()?);
    (all > 0).then(|| 100.0 * f64::from(some) / f64::from(all))
}

#[cfg(test)]
mod tests;
