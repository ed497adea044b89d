//! The loop device on top of the FUSE file: made, tuned, taken away.
//!
//! Runs in a helper process that does not hold the FUSE connection. Opening the file, binding the device and
//! closing its last descriptor (which writes back the cache) all wait for the daemon; when the daemon is
//! killed its connection closes and these waits end with an error. In the daemon itself they could wait for
//! ever on a thread that is already dead.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::ensure_node;
use crate::slots::FRONT_SLOTS;
use crate::sys;

/// Attempts to get a free device: another process may take the one that was found.
const ATTEMPTS: u32 = 32;
/// How long a device may need to go away after it was let go by everybody.
const GONE_WITHIN: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(20);

/// What became of an attempt to take a device away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detached {
    /// It is gone.
    Gone,
    /// Someone holds it open.
    Busy,
}

/// Path of the device node.
#[must_use]
pub fn node(number: u32) -> PathBuf {
    PathBuf::from(format!("/dev/loop{number}"))
}

/// The folder of a loop device in sysfs.
#[must_use]
pub fn sysfs(number: u32) -> PathBuf {
    PathBuf::from(format!("/sys/block/loop{number}"))
}

/// Device number of a loop device; asked of sysfs, because it depends on the module's `max_part`.
#[must_use]
pub fn device_number(number: u32) -> Option<(u32, u32)> {
    let text = fs::read_to_string(sysfs(number).join("dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Size of a loop device.
#[must_use]
pub fn bytes(number: u32) -> Option<u64> {
    let sectors: u64 = fs::read_to_string(sysfs(number).join("size")).ok()?.trim().parse().ok()?;
    Some(sectors * 512)
}

/// The name that a bound device shows; `None` when it is not bound.
#[must_use]
pub fn backing(number: u32) -> Option<String> {
    let text = fs::read_to_string(sysfs(number).join("loop/backing_file")).ok()?;
    Some(text.trim_end().trim_start_matches('/').trim_end_matches(" (deleted)").to_owned())
}

/// Numbers of the bound loop devices that show this name.
#[must_use]
pub fn find(name: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/sys/block") else { return Vec::new() };
    let numbers =
        entries.flatten().filter_map(|e| e.file_name().to_str()?.strip_prefix("loop")?.parse().ok());
    numbers.filter(|n| backing(*n).as_deref() == Some(name)).collect()
}

/// Binds a free loop device to the file `name` of the mount and returns its number.
pub fn attach(mount: BorrowedFd<'_>, name: &str, discard: bool) -> anyhow::Result<u32> {
    let flags = OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC;
    let file =
        rustix::fs::openat(mount, name, flags, Mode::empty()).context("open the file of the FUSE mount")?;
    ensure_node("/dev/loop-control", FileType::CharacterDevice, rustix::fs::makedev(10, 237))
        .context("create /dev/loop-control")?;
    let control = control()?;
    let mut renewed = false;
    for _ in 0..ATTEMPTS {
        let number = sys::loop_get_free(&control).context("find a free loop device")?;
        let device = open(number, OFlags::empty()).with_context(|| format!("open /dev/loop{number}"))?;
        match sys::loop_configure(&device, file.as_fd(), name) {
            Ok(()) => {
                let tuned = tune(number, discard);
                // An earlier process has switched discards off, and was killed before it gave them back. A new device
                // offers them, but takes ten times as long.
                let spoilt = discard && !renewed && !offers_discards(number);
                if tuned.is_err() || spoilt {
                    let _ = sys::loop_clear(&device);
                }
                if tuned.is_err() || !spoilt {
                    return tuned.map(|()| number);
                }
                drop(device);
                renewed = true;
                if gone(number) {
                    let _ = sys::loop_remove(&control, number);
                }
            }
            // Taken by someone else in between, or bound to a device that is just going away.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error).with_context(|| format!("bind /dev/loop{number}")),
        }
    }
    bail!("no free loop device after {ATTEMPTS} attempts: others take them all the time")
}

fn control() -> anyhow::Result<OwnedFd> {
    rustix::fs::open("/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context("open /dev/loop-control (is the kernel module `loop` available?)")
}

fn open(number: u32, more: OFlags) -> anyhow::Result<OwnedFd> {
    let path = node(number);
    let (major, minor) =
        device_number(number).with_context(|| format!("read the number of {}", path.display()))?;
    let device = rustix::fs::makedev(major, minor);
    ensure_node(&path, FileType::BlockDevice, device)
        .with_context(|| format!("create {}", path.display()))?;
    Ok(rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC | more, Mode::empty())?)
}

/// Bytes that are discarded at a time: meanwhile the FUSE file takes no write.
const DISCARD_BYTES: &str = "33554432";
/// As many as the device can: the most that fits into 32 bits of sectors.
const DISCARD_ALL: &str = "2199023255040";
const DISCARD: &str = "discard_max_bytes";

fn offers_discards(number: u32) -> bool {
    fs::read_to_string(sysfs(number).join("queue").join(DISCARD)).is_ok_and(|text| text.trim() != "0")
}

/// Sets the queue's limits. Direct I/O is a must (the kernel drops the wish silently when it cannot do it);
/// the rest is speed.
fn tune(number: u32, discard: bool) -> anyhow::Result<()> {
    let direct = fs::read_to_string(sysfs(number).join("loop/dio")).context("read loop/dio")?;
    if direct.trim() != "1" {
        bail!("the kernel did not enable direct I/O on /dev/loop{number}, which replication needs");
    }
    let depth = FRONT_SLOTS.to_string();
    let settings = [
        ("scheduler", "none"),
        // One request must fit one FUSE WRITE.
        ("max_sectors_kb", "1024"),
        ("nr_requests", depth.as_str()),
        ("rotational", "0"),
        (DISCARD, if discard { DISCARD_BYTES } else { "0" }),
        ("write_cache", "write back"),
    ];
    for (key, value) in settings {
        if let Err(error) = set(number, key, value) {
            // A setting that is missing (old kernel) or forbidden costs speed, nothing else.
            eprintln!("set queue/{key} of /dev/loop{number} to {value}: {error}");
        }
    }
    Ok(())
}

/// Gives a queue attribute its value, unless it has it: for each that is written the kernel stops the queue, which
/// takes 15 to 30 ms.
fn set(number: u32, key: &str, value: &str) -> io::Result<()> {
    let found = fs::read_to_string(sysfs(number).join("queue").join(key)).unwrap_or_default();
    if chosen(&found) == value { Ok(()) } else { write(number, key, value) }
}

/// What an attribute is set to: `[none] mq-deadline` is `none`.
fn chosen(attribute: &str) -> &str {
    let bracketed = attribute.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    bracketed.map_or(attribute.trim(), |(choice, _)| choice)
}

/// Writes a queue attribute; where /sys is read-only (containers) through a private, detached mount of it.
fn write(number: u32, key: &str, value: &str) -> io::Result<()> {
    match fs::write(sysfs(number).join("queue").join(key), value) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            let context = rustix::mount::fsopen("sysfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
            rustix::mount::fsconfig_create(&context)?;
            let flags = FsMountFlags::FSMOUNT_CLOEXEC;
            let mount = rustix::mount::fsmount(&context, flags, MountAttrFlags::empty())?;
            let path = format!("block/loop{number}/queue/{key}");
            let file = rustix::fs::openat(&mount, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::io::write(&file, value.as_bytes())?;
            Ok(())
        }
        other => other,
    }
}

/// Has a device look at the size of its file again.
pub fn resize(number: u32) -> anyhow::Result<()> {
    let device = open(number, OFlags::empty())?;
    sys::loop_set_capacity(&device).context("set the capacity")
}

/// Takes a device away unless someone has it open.
pub fn detach(number: u32) -> anyhow::Result<Detached> {
    if backing(number).is_none() {
        return Ok(Detached::Gone);
    }
    let device = match open(number, OFlags::EXCL) {
        Ok(device) => device,
        Err(error) => match error.downcast_ref::<Errno>() {
            Some(&Errno::BUSY) => return Ok(Detached::Busy),
            Some(&(Errno::NXIO | Errno::NODEV)) => return Ok(Detached::Gone),
            _ => return Err(error),
        },
    };
    let muted = !offers_discards(number);
    match sys::loop_clear(&device) {
        Err(error) if error.raw_os_error() != Some(libc::ENXIO) => return Err(error).context("unbind"),
        _ => drop(device),
    }
    if gone(number) {
        // A device on which discards were switched off would not offer them to whoever has it next.
        if muted {
            let _ = write(number, DISCARD, DISCARD_ALL);
        }
        return Ok(Detached::Gone);
    }
    // Opened by someone between the look and the unbinding: it would go away when they close it. Not without
    // the caller's will.
    let device = open(number, OFlags::empty())?;
    sys::loop_keep(&device).context("keep the device")?;
    Ok(Detached::Busy)
}

/// Unbinds a device whatever uses it: its users have been given errors, and it vanishes with their last close.
pub fn abandon(number: u32) -> anyhow::Result<()> {
    if backing(number).is_none() {
        return Ok(());
    }
    let device = open(number, OFlags::empty())?;
    match sys::loop_clear(&device) {
        Err(error) if error.raw_os_error() != Some(libc::ENXIO) => Err(error).context("unbind"),
        _ => Ok(()),
    }
}

fn gone(number: u32) -> bool {
    let deadline = Instant::now() + GONE_WITHIN;
    while backing(number).is_some() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(POLL);
    }
    true
}

/// Makes sure that `path` is this device node.
pub(super) fn make_node(path: &std::path::Path, kind: FileType, device: u64) -> io::Result<()> {
    match rustix::fs::stat(path) {
        Ok(found) if FileType::from_raw_mode(found.st_mode) == kind && found.st_rdev == device => Ok(()),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{} is something else than this device", path.display()),
        )),
        Err(Errno::NOENT) => {
            let made = rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), device);
            // Made by udev or a sibling in the meantime.
            if made == Err(Errno::EXIST) { Ok(()) } else { Ok(made?) }
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_of_an_attribute_is_in_brackets_or_all_there_is() {
        assert_eq!(chosen("[none] mq-deadline kyber\n"), "none");
        assert_eq!(chosen("none [mq-deadline] kyber\n"), "mq-deadline");
        assert_eq!(chosen("write back\n"), "write back");
        assert_eq!(chosen(""), "");
    }
}
