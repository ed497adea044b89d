//! A folder, an existing file, a link, or nothing at a path, with owner and mode.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Module;
use super::attributes::{self, Found, Wanted};
use super::context::Context;
use super::error::Error;
use super::schema::{ArgError, Kind, Schema};
use crate::protocol::Outcome;

const DEFAULT_FOLDER_MODE: u32 = 0o755;
/// Folders that hold a system together are never removed.
const MIN_DEPTH_TO_REMOVE: usize = 2;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    path: PathBuf,
    #[serde(default)]
    state: State,
    target: Option<PathBuf>,
    mode: Option<String>,
    owner: Option<String>,
    group: Option<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    File,
    Directory,
    Link,
    Absent,
}

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "file",
        summary: "Makes a folder or a symbolic link, sets owner and permission bits, or removes a path.",
        returns: &[],
        example: "\
- name: A folder for uploads
  file: {path: /srv/data/uploads, state: directory, owner: www-data, group: www-data, mode: \"0750\"}
",
        keys: &[
            Schema::must("path", Kind::Path, "the path"),
            Schema::may(
                "state",
                Kind::Choice(&["file", "directory", "link", "absent"]),
                "file (default: must exist), directory, link or absent",
            ),
            Schema::may("target", Kind::Text, "what a link points to"),
            Schema::may("mode", Kind::Mode, "permission bits"),
            Schema::may("owner", Kind::Text, "user that owns it"),
            Schema::may("group", Kind::Text, "group that owns it"),
        ],
    };

    fn validate(&self) -> Vec<ArgError> {
        let mut errors = Vec::new();
        if (self.state == State::Link) != self.target.is_some() {
            errors.push(ArgError::whole(
                "module file needs the argument \"target\" with state link, and only then",
            ));
        }
        let attributes = self.mode.is_some() || self.owner.is_some() || self.group.is_some();
        if attributes && matches!(self.state, State::Link | State::Absent) {
            errors
                .push(ArgError::whole("module file takes no mode, owner or group with state link or absent"));
        }
        if self.state == State::Absent && self.path.components().count() <= MIN_DEPTH_TO_REMOVE {
            errors.push(ArgError::at("path", format!("module file does not remove {}", self.path.display())));
        }
        errors
    }

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        let found = attributes::look(&self.path)?;
        match (self.state, &self.target) {
            (State::Absent, _) if found.is_none() && context.check && context.planned.may_bring_files() => {
                let name = self.path.display();
                Ok(Context::unknown(format!(
                    "{name} is absent, unless a package that is installed before brings it"
                )))
            }
            (State::Absent, _) => absent(&self.path, found.as_ref(), context),
            (State::Link, Some(target)) => link(&self.path, target, found.as_ref(), context),
            _ => self.attributes(context),
        }
    }
}

/// Removes what is at a path.
pub(super) fn absent(path: &Path, found: Option<&fs::Metadata>, context: &Context) -> Result<Outcome, Error> {
    let name = path.display();
    let Some(found) = found else { return Ok(Context::same(format!("{name} is absent"))) };
    if !context.check {
        let removed = if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        removed.map_err(Error::io("remove", path))?;
    }
    Ok(context.changed(format!("{name} removed"), &[format!("- {name}")]))
}

fn link(
    path: &Path,
    target: &Path,
    found: Option<&fs::Metadata>,
    context: &Context,
) -> Result<Outcome, Error> {
    let (name, to) = (path.display(), target.display());
    let mut lines = vec![format!("+ {name} -> {to}")];
    match found {
        Some(found) if found.is_symlink() => {
            let old = fs::read_link(path).map_err(Error::io("read the link", path))?;
            if old == target {
                return Ok(Context::same(format!("{name} points to {to}")));
            }
            lines.insert(0, format!("- {name} -> {}", old.display()));
        }
        Some(_) => {
            let what = format!("make {name} a link: something else is there");
            return Err(Error::refused(what, "remove it in an earlier task if it is not needed"));
        }
        None => {}
    }
    if !context.check {
        // A link is replaced in one step: there is no moment without one.
        let beside = path.with_file_name(format!(".link.{}.tmp", std::process::id()));
        symlink(target, &beside).map_err(Error::io("make the link", &beside))?;
        fs::rename(&beside, path).map_err(Error::io("replace the link", path))?;
    }
    Ok(context.changed(format!("{name} points to {to}"), &lines))
}

