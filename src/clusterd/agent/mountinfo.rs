//! The mount table as the kernel tells it: proc_pid_mountinfo(5). Reading it touches no file system.

use std::io;
use std::path::{Path, PathBuf};

/// The longest table that is read: hosts with thousands of containers have megabytes.
const LONGEST: u64 = 64 * 1024 * 1024;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: u64,
    /// `MAJOR:MINOR`
    pub(super) device: String,
    /// What of the file system is shown.
    pub(super) root: PathBuf,
    /// Where.
    pub(super) directory: PathBuf,
    pub(super) fstype: String,
    /// Options of the file system: `ro` when it went read-only by itself.
    pub(super) super_options: String,
    mount_options: String,
}

impl Entry {
    /// The file system, or this view of it, cannot be written to.
    pub(super) fn is_read_only(&self) -> bool {
        let has = |options: &str, word: &str| options.split(',').any(|option| option == word);
        // Newer kernels tell an emergency apart.
        has(&self.super_options, "ro")
            || has(&self.super_options, "emergency_ro")
            || has(&self.super_options, "shutdown")
            || has(&self.mount_options, "ro")
    }
}

/// The mounts that this process sees, in the order they were made.
pub(super) fn own() -> io::Result<Vec<Entry>> {
    read(Path::new("/proc/self/mountinfo"))
}

/// The mounts that another process sees.
pub(super) fn of(pid: u32) -> io::Result<Vec<Entry>> {
    read(&Path::new("/proc").join(pid.to_string()).join("mountinfo"))
}

/// What is mounted at a directory: the uppermost.
pub(super) fn at<'a>(entries: &'a [Entry], directory: &Path) -> Option<&'a Entry> {
    entries.iter().rfind(|entry| entry.directory == directory)
}

/// What a path lies on.
pub(super) fn above<'a>(entries: &'a [Entry], path: &Path) -> Option<&'a Entry> {
    let mut best: Option<&Entry> = None;
    for entry in entries.iter().filter(|entry| path.starts_with(&entry.directory)) {
        let depth = |entry: &Entry| entry.directory.components().count();
        // Of equal ones the later lies above.
        if best.is_none_or(|best| depth(entry) >= depth(best)) {
            best = Some(entry);
        }
    }
    best
}

fn read(path: &Path) -> io::Result<Vec<Entry>> {
    use std::io::Read as _;
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(LONGEST).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).lines().filter_map(entry).collect())
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn entry(line: &str) -> Option<Entry> {
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ');
    let id = front.next()?.parse().ok()?;
    let device = front.nth(1)?.to_owned();
    let root = plain(front.next()?);
    let directory = plain(front.next()?);
    let mount_options = front.next()?.to_owned();
    let mut back = back.split(' ');
    let fstype = back.next()?.to_owned();
    let super_options = back.nth(1)?.to_owned();
    Some(Entry { id, device, root, directory, fstype, super_options, mount_options })
}

/// Blanks and backslashes are written in octal.
fn plain(text: &str) -> PathBuf {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let digits = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match digits {
            Some(byte) if byte.is_ascii() => {
                out.push(char::from(byte));
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    PathBuf::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
36 21 147:1 / /srv/my\\040data rw,noatime master:1 - ext4 /dev/drbd1 ro,errors=remount-ro
37 36 147:1 /www /var/www rw,noatime - ext4 /dev/drbd1 rw
";

    fn table() -> Vec<Entry> {
        TABLE.lines().filter_map(entry).collect()
    }

    #[test]
    fn a_table_is_read_with_blanks_in_names() {
        let table = table();
        let found = at(&table, Path::new("/srv/my data")).map(|entry| (entry.id, entry.device.as_str()));
        assert_eq!(found, Some((36, "147:1")));
        assert_eq!(at(&table, Path::new("/srv")), None);
    }

    #[test]
    fn a_file_system_that_went_read_only_is_noticed() {
        let read_only: Vec<bool> = table().iter().map(Entry::is_read_only).collect();
        assert_eq!(read_only, [false, true, false]);
    }

    #[test]
    fn a_path_lies_on_the_deepest_mount_above_it() {
        let table = table();
        let on = |path: &str| above(&table, Path::new(path)).map(|entry| entry.id);
        assert_eq!(on("/var/www/html"), Some(37));
        assert_eq!(on("/var/wwwother"), Some(21));
    }
}
