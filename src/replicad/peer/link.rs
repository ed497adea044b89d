//! One connection to the peer: messages in, messages out, never waiting.
//!
//! Incoming data goes from the wire into a slot; a length is checked against its bound before anything is
//! kept for it. Outgoing messages queue up and leave in one call per wake-up; the bytes of a slot are sent
//! from where they lie, or copied when the slot is wanted for something else first.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};

use replica::event::{LinkId, Slot};
use replica::message::{self, DecodeError, HEADER_BYTES, Header, MAX_BODY_BYTES, Message};
use rustix::io::Errno;

use super::Received;
use super::wire::Wire;
use crate::slots::FreeSlots;
use crate::sys::Arena;

/// Bytes read ahead: some whole small messages, or the head of a large one.
const READ_AHEAD: usize = 2 * MAX_BODY_BYTES as usize;
/// Messages taken in one go before the driver looks at other work.
const BATCH: usize = 64;
/// Pieces handed to one call (the kernel takes 1024).
const PIECES: usize = 128;
/// How TLS begins: a record of a handshake (RFC 8446, section 5.1). No message of ours begins so.
const TLS_HANDSHAKE: [u8; 2] = [22, 3];
/// Queued bytes after which the peer is given up: it has long stopped to read. Requests are bounded by their
/// slots; this bounds everything else.
const MAX_QUEUED: usize = 512 << 20;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkEnd {
    /// The peer closed it.
    #[error("closed by the peer")]
    Closed,
    /// The network did.
    #[error("{0}")]
    Network(Errno),
    /// TLS: the peer is not who it must be, or does not speak it.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// Only this node uses TLS.
    #[error("it does not speak TLS: give it its certificate, or say `tls no` on both hosts")]
    OnlyHereTls,
    /// Only the peer uses TLS.
    #[error("it speaks TLS: this host needs its certificate, or `tls no` on both hosts")]
    OnlyPeerTls,
    /// It has proved to be somebody else.
    #[error("it is not {peer}: its certificate is for {names}")]
    Stranger {
        /// Who it must be.
        peer: String,
        /// Who it is.
        names: String,
    },
    /// What came in is no message.
    #[error(transparent)]
    Protocol(#[from] DecodeError),
    /// The peer does not read.
    #[error("the peer has not read {MAX_QUEUED} bytes that are waiting for it")]
    Stuck,
}

#[derive(Debug)]
enum Incoming {
    Header,
    Body(Header),
    Data { header: Header, slot: Slot, have: usize },
}

#[derive(Debug)]
enum Data {
    None,
    Slot(Slot, usize),
    Copied(Vec<u8>),
}

#[derive(Debug)]
struct Outgoing {
    head: Vec<u8>,
    data: Data,
}

impl Outgoing {
    fn bytes<'a>(&'a self, arena: &'a Arena) -> [&'a [u8]; 2] {
        let data = match &self.data {
            Data::None => &[],
            Data::Slot(slot, len) => arena.bytes(*slot, *len),
            Data::Copied(bytes) => bytes,
        };
        [&self.head, data]
    }

    fn len(&self) -> usize {
        let data = match &self.data {
            Data::None => 0,
            Data::Slot(_, len) => *len,
            Data::Copied(bytes) => bytes.len(),
        };
        self.head.len() + data
    }
}

/// A connection.
#[derive(Debug)]
pub struct Link {
    /// Its name at the border of the core.
    pub id: LinkId,
    wire: Wire,
    incoming: Incoming,
    ahead: Vec<u8>,
    start: usize,
    end: usize,
    queue: VecDeque<Outgoing>,
    queued: usize,
    /// Bytes of the first message in the queue that are sent.
    sent: usize,
    /// More can be taken in without waiting for the socket.
    more: bool,
}

impl Link {
    /// Takes over a connection whose handshake is over; it may have brought the first messages.
    pub(super) fn new(id: LinkId, wire: Wire) -> Self {
        let ahead = vec![0; READ_AHEAD];
        let (queue, incoming) = (VecDeque::new(), Incoming::Header);
        Self { id, wire, incoming, ahead, start: 0, end: 0, queue, queued: 0, sent: 0, more: true }
    }

    /// Whether [`Self::receive`] should be called although the socket was not reported readable.
    #[must_use]
    pub fn has_more(&self, slots: &FreeSlots) -> bool {
        self.more && (slots.has_receive() || !self.wants_slot())
    }

    /// Whether it waits for a slot: then the socket need not be watched.
    #[must_use]
    pub fn wants_slot(&self) -> bool {
        matches!(&self.incoming, Incoming::Body(header) if header.takes_slot())
    }

    /// Whether something waits to be sent.
    #[must_use]
    pub fn has_queued(&self) -> bool {
        !self.queue.is_empty() || self.wire.has_queued()
    }

