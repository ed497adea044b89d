//! The ioctls of loop devices (linux/loop.h, drivers/block/loop.c).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

const LOOP_CLR_FD: libc::Ioctl = 0x4C01;
const LOOP_GET_STATUS64: libc::Ioctl = 0x4C05;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
/// Let partitions be added to the device.
const LO_FLAGS_PARTSCAN: u32 = 8;
/// How often another process may snatch the free device before we give up.
const ATTEMPTS: u32 = 64;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

const EMPTY: LoopInfo64 = LoopInfo64 {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    sizelimit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    file_name: [0; 64],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

/// What a loop device says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LoopStatus {
    /// The name its maker gave it.
    pub(crate) name: String,
    /// The device number of the file system that holds the file behind it, as stat(2) has it.
    pub(crate) file_system: u64,
}

/// The node of a loop device.
pub(crate) fn node(number: u32) -> PathBuf {
    PathBuf::from(format!("/dev/loop{number}"))
}

/// Attaches a file to a free loop device and returns the device's number.
pub(crate) fn attach(file: &Path) -> io::Result<u32> {
    let backing = File::options().read(true).write(true).open(file)?;
    let control = File::options().read(true).write(true).open("/dev/loop-control")?;
    let fd = u32::try_from(backing.as_raw_fd()).map_err(io::Error::other)?;
    let info = LoopInfo64 { flags: LO_FLAGS_PARTSCAN, ..EMPTY };
    let config = LoopConfig { fd, block_size: 512, info, reserved: [0; 8] };
    for _ in 0..ATTEMPTS {
        // SAFETY: LOOP_CTL_GET_FREE takes no argument and returns a number; the descriptor is open.
        let free = checked(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) })?;
        let number = u32::try_from(free).map_err(io::Error::other)?;
        let device = File::options().read(true).write(true).open(node(number))?;
        // SAFETY: LOOP_CONFIGURE reads one `struct loop_config`, which `config` is, laid out as in C; both
        // descriptors are open.
        match checked(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) }) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            other => return other.map(|_| number),
        }
    }
    Err(io::Error::from(io::ErrorKind::ResourceBusy))
}

/// Detaches the file; the kernel does it as soon as nobody has the device open any more.
pub(crate) fn detach(number: u32) -> io::Result<()> {
    let device = File::open(node(number))?;
    // SAFETY: LOOP_CLR_FD takes no argument; the descriptor is open.
    match checked(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CLR_FD) }) {
        // ENXIO: nothing is attached.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(()),
        other => other.map(drop),
    }
}

/// Asks a loop device for its name; `None` when nothing is attached.
pub(crate) fn status(number: u32) -> io::Result<Option<LoopStatus>> {
    let device = match File::open(node(number)) {
        Err(error) if [Some(libc::ENXIO), Some(libc::ENOENT)].contains(&error.raw_os_error()) => {
            return Ok(None);
        }
        other => other?,
    };
    let mut info = EMPTY;
    // SAFETY: LOOP_GET_STATUS64 writes one `struct loop_info64`, which `info` is, laid out as in C; the
    // descriptor is open.
    match checked(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) }) {
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(error),
        Ok(_) => {
            let name = info.file_name.split(|byte| *byte == 0).next().unwrap_or_default();
            let name = String::from_utf8_lossy(name).into_owned();
            Ok(Some(LoopStatus { name, file_system: info.device }))
        }
    }
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_kernels_size() {
        assert_eq!(size_of::<LoopInfo64>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }
}
