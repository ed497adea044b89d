//! One setting of the kernel: in the running one and, for the next boot, in a file of /etc/sysctl.d.
//!
//! What the kernel does not take is not written into the file.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::attributes::Wanted;
use super::context::{Context, joined};
use super::error::Error;
use super::schema::{ArgError, Kind, Schema};
use super::state::State;
use super::text::{self, Text};
use super::{Module, copy};
use crate::protocol::Outcome;

const LIVE: &str = "/proc/sys";
/// Read at boot before 99-sysctl.conf, which is the file of administrators on many distributions.
const DEFAULT_FILE: &str = "/etc/sysctl.d/90-futago.conf";
/// Folders whose files are read together with those of /etc/sysctl.d, in the order of their names.
const OTHER_FOLDERS: &[&str] = &["/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    name: String,
    value: Option<String>,
    file: Option<PathBuf>,
    live: Option<bool>,
    #[serde(default)]
    state: State,
}

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "sysctl",
        summary: "Sets a kernel parameter, at once and for the next boot.",
        returns: &[],
        example: "\
- name: Swap late
  sysctl: {name: vm.swappiness, value: 10}
",
        keys: &[
            Schema::must("name", Kind::Text, "the parameter, such as net.ipv4.ip_forward"),
            Schema::may("value", Kind::Text, "its value; needed unless absent"),
            Schema::may("file", Kind::Path, "where it is kept (default: /etc/sysctl.d/90-futago.conf)"),
            Schema::may("live", Kind::Bool, "set it in the running kernel too (default: true)"),
            Schema::may(
                "state",
                Kind::Choice(&["present", "absent"]),
                "present (default) or absent: taken out of the file, the running kernel keeps its value",
            ),
        ],
    };

    fn validate(&self) -> Vec<ArgError> {
        let mut errors = Vec::new();
        if relative(&self.name).is_none() {
            let message =
                format!("\"{}\" is not a kernel parameter; write it as net.ipv4.ip_forward", self.name);
            errors.push(ArgError::at("name", message));
        }
        let value = self.value.as_deref();
        match self.state {
            State::Present if value.is_none_or(|value| value.trim().is_empty()) => {
                errors.push(ArgError::at(
                    "value",
                    "module sysctl needs the argument \"value\" with state present",
                ));
            }
            State::Absent if value.is_some() || self.live.is_some() => {
                errors.push(ArgError::whole("module sysctl takes no value or live with state absent"));
            }
            _ => {}
        }
        if value.is_some_and(|value| value.trim().contains('\n')) {
            errors.push(ArgError::at("value", "argument \"value\" of module sysctl must be one line"));
        }
        errors
    }

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        self.bring(Path::new(LIVE), context)
    }
}

impl Args {
    fn bring(&self, live: &Path, context: &Context) -> Result<Outcome, Error> {
        let file = self.file.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
        let Some(value) = self.value.as_deref().map(normal) else {
            return self.take_out(file, context);
        };
        let mut parts = Vec::new();
        if self.live.unwrap_or(true) {
            parts.push(self.set(live, &value, context)?);
        }
        parts.push(self.keep(file, &value, context)?);
        let mut outcome = joined(parts);
        if let Some(other) = self.overridden(file, &value) {
            let other = other.display();
            outcome.message =
                format!("{}; {other}, which is read later at boot, has another value", outcome.message);
        }
        Ok(outcome)
    }

