//! The wire protocol between the two nodes: one TCP connection, messages with a fixed header.
//!
//! ```text
//! offset  bytes  header, little endian
//!      0      4  magic "FTG1"; the digit is the protocol version
//!      4      2  kind
//!      6      2  zero
//!      8      8  term: the cluster term under which the sender is Primary (0 when it is not, or unmanaged)
//!     16      8  id: request number, echoed by its answer
//!     24      8  offset: first byte on the device, for messages that name a range
//!     32      4  length of what follows: payload of data messages, body of the others
//!     36      4  CRC32C over the header with this field zero, then over what follows
//! ```
//! Nothing received is trusted before its checksum is verified, and nothing is allocated for a length above
//! the bound of its kind.

mod fields;

use crate::event::{BLOCK, MAX_IO_BYTES, Range};
use crate::generation::Generations;
use crate::state::{DiskState, Role};
use fields::{Reader, Writer};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 40;
/// Most bytes of the body of a message that carries no data.
pub const MAX_BODY_BYTES: u32 = 64 << 10;
/// Bitmap words in one [`Message::Bitmap`].
pub const BITMAP_WORDS: usize = 4096;

const MAGIC: [u8; 4] = *b"FTG1";
const CRC_AT: usize = 36;
/// Longest node or resource name on the wire, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// Who is calling; the first message in each direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Resource both sides must mean.
    pub resource: String,
    /// Name of the sender (`uname -n`).
    pub node: String,
    /// Name of the node the sender expects.
    pub peer: String,
}

/// What a node knows about itself when a connection begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// Generation identifiers of its disk.
    pub generations: Generations,
    /// Its role.
    pub role: Role,
    /// Its disk.
    pub disk: DiskState,
    /// Bytes of its device; of a disk that was only just created, its usable bytes.
    pub bytes: u64,
    /// Usable bytes of its disk.
    pub capacity: u64,
    /// It was Primary when it stopped without saying so.
    pub crashed_primary: bool,
    /// It was connected to this peer, at this same generation, since its daemon started.
    pub reconnect: bool,
    /// Its administrator gives up its changes.
    pub discard_my_data: bool,
    /// Blocks marked out of sync in its bitmap.
    pub dirty_blocks: u64,
    /// What its program and its disk can do besides.
    pub abilities: Abilities,
}

/// What not every version of the program, or not every disk, can do: a bit each. An older program says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities(pub u64);

impl Abilities {
    /// The program knows [`Message::Zero`].
    pub const ZERO: u64 = 1;
    /// The disk gives back the room of what is zeroed.
    pub const UNMAP: u64 = 1 << 1;
    /// The program knows [`Message::SkipSync`].
    pub const SKIP_SYNC: u64 = 1 << 2;

    /// Whether it can.
    #[must_use]
    pub fn has(self, ability: u64) -> bool {
        self.0 & ability != 0
    }
}

