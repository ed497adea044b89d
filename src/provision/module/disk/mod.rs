//! What is on a disk and who uses it: the proof that has to be positive before anything is destroyed.
//!
//! A disk may be written to only when it is blank, in use by nobody, and big enough to tell. Whatever cannot
//! be found out counts as an objection.

pub(super) mod mounts;
pub(super) mod signature;
pub(super) mod table;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::error::Error;
use signature::Content;

/// Bytes that are overwritten at both ends of whatever is wiped: every signature lies within.
const WIPE_BYTES: u64 = 4 << 20;
const HINT_WIPE: &str =
    "if its data is not needed, add HOST:DISK to wipe in the inventory, such as wipe: [ha-b:/dev/vdb]";
const HINT_USE: &str = "stop what uses it first; wipe does not override this";

/// A block device as the kernel knows it.
#[derive(Debug)]
pub(super) struct Device {
    /// As it was named.
    pub(super) path: PathBuf,
    /// `major:minor`.
    pub(super) number: String,
    /// Size.
    pub(super) bytes: u64,
    /// Bytes of a logical sector.
    pub(super) sector: u64,
    sysfs: PathBuf,
}

/// A partition as the kernel knows it.
#[derive(Debug)]
pub(super) struct Part {
    /// Its number in the table.
    pub(super) index: u32,
    /// `major:minor`.
    pub(super) number: String,
}

