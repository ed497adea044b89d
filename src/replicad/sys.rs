//! The unsafe corner of this crate: the slot arena, loop-device ioctls, signals. Nothing here decides anything.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use linux_raw_sys::loop_device as raw;
use replica::event::{MAX_IO_BYTES, Slot};
use rustix::fs::MemfdFlags;
use rustix::io::FdFlags;
use rustix::ioctl::{self, Ioctl, IoctlOutput, NoArg, Opcode, Setter, Updater};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

const SLOT_BYTES: usize = MAX_IO_BYTES as usize;

/// Bytes before the first slot, for what a successor must know: see `legacy` and `journal`.
pub const LEDGER_BYTES: usize = 16 << 10;

/// The payload buffers of one resource: page-aligned, allocated and faulted in once, never grown. They lie in a file
/// in memory, which outlives this process if somebody else holds it.
///
/// # The rule of lending
/// A slot has one owner at a time (the free list, the core, a link that receives into it). Only an operation
/// that the owner asked for writes to it, and only one such operation runs at a time; reads of it (by the
/// disk and by the socket together) may overlap each other, never a write. `driver` and the core keep this
/// rule; the references handed out here rely on it. The ledger belongs to the driver's thread.
#[derive(Debug)]
pub struct Arena {
    memory: OwnedFd,
    base: NonNull<u8>,
    slots: u32,
}

// SAFETY: the memory belongs to the arena alone and lives as long as it does; concurrent access is governed
// by the rule of lending.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    /// Allocates the buffers.
    pub fn new(slots: u32) -> io::Result<Self> {
        let memory = rustix::fs::memfd_create("futago", MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&memory, Self::bytes_of(slots) as u64)?;
        Self::map(memory, slots)
    }

    /// The buffers of a process that has ended.
    pub fn open(memory: OwnedFd, slots: u32) -> io::Result<Self> {
        let found = u64::try_from(rustix::fs::fstat(&memory)?.st_size).unwrap_or_default();
        if found != Self::bytes_of(slots) as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the buffers are of another version"));
        }
        Self::map(memory, slots)
    }

    fn map(memory: OwnedFd, slots: u32) -> io::Result<Self> {
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice, as long as its file, which nobody shortens.
        let base = unsafe { mmap(std::ptr::null_mut(), Self::bytes_of(slots), access, flags, &memory, 0) }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { memory, base, slots })
    }

    /// Bytes up to the end of a number of slots.
    fn bytes_of(slots: u32) -> usize {
        LEDGER_BYTES + slots as usize * SLOT_BYTES
    }

    /// A part of the ledger. One out of bounds is a defect of the program.
    #[must_use]
    #[expect(clippy::mut_from_ref, reason = "the ledger has one user, by the rule of lending")]
    pub fn ledger(&self, at: usize, len: usize) -> &mut [u8] {
        assert!(at <= LEDGER_BYTES && len <= LEDGER_BYTES - at, "beyond the ledger");
        // SAFETY: in bounds; initialised; nobody else uses it.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(at).as_ptr(), len) }
    }

    /// A number in the ledger that is read and written as a whole.
    #[must_use]
    pub fn number(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at <= LEDGER_BYTES - 8, "beyond the ledger");
        // SAFETY: in bounds, aligned, initialised, and used as nothing else.
        unsafe { AtomicU64::from_ptr(self.base.add(at).as_ptr().cast()) }
    }

    /// Start and length of a part of a slot. A slot or length out of bounds is a defect of the program.
    fn part(&self, slot: Slot, start: usize, len: usize) -> NonNull<u8> {
        assert!(
            slot.0 < self.slots && start <= SLOT_BYTES && len <= SLOT_BYTES - start,
            "slot out of bounds"
        );
        // SAFETY: checked above to lie in the mapping.
        unsafe { self.base.add(Self::bytes_of(slot.0) + start) }
    }

    /// The first `len` bytes of a slot.
    #[must_use]
    pub fn bytes(&self, slot: Slot, len: usize) -> &[u8] {
        // SAFETY: in bounds; initialised (zero) since the mapping was made; nobody writes meanwhile, by the
        // rule of lending.
        unsafe { std::slice::from_raw_parts(self.part(slot, 0, len).as_ptr(), len) }
    }

    /// Bytes of a slot to be written to.
    #[must_use]
    #[expect(clippy::mut_from_ref, reason = "the rule of lending makes the owner of the slot the only user")]
    pub fn bytes_mut(&self, slot: Slot, start: usize, len: usize) -> &mut [u8] {
        // SAFETY: in bounds; initialised; nobody else reads or writes meanwhile, by the rule of lending.
        unsafe { std::slice::from_raw_parts_mut(self.part(slot, start, len).as_ptr(), len) }
    }
}

impl AsFd for Arena {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, and every reference into it borrows the arena.
        // An error leaves the memory mapped, which does no harm.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), Self::bytes_of(self.slots)) };
    }
}

struct GetFree;

// SAFETY: LOOP_CTL_GET_FREE takes no argument and returns the number of an unused device.
unsafe impl Ioctl for GetFree {
    type Output = u32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        raw::LOOP_CTL_GET_FREE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(number: IoctlOutput, _: *mut c_void) -> rustix::io::Result<u32> {
        u32::try_from(number).map_err(|_| rustix::io::Errno::RANGE)
    }
}

