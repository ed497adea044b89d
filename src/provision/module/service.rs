//! A service as systemd sees it: running or not, started at boot or not.
//!
//! `systemctl show` answers everything about a unit at once and costs what any other way over D-Bus costs from
//! a program that must not depend on the host's libraries; starting waits for the job and carries its error.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use base::process;
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;

use super::Module;
use super::context::Context;
use super::error::Error;
use super::exec::program;
use super::schema::{ArgError, Kind, Schema};
use crate::protocol::Outcome;

/// Lines of a unit's log that are shown when it does not start.
const LOG_LINES: &str = "12";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    name: Option<String>,
    state: Option<State>,
    enabled: Option<bool>,
    #[serde(default)]
    daemon_reload: bool,
    #[serde(default)]
    files: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Started,
    Stopped,
    Restarted,
    Reloaded,
}

/// What systemd says about a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Unit {
    name: String,
    load: String,
    active: String,
    file: String,
    stale: bool,
}

/// What is asked of systemd to find a unit.
struct Systemd {
    show: fn(&str) -> Result<Unit, Error>,
    has_file: fn(&str) -> bool,
    reload: fn() -> Result<(), Error>,
}

const SYSTEMD: Systemd = Systemd { show, has_file: unit_file_exists, reload: daemon_reload };

/// What has to be done, as verbs of systemctl with words for people.
type Verb = (&'static str, &'static str);

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "service",
        summary: "Starts, stops, restarts, enables or disables a systemd unit.",
        returns: &[],
        example: "\
- name: Start the worker, and restart it when its unit has changed
  service: {name: shop-worker, state: started, enabled: true, files: [/etc/systemd/system/shop-worker.service]}
",
        keys: &[
            Schema::may("name", Kind::Text, "the unit; .service may be left out"),
            Schema::may(
                "state",
                Kind::Choice(&["started", "stopped", "restarted", "reloaded"]),
                "restarted and reloaded always act: use them in handlers",
            ),
            Schema::may("enabled", Kind::Bool, "start it at boot, or not"),
            Schema::may("daemon_reload", Kind::Bool, "let systemd read its unit files again first"),
            Schema::may(
                "files",
                Kind::TextList,
                "with started: what it reads when it starts; it is restarted when one is newer",
            ),
        ],
    };

    fn validate(&self) -> Vec<ArgError> {
        let acts = self.state.is_some() || self.enabled.is_some();
        let mut errors = Vec::new();
        if acts && self.name.is_none() {
            errors.push(ArgError::at(
                "name",
                "module service needs the argument \"name\" with state or enabled",
            ));
        }
        if !self.files.is_empty() && self.state != Some(State::Started) {
            errors
                .push(ArgError::at("files", "argument \"files\" of module service belongs to state started"));
        }
        if !acts && !self.daemon_reload {
            errors.push(ArgError::whole("module service needs state, enabled or daemon_reload"));
        }
        errors
    }

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        let Some(name) = &self.name else {
            if !context.check {
                daemon_reload()?;
            }
            return Ok(context.changed("systemd reads its unit files again", &["~ daemon-reload".into()]));
        };
        let Some(unit) = look(name, context.check, &SYSTEMD)? else {
            return Ok(Context::unknown(format!("systemd has not read the file of {name} yet")));
        };
        if unit.load == "not-found" {
            return self.missing(name, context);
        }
        let mut verbs = self.verbs(&unit)?;
        if verbs.is_empty() && newer_than_start(name, &self.files)?.is_some() {
            verbs.push(("restart", "restarted: it runs since before one of its files was changed"));
        }
        // A unit whose file has changed must be read again before anything is done to it.
        let reload = unit.stale && (self.daemon_reload || !verbs.is_empty());
        if verbs.is_empty() && !reload {
            return Ok(Context::same(format!("{} is {}", unit.name, unit.describe())));
        }
        if !context.check {
            if reload {
                daemon_reload()?;
            }
            for (verb, _) in &verbs {
                act(verb, &unit.name)?;
            }
        }
        let mut words: Vec<&str> = verbs.iter().map(|(_, word)| *word).collect();
        if reload && words.is_empty() {
            words.push("unit file read again");
        }
        let lines: Vec<String> = words.iter().map(|word| format!("~ {} {word}", unit.name)).collect();
        Ok(context.changed(format!("{} {}", unit.name, words.join(", ")), &lines))
    }
}

impl Args {
    fn missing(&self, name: &str, context: &Context) -> Result<Outcome, Error> {
        if self.state == Some(State::Stopped) && self.enabled != Some(true) {
            return Ok(Context::same(format!("{name} is not installed")));
        }
        if context.check {
            return Ok(Context::unknown(format!("{name} is not installed yet")));
        }
        let hint = "install the package that brings it in an earlier task, or correct the name";
        Err(Error::refused(format!("there is no unit {name} on this host"), hint))
    }