/// Everything that one node says to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Names; first.
    Hello(Hello),
    /// State of the sender's disk; second.
    State(PeerState),
    /// A part of the target's bitmap: words of 64 blocks from a word index on.
    Bitmap {
        /// Index of the first word; block number divided by 64.
        first_word: u64,
        /// At most [`BITMAP_WORDS`].
        words: Vec<u64>,
    },
    /// The target's bitmap is complete.
    BitmapEnd,
    /// The source has merged and stored both bitmaps; `base` is the generation that the target shall carry
    /// until the resync is finished, so that an interrupted one is resumed.
    SyncStart {
        /// The source's bitmap generation.
        base: u64,
        /// Blocks to be sent.
        blocks: u64,
        /// Until when the target had everything, in seconds since 1970; 0 where it is not known.
        as_of: u64,
    },
    /// The target has stored that it is Inconsistent; data may come.
    SyncReady,
    /// One range of the resync, with data.
    Resync {
        /// Request number.
        id: u64,
        /// Range of the data.
        range: Range,
    },
    /// The target's disk has the range.
    ResyncAck {
        /// Request number.
        id: u64,
    },
    /// Every block was sent and flushed: the target may take over the generations.
    SyncFinish(Generations),
    /// The target has stored that it is UpToDate.
    SyncCommitted,
    /// A replicated application write, with data.
    Write {
        /// Request number.
        id: u64,
        /// Range of the data.
        range: Range,
    },
    /// A [`Message::Write`] or [`Message::Resync`] that brings zeroes, and needs no data for that.
    Zero {
        /// Request number.
        id: u64,
        /// Range of the zeroes.
        range: Range,
        /// The disk may give the room back.
        unmap: bool,
        /// It is of the resync.
        resync: bool,
    },
    /// The peer's disk has the write.
    WriteAck {
        /// Request number.
        id: u64,
    },
    /// Make every write acknowledged so far durable.
    Flush {
        /// Request number.
        id: u64,
    },
    /// Done.
    FlushAck {
        /// Request number.
        id: u64,
    },
    /// What stands for your blocks in this range?
    VerifyAsk {
        /// Request number.
        id: u64,
        /// The range.
        range: Range,
    },
    /// A digest for each block of the range; none when the sender is no Secondary any more.
    VerifyReply {
        /// Request number.
        id: u64,
        /// At most [`MAX_IO_BYTES`] / [`BLOCK`].
        digests: Vec<u128>,
    },
    /// May I give up my data, so that you have the only copy?
    InvalidateAsk,
    /// Answer to [`Message::InvalidateAsk`].
    InvalidateAnswer {
        /// Yes or no.
        granted: bool,
    },
    /// Neither disk ever held data: let both be this generation, and UpToDate.
    SkipSync(Generations),
    /// Answer to [`Message::SkipSync`]; the sender has stored it.
    SkipSyncAnswer {
        /// Yes or no.
        granted: bool,
    },
    /// May I become Primary?
    RoleAsk,
    /// Answer to [`Message::RoleAsk`].
    RoleAnswer {
        /// Yes or no.
        granted: bool,
    },
    /// The sender's role or disk state is now this.
    Changed {
        /// Role.
        role: Role,
        /// Disk state.
        disk: DiskState,
    },
    /// What both disks have beyond the device is the same on both: the device has this size from now on.
    Grow {
        /// Bytes.
        bytes: u64,
    },
    /// The sender has stored the size.
    Grown {
        /// Bytes.
        bytes: u64,
    },
    /// Are you there?
    Ping {
        /// Echoed.
        id: u64,
    },
    /// Yes.
    Pong {
        /// Request number.
        id: u64,
    },
    /// The sender leaves on purpose; the reason is for people.
    Goodbye {
        /// Disk state that the sender leaves with.
        disk: DiskState,
    },
    /// The sender has promised a newer term than the receiver's and closes the connection.
    Fenced {
        /// What it has promised.
        term: u64,
    },
}

impl Message {
    /// Short name for logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "Hello",
            Self::State(_) => "State",
            Self::Bitmap { .. } => "Bitmap",
            Self::BitmapEnd => "BitmapEnd",
            Self::SyncStart { .. } => "SyncStart",
            Self::SyncReady => "SyncReady",
            Self::Resync { .. } => "Resync",
            Self::ResyncAck { .. } => "ResyncAck",
            Self::SyncFinish(_) => "SyncFinish",
            Self::SyncCommitted => "SyncCommitted",
            Self::Write { .. } => "Write",
            Self::Zero { .. } => "Zero",
            Self::WriteAck { .. } => "WriteAck",
            Self::Flush { .. } => "Flush",
            Self::FlushAck { .. } => "FlushAck",
            Self::VerifyAsk { .. } => "VerifyAsk",
            Self::VerifyReply { .. } => "VerifyReply",
            Self::InvalidateAsk => "InvalidateAsk",
            Self::InvalidateAnswer { .. } => "InvalidateAnswer",
            Self::SkipSync(_) => "SkipSync",
            Self::SkipSyncAnswer { .. } => "SkipSyncAnswer",
            Self::RoleAsk => "RoleAsk",
            Self::RoleAnswer { .. } => "RoleAnswer",
            Self::Changed { .. } => "Changed",
            Self::Grow { .. } => "Grow",
            Self::Grown { .. } => "Grown",
            Self::Ping { .. } => "Ping",
            Self::Pong { .. } => "Pong",
            Self::Goodbye { .. } => "Goodbye",
            Self::Fenced { .. } => "Fenced",
        }
    }

    /// Whether it changes what is on the receiver's disk, or what that is worth.
    #[must_use]
    pub fn changes_disk(&self) -> bool {
        matches!(
            self,
            Self::Write { .. }
                | Self::Resync { .. }
                | Self::Zero { .. }
                | Self::SyncStart { .. }
                | Self::SyncFinish(_)
                | Self::SkipSync(_)
                | Self::Grow { .. }
        )
    }
}

