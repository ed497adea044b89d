//! The undo log: what a resync has written over, so that its target can be what it was before.
//!
//! It lies beside the disk (a file, or a device of its own) and belongs to one resync, interrupted or not: the
//! superblock of the disk names it by a random number. Before a block is changed for the first time since the
//! resync began, its old content is in the log, durably. The log only grows, record behind record:
//!
//! ```text
//! head     4 KiB: 0 magic[8]  8 log u64  16… zero  4092 crc32c of the bytes before
//! record   4 KiB header, then the old blocks of its ranges, in their order
//!          0 magic[8]  8 log u64  16 at u64  24 digest u128  40 count u32  44 zero u32
//!          48 count × (first block u64, blocks u32)  …  4092 crc32c of the bytes before
//! ```
//! All little endian. The head tells a log that holds nothing yet from one that somebody has emptied. `at` is the record's own place. A record is written and made durable before the next one is
//! begun, and before any of its blocks is changed: the log ends before the first record that is not whole, and what
//! that one would hold is unchanged on the disk.

use crate::bitmap::Bitmap;
use crate::event::{BLOCK, Range};

/// Bytes of a record's header.
pub const HEADER_BYTES: usize = 4096;
/// Most ranges in a record.
pub const MAX_RANGES: usize = 256;
/// Most bytes of old data in a record.
pub const MAX_RECORD_BYTES: u64 = 4 << 20;

/// Place of the first record.
pub const FIRST_RECORD_AT: u64 = HEADER_BYTES as u64;

const MAGIC: [u8; 8] = *b"futagoun";
const HEAD_MAGIC: [u8; 8] = *b"futagoul";
const RANGES_AT: usize = 48;
const CRC_AT: usize = HEADER_BYTES - 4;

/// The header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Number of the log it belongs to.
    pub log: u64,
    /// Its own place, in bytes from the start of the log.
    pub at: u64,
    /// What the old data is of; whole blocks, no two overlap.
    pub ranges: Vec<Range>,
    /// XXH3-128 of all old data.
    pub digest: u128,
}

/// A log that was found when the disk was attached.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where the next record goes.
    pub tail: u64,
    /// The blocks whose old content is in it.
    pub saved: Bitmap,
}

/// Bytes of a record with this much old data.
#[must_use]
pub fn record_bytes(ranges: &[Range]) -> u64 {
    HEADER_BYTES as u64 + ranges.iter().map(|range| u64::from(range.len)).sum::<u64>()
}

/// The head of a log.
#[must_use]
pub fn encode_head(log: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES);
    out.extend_from_slice(&HEAD_MAGIC);
    out.extend_from_slice(&log.to_le_bytes());
    out.resize(CRC_AT, 0);
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// Whether these bytes are the head of this log.
#[must_use]
pub fn is_head(bytes: &[u8], log: u64) -> bool {
    bytes == encode_head(log)
}

/// Whether a file that begins with these bytes, at most [`HEADER_BYTES`] of them, is a log, or the room for one.
#[must_use]
pub fn can_begin(bytes: &[u8]) -> bool {
    bytes.starts_with(&HEAD_MAGIC) || bytes.iter().all(|byte| *byte == 0)
}

impl Record {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.log.to_le_bytes());
        out.extend_from_slice(&self.at.to_le_bytes());
        out.extend_from_slice(&self.digest.to_le_bytes());
        out.extend_from_slice(&u32::try_from(self.ranges.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for range in &self.ranges {
            out.extend_from_slice(&(range.offset / BLOCK).to_le_bytes());
            let blocks = u64::from(range.len) / BLOCK;
            out.extend_from_slice(&u32::try_from(blocks).unwrap_or(u32::MAX).to_le_bytes());
        }
        out.resize(CRC_AT, 0);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header; `None` when there is no whole one of this log at this place.
    #[must_use]
    pub fn decode(bytes: &[u8], log: u64, at: u64) -> Option<Self> {
        let (body, crc) = bytes.get(..HEADER_BYTES)?.split_at_checked(CRC_AT)?;
        if crc != crc32c::crc32c(body).to_le_bytes() {
            return None;
        }
        let (magic, rest) = body.split_first_chunk::<8>()?;
        let (found_log, rest) = rest.split_first_chunk::<8>()?;
        let (found_at, rest) = rest.split_first_chunk::<8>()?;
        let (digest, rest) = rest.split_first_chunk::<16>()?;
        let (count, _) = rest.split_first_chunk::<4>()?;
        let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
        let ours = *magic == MAGIC
            && u64::from_le_bytes(*found_log) == log
            && u64::from_le_bytes(*found_at) == at
            && (1..=MAX_RANGES).contains(&count);
        if !ours {
            return None;
        }
        let entries = body.get(RANGES_AT..)?.chunks_exact(12).take(count);
        let ranges: Option<Vec<Range>> = entries.map(decode_range).collect();
        let record = Self { log, at, ranges: ranges?, digest: u128::from_le_bytes(*digest) };
        (record_bytes(&record.ranges) <= HEADER_BYTES as u64 + MAX_RECORD_BYTES).then_some(record)
    }

    /// The place of the next record.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.at.saturating_add(record_bytes(&self.ranges))
    }
}

fn decode_range(entry: &[u8]) -> Option<Range> {
    let (first, rest) = entry.split_first_chunk::<8>()?;
    let (blocks, _) = rest.split_first_chunk::<4>()?;
    let offset = u64::from_le_bytes(*first).checked_mul(BLOCK)?;
    let len = u32::try_from(u64::from(u32::from_le_bytes(*blocks)).checked_mul(BLOCK)?).ok()?;
    (len > 0 && offset.checked_add(u64::from(len)).is_some()).then_some(Range { offset, len })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = Record> {
        let range = (0u64..1 << 40, 1u32..4).prop_map(|(block, blocks)| Range {
            offset: block * BLOCK,
            len: blocks * u32::try_from(BLOCK).unwrap(),
        });
        (any::<u64>(), any::<u64>(), any::<u128>(), prop::collection::vec(range, 1..MAX_RANGES + 1))
            .prop_map(|(log, at, digest, ranges)| Record { log, at, ranges, digest })
    }

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_was_and_only_where_it_belongs(record in record()) {
            let bytes = record.encode();
            prop_assert_eq!(bytes.len(), HEADER_BYTES);
            prop_assert_eq!(Record::decode(&bytes, record.log, record.at), Some(record.clone()));
            prop_assert_eq!(Record::decode(&bytes, record.log ^ 1, record.at), None);
            prop_assert_eq!(Record::decode(&bytes, record.log, record.at ^ 1), None);
        }

        #[test]
        fn a_head_is_known_by_its_number(log: u64) {
            let head = encode_head(log);
            prop_assert!(head.len() == HEADER_BYTES && is_head(&head, log) && !is_head(&head, log ^ 1));
            prop_assert!(can_begin(&head) && can_begin(&[]) && can_begin(&[0; 9]) && !can_begin(&head[1..]));
        }

        #[test]
        fn a_damaged_record_is_never_believed(record in record(), at in 0..HEADER_BYTES, bit in 0u8..8) {
            let mut bytes = record.encode();
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(Record::decode(&bytes, record.log, record.at), None);
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), HEADER_BYTES), log: u64) {
            let crc = crc32c::crc32c(&bytes[..CRC_AT]);
            bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
            bytes[..8].copy_from_slice(&MAGIC);
            let _ = Record::decode(&bytes, log, 0);
            let _ = Record::decode(&bytes[1..], log, 0);
        }
    }
}