    fn verbs(&self, unit: &Unit) -> Result<Vec<Verb>, Error> {
        let mut verbs = Vec::new();
        match (self.enabled, unit.is_enabled()) {
            (Some(true), false) => {
                if unit.file == "masked" || unit.file == "static" {
                    let what = format!("enable {}: it is {}", unit.name, unit.file);
                    let hint = "a masked unit has to be unmasked, a static one is started by others";
                    return Err(Error::refused(what, hint));
                }
                verbs.push(("enable", "enabled"));
            }
            (Some(false), true) => verbs.push(("disable", "disabled")),
            _ => {}
        }
        let running = matches!(unit.active.as_str(), "active" | "reloading" | "refreshing");
        match self.state {
            Some(State::Started) if !running => verbs.push(("start", "started")),
            Some(State::Stopped) if unit.active != "inactive" && unit.active != "failed" => {
                verbs.push(("stop", "stopped"));
            }
            Some(State::Restarted) => verbs.push(("restart", "restarted")),
            // What does not run reads its configuration when it starts.
            Some(State::Reloaded) if running => verbs.push(("reload-or-restart", "reloaded")),
            _ => {}
        }
        Ok(verbs)
    }
}

impl Unit {
    fn is_enabled(&self) -> bool {
        matches!(self.file.as_str(), "enabled" | "enabled-runtime" | "alias" | "linked" | "generated")
    }

    fn describe(&self) -> String {
        if self.file.is_empty() { self.active.clone() } else { format!("{} and {}", self.active, self.file) }
    }
}

/// What systemd says of a unit; `None` in a plan of one whose file it has not read yet.
fn look(name: &str, check: bool, systemd: &Systemd) -> Result<Option<Unit>, Error> {
    let unit = (systemd.show)(name)?;
    // Its file may be younger than systemd's view of its folders.
    if unit.load != "not-found" || !(systemd.has_file)(&unit.name) {
        return Ok(Some(unit));
    }
    if check {
        return Ok(None);
    }
    (systemd.reload)()?;
    (systemd.show)(name).map(Some)
}

fn unit_file_exists(name: &str) -> bool {
    let folders = [
        "/etc/systemd/system",
        "/run/systemd/system",
        "/usr/local/lib/systemd/system",
        "/lib/systemd/system",
    ];
    folders.iter().any(|folder| std::path::Path::new(folder).join(name).exists())
}

fn show(name: &str) -> Result<Unit, Error> {
    let mut command = program("systemctl");
    command.args(["show", "--property=Id,LoadState,ActiveState,UnitFileState,NeedDaemonReload", "--", name]);
    let output = process::run(&mut command)?;
    Ok(parse(&String::from_utf8_lossy(&output.stdout), name))
}

fn parse(text: &str, name: &str) -> Unit {
    let values: HashMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let value = |key: &str| values.get(key).copied().unwrap_or_default().to_owned();
    let id = value("Id");
    Unit {
        name: if id.is_empty() { name.to_owned() } else { id },
        load: value("LoadState"),
        active: value("ActiveState"),
        file: value("UnitFileState"),
        stale: value("NeedDaemonReload") == "yes",
    }
}

fn daemon_reload() -> Result<(), Error> {
    process::run(program("systemctl").arg("daemon-reload"))?;
    Ok(())
}

/// The first of these files that was changed after a running unit's main process has started.
pub(super) fn newer_than_start(unit: &str, files: &[PathBuf]) -> Result<Option<PathBuf>, Error> {
    if files.is_empty() {
        return Ok(None);
    }
    let mut command = program("systemctl");
    command.args(["show", "--value", "--property=ExecMainStartTimestampMonotonic", "--", unit]);
    let output = process::run(&mut command)?;
    let started_us = String::from_utf8_lossy(&output.stdout).trim().parse::<i64>().unwrap_or(0);
    if started_us == 0 {
        return Ok(None);
    }
    let (now_us, up_us) = (clock_us(ClockId::Realtime), clock_us(ClockId::Monotonic));
    let started_us = now_us - (up_us - started_us);
    for file in files {
        // A change in the future was made by a clock that was wrong.
        if changed_us(file)?.is_some_and(|at| at > started_us && at <= now_us) {
            return Ok(Some(file.clone()));
        }
    }
    Ok(None)
}

/// Whether the main process of a unit runs this very file, not one that was replaced since; `None` when none runs.
pub(super) fn runs(unit: &str, file: &Path) -> Result<Option<bool>, Error> {
    let mut command = program("systemctl");
    command.args(["show", "--value", "--property=MainPID", "--", unit]);
    let output = process::run(&mut command)?;
    let process = String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().unwrap_or(0);
    let running = match std::fs::metadata(format!("/proc/{process}/exe")) {
        Ok(running) if process != 0 => running,
        _ => return Ok(None),
    };
    let installed = std::fs::metadata(file).map_err(Error::io("look at", file))?;
    Ok(Some((running.dev(), running.ino()) == (installed.dev(), installed.ino())))
}

