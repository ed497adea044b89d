//! All ways of this manager: to the peer one a path, to the witness one an address. The first host opens those to
//! the second; both open those to the witness.
//!
//! A cut segment takes only its own path: each connection leaves from the address of its path, and each path has
//! a listener of its own that talks to nobody but the peer's address on it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cluster::control::PathView;
use cluster::event::PathId;
use cluster::member::{Node, Voter};
use cluster::message::Message;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;

use crate::config::{MANAGER_PORT, Settings};
use crate::link::{self, Dial, Link};
use crate::mailbox::{Input, Mailbox};
use crate::outbox::{Outbox, Parcel};
use crate::tls::Identity;

/// First pause before a lost connection is opened anew; doubles up to the renew interval.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Connections of the peer that have not yet proved who they are: one, and one that follows a broken one.
const MAX_UNPROVEN: usize = 4;
/// Pause after a failed listen or accept.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);
/// Reasons why a way is not up that are told while it is down.
const MAX_REASONS: usize = 8;
/// Connections that wait for being accepted.
const BACKLOG: u32 = 16;

/// The ways to the peer and to the witness.
#[derive(Debug)]
pub(crate) struct Links {
    peer: Vec<Arc<Outbox>>,
    witness: Vec<Arc<Outbox>>,
    peer_voter: Voter,
}

/// What the task of a way knows.
struct Way {
    identity: Arc<Identity>,
    mailbox: Mailbox,
    outbox: Arc<Outbox>,
    from: Voter,
    path: PathId,
    /// Name of the other side, for the log.
    name: String,
    silence: Duration,
    /// Why a connection was refused last: said once, however often it is tried.
    refused: Mutex<String>,
}

impl Links {
    /// Begins to open and to accept.
    pub(crate) fn start(settings: &Settings, identity: &Arc<Identity>, mailbox: &Mailbox) -> Self {
        let core = &settings.core;
        let (node, peer) = (core.node, core.node.peer());
        let silence = Duration::from_millis(core.timing.holder_lease_ms);
        let longest_pause = Duration::from_millis(core.timing.renew_ms);
        let way = |from: Voter, path: usize, name: &str| Way {
            identity: Arc::clone(identity),
            mailbox: mailbox.clone(),
            outbox: Arc::default(),
            from,
            path: PathId(u8::try_from(path).unwrap_or(u8::MAX)),
            name: name.to_owned(),
            silence,
            refused: Mutex::default(),
        };
        let dial = |to: Voter, source: Option<IpAddr>, target: SocketAddr| Dial {
            cluster: core.cluster.clone(),
            me: node.into(),
            to,
            source,
            target,
            silence,
        };
        let mut links = Self { peer: Vec::new(), witness: Vec::new(), peer_voter: peer.into() };
        let pairs = settings.paths(node).iter().zip(settings.paths(peer));
        for (path, (here, there)) in pairs.enumerate() {
            let way = way(peer.into(), path, core.name(peer));
            links.peer.push(Arc::clone(&way.outbox));
            match node {
                Node::A => {
                    let dial = dial(peer.into(), Some(*here), SocketAddr::new(*there, MANAGER_PORT));
                    tokio::spawn(way.keep_open(dial, longest_pause));
                }
                Node::B => {
                    let place = SocketAddr::new(*here, MANAGER_PORT);
                    tokio::spawn(Arc::new(way).listen(core.cluster.clone(), place, *there));
                }
            }
        }
        if let Some(witness) = &settings.witness {
            for (path, target) in witness.addresses.iter().enumerate() {
                let way = way(Voter::Witness, path, &witness.name);
                links.witness.push(Arc::clone(&way.outbox));
                tokio::spawn(way.keep_open(dial(Voter::Witness, None, *target), longest_pause));
            }
        }
        links
    }

    /// Adds the configured ways on which nothing was heard yet.
    pub(crate) fn complete(&self, seen: &mut Vec<PathView>) {
        for (to, ways) in [("peer", &self.peer), ("witness", &self.witness)] {
            for path in (0u8..).take(ways.len()) {
                if !seen.iter().any(|view| view.to == to && view.path == path) {
                    seen.push(PathView { to: to.to_owned(), path, heard_ms_ago: None });
                }
            }
        }
        seen.sort_by(|a, b| (&a.to, a.path).cmp(&(&b.to, b.path)));
    }

