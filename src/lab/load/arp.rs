//! Who answers for the virtual address: ARP requests to all of the public segment from a port of our own.
//!
//! The port is another than the client's, and carries no address, so that the answers teach the client nothing:
//! it must learn of a move from the host that takes the address over. Links that are cut do not concern it: a
//! host that nobody else hears is still asked. The requests name a sender, because those without one are
//! taken for a sign that somebody else wants the address (RFC 5227, 2.1.1). Each names another sender, so that
//! an answer tells which request it belongs to, however late it comes.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use anyhow::Context as _;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::client;
use super::sys;
use crate::child;
use crate::layout::{Lab, Segment, VIRTUAL_IP};

/// The two ends of our cable: this one is ours, the other one is plugged into the public segment.
const OURS: &str = "auditor";
const PLUG: &str = "auditor-public";
/// Our own link-layer address: a lab's segment is its own, so it can be the same in every lab.
const OWN: Mac = [0x02, 0, 0, 0, 0, 0xAD];
/// The senders that requests name: addresses that no host of a lab has, as many as requests can be waiting.
const FIRST_SENDER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 192);
pub(super) const SENDERS: u8 = 32;
/// Bytes of an ARP request or reply for IPv4 over Ethernet.
const FRAME_BYTES: usize = 42;
/// What comes before the addresses: Ethernet, IPv4, six and four bytes.
const KIND: [u8; 6] = [0, 1, 0x08, 0, 6, 4];

/// A link-layer address.
pub(super) type Mac = [u8; 6];

/// Asks for the virtual address.
#[derive(Debug)]
pub(super) struct Asker {
    socket: OwnedFd,
}

/// Our cable; unplugged when dropped.
#[derive(Debug)]
pub(super) struct Cable {
    lab: Lab,
}

impl Cable {
    pub(super) fn plug(lab: &Lab) -> anyhow::Result<Self> {
        // Of an auditor that was killed.
        let _ = ip(lab, &["link", "delete", "dev", OURS]);
        let text = shown(OWN);
        let words = ["link", "add", "name", OURS, "address", &text, "type", "veth", "peer", "name", PLUG];
        ip(lab, &words).context("give the auditor a cable")?;
        let cable = Self { lab: lab.clone() };
        ip(lab, &["link", "set", "dev", PLUG, "master", Segment::Public.as_str(), "up"])
            .context("plug the auditor's cable in")?;
        ip(lab, &["link", "set", "dev", OURS, "up"]).context("plug the auditor's cable in")?;
        Ok(cable)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // It goes with the lab at the latest.
        let _ = ip(&self.lab, &["link", "delete", "dev", OURS]);
    }
}

impl Asker {
    /// Moves the calling thread into the lab's network namespace, where the cable must be.
    pub(super) fn enter(lab: &Lab) -> anyhow::Result<Self> {
        client::enter(&lab.netns_path())?;
        Ok(Self { socket: sys::arp_socket(OURS).context("open a socket for ARP")? })
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Asks once; answers will carry the number, which is less than [`SENDERS`].
    pub(super) fn ask(&self, number: u8) -> anyhow::Result<()> {
        match send(&self.socket, &request(number), SendFlags::empty()) {
            Ok(_) | Err(Errno::AGAIN | Errno::NOBUFS) => Ok(()),
            Err(error) => Err(error).context("send an ARP request"),
        }
    }

    /// The next answer that has come: to which request, and who gave it.
    pub(super) fn answer(&self) -> anyhow::Result<Option<(u8, Mac)>> {
        let mut frame = [0; 128];
        loop {
            match recv(&self.socket, &mut frame[..], RecvFlags::empty()) {
                Ok((bytes, _)) => {
                    if let Some(answer) = frame.get(..bytes).and_then(answer) {
                        return Ok(Some(answer));
                    }
                }
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("receive an ARP reply"),
            }
        }
    }
}

fn sender(number: u8) -> Ipv4Addr {
    let [a, b, c, first] = FIRST_SENDER.octets();
    Ipv4Addr::new(a, b, c, first + number % SENDERS)
}

fn request(number: u8) -> [u8; FRAME_BYTES] {
    let mut frame = [0; FRAME_BYTES];
    let parts: [&[u8]; 9] = [
        &[0xFF; 6],
        &OWN,
        &[0x08, 0x06],
        &KIND,
        &[0, 1],
        &OWN,
        &sender(number).octets(),
        &[0; 6],
        &VIRTUAL_IP.0.octets(),
    ];
    for (place, byte) in frame.iter_mut().zip(parts.into_iter().flatten()) {
        *place = *byte;
    }
    frame
}

/// Only a reply to us counts: what a host announces to all by itself is not an answer.
fn answer(frame: &[u8]) -> Option<(u8, Mac)> {
    let (to, rest) = frame.split_first_chunk::<6>()?;
    let (_, rest) = rest.split_first_chunk::<6>()?;
    let (kind, rest) = rest.split_first_chunk::<10>()?;
    let (from, rest) = rest.split_first_chunk::<6>()?;
    let (address, rest) = rest.split_first_chunk::<4>()?;
    let (_, rest) = rest.split_first_chunk::<6>()?;
    let (asked, _) = rest.split_first_chunk::<4>()?;
    let is_reply = kind.starts_with(&[0x08, 0x06]) && kind.ends_with(&[0, 2]);
    let of_address = Ipv4Addr::from(*address) == VIRTUAL_IP.0;
    let number = (0..SENDERS).find(|number| sender(*number) == Ipv4Addr::from(*asked))?;
    (*to == OWN && is_reply && of_address).then_some((number, *from))
}

/// As `ip link` shows it.
pub(super) fn shown(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn ip(lab: &Lab, words: &[&str]) -> anyhow::Result<()> {
    let mut command = child::program("ip");
    command.args(["-netns", &lab.netns()]).args(words);
    child::run(&mut command)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Mac = [0x02, 1, 2, 3, 4, 5];

    fn reply(to: Mac, operation: u8, number: u8) -> Vec<u8> {
        let mut frame = request(number).to_vec();
        frame[..6].copy_from_slice(&to);
        frame[6..12].copy_from_slice(&HOST);
        frame[21] = operation;
        frame[22..28].copy_from_slice(&HOST);
        frame[28..32].copy_from_slice(&VIRTUAL_IP.0.octets());
        frame[32..38].copy_from_slice(&OWN);
        frame[38..42].copy_from_slice(&sender(number).octets());
        frame
    }

    #[test]
    fn an_answer_tells_who_gave_it_and_to_which_request() {
        assert_eq!(answer(&reply(OWN, 2, 31)), Some((31, HOST)));
        assert_eq!(answer(&reply(OWN, 2, 0)), Some((0, HOST)));
    }

    #[test]
    fn requests_announcements_and_scraps_are_no_answers() {
        assert_eq!(answer(&request(3)), None);
        assert_eq!(answer(&reply([0xFF; 6], 2, 3)), None, "an announcement to all");
        assert_eq!(answer(&reply(OWN, 1, 3)), None, "a request");
        let whole = reply(OWN, 2, 3);
        for length in 0..FRAME_BYTES {
            assert_eq!(answer(&whole[..length]), None, "{length} bytes");
        }
    }
}
