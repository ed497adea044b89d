//! One partition on a disk that is provably blank, or already exactly as asked.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::Module;
use super::context::{Context, with_data};
use super::disk::table::{Kind as TableKind, Partition, Table};
use super::disk::{Device, mounts};
use super::error::Error;
use super::exec::program;
use super::schema::{ArgError, Kind, Schema};
use crate::protocol::Outcome;

/// The one partition that this module knows.
const INDEX: u32 = 1;
/// Bound for the node to appear: udev needs a moment.
const NODE_TIMEOUT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);
/// Partitions are aligned: so much may they differ from what was asked, or a hundredth of the disk.
const TOLERANCE_BYTES: u64 = 4 << 20;
/// Beyond this an msdos table cannot count, in sectors.
const MSDOS_MAX_SECTORS: u64 = u32::MAX as u64;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    device: PathBuf,
    #[serde(default)]
    label: Label,
    start: Option<String>,
    end: Option<String>,
    #[serde(default)]
    wipe: bool,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Label {
    Msdos,
    #[default]
    Gpt,
}

impl Label {
    fn kind(self) -> TableKind {
        match self {
            Self::Msdos => TableKind::Msdos,
            Self::Gpt => TableKind::Gpt,
        }
    }
}

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "partition",
        summary: "Labels a blank disk and makes one partition; refuses a disk that holds anything else.",
        returns: &["partition"],
        example: "\
- name: One partition on the replicated disk
  partition: {device: \"{{ host.disk }}\", label: gpt, end: 100%}
",
        keys: &[
            Schema::must("device", Kind::Path, "the whole disk, such as /dev/vdb"),
            Schema::may("label", Kind::Choice(&["msdos", "gpt"]), "kind of partition table (default: gpt)"),
            Schema::may("start", Kind::Text, "where it begins, in percent or in MiB, GiB … (default: 0%)"),
            Schema::may("end", Kind::Text, "where it ends (default: 100%)"),
            Schema::may("wipe", Kind::Bool, "destroy what is on the disk now"),
        ],
    };

    fn validate(&self) -> Vec<ArgError> {
        let mut errors = Vec::new();
        for (name, text) in [("start", self.start()), ("end", self.end())] {
            if place(text, 1 << 40).is_none() {
                let message = format!(
                    "argument \"{name}\" of module partition is not a place: {text}; write it as 50% or 10GiB"
                );
                errors.push(ArgError::at(name, message));
            }
        }
        errors
    }

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        let name = self.device.display();
        let device = Device::open(&self.device)?.ok_or_else(|| {
            Error::refused(
                format!("there is no disk {name}"),
                "check its name in the inventory, and that it is attached",
            )
        })?;
        let node = device.partition_path(INDEX);
        let register = |outcome| with_data(outcome, [("partition", node.display().to_string().into())]);
        let content = device.content()?;
        let wanted = self.wanted(&device);
        if content.table.as_ref().is_some_and(|table| fits(table, self.label.kind(), &wanted, device.bytes)) {
            return Ok(register(self.announce(&device, &node, context)?));
        }
        device.require_disposable("partition", &content, self.wipe)?;
        if matches!(self.label, Label::Msdos) && wanted.end / device.sector > MSDOS_MAX_SECTORS {
            let what = format!("partition {}: msdos tables end at 2 TiB", device.describe());
            return Err(Error::refused(what, "use label: gpt"));
        }
        if !context.check {
            if !content.is_blank() {
                device.wipe()?;
            }
            self.make()?;
            wait_for_node(&device, &node)?;
        }
        let wiped =
            if content.is_blank() { String::new() } else { format!(", wiping {}", content.describe()) };
        let message = format!("{} of {} made{wiped}", node.display(), device.describe());
        let line =
            format!("+ {} {} {} {}", node.display(), self.label.kind().name(), self.start(), self.end());
        Ok(register(context.changed(message, &[line])))
    }
}

impl Args {
    fn start(&self) -> &str {
        self.start.as_deref().unwrap_or("0%")
    }

    fn end(&self) -> &str {
        self.end.as_deref().unwrap_or("100%")
    }

    fn wanted(&self, device: &Device) -> Partition {
        let at = |text: &str| place(text, device.bytes).unwrap_or(0).min(device.bytes);
        Partition { index: INDEX, start: at(self.start()), end: at(self.end()) }
    }

    /// The table is right; the kernel may not have read it, as after a disk was attached late.
    fn announce(&self, device: &Device, node: &Path, context: &Context) -> Result<Outcome, Error> {
        let name = node.display();
        if device.partitions().iter().any(|part| part.index == INDEX) {
            if !context.check {
                wait_for_node(device, node)?;
            }
            return Ok(Context::same(format!("{name} is as asked")));
        }
        if !context.check {
            base::process::run(program("partx").arg("--add").arg(&self.device))?;
            wait_for_node(device, node)?;
        }
        Ok(context.changed(format!("{name} made known to the kernel"), &[format!("+ {name}")]))
    }

