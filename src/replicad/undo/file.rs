//! The undo log as a file, or on a block device of its own: room for it, records, and back.
//!
//! Errors are sentences for people: they go into the log and the status as they are.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use replica::bitmap::Bitmap;
use replica::digest;
use replica::event::{BLOCK, Range};
use replica::meta::MetaError;
use replica::undo::{self, FIRST_RECORD_AT, Found, HEADER_BYTES, MAX_RECORD_BYTES, Record, record_bytes};
use rustix::fs::FallocateFlags;

use crate::aligned::Aligned;
use crate::disk::{Backing, DiskProblem};
use crate::signature;

/// Bytes copied at a time.
const PIECE: usize = 256 << 10;
/// Taken beyond what is known to be needed: headers, and blocks that applications write meanwhile.
const EXTRA_BYTES: u64 = 16 << 20;
/// Of a file system, this part is left to others: 1 in so many.
const LEFT_TO_OTHERS: u64 = 10;

/// One log. Opened when it is needed.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    open: Option<Backing>,
    /// Bytes that are certain to be there.
    room: u64,
    buffer: Aligned,
}

impl LogFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, open: None, room: 0, buffer: Aligned::zeroed(PIECE) }
    }

    fn is_device(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|m| m.file_type().is_block_device())
    }

    fn failed(&self, what: &str) -> impl Fn(io::Error) -> String {
        let path = self.path.display().to_string();
        let what = what.to_owned();
        move |error| format!("{what} {path}: {error}")
    }

    /// Makes the disk's content durable, and room for this much old data. What was in the log is gone.
    ///
    /// Without `all` a log for which there may not be enough room is begun all the same: many of the blocks may turn
    /// out to be equal.
    pub(super) fn prepare(&mut self, disk: &Backing, log: u64, bytes: u64, all: bool) -> Result<(), String> {
        disk.flush().map_err(|error| disk.problem("flush", error).to_string())?;
        self.open = None;
        let wanted = bytes + bytes / 16 + EXTRA_BYTES;
        if self.is_device() {
            self.take_device(if all { wanted } else { EXTRA_BYTES })?;
        } else {
            self.make_file(wanted, all)?;
        }
        self.log()?;
        let Self { open: Some(file), buffer, .. } = self else {
            return Err("the log is not open".to_owned());
        };
        let begun = file.write_copied(0, &undo::encode_head(log), buffer).and_then(|()| file.flush());
        begun.map_err(|error| file.problem("begin", error).to_string())
    }

    fn make_file(&mut self, wanted: u64, all: bool) -> Result<(), String> {
        if let Some(folder) = self.path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|error| format!("make {}: {error}", folder.display()))?;
        }
        // No old blocks that nobody wants any more, and never what is somebody else's.
        match is_log(&self.path).map_err(self.failed("look at"))? {
            Some(true) => fs::remove_file(&self.path).map_err(self.failed("remove"))?,
            Some(false) => {
                return Err(format!(
                    "{} exists and is no undo log: name another file (`undo-file`)",
                    self.path.display()
                ));
            }
            None => {}
        }
        let wanted = match check_room(&self.path, wanted) {
            Err(reason) if !all => {
                check_room(&self.path, EXTRA_BYTES)?;
                tracing::warn!("{reason}: if so much differs, the resync will go on without an undo log");
                EXTRA_BYTES
            }
            room => room.map(|()| wanted)?,
        };
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.path)
            .map_err(self.failed("create"))?;
        allocate(&file, wanted).map_err(self.failed("make room in"))?;
        file.sync_all().and_then(|()| sync_folder(&self.path)).map_err(self.failed("store"))?;
        self.room = wanted;
        Ok(())
    }

    fn take_device(&mut self, wanted: u64) -> Result<(), String> {
        let device = Backing::open(&self.path).map_err(|error| error.to_string())?;
        let path = self.path.display();
        if device.bytes() < wanted {
            return Err(format!("{path} has {}, {} are needed", size(device.bytes()), size(wanted)));
        }
        match device.attach() {
            Err(DiskProblem::Meta { error: MetaError::Missing | MetaError::TooSmall { .. }, .. }) => {}
            _ => return Err(format!("{path} is a disk of a resource: it cannot hold an undo log")),
        }
        if let Some(found) = signature::find(&device).map_err(self.failed("look at"))? {
            return Err(format!("{path} carries {found}; if that is not needed: wipefs -a {path}"));
        }
        self.room = device.bytes();
        self.open = Some(device);
        Ok(())
    }

    fn log(&mut self) -> Result<&Backing, String> {
        if self.open.is_none() {
            self.open = Some(Backing::open(&self.path).map_err(|error| error.to_string())?);
        }
        self.open.as_ref().ok_or_else(|| format!("open {}", self.path.display()))
    }

    /// Makes sure that the log can grow to so many bytes.
    fn reach(&mut self, end: u64) -> Result<(), String> {
        if end <= self.room {
            return Ok(());
        }
        if self.is_device() {
            return Err(format!("{} is full ({})", self.path.display(), size(self.room)));
        }
        let wanted = end + EXTRA_BYTES;
        check_room(&self.path, wanted.saturating_sub(fs::metadata(&self.path).map_or(0, |m| m.len())))?;
        let file = OpenOptions::new().write(true).open(&self.path).map_err(self.failed("open"))?;
        allocate(&file, wanted).map_err(self.failed("make room in"))?;
        self.room = wanted;
        Ok(())
    }

    /// Writes a record with what the disk holds now, and makes it durable. The header comes last.
    pub(super) fn save(
        &mut self,
        disk: &Backing,
        log: u64,
        at: u64,
        ranges: Vec<Range>,
    ) -> Result<(), String> {
        self.reach(at + record_bytes(&ranges))?;
        self.log()?;
        let Self { open: Some(file), buffer, .. } = self else {
            return Err("the log is not open".to_owned());
        };
        let mut digest = digest::Stream::default();
        let mut to = at + HEADER_BYTES as u64;
        for (offset, len) in pieces(&ranges) {
            let room = buffer.bytes_mut().get_mut(..len).unwrap_or_default();
            disk.read(offset, room).map_err(|error| disk.problem("read old data", error).to_string())?;
            digest.update(room);
            file.write(to, room).map_err(|error| file.problem("write", error).to_string())?;
            to += len as u64;
        }
        let header = Record { log, at, ranges, digest: digest.finish() }.encode();
        let stored = file.write_copied(at, &header, buffer).and_then(|()| file.flush());
        stored.map_err(|error| file.problem("store a record", error).to_string())
    }

    /// Writes the old data of a record back; the place of the next one.
    pub(super) fn restore(&mut self, disk: &Backing, log: u64, at: u64) -> Result<u64, String> {
        self.log()?;
        let record = self.record(log, at)?.filter(|record| self.is_whole(record));
        let path = self.path.display();
        let record = record.ok_or_else(|| format!("the undo log {path} is damaged at byte {at}"))?;
        let Self { open: Some(file), buffer, .. } = self else {
            return Err("the log is not open".to_owned());
        };
        let mut from = at + HEADER_BYTES as u64;
        for (offset, len) in pieces(&record.ranges) {
            let room = buffer.bytes_mut().get_mut(..len).unwrap_or_default();
            file.read(from, room).map_err(|error| file.problem("read", error).to_string())?;
            disk.write(offset, room).map_err(|error| disk.problem("restore", error).to_string())?;
            from += len as u64;
        }
        Ok(record.next())
    }

    /// The header at a place, if there is one of this log.
    fn record(&mut self, log: u64, at: u64) -> Result<Option<Record>, String> {
        Ok(self.block(at)?.and_then(|block| Record::decode(&block, log, at)))
    }

    /// Whether the old data is what was saved.
    fn is_whole(&mut self, record: &Record) -> bool {
        let Self { open: Some(file), buffer, .. } = self else { return false };
        let mut digest = digest::Stream::default();
        let mut from = record.at + HEADER_BYTES as u64;
        for (_, len) in pieces(&record.ranges) {
            let room = buffer.bytes_mut().get_mut(..len).unwrap_or_default();
            if file.read(from, room).is_err() {
                return false;
            }
            digest.update(room);
            from += len as u64;
        }
        digest.finish() == record.digest
    }

    /// Everything that is in the log, made durable first: what a daemon that was killed has written may not be.
    pub(super) fn find(&mut self, log: u64, data_bytes: u64) -> Result<Found, String> {
        let flushed = self.log()?.flush();
        flushed.map_err(self.failed("flush"))?;
        if !undo::is_head(&self.block(0)?.unwrap_or_default(), log) {
            return Err(format!("{} is not the undo log of this resync", self.path.display()));
        }
        let mut found = Found { tail: FIRST_RECORD_AT, saved: Bitmap::new(data_bytes / BLOCK) };
        let mut next = self.record(log, FIRST_RECORD_AT)?;
        while let Some(record) = next {
            next = self.record(log, record.next())?;
            // Only the last one can be torn.
            if next.is_none() && !self.is_whole(&record) {
                break;
            }
            for range in &record.ranges {
                found.saved.set(range.offset / BLOCK, range.end() / BLOCK);
            }
            found.tail = record.next();
        }
        self.ends_at(log, found.tail)?;
        Ok(found)
    }

    /// Behind the end there is no record: else one before it is damaged, and what it holds would be missing.
    fn ends_at(&mut self, log: u64, tail: u64) -> Result<(), String> {
        let header = HEADER_BYTES as u64;
        // The one behind it begins within the size of the largest.
        for at in (tail + header..=tail + header + MAX_RECORD_BYTES).step_by(HEADER_BYTES) {
            let Some(block) = self.block(at)? else { break };
            if Record::decode(&block, log, at).is_some() {
                return Err(format!("the undo log {} is damaged at byte {tail}", self.path.display()));
            }
        }
        Ok(())
    }

    /// A block of the log; `None` behind its end.
    fn block(&mut self, at: u64) -> Result<Option<Vec<u8>>, String> {
        let mut block = Aligned::zeroed(HEADER_BYTES);
        match self.log()?.read(at, block.bytes_mut()) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            read => read.map(|()| Some(block.bytes().to_vec())).map_err(self.failed("read")),
        }
    }

    /// Gives the room back. What cannot be removed is of no harm: nothing names it any more.
    pub(super) fn give_up(&mut self) {
        self.open = None;
        self.room = 0;
        if self.is_device() {
            return;
        }
        let removed = match is_log(&self.path) {
            Ok(Some(true)) => fs::remove_file(&self.path),
            Ok(_) => return,
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::warn!("remove {}: {error}", self.path.display());
        }
    }
}

