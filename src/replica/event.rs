//! The border of the core: what the shell reports ([`Event`]) and what the core asks for ([`Action`]).
//!
//! Payload bytes never cross this border. They sit in buffers of the shell, named by a [`Slot`]; the core
//! says which slot is read, written or sent, and when it may be reused ([`Action::Release`]).

use crate::control::{Command, Refusal};
use crate::handler::Handler;
use crate::message::Message;

/// Bytes per block: the unit of the bitmap, and the logical block size of the exported device.
pub const BLOCK: u64 = 4096;

/// Most bytes one front-end request, one replicated write or one resync message may carry.
pub const MAX_IO_BYTES: u32 = 1 << 20;

/// Milliseconds on the shell's monotonic clock.
pub type Millis = u64;

/// A buffer of [`MAX_IO_BYTES`] in the shell, holding one request's or one message's payload.
///
/// Slots below [`RESYNC_SLOTS`] belong to the core, for resync reads; the shell hands out the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// Resync reads in flight at most, and the number of slots that the core owns.
pub const RESYNC_SLOTS: u32 = 16;

/// Bytes on the replicated device. Both are multiples of [`BLOCK`] once accepted by the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: u32,
}

impl Range {
    /// First byte after the range.
    #[must_use]
    pub fn end(self) -> u64 {
        self.offset.saturating_add(u64::from(self.len))
    }
}

/// What a write leaves on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// The bytes of its slot.
    Data,
    /// Zeroes.
    Zeroes,
    /// Zeroes, and the disk may give the room back (a discard).
    Unmapped,
}

/// What an application asks of the exported device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontOp {
    /// Fill the slot from the disk.
    Read(Range),
    /// Write the slot to both disks.
    Write(Range),
    /// Zero both disks, which may give the room back if `unmap`; of any length. The slot is full of zeroes, for a peer
    /// whose program knows only data.
    Zero {
        /// Which part.
        range: Range,
        /// It need not stay allocated.
        unmap: bool,
    },
    /// Make every write acknowledged so far durable on both disks.
    Flush,
}

/// Why a front-end request failed; the shell maps it to an errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontError {
    /// Not block-aligned, too long or beyond the end (EINVAL).
    Invalid,
    /// The local disk failed, or the device is being taken away (EIO).
    Io,
}

/// Names one disk operation of [`Action`]; chosen by the core, unique for its lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoId(pub u64);

/// Names one metadata transaction; increasing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetaTx(pub u64);

/// Names one call of a handler; chosen by the core, unique for its lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Names one TCP connection; chosen by the shell, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// Names one administrator's command until it is answered; chosen by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// A disk operation failed. The text is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DiskError(pub String);

/// What happened. Delivered one at a time, together with the time.
#[derive(Debug)]
pub enum Event {
    /// An application's request; the slot is lent to the core until [`Action::CompleteFront`].
    Front {
        /// Buffer of the request: data of a write, room for a read, unused for a flush.
        slot: Slot,
        /// The request.
        op: FrontOp,
    },
    /// A [`Action::ReadDisk`], [`Action::WriteDisk`] or [`Action::FlushDisk`] is over.
    DiskDone {
        /// The operation.
        io: IoId,
        /// Its result; for a write, `Ok` means that the device has it, not that it is durable.
        result: Result<(), DiskError>,
    },
    /// A [`Action::DigestDisk`] is over.
    Digested {
        /// The operation.
        io: IoId,
        /// A digest for each block of the range ([`crate::digest::blocks`]).
        result: Result<Vec<u128>, DiskError>,
    },
    /// An [`Action::RestoreUndo`] is over.
    Restored {
        /// The operation.
        io: IoId,
        /// The place of the next record.
        result: Result<u64, DiskError>,
    },
    /// A metadata transaction is over; `Ok` means durable.
    MetaDone {
        /// The transaction.
        tx: MetaTx,
        /// Its result.
        result: Result<(), DiskError>,
    },
    /// A TCP connection to the peer's address stands (dialled or accepted); nothing was exchanged on it.
    LinkUp {
        /// Its name.
        link: LinkId,
    },
    /// A dial asked for by [`Action::Dial`] did not succeed.
    DialFailed,
    /// A connection is gone, by the network or after [`Action::Hangup`].
    LinkLost {
        /// The connection.
        link: LinkId,
        /// For the log.
        reason: String,
    },
    /// A whole, checksum-verified message came in.
    Received {
        /// The connection.
        link: LinkId,
        /// The term in its header.
        term: u64,
        /// The message.
        message: Message,
        /// The buffer of its data, for messages that carry data; lent to the core until [`Action::Release`].
        payload: Option<Slot>,
    },
    /// [`Action::StartExport`] succeeded: the block device stands.
    ExportStarted,
    /// [`Action::StartExport`] did not succeed.
    ExportFailed {
        /// For people.
        reason: String,
    },
    /// [`Action::ResizeExport`] is over: the system sees the size, or why it does not.
    ExportResized {
        /// For people.
        result: Result<(), String>,
    },
    /// [`Action::StopExport`] succeeded: the block device is gone, no request of it is left.
    ExportStopped,
    /// [`Action::StopExport`] was refused: someone has the device open, it stands as before. Or
    /// [`Action::StartExport`]: someone still holds a device that was taken away, none stands.
    ExportBusy {
        /// Who, one sentence each: `mounted on /mnt`, `opened by mysqld (pid 42)`.
        holders: Vec<String>,
    },
    /// An [`Action::CallHandler`] is over.
    HandlerEnded {
        /// The call.
        call: CallId,
        /// It has ended with 0; or what became of it, to be read after its name: `returned 1`.
        result: Result<(), String>,
    },
    /// An administrator's command.
    Command {
        /// To be named in [`Action::Reply`].
        token: Token,
        /// The command.
        command: Command,
    },
    /// The administrator of a command no longer waits for the answer (`wait-sync --timeout`, an interrupted
    /// verb). What the command began goes on; a late [`Action::Reply`] is dropped, and one need not come.
    Abandoned {
        /// The command.
        token: Token,
    },
    /// The time asked for by [`Action::WakeAt`] has come.
    Tick,
}

