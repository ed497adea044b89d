//! What a process that follows one that has ended without a word must know, written down in the arena before each
//! action that depends on it.
//!
//! ```text
//! two records, written in turn: magic[8] sequence u64 length u32 crc32c u32 · JSON
//! ```
//! The newest whole one counts: a process that is killed while it writes has not acted on what it was writing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use replica::engine::Resume;
use serde::{Deserialize, Serialize};

use crate::sys::Arena;

/// Names the layout of the arena, too: of the records, the journal and the slots.
const MAGIC: [u8; 8] = *b"futagoL1";
const RECORD: usize = 4 << 10;
const HEADER: usize = 24;
/// A device goes on so many times at most within [`LATELY`]: what ends the program may be one of its requests.
const SUCCESSIONS: usize = 3;
/// Seconds.
const LATELY: u64 = 60;

/// A device, and what the core of its successor cannot read from the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Legacy {
    /// Path of the backing disk.
    pub disk: PathBuf,
    /// Number of the loop device.
    pub number: u32,
    /// Size of the device in bytes.
    pub bytes: u64,
    /// For the core.
    pub resume: Resume,
    /// Its name among what systemd keeps.
    #[serde(default)]
    pub kept: String,
    /// When an earlier process was followed, in seconds since 1970.
    pub successions: Vec<u64>,
}

impl Legacy {
    /// Whether another process may follow: a device that ends its program again and again is given up.
    pub fn succeed(mut self) -> Result<Self, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.successions.retain(|at| now.saturating_sub(*at) < LATELY);
        if self.successions.len() >= SUCCESSIONS {
            return Err(format!(
                "its program has ended {} times within {LATELY} s: perhaps because of what its users ask for; they get errors now",
                self.successions.len() + 1
            ));
        }
        self.successions.push(now);
        Ok(self)
    }

    /// Never goes on with another disk, or without the manager that gave the mandate.
    pub fn fits(&self, disk: &str, managed: bool) -> Result<(), String> {
        if self.disk != Path::new(disk) {
            return Err(format!("the device was made of {}, not of {disk}", self.disk.display()));
        }
        if self.resume.term.is_some() != managed {
            return Err("the resource file says `managed` otherwise now".to_owned());
        }
        Ok(())
    }
}

/// Where it is written down.
#[derive(Debug)]
pub struct Record {
    arena: Arc<Arena>,
    sequence: u64,
    written: Option<Legacy>,
}

impl Record {
    /// Begins with what is there.
    #[must_use]
    pub fn new(arena: Arc<Arena>) -> Self {
        let newest =
            (0..2).filter_map(|place| decode(arena.ledger(place * RECORD, RECORD))).max_by_key(|r| r.0);
        let (sequence, written) = newest.unwrap_or_default();
        Self { arena, sequence, written }
    }

    /// What was written last.
    #[must_use]
    pub fn written(&self) -> Option<&Legacy> {
        self.written.as_ref()
    }

    /// Writes it down, if it is new; `None` when nobody could follow.
    pub fn write(&mut self, legacy: Option<Legacy>) {
        if legacy == self.written {
            return;
        }
        // Numbers, a path and a list of at most three: what does not fit cannot be followed.
        let text = serde_json::to_vec(&legacy).ok().filter(|text| text.len() <= RECORD - HEADER);
        let text = text.unwrap_or_else(|| b"null".to_vec());
        self.sequence += 1;
        let record = encode(self.sequence, &text);
        let place = usize::from(self.sequence.is_multiple_of(2)) * RECORD;
        if let Some(room) = self.arena.ledger(place, RECORD).get_mut(..record.len()) {
            room.copy_from_slice(&record);
        }
        self.written = legacy;
    }
}

fn encode(sequence: u64, text: &[u8]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out), text);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(text);
    out
}

fn decode(record: &[u8]) -> Option<(u64, Option<Legacy>)> {
    let (head, rest) = record.split_at_checked(HEADER)?;
    let (sealed, crc) = head.split_last_chunk::<4>()?;
    let (before, length) = sealed.split_last_chunk::<4>()?;
    let (magic, sequence) = before.split_first_chunk::<8>()?;
    let text = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let sum = crc32c::crc32c_append(crc32c::crc32c(sealed), text);
    if *magic != MAGIC || sum.to_le_bytes() != *crc {
        return None;
    }
    Some((u64::from_le_bytes(sequence.try_into().ok()?), serde_json::from_slice(text).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::TOTAL;

    fn legacy(loss: u64) -> Legacy {
        let resume = Resume { term: Some(3), alone: false, loss, seen: Some(7) };
        let kept = "r0/1".to_owned();
        Legacy { disk: "/dev/vdb1".into(), number: 1, bytes: 1 << 30, resume, kept, successions: Vec::new() }
    }

    #[test]
    fn the_newest_whole_record_counts() {
        let arena = Arc::new(Arena::new(TOTAL).unwrap());
        let mut record = Record::new(Arc::clone(&arena));
        assert_eq!(record.written(), None);
        record.write(Some(legacy(1)));
        record.write(Some(legacy(2)));
        assert_eq!(Record::new(Arc::clone(&arena)).written(), Some(&legacy(2)));
        let text = serde_json::to_vec(&Some(legacy(2))).unwrap();
        for at in 0..HEADER + text.len() {
            arena.ledger(RECORD + at, 1)[0] ^= 1;
            assert_eq!(Record::new(Arc::clone(&arena)).written(), Some(&legacy(1)), "byte {at} is damaged");
            arena.ledger(RECORD + at, 1)[0] ^= 1;
        }
        record.write(None);
        assert_eq!(Record::new(arena).written(), None);
    }

    #[test]
    fn a_device_that_ends_its_program_again_and_again_is_given_up() {
        let mut heir = legacy(1);
        for _ in 0..SUCCESSIONS {
            heir = heir.succeed().unwrap();
        }
        let why = heir.clone().succeed().unwrap_err();
        assert!(why.contains("ended 4 times within 60 s"), "{why}");
        heir.successions = vec![0; 5];
        assert_eq!(heir.succeed().unwrap().successions.len(), 1, "long ago");
    }

    #[test]
    fn another_disk_or_no_manager_is_refused() {
        assert_eq!(legacy(1).fits("/dev/vdb1", true), Ok(()));
        assert!(legacy(1).fits("/dev/vdc1", true).unwrap_err().contains("/dev/vdb1, not of /dev/vdc1"));
        assert!(legacy(1).fits("/dev/vdb1", false).unwrap_err().contains("`managed`"));
    }
}
