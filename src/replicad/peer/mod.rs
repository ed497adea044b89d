//! The connections to the one peer of a resource: listening, dialling, closing.
//!
//! Only the peer's configured address is accepted, and with TLS only who proves to be the peer. A connection that is given up is still read for a moment,
//! so that its last message (`Goodbye`) is not destroyed by a reset.

mod link;
mod security;
mod wire;

use std::fmt::Display;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use replica::event::{Event, LinkId, Millis, Slot};
use replica::message::Message;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

pub use link::{Link, LinkEnd};
pub use security::Security;

use wire::Wire;

use crate::slots::FreeSlots;
use crate::sys::Arena;

/// Connections at a time: the one in use, and one that the peer made because it knows of a loss first.
const MAX_LINKS: usize = 4;
/// How long a dial may take.
const DIAL_MS: Millis = 6_000;
/// Pause before listening is tried again: the address may not be there yet.
const LISTEN_AGAIN_MS: Millis = 1_000;
/// How long a closed connection is still read.
const LINGER_MS: Millis = 1_000;
/// Pause between two lines that say the same.
const COMPLAIN_MS: Millis = 60_000;
/// How long a handshake may take.
const GREET_MS: Millis = 6_000;
/// Unacknowledged data after which the kernel gives up; the core's own pings notice earlier.
const USER_TIMEOUT_MS: u32 = 30_000;
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_COUNT: u32 = 3;

/// A descriptor that can become ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A connection comes in.
    Listener,
    /// A dial is over.
    Dial,
    /// A handshake can go on.
    Greeting(LinkId),
    /// A connection can be read or written.
    Link(LinkId),
    /// A closed connection can be read.
    Closing(LinkId),
}

#[derive(Debug)]
struct Dial {
    socket: TcpStream,
    deadline: Millis,
}

/// A connection whose handshake is under way.
#[derive(Debug)]
struct Greeting {
    id: LinkId,
    wire: Wire,
    deadline: Millis,
    /// This node has opened it.
    dialled: bool,
}

#[derive(Debug)]
struct Closing {
    link: Link,
    deadline: Millis,
}

/// Everything that connects a resource with its peer.
#[derive(Debug)]
pub struct Peers {
    local: SocketAddr,
    remote: SocketAddr,
    security: Security,
    listener: Option<TcpListener>,
    /// When to try to listen again; `None` while listening, and for the node that dials.
    listen_at: Option<Millis>,
    listen_failed: bool,
    /// What was complained of last, and when.
    complaint: Option<(String, Millis)>,
    dial: Option<Dial>,
    greetings: Vec<Greeting>,
    links: Vec<Link>,
    closing: Vec<Closing>,
    last_id: u64,
}

/// What is read from a connection: terms, messages, the data behind them.
pub type Received = Vec<(u64, Message, Option<Slot>)>;

impl Peers {
    /// Nothing is opened yet. `listens`: this node is the one that waits for connections.
    #[must_use]
    pub fn new(local: SocketAddr, remote: SocketAddr, security: Security, listens: bool) -> Self {
        Self {
            local,
            remote,
            security,
            listener: None,
            listen_at: listens.then_some(0),
            listen_failed: false,
            complaint: None,
            dial: None,
            greetings: Vec::new(),
            links: Vec::new(),
            closing: Vec::new(),
            last_id: 0,
        }
    }

    /// What to watch, and for what.
    pub fn watched<'a>(&'a self, slots: &FreeSlots, out: &mut Vec<(Source, BorrowedFd<'a>, PollFlags)>) {
        use std::os::fd::AsFd as _;
        out.extend(self.listener.iter().map(|l| (Source::Listener, l.as_fd(), PollFlags::IN)));
        out.extend(self.dial.iter().map(|d| (Source::Dial, d.socket.as_fd(), PollFlags::OUT)));
        for greeting in &self.greetings {
            let write = if greeting.wire.has_queued() { PollFlags::OUT } else { PollFlags::empty() };
            out.push((Source::Greeting(greeting.id), greeting.wire.as_fd(), PollFlags::IN | write));
        }
        for link in &self.links {
            let starved = link.wants_slot() && !slots.has_receive();
            let read = if starved { PollFlags::empty() } else { PollFlags::IN };
            let write = if link.has_queued() { PollFlags::OUT } else { PollFlags::empty() };
            // The kernel reports a hangup also to those who ask for nothing: that would never end here.
            if !(read | write).is_empty() {
                out.push((Source::Link(link.id), link.as_fd(), read | write));
            }
        }
        for closing in &self.closing {
            let write = if closing.link.has_queued() { PollFlags::OUT } else { PollFlags::empty() };
            out.push((Source::Closing(closing.link.id), closing.link.as_fd(), PollFlags::IN | write));
        }
    }

