//! A FUSE server for one file, on a bare `/dev/fuse` descriptor: what the loop device sits on.
//!
//! The mount is detached: it exists in no namespace, no path leads to it, nothing but the loop device keeps it
//! alive. Data requests become [`FrontOp`]s, everything else is answered here. A WRITE is answered in full or
//! with an error, never in part: the loop driver takes a short write for a success.
//!
//! This process must never open the file itself: a thread that waits on its own FUSE server cannot be killed.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use replica::control::Waits;
use replica::event::{FrontError, FrontOp, MAX_IO_BYTES, RESYNC_SLOTS, Slot};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::wire::{self, In, Offer, op};
use crate::journal::{HEAD, Journal};
use crate::slots::{FRONT_SLOTS, FreeSlots};
use crate::sys::Arena;

/// Requests taken in one go before the driver looks at other work.
const BATCH: usize = 64;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Read(u32),
    Write(u32),
    Flush,
    Zero,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    unique: u64,
    kind: Kind,
    since: Instant,
}

/// Why the server ended.
#[derive(Debug, thiserror::Error)]
pub enum FuseEnd {
    /// The kernel has let go of the file: the loop device is gone.
    #[error("the block device was taken away")]
    Gone,
    /// The kernel lacks what is needed.
    #[error(
        "the kernel's FUSE offers no asynchronous direct I/O (FUSE_ASYNC_DIO), without which the loop device reports failed writes as done: use a kernel that has it (3.13 or newer)"
    )]
    Unsuitable,
    /// The descriptor failed.
    #[error("read /dev/fuse: {0}")]
    Failed(io::Error),
}

/// The server.
#[derive(Debug)]
pub struct Fuse {
    fd: OwnedFd,
    /// Name of the one file.
    name: String,
    bytes: u64,
    arena: Arc<Arena>,
    journal: Journal,
    pending: Vec<Option<Pending>>,
    waits: Waits,
}

