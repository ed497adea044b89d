//! The FUSE wire format (include/uapi/linux/fuse.h), as much of it as one file in one folder needs.
//!
//! All numbers are in the machine's byte order. Offsets are those of protocol 7.31 and later.

use replica::event::Range;

/// Bytes of a request's header.
pub(super) const IN_HEADER: usize = 40;
/// Bytes of an answer's header.
pub(super) const OUT_HEADER: usize = 16;

pub(super) mod op {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const FORGET: u32 = 2;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const STATFS: u32 = 17;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const FSYNC: u32 = 20;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const INTERRUPT: u32 = 36;
    pub(crate) const DESTROY: u32 = 38;
    pub(crate) const BATCH_FORGET: u32 = 42;
    pub(crate) const FALLOCATE: u32 = 43;
}

pub(super) mod flag {
    pub(crate) const ASYNC_READ: u32 = 1;
    pub(crate) const BIG_WRITES: u32 = 1 << 5;
    /// Without it the kernel reports a short or half-failed write as a success.
    pub(crate) const ASYNC_DIO: u32 = 1 << 15;
    pub(crate) const MAX_PAGES: u32 = 1 << 22;
    pub(crate) const HANDLE_KILLPRIV_V2: u32 = 1 << 28;
}

const OPEN_DIRECT_IO: u32 = 1;
const OPEN_PARALLEL_DIRECT_WRITES: u32 = 1 << 6;
/// Seconds that names and attributes stay valid: they never change, and the kernel must not ask for them
/// while I/O is blocked.
const FOREVER: u64 = 1 << 40;
const MODE_FILE: u32 = 0o100_600;
const MODE_FOLDER: u32 = 0o040_700;

/// Number of a notice, where an answer has its error.
const NOTIFY_STORE: i32 = 4;
/// Node number of the folder.
pub(super) const ROOT: u64 = 1;
/// Node number of the file.
pub(super) const FILE: u64 = 2;
/// Largest number of 4 KiB pages in one request (1 MiB).
const MAX_PAGES: u16 = 256;
/// Requests that the kernel may have on their way; more than the block device ever queues.
const MAX_BACKGROUND: u16 = 256;
const CONGESTION: u16 = 192;

/// The header of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct In {
    pub(super) opcode: u32,
    pub(super) unique: u64,
    pub(super) node: u64,
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u64::from_ne_bytes(*b))
}

impl In {
    /// Reads a header.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self { opcode: u32_at(bytes, 4)?, unique: u64_at(bytes, 8)?, node: u64_at(bytes, 16)? })
    }
}

/// What a READ or WRITE is about; `head` begins with the header.
pub(super) fn extent(head: &[u8]) -> Option<Range> {
    Some(Range { offset: u64_at(head, IN_HEADER + 8)?, len: u32_at(head, IN_HEADER + 16)? })
}

/// What a FALLOCATE zeroes, and whether the room may be given back (`fuse_fallocate_in`). The loop driver asks for nothing
/// else (`lo_fallocate` in drivers/block/loop.c), and for less than 4 GiB.
pub(super) fn zeroed(head: &[u8]) -> Option<(Range, bool)> {
    let mode = u32_at(head, IN_HEADER + 24)?.cast_signed();
    let unmap = mode & libc::FALLOC_FL_PUNCH_HOLE != 0;
    let zeroes = unmap || mode & libc::FALLOC_FL_ZERO_RANGE != 0;
    let len = u32::try_from(u64_at(head, IN_HEADER + 16)?).ok()?;
    zeroes.then_some((Range { offset: u64_at(head, IN_HEADER + 8)?, len }, unmap))
}

/// The name in a LOOKUP: bytes up to the first zero.
pub(super) fn name(argument: &[u8]) -> &[u8] {
    argument.split(|b| *b == 0).next().unwrap_or_default()
}

/// The header of an answer that carries `len` bytes. `error` is a positive errno, or 0.
pub(super) fn out_header(unique: u64, error: i32, len: usize) -> [u8; OUT_HEADER] {
    let mut out = [0; OUT_HEADER];
    let total = u32::try_from(OUT_HEADER + len).unwrap_or(u32::MAX);
    let (head, rest) = out.split_at_mut(4);
    head.copy_from_slice(&total.to_ne_bytes());
    let (code, id) = rest.split_at_mut(4);
    code.copy_from_slice(&error.wrapping_neg().to_ne_bytes());
    id.copy_from_slice(&unique.to_ne_bytes());
    out
}

/// `FUSE_NOTIFY_STORE` of the file's last byte: the kernel takes the file for so large (`fuse_notify_store` in
/// fs/fuse/dev.c; of no bytes at all it would not). The byte goes to its cache, which direct I/O does not look at.
pub(super) fn notice_of_size(bytes: u64) -> ([u8; OUT_HEADER], Vec<u8>) {
    let mut body = Body::default().u64(FILE).u64(bytes - 1).u32(1).u32(0).0;
    body.push(0);
    (out_header(0, -NOTIFY_STORE, body.len()), body)
}