    /// Takes messages until the socket is empty, slots run out or a batch is full.
    pub fn receive(
        &mut self,
        arena: &Arena,
        slots: &mut FreeSlots,
        out: &mut Received,
    ) -> Result<(), LinkEnd> {
        self.more = true;
        for _ in 0..BATCH {
            match self.advance(arena, slots)? {
                Step::Message(term, message, slot) => out.push((term, message, slot)),
                Step::NoSlot => return Ok(()),
                Step::Starved => {
                    if !self.fill(arena)? {
                        self.more = false;
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Uses what was read ahead.
    fn advance(&mut self, arena: &Arena, slots: &mut FreeSlots) -> Result<Step, LinkEnd> {
        loop {
            let ahead = self.ahead.get(self.start..self.end).unwrap_or_default();
            match &mut self.incoming {
                Incoming::Header => {
                    let Some(raw) = ahead.first_chunk::<HEADER_BYTES>() else { return Ok(Step::Starved) };
                    if raw.starts_with(&TLS_HANDSHAKE) {
                        return Err(LinkEnd::OnlyPeerTls);
                    }
                    self.incoming = Incoming::Body(Header::parse(raw)?);
                    self.start += HEADER_BYTES;
                }
                Incoming::Body(header) if header.takes_slot() => {
                    let header = *header;
                    let Some(slot) = slots.take_receive() else { return Ok(Step::NoSlot) };
                    self.incoming = Incoming::Data { header, slot, have: 0 };
                }
                Incoming::Body(header) => {
                    let Some(body) = ahead.get(..header.len as usize) else { return Ok(Step::Starved) };
                    let (term, message) = (header.term, message::decode(header, body)?);
                    self.start += body.len();
                    self.incoming = Incoming::Header;
                    return Ok(Step::Message(term, message, None));
                }
                Incoming::Data { header, slot, have } => {
                    let total = header.len as usize;
                    let piece = ahead.len().min(total - *have);
                    let (piece, _) = ahead.split_at(piece);
                    arena.bytes_mut(*slot, *have, piece.len()).copy_from_slice(piece);
                    *have += piece.len();
                    self.start += piece.len();
                    if *have < total {
                        return Ok(Step::Starved);
                    }
                    let slot = *slot;
                    // On an error the slot stays with the link, which gives it back when it is dropped.
                    let (term, message) = (header.term, message::decode(header, arena.bytes(slot, total))?);
                    self.incoming = Incoming::Header;
                    return Ok(Step::Message(term, message, Some(slot)));
                }
            }
        }
    }

    /// Reads from the socket: the rest of a data message directly into its slot, what follows into the
    /// read-ahead. `false` when there is nothing.
    fn fill(&mut self, arena: &Arena) -> Result<bool, LinkEnd> {
        self.ahead.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let room = self.ahead.get_mut(self.end..).unwrap_or_default();
        let direct: &mut [u8] = match &self.incoming {
            Incoming::Data { header, slot, have } => {
                arena.bytes_mut(*slot, *have, header.len as usize - *have)
            }
            _ => &mut [],
        };
        let wanted = direct.len();
        match self.wire.read([direct, room])? {
            None => Ok(false),
            Some(0) => Err(LinkEnd::Closed),
            Some(len) => {
                if let Incoming::Data { have, .. } = &mut self.incoming {
                    *have += len.min(wanted);
                }
                self.end += len.saturating_sub(wanted);
                Ok(true)
            }
        }
    }

    /// Queues a message of a sender with this term; `data` names the slot and the number of bytes behind it.
    pub fn send(
        &mut self,
        arena: &Arena,
        term: u64,
        message: &Message,
        data: Option<(Slot, usize)>,
    ) -> Result<(), LinkEnd> {
        let bytes = data.map_or(&[][..], |(slot, len)| arena.bytes(slot, len));
        let head = message::encode(message, term, bytes);
        let data = data.map_or(Data::None, |(slot, len)| Data::Slot(slot, len));
        let outgoing = Outgoing { head, data };
        self.queued += outgoing.len();
        self.queue.push_back(outgoing);
        if self.queued > MAX_QUEUED { Err(LinkEnd::Stuck) } else { Ok(()) }
    }

    /// Copies what is still to be sent from a slot: it is about to be used for something else.
    pub fn let_go_of(&mut self, arena: &Arena, slot: Slot) {
        for outgoing in &mut self.queue {
            if let Data::Slot(used, len) = outgoing.data
                && used == slot
            {
                outgoing.data = Data::Copied(arena.bytes(slot, len).to_vec());
            }
        }
    }

    /// Sends what the socket takes.
    pub fn flush(&mut self, arena: &Arena) -> Result<(), LinkEnd> {
        while !self.queue.is_empty() {
            let pieces = self.queue.iter().flat_map(|o| o.bytes(arena)).filter(|p| !p.is_empty());
            let mut skip = self.sent;
            let mut vector = Vec::with_capacity(PIECES);
            for piece in pieces.take(PIECES) {
                let rest = piece.get(skip.min(piece.len())..).unwrap_or_default();
                skip -= piece.len() - rest.len();
                if !rest.is_empty() {
                    vector.push(IoSlice::new(rest));
                }
            }
            match self.wire.write(&vector)? {
                Some(len) => self.drop_sent(len),
                None => return Ok(()),
            }
        }
        self.wire.push().map(drop)
    }

    fn drop_sent(&mut self, len: usize) {
        self.sent += len;
        self.queued -= len;
        while let Some(first) = self.queue.front()
            && self.sent >= first.len()
        {
            self.sent -= first.len();
            self.queue.pop_front();
        }
    }

    /// The slot that is being received into, when the connection ends in the middle.
    pub fn take_slot(&mut self) -> Option<Slot> {
        match std::mem::replace(&mut self.incoming, Incoming::Header) {
            Incoming::Data { slot, .. } => Some(slot),
            _ => None,
        }
    }

    /// Says to the peer that nothing more will come.
    pub fn shut(&mut self) {
        self.wire.shut();
    }

    /// Reads and forgets; `false` when the peer has closed.
    pub fn discard(&mut self) -> bool {
        self.wire.discard(&mut self.ahead)
    }
}

enum Step {
    Message(u64, Message, Option<Slot>),
    NoSlot,
    Starved,
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }
}

#[cfg(test)]
mod tests;
