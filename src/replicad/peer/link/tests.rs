//! Two ends of a real connection on loopback.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use replica::event::Range;
use replica::state::DiskState;
use rustix::event::{PollFd, PollFlags, poll};

use super::*;
use crate::slots::{RECEIVE_SLOTS, TOTAL};

struct End {
    link: Link,
    arena: Arena,
    slots: FreeSlots,
}

fn ends() -> [End; 2] {
    wired(|socket, _| Wire::clear(socket))
}

/// The same, behind TLS.
fn secured_ends() -> [End; 2] {
    let (server, client) = configurations();
    let mut ends = wired(|socket, dialled| {
        let session = if dialled {
            let name = "localhost".try_into().unwrap();
            rustls::ClientConnection::new(Arc::clone(&client), name).unwrap().into()
        } else {
            rustls::ServerConnection::new(Arc::clone(&server)).unwrap().into()
        };
        Wire::secured(socket, session)
    });
    // Both have a turn each time.
    while ends.each_mut().map(|end| end.link.wire.greet().unwrap()) != [true, true] {}
    ends
}

/// For one connection without certificates of members: those have their own tests.
fn configurations() -> (Arc<rustls::ServerConfig>, Arc<rustls::ClientConfig>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

fn wired(wire: impl Fn(TcpStream, bool) -> Wire) -> [End; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    [(near, true), (far, false)].map(|(socket, dialled)| {
        socket.set_nonblocking(true).unwrap();
        let link = Link::new(LinkId(0), wire(socket, dialled));
        End { link, arena: Arena::new(TOTAL).unwrap(), slots: FreeSlots::all() }
    })
}

impl End {
    fn send_block(&mut self, id: u64, len: usize, fill: u8) {
        let slot = Slot(0);
        self.link.let_go_of(&self.arena, slot);
        self.arena.bytes_mut(slot, 0, len).fill(fill);
        let range = Range { offset: id * 4096, len: u32::try_from(len).unwrap() };
        self.link.send(&self.arena, 0, &Message::Write { id, range }, Some((slot, len))).unwrap();
    }

    fn receive(&mut self, out: &mut Vec<(Message, Option<Slot>)>) -> Result<(), LinkEnd> {
        let mut received = Vec::new();
        let result = self.link.receive(&self.arena, &mut self.slots, &mut received);
        out.extend(received.into_iter().map(|(_, message, slot)| (message, slot)));
        result
    }
}

/// Moves bytes from one end to the other until `count` messages are there.
fn carry(from: &mut End, to: &mut End, count: usize) -> Vec<(Message, Option<Slot>)> {
    let mut out = Vec::new();
    while out.len() < count {
        from.link.flush(&from.arena).unwrap();
        if !to.link.has_more(&to.slots) {
            poll(&mut [PollFd::new(&to.link, PollFlags::IN)], None).unwrap();
        }
        to.receive(&mut out).unwrap();
    }
    out
}

#[test]
fn messages_of_all_sizes_arrive_in_order_and_whole() {
    for [a, b] in [ends(), secured_ends()] {
        send_all_sizes(a, b);
    }
}

fn send_all_sizes(mut a: End, mut b: End) {
    let sizes = [4096, 1 << 20, 8192, 300 << 10];
    for (id, size) in (0..).zip(sizes) {
        a.send_block(id, size, u8::try_from(id).unwrap() + 1);
        a.link.send(&a.arena, 0, &Message::Ping { id }, None).unwrap();
    }
    let got = carry(&mut a, &mut b, 2 * sizes.len());
    for (pair, (id, size)) in got.chunks(2).zip((0..).zip(sizes)) {
        let [(Message::Write { id: write, range }, Some(slot)), (Message::Ping { id: ping }, None)] = pair
        else {
            panic!("{pair:?}")
        };
        assert_eq!((*write, *ping, range.len as usize), (id, id, size));
        let expected = u8::try_from(id).unwrap() + 1;
        assert!(b.arena.bytes(*slot, size).iter().all(|byte| *byte == expected));
    }
    assert!(!a.link.has_queued());
}

#[test]
fn a_slot_used_again_before_it_was_sent_is_copied_first() {
    for [a, b] in [ends(), secured_ends()] {
        use_a_slot_again(a, b);
    }
}

fn use_a_slot_again(mut a: End, mut b: End) {
    // Far more than the socket's buffers hold, all from the same slot.
    for id in 0..40 {
        a.send_block(id, 1 << 20, u8::try_from(id).unwrap());
        a.link.flush(&a.arena).unwrap();
    }
    let got = carry(&mut a, &mut b, 40);
    for ((message, slot), id) in got.into_iter().zip(0..) {
        assert!(matches!(message, Message::Write { id: found, .. } if found == id));
        let bytes = b.arena.bytes(slot.unwrap(), 1 << 20);
        assert!(bytes.iter().all(|byte| u64::from(*byte) == id));
    }
}

#[test]
fn without_free_slots_the_peer_waits_and_nothing_is_lost() {
    for [a, b] in [ends(), secured_ends()] {
        run_out_of_slots(a, b);
    }
}

fn run_out_of_slots(mut a: End, mut b: End) {
    let count = u64::from(RECEIVE_SLOTS) + 10;
    for id in 0..count {
        a.send_block(id, 4096, 9);
    }
    let mut got = carry(&mut a, &mut b, RECEIVE_SLOTS as usize);
    b.receive(&mut got).unwrap();
    assert_eq!(got.len(), RECEIVE_SLOTS as usize);
    assert!(b.link.wants_slot() && !b.link.has_more(&b.slots));
    for (_, slot) in got.drain(..) {
        b.slots.give(slot.unwrap());
    }
    assert!(b.link.has_more(&b.slots));
    let rest = carry(&mut a, &mut b, 10);
    assert!(matches!(rest[9].0, Message::Write { id, .. } if id == count - 1));
}

#[test]
fn foreign_bytes_end_the_connection() {
    let [mut a, mut b] = ends();
    rustix::io::write(&a.link, b"GET / HTTP/1.1\r\nHost: somebody-else.example\r\n\r\n").unwrap();
    poll(&mut [PollFd::new(&b.link, PollFlags::IN)], None).unwrap();
    let end = b.receive(&mut Vec::new()).unwrap_err();
    assert!(matches!(end, LinkEnd::Protocol(DecodeError::Magic(_))), "{end}");
    assert!(a.link.send(&a.arena, 0, &Message::Pong { id: 1 }, None).is_ok());
}

#[test]
fn a_goodbye_before_the_close_is_received() {
    for [a, b] in [ends(), secured_ends()] {
        say_goodbye(a, b);
    }
}

fn say_goodbye(mut a: End, mut b: End) {
    a.link.send(&a.arena, 0, &Message::Goodbye { disk: DiskState::UpToDate }, None).unwrap();
    a.link.flush(&a.arena).unwrap();
    a.link.shut();
    let mut got = Vec::new();
    let end = loop {
        poll(&mut [PollFd::new(&b.link, PollFlags::IN)], None).unwrap();
        if let Err(end) = b.receive(&mut got) {
            break end;
        }
    };
    assert!(matches!(got.as_slice(), [(Message::Goodbye { .. }, None)]), "{got:?}");
    assert!(matches!(end, LinkEnd::Closed), "{end}");
}