/// What the shell shall do. Performed in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read from the local data area into a slot.
    ReadDisk {
        /// Answered by [`Event::DiskDone`].
        io: IoId,
        /// Where to.
        slot: Slot,
        /// Where from.
        range: Range,
    },
    /// Read from the local data area, past all caches, and say what stands for its content.
    DigestDisk {
        /// Answered by [`Event::Digested`].
        io: IoId,
        /// Where from; at most [`MAX_IO_BYTES`].
        range: Range,
    },
    /// Write to the local data area.
    WriteDisk {
        /// Answered by [`Event::DiskDone`].
        io: IoId,
        /// Where from, if it is data.
        slot: Slot,
        /// Where to.
        range: Range,
        /// What.
        fill: Fill,
    },
    /// Make every completed write of the local disk durable.
    FlushDisk {
        /// Answered by [`Event::DiskDone`].
        io: IoId,
    },
    /// Write metadata blocks, then make them durable. Transactions never overlap: the core sends the next
    /// one only after [`Event::MetaDone`].
    WriteMeta {
        /// Answered by [`Event::MetaDone`].
        tx: MetaTx,
        /// Byte offset on the backing device, and the block-aligned bytes.
        writes: Vec<(u64, Vec<u8>)>,
    },
    /// Make what the local data area holds durable, make room for an undo log, and empty it. See [`crate::undo`].
    PrepareUndo {
        /// Answered by [`Event::DiskDone`]; an error leaves the disk as it is.
        io: IoId,
        /// Number of the log.
        log: u64,
        /// Old data that the resync will save at most, as far as it is known; less, where blocks are the same.
        bytes: u64,
        /// Without room for all of it there is to be no log.
        all: bool,
    },
    /// Write a record with what the local data area holds now to the undo log, and make it durable.
    SaveUndo {
        /// Answered by [`Event::DiskDone`]; an error leaves the disk as it is.
        io: IoId,
        /// Number of the log.
        log: u64,
        /// Where in the log.
        at: u64,
        /// Of what.
        ranges: Vec<Range>,
    },
    /// Write the old data of a record to where it was on the local data area, if the record is whole.
    RestoreUndo {
        /// Answered by [`Event::Restored`].
        io: IoId,
        /// Number of the log.
        log: u64,
        /// Where in the log.
        at: u64,
    },
    /// The undo log is of no use any more: give its room back, if there is one. There is no answer.
    DropUndo,
    /// Answer an application's request; the slot goes back to the shell.
    CompleteFront {
        /// The request's slot.
        slot: Slot,
        /// Its result.
        result: Result<(), FrontError>,
    },
    /// Connect to the peer (this node is the one that dials). Answered by [`Event::LinkUp`] or
    /// [`Event::DialFailed`].
    Dial,
    /// Send a message, with the bytes of a slot behind it.
    Send {
        /// On which connection; silently dropped when that is gone.
        link: LinkId,
        /// For its header: the sender's term, 0 without a mandate of the cluster.
        term: u64,
        /// The message.
        message: Message,
        /// Data to send. The shell has copied or sent it before it performs a later action on the slot.
        payload: Option<Slot>,
    },
    /// Close a connection. Answered by [`Event::LinkLost`].
    Hangup {
        /// The connection.
        link: LinkId,
    },
    /// A payload buffer received with a message is no longer needed.
    Release {
        /// The buffer.
        slot: Slot,
    },
    /// Create the block device and the symbolic link to it. The system looks at a new device at once
    /// (udev, blkid): requests may come before [`Event::ExportStarted`] and must be answered.
    StartExport {
        /// Size of the device in bytes.
        bytes: u64,
        /// Whether applications shall be told that room can be given back.
        discard: bool,
    },
    /// The block device, which stands, has this size from now on. Answered by [`Event::ExportResized`].
    ResizeExport {
        /// Size of the device in bytes.
        bytes: u64,
    },
    /// Take the block device away, unless someone holds it open. The kernel writes back what it has cached:
    /// requests may come until [`Event::ExportStopped`] and must be answered.
    StopExport,
    /// Take the block device's effect away at once, in whatever state it is: every request that the system
    /// still has fails, now and later. The device goes when the last one has closed it. There is no answer; a
    /// [`Action::StartExport`] fails with [`Event::ExportBusy`] as long as somebody holds the old one.
    AbortExport,
    /// Call a script of the administrator's, and go on meanwhile. Answered by [`Event::HandlerEnded`], in bounded time.
    CallHandler {
        /// To be named in the answer.
        call: CallId,
        /// Which.
        handler: Handler,
    },
    /// Answer an administrator.
    Reply {
        /// Which command.
        token: Token,
        /// Done, or why not.
        result: Result<(), Refusal>,
    },
    /// Report a state change or a decision: one log line.
    Log {
        /// How much it matters.
        level: LogLevel,
        /// The sentence.
        text: String,
    },
    /// Deliver [`Event::Tick`] at this time; replaces an earlier request.
    WakeAt {
        /// When.
        at: Millis,
    },
    /// The resource is down: forget it.
    Stopped,
}

/// Severity of [`Action::Log`], by who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// A person must act.
    Error,
    /// Unexpected; the daemon went on.
    Warn,
    /// A rare change of state.
    Info,
}