/// Why bytes from the peer are not a message. The connection is dropped: nothing that follows can be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not our protocol, or another version of it.
    #[error(
        "not a futago replication message (starts with {0:02x?}, expected \"FTG1\"): the peer runs another protocol version, or something else listens there"
    )]
    Magic([u8; 4]),
    /// A kind this version does not know.
    #[error("unknown message kind {0}")]
    Kind(u16),
    /// The length is above the bound of the kind.
    #[error("message of kind {kind} announces {len} bytes, at most {max} are allowed")]
    Length {
        /// Kind.
        kind: u16,
        /// Announced.
        len: u32,
        /// Allowed.
        max: u32,
    },
    /// Damaged on the way.
    #[error("checksum mismatch in a message of kind {0}: damaged on the way")]
    Checksum(u16),
    /// The body does not have the shape of its kind.
    #[error("malformed body in a message of kind {0}")]
    Body(u16),
}

/// A decoded header: enough to know what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Kind of the message.
    kind: u16,
    /// Bytes that follow.
    pub len: u32,
    /// The cluster term of the sender; 0 without one. Trusted only after [`decode`].
    pub term: u64,
    id: u64,
    offset: u64,
    raw: [u8; HEADER_BYTES],
}

mod kind {
    pub(super) const HELLO: u16 = 1;
    pub(super) const STATE: u16 = 2;
    pub(super) const BITMAP: u16 = 3;
    pub(super) const BITMAP_END: u16 = 4;
    pub(super) const SYNC_START: u16 = 5;
    pub(super) const SYNC_READY: u16 = 6;
    pub(super) const RESYNC: u16 = 7;
    pub(super) const RESYNC_ACK: u16 = 8;
    pub(super) const SYNC_FINISH: u16 = 9;
    pub(super) const SYNC_COMMITTED: u16 = 10;
    pub(super) const WRITE: u16 = 11;
    pub(super) const WRITE_ACK: u16 = 12;
    pub(super) const FLUSH: u16 = 13;
    pub(super) const FLUSH_ACK: u16 = 14;
    pub(super) const ROLE_ASK: u16 = 15;
    pub(super) const ROLE_ANSWER: u16 = 16;
    pub(super) const CHANGED: u16 = 17;
    pub(super) const PING: u16 = 18;
    pub(super) const PONG: u16 = 19;
    pub(super) const GOODBYE: u16 = 20;
    pub(super) const FENCED: u16 = 21;
    pub(super) const VERIFY_ASK: u16 = 22;
    pub(super) const VERIFY_REPLY: u16 = 23;
    pub(super) const INVALIDATE_ASK: u16 = 24;
    pub(super) const INVALIDATE_ANSWER: u16 = 25;
    pub(super) const GROW: u16 = 26;
    pub(super) const GROWN: u16 = 27;
    pub(super) const ZERO: u16 = 28;
    pub(super) const SKIP_SYNC: u16 = 29;
    pub(super) const SKIP_SYNC_ANSWER: u16 = 30;
    pub(super) const LAST: u16 = SKIP_SYNC_ANSWER;
}

impl Header {
    /// Reads a header; the checksum is verified later, by [`decode`], over header and body together.
    pub fn parse(raw: &[u8; HEADER_BYTES]) -> Result<Self, DecodeError> {
        let mut r = Reader(raw);
        let magic: [u8; 4] = r.array().unwrap_or_default();
        let kind = r.u16().unwrap_or_default();
        let (_zero, term) = (r.u16(), r.u64().unwrap_or_default());
        let (id, offset) = (r.u64().unwrap_or_default(), r.u64().unwrap_or_default());
        let len = r.u32().unwrap_or_default();
        if magic != MAGIC {
            return Err(DecodeError::Magic(magic));
        }
        if kind == 0 || kind > kind::LAST {
            return Err(DecodeError::Kind(kind));
        }
        let header = Self { kind, len, term, id, offset, raw: *raw };
        let max = if matches!(kind, kind::WRITE | kind::RESYNC) { MAX_IO_BYTES } else { MAX_BODY_BYTES };
        if len > max {
            return Err(DecodeError::Length { kind, len, max });
        }
        Ok(header)
    }

