//! A packet socket of one interface (packet(7)), which the safe interfaces cannot bind.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

/// Opens a socket that hears the ARP frames of this interface, whole, and sends there.
pub(super) fn arp_socket(interface: &str) -> io::Result<OwnedFd> {
    // It hears nothing until it is bound, so that no frame of another interface comes in.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
    let index = netdevice::name_to_index(&socket, interface)?;
    let number = |value: libc::c_int| u16::try_from(value).map_err(io::Error::other);
    let address = libc::sockaddr_ll {
        sll_family: number(libc::AF_PACKET)?,
        sll_protocol: number(libc::ETH_P_ARP)?.to_be(),
        sll_ifindex: i32::try_from(index).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: bind reads `length` bytes at the pointer, which is `address`, whole and alive; the socket is open.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}
