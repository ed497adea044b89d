//! What a device holds, told from its bytes.
//!
//! Tools that answer "nothing found" cannot be told from tools that could not look. So blankness is proved
//! here: all known places are free of signatures, both ends are zero, and so are samples in between.

use std::io::{self, Read, Seek, SeekFrom};

use super::table::{self, Table};

/// Bytes read at both ends: every signature lies within.
const EDGE: u64 = 4 << 20;
/// Samples taken between the ends, and bytes of each.
const SAMPLES: u64 = 64;
const SAMPLE_BYTES: usize = 64 << 10;
/// Sectors at both ends that a partition table may fill without holding data.
const TABLE_SECTORS: u64 = 34;
const SECTOR: u64 = 512;

/// Kinds of content that are asked for by name.
pub(in super::super) const REPLICA: &str = "replication metadata of futago";

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Content {
    /// Names of what was recognised.
    pub(in super::super) found: Vec<&'static str>,
    /// The partition table.
    pub(in super::super) table: Option<Table>,
    /// Bytes other than zero where nothing was recognised.
    pub(in super::super) unknown_data: bool,
}

impl Content {
    /// Nothing is on it; a table without partitions is nothing.
    pub(in super::super) fn is_blank(&self) -> bool {
        let empty = self.table.as_ref().is_none_or(|table| table.partitions.is_empty());
        self.found.is_empty() && empty && !self.unknown_data
    }

    pub(in super::super) fn has(&self, name: &str) -> bool {
        self.found.contains(&name)
    }

    /// For a message.
    pub(in super::super) fn describe(&self) -> String {
        let mut parts: Vec<String> = self.found.iter().map(|name| with_article(name)).collect();
        if let Some(table) = self.table.as_ref().filter(|table| !table.partitions.is_empty()) {
            let count = table.partitions.len();
            let noun = if count == 1 { "partition" } else { "partitions" };
            parts.push(format!("{} table with {count} {noun}", with_article(table.kind.name())));
        }
        if parts.is_empty() && self.unknown_data {
            return "data of an unknown kind".into();
        }
        if parts.is_empty() { "nothing".into() } else { parts.join(" and ") }
    }
}

fn with_article(name: &str) -> String {
    match name {
        REPLICA => name.into(),
        _ if starts_with_a_vowel_sound(name) => format!("an {name}"),
        _ => format!("a {name}"),
    }
}

/// Abbreviations are spelled out when read aloud.
fn starts_with_a_vowel_sound(name: &str) -> bool {
    ["ext", "exFAT", "msdos", "EROFS", "F2FS", "ISO", "LVM", "NTFS", "XFS"]
        .iter()
        .any(|word| name.starts_with(word))
}

/// From which end an offset counts.
enum At {
    Start(u64),
    End(u64),
}
use At::{End, Start};

