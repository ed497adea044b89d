//! What is said to neighbours on the link: ARP (RFC 826, RFC 5227) and unsolicited neighbour advertisements
//! (RFC 4861 section 7.2.6), as whole Ethernet frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Hardware address of an Ethernet interface.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Mac(pub(super) [u8; 6]);

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// `ETH_P_ARP`
pub(super) const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const EVERYBODY: Mac = Mac([0xff; 6]);
const NOBODY: Mac = Mac([0; 6]);

/// "Who has this address?", asked without claiming it.
pub(super) fn probe(own: Mac, address: Ipv4Addr) -> Vec<u8> {
    arp(REQUEST, own, Ipv4Addr::UNSPECIFIED, NOBODY, address)
}

/// "This address is here": as a request and as a reply, since neighbours differ in which one they believe.
pub(super) fn announcements(own: Mac, address: IpAddr) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(address) => {
            vec![arp(REQUEST, own, address, NOBODY, address), arp(REPLY, own, address, EVERYBODY, address)]
        }
        IpAddr::V6(address) => vec![advertisement(own, address)],
    }
}

/// Who says that an address is theirs, if this frame says so: the sender of any ARP packet, RFC 5227 section 2.4.
/// A probe claims nothing; it is from 0.0.0.0.
pub(super) fn claimed(frame: &[u8], address: Ipv4Addr) -> Option<Mac> {
    let kind: [u8; 2] = frame.get(12..14)?.try_into().ok()?;
    let formats = frame.get(14..20)?;
    let sender: [u8; 6] = frame.get(22..28)?.try_into().ok()?;
    let its: [u8; 4] = frame.get(28..32)?.try_into().ok()?;
    let is_arp = u16::from_be_bytes(kind) == ARP && formats == [0, 1, 8, 0, 6, 4];
    (is_arp && Ipv4Addr::from(its) == address).then_some(Mac(sender))
}

fn arp(operation: u16, sender: Mac, sender_ip: Ipv4Addr, target: Mac, target_ip: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(EVERYBODY, sender, ARP);
    // Ethernet, IPv4, lengths of their addresses.
    frame.extend([0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    frame.extend(sender.0);
    frame.extend(sender_ip.octets());
    frame.extend(target.0);
    frame.extend(target_ip.octets());
    frame
}

fn advertisement(own: Mac, address: Ipv6Addr) -> Vec<u8> {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    const ICMPV6: u8 = 58;
    // Type, code, checksum to come, flags: override what is known.
    let mut body = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    body.extend(address.octets());
    // Option: target link-layer address, one unit of eight bytes.
    body.extend([2, 1]);
    body.extend(own.0);
    let length = u16::try_from(body.len()).unwrap_or_default();
    let mut pseudo = address.octets().to_vec();
    pseudo.extend(ALL_NODES.octets());
    pseudo.extend(u32::from(length).to_be_bytes());
    pseudo.extend([0, 0, 0, ICMPV6]);
    pseudo.extend(&body);
    if let Some(place) = body.get_mut(2..4) {
        place.copy_from_slice(&checksum(&pseudo).to_be_bytes());
    }
    let mut frame = ethernet(Mac([0x33, 0x33, 0, 0, 0, 1]), own, IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    // Hop limit 255: not from beyond a router.
    frame.extend([ICMPV6, 255]);
    frame.extend(address.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(body);
    frame
}

fn ethernet(to: Mac, from: Mac, kind: u16) -> Vec<u8> {
    let mut frame = to.0.to_vec();
    frame.extend(from.0);
    frame.extend(kind.to_be_bytes());
    frame
}

/// The Internet's checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u64::from(u16::from_be_bytes([high, low])),
        _ => 0,
    });
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);

    #[test]
    fn an_announcement_claims_the_address_and_a_probe_does_not() {
        assert!(claimed(&probe(OWN, VIP), VIP).is_none());
        for frame in announcements(OWN, VIP.into()) {
            assert_eq!(frame.len(), 42);
            assert!(claimed(&frame, VIP) == Some(OWN));
            assert!(claimed(&frame, Ipv4Addr::new(203, 0, 113, 11)).is_none());
        }
    }

    #[test]
    fn no_frame_of_any_length_is_misread() {
        let frame = announcements(OWN, VIP.into()).remove(0);
        for length in 0..32 {
            assert!(claimed(&frame[..length], VIP).is_none());
        }
    }

    #[test]
    fn an_advertisement_has_a_checksum_that_adds_up() {
        let address: Ipv6Addr = "2001:db8::10".parse().unwrap();
        let frame = announcements(OWN, address.into()).remove(0);
        let (header, body) = frame[14..].split_at(40);
        let mut pseudo = header[8..40].to_vec();
        pseudo.extend([0, 0, 0, 32, 0, 0, 0, 58]);
        pseudo.extend(body);
        assert_eq!(checksum(&pseudo), 0);
    }
}