impl Device {
    /// Looks at a device; `None` when nothing has this name.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, Error> {
        let metadata = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.map_err(Error::io("look at", path))?,
        };
        if !metadata.file_type().is_block_device() {
            let what = format!("{} is not a block device", path.display());
            return Err(Error::refused(what, "check the name of the disk in the inventory"));
        }
        let number = mounts::number_of(&metadata);
        let sysfs = PathBuf::from("/sys/dev/block").join(&number);
        let bytes = file(path)?.seek(SeekFrom::End(0)).map_err(Error::io("measure", path))?;
        // A partition has no queue of its own; its disk's is one level up.
        let size = ["queue/logical_block_size", "../queue/logical_block_size"];
        let sector = size.iter().find_map(|name| read_number(&sysfs.join(name))).unwrap_or(512);
        Ok(Some(Self { path: path.to_path_buf(), number, bytes, sector, sysfs }))
    }

    /// Its partitions, as far as the kernel knows them, in order.
    pub(super) fn partitions(&self) -> Vec<Part> {
        let entries = fs::read_dir(&self.sysfs).into_iter().flatten().flatten();
        let mut parts: Vec<Part> = entries
            .filter_map(|entry| {
                let index = u32::try_from(read_number(&entry.path().join("partition"))?).ok()?;
                let number = fs::read_to_string(entry.path().join("dev")).ok()?.trim().to_owned();
                Some(Part { index, number })
            })
            .collect();
        parts.sort_by_key(|part| part.index);
        parts
    }

    /// The name of a partition's node beside this device: `vdb1`, `nvme0n1p1`.
    pub(super) fn partition_path(&self, index: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        if name.as_encoded_bytes().last().is_some_and(u8::is_ascii_digit) {
            name.push("p");
        }
        name.push(index.to_string());
        PathBuf::from(name)
    }

    /// Who uses it, or one of its partitions, now.
    pub(super) fn users(&self) -> Result<Vec<String>, Error> {
        let mut numbers = vec![self.number.clone()];
        numbers.extend(self.partitions().into_iter().map(|part| part.number));
        let mut users = Vec::new();
        for mount in mounts::read()?.iter().filter(|mount| numbers.contains(&mount.device)) {
            users.push(format!("{} is mounted on {}", mount.source, mount.path.display()));
        }
        users.extend(mounts::swaps(&numbers)?);
        for number in &numbers {
            let holders = PathBuf::from("/sys/dev/block").join(number).join("holders");
            for holder in fs::read_dir(holders).into_iter().flatten().flatten() {
                users.push(format!("{} is built on it", holder.file_name().to_string_lossy()));
            }
        }
        if users.is_empty() {
            users.extend(self.claimed()?);
        }
        Ok(users)
    }

    /// A claim by the kernel or a daemon that opened it exclusively.
    fn claimed(&self) -> Result<Option<String>, Error> {
        let exclusive = i32::try_from(OFlags::EXCL.bits()).unwrap_or_default();
        match OpenOptions::new().read(true).custom_flags(exclusive).open(&self.path) {
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                Ok(Some("something has opened it exclusively".into()))
            }
            Err(source) => Err(Error::Io { action: "open", path: self.path.clone(), source }),
        }
    }

    /// What is on it.
    pub(super) fn content(&self) -> Result<Content, Error> {
        self.content_as_of(self.bytes)
    }

    /// What was on it when it had so many bytes, at most as many as now.
    pub(super) fn content_as_of(&self, bytes: u64) -> Result<Content, Error> {
        signature::probe(&mut file(&self.path)?, bytes).map_err(Error::io("read", &self.path))
    }

    /// Refuses to go on unless nobody uses it and, without `wipe`, nothing is on it.
    pub(super) fn require_disposable(
        &self,
        action: &str,
        content: &Content,
        wipe: bool,
    ) -> Result<(), Error> {
        let held = self.describe_content(content);
        let what = |found: &str| format!("{action} {}: {found}", self.describe());
        let users = self.users()?;
        if !users.is_empty() {
            let holds = if content.is_blank() { String::new() } else { format!("; it holds {held}") };
            return Err(Error::refused(what(&format!("{}{holds}", users.join(", "))), HINT_USE));
        }
        if wipe || content.is_blank() {
            return Ok(());
        }
        Err(Error::refused(what(&format!("it holds {held}")), HINT_WIPE))
    }

    /// What is on it, and on its partitions.
    fn describe_content(&self, content: &Content) -> String {
        let part = |part: Part| {
            let device = Self::open(&self.partition_path(part.index)).ok()??;
            let inside = device.content().ok()?;
            (!inside.is_blank()).then(|| format!("{} holds {}", device.path.display(), inside.describe()))
        };
        let parts: Vec<String> = self.partitions().into_iter().filter_map(part).collect();
        if parts.is_empty() {
            content.describe()
        } else {
            format!("{}; {}", content.describe(), parts.join(", "))
        }
    }

    /// Overwrites both ends of the device, and before that of its partitions.
    pub(super) fn wipe(&self) -> Result<(), Error> {
        for part in self.partitions() {
            if let Some(part) = Self::open(&self.partition_path(part.index))? {
                part.zero_ends().map_err(Error::io("wipe", &part.path))?;
            }
        }
        self.zero_ends().map_err(Error::io("wipe", &self.path))
    }

    fn zero_ends(&self) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(&self.path)?;
        let length = WIPE_BYTES.min(self.bytes);
        let zeros = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        for start in [0, self.bytes - length] {
            file.seek(SeekFrom::Start(start))?;
            file.write_all(&zeros)?;
        }
        file.sync_all()
    }

    /// `/dev/vdb (10.0 GiB, model X, serial Y)`.
    pub(super) fn describe(&self) -> String {
        let mut text = format!("{} ({}", self.path.display(), size(self.bytes));
        for (word, file) in [("model", "device/model"), ("serial", "device/serial"), ("serial", "serial")] {
            if let Ok(value) = fs::read_to_string(self.sysfs.join(file))
                && !value.trim().is_empty()
            {
                text = format!("{text}, {word} {}", value.trim());
            }
        }
        text + ")"
    }
}

fn file(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(Error::io("open", path))
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// `10.0 GiB`.
fn size(bytes: u64) -> String {
    let mib = bytes >> 20;
    if mib >= 1 << 10 {
        format!("{}.{} GiB", mib >> 10, ((mib & 1023) * 10) >> 10)
    } else {
        format!("{mib} MiB")
    }
}

#[cfg(test)]
mod tests;
