//! A file system mounted or not, now; what happens at boot is not touched.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Module;
use super::context::Context;
use super::disk::mounts::{self, Mount};
use super::error::Error;
use super::exec::program;
use super::schema::{ArgError, Kind, Schema};
use crate::protocol::Outcome;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    path: PathBuf,
    device: Option<PathBuf>,
    r#type: Option<String>,
    #[serde(default)]
    options: Vec<String>,
    #[serde(default)]
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Mounted,
    Unmounted,
}

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "mount",
        summary: "Mounts or unmounts a file system now; /etc/fstab is not touched.",
        returns: &[],
        example: "\
- name: Mount the mirrored disk
  mount: {path: /srv/data, device: /dev/drbd1, options: noatime}
",
        keys: &[
            Schema::must("path", Kind::Path, "the mount point, made when missing"),
            Schema::may("device", Kind::Path, "what to mount; needed for mounted"),
            Schema::may("type", Kind::Text, "kind of file system, found out when left out"),
            Schema::may("options", Kind::TextList, "mount options, such as noatime"),
            Schema::may("state", Kind::Choice(&["mounted", "unmounted"]), "mounted (default) or unmounted"),
        ],
    };

    fn validate(&self) -> Vec<ArgError> {
        let mut errors = Vec::new();
        if self.state == State::Mounted && self.device.is_none() {
            errors.push(ArgError::at(
                "device",
                "module mount needs the argument \"device\" with state mounted",
            ));
        }
        errors
    }

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        let all = mounts::read()?;
        // The last one on a path is the one that is seen.
        let here = all.iter().rev().find(|mount| mount.path == self.path);
        match (self.state, &self.device) {
            (State::Mounted, Some(device)) => self.mount(device, here, context),
            _ => unmount(&self.path, here, context),
        }
    }
}

impl Args {
    fn mount(&self, device: &Path, here: Option<&Mount>, context: &Context) -> Result<Outcome, Error> {
        let (path, name) = (self.path.display(), device.display());
        if let Some(here) = here {
            // By number, because the device may have several names.
            return if mounts::number(device).is_some_and(|number| number == here.device) {
                Ok(Context::same(format!("{name} is mounted on {path}")))
            } else {
                let what = format!("mount {name} on {path}: {} is mounted there", here.source);
                Err(Error::refused(what, "unmount it first if it is not needed there"))
            };
        }
        if context.check {
            let message = format!("would mount {name} on {path}");
            let there = mounts::number(device).is_some();
            return Ok(if there { context.changed(message, &[]) } else { Context::unknown(message) });
        }
        fs::create_dir_all(&self.path).map_err(Error::io("create", &self.path))?;
        let mut command = program("mount");
        if let Some(kind) = &self.r#type {
            command.args(["-t", kind]);
        }
        if !self.options.is_empty() {
            command.args(["-o", &self.options.join(",")]);
        }
        base::process::run(command.arg(device).arg(&self.path))?;
        Ok(context.changed(format!("mounted {name} on {path}"), &[format!("+ {name} on {path}")]))
    }
}

fn unmount(path: &Path, here: Option<&Mount>, context: &Context) -> Result<Outcome, Error> {
    let name = path.display();
    let Some(here) = here else { return Ok(Context::same(format!("nothing is mounted on {name}"))) };
    if !context.check {
        base::process::run(program("umount").arg(path))?;
    }
    Ok(context.changed(format!("unmounted {name}"), &[format!("- {} on {name}", here.source)]))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{applied, checked, mistakes};
    use serde_json::json;

    #[test]
    fn what_is_not_mounted_needs_no_unmounting() {
        let folder = tempfile::tempdir().unwrap();
        for run in [checked, applied] {
            let outcome = run("mount", json!({"path": folder.path(), "state": "unmounted"}));
            assert_eq!((outcome.changed, outcome.unknown, outcome.failure), (false, false, None));
        }
    }

    #[test]
    fn another_file_system_on_the_mount_point_is_refused() {
        let outcome = applied("mount", json!({"path": "/proc", "device": "/dev/null"}));
        let failure = outcome.failure.unwrap();
        assert!(
            failure.message.starts_with("mount /dev/null on /proc: proc is mounted there"),
            "{failure:?}"
        );
    }

    #[test]
    fn a_plan_does_not_know_about_a_device_that_is_yet_to_come() {
        let outcome = checked("mount", json!({"path": "/mnt/x", "device": "/dev/no-such-disk"}));
        assert_eq!((outcome.unknown, outcome.changed, outcome.failure), (true, false, None));
    }

    #[test]
    fn mounting_needs_a_device() {
        let wanted = ["module mount needs the argument \"device\" with state mounted"];
        assert_eq!(mistakes("mount", json!({"path": "/mnt"})), wanted);
        let named = mistakes("mount", json!({"path": "/mnt", "device": "/dev/vdb1", "opts": "noatime"}));
        assert_eq!(named, ["module mount has no argument \"opts\"; did you mean \"options\"?"]);
        let state = mistakes("mount", json!({"path": "/mnt", "device": "/dev/vdb1", "state": "present"}));
        assert_eq!(
            state,
            ["argument \"state\" of module mount must be one of mounted, unmounted, not \"present\""]
        );
    }
}
