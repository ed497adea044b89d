//! Recognises what a disk already carries, by the marks that file systems and volume managers leave at fixed
//! places. Only reads; an unknown mark is not seen, so this protects from mistakes, not from malice.

use std::io;

use crate::aligned::Aligned;
use crate::disk::Backing;

/// Bytes from the start that are looked at: the last mark (btrfs) begins at 64 KiB + 64.
const HEAD: usize = 72 << 10;
/// Bytes from the end: the last place of a software RAID's mark is 64–128 KiB before it.
const TAIL: usize = 132 << 10;

/// A mark: where, and which bytes.
struct Mark {
    what: &'static str,
    at: usize,
    bytes: &'static [u8],
}

const fn mark(what: &'static str, at: usize, bytes: &'static [u8]) -> Mark {
    Mark { what, at, bytes }
}

/// Marks counted from the start (kernel headers, util-linux' libblkid for the places).
const MARKS: &[Mark] = &[
    mark("xfs filesystem", 0, b"XFSB"),
    mark("btrfs filesystem", (64 << 10) + 64, b"_BHRfS_M"),
    mark("LVM physical volume", 0, b"LABELONE"),
    mark("LVM physical volume", 512, b"LABELONE"),
    mark("LVM physical volume", 1024, b"LABELONE"),
    mark("LVM physical volume", 1536, b"LABELONE"),
    mark("LUKS encrypted volume", 0, b"LUKS\xba\xbe"),
    mark("swap space", 4096 - 10, b"SWAPSPACE2"),
    mark("swap space", 4096 - 10, b"SWAP-SPACE"),
    mark("software RAID member", 0, b"\xfc\x4e\x2b\xa9"),
    mark("software RAID member", 4096, b"\xfc\x4e\x2b\xa9"),
    mark("f2fs filesystem", 1024, b"\x10\x20\xf5\xf2"),
    mark("ntfs filesystem", 3, b"NTFS    "),
    mark("exfat filesystem", 3, b"EXFAT   "),
    mark("vfat filesystem", 82, b"FAT32   "),
    mark("vfat filesystem", 54, b"FAT16   "),
    mark("iso9660 filesystem", 0x8001, b"CD001"),
    mark("squashfs filesystem", 0, b"hsqs"),
    mark("bcache device", 4096 + 24, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca"),
    mark("GPT partition table", 512, b"EFI PART"),
    mark("GPT partition table", 4096, b"EFI PART"),
];

const EXT_SUPERBLOCK: usize = 1024;
const PARTITIONS: usize = 446;

/// What the disk carries, in words; `None` when nothing is known.
pub fn find(disk: &Backing) -> io::Result<Option<String>> {
    let bytes = disk.bytes();
    let len = usize::try_from(bytes).unwrap_or(usize::MAX) & !4095;
    let mut head = Aligned::zeroed(HEAD.min(len));
    disk.read(0, head.bytes_mut())?;
    if let Some(found) = at_start(head.bytes()) {
        return Ok(Some(found));
    }
    let mut tail = Aligned::zeroed(TAIL.min(len));
    let at = (bytes & !4095) - tail.bytes().len() as u64;
    disk.read(at, tail.bytes_mut())?;
    Ok(raid_at_end(tail.bytes(), at, bytes).then(|| "software RAID member".to_owned()))
}

fn at_start(head: &[u8]) -> Option<String> {
    if let Some(ext) = ext(head) {
        return Some(ext);
    }
    let found = MARKS.iter().find(|m| has(head, m.at, m.bytes));
    found.map(|m| m.what.to_owned()).or_else(|| partition_table(head))
}

fn has(bytes: &[u8], at: usize, mark: &[u8]) -> bool {
    bytes.get(at..).is_some_and(|rest| rest.starts_with(mark))
}

/// ext2, 3 and 4 have one mark and differ in their features.
fn ext(head: &[u8]) -> Option<String> {
    let superblock = head.get(EXT_SUPERBLOCK..EXT_SUPERBLOCK + 1024)?;
    if !has(superblock, 56, b"\x53\xef") {
        return None;
    }
    let word = |at: usize| superblock.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b));
    let (journal, extents) = (word(92)? & 4 != 0, word(96)? & 0x40 != 0);
    let kind = match (journal, extents) {
        (_, true) => "ext4",
        (true, false) => "ext3",
        (false, false) => "ext2",
    };
    let label: Vec<u8> = superblock.get(120..136)?.iter().copied().take_while(|b| *b != 0).collect();
    let named = if label.is_empty() { String::new() } else { format!(" \"{}\"", label.escape_ascii()) };
    Some(format!("{kind} filesystem{named}"))
}