    /// Says something on every way that is up.
    pub(crate) fn send(&self, to: Voter, message: &Message) {
        let ways = match to {
            Voter::Witness => &self.witness,
            voter if voter == self.peer_voter => &self.peer,
            _ => return,
        };
        if !ways.iter().any(|way| way.is_up()) {
            return;
        }
        let Some(parcel) = Parcel::new(message) else { return };
        ways.iter().for_each(|way| way.put(parcel.clone()));
    }
}

impl Way {
    /// Opens the connection, again and again.
    async fn keep_open(self, dial: Dial, longest_pause: Duration) {
        let mut pause = FIRST_PAUSE;
        let mut said = BTreeSet::new();
        loop {
            match dial.open(&self.identity).await {
                Ok(link) => {
                    self.carry(link).await;
                    pause = FIRST_PAUSE;
                    said.clear();
                }
                Err(error) => {
                    // Each reason once: some take turns for as long as a host is off.
                    let text = error.to_string();
                    if said.len() < MAX_REASONS && !said.contains(&text) {
                        let (name, target) = (&self.name, dial.target);
                        tracing::info!("path {} to {name} ({target}) is not up: {text}", self.path.0 + 1);
                        said.insert(text);
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = longest_pause.min(pause * 2);
        }
    }

    /// Accepts connections of the peer; the newest counts.
    async fn listen(self: Arc<Self>, cluster: String, place: SocketAddr, peer: IpAddr) {
        let unproven = Arc::new(Semaphore::new(MAX_UNPROVEN));
        let me = match self.from {
            Voter::A => Voter::B,
            _ => Voter::A,
        };
        loop {
            let listener = match listen_on(place) {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::warn!("listen on {place}: {error}; trying again");
                    tokio::time::sleep(LISTEN_AGAIN).await;
                    continue;
                }
            };
            loop {
                let (stream, from) = match listener.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!("accept a connection on {place}: {error}");
                        tokio::time::sleep(LISTEN_AGAIN).await;
                        break;
                    }
                };
                if from.ip() != peer {
                    tracing::debug!("refused {from} on {place}: the peer is {peer}");
                    continue;
                }
                let Ok(permit) = Arc::clone(&unproven).try_acquire_owned() else { continue };
                let (way, cluster) = (Arc::clone(&self), cluster.clone());
                tokio::spawn(async move {
                    let link = way.prove(stream, &cluster, me).await;
                    drop(permit);
                    match link {
                        Ok(link) => way.carry(link).await,
                        Err(error) => way.refuse(from, &error),
                    }
                });
            }
        }
    }

    fn refuse(&self, from: SocketAddr, error: &link::LinkError) {
        let text = error.to_string();
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if *refused != text {
            tracing::warn!("refused a connection from {from}: {text}");
            *refused = text;
        }
    }

    async fn prove(&self, stream: TcpStream, cluster: &str, me: Voter) -> Result<Link, link::LinkError> {
        let expected =
            |hello: &link::Hello| (hello.cluster == cluster && hello.from == self.from).then_some(me);
        Ok(link::accept(&self.identity, stream, self.silence, expected).await?.0)
    }

    async fn carry(&self, link: Link) {
        let turn = self.outbox.take_over();
        let number = self.path.0 + 1;
        tracing::info!("path {number} to {} is up", self.name);
        let heard = |message: Message| {
            let message = Box::new(message);
            self.mailbox.offer(Input::Heard { from: self.from, path: self.path, message });
        };
        let end = link.converse(&self.outbox, turn, self.silence, heard).await;
        self.outbox.gone(turn);
        tracing::info!("path {number} to {} is lost: {end}", self.name);
    }
}

/// Also on an address that this host has not got yet: at the start of the host, the network may come later.
pub(crate) fn listen_on(place: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if place.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    if place.is_ipv4() {
        rustix::net::sockopt::set_ip_freebind(&socket, true)?;
    } else {
        rustix::net::sockopt::set_ipv6_freebind(&socket, true)?;
    }
    socket.bind(place)?;
    socket.listen(BACKLOG)
}