    /// Whether it comes with a slot: what follows is data, or stands for data. The slots bound what is on its way to
    /// the disk.
    #[must_use]
    pub fn takes_slot(&self) -> bool {
        matches!(self.kind, kind::WRITE | kind::RESYNC | kind::ZERO)
    }
}

/// Verifies the checksum over `header` and `body` and reads the message.
///
/// For data messages `body` is the data; it is checked and stays where it is.
pub fn decode(header: &Header, body: &[u8]) -> Result<Message, DecodeError> {
    if body.len() != usize::try_from(header.len).unwrap_or(usize::MAX) || !checksum_holds(&header.raw, body) {
        return Err(DecodeError::Checksum(header.kind));
    }
    let id = header.id;
    let range = Range { offset: header.offset, len: header.len };
    let mut r = Reader(body);
    let message = match header.kind {
        kind::HELLO => r.hello().map(Message::Hello),
        kind::STATE => r.state(header.offset, Abilities(id)).map(Message::State),
        kind::BITMAP => r.words().map(|words| Message::Bitmap { first_word: header.offset, words }),
        kind::BITMAP_END => Some(Message::BitmapEnd),
        kind::SYNC_START => r.u64().map(|base| Message::SyncStart { base, blocks: id, as_of: header.offset }),
        kind::SYNC_READY => Some(Message::SyncReady),
        kind::RESYNC => aligned(range).map(|range| Message::Resync { id, range }),
        kind::RESYNC_ACK => Some(Message::ResyncAck { id }),
        kind::SYNC_FINISH => r.generations().map(Message::SyncFinish),
        kind::SYNC_COMMITTED => Some(Message::SyncCommitted),
        kind::WRITE => aligned(range).map(|range| Message::Write { id, range }),
        kind::ZERO => r.zero(id, range),
        kind::WRITE_ACK => Some(Message::WriteAck { id }),
        kind::FLUSH => Some(Message::Flush { id }),
        kind::FLUSH_ACK => Some(Message::FlushAck { id }),
        kind::VERIFY_ASK => r.range(range.offset).map(|range| Message::VerifyAsk { id, range }),
        kind::VERIFY_REPLY => r.digests().map(|digests| Message::VerifyReply { id, digests }),
        kind::INVALIDATE_ASK => Some(Message::InvalidateAsk),
        kind::INVALIDATE_ANSWER => r.bool().map(|granted| Message::InvalidateAnswer { granted }),
        kind::SKIP_SYNC => r.generations().map(Message::SkipSync),
        kind::SKIP_SYNC_ANSWER => r.bool().map(|granted| Message::SkipSyncAnswer { granted }),
        kind::ROLE_ASK => Some(Message::RoleAsk),
        kind::ROLE_ANSWER => r.bool().map(|granted| Message::RoleAnswer { granted }),
        kind::CHANGED => r.role().zip(r.disk()).map(|(role, disk)| Message::Changed { role, disk }),
        kind::GROW => Some(Message::Grow { bytes: header.offset }),
        kind::GROWN => Some(Message::Grown { bytes: header.offset }),
        kind::PING => Some(Message::Ping { id }),
        kind::PONG => Some(Message::Pong { id }),
        kind::GOODBYE => r.disk().map(|disk| Message::Goodbye { disk }),
        kind::FENCED => Some(Message::Fenced { term: id }),
        other => return Err(DecodeError::Kind(other)),
    };
    let complete = matches!(header.kind, kind::WRITE | kind::RESYNC) || r.0.is_empty();
    message.filter(|_| complete).ok_or(DecodeError::Body(header.kind))
}

fn checksum_holds(raw: &[u8; HEADER_BYTES], body: &[u8]) -> bool {
    let (head, stored) = raw.split_at(CRC_AT);
    checksum(head, body).to_le_bytes() == stored
}

fn checksum(head: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(head), &[0; 4]), body)
}

fn aligned(range: Range) -> Option<Range> {
    let whole =
        range.offset.is_multiple_of(BLOCK) && u64::from(range.len).is_multiple_of(BLOCK) && range.len > 0;
    let fits = range.offset.checked_add(u64::from(range.len)).is_some();
    (whole && fits).then_some(range)
}

