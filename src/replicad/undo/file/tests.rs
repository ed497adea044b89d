//! On real files: what was saved comes back, whatever a crash has left of the last record.

use super::*;
use tempfile::TempDir;

const LOG: u64 = 77;
const DATA: u64 = 8 << 20;

struct Bench {
    folder: TempDir,
    disk: Backing,
    file: LogFile,
}

fn range(block: u64, blocks: u32) -> Range {
    Range { offset: block * BLOCK, len: blocks * 4096 }
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir_in(".").unwrap();
        let at = folder.path().join("disk");
        File::create(&at).unwrap().set_len(DATA).unwrap();
        let disk = Backing::open(&at).unwrap();
        let mut file = LogFile::new(folder.path().join("undo/r0.undo"));
        file.prepare(&disk, LOG, 1 << 20, true).unwrap();
        Self { folder, disk, file }
    }

    fn fill(&self, range: Range, byte: u8) {
        let mut buffer = Aligned::zeroed(range.len as usize);
        buffer.bytes_mut().fill(byte);
        self.disk.write(range.offset, buffer.bytes()).unwrap();
    }

    fn holds(&self, range: Range, byte: u8) -> bool {
        let mut buffer = Aligned::zeroed(range.len as usize);
        self.disk.read(range.offset, buffer.bytes_mut()).unwrap();
        buffer.bytes().iter().all(|b| *b == byte)
    }

    fn save(&mut self, at: u64, ranges: &[Range]) -> u64 {
        self.file.save(&self.disk, LOG, at, ranges.to_vec()).unwrap();
        at + record_bytes(ranges)
    }

    /// As the daemon finds it after a crash.
    fn reopened(&mut self) -> Result<Found, String> {
        self.file = LogFile::new(self.file.path.clone());
        self.file.find(LOG, DATA)
    }

    fn spoil(&self, at: u64) {
        use std::os::unix::fs::FileExt as _;
        let file = OpenOptions::new().write(true).open(&self.file.path).unwrap();
        file.write_all_at(&[0xee; 512], at).unwrap();
    }
}

#[test]
fn what_was_saved_comes_back_record_by_record() {
    let mut bench = Bench::new();
    let first = [range(3, 1), range(100, 200)];
    let second = [range(0, 1), range(512, 256)];
    for (byte, part) in (1..).zip(first.iter().chain(&second)) {
        bench.fill(*part, byte);
    }
    let next = bench.save(FIRST_RECORD_AT, &first);
    let tail = bench.save(next, &second);
    first.iter().chain(&second).for_each(|part| bench.fill(*part, 0xff));
    let found = bench.reopened().unwrap();
    assert_eq!((found.tail, found.saved.count()), (tail, 1 + 200 + 1 + 256));
    assert!(found.saved.contains(299) && !found.saved.contains(300));
    assert_eq!(bench.file.restore(&bench.disk, LOG, FIRST_RECORD_AT), Ok(next));
    assert_eq!(bench.file.restore(&bench.disk, LOG, next), Ok(tail));
    for (byte, part) in (1..).zip(first.iter().chain(&second)) {
        assert!(bench.holds(*part, byte), "{part:?}");
    }
    assert!(bench.file.find(LOG + 1, DATA).unwrap_err().contains("is not the undo log of this resync"));
    bench.file.give_up();
    assert!(bench.file.find(LOG, DATA).is_err());
}

#[test]
fn the_last_record_counts_only_when_it_is_whole() {
    let mut bench = Bench::new();
    let next = bench.save(FIRST_RECORD_AT, &[range(1, 2)]);
    bench.save(next, &[range(5, 1)]);
    bench.spoil(next + HEADER_BYTES as u64);
    let found = bench.reopened().unwrap();
    assert_eq!((found.tail, found.saved.count()), (next, 2));
    // It is written anew.
    let tail = bench.save(next, &[range(9, 3)]);
    assert_eq!(bench.reopened().unwrap().tail, tail);
}

#[test]
fn a_damaged_record_is_not_restored_and_says_where() {
    let mut bench = Bench::new();
    bench.fill(range(1, 2), 7);
    let next = bench.save(FIRST_RECORD_AT, &[range(1, 2)]);
    bench.save(next, &[range(5, 1)]);
    bench.fill(range(1, 2), 8);
    bench.spoil(FIRST_RECORD_AT + HEADER_BYTES as u64 + 4096);
    let error = bench.file.restore(&bench.disk, LOG, FIRST_RECORD_AT).unwrap_err();
    assert!(error.contains("r0.undo is damaged at byte 4096"), "{error}");
    assert!(bench.holds(range(1, 2), 8), "nothing was written");
}

#[test]
fn a_log_grows_beyond_what_was_expected_and_has_its_bounds() {
    let mut bench = Bench::new();
    let far = bench.file.room - 4096;
    bench.save(far, &[range(1, 2)]);
    assert!(bench.file.room > far + 4096);
    let error = bench.file.prepare(&bench.disk, LOG, 1 << 60, true).unwrap_err();
    assert!(
        error.contains("the undo log needs 1140850688.0 GiB in ") && error.contains("are free there"),
        "{error}"
    );
}

#[test]
fn old_data_of_a_finished_resync_is_not_found_in_a_new_log() {
    let mut bench = Bench::new();
    bench.save(FIRST_RECORD_AT, &[range(1, 2)]);
    bench.file.prepare(&bench.disk, LOG + 1, 4096, true).unwrap();
    assert!(bench.file.find(LOG, DATA).is_err());
    assert_eq!(bench.file.find(LOG + 1, DATA).unwrap().tail, FIRST_RECORD_AT);
    assert!(bench.folder.path().join("undo/r0.undo").exists());
}

#[test]
fn a_record_that_is_damaged_before_others_is_not_taken_for_the_end() {
    let mut bench = Bench::new();
    let next = bench.save(FIRST_RECORD_AT, &[range(1, 2)]);
    bench.save(next, &[range(5, 1)]);
    bench.spoil(FIRST_RECORD_AT);
    let error = bench.reopened().unwrap_err();
    assert!(error.contains("r0.undo is damaged at byte 4096"), "{error}");
}

#[test]
fn a_log_that_was_emptied_is_none() {
    let mut bench = Bench::new();
    OpenOptions::new().write(true).open(&bench.file.path).unwrap().set_len(0).unwrap();
    assert!(bench.reopened().unwrap_err().contains("is not the undo log"));
}

#[test]
fn what_is_no_log_is_neither_written_over_nor_removed() {
    let mut bench = Bench::new();
    let file = bench.folder.path().join("letter");
    fs::write(&file, "dear all").unwrap();
    bench.file = LogFile::new(file.clone());
    let error = bench.file.prepare(&bench.disk, LOG, 4096, false).unwrap_err();
    assert!(error.contains("letter exists and is no undo log"), "{error}");
    bench.file.give_up();
    assert_eq!(fs::read_to_string(&file).unwrap(), "dear all");
}
