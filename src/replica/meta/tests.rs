//! Metadata is read back as it was written, whatever byte a power cut stopped at; nothing makes it panic.

use proptest::prelude::*;

use super::*;
use crate::generation::{Generations, HISTORY};

fn superblock() -> impl Strategy<Value = Superblock> {
    (any::<[u64; 8]>(), any::<[u64; HISTORY]>(), any::<[bool; 7]>()).prop_map(|(words, history, flags)| {
        let [sequence, data_bytes, agreed_bytes, current, bitmap, fence, parted, log] = words;
        let [consistent, was_up_to_date, outdated, primary, crashed_primary, survived, undo] = flags;
        let generations = Generations { current, bitmap, history, counter: fence ^ current };
        let before = Generations { current: bitmap, ..generations.clone() };
        let undo = undo.then_some(UndoMark { log: log.max(1), generations: before, as_of: parted ^ log });
        Superblock {
            sequence,
            data_bytes,
            agreed_bytes,
            generations,
            consistent,
            was_up_to_date,
            outdated,
            primary,
            crashed_primary,
            survived,
            fence,
            parted,
            undo,
        }
    })
}

fn created(bytes: u64) -> (Layout, Vec<u8>) {
    let layout = Layout::for_device(bytes).unwrap();
    let (at, len) = layout.metadata();
    let mut area = vec![0xa5; usize::try_from(len).unwrap()];
    for (offset, bytes) in creation(&layout).into_iter().flatten() {
        let start = usize::try_from(offset - at).unwrap();
        area[start..start + bytes.len()].copy_from_slice(&bytes);
    }
    (layout, area)
}

proptest! {
    #[test]
    fn a_superblock_comes_back_as_it_was(superblock in superblock()) {
        prop_assert_eq!(Superblock::decode(&superblock.encode()), Ok(superblock));
    }

    #[test]
    fn a_damaged_superblock_is_never_believed(superblock in superblock(), at in 0..SUPER_BYTES, bit in 0u8..8) {
        let mut bytes = superblock.encode();
        bytes[at] ^= 1 << bit;
        prop_assert!(Superblock::decode(&bytes).is_err());
    }

    #[test]
    fn arbitrary_areas_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let layout = Layout::for_device(1 << 20).unwrap();
        prop_assert!(Attached::decode(layout, &bytes).is_err());
        let _ = activity::Transaction::decode(&bytes);
    }

    #[test]
    fn the_parts_fit_on_the_device_and_do_not_overlap(bytes in MIN_DEVICE_BYTES..1 << 44) {
        let l = Layout::for_device(bytes).unwrap();
        prop_assert!(l.data_bytes > 0 && l.data_bytes.is_multiple_of(BLOCK));
        prop_assert!(l.bitmap_bytes * 8 >= l.data_bytes / BLOCK, "a bit for every block");
        prop_assert_eq!(l.bitmap_at, l.data_bytes);
        prop_assert_eq!(l.activity_at, l.bitmap_at + l.bitmap_bytes);
        let (at, len) = l.metadata();
        prop_assert!(at + len <= bytes && bytes - (at + len) < BLOCK);
    }
}

#[test]
fn a_created_disk_is_just_created() {
    let (layout, area) = created(3 << 20);
    let attached = Attached::decode(layout, &area).unwrap();
    assert_eq!(attached.superblock, Superblock::just_created(&layout));
    assert_eq!(attached.bitmap.count(), 0);
}

/// A write of the superblock that stops after any sector leaves the old or the new one.
#[test]
fn a_torn_superblock_leaves_the_one_before() {
    let (layout, mut area) = created(3 << 20);
    let (at, _) = layout.metadata();
    let old = Superblock::just_created(&layout);
    let mut new = old.clone();
    new.sequence += 1;
    new.generations.rotate(77);
    let slot = usize::try_from(layout.super_slot(new.sequence) - at).unwrap();
    let bytes = new.encode();
    for sectors in 0..=8 {
        area[slot..slot + sectors * 512].copy_from_slice(&bytes[..sectors * 512]);
        let found = Attached::decode(layout, &area).unwrap().superblock;
        assert_eq!(found, if sectors == 8 { new.clone() } else { old.clone() }, "{sectors} sectors written");
    }
}

#[test]
fn an_interrupted_creation_leaves_a_disk_without_metadata() {
    let layout = Layout::for_device(3 << 20).unwrap();
    let (at, len) = layout.metadata();
    let mut area = vec![0xa5; usize::try_from(len).unwrap()];
    let [blank, _] = creation(&layout);
    for (offset, bytes) in blank {
        let start = usize::try_from(offset - at).unwrap();
        area[start..start + bytes.len()].copy_from_slice(&bytes);
        assert_eq!(Attached::decode(layout, &area).unwrap_err(), MetaError::Missing);
    }
}

#[test]
fn a_newer_format_is_refused_even_if_the_older_copy_is_whole() {
    let (layout, mut area) = created(3 << 20);
    let (at, _) = layout.metadata();
    let mut bytes = Superblock::just_created(&layout).encode();
    bytes[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..CRC_AT]);
    bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    let slot = usize::try_from(layout.super_slot(0) - at).unwrap();
    area[slot..slot + SUPER_BYTES].copy_from_slice(&bytes);
    assert_eq!(Attached::decode(layout, &area).unwrap_err(), MetaError::Newer { found: VERSION + 1 });
}

#[test]
fn the_first_format_is_read_as_one_without_an_undo_log() {
    let layout = Layout::for_device(3 << 20).unwrap();
    let old = Superblock::just_created(&layout);
    let mut bytes = old.encode();
    bytes[8..12].copy_from_slice(&1u32.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..CRC_AT]);
    bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(Superblock::decode(&bytes), Ok(old));
}

#[test]
fn metadata_of_another_size_is_refused() {
    let (_, area) = created(3 << 20);
    let other = Layout::for_device((3 << 20) + 4096).unwrap();
    assert!(matches!(Attached::decode(other, &area), Err(MetaError::Resized { .. } | MetaError::Incomplete)));
}
