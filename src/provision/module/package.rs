//! Packages of the distribution, all in one transaction.
//!
//! A service must not start because its package was installed: it would initialise its data in the wrong
//! place. While packages are installed on Debian a policy forbids it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use base::process;
use serde::Deserialize;

use super::Module;
use super::context::Context;
use super::error::Error;
use super::exec::{self, Finished, program};
use super::schema::{ArgError, Kind, Schema};
use super::state::State;
use crate::agent::facts;
use crate::protocol::{Outcome, Progress};

/// Bound for one transaction: a slow mirror and a large set.
const TRANSACTION: Duration = Duration::from_secs(3600);
/// Asked by every Debian package before it starts, stops or restarts a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_TEXT: &str =
    "#!/bin/sh\n# futago: services do not start while packages are being installed.\nexit 101\n";
const POLICY_MODE: u32 = 0o755;
/// What apt says when its lists are older than the repository, or were never read.
const STALE_LISTS: [&str; 3] = ["Unable to locate package", "has no installation candidate", "was not found"];
/// There while the lists are older than the sources: made by the module repository, gone when they have been read.
const LISTS_ARE_OLD: &str = "var/lib/futago/package-lists-are-old";
const TAIL_LINES: usize = 15;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    name: Vec<String>,
    #[serde(default)]
    state: State,
    #[serde(default)]
    update_cache: bool,
    recommends: Option<bool>,
}

/// Which tools a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    Apt,
    Dnf,
}

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "package",
        summary: "Installs or removes packages; services do not start by being installed.",
        returns: &[],
        example: "\
- name: Install the web server
  package: {name: [apache2, libapache2-mod-php], state: present}
",
        keys: &[
            Schema::must("name", Kind::TextList, "the packages, installed in one transaction"),
            Schema::may("state", Kind::Choice(&["present", "absent"]), "present (default) or absent"),
            Schema::may(
                "update_cache",
                Kind::Bool,
                "read the package lists again before installing; done anyway after repository and for an unknown package",
            ),
            Schema::may(
                "recommends",
                Kind::Bool,
                "install what is recommended too (default: as apt is set up)",
            ),
        ],
    };

    fn validate(&self) -> Vec<ArgError> {
        let fits = |name: &&String| {
            let mut characters = name.chars();
            characters.next().is_some_and(|c| c.is_ascii_alphanumeric())
                && characters.all(|c| c.is_ascii_alphanumeric() || "+-.:=~_".contains(c))
        };
        let wrong = self.name.iter().filter(|name| !fits(name));
        let mut errors: Vec<ArgError> =
            wrong.map(|name| ArgError::at("name", format!("\"{name}\" is not a package name"))).collect();
        if self.name.is_empty() {
            errors.push(ArgError::at("name", "module package needs at least one package"));
        }
        errors
    }

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        let tool = tool()?;
        if tool == Tool::Apt && !context.check {
            remove_leftover_policy(Path::new(POLICY))?;
        }
        let installed = installed(tool, &self.name)?;
        let wanted = self.state == State::Present;
        let differs = |name: &&String| is_installed(&installed, name) != wanted;
        let names: Vec<&str> = self.name.iter().filter(differs).map(String::as_str).collect();
        let word = if wanted { "installed" } else { "removed" };
        if names.is_empty() {
            let what = if wanted { "installed" } else { "absent" };
            return Ok(Context::same(format!("{} {what}", self.name.join(", "))));
        }
        if context.check && wanted {
            context.planned.install();
        }
        if !context.check {
            match tool {
                Tool::Apt => self.apt(&names, context)?,
                Tool::Dnf => self.dnf(&names, context)?,
            }
            reload_bus_policy();
        }
        let sign = if wanted { '+' } else { '-' };
        let lines: Vec<String> = names.iter().map(|name| format!("{sign} {name}")).collect();
        Ok(context.changed(format!("{word} {}", names.join(", ")), &lines))
    }
}

impl Args {
    fn apt(&self, names: &[&str], context: &mut Context) -> Result<(), Error> {
        let _policy = Policy::forbid(Path::new(POLICY))?;
        let is_read = self.update_cache || are_lists_old(Path::new("/"));
        if is_read {
            update(context)?;
        }
        let mut command = self.apt_command(names);
        let mut finished = transaction(&mut command, context)?;
        let said = String::from_utf8_lossy(&finished.stderr).into_owned();
        if !succeeded(&finished) && !is_read && STALE_LISTS.iter().any(|text| said.contains(text)) {
            update(context)?;
            command = self.apt_command(names);
            finished = transaction(&mut command, context)?;
        }
        require(&finished, &command)
    }

    fn apt_command(&self, names: &[&str]) -> std::process::Command {
        let verb = if self.state == State::Present { "install" } else { "remove" };
        let mut command = apt(&[verb]);
        if let Some(recommends) = self.recommends {
            command.args(["-o", &format!("APT::Install-Recommends={recommends}")]);
        }
        command.arg("--").args(names);
        command
    }