/// Name, place and first bytes of what could be on a disk. Sources: libblkid's superblock probes; the place of
/// our own metadata is the last two blocks.
const SIGNATURES: &[(&str, At, &[u8])] = &[
    ("XFS file system", Start(0), b"XFSB"),
    ("LUKS volume", Start(0), b"LUKS\xba\xbe"),
    ("squashfs file system", Start(0), b"hsqs"),
    ("NTFS file system", Start(3), b"NTFS    "),
    ("exFAT file system", Start(3), b"EXFAT   "),
    ("FAT file system", Start(0x36), b"FAT1"),
    ("FAT file system", Start(0x52), b"FAT32"),
    ("LVM physical volume", Start(0), b"LABELONE"),
    ("LVM physical volume", Start(512), b"LABELONE"),
    ("LVM physical volume", Start(1024), b"LABELONE"),
    ("LVM physical volume", Start(1536), b"LABELONE"),
    ("F2FS file system", Start(1024), b"\x10\x20\xf5\xf2"),
    ("EROFS file system", Start(1024), b"\xe2\xe1\xf5\xe0"),
    ("RAID member", Start(0), b"\xfc\x4e\x2b\xa9"),
    ("RAID member", Start(4096), b"\xfc\x4e\x2b\xa9"),
    ("swap area", Start(4086), b"SWAPSPACE2"),
    ("swap area", Start(4086), b"SWAP-SPACE"),
    ("bcache device", Start(0x1018), b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca"),
    ("bcachefs file system", Start(0x1018), b"\xc6\x85\x73\xf6\x66\xce\x90\xa9"),
    ("ISO 9660 file system", Start(0x8001), b"CD001"),
    ("JFS file system", Start(0x8000), b"JFS1"),
    ("ReiserFS file system", Start(0x10034), b"ReIsEr"),
    ("Btrfs file system", Start(0x10040), b"_BHRfS_M"),
    ("DRBD metadata block", End(4096 - 60), b"\x83\x74\x02\x6b"),
    ("DRBD metadata block", End(4096 - 60), b"\x83\x74\x02\x6c"),
    ("DRBD metadata block", End(4096 - 60), b"\x83\x74\x02\x6d"),
    (REPLICA, End(4096), b"futagomd"),
    (REPLICA, End(8192), b"futagomd"),
];

const EXT_MAGIC: (u64, &[u8]) = (0x438, b"\x53\xef");
const EXT_COMPATIBLE: u64 = 0x45c;
const EXT_INCOMPATIBLE: u64 = 0x460;
const HAS_JOURNAL: u32 = 0x4;
/// Extents, 64-bit or flexible groups: what only ext4 has.
const EXT4_ONLY: u32 = 0x40 | 0x80 | 0x200;
/// ZFS keeps its uberblocks from here, one every KiB.
const ZFS: (u64, u64) = (0x20000, 0x40000);
const ZFS_MAGIC: [u8; 8] = 0x00ba_b10c_u64.to_le_bytes();
const RAID_MAGIC: &[u8] = b"\xfc\x4e\x2b\xa9";

/// Looks at a device of `bytes`.
pub(in super::super) fn probe(device: &mut (impl Read + Seek), bytes: u64) -> io::Result<Content> {
    let edge = EDGE.min(bytes);
    let head = read_at(device, 0, edge)?;
    let tail = read_at(device, bytes - edge, edge)?;
    let ends = Ends { head: &head, tail: &tail, bytes };
    let mut found: Vec<&'static str> = Vec::new();
    let known =
        SIGNATURES.iter().filter(|(_, at, magic)| ends.has(ends.offset(at), magic)).map(|(name, ..)| *name);
    for name in known.chain(ends.ext()).chain(ends.raid_at_the_end()).chain(ends.zfs()) {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    let table = table::parse(&head, &tail, bytes);
    let mut content = Content { found, table, unknown_data: false };
    if content.is_blank() {
        content.unknown_data = !is_zero(device, &ends, content.table.is_some())?;
    }
    Ok(content)
}

/// Both ends of a device, read once.
struct Ends<'a> {
    head: &'a [u8],
    tail: &'a [u8],
    bytes: u64,
}

impl Ends<'_> {
    fn offset(&self, at: &At) -> Option<u64> {
        match at {
            Start(offset) => Some(*offset),
            // Sizes that are no multiple of a block leave the rest at the end unused.
            End(distance) => (self.bytes / 4096 * 4096).checked_sub(*distance),
        }
    }

    fn get(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let slice = |bytes: &'_ [u8], at: u64| {
            let at = usize::try_from(at).ok()?;
            (at + length <= bytes.len()).then_some((at, at + length))
        };
        if let Some((from, to)) = slice(self.head, offset) {
            return self.head.get(from..to);
        }
        let start = self.bytes - u64::try_from(self.tail.len()).ok()?;
        let (from, to) = slice(self.tail, offset.checked_sub(start)?)?;
        self.tail.get(from..to)
    }

    fn has(&self, offset: Option<u64>, magic: &[u8]) -> bool {
        offset.and_then(|offset| self.get(offset, magic.len())).is_some_and(|bytes| bytes == magic)
    }

    fn word(&self, offset: u64) -> u32 {
        let bytes = self.get(offset, 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    }

    fn ext(&self) -> Option<&'static str> {
        if !self.has(Some(EXT_MAGIC.0), EXT_MAGIC.1) {
            return None;
        }
        Some(if self.word(EXT_INCOMPATIBLE) & EXT4_ONLY != 0 {
            "ext4 file system"
        } else if self.word(EXT_COMPATIBLE) & HAS_JOURNAL != 0 {
            "ext3 file system"
        } else {
            "ext2 file system"
        })
    }

    /// The versions 0.90 and 1.0 keep their superblock at the end.
    fn raid_at_the_end(&self) -> Option<&'static str> {
        let old = (self.bytes & !0xffff).checked_sub(0x10000);
        let new = (self.bytes / SECTOR).checked_sub(16).map(|sectors| (sectors & !7) * SECTOR);
        (self.has(old, RAID_MAGIC) || self.has(new, RAID_MAGIC)).then_some("RAID member")
    }

    fn zfs(&self) -> Option<&'static str> {
        let mut places = (ZFS.0..ZFS.1).step_by(1024);
        let big_endian: Vec<u8> = ZFS_MAGIC.iter().rev().copied().collect();
        places
            .any(|at| self.has(Some(at), &ZFS_MAGIC) || self.has(Some(at), &big_endian))
            .then_some("ZFS member")
    }
}