    /// When something must be done although nothing is ready.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        let dial = self.dial.as_ref().map(|d| d.deadline);
        let greeting = self.greetings.iter().map(|g| g.deadline).min();
        let closing = self.closing.iter().map(|c| c.deadline).min();
        [self.listen_at, dial, greeting, closing].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Millis, events: &mut Vec<Event>) {
        if self.listen_at.is_some_and(|at| at <= now) {
            self.listen(now);
        }
        if self.dial.as_ref().is_some_and(|d| d.deadline <= now) {
            self.dial = None;
            events.push(Event::DialFailed);
        }
        while let Some(at) = self.greetings.iter().position(|g| g.deadline <= now) {
            let greeting = self.greetings.swap_remove(at);
            self.not_greeted(&greeting, &"the handshake took too long", now, events);
        }
        self.closing.retain(|c| c.deadline > now);
    }

    /// Says what keeps the peer from being connected: once, and now and again while it lasts.
    fn complain(&mut self, text: String, now: Millis) {
        let told = self.complaint.as_ref();
        if told.is_none_or(|(before, at)| *before != text || at + COMPLAIN_MS <= now) {
            tracing::warn!("{text}");
            self.complaint = Some((text, now));
        }
    }

    fn listen(&mut self, now: Millis) {
        match TcpListener::bind(self.local).and_then(|l| l.set_nonblocking(true).map(|()| l)) {
            Ok(listener) => {
                tracing::debug!(address = %self.local, "listening");
                (self.listener, self.listen_at) = (Some(listener), None);
            }
            Err(error) => {
                if !std::mem::replace(&mut self.listen_failed, true) {
                    tracing::warn!(address = %self.local, "listen: {error}; trying again until it works");
                }
                self.listen_at = Some(now + LISTEN_AGAIN_MS);
            }
        }
    }

    /// Begins to connect to the peer.
    pub fn dial(&mut self, now: Millis, events: &mut Vec<Event>) {
        match begin_dial(self.local, self.remote) {
            Ok(socket) => self.dial = Some(Dial { socket, deadline: now + DIAL_MS }),
            Err(error) => {
                tracing::debug!(peer = %self.remote, "dial: {error}");
                events.push(Event::DialFailed);
            }
        }
    }

    /// The dial is over, one way or the other.
    pub fn dialled(&mut self, now: Millis, events: &mut Vec<Event>) {
        let Some(Dial { socket, .. }) = self.dial.take() else { return };
        let result = socket.take_error().and_then(|error| error.map_or(Ok(()), Err));
        match result.and_then(|()| configure(&socket)) {
            Ok(()) => self.adopt(socket, true, now, events),
            Err(error) => {
                tracing::debug!(peer = %self.remote, "dial: {error}");
                events.push(Event::DialFailed);
            }
        }
    }

    /// Takes every connection that waits.
    pub fn accept(&mut self, now: Millis, events: &mut Vec<Event>) {
        while let Some(Ok((socket, from))) = self.listener.as_ref().map(TcpListener::accept) {
            if from.ip() != self.remote.ip() {
                let only = self.remote.ip();
                self.complain(
                    format!("refused a connection from {}: only {only} may connect", from.ip()),
                    now,
                );
            } else if self.links.len() + self.greetings.len() >= MAX_LINKS {
                tracing::debug!(%from, "refused a connection: {MAX_LINKS} are open");
            } else if let Err(error) = socket.set_nonblocking(true).and_then(|()| configure(&socket)) {
                tracing::debug!(%from, "configure a connection: {error}");
            } else {
                self.adopt(socket, false, now, events);
            }
        }
    }

    fn adopt(&mut self, socket: TcpStream, dialled: bool, now: Millis, events: &mut Vec<Event>) {
        self.last_id += 1;
        let id = LinkId(self.last_id);
        let session = self.security.session(dialled);
        let wire = match session {
            Ok(None) => Wire::clear(socket),
            Ok(Some(session)) => Wire::secured(socket, session),
            Err(error) => {
                self.complain(format!("connect to {}: {error}", self.security.peer), now);
                if dialled {
                    events.push(Event::DialFailed);
                }
                return;
            }
        };
        self.greetings.push(Greeting { id, wire, deadline: now + GREET_MS, dialled });
        self.greet(id, now, events);
    }

    /// Goes on with a handshake.
    pub fn greet(&mut self, id: LinkId, now: Millis, events: &mut Vec<Event>) {
        let Some(at) = self.greetings.iter().position(|g| g.id == id) else { return };
        let mut greeting = self.greetings.swap_remove(at);
        match greeting.wire.greet() {
            Ok(false) => return self.greetings.push(greeting),
            Ok(true) => {}
            Err(error) => return self.not_greeted(&greeting, &error, now, events),
        }
        if let Err(error) = self.security.admit(&greeting.wire) {
            return self.not_greeted(&greeting, &error, now, events);
        }
        self.complaint = None;
        let proof = if greeting.wire.certificate().is_some() {
            "over TLS"
        } else {
            "in clear, without proof of who it is"
        };
        tracing::info!("connected with {}, {proof}", self.security.peer);
        self.links.push(Link::new(id, greeting.wire));
        events.push(Event::LinkUp { link: id });
    }

    fn not_greeted(
        &mut self,
        greeting: &Greeting,
        error: &dyn Display,
        now: Millis,
        events: &mut Vec<Event>,
    ) {
        let Security { peer, .. } = &self.security;
        let way = if greeting.dialled { "to" } else { "from" };
        self.complain(format!("refused the connection {way} {peer} ({}): {error}", self.remote.ip()), now);
        if greeting.dialled {
            events.push(Event::DialFailed);
        }
    }

    /// Queues a message; it leaves with [`Self::flush`]. Dropped when the connection is gone.
    pub fn send(
        &mut self,
        arena: &Arena,
        link: LinkId,
        term: u64,
        message: &Message,
        data: Option<(Slot, usize)>,
    ) -> Result<(), LinkEnd> {
        match self.links.iter_mut().find(|l| l.id == link) {
            Some(link) => link.send(arena, term, message, data),
            None => Ok(()),
        }
    }

    /// Takes in what a connection has.
    pub fn receive(
        &mut self,
        link: LinkId,
        arena: &Arena,
        slots: &mut FreeSlots,
        out: &mut Received,
    ) -> Result<(), LinkEnd> {
        match self.links.iter_mut().find(|l| l.id == link) {
            Some(link) => link.receive(arena, slots, out),
            None => Ok(()),
        }
    }

    /// Connections that can go on without waiting.
    pub fn ready(&self, slots: &FreeSlots, out: &mut Vec<LinkId>) {
        out.extend(self.links.iter().filter(|l| l.has_more(slots)).map(|l| l.id));
    }

    /// Sends what is queued; reports connections that failed.
    pub fn flush(&mut self, arena: &Arena, failed: &mut Vec<(LinkId, LinkEnd)>) {
        for link in self.links.iter_mut().filter(|l| l.has_queued()) {
            if let Err(end) = link.flush(arena) {
                failed.push((link.id, end));
            }
        }
    }

    /// Copies what is still to be sent from a slot.
    pub fn let_go_of(&mut self, arena: &Arena, slot: Slot) {
        let closing = self.closing.iter_mut().map(|c| &mut c.link);
        self.links
            .iter_mut()
            .chain(closing)
            .filter(|l| l.has_queued())
            .for_each(|l| l.let_go_of(arena, slot));
    }

    /// Closes a connection in an orderly way: what is queued is still sent. `false` when it was gone.
    pub fn hang_up(&mut self, id: LinkId, arena: &Arena, slots: &mut FreeSlots, now: Millis) -> bool {
        let Some(mut link) = self.remove(id, slots) else { return false };
        if link.flush(arena).is_ok() {
            if !link.has_queued() {
                link.shut();
            }
            self.closing.push(Closing { link, deadline: now + LINGER_MS });
        }
        true
    }

    /// Forgets a connection that failed. `false` when it was gone.
    pub fn lose(&mut self, id: LinkId, slots: &mut FreeSlots) -> bool {
        self.remove(id, slots).is_some()
    }

    fn remove(&mut self, id: LinkId, slots: &mut FreeSlots) -> Option<Link> {
        let at = self.links.iter().position(|l| l.id == id)?;
        let mut link = self.links.remove(at);
        if let Some(slot) = link.take_slot() {
            slots.give(slot);
        }
        Some(link)
    }

    /// Goes on with a connection that is being closed.
    pub fn linger(&mut self, id: LinkId, arena: &Arena) {
        self.closing.retain_mut(|c| {
            if c.link.id != id {
                return true;
            }
            let had_queued = c.link.has_queued();
            let sent = c.link.flush(arena).is_ok();
            if had_queued && !c.link.has_queued() {
                c.link.shut();
            }
            sent && c.link.discard()
        });
    }

    /// Whether connections are still being closed.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        !self.closing.is_empty()
    }
}

fn begin_dial(local: SocketAddr, remote: SocketAddr) -> io::Result<TcpStream> {
    let family = if remote.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // From the configured address, because the peer accepts no other; from any port.
    rustix::net::bind(&socket, &SocketAddr::new(local.ip(), 0))?;
    match rustix::net::connect(&socket, &remote) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(error) => Err(error.into()),
    }
}

fn configure(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    sockopt::set_tcp_user_timeout(socket, USER_TIMEOUT_MS)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_COUNT)?;
    Ok(())
}

#[cfg(test)]
mod tests;
