//! Tells systemd about the state of this service (sd_notify(3)), without its library.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr};

/// Descriptors in one message.
const MOST: usize = 4;

/// Sends a state such as `READY=1` or `STATUS=…`. Does nothing when not run by systemd.
pub fn notify(state: &str) -> io::Result<()> {
    send(state, &[], SendFlags::empty())
}

/// Sends a state together with descriptors, such as `FDSTORE=1` and what systemd shall keep. Never waits: an error when
/// systemd has too much to read.
pub fn notify_with(state: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    send(state, descriptors, SendFlags::DONTWAIT)
}

fn send(state: &str, descriptors: &[BorrowedFd<'_>], flags: SendFlags) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name)?,
        None => SocketAddrUnix::new(path.as_bytes())?,
    };
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors at once"));
    }
    let socket = UnixDatagram::unbound()?;
    let text = [IoSlice::new(state.as_bytes())];
    Ok(sendmsg_addr(&socket, &address, &text, &mut control, flags).map(drop)?)
}

/// Within what systemd wants to hear `WATCHDOG=1` from this process, again and again (`WatchdogSec=`, source:
/// sd_watchdog_enabled(3)).
#[must_use]
pub fn watchdog_within() -> Option<Duration> {
    let micros: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    let pid = std::env::var("WATCHDOG_PID").ok().and_then(|pid| pid.parse::<u32>().ok());
    pid.is_none_or(|pid| pid == std::process::id()).then(|| Duration::from_micros(micros))
}