fn clock_us(clock: ClockId) -> i64 {
    let now = clock_gettime(clock);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

/// Not the time of the content, which a replaced file may bring along: that of the last change of any kind.
fn changed_us(file: &Path) -> Result<Option<i64>, Error> {
    match std::fs::metadata(file) {
        Ok(meta) => Ok(Some(meta.ctime() * 1_000_000 + meta.ctime_nsec() / 1000)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("look at", file)(error)),
    }
}

pub(super) fn act(verb: &str, unit: &str) -> Result<(), Error> {
    let mut command = program("systemctl");
    command.args([verb, "--quiet", "--", unit]);
    let error = match process::run(&mut command) {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    let mut journal = program("journalctl");
    journal.args(["--no-pager", "--quiet", "--output=cat", "--lines", LOG_LINES, "--unit", unit]);
    let log = process::output(&mut journal).map(|output| output.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&log).trim_end().to_owned();
    Err(Error::Late {
        what: format!("{verb} {unit}: it did not succeed"),
        output: if said.is_empty() { error.to_string() } else { said },
        hint: format!("`systemctl status {unit}` and `journalctl -u {unit}` on the host tell more"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::mistakes;
    use super::*;
    use serde_json::{Value, json};

    const RUNNING: &str = "Id=apache2.service\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=no\n";

    fn verbs(args: Value, shown: &str) -> Result<Vec<&'static str>, String> {
        let args: Args = serde_json::from_value(args).unwrap();
        let verbs = args.verbs(&parse(shown, "apache2")).map_err(|e| e.to_string())?;
        Ok(verbs.into_iter().map(|(verb, _)| verb).collect())
    }

    #[test]
    fn only_what_differs_is_done() {
        let stopped = RUNNING.replace("=active", "=inactive").replace("=enabled", "=disabled");
        let failed = RUNNING.replace("=active", "=failed");
        let cases = [
            (json!({"state": "started", "enabled": true}), RUNNING, vec![]),
            (json!({"state": "stopped", "enabled": false}), RUNNING, vec!["disable", "stop"]),
            (json!({"state": "started", "enabled": true}), &stopped, vec!["enable", "start"]),
            (json!({"state": "stopped", "enabled": false}), &stopped, vec![]),
            (json!({"state": "started"}), &failed, vec!["start"]),
            (json!({"state": "stopped"}), &failed, vec![]),
            (json!({"state": "restarted"}), RUNNING, vec!["restart"]),
            (json!({"state": "reloaded"}), RUNNING, vec!["reload-or-restart"]),
            (json!({"state": "reloaded"}), &stopped, vec![]),
        ];
        for (args, shown, wanted) in cases {
            assert_eq!(verbs(args.clone(), shown), Ok(wanted), "{args}");
        }
    }

    #[test]
    fn a_masked_or_static_unit_is_not_enabled_by_force() {
        let masked = RUNNING.replace("=enabled", "=masked");
        assert_eq!(
            verbs(json!({"enabled": true}), &masked),
            Err("enable apache2.service: it is masked".into())
        );
    }

    #[test]
    fn a_unit_that_is_not_installed_is_unknown_to_a_plan_and_stopped_for_certain() {
        let mut ignore = |_| {};
        let plan = Context::new(true, false, &mut ignore);
        let args = |value| serde_json::from_value::<Args>(value).unwrap();
        assert!(args(json!({"state": "started"})).missing("x", &plan).unwrap().unknown);
        let stopped = args(json!({"state": "stopped", "enabled": false})).missing("x", &plan).unwrap();
        assert!(!stopped.unknown && !stopped.changed);
        let mut ignore = |_| {};
        let run = Context::new(false, false, &mut ignore);
        assert!(args(json!({"state": "started"})).missing("x", &run).is_err());
    }

    #[test]
    fn a_plan_does_not_make_systemd_read_a_file_that_is_new_to_it() {
        fn unread(name: &str) -> Result<Unit, Error> {
            Ok(parse("LoadState=not-found\n", name))
        }
        fn refused() -> Result<(), Error> {
            Err(Error::refused("daemon-reload", ""))
        }
        let new = Systemd { show: unread, has_file: |_| true, reload: refused };
        assert_eq!(look("x.service", true, &new).unwrap(), None);
        assert!(look("x.service", false, &new).is_err(), "what is really done begins with it");
        let missing = Systemd { has_file: |_| false, ..new };
        assert_eq!(look("x.service", true, &missing).unwrap().unwrap().load, "not-found");
    }

    #[test]
    fn a_task_that_asks_for_nothing_is_refused() {
        assert_eq!(
            mistakes("service", json!({"name": "x"})),
            ["module service needs state, enabled or daemon_reload"]
        );
        assert_eq!(mistakes("service", json!({"state": "started"})).len(), 1);
        assert!(mistakes("service", json!({"daemon_reload": true})).is_empty());
    }
}
