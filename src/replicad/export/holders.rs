//! Who has a block device open: mounts in any namespace, processes, other block devices, swap.
//!
//! Only names and numbers are read from /proc and /sys; no file system that may sit on the device is touched.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::loopdev;

/// Sentences for a person, most important first; empty when nobody holds it.
#[must_use]
pub(super) fn of_loop(number: u32) -> Vec<String> {
    let Some((major, minor)) = loopdev::device_number(number) else { return Vec::new() };
    let device = Device { number, major, minor };
    let mut out = Vec::new();
    let mut namespaces = HashSet::new();
    let mut opened = Vec::new();
    let home = fs::read_link("/proc/1/ns/mnt").ok();
    let mut points = HashSet::new();
    // In order of pid: the first process's namespace is where people look.
    for process in processes() {
        let namespace = fs::read_link(process.path.join("ns/mnt")).ok();
        let is_home = namespace == home;
        if namespaces.insert(namespace) {
            // Services with a namespace of their own hold copies of the same mounts: one line is enough.
            let found = device.mounts(&process).into_iter().filter(|point| points.insert(point.clone()));
            out.extend(found.map(|point| process.mounted(&point, is_home)));
        }
        if device.is_open_in(&process) {
            opened.push(format!("opened by {} (pid {})", process.name(), process.pid));
        }
    }
    device.stacked(&mut out);
    out.append(&mut opened);
    out
}

struct Device {
    number: u32,
    major: u32,
    minor: u32,
}

struct Process {
    pid: u32,
    path: PathBuf,
}

fn processes() -> impl Iterator<Item = Process> {
    let own = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids.into_iter()
        .filter(move |pid| *pid != own)
        .map(|pid| Process { pid, path: PathBuf::from(format!("/proc/{pid}")) })
}

impl Process {
    fn name(&self) -> String {
        let name = fs::read_to_string(self.path.join("comm")).unwrap_or_default();
        name.trim_end().to_owned()
    }

    fn mounted(&self, point: &str, is_home: bool) -> String {
        if is_home {
            return format!("mounted on {point}");
        }
        format!("mounted on {point} in the mount namespace of {} (pid {})", self.name(), self.pid)
    }
}

impl Device {
    fn mounts(&self, process: &Process) -> Vec<String> {
        let table = fs::read_to_string(process.path.join("mountinfo")).unwrap_or_default();
        mount_points(&table, self.major, self.minor, &loopdev::node(self.number))
    }

    fn is_open_in(&self, process: &Process) -> bool {
        let entries = fs::read_dir(process.path.join("fd")).into_iter().flatten().flatten();
        entries.map(|e| e.path()).any(|fd| self.is_target(&fd))
    }

    /// Only descriptors of device nodes are looked at closer: a stat of another file may wait for its server.
    fn is_target(&self, fd: &Path) -> bool {
        fs::read_link(fd).is_ok_and(|target| target.starts_with("/dev"))
            && fs::metadata(fd).is_ok_and(|meta| {
                let device = rustix::fs::makedev(self.major, self.minor);
                meta.file_type().is_block_device() && meta.rdev() == device
            })
    }

    fn stacked(&self, out: &mut Vec<String>) {
        let holders =
            fs::read_dir(loopdev::sysfs(self.number).join("holders")).into_iter().flatten().flatten();
        for holder in holders {
            let kernel = holder.file_name().to_string_lossy().into_owned();
            let mapped = fs::read_to_string(holder.path().join("dm/name")).ok();
            let name = mapped.map_or(kernel, |m| format!("/dev/mapper/{}", m.trim_end()));
            out.push(format!("part of {name}"));
        }
        let node = loopdev::node(self.number);
        let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
        if swaps.lines().any(|l| l.split_whitespace().next().is_some_and(|p| Path::new(p) == node)) {
            out.push("in use as swap".to_owned());
        }
        let shown = node.to_string_lossy().trim_start_matches('/').to_owned();
        out.extend(loopdev::find(&shown).into_iter().map(|n| format!("bound to /dev/loop{n}")));
    }
}

/// Mount points in a mountinfo table that belong to a device: by its number, or (btrfs shows numbers of its
/// own) by its path.
fn mount_points(table: &str, major: u32, minor: u32, node: &Path) -> Vec<String> {
    let number = format!("{major}:{minor}");
    let of_line = |line: &str| {
        let (mount, source) = line.split_once(" - ")?;
        let mut fields = mount.split(' ');
        let (device, point) = (fields.nth(2)?, fields.nth(1)?);
        let source = source.split(' ').nth(1)?;
        (device == number || Path::new(source) == node).then(|| unescaped(point))
    };
    table.lines().filter_map(of_line).collect()
}

/// mountinfo writes blanks and backslashes as octal numbers.
fn unescaped(text: &str) -> String {
    let mut pieces = text.split('\\');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let code = piece.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (code, piece.get(3..)) {
            (Some(code), Some(rest)) => {
                out.push(char::from(code));
                out.push_str(rest);
            }
            _ => {
                out.push('\\');
                out.push_str(piece);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_number_and_by_source() {
        let table = "36 35 7:3 / /mnt/a\\040b rw,noatime shared:1 - ext4 /dev/drbd1 rw\n\
                     37 35 0:51 / /srv rw - btrfs /dev/loop3 rw\n\
                     38 35 7:30 / /other rw - ext4 /dev/loop30 rw\n";
        assert_eq!(mount_points(table, 7, 3, Path::new("/dev/loop3")), ["/mnt/a b", "/srv"]);
    }

    #[test]
    fn an_odd_backslash_is_kept() {
        assert_eq!(unescaped("/a\\134b\\x"), "/a\\b\\x");
    }
}
