//! The name of the host: the one that lasts, in /etc/hostname, and the one that it has now.
//!
//! Both are set without D-Bus: systemd-hostnamed reads that file again when it has changed and asks the kernel for the
//! other one. A run compares the name with the inventory before any task. So this makes a name last that a host has got
//! from elsewhere, or gives it the one that the inventory is going to have.

use std::path::Path;

use rustix::system::{sethostname, uname};
use serde::Deserialize;

use super::attributes::Wanted;
use super::context::{Context, joined};
use super::error::Error;
use super::schema::{ArgError, Kind, Schema};
use super::text::{self, Text};
use super::{Module, copy};
use crate::protocol::Outcome;

const FILE: &str = "/etc/hostname";
/// What the kernel takes (`__NEW_UTS_LEN`), and the longest part of a name (RFC 1123).
const MAX_NAME: usize = 64;
const MAX_LABEL: usize = 63;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    name: String,
}

/// The name that a host has now, and how it gets another one.
struct Kernel<'a> {
    name: String,
    set: &'a dyn Fn(&str) -> Result<(), Error>,
}

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "hostname",
        summary: "Gives the host its name, now and for good.",
        returns: &[],
        example: "\
- name: Keep the name that the inventory has
  hostname: {name: \"{{ fqdn }}\"}
",
        keys: &[Schema::must(
            "name",
            Kind::Text,
            "the name, as `uname -n` shall print it; a later run compares that with the inventory",
        )],
    };

    fn validate(&self) -> Vec<ArgError> {
        let message = format!("\"{}\" is not the name of a host; write it as ha-a.example.com", self.name);
        if is_name(&self.name) { Vec::new() } else { vec![ArgError::at("name", message)] }
    }

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        let name = uname().nodename().to_string_lossy().into_owned();
        self.bring(Path::new(FILE), &Kernel { name, set: &set }, context)
    }
}

impl Args {
    fn bring(&self, file: &Path, kernel: &Kernel, context: &Context) -> Result<Outcome, Error> {
        let name = &self.name;
        let mut parts = Vec::new();
        if kernel.name != *name {
            if !context.check {
                (kernel.set)(name)?;
            }
            let line = format!("~ {} -> {name}", kernel.name);
            parts.push(context.changed(format!("{} is called {name} now", kernel.name), &[line]));
        }
        let mut text = Text::new(&text::read(file)?.unwrap_or_default());
        let lasting = text.last(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
        if lasting.and_then(|index| text.bare().nth(index)).map(str::trim) == Some(name.as_str()) {
            if parts.is_empty() {
                parts.push(Context::same(format!("the host is called {name}")));
            }
            return Ok(joined(parts));
        }
        let place = lasting.map_or(text.len()..text.len(), |index| index..index + 1);
        text.splice(place, &[name]);
        parts.push(copy::place(file, text.to_string().as_bytes(), Wanted::default(), context)?);
        Ok(joined(parts))
    }
}

fn set(name: &str) -> Result<(), Error> {
    sethostname(name.as_bytes()).map_err(|error| {
        let hint = "in a container the name is often given from outside, and not to be changed";
        Error::refused(format!("call this host {name}: {error}"), hint)
    })
}

fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= MAX_NAME && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::super::testing::mistakes;
    use super::*;
    use serde_json::json;
    use std::cell::RefCell;
    use std::fs;

    /// Runs on a host with this name and this file; the outcome, the name and the file then.
    fn run(now: &str, lasting: Option<&str>, check: bool) -> (Outcome, String, Option<String>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hostname");
        if let Some(text) = lasting {
            fs::write(&file, text).unwrap();
        }
        let name = RefCell::new(now.to_owned());
        let set = |new: &str| -> Result<(), Error> {
            new.clone_into(&mut name.borrow_mut());
            Ok(())
        };
        let kernel = Kernel { name: now.into(), set: &set };
        let args = Args { name: "ha-a.example.com".into() };
        let outcome = args.bring(&file, &kernel, &Context::new(check, true, &mut |_| {})).unwrap();
        (outcome, name.take(), fs::read_to_string(&file).ok())
    }

    #[test]
    fn the_name_is_set_now_and_for_good() {
        let (outcome, name, file) = run("localhost", Some("# ours\nold\n"), false);
        assert_eq!((outcome.changed, name.as_str()), (true, "ha-a.example.com"));
        assert_eq!(file.as_deref(), Some("# ours\nha-a.example.com\n"));
        let diff = outcome.diff.unwrap();
        assert!(diff.starts_with("~ localhost -> ha-a.example.com\n") && diff.contains("-old"), "{diff}");
        let (outcome, _, file) = run("ha-a.example.com", None, false);
        assert_eq!((outcome.changed, file.as_deref()), (true, Some("ha-a.example.com\n")));
    }

    #[test]
    fn a_plan_changes_nothing_and_a_host_with_its_name_needs_nothing() {
        let (outcome, name, file) = run("localhost", Some("old\n"), true);
        assert_eq!((outcome.changed, name.as_str(), file.as_deref()), (true, "localhost", Some("old\n")));
        for check in [true, false] {
            let (outcome, ..) = run("ha-a.example.com", Some("ha-a.example.com"), check);
            assert_eq!((outcome.changed, &*outcome.message), (false, "the host is called ha-a.example.com"));
        }
    }

    #[test]
    fn wrong_names_are_told_before_contact() {
        for wrong in ["", "a b", "-a", "a-", "a..b", "a_b", &"a".repeat(64), "ä"] {
            let wanted = format!("\"{wrong}\" is not the name of a host; write it as ha-a.example.com");
            assert_eq!(mistakes("hostname", json!({"name": wrong})), [wanted]);
        }
        for good in ["ha-a", "ha-a.example.com", "1.example"] {
            assert!(mistakes("hostname", json!({"name": good})).is_empty(), "{good}");
        }
        assert_eq!(mistakes("hostname", json!({})).len(), 1);
    }
}