impl Fuse {
    /// Makes the connection and the detached mount; the second value is the mount, for the helper that opens
    /// the file.
    pub fn mount(name: &str, bytes: u64, arena: Arc<Arena>) -> io::Result<(Self, OwnedFd)> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        super::ensure_node("/dev/fuse", rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(10, 229))?;
        let fd = rustix::fs::open("/dev/fuse", flags, Mode::empty())?;
        let fs = rustix::mount::fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let set = |key: &str, value: &str| rustix::mount::fsconfig_set_string(&fs, key, value);
        set("source", name)?;
        set("fd", &std::os::fd::AsRawFd::as_raw_fd(&fd).to_string())?;
        set("rootmode", "40000")?;
        set("user_id", "0")?;
        set("group_id", "0")?;
        set("max_read", &MAX_IO_BYTES.to_string())?;
        rustix::mount::fsconfig_create(&fs)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let mount = rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        Ok((Self::take_over(fd, name, bytes, arena), mount))
    }

    /// Goes on with the connection of an earlier process.
    #[must_use]
    pub fn take_over(fd: OwnedFd, name: &str, bytes: u64, arena: Arc<Arena>) -> Self {
        let journal = Journal::new(Arc::clone(&arena));
        let pending = (0..FRONT_SLOTS).map(|_| None).collect();
        Self { fd, name: name.to_owned(), bytes, arena, journal, pending, waits: Waits::default() }
    }

    /// Begins once more what an earlier process has taken and, as far as is known, not answered.
    pub fn recall(&mut self, slots: &mut FreeSlots, out: &mut Vec<(Slot, FrontOp)>) -> Result<(), FuseEnd> {
        for slot in self.journal.unanswered() {
            slots.take(slot);
            let mut head = [0; HEAD];
            head.copy_from_slice(self.journal.head(slot));
            let len = wire::u32_at(&head, 0).unwrap_or_default() as usize;
            self.take(&head, slot, len, slots, out)?;
        }
        Ok(())
    }

    /// Size of the file in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file is larger from now on. The kernel is told: were it to ask, it would take no notice of the answer while
    /// something is written.
    pub fn grow(&mut self, bytes: u64) {
        self.bytes = bytes;
        let (header, body) = wire::notice_of_size(bytes);
        if let Err(error) = rustix::io::writev(&self.fd, &[IoSlice::new(&header), IoSlice::new(&body)]) {
            tracing::error!("tell the kernel that the device has {bytes} bytes: {error}");
        }
    }

    /// Takes requests until there are none, slots run out or a batch is full; data requests go to `out`.
    pub fn receive(&mut self, slots: &mut FreeSlots, out: &mut Vec<(Slot, FrontOp)>) -> Result<(), FuseEnd> {
        for _ in 0..BATCH {
            let Some(slot) = slots.take_front() else { return Ok(()) };
            let place = self.journal.begin(slot);
            let room = self.arena.bytes_mut(slot, 0, MAX_IO_BYTES as usize);
            let taken = rustix::io::readv(&self.fd, &mut [IoSliceMut::new(place), IoSliceMut::new(room)]);
            let mut head = [0; HEAD];
            head.copy_from_slice(place);
            match taken {
                Ok(len) => self.take(&head, slot, len, slots, out)?,
                Err(error) => {
                    self.journal.end(slot);
                    slots.give(slot);
                    match error {
                        Errno::AGAIN => return Ok(()),
                        // Interrupted, or a request that was given up while it was read.
                        Errno::INTR | Errno::NOENT => {}
                        Errno::NODEV | Errno::CONNABORTED => return Err(FuseEnd::Gone),
                        other => return Err(FuseEnd::Failed(other.into())),
                    }
                }
            }
        }
        Ok(())
    }

    /// Puts a data request into `out`, answers any other.
    fn take(
        &mut self,
        head: &[u8; HEAD],
        slot: Slot,
        len: usize,
        slots: &mut FreeSlots,
        out: &mut Vec<(Slot, FrontOp)>,
    ) -> Result<(), FuseEnd> {
        if let Some(operation) = self.request(head, slot, len)? {
            out.push((slot, operation));
        } else {
            self.journal.end(slot);
            slots.give(slot);
        }
        Ok(())
    }

    fn request(&mut self, head: &[u8; HEAD], slot: Slot, len: usize) -> Result<Option<FrontOp>, FuseEnd> {
        let Some(request) = In::parse(head) else { return Ok(None) };
        let data = match request.opcode {
            op::READ => wire::extent(head).map(|range| (Kind::Read(range.len), FrontOp::Read(range))),
            op::WRITE => wire::extent(head).map(|range| (Kind::Write(range.len), FrontOp::Write(range))),
            op::FSYNC => Some((Kind::Flush, FrontOp::Flush)),
            op::FALLOCATE => wire::zeroed(head).map(|(range, unmap)| {
                // What a peer gets whose program knows only data.
                self.arena.bytes_mut(slot, 0, MAX_IO_BYTES as usize).fill(0);
                (Kind::Zero, FrontOp::Zero { range, unmap })
            }),
            _ => {
                let argument = argument(head, &self.arena, slot, len);
                self.control(request, &argument)?;
                return Ok(None);
            }
        };
        let (kind, operation) = match data {
            Some((Kind::Read(len) | Kind::Write(len), _)) if len > MAX_IO_BYTES => {
                self.answer(request.unique, libc::EINVAL, &[]);
                return Ok(None);
            }
            Some(data) => data,
            None => {
                self.answer(request.unique, libc::EOPNOTSUPP, &[]);
                return Ok(None);
            }
        };
        if let Some(entry) = self.entry(slot) {
            *entry = Some(Pending { unique: request.unique, kind, since: Instant::now() });
        }
        Ok(Some(operation))
    }

    fn entry(&mut self, slot: Slot) -> Option<&mut Option<Pending>> {
        self.pending.get_mut(slot.0.checked_sub(RESYNC_SLOTS)? as usize)
    }

    /// Answers everything that is not data.
    fn control(&mut self, request: In, argument: &[u8]) -> Result<(), FuseEnd> {
        let size = if request.node == wire::ROOT { 0 } else { self.bytes };
        let body = match request.opcode {
            op::INIT => return self.init(request.unique, argument),
            op::FORGET | op::BATCH_FORGET | op::INTERRUPT => return Ok(()),
            op::LOOKUP if wire::name(argument) == self.name.as_bytes() => {
                Ok(wire::entry(wire::FILE, self.bytes))
            }
            op::LOOKUP => Err(libc::ENOENT),
            op::GETATTR => Ok(wire::attributes(request.node, size)),
            op::OPEN => Ok(wire::opened()),
            op::STATFS => Ok(wire::statistics()),
            op::RELEASE | op::DESTROY => Ok(Vec::new()),
            // Also FLUSH and GETXATTR: the kernel remembers this and does not ask again.
            _ => Err(libc::ENOSYS),
        };
        match body {
            Ok(body) => self.answer(request.unique, 0, &body),
            Err(errno) => self.answer(request.unique, errno, &[]),
        }
        Ok(())
    }

    fn init(&self, unique: u64, argument: &[u8]) -> Result<(), FuseEnd> {
        let offer = Offer::parse(argument).filter(|o| o.major == 7 && o.flags & wire::flag::ASYNC_DIO != 0);
        let Some(offer) = offer else {
            self.answer(unique, libc::EPROTO, &[]);
            return Err(FuseEnd::Unsuitable);
        };
        self.answer(unique, 0, &offer.accept(MAX_IO_BYTES));
        Ok(())
    }

    /// Answers a data request. A slot that holds no request (its connection was aborted) is ignored.
    pub fn complete(&mut self, slot: Slot, result: Result<(), FrontError>) {
        let Some(Pending { unique, kind, since }) = self.entry(slot).and_then(Option::take) else { return };
        if result.is_ok() {
            self.count(kind, since);
        }
        match (result, kind) {
            (Err(FrontError::Invalid), _) => self.answer(unique, libc::EINVAL, &[]),
            (Err(FrontError::Io), _) => self.answer(unique, libc::EIO, &[]),
            (Ok(()), Kind::Read(len)) => self.answer(unique, 0, self.arena.bytes(slot, len as usize)),
            (Ok(()), Kind::Write(len)) => self.answer(unique, 0, &wire::written(len)),
            (Ok(()), Kind::Flush | Kind::Zero) => self.answer(unique, 0, &[]),
        }
        self.journal.end(slot);
    }

    fn count(&mut self, kind: Kind, since: Instant) {
        let (number, sum) = match kind {
            Kind::Write(_) => (&mut self.waits.writes, &mut self.waits.write_us),
            Kind::Flush => (&mut self.waits.flushes, &mut self.waits.flush_us),
            Kind::Read(_) | Kind::Zero => return,
        };
        *number += 1;
        *sum = sum.saturating_add(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX));
    }

    /// What was answered, and how long it took.
    #[must_use]
    pub fn waits(&self) -> Waits {
        self.waits
    }

    fn answer(&self, unique: u64, errno: i32, body: &[u8]) {
        let header = wire::out_header(unique, errno, body.len());
        // It fails only when the request is gone (ENOENT, ENODEV): then nobody waits for the answer.
        let _ = rustix::io::writev(&self.fd, &[IoSlice::new(&header), IoSlice::new(body)]);
    }
}

/// What follows the header of a small request: it lies partly in `head`, the rest in the slot.
fn argument(head: &[u8; HEAD], arena: &Arena, slot: Slot, len: usize) -> Vec<u8> {
    let in_head = head.get(wire::IN_HEADER..len.min(head.len())).unwrap_or_default();
    let beyond = arena.bytes(slot, len.saturating_sub(head.len()));
    [in_head, beyond].concat()
}

impl AsFd for Fuse {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