/// The boot mark alone is also on disks without partitions: one entry must make sense.
fn partition_table(head: &[u8]) -> Option<String> {
    if !has(head, 510, b"\x55\xaa") {
        return None;
    }
    let entries = head.get(PARTITIONS..510)?.chunks_exact(16);
    let mut sensible = false;
    for entry in entries {
        let (state, kind) = (*entry.first()?, *entry.get(4)?);
        let sectors = u32::from_le_bytes(*entry.get(12..)?.first_chunk()?);
        if state & 0x7f != 0 {
            return None;
        }
        sensible |= kind != 0 && sectors != 0;
    }
    sensible.then(|| "msdos partition table".to_owned())
}

/// Versions 0.90 (64 KiB before the end, on a 64 KiB boundary) and 1.0 (8 KiB before the end).
fn raid_at_end(tail: &[u8], at: u64, bytes: u64) -> bool {
    let places = [(bytes & !0xffff).checked_sub(0x10000), (bytes & !0xfff).checked_sub(0x2000)];
    let inside = places.into_iter().flatten().filter_map(|p| usize::try_from(p.checked_sub(at)?).ok());
    inside.into_iter().any(|place| has(tail, place, b"\xfc\x4e\x2b\xa9"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with(at: u64, bytes: &[u8]) -> (tempfile::NamedTempFile, Backing) {
        use std::os::unix::fs::FileExt as _;
        let file = tempfile::NamedTempFile::new_in(".").unwrap();
        file.as_file().set_len(4 << 20).unwrap();
        file.as_file().write_all_at(bytes, at).unwrap();
        let disk = Backing::open(file.path()).unwrap();
        (file, disk)
    }

    #[test]
    fn an_empty_disk_carries_nothing() {
        assert_eq!(find(&disk_with(0, &[0]).1).unwrap(), None);
    }

    #[test]
    fn every_mark_is_seen() {
        for mark in MARKS {
            let (_file, disk) = disk_with(mark.at as u64, mark.bytes);
            assert_eq!(find(&disk).unwrap().as_deref(), Some(mark.what));
        }
        let end = 4 << 20;
        for place in [end - 0x10000, end - 0x2000] {
            assert!(find(&disk_with(place, b"\xfc\x4e\x2b\xa9").1).unwrap().is_some());
        }
    }

    #[test]
    fn ext_is_named_with_its_version_and_label() {
        let mut superblock = vec![0u8; 1024];
        superblock[56..58].copy_from_slice(b"\x53\xef");
        superblock[92] = 4;
        superblock[96] = 0x40;
        superblock[120..124].copy_from_slice(b"data");
        assert_eq!(find(&disk_with(1024, &superblock).1).unwrap().unwrap(), "ext4 filesystem \"data\"");
    }

    #[test]
    fn a_boot_mark_without_partitions_is_no_partition_table() {
        let mut sector = vec![0u8; 512];
        sector[510..].copy_from_slice(b"\x55\xaa");
        assert_eq!(find(&disk_with(0, &sector).1).unwrap(), None);
        sector[446 + 4] = 0x83;
        sector[446 + 12] = 8;
        assert_eq!(find(&disk_with(0, &sector).1).unwrap().as_deref(), Some("msdos partition table"));
    }
}
