//! A replicated device, driven through `futago replica` on the host.
//!
//! A running pair is never initialised again: metadata is made on a blank disk only, and a first sync is forced
//! only while both disks say that they never held anything.

mod follow;
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
use super::context::{Context, joined, with_data};
use super::disk::Device;
use super::disk::signature::REPLICA;
use super::error::Error;
use super::exec::program;
use super::program::DEFAULT_DEST;
use super::schema::{ArgError, Kind, Schema};
use super::service;
use crate::protocol::{Outcome, Progress};
use follow::Takes;
use status::Status;

/// Where the replication daemon notes the sizes of its disks.
const SIZES: &str = "/var/lib/futago/disks";
const UNIT: &str = "futago-replicad.service";
const DEFAULT_TIMEOUT_SECONDS: u64 = 60;
const POLL: Duration = Duration::from_millis(200);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    resource: String,
    state: State,
    disk: Option<PathBuf>,
    #[serde(default)]
    wipe: bool,
    #[serde(default)]
    force_first: bool,
    timeout: Option<u64>,
    program: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Created,
    Up,
    Primary,
    Synced,
    Current,
}

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "replica",
        summary: "Brings a replicated resource into a state: metadata created, up, primary, in sync, with the installed program.",
        returns: &["role", "disk", "connection", "peer_role", "peer_disk"],
        example: "\
- name: Wait until both disks are the same
  replica: {resource: r0, state: synced, timeout: 300}
",
        keys: &[
            Schema::must("resource", Kind::Text, "name of the resource, such as r0"),
            Schema::must(
                "state",
                Kind::Choice(&["created", "up", "primary", "synced", "current"]),
                "created, up (as its file says now), primary, synced (both UpToDate) or current (the daemon runs the program that is installed; devices in use go on)",
            ),
            Schema::may("disk", Kind::Path, "for created: the backing disk of the resource on this host"),
            Schema::may("wipe", Kind::Bool, "for created: destroy what is on the disk now"),
            Schema::may(
                "force_first",
                Kind::Bool,
                "for primary: make this host's empty disk the source of the first sync",
            ),
            Schema::may(
                "timeout",
                Kind::Int,
                "seconds without any progress after which waiting ends (default: 60)",
            ),
            Schema::may("program", Kind::Path, "the program on the host (default: /usr/local/sbin/futago)"),
        ],
    };

    fn validate(&self) -> Vec<ArgError> {
        let mut errors = Vec::new();
        if (self.state == State::Created) != self.disk.is_some() {
            errors.push(ArgError::at(
                "disk",
                "module replica needs the argument \"disk\" with state created, and only then",
            ));
        }
        if self.wipe && self.state != State::Created {
            errors.push(ArgError::at("wipe", "argument \"wipe\" of module replica belongs to state created"));
        }
        if self.force_first && self.state != State::Primary {
            errors.push(ArgError::at(
                "force_first",
                "argument \"force_first\" of module replica belongs to state primary",
            ));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !self.resource.chars().all(fits) || self.resource.starts_with('-') || self.resource.is_empty() {
            errors
                .push(ArgError::at("resource", format!("\"{}\" is not a name of a resource", self.resource)));
        }
        errors
    }

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        match (self.state, &self.disk) {
            (State::Created, Some(disk)) => self.created(disk, context),
            (State::Up, _) => self.up(context),
            (State::Primary, _) => self.primary(context),
            (State::Current, _) => self.current(context),
            _ => self.synced(context),
        }
    }
}

impl Args {
    fn created(&self, disk: &Path, context: &Context) -> Result<Outcome, Error> {
        let (resource, name) = (&self.resource, disk.display());
        let device = match Device::open(disk)? {
            Some(device) => device,
            None if context.check => return Ok(Context::unknown(format!("{name} does not exist yet"))),
            None => {
                let hint = "the partition module makes it; it must come before this task";
                return Err(Error::refused(format!("there is no disk {name} for resource {resource}"), hint));
            }
        };
        let content = device.content()?;
        // Also with wipe: the disk already is what was asked for, and a running pair is never initialised again.
        if content.has(REPLICA) {
            return Ok(Context::same(format!("{name} has the metadata of {resource}")));
        }
        if let Some(bytes) = self.size_before(&device)
            && device.content_as_of(bytes)?.has(REPLICA)
        {
            let where_it_is = "where its end was before it has grown: the replication daemon moves it";
            return Ok(Context::same(format!("{name} has the metadata of {resource}, {where_it_is}")));
        }
        device.require_disposable("create metadata on", &content, self.wipe)?;
        if !context.check {
            if !content.is_blank() {
                device.wipe()?;
            }
            self.verb("create-md", &[])?;
            if !device.content()?.has(REPLICA) {
                return Err(Error::refused(
                    format!("no metadata is found on {name} after create-md of {resource}"),
                    "does the resource's configuration name the same disk?",
                ));
            }
        }
        let wiped =
            if content.is_blank() { String::new() } else { format!(", wiping {}", content.describe()) };
        let message = format!("metadata of {resource} created on {}{wiped}", device.describe());
        Ok(context.changed(message, &[format!("+ {name} {REPLICA}")]))
    }

