//! Asks an address for an echo (RFC 792, RFC 4443).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, ipproto, recv, send, socket_with,
};
use tokio::io::Interest;
use tokio::time::timeout;

use crate::sys::register;

/// A gateway is on the same segment; longer than this is as good as never.
const ANSWER: Duration = Duration::from_millis(800);
const ECHO: u8 = 8;
const ECHO_REPLY: u8 = 0;
const ECHO_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;
/// An IPv4 header without options; the length is in its first byte, in words.
const WORD_BYTES: usize = 4;

/// Whether it answers. A host that cannot ask does not count it as gone.
pub(super) async fn answers(address: IpAddr) -> bool {
    match timeout(ANSWER, ask(address)).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            tracing::debug!("ask {address} for an echo: {error}");
            true
        }
        // No route, or the host is known to be silent.
        Ok(Err(_)) | Err(_) => false,
    }
}

async fn ask(address: IpAddr) -> io::Result<()> {
    let (family, protocol) = match address {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = register(socket_with(family, SocketType::RAW, flags, Some(protocol))?, Interest::READABLE)?;
    connect(socket.get_ref(), &SocketAddr::new(address, 0))?;
    let token = u32::try_from(base::random::number()? & 0xffff_ffff).unwrap_or(0).to_be_bytes();
    send(socket.get_ref(), &question(address, token), SendFlags::empty())?;
    loop {
        let mut ready = socket.readable().await?;
        match receive(socket.get_ref()) {
            Ok(packet) if is_answer(address, &packet, token) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            Err(error) => return Err(error),
        }
    }
}

fn receive(socket: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut buffer = [0u8; 256];
    let (length, _) = recv(socket, &mut buffer[..], RecvFlags::empty())?;
    Ok(buffer.get(..length).unwrap_or_default().to_vec())
}

/// Type, code, checksum, identifier and sequence number; the kernel fills in the checksum of IPv6.
fn question(address: IpAddr, [a, b, c, d]: [u8; 4]) -> [u8; 8] {
    let kind = if address.is_ipv4() { ECHO } else { ECHO_V6 };
    let sum = u32::from(u16::from_be_bytes([kind, 0]))
        + u32::from(u16::from_be_bytes([a, b]))
        + u32::from(u16::from_be_bytes([c, d]));
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let [high, low] = (!u16::try_from(folded).unwrap_or(0)).to_be_bytes();
    [kind, 0, high, low, a, b, c, d]
}

fn is_answer(address: IpAddr, packet: &[u8], token: [u8; 4]) -> bool {
    let (message, kind) = match address {
        IpAddr::V4(_) => {
            let header = packet.first().map_or(0, |first| usize::from(first & 0x0f) * WORD_BYTES);
            (packet.get(header..).unwrap_or_default(), ECHO_REPLY)
        }
        IpAddr::V6(_) => (packet, ECHO_REPLY_V6),
    };
    message.first() == Some(&kind) && message.get(4..8) == Some(&token[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_has_a_checksum_that_sums_up() {
        let bytes = question(IpAddr::from([127, 0, 0, 1]), [0xff, 0xfe, 0x80, 0x01]);
        let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
        let sum: u32 = words.sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }

    #[tokio::test]
    async fn an_address_of_this_host_answers() {
        // Without the right to ask it counts as answering, too.
        assert!(answers(IpAddr::from([127, 0, 0, 1])).await);
    }

    #[test]
    fn only_the_answer_to_this_very_question_counts() {
        let v4 = IpAddr::from([127, 0, 0, 1]);
        let mut packet = vec![0x45; 20];
        packet.extend([ECHO_REPLY, 0, 0, 0, 1, 2, 3, 4]);
        assert!(is_answer(v4, &packet, [1, 2, 3, 4]));
        assert!(!is_answer(v4, &packet, [1, 2, 3, 5]));
        assert!(!is_answer(v4, &packet[..22], [1, 2, 3, 4]));
    }
}
