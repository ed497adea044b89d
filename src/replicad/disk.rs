//! The backing device: opened for this process alone, without the page cache; its size, its metadata area.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use replica::event::{BLOCK, Range};
use replica::meta::{Attached, Layout, MetaError};
use rustix::fs::{FallocateFlags, FileType, FlockOperation, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use crate::aligned::Aligned;

/// Why a backing device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskProblem {
    /// It cannot be opened.
    #[error("open {}: {error}", path.display())]
    Open {
        /// The device.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Someone has it.
    #[error("{} is already claimed: it is mounted, part of another block device, or its resource is up (see `lsblk` and `futago replica status`)", .0.display())]
    Claimed(PathBuf),
    /// Neither a block device nor a file.
    #[error("{} is neither a block device nor a plain file", .0.display())]
    Kind(PathBuf),
    /// Its sectors are larger than the blocks that are replicated.
    #[error("{} has sectors of {sector} bytes; they must divide {BLOCK}", path.display())]
    Sector {
        /// The device.
        path: PathBuf,
        /// Logical block size in bytes.
        sector: u32,
    },
    /// An operation on it failed.
    #[error("{what} of {}: {error}", path.display())]
    Io {
        /// The device.
        path: PathBuf,
        /// `read metadata`
        what: &'static str,
        /// Why.
        error: io::Error,
    },
    /// Its metadata does not allow to use it.
    #[error("{}: {error}", path.display())]
    Meta {
        /// The device.
        path: PathBuf,
        /// Why.
        error: MetaError,
    },
}

/// An open backing device.
#[derive(Debug)]
pub struct Backing {
    path: PathBuf,
    fd: OwnedFd,
    bytes: u64,
}

impl Backing {
    /// Opens a block device (or, for trying things out, a plain file) exclusively and with direct I/O.
    pub fn open(path: &Path) -> Result<Self, DiskProblem> {
        let owned = || path.to_path_buf();
        let flags = OFlags::RDWR | OFlags::DIRECT | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| match error {
            Errno::BUSY => DiskProblem::Claimed(owned()),
            error => DiskProblem::Open { path: owned(), error: error.into() },
        })?;
        let fail = |what| move |error: Errno| DiskProblem::Io { path: owned(), what, error: error.into() };
        let stat = rustix::fs::fstat(&fd).map_err(fail("look at the kind"))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::BlockDevice => {
                let sector = rustix::fs::ioctl_blksszget(&fd).map_err(fail("read the sector size"))?;
                if !BLOCK.is_multiple_of(u64::from(sector)) {
                    return Err(DiskProblem::Sector { path: owned(), sector });
                }
            }
            // O_EXCL means nothing on a file that exists.
            FileType::RegularFile => rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive)
                .map_err(|_| DiskProblem::Claimed(owned()))?,
            _ => return Err(DiskProblem::Kind(owned())),
        }
        let bytes = rustix::fs::seek(&fd, SeekFrom::End(0)).map_err(fail("read the size"))?;
        Ok(Self { path: owned(), fd, bytes })
    }

    /// Size in bytes, metadata included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where things lie on it.
    pub fn layout(&self) -> Result<Layout, DiskProblem> {
        Layout::for_device(self.bytes).map_err(|error| DiskProblem::Meta { path: self.path.clone(), error })
    }

    /// Reads the metadata, after making it durable: see [`Attached::decode`].
    pub fn attach(&self) -> Result<Attached, DiskProblem> {
        self.attach_at(self.layout()?)
    }

    /// Reads the metadata of a disk that was smaller once.
    pub fn attach_at(&self, layout: Layout) -> Result<Attached, DiskProblem> {
        self.flush().map_err(|error| self.problem("flush", error))?;
        let (at, len) = layout.metadata();
        let mut area = Aligned::zeroed(usize::try_from(len).unwrap_or(usize::MAX));
        self.read(at, area.bytes_mut()).map_err(|error| self.problem("read metadata", error))?;
        let attached = Attached::decode(layout, area.bytes());
        attached.map_err(|error| DiskProblem::Meta { path: self.path.clone(), error })
    }

    /// Reads a range in full into an aligned buffer.
    pub fn read(&self, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match rustix::io::pread(&self.fd, &mut *buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => {
                    buffer = buffer.get_mut(len..).unwrap_or_default();
                    offset += len as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Writes a range in full from an aligned buffer.
    pub fn write(&self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::pwrite(&self.fd, bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => {
                    bytes = bytes.get(len..).unwrap_or_default();
                    offset += len as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Writes bytes from anywhere in memory: through an aligned buffer, piece by piece.
    pub fn write_copied(&self, mut offset: u64, bytes: &[u8], buffer: &mut Aligned) -> io::Result<()> {
        for piece in bytes.chunks(buffer.bytes().len()) {
            let room = buffer.bytes_mut().get_mut(..piece.len()).unwrap_or_default();
            room.copy_from_slice(piece);
            self.write(offset, room)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    /// Zeroes a range. With `unmap` the room is given back, where the disk can do that and reads zeroes from then on
    /// (blkdev_fallocate() of block/fops.c); where it cannot, zeroes are written.
    pub fn zero(&self, range: Range, unmap: bool, buffer: &mut Aligned) -> io::Result<()> {
        let ways = [
            (unmap, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE),
            (true, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE),
        ];
        for (_, way) in ways.into_iter().filter(|(wanted, _)| *wanted) {
            match rustix::fs::fallocate(&self.fd, way, range.offset, u64::from(range.len)) {
                Ok(()) => return Ok(()),
                Err(Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error.into()),
            }
        }
        buffer.bytes_mut().fill(0);
        let mut offset = range.offset;
        while offset < range.end() {
            let left = usize::try_from(range.end() - offset).unwrap_or(usize::MAX);
            let piece = buffer.bytes().get(..left).unwrap_or(buffer.bytes());
            self.write(offset, piece)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    /// Whether it gives back the room of what is zeroed, and reads zeroes from then on.
    #[must_use]
    pub fn unmaps(&self) -> bool {
        let Ok(stat) = rustix::fs::fstat(&self.fd) else { return false };
        if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice {
            return true;
        }
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let device = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
        // A partition has the queue of its disk.
        let folder = [device.join("queue"), device.join("../queue")].into_iter().find(|path| path.is_dir());
        let most = |key| {
            let text = std::fs::read_to_string(folder.as_ref()?.join(key)).ok()?;
            text.trim().parse::<u64>().ok()
        };
        ["discard_max_bytes", "write_zeroes_max_bytes"]
            .iter()
            .all(|key| most(key).is_some_and(|bytes| bytes > 0))
    }

    /// Makes every completed write durable: on a block device, a flush of its cache.
    pub fn flush(&self) -> io::Result<()> {
        loop {
            match rustix::fs::fdatasync(&self.fd) {
                Err(Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Names an operation that failed.
    #[must_use]
    pub fn problem(&self, what: &'static str, error: io::Error) -> DiskProblem {
        DiskProblem::Io { path: self.path.clone(), what, error }
    }
}

impl AsFd for Backing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new_in(".").unwrap();
        file.as_file().set_len(bytes).unwrap();
        file
    }

    #[test]
    fn a_file_is_claimed_by_one_at_a_time() {
        let file = file(1 << 20);
        let first = Backing::open(file.path()).unwrap();
        assert!(matches!(Backing::open(file.path()), Err(DiskProblem::Claimed(_))));
        drop(first);
        assert_eq!(Backing::open(file.path()).unwrap().bytes(), 1 << 20);
    }

    #[test]
    fn unaligned_memory_is_written_piece_by_piece() {
        let file = file(1 << 20);
        let disk = Backing::open(file.path()).unwrap();
        let bytes: Vec<u8> = (0..12288u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
        disk.write_copied(4096, &bytes, &mut Aligned::zeroed(4096)).unwrap();
        let mut back = Aligned::zeroed(12288);
        disk.read(4096, back.bytes_mut()).unwrap();
        assert_eq!(back.bytes(), bytes);
    }

    #[test]
    fn zeroes_read_as_zeroes_and_room_is_given_back() {
        let file = file(1 << 20);
        let disk = Backing::open(file.path()).unwrap();
        let mut buffer = Aligned::zeroed(256 << 10);
        disk.write_copied(0, &vec![7; 1 << 20], &mut buffer).unwrap();
        disk.flush().unwrap();
        let used = || std::os::unix::fs::MetadataExt::blocks(&file.as_file().metadata().unwrap());
        let before = used();
        disk.zero(Range { offset: 4096, len: 300 << 10 }, true, &mut buffer).unwrap();
        disk.zero(Range { offset: 512 << 10, len: 4096 }, false, &mut buffer).unwrap();
        disk.flush().unwrap();
        assert!(used() < before, "{} of {before} sectors", used());
        let mut back = Aligned::zeroed(1 << 20);
        disk.read(0, back.bytes_mut()).unwrap();
        let zeroes = |from: usize, to: usize| back.bytes()[from..to].iter().all(|byte| *byte == 0);
        assert!(zeroes(4096, 4096 + (300 << 10)) && zeroes(512 << 10, (512 << 10) + 4096));
        assert_eq!(
            (back.bytes()[4095], back.bytes()[4096 + (300 << 10)], back.bytes()[516 << 10]),
            (7, 7, 7)
        );
    }

    #[test]
    fn a_device_without_metadata_says_so() {
        let file = file(4 << 20);
        let error = Backing::open(file.path()).unwrap().attach().unwrap_err();
        assert!(matches!(error, DiskProblem::Meta { error: MetaError::Missing, .. }), "{error}");
    }
}