    /// In the running kernel.
    fn set(&self, live: &Path, value: &str, context: &Context) -> Result<Outcome, Error> {
        let name = &self.name;
        let path = live.join(relative(name).unwrap_or_default());
        let found = match fs::read_to_string(&path) {
            Ok(text) => normal(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound && context.check => {
                return Ok(Context::unknown(format!("the kernel does not know {name} yet")));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let hint =
                    "correct the name, or load the module of the kernel that brings it in an earlier task";
                return Err(Error::refused(format!("set {name}: this kernel does not know it"), hint));
            }
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        if found == value {
            return Ok(Context::same(format!("{name} is {value}")));
        }
        if !context.check {
            write(&path, value).map_err(|source| refusal(name, value, &source, &path))?;
            let taken = normal(&fs::read_to_string(&path).map_err(Error::io("read", &path))?);
            if taken != value {
                let hint = "write the value that the kernel has made of it";
                return Err(Error::refused(format!("set {name} to {value}: the kernel took {taken}"), hint));
            }
        }
        Ok(context.changed(format!("{name} {found} -> {value}"), &[format!("~ {name} {found} -> {value}")]))
    }

    /// For the next boot.
    fn keep(&self, file: &Path, value: &str, context: &Context) -> Result<Outcome, Error> {
        let mut text = Text::new(&text::read(file)?.unwrap_or_default());
        // Of several the last one counts.
        let found = text.last(|line| self.is_in(line));
        let kept =
            found.and_then(|index| text.bare().nth(index)).and_then(entry).map(|(_, value)| normal(value));
        if kept.as_deref() != Some(value) {
            let place = found.map_or(text.len()..text.len(), |index| index..index + 1);
            text.splice(place, &[&format!("{} = {value}", self.name)]);
        }
        if let Some(folder) = file.parent().filter(|folder| !context.check && !folder.exists()) {
            fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        copy::place(file, text.to_string().as_bytes(), Wanted::default(), context)
    }

    fn take_out(&self, file: &Path, context: &Context) -> Result<Outcome, Error> {
        let name = file.display();
        let Some(text) = text::read(file)? else {
            return Ok(Context::same(format!("{name} does not exist")));
        };
        let mut lines = Text::new(&text);
        lines.remove(|line| self.is_in(line));
        copy::place(file, lines.to_string().as_bytes(), Wanted::default(), context)
    }

    /// Whether a line of a file sets this parameter.
    fn is_in(&self, line: &str) -> bool {
        entry(line).is_some_and(|(name, _)| relative(name) == relative(&self.name))
    }

    /// A file that is read later and says something else.
    fn overridden(&self, file: &Path, value: &str) -> Option<PathBuf> {
        let own = file.parent().unwrap_or(file);
        let is_etc = Path::new(DEFAULT_FILE).parent() == Some(own);
        let others = OTHER_FOLDERS.iter().map(Path::new).filter(|_| is_etc);
        let mut later = Vec::new();
        for folder in std::iter::once(own).chain(others) {
            let Ok(entries) = fs::read_dir(folder) else { continue };
            let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
            later.extend(paths.filter(|path| {
                path.extension().is_some_and(|end| end == "conf") && path.file_name() > file.file_name()
            }));
        }
        later.sort_by(|a, b| b.file_name().cmp(&a.file_name()));
        for path in later {
            // What cannot be read here is for others to complain about.
            let text = Text::new(&text::read(&path).ok().flatten().unwrap_or_default());
            let found = text.last(|line| self.is_in(line)).and_then(|index| entry(text.bare().nth(index)?));
            if let Some((_, other)) = found {
                return (normal(other) != value).then_some(path);
            }
        }
        None
    }
}

/// Opened without being truncated: these are not files.
fn write(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(format!("{value}\n").as_bytes())
}

fn refusal(name: &str, value: &str, source: &io::Error, path: &Path) -> Error {
    let hint = match source.kind() {
        io::ErrorKind::InvalidInput => "the kernel does not take this value",
        _ => {
            "in a container the kernel's parameters are often not to be changed: live: false keeps it for later"
        }
    };
    Error::refused(format!("set {name} to {value} ({}): {source}", path.display()), hint)
}

/// The path of a parameter below /proc/sys. As sysctl does, whichever of `.` and `/` comes first separates; the
/// other one is part of a name, as that of an interface is in `net/ipv4/conf/eth0.100/forwarding`.
fn relative(name: &str) -> Option<String> {
    let path = match name.find(['.', '/']).map(|index| name.as_bytes().get(index)) {
        Some(Some(b'.')) => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
        _ => name.to_owned(),
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.:@".contains(c);
    let is_part = |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(fits);
    path.split('/').all(is_part).then_some(path)
}

/// Name and value of a line of a file; a leading `-` lets a boot go on without it.
fn entry(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.starts_with(['#', ';']) {
        return None;
    }
    let (name, value) = line.trim_start_matches('-').split_once('=')?;
    Some((name.trim(), value))
}

/// The kernel separates with tabs what people separate with spaces.
fn normal(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::testing::mistakes;
    use super::*;
    use serde_json::{Value, json};
    use tempfile::TempDir;

    /// A folder that looks like /proc/sys, and one for files.
    struct Stand(TempDir);

    impl Stand {
        fn new() -> Self {
            let stand = Self(tempfile::tempdir().unwrap());
            for (name, value) in [("vm/swappiness", "60\n"), ("net/ipv4/tcp_rmem", "4096\t131072\t6291456\n")]
            {
                let path = stand.live().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, value).unwrap();
            }
            stand
        }

        fn live(&self) -> PathBuf {
            self.0.path().join("proc")
        }

        fn file(&self) -> PathBuf {
            self.0.path().join("sysctl.d/90-futago.conf")
        }

        fn run(&self, mut args: Value, check: bool) -> Result<Outcome, Error> {
            args["file"] = json!(self.file());
            let args = super::super::parse::<Args>(args.as_object().unwrap()).unwrap();
            args.bring(&self.live(), &Context::new(check, true, &mut |_| {}))
        }

        fn converges(&self, args: &Value) -> Outcome {
            let planned = self.run(args.clone(), true).unwrap();
            let done = self.run(args.clone(), false).unwrap();
            assert!(planned.changed && done.changed, "{args}");
            for check in [true, false] {
                let again = self.run(args.clone(), check).unwrap();
                assert_eq!((again.changed, again.unknown), (false, false), "again {args}: {}", again.message);
            }
            done
        }

        fn kept(&self) -> String {
            fs::read_to_string(self.file()).unwrap()
        }
    }

    #[test]
    fn a_parameter_is_set_now_and_kept_for_the_next_boot() {
        let stand = Stand::new();
        let done = stand.converges(&json!({"name": "vm.swappiness", "value": 10}));
        assert_eq!(fs::read_to_string(stand.live().join("vm/swappiness")).unwrap(), "10\n");
        assert_eq!(stand.kept(), "vm.swappiness = 10\n");
        let diff = done.diff.unwrap();
        assert!(
            diff.starts_with("~ vm.swappiness 60 -> 10\n") && diff.contains("+vm.swappiness = 10"),
            "{diff}"
        );
    }

    #[test]
    fn a_plan_touches_neither_the_kernel_nor_the_file() {
        let stand = Stand::new();
        assert!(stand.run(json!({"name": "vm.swappiness", "value": "10"}), true).unwrap().changed);
        assert_eq!(fs::read_to_string(stand.live().join("vm/swappiness")).unwrap(), "60\n");
        assert!(!stand.0.path().join("sysctl.d").exists());
    }

    #[test]
    fn tabs_of_the_kernel_and_spaces_of_people_are_the_same() {
        let stand = Stand::new();
        let args = json!({"name": "net.ipv4.tcp_rmem", "value": "4096  131072 6291456"});
        let done = stand.converges(&args);
        assert!(!done.diff.unwrap().contains("->"), "the running kernel has it already");
        assert_eq!(stand.kept(), "net.ipv4.tcp_rmem = 4096 131072 6291456\n");
    }

    #[test]
    fn the_line_is_found_in_every_spelling_and_the_others_stay() {
        let stand = Stand::new();
        fs::create_dir_all(stand.file().parent().unwrap()).unwrap();
        fs::write(stand.file(), "# ours\nvm/swappiness=5\n-net.core.x = 1\n").unwrap();
        let args = json!({"name": "vm.swappiness", "value": "60"});
        stand.converges(&args);
        assert_eq!(stand.kept(), "# ours\nvm.swappiness = 60\n-net.core.x = 1\n");
        let absent = json!({"name": "net.core.x", "state": "absent"});
        stand.converges(&absent);
        assert_eq!(stand.kept(), "# ours\nvm.swappiness = 60\n");
    }

    #[test]
    fn a_file_that_is_read_later_with_another_value_is_named() {
        let stand = Stand::new();
        let folder = stand.file().parent().unwrap().to_owned();
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("99-local.conf"), "vm.swappiness=60\n").unwrap();
        fs::write(folder.join("10-first.conf"), "vm.swappiness=1\n").unwrap();
        let outcome = stand.run(json!({"name": "vm.swappiness", "value": 10}), false).unwrap();
        let told = "99-local.conf, which is read later at boot, has another value";
        assert!(outcome.message.ends_with(told), "{}", outcome.message);
    }

    #[test]
    fn an_unknown_parameter_is_unknown_to_the_plan_and_refused_by_the_run() {
        let stand = Stand::new();
        let args = json!({"name": "net.bridge.x", "value": "1"});
        assert!(stand.run(args.clone(), true).unwrap().unknown);
        let error = stand.run(args.clone(), false).unwrap_err();
        assert_eq!(error.to_string(), "set net.bridge.x: this kernel does not know it");
        assert!(!stand.file().exists(), "what the kernel does not take is not kept");
        let mut later = args;
        later["live"] = json!(false);
        stand.converges(&later);
    }

    #[test]
    fn names_are_paths_below_one_folder() {
        assert_eq!(
            relative("net/ipv4/conf/eth0.100/forwarding").unwrap(),
            "net/ipv4/conf/eth0.100/forwarding"
        );
        assert_eq!(
            relative("net.ipv4.conf.eth0/100.forwarding").unwrap(),
            "net/ipv4/conf/eth0.100/forwarding"
        );
        for wrong in ["", "vm..x", "../x", "vm/../../etc/passwd", "vm.x y", "/vm"] {
            assert_eq!(relative(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn wrong_arguments_are_told_before_contact() {
        let missing = "module sysctl needs the argument \"value\" with state present";
        assert_eq!(mistakes("sysctl", json!({"name": "vm.swappiness"})), [missing]);
        assert_eq!(mistakes("sysctl", json!({"name": "vm.swappiness", "value": " "})), [missing]);
        let absent = json!({"name": "vm.swappiness", "value": 1, "state": "absent"});
        assert_eq!(mistakes("sysctl", absent), ["module sysctl takes no value or live with state absent"]);
        let name = mistakes("sysctl", json!({"name": "../x", "value": 1}));
        assert_eq!(name, ["\"../x\" is not a kernel parameter; write it as net.ipv4.ip_forward"]);
        let file = mistakes("sysctl", json!({"name": "vm.x", "value": 1, "sysctl_file": "/x"}));
        assert_eq!(file, ["module sysctl has no argument \"sysctl_file\"; did you mean \"file\"?"]);
    }
}
