//! What is mounted and swapped on, by device number: a device may have several names.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::super::error::Error;

const MOUNTS: &str = "/proc/self/mountinfo";
const SWAPS: &str = "/proc/swaps";

/// One mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Mount {
    /// `major:minor` of its device.
    pub(in super::super) device: String,
    /// Where it is seen.
    pub(in super::super) path: PathBuf,
    /// What was mounted.
    pub(in super::super) source: String,
}

/// Everything that is mounted, in order.
pub(in super::super) fn read() -> Result<Vec<Mount>, Error> {
    let text = fs::read_to_string(MOUNTS).map_err(Error::io("read", MOUNTS))?;
    Ok(text.lines().filter_map(parse).collect())
}

/// proc_pid_mountinfo(5): `36 35 98:0 /root /path options… - type source options`.
fn parse(line: &str) -> Option<Mount> {
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ');
    let device = front.nth(2)?.to_owned();
    let path = PathBuf::from(unescape(front.nth(1)?));
    let source = unescape(back.split(' ').nth(1)?);
    Some(Mount { device, path, source })
}

/// Spaces and the like are written as `\040`.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(code.map_or('\\', char::from));
        rest = if code.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    out + rest
}

/// Swap areas on devices with these numbers.
pub(super) fn swaps(numbers: &[String]) -> Result<Vec<String>, Error> {
    let text = fs::read_to_string(SWAPS).map_err(Error::io("read", SWAPS))?;
    let names = text.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    let ours = names.filter(|name| number(Path::new(name)).is_some_and(|number| numbers.contains(&number)));
    Ok(ours.map(|name| format!("{name} is swapped on")).collect())
}

/// `major:minor` of a block device; links are followed.
pub(in super::super) fn number(path: &Path) -> Option<String> {
    let metadata = fs::metadata(path).ok()?;
    metadata.file_type().is_block_device().then(|| number_of(&metadata))
}

pub(super) fn number_of(metadata: &fs::Metadata) -> String {
    let number = metadata.rdev();
    format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_optional_fields_and_escaped_spaces_are_read() {
        let line = r"36 35 98:0 /root /mnt/a\040b rw,noatime shared:1 master:2 - ext4 /dev/drbd\0401 rw";
        let wanted = Mount { device: "98:0".into(), path: "/mnt/a b".into(), source: "/dev/drbd 1".into() };
        assert_eq!(parse(line), Some(wanted));
        assert_eq!(unescape(r"a\b"), r"a\b");
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn this_machine_has_a_root() {
        assert!(read().unwrap().iter().any(|mount| mount.path == Path::new("/")));
    }
}
