//! SELinux: its mode, now and at the next boot, and its booleans. A host without SELinux is left alone.
//!
//! The mode is in /etc/selinux/config and in the kernel's own file system; booleans are changed by setsebool, which
//! also writes them into the policy.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::attributes::Wanted;
use super::context::{Context, joined};
use super::error::Error;
use super::exec::program;
use super::schema::{ArgError, Kind, Schema};
use super::text::{self, Text};
use super::{Module, copy};
use crate::protocol::Outcome;

const CONFIG: &str = "etc/selinux/config";
const KERNEL: &str = "sys/fs/selinux";
/// Where local changes of booleans are kept, below the folder of the policy.
const LOCAL: &str = "active/booleans.local";
const POLICIES: &str = "var/lib/selinux";
const DEFAULT_POLICY: &str = "targeted";
const MODES: &[&str] = &["enforcing", "permissive", "disabled"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    mode: Option<String>,
    #[serde(default)]
    booleans: Map<String, Value>,
}

/// Where SELinux is, and what sets a boolean.
struct Host<'a> {
    root: &'a Path,
    set_boolean: &'a dyn Fn(&str, bool) -> Result<(), Error>,
}

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "selinux",
        summary: "Sets the mode of SELinux and its booleans, now and for good; does nothing where it is not.",
        returns: &[],
        example: "\
- name: Apache may reach the database over the network
  selinux: {booleans: {httpd_can_network_connect_db: true}}
",
        keys: &[
            Schema::may(
                "mode",
                Kind::Choice(MODES),
                "enforcing, permissive or disabled; to and from disabled takes a boot",
            ),
            Schema::may("booleans", Kind::Map, "names of booleans, each with true or false"),
        ],
    };

    fn validate(&self) -> Vec<ArgError> {
        let mut errors = Vec::new();
        if self.mode.is_none() && self.booleans.is_empty() {
            errors.push(ArgError::whole("module selinux needs mode or booleans"));
        }
        for (name, value) in &self.booleans {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(fits) {
                errors.push(ArgError::at("booleans", format!("\"{name}\" is not the name of a boolean")));
            }
            if value.as_bool().is_none() {
                errors.push(ArgError::at(
                    "booleans",
                    format!("the boolean {name} must be true or false, not {value}"),
                ));
            }
        }
        errors
    }

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        self.bring(&Host { root: Path::new("/"), set_boolean: &setsebool }, context)
    }
}

impl Args {
    fn bring(&self, host: &Host, context: &Context) -> Result<Outcome, Error> {
        if !host.root.join(CONFIG).exists() && !host.root.join(KERNEL).join("enforce").exists() {
            return Ok(Context::same("SELinux is not installed on this host: nothing to do"));
        }
        let mut parts = Vec::new();
        if let Some(mode) = self.mode.as_deref() {
            parts.extend(set_now(mode, host, context)?);
            parts.push(set_for_good(mode, host, context)?);
        }
        for (name, value) in &self.booleans {
            parts.push(set_boolean(name, value.as_bool().unwrap_or(false), host, context)?);
        }
        Ok(joined(parts))
    }
}

/// In the running kernel; `None` when there is nothing to do in it.
fn set_now(mode: &str, host: &Host, context: &Context) -> Result<Option<Outcome>, Error> {
    let path = host.root.join(KERNEL).join("enforce");
    let Ok(found) = fs::read_to_string(&path) else {
        let waits = mode != "disabled";
        let message = format!("the kernel runs without SELinux: {mode} takes a boot, which labels all files");
        return Ok(waits.then(|| Context::same(message)));
    };
    // Until the boot that takes it away, disabled is permissive.
    let wanted = if mode == "enforcing" { "1" } else { "0" };
    if found.trim() == wanted {
        return Ok(None);
    }
    if !context.check {
        let file = fs::OpenOptions::new().write(true).open(&path);
        file.and_then(|mut file| file.write_all(wanted.as_bytes())).map_err(Error::io("write", &path))?;
    }
    let word = |value: &str| if value == "1" { "enforcing" } else { "permissive" };
    let line = format!("~ now {} -> {}", word(found.trim()), word(wanted));
    Ok(Some(context.changed(format!("SELinux is {} now", word(wanted)), &[line])))
}

