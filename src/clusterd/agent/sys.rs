//! Packet sockets: neighbours are asked and told on the link itself (packet(7)).

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// A socket that sends whole Ethernet frames on one interface and hears those of one protocol
/// (`ETH_P_*`, see linux/if_ether.h).
pub(super) fn packet_socket(interface: u32, protocol: u16) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Protocol 0 hears nothing until it is bound.
    let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
    bind(socket.as_fd(), interface, protocol)?;
    Ok(socket)
}

fn bind(socket: impl AsFd, interface: u32, protocol: u16) -> io::Result<()> {
    let out_of_range = |_| io::Error::from(io::ErrorKind::InvalidInput);
    // SAFETY: sockaddr_ll is plain data for which all zeros is valid.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).map_err(out_of_range)?;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = i32::try_from(interface).map_err(out_of_range)?;
    let length = u32::try_from(mem::size_of_val(&address)).map_err(out_of_range)?;
    // SAFETY: the address lives through the call and is as long as said; the descriptor is open.
    let result = unsafe { libc::bind(socket.as_fd().as_raw_fd(), (&raw const address).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
