//! The hosts' disks: loop devices over sparse files, and the loop devices that hosts make themselves.
//!
//! Loop devices belong to the whole kernel, not to a container. A disk is recognised by the file behind it,
//! a device made by a host's replication daemon by the host's machine identity in its name
//! (`futago:RESOURCE:` and the first twelve digits). Nothing else is ever touched.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::child;
use crate::interrupt::Interrupt;
use crate::sys;
use crate::wait;

/// Digits of the machine identity in the name of a daemon's device.
const IDENTITY_DIGITS: usize = 12;
/// How long the kernel may take to answer for, or to let go of, a loop device.
const KERNEL: Duration = Duration::from_secs(5);

/// A loop device that a host's replication daemon made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DaemonDevice {
    /// Its number.
    pub(crate) number: u32,
    /// The number of the FUSE connection behind it: the minor number of the file system's device.
    pub(crate) connection: u64,
}

/// Creates the sparse file of a disk.
pub(crate) fn create(file: &Path, size_bytes: u64) -> anyhow::Result<()> {
    let disk = fs::File::create(file).with_context(|| format!("create disk {}", file.display()))?;
    disk.set_len(size_bytes).with_context(|| format!("make disk {} {size_bytes} bytes long", file.display()))
}

/// Attaches a disk, if it is not already, makes its partitions known, and returns the loop device's number.
///
/// A kernel does the latter by itself when it finds a disk; one that reads no partition tables of its own, as
/// for loop devices, is told by `partx`.
pub(crate) fn attach(file: &Path) -> anyhow::Result<u32> {
    let number = match attached_below(file)?.first() {
        Some(number) => *number,
        None => sys::attach(file).with_context(|| {
            format!("attach {} to a loop device (does this kernel have loop devices?)", file.display())
        })?,
    };
    let node = sys::node(number);
    // A disk without a partition table is an error to partx, and fine here.
    let _ = child::run(child::program("partx").arg("--update").arg(&node));
    Ok(number)
}

/// The attached loop devices whose file is this one or lies below this folder.
pub(crate) fn attached_below(place: &Path) -> anyhow::Result<Vec<u32>> {
    let mut found = Vec::new();
    for number in numbers().context("list loop devices")? {
        let backing = fs::read_to_string(backing_file(number)).unwrap_or_default();
        let backing = backing.trim_end();
        let backing = backing.strip_suffix(" (deleted)").unwrap_or(backing);
        if Path::new(backing).starts_with(place) {
            found.push(number);
        }
    }
    Ok(found)
}

/// Detaches the disks below a folder.
pub(crate) fn detach_below(folder: &Path) -> anyhow::Result<()> {
    for number in attached_below(folder)? {
        detach(number)?;
    }
    Ok(())
}

/// The loop devices that the replication daemon of the host with this identity made.
pub(crate) fn of_machine(machine_id: &str) -> anyhow::Result<Vec<DaemonDevice>> {
    let suffix = format!(":{}", machine_id.get(..IDENTITY_DIGITS).unwrap_or(machine_id));
    let mut found = Vec::new();
    for number in numbers().context("list loop devices")? {
        if !is_attached(number) {
            continue;
        }
        let answer = wait::at_most(KERNEL, move || sys::status(number));
        let status = answer.with_context(|| format!("ask /dev/loop{number} for its name"))?;
        match status.with_context(|| format!("ask /dev/loop{number} for its name"))? {
            Some(status) if status.name.starts_with("futago:") && status.name.ends_with(&suffix) => {
                let connection = u64::from(libc::minor(status.file_system));
                found.push(DaemonDevice { number, connection });
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Detaches what a daemon left behind; if requests to the dead daemon hold it, ends their connection.
pub(crate) fn detach_daemon_device(device: &DaemonDevice) -> anyhow::Result<()> {
    match detach(device.number) {
        Ok(()) => Ok(()),
        Err(_) => {
            abort(device)?;
            detach(device.number)
        }
    }
}

/// Fails every request that waits for the daemon behind a device.
pub(crate) fn abort(device: &DaemonDevice) -> anyhow::Result<()> {
    // fusectl need not be mounted on this machine: it is mounted where only this command sees it.
    let script = "mount -t fusectl none /sys/fs/fuse/connections && \
                  { [ ! -e \"$1/abort\" ] || echo 1 > \"$1/abort\"; }";
    let connection = format!("/sys/fs/fuse/connections/{}", device.connection);
    let mut command = child::program("unshare");
    command.args(["--mount", "sh", "-c", script, "abort", &connection]);
    child::run(&mut command).with_context(|| format!("abort FUSE connection {}", device.connection)).map(drop)
}

fn detach(number: u32) -> anyhow::Result<()> {
    let asked = wait::at_most(KERNEL, move || sys::detach(number));
    asked
        .with_context(|| format!("detach /dev/loop{number}"))?
        .with_context(|| format!("detach /dev/loop{number}"))?;
    let gone = wait::until(KERNEL, &Interrupt::never(), || Ok((!is_attached(number)).then_some(())));
    if let Err(error) = gone {
        bail!(
            "detach /dev/loop{number}: {error}; something on this machine still has it open: lsof /dev/loop{number}"
        );
    }
    Ok(())
}

fn is_attached(number: u32) -> bool {
    Path::new(&backing_file(number)).exists()
}

fn backing_file(number: u32) -> String {
    format!("/sys/block/loop{number}/loop/backing_file")
}

fn numbers() -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block")? {
        let name = entry?.file_name();
        found.extend(name.to_str().and_then(|name| name.strip_prefix("loop")?.parse::<u32>().ok()));
    }
    Ok(found)
}
