//! The few system calls that no library wraps safely: real-time scheduling, the watchdog device, descriptors in the
//! runtime.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::ioctl::opcode;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// `struct watchdog_info` of linux/watchdog.h.
#[repr(C)]
struct WatchdogInfo {
    options: u32,
    firmware_version: u32,
    identity: [u8; 32],
}

/// Lets the runtime wait for a descriptor.
pub(crate) fn register(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, always the same, and stays open until the AsyncFd that now owns it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

/// Runs this thread before all ordinary ones; its children are ordinary again.
pub(crate) fn run_first() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: 0 is the calling thread; the parameters live through the call.
    match unsafe {
        libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &raw const parameters)
    } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets the timeout of a watchdog in seconds; the answer is the one that it really has.
pub(crate) fn watchdog_set_timeout(device: impl AsFd, seconds: i32) -> io::Result<i32> {
    let code = opcode::read_write::<libc::c_int>(b'W', 6);
    let mut value: libc::c_int = seconds;
    // SAFETY: WDIOC_SETTIMEOUT reads and writes one int.
    match unsafe { libc::ioctl(device.as_fd().as_raw_fd(), u64::from(code), &raw mut value) } {
        0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What a watchdog calls itself: `Software Watchdog`, `iTCO_wdt`.
pub(crate) fn watchdog_identity(device: impl AsFd) -> io::Result<String> {
    let code = opcode::read::<WatchdogInfo>(b'W', 0);
    let mut info = WatchdogInfo { options: 0, firmware_version: 0, identity: [0; 32] };
    // SAFETY: WDIOC_GETSUPPORT writes one `struct watchdog_info`.
    match unsafe { libc::ioctl(device.as_fd().as_raw_fd(), u64::from(code), &raw mut info) } {
        0 => {
            let name = info.identity.split(|byte| *byte == 0).next().unwrap_or_default();
            Ok(String::from_utf8_lossy(name).into_owned())
        }
        _ => Err(io::Error::last_os_error()),
    }
}