/// Encodes a message of a sender with this term: the header, and for messages without data also the body.
///
/// `data` is the payload of a data message and empty for the others; it enters the checksum and is not
/// copied: the sender puts it on the wire behind what this returns.
#[must_use]
pub fn encode(message: &Message, term: u64, data: &[u8]) -> Vec<u8> {
    let (kind, id, offset, body) = parts(message);
    let following = if body.is_empty() { data } else { &body };
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&term.to_le_bytes());
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&u32::try_from(following.len()).unwrap_or(u32::MAX).to_le_bytes());
    let crc = checksum(&out, following);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&body);
    out
}

fn parts(message: &Message) -> (u16, u64, u64, Vec<u8>) {
    let mut b = Writer(Vec::new());
    let (kind, id, offset) = match message {
        Message::Hello(h) => {
            b.text(&h.resource).text(&h.node).text(&h.peer);
            (kind::HELLO, 0, 0)
        }
        Message::State(s) => {
            b.state(s);
            (kind::STATE, s.abilities.0, s.capacity)
        }
        Message::Bitmap { first_word, words } => {
            words.iter().for_each(|w| b.u64(*w));
            (kind::BITMAP, 0, *first_word)
        }
        Message::BitmapEnd => (kind::BITMAP_END, 0, 0),
        Message::SyncStart { base, blocks, as_of } => {
            b.u64(*base);
            (kind::SYNC_START, *blocks, *as_of)
        }
        Message::SyncReady => (kind::SYNC_READY, 0, 0),
        Message::Resync { id, range } => (kind::RESYNC, *id, range.offset),
        Message::ResyncAck { id } => (kind::RESYNC_ACK, *id, 0),
        Message::SyncFinish(generations) => {
            b.generations(generations);
            (kind::SYNC_FINISH, 0, 0)
        }
        Message::SyncCommitted => (kind::SYNC_COMMITTED, 0, 0),
        Message::Write { id, range } => (kind::WRITE, *id, range.offset),
        Message::Zero { id, range, unmap, resync } => {
            b.0.extend(range.len.to_le_bytes());
            b.0.extend([u8::from(*unmap), u8::from(*resync)]);
            (kind::ZERO, *id, range.offset)
        }
        Message::WriteAck { id } => (kind::WRITE_ACK, *id, 0),
        Message::Flush { id } => (kind::FLUSH, *id, 0),
        Message::FlushAck { id } => (kind::FLUSH_ACK, *id, 0),
        Message::VerifyAsk { id, range } => {
            b.0.extend(range.len.to_le_bytes());
            (kind::VERIFY_ASK, *id, range.offset)
        }
        Message::VerifyReply { id, digests } => {
            digests.iter().for_each(|digest| b.0.extend(digest.to_le_bytes()));
            (kind::VERIFY_REPLY, *id, 0)
        }
        Message::InvalidateAsk => (kind::INVALIDATE_ASK, 0, 0),
        Message::InvalidateAnswer { granted } => granting(&mut b, kind::INVALIDATE_ANSWER, *granted),
        Message::SkipSync(generations) => {
            b.generations(generations);
            (kind::SKIP_SYNC, 0, 0)
        }
        Message::SkipSyncAnswer { granted } => granting(&mut b, kind::SKIP_SYNC_ANSWER, *granted),
        Message::RoleAsk => (kind::ROLE_ASK, 0, 0),
        Message::RoleAnswer { granted } => granting(&mut b, kind::ROLE_ANSWER, *granted),
        Message::Changed { role, disk } => {
            b.0.extend([role.code(), disk.code()]);
            (kind::CHANGED, 0, 0)
        }
        Message::Grow { bytes } => (kind::GROW, 0, *bytes),
        Message::Grown { bytes } => (kind::GROWN, 0, *bytes),
        Message::Ping { id } => (kind::PING, *id, 0),
        Message::Pong { id } => (kind::PONG, *id, 0),
        Message::Goodbye { disk } => {
            b.0.push(disk.code());
            (kind::GOODBYE, 0, 0)
        }
        Message::Fenced { term } => (kind::FENCED, *term, 0),
    };
    (kind, id, offset, b.0)
}

fn granting(b: &mut Writer, kind: u16, granted: bool) -> (u16, u64, u64) {
    b.0.push(u8::from(granted));
    (kind, 0, 0)
}

#[cfg(test)]
mod tests;