    /// The size at which the replication daemon has last seen the disk, if it has grown since.
    fn size_before(&self, device: &Device) -> Option<u64> {
        let noted = fs::read_to_string(Path::new(SIZES).join(format!("{}.bytes", self.resource))).ok()?;
        noted.trim().parse().ok().filter(|bytes| *bytes < device.bytes)
    }

    fn up(&self, context: &mut Context) -> Result<Outcome, Error> {
        let resource = &self.resource;
        if let Some(status) = self.status(context.check)? {
            let (followed, status) = self.follow(status, context)?;
            if !status.is_standalone() {
                return Ok(told(followed, &status));
            }
            let (connects, status) = self.connect(status, context)?;
            return Ok(told(joined(vec![followed, connects]), &status));
        }
        if context.check {
            return Ok(Context::unknown(format!("{resource} is not up yet")));
        }
        self.verb("up", &[])?;
        let status = self.wait(context, "coming up", |_| true)?;
        Ok(told(context.changed(format!("{resource} is up: {status}"), &[]), &status))
    }

    fn connect(&self, status: Status, context: &mut Context) -> Result<(Outcome, Status), Error> {
        let resource = &self.resource;
        if context.check {
            return Ok((context.changed(format!("would connect {resource}"), &[]), status));
        }
        self.verb("connect", &[])?;
        let status = self.wait(context, "connecting", |status| !status.is_standalone())?;
        Ok((context.changed(format!("{resource} connects: {status}"), &[]), status))
    }

    fn primary(&self, context: &mut Context) -> Result<Outcome, Error> {
        let resource = &self.resource;
        let Some(mut status) = self.status(context.check)? else { return self.not_up(context) };
        if !context.check && !status.is_settled() {
            // Whether the peer holds data or leads must be known before anything is decided.
            status = self.wait(context, "waiting for the peer", Status::is_settled)?;
        }
        if status.role == "Primary" {
            return Ok(told(Context::same(format!("{resource} is primary here: {status}")), &status));
        }
        if status.peer_role == "Primary" {
            let message = format!("{resource} is primary on {}; left as it is: {status}", status.peer);
            return Ok(told(Context::same(message), &status));
        }
        let force = match status.disk.as_str() {
            "UpToDate" => false,
            _ if self.force_first && status.never_held_data() => true,
            _ if context.check && !status.knows_peer() => {
                return Ok(told(
                    Context::unknown(format!("{resource} has not met its peer yet: {status}")),
                    &status,
                ));
            }
            _ => return Err(self.not_promotable(&status)),
        };
        if !context.check {
            self.verb("primary", if force { &["--force"] } else { &[] })?;
            status = self.wait(context, "becoming primary", |status| status.role == "Primary")?;
        }
        let what = if force { "made the source of the first sync" } else { "made primary" };
        let message = format!("{resource} {what}: {status}");
        Ok(told(context.changed(message, &[format!("~ {resource} role Secondary -> Primary")]), &status))
    }

    fn not_promotable(&self, status: &Status) -> Error {
        let hint = if status.never_held_data() {
            "force_first: true chooses this host's empty disk as the source of the first sync"
        } else {
            "only a disk that is UpToDate can be made primary; let it sync from the peer, or decide by hand with \
             `futago replica primary --force`"
        };
        Error::refused(format!("make {} primary here: {status}", self.resource), hint)
    }

    fn synced(&self, context: &mut Context) -> Result<Outcome, Error> {
        let resource = &self.resource;
        let Some(status) = self.status(context.check)? else { return self.not_up(context) };
        if status.in_sync() {
            return Ok(told(Context::same(format!("{resource} is in sync: {status}")), &status));
        }
        if context.check {
            return Ok(told(Context::unknown(format!("{resource} is not in sync yet: {status}")), &status));
        }
        let status = self.wait(context, "syncing", Status::in_sync)?;
        // Waiting changes nothing: what has to be done was done before.
        Ok(told(Context::same(format!("{resource} is in sync: {status}")), &status))
    }