/// Whether a file is a log of ours; `None` when there is none.
fn is_log(path: &Path) -> io::Result<Option<bool>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut head = Vec::with_capacity(HEADER_BYTES);
    file.take(HEADER_BYTES as u64).read_to_end(&mut head)?;
    Ok(Some(undo::can_begin(&head)))
}

/// Parts of the ranges that fit into the buffer: offset and length.
fn pieces(ranges: &[Range]) -> impl Iterator<Item = (u64, usize)> {
    ranges.iter().flat_map(|range| {
        let starts = (range.offset..range.end()).step_by(PIECE);
        let end = range.end();
        starts.map(move |at| (at, usize::try_from(end - at).unwrap_or(PIECE).min(PIECE)))
    })
}

/// Whether a file may take so many bytes more.
fn check_room(path: &Path, bytes: u64) -> Result<(), String> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let stat =
        rustix::fs::statvfs(folder).map_err(|error| format!("look at {}: {error}", folder.display()))?;
    let free = (stat.f_bavail * stat.f_frsize).saturating_sub(stat.f_blocks * stat.f_frsize / LEFT_TO_OTHERS);
    if bytes <= free {
        return Ok(());
    }
    Err(format!(
        "the undo log needs {} in {}, {} are free there (a tenth of the file system is left to others)",
        size(bytes),
        folder.display(),
        size(free)
    ))
}

/// File systems that cannot do it write as they go.
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        result => Ok(result?),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// `12.3 GiB`, for people.
#[expect(clippy::cast_precision_loss, reason = "one digit after the point is shown")]
fn size(bytes: u64) -> String {
    match bytes {
        0..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests;