/// Number of a loop device that is not in use. Another process may take it first.
pub fn loop_get_free(control: impl AsFd) -> io::Result<u32> {
    // SAFETY: the opcode matches its argument, see `GetFree`.
    Ok(unsafe { ioctl::ioctl(control, GetFree) }?)
}

/// Takes away a loop device that is not in use.
pub fn loop_remove(control: impl AsFd, number: u32) -> io::Result<()> {
    // SAFETY: LOOP_CTL_REMOVE takes the number by value.
    Ok(unsafe {
        let remove = ioctl::IntegerSetter::<{ raw::LOOP_CTL_REMOVE }>::new_usize(number as usize);
        ioctl::ioctl(control, remove)
    }?)
}

/// Binds a loop device to a file: direct I/O, 4 KiB blocks, whole file.
pub fn loop_configure(device: impl AsFd, file: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    // SAFETY: plain integers and byte arrays, for which zero is a value.
    let mut config: raw::loop_config = unsafe { std::mem::zeroed() };
    config.fd = u32::try_from(file.as_raw_fd()).unwrap_or(u32::MAX);
    config.block_size = 4096;
    config.info.lo_flags = raw::_bindgen_ty_1::LO_FLAGS_DIRECT_IO as u32;
    // The last byte stays zero: the kernel reads a C string.
    let room = config.info.lo_file_name.len() - 1;
    for (to, from) in config.info.lo_file_name.iter_mut().take(room).zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: LOOP_CONFIGURE reads a `loop_config`.
    Ok(unsafe { ioctl::ioctl(device, Setter::<{ raw::LOOP_CONFIGURE }, _>::new(config)) }?)
}

/// Gives a loop device the size that its file has now.
pub fn loop_set_capacity(device: impl AsFd) -> io::Result<()> {
    // SAFETY: LOOP_SET_CAPACITY takes no argument.
    Ok(unsafe { ioctl::ioctl(device, NoArg::<{ raw::LOOP_SET_CAPACITY }>::new()) }?)
}

/// Unbinds a loop device when the last user has closed it.
pub fn loop_clear(device: impl AsFd) -> io::Result<()> {
    // SAFETY: LOOP_CLR_FD takes no argument.
    Ok(unsafe { ioctl::ioctl(device, NoArg::<{ raw::LOOP_CLR_FD }>::new()) }?)
}

/// Takes back the request to unbind at the last close.
pub fn loop_keep(device: impl AsFd + Copy) -> io::Result<()> {
    // SAFETY: plain integers and byte arrays, for which zero is a value.
    let mut info: raw::loop_info64 = unsafe { std::mem::zeroed() };
    // SAFETY: LOOP_GET_STATUS64 writes a `loop_info64`.
    unsafe { ioctl::ioctl(device, Updater::<{ raw::LOOP_GET_STATUS64 }, _>::new(&mut info)) }?;
    info.lo_flags &= !(raw::_bindgen_ty_1::LO_FLAGS_AUTOCLEAR as u32);
    // SAFETY: LOOP_SET_STATUS64 reads a `loop_info64`.
    Ok(unsafe { ioctl::ioctl(device, Setter::<{ raw::LOOP_SET_STATUS64 }, _>::new(info)) }?)
}

/// Whether a program that takes this process' place inherits a descriptor, which stays open meanwhile.
pub fn set_inherited(descriptor: RawFd, yes: bool) -> io::Result<()> {
    // SAFETY: only its flag is set; a number that is not open is an error (EBADF).
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let flags = if yes { FdFlags::empty() } else { FdFlags::CLOEXEC };
    Ok(rustix::io::fcntl_setfd(borrowed, flags)?)
}

/// Owns a descriptor that the program before this one has left open. To be called once for each.
pub fn inherited(descriptor: RawFd) -> io::Result<OwnedFd> {
    set_inherited(descriptor, false)?;
    // SAFETY: open, as was just seen, and nobody else in this process knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Lets a program that is started get all signals: this process has blocked some for its own threads.
pub fn with_all_signals(command: &mut Command) -> &mut Command {
    let unblock = || {
        // SAFETY: sigemptyset initialises the set that pthread_sigmask reads; both may be called between fork and exec.
        unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            match libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) {
                0 => Ok(()),
                code => Err(io::Error::from_raw_os_error(code)),
            }
        }
    };
    // SAFETY: the closure allocates nothing, takes no lock and calls only what is said above.
    unsafe { command.pre_exec(unblock) }
}

/// SIGTERM and SIGINT, blocked in every thread that is started later, and waited for by one.
#[derive(Clone, Copy)]
pub struct StopSignals(libc::sigset_t);

impl StopSignals {
    /// Blocks them; to be called before threads are started.
    pub fn block() -> io::Result<Self> {
        // SAFETY: sigemptyset initialises the set that the others then read.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGTERM);
            libc::sigaddset(&raw mut set, libc::SIGINT);
            match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) {
                0 => Ok(Self(set)),
                code => Err(io::Error::from_raw_os_error(code)),
            }
        }
    }

    /// Waits for one of them.
    pub fn wait(&self) -> io::Result<()> {
        let mut signal = 0;
        // SAFETY: an initialised set, and a place for the result.
        match unsafe { libc::sigwait(&raw const self.0, &raw mut signal) } {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }
}