/// For the next boot.
fn set_for_good(mode: &str, host: &Host, context: &Context) -> Result<Outcome, Error> {
    let path = host.root.join(CONFIG);
    let mut text = Text::new(&text::read(&path)?.unwrap_or_default());
    let line = format!("SELINUX={mode}");
    match text.last(|line| setting(line, "SELINUX").is_some()) {
        Some(index) if text.bare().nth(index).and_then(|line| setting(line, "SELINUX")) == Some(mode) => {}
        Some(index) => text.splice(index..index + 1, &[&line]),
        None => text.splice(text.len()..text.len(), &[&line]),
    }
    // Others have a link to it, which is followed.
    copy::place(&path, text.to_string().as_bytes(), Wanted::default(), context)
}

fn set_boolean(name: &str, wanted: bool, host: &Host, context: &Context) -> Result<Outcome, Error> {
    let path = host.root.join(KERNEL).join("booleans").join(name);
    let now = match fs::read_to_string(&path) {
        // The value now, and the one that is about to be.
        Ok(text) => Some(text.split_whitespace().next() == Some("1")),
        Err(_) if !host.root.join(KERNEL).join("enforce").exists() => {
            return Ok(Context::same(format!("SELinux does not run: {name} is left alone")));
        }
        Err(_) if context.check => return Ok(Context::unknown(format!("there is no boolean {name} yet"))),
        Err(_) => {
            let hint = "`getsebool -a` on the host lists them; some come with a package";
            return Err(Error::refused(
                format!("set the boolean {name}: this policy does not have it"),
                hint,
            ));
        }
    };
    let kept = kept(host, name)?;
    if now == Some(wanted) && kept == Some(wanted) {
        return Ok(Context::same(format!("{name} is {}", word(wanted))));
    }
    if !context.check {
        (host.set_boolean)(name, wanted)?;
    }
    let line = match now {
        Some(now) if now == wanted => format!("~ {name} {} for good", word(wanted)),
        _ => format!("~ {name} {} -> {}", word(!wanted), word(wanted)),
    };
    Ok(context.changed(format!("{name} is {} now and for good", word(wanted)), &[line]))
}

/// The value that an administrator has set for good; that of the policy itself is nowhere to be read.
fn kept(host: &Host, name: &str) -> Result<Option<bool>, Error> {
    let config = text::read(&host.root.join(CONFIG))?.unwrap_or_default();
    let policy = config.lines().rev().find_map(|line| setting(line, "SELINUXTYPE")).unwrap_or(DEFAULT_POLICY);
    let path: PathBuf = host.root.join(POLICIES).join(policy).join(LOCAL);
    let text = text::read(&path)?.unwrap_or_default();
    Ok(text.lines().rev().find_map(|line| setting(line, name)).map(|value| value == "1"))
}

fn setting<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (key, value) = line.split_once('=')?;
    (key.trim() == name).then(|| value.trim())
}

