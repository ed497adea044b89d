//! Two nodes that connect to each other on loopback, with and without TLS.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::event::{PollFd, Timespec, poll};

use super::*;
use crate::slots::TOTAL;

/// An authority that makes certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A folder with the identity of a host.
    fn member(&self, all: &Path, name: &str) -> PathBuf {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let folder = all.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (file, text) in
            [("ca.pem", &self.pem), ("member.pem", &certificate), ("member.key", &key.serialize_pem())]
        {
            base::file::replace(&folder.join(file), text.as_bytes(), 0o600).unwrap();
        }
        folder
    }
}

struct Node {
    peers: Peers,
    arena: Arena,
    slots: FreeSlots,
    events: Vec<Event>,
}

impl Node {
    fn up(&self) -> Option<LinkId> {
        self.events
            .iter()
            .find_map(|event| if let Event::LinkUp { link } = event { Some(*link) } else { None })
    }

    fn failed(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Event::DialFailed))
    }

    /// One turn of the driver, as far as connections are concerned.
    fn turn(&mut self) {
        let now = 1;
        let mut watched = Vec::new();
        self.peers.watched(&self.slots, &mut watched);
        let mut fds: Vec<PollFd<'_>> = watched.iter().map(|(_, fd, flags)| PollFd::new(fd, *flags)).collect();
        let _ = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 })).unwrap();
        let ready: Vec<Source> = watched
            .iter()
            .zip(&fds)
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|((s, ..), _)| *s)
            .collect();
        for source in ready {
            match source {
                Source::Listener => self.peers.accept(now, &mut self.events),
                Source::Dial => self.peers.dialled(now, &mut self.events),
                Source::Greeting(id) => self.peers.greet(id, now, &mut self.events),
                Source::Link(_) | Source::Closing(_) => {}
            }
        }
    }
}

/// `ha-a` listens, `ha-b` dials; each with a folder for its identity and `tls` of its file.
fn pair(folders: [&Path; 2], tls: [Option<bool>; 2]) -> [Node; 2] {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let elsewhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let node = |i: usize, local, remote, peer: &str| {
        let security = Security { wanted: tls[i], folder: folders[i].to_owned(), peer: peer.to_owned() };
        let peers = Peers::new(local, remote, security, i == 0);
        Node { peers, arena: Arena::new(TOTAL).unwrap(), slots: FreeSlots::all(), events: Vec::new() }
    };
    let mut nodes = [node(0, free, elsewhere, "ha-b"), node(1, elsewhere, free, "ha-a")];
    let [a, b] = &mut nodes;
    a.peers.tick(0, &mut a.events);
    b.peers.dial(0, &mut b.events);
    for _ in 0..1000 {
        let over = |n: &Node| n.up().is_some() || n.failed();
        if over(b) && (a.up().is_some() || a.peers.complaint.is_some()) {
            break;
        }
        a.turn();
        b.turn();
    }
    nodes
}

fn complaint(node: &Node) -> &str {
    node.peers.complaint.as_ref().map_or("", |(text, _)| text)
}

#[test]
fn hosts_with_an_identity_connect_over_tls_and_talk() {
    let all = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let [a, b] = ["ha-a", "ha-b"].map(|name| authority.member(all.path(), name));
    let [mut near, mut far] = pair([&a, &b], [None, Some(true)]);
    let (from, to) = (near.up().unwrap(), far.up().unwrap());
    near.peers.send(&near.arena, from, 7, &Message::Ping { id: 9 }, None).unwrap();
    let mut failed = Vec::new();
    near.peers.flush(&near.arena, &mut failed);
    let mut got = Received::new();
    for _ in 0..1000 {
        far.peers.receive(to, &far.arena, &mut far.slots, &mut got).unwrap();
    }
    assert!(failed.is_empty() && matches!(got.as_slice(), [(7, Message::Ping { id: 9 }, None)]), "{got:?}");
}

#[test]
fn hosts_without_an_identity_connect_in_clear() {
    let none = tempfile::tempdir().unwrap();
    let [a, b] = pair([none.path(), none.path()], [None, None]);
    assert!(a.up().is_some() && b.up().is_some());
}

#[test]
fn nobody_but_the_peer_is_let_in() {
    let all = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let a = ours.member(all.path(), "ha-a");
    // Of the same cluster, but another host.
    let witness = ours.member(all.path(), "witness");
    let [near, _] = pair([&a, &witness], [None, None]);
    assert!(near.up().is_none());
    assert!(
        complaint(&near).contains("it is not ha-b: its certificate is for witness"),
        "{}",
        complaint(&near)
    );
    // The right name, vouched for by somebody else.
    let forged = theirs.member(all.path(), "ha-b");
    let [near, far] = pair([&a, &forged], [None, None]);
    assert!(near.up().is_none() && far.failed());
    assert!(complaint(&far).contains("invalid peer certificate"), "{}", complaint(&far));
}

#[test]
fn the_host_that_is_dialled_must_be_the_peer() {
    let all = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let [witness, b] = ["witness", "ha-b"].map(|name| authority.member(all.path(), name));
    let [near, far] = pair([&witness, &b], [None, None]);
    assert!(near.up().is_none() && far.failed());
    assert!(complaint(&far).contains("not valid for name"), "{}", complaint(&far));
}

#[test]
fn a_host_with_an_identity_talks_to_nobody_in_clear() {
    let all = tempfile::tempdir().unwrap();
    let member = Authority::new().member(all.path(), "ha-a");
    let none = all.path().join("none");
    // Who dials in clear waits for the other's first words, and is hung up on when it says its own.
    let [mut near, mut far] = pair([&member, &none], [None, None]);
    let link = far.up().unwrap();
    far.peers.send(&far.arena, link, 0, &Message::Ping { id: 1 }, None).unwrap();
    far.peers.flush(&far.arena, &mut Vec::new());
    for _ in 0..1000 {
        near.turn();
        if near.peers.complaint.is_some() {
            break;
        }
    }
    assert!(near.up().is_none());
    assert!(complaint(&near).contains("does not speak TLS"), "{}", complaint(&near));
}

#[test]
fn an_unreadable_identity_is_told_and_nothing_goes_in_clear() {
    let all = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let [a, b] = ["ha-a", "ha-b"].map(|name| authority.member(all.path(), name));
    std::fs::remove_file(b.join("member.key")).unwrap();
    let [near, far] = pair([&a, &b], [None, None]);
    assert!(near.up().is_none() && far.failed());
    assert!(complaint(&far).contains("member.key"), "{}", complaint(&far));
}
