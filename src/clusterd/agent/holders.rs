//! Who keeps a mount busy: processes with open files, directories or mappings there, and mounts in other
//! namespaces. Only /proc is read, never the file system in question: it may hang.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use super::mountinfo;

/// Names of holders that a message has.
const NAMED: usize = 5;

/// What is to be set free.
#[derive(Clone, Debug)]
pub(super) enum Held {
    /// A whole file system, wherever it is mounted: its device, `MAJOR:MINOR`.
    Device {
        /// Which.
        device: String,
        /// Where we have it.
        directory: PathBuf,
    },
    /// One mount at one place.
    Place {
        /// Its number in the mount table.
        id: u64,
        /// Where.
        directory: PathBuf,
    },
}

/// A process in the way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Holder {
    pid: u32,
    name: String,
}

impl Held {
    /// Everybody in the way but this process. Takes some milliseconds a hundred processes.
    pub(super) fn holders(&self) -> Vec<Holder> {
        let own = std::process::id();
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let mut seen = Seen { own: namespace(own), ours: self.is_mounted(), known: Vec::new() };
        pids.filter(|pid| *pid != own && self.is_held_by(*pid, &mut seen))
            .map(|pid| Holder { pid, name: name(pid) })
            .collect()
    }

    /// Whether we have it mounted ourselves.
    fn is_mounted(&self) -> bool {
        let table = mountinfo::own().unwrap_or_default();
        table.iter().any(|entry| match self {
            Self::Device { device, .. } => entry.device == *device,
            Self::Place { id, .. } => entry.id == *id,
        })
    }

    fn is_held_by(&self, pid: u32, seen: &mut Seen) -> bool {
        let proc = Path::new("/proc").join(pid.to_string());
        let (ids, elsewhere) = seen.mounts(self, pid);
        elsewhere
            || has_open(&proc, &ids)
            || self.has_mapping(&proc, seen.ours)
            || seen.ours && self.has_path(&proc)
    }

    fn directory(&self) -> &Path {
        match self {
            Self::Device { directory, .. } | Self::Place { directory, .. } => directory,
        }
    }

    /// Working directory, root or program lies there.
    fn has_path(&self, proc: &Path) -> bool {
        let links = ["cwd", "root", "exe"].map(|name| fs::read_link(proc.join(name)));
        links.iter().flatten().any(|target| target.starts_with(self.directory()))
    }

    /// Names count only while it is mounted: afterwards they mean what lies below.
    fn has_mapping(&self, proc: &Path, mounted: bool) -> bool {
        let maps = fs::read_to_string(proc.join("maps")).unwrap_or_default();
        let device = match self {
            Self::Device { device, .. } => hexadecimal(device),
            Self::Place { .. } => None,
        };
        maps.lines().any(|line| {
            // 7f00-7f01 r-xp 00000000 fd:01 1234   /path
            let mut words = line.split_ascii_whitespace();
            let on = words.nth(3);
            let path = words.nth(1).unwrap_or_default();
            device.as_deref().is_some_and(|device| on == Some(device))
                || mounted && Path::new(path).starts_with(self.directory())
        })
    }
}

/// Mounts of the namespaces that were looked at.
struct Seen {
    own: Option<PathBuf>,
    ours: bool,
    known: Vec<(PathBuf, BTreeSet<u64>)>,
}

impl Seen {
    /// Numbers of the mounts in question as this process sees them, and whether they keep the device busy although
    /// nothing is mounted in our own namespace: a service with a mount table of its own.
    fn mounts(&mut self, held: &Held, pid: u32) -> (BTreeSet<u64>, bool) {
        let device = match held {
            Held::Place { id, .. } => return (BTreeSet::from([*id]), false),
            Held::Device { device, .. } => device,
        };
        let Some(namespace) = namespace(pid) else { return (BTreeSet::new(), false) };
        let ids = match self.known.iter().find(|(name, _)| *name == namespace) {
            Some((_, ids)) => ids.clone(),
            None => {
                let table = mountinfo::of(pid).unwrap_or_default();
                let ids: BTreeSet<u64> =
                    table.iter().filter(|entry| entry.device == *device).map(|entry| entry.id).collect();
                self.known.push((namespace.clone(), ids.clone()));
                ids
            }
        };
        let elsewhere = !self.ours && self.own.as_ref() != Some(&namespace) && !ids.is_empty();
        (ids, elsewhere)
    }
}

fn has_open(proc: &Path, ids: &BTreeSet<u64>) -> bool {
    let files = fs::read_dir(proc.join("fdinfo")).into_iter().flatten().flatten();
    files.into_iter().any(|file| {
        let info = fs::read_to_string(file.path()).unwrap_or_default();
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
        id.is_some_and(|id| ids.contains(&id))
    })
}

fn namespace(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()
}

fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// `147:1` as /proc/PID/maps writes it: `93:01`.
fn hexadecimal(device: &str) -> Option<String> {
    let (major, minor) = device.split_once(':')?;
    Some(format!("{:02x}:{:02x}", major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
}

/// Sends all of them a signal; who is gone already is as good.
pub(super) fn signal(holders: &[Holder], signal: Signal) {
    for holder in holders {
        if let Some(pid) = i32::try_from(holder.pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

/// Those that have not ended yet.
pub(super) fn alive(holders: &[Holder]) -> Vec<Holder> {
    let ended = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
    };
    holders.iter().filter(|holder| !ended(holder.pid) && name(holder.pid) == holder.name).cloned().collect()
}

/// `mariadbd (812), bash (901)`
pub(super) fn names(holders: &[Holder]) -> String {
    let mut names: Vec<String> =
        holders.iter().take(NAMED).map(|holder| format!("{} ({})", holder.name, holder.pid)).collect();
    if let Some(more) = holders.len().checked_sub(NAMED).filter(|more| *more > 0) {
        names.push(format!("{more} more"));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_compared_as_mappings_write_them() {
        assert_eq!(hexadecimal("147:1").as_deref(), Some("93:01"));
        assert_eq!(hexadecimal("259:12").as_deref(), Some("103:0c"));
    }

    #[test]
    fn many_holders_are_named_in_short() {
        let holders: Vec<Holder> = (1..=7).map(|pid| Holder { pid, name: "php".to_owned() }).collect();
        assert_eq!(names(&holders), "php (1), php (2), php (3), php (4), php (5), 2 more");
    }
}