    /// Has the daemon exchange its program where another one is installed, and waits until the pair is as good as before.
    fn current(&self, context: &mut Context) -> Result<Outcome, Error> {
        let installed = self.program.as_deref().unwrap_or(Path::new(DEFAULT_DEST));
        let Some(status) = self.status(context.check)? else { return self.not_up(context) };
        let runs = service::runs(UNIT, installed)?;
        let mut lines: Vec<String> = Vec::new();
        for change in self.changes(context.check)?.iter().filter(|change| change.takes == Takes::Reexec) {
            lines.push(change.line(&self.resource));
        }
        if runs == Some(false) {
            lines.push(format!("~ {UNIT} goes on as {}", installed.display()));
        }
        if lines.is_empty() {
            let message = match runs {
                Some(_) => format!("{UNIT} runs {}", installed.display()),
                None => format!("{UNIT} does not run"),
            };
            return Ok(told(Context::same(message), &status));
        }
        if context.check {
            let message = format!("would exchange the program of {UNIT}: {status}");
            return Ok(told(context.changed(message, &lines), &status));
        }
        let before = status.in_sync();
        process::run(&mut self.command("reexec", &[]))?;
        let status = self.wait(context, "coming back", |now| now.in_sync() || !before)?;
        Ok(told(context.changed(format!("program of {UNIT} exchanged: {status}"), &lines), &status))
    }

    fn not_up(&self, context: &Context) -> Result<Outcome, Error> {
        let what = format!("resource {} is not up on this host", self.resource);
        if context.check {
            return Ok(Context::unknown(what));
        }
        Err(Error::refused(what, "a task with state up must come before this one; does the service run?"))
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
            if status != last {
                moved = Instant::now();
                context.progress(Progress {
                    message: status.as_ref().map_or(word.to_owned(), |status| format!("{word}: {status}")),
                    percent: status.as_ref().and_then(|status| status.percent),
                    eta_seconds: status.as_ref().and_then(|status| status.eta_seconds),
                });
                last = status;
            } else if moved.elapsed() >= bound {
                return Err(self.stalled(word, last.as_ref(), bound));
            }
            thread::sleep(POLL);
        }
    }

    fn stalled(&self, word: &str, last: Option<&Status>, bound: Duration) -> Error {
        let text = process::output(self.command("status", &[]).arg(&self.resource));
        let text = text.map(|output| String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
        let state = last.map_or("not up".to_owned(), ToString::to_string);
        Error::Late {
            what: format!("{} {word}: nothing has moved for {} s ({state})", self.resource, bound.as_secs()),
            output: text.unwrap_or_default(),
            hint: "is the other host up, and can both reach each other on the local segment?".into(),
        }
    }

    fn command(&self, verb: &str, options: &[&str]) -> Command {
        let path = self.program.as_deref().unwrap_or(Path::new(DEFAULT_DEST));
        let mut command = program(&path.to_string_lossy());
        command.args(["replica", verb]).args(options);
        command
    }

    fn verb(&self, verb: &str, options: &[&str]) -> Result<(), Error> {
        process::run(self.command(verb, options).arg(&self.resource))?;
        Ok(())
    }

    /// `None` when the resource is not up, or for a plan when the program is not there yet.
    fn status(&self, plan: bool) -> Result<Option<Status>, Error> {
        let mut command = self.command("status", &["--json"]);
        let output = match process::output(command.arg(&self.resource)) {
            Err(ProcessError::Start { source, .. }) if plan && source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            result => result?,
        };
        if !output.status.success() {
            return Ok(None);
        }
        let answer = |reason: String| Error::Answer { command: process::line(&command), reason };
        let value: Value = serde_json::from_slice(&output.stdout).map_err(|e| answer(e.to_string()))?;
        Ok(Status::parse(&value, &self.resource))
    }
}

fn told(outcome: Outcome, status: &Status) -> Outcome {
    let data = [
        ("role", status.role.clone().into()),
        ("disk", status.disk.clone().into()),
        ("connection", status.connection.clone().into()),
        ("peer_role", status.peer_role.clone().into()),
        ("peer_disk", status.peer_disk.clone().into()),
    ];
    with_data(outcome, data)
}

#[cfg(test)]
mod tests;
