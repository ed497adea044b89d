//! The history of a node's manager: what it decided, and how long each move of the stack took.
//!
//! Lines of JSON in the state folder, oldest first. When the file has grown the manager renames it once and
//! begins a new one; readers take both. A line that cannot be read is skipped: a power cut may have torn it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use cluster::control::Move;
use cluster::event::LogLevel;
use serde::{Deserialize, Serialize};

/// The file in the state folder that is written to.
pub const FILE: &str = "history.jsonl";
/// The file before it.
pub const OLDER: &str = "history.1.jsonl";
/// Most bytes of each file that are read: the writer keeps them far smaller.
const MAX_BYTES: u64 = 64 << 20;

/// One line of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, in RFC 3339.
    pub at: String,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case")]
pub enum What {
    /// Something was decided or noticed.
    Decision {
        /// How much it matters.
        level: LogLevel,
        /// The sentence.
        text: String,
    },
    /// A move of the stack is over.
    Move(Move),
}

/// The last `limit` entries, oldest first. No history is an empty one.
///
/// # Errors
/// A file is there and cannot be read.
pub fn read(folder: &Path, limit: usize) -> io::Result<Vec<Entry>> {
    let mut last = VecDeque::new();
    for name in [OLDER, FILE] {
        let file = match File::open(folder.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in BufReader::new(file.take(MAX_BYTES)).split(b'\n') {
            let Ok(entry) = serde_json::from_slice(&line?) else { continue };
            last.push_back(entry);
            if last.len() > limit {
                last.pop_front();
            }
        }
    }
    Ok(last.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::member::Node;
    use cluster::record::Term;

    fn entries() -> Vec<Entry> {
        let decision = What::Decision { level: LogLevel::Warn, text: "ha-b is silent".to_owned() };
        let moved = What::Move(Move {
            kind: "takeover".to_owned(),
            term: Term(4),
            from: Some(Node::A),
            to: Node::B,
            because: "ha-a is silent".to_owned(),
            ago_ms: 0,
            steps: vec![("wait for the lease to end".to_owned(), 2100)],
            finished: true,
        });
        let at = |n: u32| format!("2026-11-24T23:01:0{n}Z");
        vec![Entry { at: at(1), what: decision }, Entry { at: at(2), what: moved }]
    }

    #[test]
    fn both_files_are_read_in_order_and_a_torn_line_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = <[Entry; 2]>::try_from(entries()).unwrap();
        let line = |entry: &Entry| serde_json::to_string(entry).unwrap();
        std::fs::write(folder.path().join(OLDER), line(&first) + "\n{\"at\":\"20").unwrap();
        std::fs::write(folder.path().join(FILE), line(&second) + "\n").unwrap();
        assert_eq!(read(folder.path(), 10).unwrap(), entries());
        assert_eq!(read(folder.path(), 1).unwrap(), [second]);
    }

    #[test]
    fn no_history_is_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path(), 10).unwrap(), []);
    }
}
