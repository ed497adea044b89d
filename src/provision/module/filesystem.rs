//! A file system on a device that is provably blank, or already holds it.

use std::path::PathBuf;

use serde::Deserialize;

use super::Module;
use super::context::Context;
use super::disk::Device;
use super::error::Error;
use super::exec::program;
use super::schema::{Kind, Schema};
use crate::protocol::Outcome;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    device: PathBuf,
    r#type: Type,
    label: Option<String>,
    #[serde(default)]
    wipe: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Type {
    Ext4,
    Xfs,
}

impl Type {
    /// What the probe calls it.
    fn found_as(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4 file system",
            Self::Xfs => "XFS file system",
        }
    }

    /// The program that makes it. Blocks are not discarded first: they are known to be zero, and below may be
    /// a replicated device.
    fn command(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Ext4 => ("mkfs.ext4", &["-q", "-E", "nodiscard"]),
            Self::Xfs => ("mkfs.xfs", &["-q", "-K"]),
        }
    }
}

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "filesystem",
        summary: "Makes a file system on a blank device; refuses one that holds anything else.",
        returns: &[],
        example: "\
- name: File system of the mirrored disk
  filesystem: {device: /dev/drbd1, type: ext4, label: data}
",
        keys: &[
            Schema::must("device", Kind::Path, "the device, such as /dev/drbd1"),
            Schema::must("type", Kind::Choice(&["ext4", "xfs"]), "kind of file system"),
            Schema::may("label", Kind::Text, "its label, set when it is made"),
            Schema::may("wipe", Kind::Bool, "destroy what is on the device now"),
        ],
    };

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        let name = self.device.display();
        let device = match Device::open(&self.device)? {
            Some(device) => device,
            None if context.check => return Ok(Context::unknown(format!("{name} does not exist yet"))),
            None => {
                let hint = "the task that makes it must come before this one";
                return Err(Error::refused(format!("there is no device {name}"), hint));
            }
        };
        let content = device.content()?;
        let kind = self.r#type.found_as();
        if content.has(kind) {
            return Ok(Context::same(format!("{name} holds an {kind}")));
        }
        device.require_disposable("make a file system on", &content, self.wipe)?;
        if !context.check {
            if !content.is_blank() {
                device.wipe()?;
            }
            self.make()?;
            if !device.content()?.has(kind) {
                return Err(Error::Args(format!("no {kind} is found on {name} after it was made")));
            }
        }
        let wiped =
            if content.is_blank() { String::new() } else { format!(", wiping {}", content.describe()) };
        let message = format!("{kind} made on {}{wiped}", device.describe());
        Ok(context.changed(message, &[format!("+ {name} {kind}")]))
    }
}

impl Args {
    fn make(&self) -> Result<(), Error> {
        let (maker, options) = self.r#type.command();
        let mut command = program(maker);
        command.args(options);
        if let Some(label) = &self.label {
            command.args(["-L", label]);
        }
        base::process::run(command.arg(&self.device))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{applied, checked, mistakes};
    use serde_json::json;

    #[test]
    fn a_device_that_is_yet_to_come_is_unknown_to_the_plan_and_missing_for_the_run() {
        let args = json!({"device": "/dev/no-such-disk", "type": "ext4"});
        assert!(checked("filesystem", args.clone()).unknown);
        assert_eq!(
            applied("filesystem", args).failure.unwrap().message,
            "there is no device /dev/no-such-disk"
        );
    }

    #[test]
    fn only_known_kinds_are_made() {
        let wrong = mistakes("filesystem", json!({"device": "/dev/vdb1", "type": "ext3"}));
        assert_eq!(wrong, ["argument \"type\" of module filesystem must be one of ext4, xfs, not \"ext3\""]);
        let named = mistakes("filesystem", json!({"dev": "/dev/vdb1", "fstype": "xfs"}));
        assert!(
            named[0].ends_with("did you mean \"device\"?") && named[1].ends_with("did you mean \"type\"?")
        );
    }
}
