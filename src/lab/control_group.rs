//! Control groups: which processes belong to which host, and how to end them all.
//!
//! Each host gets a group of its own in the unified hierarchy and, on machines that have it, in systemd's
//! legacy one; otherwise two containers would share one group and their managers would end each other's
//! services. A group can be found from the names of lab and host alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::interrupt::Interrupt;
use crate::wait;

/// Another lab that goes away may remove the common folder between our creating it and filling it.
const CREATE_ATTEMPTS: u32 = 5;

/// How long the kernel may take to see that a group whose processes have ended is empty.
const EMPTY: Duration = Duration::from_secs(5);

/// Hierarchies in which a host needs a group of its own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    /// Where cgroup2 is mounted.
    pub(crate) unified: PathBuf,
    /// Where systemd's own legacy hierarchy is mounted, if it is.
    pub(crate) legacy: Option<PathBuf>,
}

/// Finds the hierarchies of this machine.
pub(crate) fn hierarchies() -> anyhow::Result<Hierarchies> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    match find(&mounts) {
        Some(found) => Ok(found),
        None => bail!(
            "no cgroup2 file system is mounted, and a lab's hosts need one; mount it: mount -t cgroup2 none /sys/fs/cgroup"
        ),
    }
}

fn find(mountinfo: &str) -> Option<Hierarchies> {
    let mut unified = None;
    let mut legacy = None;
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(place) = left.split(' ').nth(4) else { continue };
        let mut fields = right.split(' ');
        match (fields.next(), fields.nth(1)) {
            (Some("cgroup2"), _) => unified = unified.or(Some(PathBuf::from(place))),
            (Some("cgroup"), Some(options)) if options.split(',').any(|o| o == "name=systemd") => {
                legacy = legacy.or(Some(PathBuf::from(place)));
            }
            _ => {}
        }
    }
    Some(Hierarchies { unified: unified?, legacy })
}

impl Hierarchies {
    fn folders(&self, group: &Path) -> Vec<PathBuf> {
        let roots = std::iter::once(&self.unified).chain(self.legacy.as_ref());
        roots.map(|root| root.join(group)).collect()
    }

    /// Creates the group and returns its folders, which processes join by writing to their `cgroup.procs`.
    pub(crate) fn create(&self, group: &Path) -> anyhow::Result<Vec<PathBuf>> {
        let folders = self.folders(group);
        for folder in &folders {
            let made = (1..CREATE_ATTEMPTS).map(|_| fs::create_dir_all(folder)).find(Result::is_ok);
            let made = made.unwrap_or_else(|| fs::create_dir_all(folder));
            made.with_context(|| format!("create control group {}", folder.display()))?;
        }
        Ok(folders)
    }

    /// The processes in a group and below, without those that are dead already.
    pub(crate) fn processes(&self, group: &Path) -> anyhow::Result<Vec<i32>> {
        let mut found = Vec::new();
        for folder in self.folders(group) {
            gather(&folder, &mut found)
                .with_context(|| format!("read control group {}", folder.display()))?;
        }
        found.sort_unstable();
        found.dedup();
        found.retain(|pid| !is_zombie(*pid));
        Ok(found)
    }

    /// Ends every process of the group at once.
    pub(crate) fn kill(&self, group: &Path) -> anyhow::Result<()> {
        let switch = self.unified.join(group).join("cgroup.kill");
        match fs::write(&switch, "1") {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("write {}", switch.display()))
            }
            _ => Ok(()),
        }
    }

    /// Removes the group and what is below, and the groups above that have become empty. The processes must be
    /// gone.
    pub(crate) fn remove(&self, group: &Path) -> anyhow::Result<()> {
        for folder in self.folders(group) {
            // Processes that have ended may count as members for another moment.
            let removed = wait::until(EMPTY, &Interrupt::never(), || match remove_tree(&folder) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(None),
                other => Ok(Some(other?)),
            });
            removed.with_context(|| format!("remove control group {}", folder.display()))?;
            for above in folder.ancestors().skip(1).take(group.components().count() - 1) {
                // Another host or lab may be in it.
                let _ = fs::remove_dir(above);
            }
        }
        Ok(())
    }
}

/// A process of that number, or folder of that name, may go away while we look: that is no error.
fn gone<T: Default>(result: io::Result<T>) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        // ENODEV: the group was removed between opening and reading.
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(T::default()),
        other => other,
    }
}

fn gather(folder: &Path, found: &mut Vec<i32>) -> io::Result<()> {
    let listed = gone(fs::read_to_string(folder.join("cgroup.procs")))?;
    found.extend(listed.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in children(folder)? {
        gather(&child, found)?;
    }
    Ok(())
}

fn children(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return gone(Err(error)),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry?;
        if gone(entry.file_type().map(|kind| kind.is_dir()))? {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

fn remove_tree(folder: &Path) -> io::Result<()> {
    for child in children(folder)? {
        remove_tree(&child)?;
    }
    gone(fs::remove_dir(folder))
}

fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_hierarchies_of_a_hybrid_machine_and_the_one_of_a_unified_machine_are_found() {
        let hybrid = "30 25 0:26 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n\
                      31 25 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                      32 25 0:28 / /sys/fs/cgroup/unified rw,relatime shared:3 - cgroup2 cgroup2 rw\n";
        let found = find(hybrid).unwrap();
        assert_eq!(found.unified, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(found.legacy.as_deref(), Some(Path::new("/sys/fs/cgroup/systemd")));
        let unified = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let expected = Hierarchies { unified: PathBuf::from("/sys/fs/cgroup"), legacy: None };
        assert_eq!(find(unified), Some(expected));
        assert_eq!(find("29 23 0:26 / / rw - ext4 /dev/vda rw\n"), None);
    }
}
