//! Partition tables, read from the first and last sectors: msdos and GPT.

/// Sectors of 512 bytes are what both tables are read in here.
const SECTOR: u64 = 512;
const MBR_ENTRIES: usize = 446;
const MBR_ENTRY_BYTES: usize = 16;
/// Type of the one msdos entry that stands for a GPT.
const PROTECTIVE: u8 = 0xee;
const GPT_MAGIC: &[u8] = b"EFI PART";
/// A GPT with more entries than this is not believed.
const MAX_GPT_ENTRIES: usize = 1024;

/// Which kind of table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Kind {
    Msdos,
    Gpt,
}

impl Kind {
    /// parted's word.
    pub(in super::super) fn name(self) -> &'static str {
        match self {
            Self::Msdos => "msdos",
            Self::Gpt => "gpt",
        }
    }
}

/// One partition, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Partition {
    pub(in super::super) index: u32,
    pub(in super::super) start: u64,
    pub(in super::super) end: u64,
}

/// A partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Table {
    pub(in super::super) kind: Kind,
    pub(in super::super) partitions: Vec<Partition>,
}

/// Finds a table. `head` and `tail` are the ends of a device of `bytes`.
pub(super) fn parse(head: &[u8], tail: &[u8], bytes: u64) -> Option<Table> {
    // Disks with sectors of 4096 bytes keep the GPT one such sector in.
    let gpt = [SECTOR, 8 * SECTOR].into_iter().find_map(|sector| gpt(head, sector));
    if let Some(table) = gpt {
        return Some(table);
    }
    if head.get(510..512)? == b"\x55\xaa"
        && let Some(table) = msdos(head, bytes)
    {
        return Some(table);
    }
    // Only the spare copy is left: there was a table, and nobody knows what it said.
    let spare = tail.len().checked_sub(512).and_then(|at| tail.get(at..at + GPT_MAGIC.len()));
    let spare = spare.is_some_and(|bytes| bytes == GPT_MAGIC);
    spare.then(|| Table { kind: Kind::Gpt, partitions: vec![Partition { index: 0, start: 0, end: bytes }] })
}

fn msdos(head: &[u8], bytes: u64) -> Option<Table> {
    let mut partitions = Vec::new();
    let entries = head.get(MBR_ENTRIES..MBR_ENTRIES + 4 * MBR_ENTRY_BYTES)?;
    for (index, entry) in (1..).zip(entries.chunks_exact(MBR_ENTRY_BYTES)) {
        let (active, kind) = (*entry.first()?, *entry.get(4)?);
        let start = u64::from(word(entry, 8)?) * SECTOR;
        let end = start + u64::from(word(entry, 12)?) * SECTOR;
        // A boot sector of a file system ends in the same two bytes, with code where the entries would be.
        if active & 0x7f != 0 {
            return None;
        }
        if kind == 0 {
            continue;
        }
        if kind != PROTECTIVE && (start == 0 || start >= bytes || end == start) {
            return None;
        }
        partitions.push(Partition { index, start, end });
    }
    Some(Table { kind: Kind::Msdos, partitions })
}

fn gpt(head: &[u8], sector: u64) -> Option<Table> {
    let header = head.get(usize::try_from(sector).ok()?..)?;
    if !header.starts_with(GPT_MAGIC) {
        return None;
    }
    let at = usize::try_from(long(header, 72)?.checked_mul(sector)?).ok()?;
    let count = usize::try_from(word(header, 80)?).ok()?.min(MAX_GPT_ENTRIES);
    let length = usize::try_from(word(header, 84)?).ok()?;
    if length < 128 {
        return None;
    }
    let mut partitions = Vec::new();
    for (index, entry) in (1..).zip(head.get(at..)?.chunks_exact(length).take(count)) {
        if entry.get(..16)?.iter().any(|byte| *byte != 0) {
            let (first, last) = (long(entry, 32)?, long(entry, 40)?);
            let end = last.checked_add(1)?.checked_mul(sector)?;
            partitions.push(Partition { index, start: first.checked_mul(sector)?, end });
        }
    }
    Some(Table { kind: Kind::Gpt, partitions })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::missing_tool;
    use super::*;
    use std::process::Command;

    const SIZE: u64 = 64 << 20;

    /// A table as parted writes it, or `None` when parted is not there.
    fn parted(script: &[&str]) -> Option<Table> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(SIZE).unwrap();
        if missing_tool(&["parted"]).is_some() {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "parted is needed");
            println!("skipped: parted is not installed");
            return None;
        }
        let output = Command::new("parted").arg("-s").arg(file.path()).args(script).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let bytes = std::fs::read(file.path()).unwrap();
        parse(&bytes, &bytes, SIZE)
    }

    #[test]
    fn a_table_of_each_kind_is_read_as_parted_wrote_it() {
        for (label, kind) in [("msdos", Kind::Msdos), ("gpt", Kind::Gpt)] {
            let Some(table) = parted(&["mklabel", label, "mkpart", "primary", "0%", "100%"]) else { return };
            assert_eq!((table.kind, table.partitions.len()), (kind, 1));
            let part = &table.partitions[0];
            assert_eq!(part.index, 1);
            // A file has no alignment of its own: the partition begins right after the table.
            assert!(part.start >= 512 && part.start <= 1 << 20, "{part:?}");
            assert!(part.end <= SIZE && part.end > SIZE - (2 << 20), "{part:?}");
            assert!(parted(&["mklabel", label]).unwrap().partitions.is_empty());
        }
    }

    #[test]
    fn zeros_and_boot_sectors_are_no_table() {
        let mut bytes = vec![0; 1 << 20];
        assert_eq!(parse(&bytes, &bytes, SIZE), None);
        bytes[510..512].copy_from_slice(b"\x55\xaa");
        bytes[446..510].fill(0x90);
        assert_eq!(parse(&bytes, &bytes, SIZE), None);
    }

    #[test]
    fn a_lone_spare_gpt_counts_as_a_table_with_something_in_it() {
        let mut bytes = vec![0; 1 << 20];
        let at = bytes.len() - 512;
        bytes[at..at + 8].copy_from_slice(GPT_MAGIC);
        let table = parse(&vec![0; 1 << 20], &bytes, SIZE).unwrap();
        assert_eq!((table.kind, table.partitions.len()), (Kind::Gpt, 1));
    }

    #[test]
    fn damaged_tables_never_panic() {
        let mut bytes = vec![0xff; 1 << 16];
        bytes[512..520].copy_from_slice(GPT_MAGIC);
        let _ = parse(&bytes, &bytes, SIZE);
        for cut in [0, 511, 512, 600] {
            let _ = parse(&bytes[..cut], &bytes[..cut], SIZE);
        }
    }
}