    fn dnf(&self, names: &[&str], context: &mut Context) -> Result<(), Error> {
        let verb = if self.state == State::Present { "install" } else { "remove" };
        let mut command = program("dnf");
        command.args(["-y", "-q", verb, "--"]).args(names);
        context.progress(Progress { message: format!("dnf {verb}"), ..Progress::default() });
        let finished = exec::run(&mut command, None, TRANSACTION, &mut |_| {})?;
        require(&finished, &command)
    }
}

/// The tools of this host.
pub(super) fn tool() -> Result<Tool, Error> {
    let facts = facts::gather();
    match facts.family.as_str() {
        "debian" => Ok(Tool::Apt),
        "redhat" => Ok(Tool::Dnf),
        _ => Err(Error::refused(
            format!("install packages on {}: this distribution is not known", facts.distribution),
            "Debian, Ubuntu, Rocky and Alma are known",
        )),
    }
}

/// Versions of those packages that are installed, by name.
fn installed(tool: Tool, names: &[String]) -> Result<HashMap<String, String>, Error> {
    let bare = names.iter().map(|name| split(name).0);
    // Both tools end with an error when one of the packages is unknown, and still list the others.
    let output = match tool {
        Tool::Apt => {
            let format = "--showformat=${db:Status-Status}\t${Package}\t${Version}\n";
            process::output(program("dpkg-query").args(["--show", format, "--"]).args(bare))?
        }
        Tool::Dnf => {
            let format = "installed\t%{NAME}\t%{VERSION}-%{RELEASE}\n";
            process::output(program("rpm").args(["-q", "--qf", format, "--"]).args(bare))?
        }
    };
    Ok(parse_installed(&String::from_utf8_lossy(&output.stdout)))
}

fn parse_installed(text: &str) -> HashMap<String, String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("installed\t")?.split_once('\t'));
    lines.map(|(name, version)| (name.to_owned(), version.to_owned())).collect()
}

fn is_installed(installed: &HashMap<String, String>, name: &str) -> bool {
    let (name, version) = split(name);
    let name = name.split(':').next().unwrap_or(name);
    installed.get(name).is_some_and(|found| version.is_none_or(|version| version == found))
}

/// `name=version` apart.
fn split(name: &str) -> (&str, Option<&str>) {
    name.split_once('=').map_or((name, None), |(name, version)| (name, Some(version)))
}

fn apt(args: &[&str]) -> std::process::Command {
    // Status lines get a descriptor of their own; what people read goes to the error output with the rest.
    let script = "exec 3>&1 1>&2; exec apt-get -o APT::Status-Fd=3 \"$@\"";
    let mut command = program("sh");
    command.args(["-c", script, "apt-get", "-y", "-q"]);
    command.args(["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]);
    // Another transaction on the host gets two minutes to end.
    command.args(["-o", "DPkg::Lock::Timeout=120"]).args(args);
    command.envs([
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBIAN_PRIORITY", "critical"),
        ("APT_LISTCHANGES_FRONTEND", "none"),
        ("NEEDRESTART_MODE", "l"),
    ]);
    command
}

fn update(context: &mut Context) -> Result<(), Error> {
    context.progress(Progress { message: "reading package lists".into(), ..Progress::default() });
    let mut command = apt(&["update"]);
    let finished = exec::run(&mut command, None, TRANSACTION, &mut |_| {})?;
    require(&finished, &command)?;
    lists_are_new(Path::new("/"))
}

/// The lists are to be read again before anything is installed from them.
pub(super) fn lists_are_old(root: &Path) -> Result<(), Error> {
    let path = root.join(LISTS_ARE_OLD);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    base::file::replace(&path, b"", 0o600).map_err(Error::io("write", &path))
}

/// Whether they are.
pub(super) fn are_lists_old(root: &Path) -> bool {
    root.join(LISTS_ARE_OLD).exists()
}

/// They have been read.
pub(super) fn lists_are_new(root: &Path) -> Result<(), Error> {
    let path = root.join(LISTS_ARE_OLD);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &path)(error)),
        _ => Ok(()),
    }
}

fn transaction(command: &mut std::process::Command, context: &mut Context) -> Result<Finished, Error> {
    let mut pending = Vec::new();
    exec::run(command, None, TRANSACTION, &mut |piece| {
        pending.extend_from_slice(piece);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            if let Some(sign) = progress(String::from_utf8_lossy(&line).trim_end()) {
                context.progress(sign);
            }
        }
    })
}

/// `pmstatus:PACKAGE:PERCENT:TEXT` and `dlstatus:NUMBER:PERCENT:TEXT`.
fn progress(line: &str) -> Option<Progress> {
    let mut fields = line.splitn(4, ':');
    if !matches!(fields.next()?, "pmstatus" | "dlstatus") {
        return None;
    }
    let percent = fields.nth(1)?.parse().ok()?;
    Some(Progress { message: fields.next()?.to_owned(), percent: Some(percent), eta_seconds: None })
}

fn succeeded(finished: &Finished) -> bool {
    finished.status.is_some_and(|status| status.success())
}