/// Puts numbers one behind the other.
#[derive(Default)]
pub(super) struct Body(pub(super) Vec<u8>);

impl Body {
    fn u16(mut self, value: u16) -> Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    fn zeros(mut self, bytes: usize) -> Self {
        self.0.resize(self.0.len() + bytes, 0);
        self
    }

    /// `fuse_attr`: 88 bytes.
    fn attributes(self, node: u64, size: u64) -> Self {
        let mode = if node == ROOT { MODE_FOLDER } else { MODE_FILE };
        self.u64(node)
            .u64(size)
            .u64(size / 512)
            .zeros(36) // three times and their nanoseconds
            .u32(mode)
            .u32(1) // links
            .zeros(12) // user, group, device
            .u32(4096)
            .zeros(4)
    }
}

/// `fuse_entry_out`: the answer to a LOOKUP.
pub(super) fn entry(node: u64, size: u64) -> Vec<u8> {
    Body::default().u64(node).u64(0).u64(FOREVER).u64(FOREVER).zeros(8).attributes(node, size).0
}

/// `fuse_attr_out`: the answer to a GETATTR.
pub(super) fn attributes(node: u64, size: u64) -> Vec<u8> {
    Body::default().u64(FOREVER).zeros(8).attributes(node, size).0
}

/// `fuse_open_out`.
pub(super) fn opened() -> Vec<u8> {
    Body::default().u64(0).u32(OPEN_DIRECT_IO | OPEN_PARALLEL_DIRECT_WRITES).zeros(4).0
}

/// `fuse_statfs_out`; the block size becomes the discard granularity of the loop device.
pub(super) fn statistics() -> Vec<u8> {
    Body::default().zeros(40).u32(4096).u32(255).u32(4096).zeros(28).0
}

/// `fuse_write_out`: how many bytes were written.
pub(super) fn written(bytes: u32) -> [u8; 8] {
    let mut out = [0; 8];
    let (size, _) = out.split_at_mut(4);
    size.copy_from_slice(&bytes.to_ne_bytes());
    out
}

/// What the kernel offers in INIT.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    pub(super) major: u32,
    minor: u32,
    readahead: u32,
    pub(super) flags: u32,
}

impl Offer {
    /// Reads the argument of INIT.
    pub(super) fn parse(argument: &[u8]) -> Option<Self> {
        let word = |index: usize| u32_at(argument, index * 4);
        Some(Self { major: word(0)?, minor: word(1)?, readahead: word(2)?, flags: word(3)? })
    }

    /// `fuse_init_out`: 64 bytes.
    pub(super) fn accept(&self, max_write: u32) -> Vec<u8> {
        let wanted = flag::ASYNC_READ
            | flag::BIG_WRITES
            | flag::ASYNC_DIO
            | flag::MAX_PAGES
            | flag::HANDLE_KILLPRIV_V2;
        // 7.31 is what this file describes; a newer kernel adapts to it.
        Body::default()
            .u32(7)
            .u32(self.minor.min(31))
            .u32(self.readahead)
            .u32(self.flags & wanted)
            .u16(MAX_BACKGROUND)
            .u16(CONGESTION)
            .u32(max_write)
            .u32(1)
            .u16(MAX_PAGES)
            .zeros(34)
            .0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_the_sizes_of_the_kernel_header() {
        assert_eq!(entry(FILE, 1).len(), 128);
        assert_eq!(attributes(FILE, 1).len(), 104);
        assert_eq!(opened().len(), 16);
        assert_eq!(statistics().len(), 80);
        let offer = Offer::parse(&[0; 64]).unwrap();
        assert_eq!(offer.accept(1 << 20).len(), 64);
    }

    #[test]
    fn a_header_is_read_back() {
        let mut bytes = [0u8; IN_HEADER];
        bytes[4..8].copy_from_slice(&op::READ.to_ne_bytes());
        bytes[8..16].copy_from_slice(&77u64.to_ne_bytes());
        bytes[16..24].copy_from_slice(&FILE.to_ne_bytes());
        assert_eq!(In::parse(&bytes), Some(In { opcode: op::READ, unique: 77, node: FILE }));
        assert_eq!(In::parse(&bytes[..20]), None);
    }

    #[test]
    fn an_error_goes_out_negative_with_its_total_length() {
        let out = out_header(5, libc::EIO, 0);
        assert_eq!(u32_at(&out, 0), Some(16));
        assert_eq!(u32_at(&out, 4), Some((-libc::EIO).cast_unsigned()));
        assert_eq!(u64_at(&out, 8), Some(5));
    }
}