fn word(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

fn setsebool(name: &str, value: bool) -> Result<(), Error> {
    base::process::run(program("setsebool").args(["-P", name, word(value)]))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{applied, mistakes};
    use super::*;
    use serde_json::json;
    use std::cell::RefCell;
    use tempfile::TempDir;

    /// A host whose kernel and files say this.
    struct Stand {
        folder: TempDir,
        set: RefCell<Vec<String>>,
    }

    impl Stand {
        fn new(files: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            for (name, text) in files {
                let path = folder.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self { folder, set: RefCell::default() }
        }

        fn enforcing() -> Self {
            Self::new(&[
                ("etc/selinux/config", "# modes\nSELINUX=enforcing\nSELINUXTYPE=targeted\n"),
                ("sys/fs/selinux/enforce", "1"),
                ("sys/fs/selinux/booleans/httpd_can_network_connect", "0 0"),
            ])
        }

        fn text(&self, name: &str) -> String {
            fs::read_to_string(self.folder.path().join(name)).unwrap()
        }

        fn run(&self, args: &Value, check: bool) -> Result<Outcome, Error> {
            // As setsebool -P leaves both places.
            let set = |name: &str, value: bool| -> Result<(), Error> {
                self.set.borrow_mut().push(format!("{name} {}", word(value)));
                let root = self.folder.path();
                let number = u8::from(value);
                fs::write(root.join(KERNEL).join("booleans").join(name), format!("{number} {number}"))
                    .unwrap();
                let local = root.join("var/lib/selinux/targeted/active/booleans.local");
                fs::create_dir_all(local.parent().unwrap()).unwrap();
                fs::write(local, format!("# made by libsemanage\n{name}={number}\n")).unwrap();
                Ok(())
            };
            let args: Args = super::super::parse(args.as_object().unwrap()).unwrap();
            let host = Host { root: self.folder.path(), set_boolean: &set };
            args.bring(&host, &Context::new(check, true, &mut |_| {}))
        }

        fn converges(&self, args: &Value) -> Outcome {
            assert!(self.run(args, true).unwrap().changed, "the plan of {args}");
            let done = self.run(args, false).unwrap();
            assert!(done.changed, "{args}");
            for check in [true, false] {
                assert!(!self.run(args, check).unwrap().changed, "again {args}");
            }
            done
        }
    }

    #[test]
    fn the_mode_is_set_now_and_for_good() {
        let stand = Stand::enforcing();
        let done = stand.converges(&json!({"mode": "permissive"}));
        assert_eq!(stand.text("etc/selinux/config"), "# modes\nSELINUX=permissive\nSELINUXTYPE=targeted\n");
        assert_eq!(stand.text("sys/fs/selinux/enforce"), "0");
        assert!(done.diff.unwrap().starts_with("~ now enforcing -> permissive\n"));
        assert!(!Stand::enforcing().run(&json!({"mode": "enforcing"}), false).unwrap().changed);
    }

    #[test]
    fn a_plan_touches_nothing() {
        let stand = Stand::enforcing();
        let args = json!({"mode": "disabled", "booleans": {"httpd_can_network_connect": true}});
        assert!(stand.run(&args, true).unwrap().changed && stand.set.borrow().is_empty());
        assert!(stand.text("etc/selinux/config").contains("SELINUX=enforcing"));
        assert_eq!(stand.text("sys/fs/selinux/enforce"), "1");
    }

    #[test]
    fn a_boolean_is_set_once_also_when_it_was_only_set_for_now() {
        let stand = Stand::enforcing();
        let args = json!({"booleans": {"httpd_can_network_connect": true}});
        let done = stand.converges(&args);
        assert_eq!(done.diff.as_deref(), Some("~ httpd_can_network_connect off -> on"));
        assert_eq!(*stand.set.borrow(), ["httpd_can_network_connect on"]);
        let for_now = Stand::enforcing();
        fs::write(for_now.folder.path().join("sys/fs/selinux/booleans/httpd_can_network_connect"), "1 1")
            .unwrap();
        assert_eq!(for_now.converges(&args).diff.as_deref(), Some("~ httpd_can_network_connect on for good"));
    }

    #[test]
    fn a_boolean_that_is_not_there_is_named_and_unknown_to_a_plan() {
        let args = json!({"booleans": {"no_such": true}});
        assert!(Stand::enforcing().run(&args, true).unwrap().unknown);
        let error = Stand::enforcing().run(&args, false).unwrap_err();
        assert_eq!(error.to_string(), "set the boolean no_such: this policy does not have it");
    }

    #[test]
    fn a_host_without_selinux_is_left_alone_in_clear_words() {
        let outcome = Stand::new(&[]).run(&json!({"mode": "enforcing"}), false).unwrap();
        let told = "SELinux is not installed on this host: nothing to do";
        assert_eq!((outcome.changed, outcome.message.as_str()), (false, told));
        let off = Stand::new(&[("etc/selinux/config", "SELINUX=disabled\n")]);
        let args = json!({"mode": "permissive", "booleans": {"x": true}});
        let outcome = off.run(&args, false).unwrap();
        assert!(outcome.changed && !outcome.unknown, "for the next boot");
        let again = off.run(&args, false).unwrap();
        assert!(!again.changed && again.message.contains("takes a boot"), "{}", again.message);
        assert!(again.message.contains("SELinux does not run: x is left alone"), "{}", again.message);
        if !Path::new("/etc/selinux/config").exists() && !Path::new("/sys/fs/selinux/enforce").exists() {
            assert_eq!(applied("selinux", json!({"mode": "enforcing"})).message, told);
        }
    }

    #[test]
    fn wrong_arguments_are_told_before_contact() {
        let cases = [
            (json!({}), "module selinux needs mode or booleans"),
            (
                json!({"mode": "on"}),
                "argument \"mode\" of module selinux must be one of enforcing, permissive, disabled, not \"on\"",
            ),
            (json!({"booleans": {"a-b": true}}), "\"a-b\" is not the name of a boolean"),
            (json!({"booleans": {"a": "yes"}}), "the boolean a must be true or false, not \"yes\""),
            (
                json!({"state": "enforcing", "mode": "enforcing"}),
                "module selinux has no argument \"state\"; did you mean \"mode\"?",
            ),
        ];
        for (args, wanted) in cases {
            assert_eq!(mistakes("selinux", args.clone()), [wanted], "{args}");
        }
    }
}