fn require(finished: &Finished, command: &std::process::Command) -> Result<(), Error> {
    if succeeded(finished) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&finished.stderr);
    let lines: Vec<&str> = said.trim_end().lines().collect();
    let tail = lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n");
    let line = process::line(command);
    // The wrapping shell is no help to people.
    let line = line.split_once("apt-get -y").map_or(line.clone(), |(_, rest)| format!("apt-get -y{rest}"));
    Err(Error::Late {
        what: format!("`{line}` failed"),
        output: tail,
        hint: "are the package sources of the host set up, and reachable from it?".into(),
    })
}

/// Services do not start while this exists.
struct Policy<'a> {
    path: Option<&'a Path>,
}

impl<'a> Policy<'a> {
    /// A policy that the administrator has made is left as it is.
    fn forbid(path: &'a Path) -> Result<Self, Error> {
        if path.exists() {
            return Ok(Self { path: None });
        }
        base::file::replace(path, POLICY_TEXT.as_bytes(), POLICY_MODE).map_err(Error::io("write", path))?;
        Ok(Self { path: Some(path) })
    }
}

impl Drop for Policy<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.path {
            // The next run of this module removes what is left.
            let _ = fs::remove_file(path);
        }
    }
}

/// Removes what an earlier run that was killed has left; only one run at a time works on a host.
fn remove_leftover_policy(path: &Path) -> Result<(), Error> {
    match fs::read(path) {
        Ok(text) if text == POLICY_TEXT.as_bytes() => {
            fs::remove_file(path).map_err(Error::io("remove", path))
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::Io { action: "read", path: path.to_path_buf(), source }),
    }
}

/// Packages bring D-Bus policies, and a running bus does not always notice: calls would then hang for 25 s.
fn reload_bus_policy() {
    let mut command = program("busctl");
    command.args(["--timeout=5", "call", "org.freedesktop.DBus", "/org/freedesktop/DBus"]);
    // A host without a system bus has nothing to reload.
    let _ = process::output(command.args(["org.freedesktop.DBus", "ReloadConfig"]));
}

#[cfg(test)]
mod tests {
    use super::super::testing::{checked, mistakes};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use serde_json::json;

    #[test]
    fn packages_count_only_when_wholly_installed_and_of_the_wanted_version() {
        let text = "installed\tparted\t3.5-3\nconfig-files\tapache2\t2.4\nhalf-installed\tphp\t8\n";
        let installed = parse_installed(text);
        for (name, wanted) in [
            ("parted", true),
            ("parted=3.5-3", true),
            ("parted:amd64", true),
            ("parted=3.6", false),
            ("apache2", false),
            ("php", false),
            ("missing", false),
        ] {
            assert_eq!(is_installed(&installed, name), wanted, "{name}");
        }
    }

    #[test]
    fn progress_of_apt_is_understood() {
        let sign = progress("pmstatus:mariadb-server:42.5000:Unpacking mariadb-server (amd64)").unwrap();
        assert_eq!((sign.message.as_str(), sign.percent), ("Unpacking mariadb-server (amd64)", Some(42.5)));
        let sign = progress("dlstatus:1:20.0:Retrieving file 1 of 3 (2 s remaining)").unwrap();
        assert_eq!(sign.percent, Some(20.0));
        assert_eq!(progress("Setting up parted: done"), None);
    }

    #[test]
    fn the_policy_is_gone_afterwards_also_when_something_failed_and_a_foreign_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy-rc.d");
        let failing = || -> Result<(), Error> {
            let _policy = Policy::forbid(&path)?;
            // Read by a shell: a file just written cannot be executed while another thread's child has it open.
            let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            let answer = process::output(program("sh").arg(&path)).unwrap();
            assert_eq!((mode, answer.status.code()), (0o755, Some(101)));
            Err(Error::Args("broken".into()))
        };
        assert!(failing().is_err() && !path.exists());
        std::mem::forget(Policy::forbid(&path).unwrap());
        remove_leftover_policy(&path).unwrap();
        assert!(!path.exists());
        fs::write(&path, "#!/bin/sh\nexit 0\n").unwrap();
        drop(Policy::forbid(&path).unwrap());
        remove_leftover_policy(&path).unwrap();
        assert!(path.exists());
    }

    #[test]
    fn names_are_checked_before_contact() {
        assert_eq!(mistakes("package", json!({"name": ["-o", "a b"]})).len(), 2);
        assert_eq!(mistakes("package", json!({"name": []})), ["module package needs at least one package"]);
        assert!(mistakes("package", json!({"name": ["libstdc++6:amd64", "g++=4:12.2.0-3"]})).is_empty());
    }

    #[test]
    fn a_plan_lists_what_is_missing() {
        if tool().ok() != Some(Tool::Apt) {
            println!("skipped: this machine has no apt");
            return;
        }
        let outcome = checked("package", json!({"name": ["dpkg", "no-such-package-here"]}));
        assert_eq!((outcome.changed, outcome.diff.as_deref()), (true, Some("+ no-such-package-here")));
        assert!(!checked("package", json!({"name": "dpkg"})).changed);
    }
}
