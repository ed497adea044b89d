//! Partition, file system and metadata on a real loop device, together: what one module has made must read as
//! "already as asked" for all of them, and nothing else may be written over.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::testing::{applied, checked, converges, missing_tool};
use super::*;

/// A loop device over a sparse file; gone when dropped.
struct Loop {
    path: PathBuf,
    _folder: TempDir,
}

impl Loop {
    /// `None`, with the reason printed, when this machine cannot make one.
    fn new(bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk");
        File::create(&file).unwrap().set_len(bytes).unwrap();
        let missing = missing_tool(&["losetup", "parted", "partx", "mkfs.ext4"]);
        let reason = match missing {
            Some(name) => format!("{name} is not installed"),
            None => match Command::new("losetup").args(["--find", "--show"]).arg(&file).output() {
                Ok(output) if output.status.success() => {
                    let path = String::from_utf8(output.stdout).unwrap().trim().into();
                    return Some(Self { path, _folder: folder });
                }
                Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                Err(error) => error.to_string(),
            },
        };
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "a loop device is needed: {reason}");
        println!("skipped: needs root and a loop device: {reason}");
        None
    }

    fn partition(&self) -> PathBuf {
        Device::open(&self.path).unwrap().unwrap().partition_path(1)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Partitions outlive the device otherwise.
        let _ = Command::new("partx").arg("--delete").arg(&self.path).output();
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).output();
    }
}

fn write_at(path: &Path, offset: u64, bytes: &[u8]) {
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(bytes).unwrap();
    file.sync_all().unwrap();
}

fn refusal(module: &str, args: &Value) -> String {
    let refused =
        [checked(module, args.clone()), applied(module, args.clone())].map(|o| o.failure.unwrap().message);
    assert_eq!(refused[0], refused[1], "a plan refuses what the run refuses");
    refused[0].clone()
}

#[test]
fn a_blank_disk_is_partitioned_and_the_partition_gets_a_file_system() {
    let Some(disk) = Loop::new(64 << 20) else { return };
    let partition = json!({"device": disk.path, "label": "msdos"});
    let done = converges("partition", partition.clone());
    assert_eq!(done.data["partition"], json!(disk.partition()));
    let filesystem = json!({"device": disk.partition(), "type": "ext4", "label": "data"});
    converges("filesystem", filesystem);
    assert!(!applied("partition", partition).changed, "a file system inside is no objection");
    let other = json!({"device": disk.path, "label": "gpt"});
    let text = refusal("partition", &other);
    assert!(text.contains("an msdos table with 1 partition; "), "{text}");
    assert!(text.ends_with("holds an ext4 file system"), "{text}");
    let text = refusal("filesystem", &json!({"device": disk.partition(), "type": "xfs"}));
    assert!(text.ends_with("it holds an ext4 file system"), "{text}");
}

#[test]
fn foreign_data_is_refused_and_wiped_only_when_said_so() {
    let Some(disk) = Loop::new(64 << 20) else { return };
    write_at(&disk.path, 9 << 20, &vec![1; 32 << 20]);
    let mut args = json!({"device": disk.path, "label": "gpt"});
    assert!(refusal("partition", &args).ends_with("it holds data of an unknown kind"));
    args["wipe"] = json!(true);
    converges("partition", args);
}

#[test]
fn a_mounted_disk_is_refused_even_with_wipe() {
    let Some(disk) = Loop::new(64 << 20) else { return };
    converges("filesystem", json!({"device": disk.path, "type": "ext4"}));
    let folder = tempfile::tempdir().unwrap();
    let mount = json!({"device": disk.path, "path": folder.path()});
    converges("mount", mount);
    let text = refusal("partition", &json!({"device": disk.path, "wipe": true}));
    assert!(text.contains(&format!("is mounted on {}", folder.path().display())), "{text}");
    converges("mount", json!({"path": folder.path(), "state": "unmounted"}));
}

#[test]
fn metadata_of_ours_is_as_asked_for_replica_and_an_objection_for_the_others() {
    let Some(disk) = Loop::new(64 << 20) else { return };
    converges("partition", json!({"device": disk.path, "label": "msdos"}));
    let part = Device::open(&disk.partition()).unwrap().unwrap();
    write_at(&part.path, part.bytes / 4096 * 4096 - 8192, b"futagomd");
    // Also with wipe: a pair that runs is never initialised again.
    for wipe in [false, true] {
        let created = json!({"resource": "r0", "state": "created", "disk": part.path, "wipe": wipe});
        let outcome = applied("replica", created);
        assert_eq!((outcome.changed, outcome.failure), (false, None));
    }
    assert!(!applied("partition", json!({"device": disk.path, "label": "msdos"})).changed);
    let text = refusal("filesystem", &json!({"device": part.path, "type": "ext4"}));
    assert!(text.ends_with("it holds replication metadata of futago"), "{text}");
    let created = json!({"resource": "r0", "state": "created", "disk": disk.path});
    assert!(refusal("replica", &created).contains("an msdos table with 1 partition"));
}

#[test]
fn a_table_that_the_kernel_has_not_read_is_made_known() {
    let Some(disk) = Loop::new(64 << 20) else { return };
    let args = json!({"device": disk.path, "label": "msdos"});
    converges("partition", args.clone());
    assert!(Command::new("partx").arg("--delete").arg(&disk.path).status().unwrap().success());
    let outcome = converges("partition", args);
    assert!(outcome.message.ends_with("made known to the kernel"), "{}", outcome.message);
}

#[test]
fn only_block_devices_are_devices() {
    let error = Device::open(Path::new("/dev/null")).unwrap_err();
    assert_eq!(error.to_string(), "/dev/null is not a block device");
    assert!(Device::open(Path::new("/dev/no-such-disk")).unwrap().is_none());
}

#[test]
fn sizes_are_written_for_people() {
    assert_eq!(
        [size(10 << 30), size((1 << 30) + (1 << 29)), size(3 << 20)],
        ["10.0 GiB", "1.5 GiB", "3 MiB"]
    );
}