/// Both ends and samples in between are zero, leaving out what an empty partition table fills.
fn is_zero(device: &mut (impl Read + Seek), ends: &Ends, table: bool) -> io::Result<bool> {
    let skip = usize::try_from(if table { TABLE_SECTORS * SECTOR } else { 0 }).unwrap_or(usize::MAX);
    let head = ends.head.get(skip..).unwrap_or_default();
    let tail = ends.tail.get(..ends.tail.len().saturating_sub(skip)).unwrap_or_default();
    // A small device is all ends, and the table at the other end must not count.
    let small = ends.bytes <= EDGE;
    let head = if small { head.get(..head.len().saturating_sub(skip)).unwrap_or_default() } else { head };
    if head.iter().any(|byte| *byte != 0) || (!small && tail.iter().any(|byte| *byte != 0)) {
        return Ok(false);
    }
    let length = u64::try_from(SAMPLE_BYTES).unwrap_or(u64::MAX);
    let middle = ends.bytes.saturating_sub(2 * EDGE);
    if middle < length {
        return Ok(true);
    }
    for index in 0..SAMPLES {
        let offset = EDGE + (middle - length) / SAMPLES * index;
        if read_at(device, offset / SECTOR * SECTOR, length)?.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn read_at(device: &mut (impl Read + Seek), offset: u64, length: u64) -> io::Result<Vec<u8>> {
    device.seek(SeekFrom::Start(offset))?;
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    device.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    const SIZE: u64 = 16 << 20;

    fn with(places: &[(u64, &[u8])]) -> Content {
        let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
        for (offset, magic) in places {
            let at = usize::try_from(*offset).unwrap();
            bytes[at..at + magic.len()].copy_from_slice(magic);
        }
        probe(&mut Cursor::new(bytes), SIZE).unwrap()
    }

    #[test]
    fn zeros_are_blank_and_a_single_other_byte_is_not() {
        assert!(with(&[]).is_blank());
        for offset in [0, 100, 5000, EDGE - 1, SIZE - EDGE, SIZE - 1] {
            let content = with(&[(offset, b"x")]);
            assert!(!content.is_blank() && content.unknown_data, "byte {offset}");
            assert_eq!(content.describe(), "data of an unknown kind");
        }
    }

    #[test]
    fn every_known_signature_is_recognised_at_its_place() {
        for (name, at, magic) in SIGNATURES {
            let offset = match at {
                Start(offset) => *offset,
                End(distance) => SIZE - distance,
            };
            let content = with(&[(offset, magic)]);
            assert!(content.has(name) && !content.is_blank(), "{name}");
        }
    }

    #[test]
    fn the_kinds_of_ext_are_told_apart() {
        let magic: (u64, &[u8]) = (0x438, b"\x53\xef");
        assert_eq!(with(&[magic]).found, ["ext2 file system"]);
        assert_eq!(with(&[magic, (EXT_COMPATIBLE, &[4])]).found, ["ext3 file system"]);
        assert_eq!(
            with(&[magic, (EXT_COMPATIBLE, &[4]), (EXT_INCOMPATIBLE, &[0x40])]).found,
            ["ext4 file system"]
        );
    }

    #[test]
    fn raid_and_zfs_are_found_where_they_depend_on_the_size() {
        assert_eq!(with(&[(SIZE - 0x10000, RAID_MAGIC)]).found, ["RAID member"]);
        assert_eq!(with(&[(SIZE - 8192, RAID_MAGIC)]).found, ["RAID member"]);
        assert_eq!(with(&[(0x20400, &ZFS_MAGIC)]).found, ["ZFS member"]);
    }

    #[test]
    fn metadata_of_ours_is_seen_beside_a_file_system() {
        let content = with(&[(0x438, b"\x53\xef"), (SIZE - 8192, b"futagomd"), (SIZE - 4096, b"futagomd")]);
        assert!(content.has(REPLICA));
        assert_eq!(content.describe(), "replication metadata of futago and an ext2 file system");
    }

    #[test]
    fn an_odd_size_moves_the_last_block() {
        let size = SIZE + 700;
        let mut bytes = vec![0; usize::try_from(size).unwrap()];
        let at = usize::try_from(SIZE - 4096).unwrap();
        bytes[at..at + 8].copy_from_slice(b"futagomd");
        assert!(probe(&mut Cursor::new(bytes), size).unwrap().has(REPLICA));
    }

    #[test]
    fn a_tiny_device_is_looked_at_whole() {
        let mut bytes = vec![0; 65536];
        assert!(probe(&mut Cursor::new(bytes.clone()), 65536).unwrap().is_blank());
        bytes[40000] = 1;
        assert!(probe(&mut Cursor::new(bytes), 65536).unwrap().unknown_data);
    }
}