    fn make(&self) -> Result<(), Error> {
        let mut command = program("parted");
        command.arg("-s").arg(&self.device).args(["mklabel", self.label.kind().name()]);
        command.args(["mkpart", "primary", self.start(), self.end()]);
        base::process::run(&mut command)?;
        Ok(())
    }
}

/// The table is of this kind and holds this partition and no other.
fn fits(table: &Table, kind: TableKind, wanted: &Partition, disk_bytes: u64) -> bool {
    let tolerance = TOLERANCE_BYTES.max(disk_bytes / 100);
    match table.partitions.as_slice() {
        [only] => {
            table.kind == kind
                && only.index == wanted.index
                && only.start.abs_diff(wanted.start) <= tolerance
                && only.end.abs_diff(wanted.end) <= tolerance
        }
        _ => false,
    }
}

/// A place on a disk in parted's words, in bytes.
fn place(text: &str, disk_bytes: u64) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let unit_bytes: u64 = match unit.trim() {
        "%" if number <= 100 => return Some(disk_bytes / 100 * number + disk_bytes % 100 * number / 100),
        "B" => 1,
        "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(unit_bytes)
}

/// Waits until the node exists and is the partition, not a leftover.
fn wait_for_node(device: &Device, node: &Path) -> Result<(), Error> {
    let deadline = Instant::now() + NODE_TIMEOUT;
    loop {
        let parts = device.partitions();
        let known = parts.iter().find(|part| part.index == INDEX);
        if known.is_some_and(|part| mounts::number(node).as_ref() == Some(&part.number)) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let state = known.map_or("the kernel does not know the partition".into(), |part| {
                format!("the kernel knows the partition as {}", part.number)
            });
            return Err(Error::Late {
                what: format!("{} has not appeared after {} s", node.display(), NODE_TIMEOUT.as_secs()),
                output: state,
                hint: "udev makes such nodes: is it running?".into(),
            });
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{applied, checked, mistakes};
    use super::*;
    use serde_json::json;

    const DISK: u64 = 10 << 30;

    fn table(kind: TableKind, parts: &[(u32, u64, u64)]) -> Table {
        let partitions = parts.iter().map(|&(index, start, end)| Partition { index, start, end }).collect();
        Table { kind, partitions }
    }

    #[test]
    fn the_article_s_partition_is_recognised_and_others_are_not() {
        let wanted = Partition { index: 1, start: 0, end: DISK };
        let fits = |kind, parts: &[_]| fits(&table(kind, parts), TableKind::Msdos, &wanted, DISK);
        assert!(fits(TableKind::Msdos, &[(1, 1 << 20, DISK)]));
        assert!(fits(TableKind::Msdos, &[(1, 1 << 20, DISK - (1 << 20))]));
        assert!(!fits(TableKind::Gpt, &[(1, 1 << 20, DISK)]));
        assert!(!fits(TableKind::Msdos, &[(2, 1 << 20, DISK)]));
        assert!(!fits(TableKind::Msdos, &[(1, 1 << 20, DISK / 2)]));
        assert!(!fits(TableKind::Msdos, &[(1, 1 << 20, DISK / 2), (2, DISK / 2, DISK)]));
        assert!(!fits(TableKind::Msdos, &[]));
    }

    #[test]
    fn places_are_understood_as_parted_does() {
        let cases = [("0%", 0), ("50%", DISK / 2), ("100%", DISK), ("1MiB", 1 << 20), ("2GB", 2_000_000_000)];
        for (text, bytes) in cases {
            assert_eq!(place(text, DISK), Some(bytes), "{text}");
        }
        for text in ["", "10", "101%", "-1MiB", "1.5GiB", "99999999999TiB"] {
            assert_eq!(place(text, DISK), None, "{text}");
        }
        let wrong = mistakes("partition", json!({"device": "/dev/vdb", "end": "all"}));
        assert!(wrong[0].contains("is not a place: all"), "{wrong:?}");
        let label = mistakes("partition", json!({"device": "/dev/vdb", "label": "bsd"}));
        assert_eq!(label, ["argument \"label\" of module partition must be one of msdos, gpt, not \"bsd\""]);
    }

    #[test]
    fn a_disk_that_is_not_there_is_named_by_the_plan_already() {
        for outcome in [checked, applied].map(|run| run("partition", json!({"device": "/dev/no-such-disk"})))
        {
            assert_eq!(outcome.failure.unwrap().message, "there is no disk /dev/no-such-disk");
        }
    }
}