impl Args {
    fn attributes(&self, context: &mut Context) -> Result<Outcome, Error> {
        let Self { path, state, .. } = self;
        let name = path.display();
        let wanted = Wanted::new(self.mode.as_deref(), self.owner.as_deref(), self.group.as_deref())?;
        // Links are followed: they have no mode of their own.
        let found = fs::metadata(path).ok();
        let fits =
            |found: &fs::Metadata| if *state == State::Directory { found.is_dir() } else { !found.is_dir() };
        match found {
            Some(found) if fits(&found) => {
                let found = Found::of(&found);
                let lines = wanted.differences(found);
                if lines.is_empty() {
                    return Ok(Context::same(format!("{name} is as asked")));
                }
                if !context.check {
                    wanted.apply(path, found)?;
                }
                Ok(context.changed(format!("{name}: {}", lines.join(", ").replace("~ ", "")), &lines))
            }
            Some(_) => {
                let kind = if *state == State::Directory { "a folder" } else { "a file" };
                Err(Error::refused(
                    format!("{name} exists and is not {kind}"),
                    "remove it in an earlier task",
                ))
            }
            None if *state == State::Directory && context.planned.has_folder(path, wanted) => {
                Ok(Context::same(format!("{name} is as asked, made by an earlier task")))
            }
            None if *state == State::Directory => self.create(wanted, context),
            None if context.check => Ok(Context::unknown(format!("{name} does not exist yet"))),
            None => Err(Error::refused(
                format!("{name} does not exist"),
                "state file only changes files that exist",
            )),
        }
    }

    fn create(&self, wanted: Wanted, context: &mut Context) -> Result<Outcome, Error> {
        let path = &self.path;
        if context.check {
            context.planned.make_folder(path, wanted);
        } else {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(DEFAULT_FOLDER_MODE)
                .create(path)
                .map_err(Error::io("create", path))?;
            let found = fs::metadata(path).map_err(Error::io("look at", path))?;
            wanted.apply(path, Found::of(&found))?;
        }
        let name = path.display();
        Ok(context.changed(format!("{name} created"), &[format!("+ {name}/")]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::planned::Planned;
    use super::super::testing::{after, applied, checked, converges, mistakes};
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn folders_are_made_with_their_parents_and_their_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        converges("file", json!({"path": path, "state": "directory", "mode": "2750"}));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o2750);
    }

    #[test]
    fn a_link_is_made_and_turned_but_never_over_something_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("link");
        converges("file", json!({"path": path, "state": "link", "target": "../one"}));
        converges("file", json!({"path": path, "state": "link", "target": "../two"}));
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("../two"));
        let taken = applied("file", json!({"path": folder.path(), "state": "link", "target": "x"}));
        assert!(taken.failure.unwrap().message.contains("something else is there"));
    }

    #[test]
    fn absent_removes_a_tree_and_never_a_top_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tree");
        fs::create_dir_all(path.join("inner")).unwrap();
        converges("file", json!({"path": path, "state": "absent"}));
        assert_eq!(
            mistakes("file", json!({"path": "/etc", "state": "absent"})),
            ["module file does not remove /etc"]
        );
    }

    #[test]
    fn a_plan_cannot_know_about_a_file_that_is_yet_to_come() {
        let folder = tempfile::tempdir().unwrap();
        let args = json!({"path": folder.path().join("x"), "mode": "0600"});
        assert!(checked("file", args.clone()).unknown);
        assert!(applied("file", args).failure.unwrap().message.ends_with("does not exist"));
    }

    #[test]
    fn a_plan_makes_a_folder_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let mut planned = Planned::default();
        let mut plan = |args: serde_json::Value| after(&mut planned, "file", &args, true);
        let private = json!({"path": path, "state": "directory", "mode": "0700"});
        assert!(plan(private.clone()).changed);
        let again = plan(private);
        assert!(!again.changed && again.message.ends_with("made by an earlier task"), "{again:?}");
        assert!(!plan(json!({"path": path, "state": "directory"})).changed);
        assert!(!plan(json!({"path": folder.path().join("a"), "state": "directory"})).changed, "its parent");
        assert!(plan(json!({"path": path, "state": "directory", "mode": "0755"})).changed, "another mode");
        assert!(plan(json!({"path": folder.path().join("c"), "state": "directory"})).changed);
    }

    #[test]
    fn a_plan_does_not_know_what_packages_will_bring() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let mut planned = Planned::default();
        let absent = json!({"path": path, "state": "absent"});
        assert!(!after(&mut planned, "file", &absent, true).unknown);
        planned.install();
        assert!(after(&mut planned, "file", &absent, true).unknown);
        let done = after(&mut planned, "file", &absent, false);
        assert!(!done.unknown && !done.changed, "what is done is known");
    }

    #[test]
    fn combinations_that_make_no_sense_are_refused() {
        assert_eq!(mistakes("file", json!({"path": "/a/b", "state": "link"})).len(), 1);
        assert_eq!(mistakes("file", json!({"path": "/a/b", "state": "absent", "mode": "0600"})).len(), 1);
    }
}
