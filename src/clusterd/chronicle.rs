//! Writes the history that [`crate::history`] reads: every sentence of the core, and each move of the stack with
//! its steps when it has come to its end.
//!
//! Off the driver's thread and bounded: a full disk costs lines, never decisions. The file is renamed once when it
//! has grown, so that two of them are all there ever is.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base::time::rfc3339;
use cluster::control::{Move, Status};
use cluster::event::LogLevel;
use cluster::record::Term;
use tokio::sync::mpsc;

use crate::history::{Entry, FILE, OLDER, What};

/// The file is renamed when it is longer: some thousand lines.
const MAX_BYTES: u64 = 1 << 20;
/// Lines that wait for the disk.
const QUEUE: usize = 256;

/// Takes entries and never waits.
#[derive(Debug)]
pub(crate) struct Chronicle {
    lines: mpsc::Sender<Entry>,
    last_move: Option<(Term, String)>,
}

impl Chronicle {
    /// Writes into this folder.
    pub(crate) fn start(folder: &Path) -> Self {
        let (lines, entries) = mpsc::channel(QUEUE);
        tokio::spawn(write(folder.to_owned(), entries));
        Self { lines, last_move: None }
    }

    /// A sentence of the core.
    pub(crate) fn decision(&self, level: LogLevel, text: &str) {
        self.put(What::Decision { level, text: text.to_owned() });
    }

    /// Looks whether a move has come to its end.
    pub(crate) fn look(&mut self, status: &Status) {
        let Some(newest) = status.history.first().filter(|newest| newest.finished) else { return };
        let name = (newest.term, newest.kind.clone());
        if self.last_move.as_ref() != Some(&name) {
            self.put(What::Move(Move { ago_ms: 0, ..newest.clone() }));
            self.last_move = Some(name);
        }
    }

    fn put(&self, what: What) {
        if self.lines.try_send(Entry { at: rfc3339(SystemTime::now()), what }).is_err() {
            tracing::debug!("a line of the history is lost: the disk is behind");
        }
    }
}

async fn write(folder: PathBuf, mut entries: mpsc::Receiver<Entry>) {
    let mut broken = false;
    while let Some(first) = entries.recv().await {
        let mut lines = vec![first];
        while let Ok(next) = entries.try_recv() {
            lines.push(next);
        }
        let to = folder.clone();
        let written = tokio::task::spawn_blocking(move || append(&to, &lines)).await;
        let written = written.map_err(io::Error::other).flatten();
        if let Err(error) = &written
            && !broken
        {
            tracing::warn!("write the history in {}: {error}", folder.display());
        }
        broken = written.is_err();
    }
}

fn append(folder: &Path, entries: &[Entry]) -> io::Result<()> {
    let path = folder.join(FILE);
    if fs::metadata(&path).is_ok_and(|about| about.len() > MAX_BYTES) {
        fs::rename(&path, folder.join(OLDER))?;
    }
    let mut bytes = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut bytes, entry)?;
        bytes.push(b'\n');
    }
    OpenOptions::new().create(true).append(true).open(path)?.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history;

    #[test]
    fn what_is_written_is_read_and_the_file_is_renamed_when_it_has_grown() {
        let folder = tempfile::tempdir().unwrap();
        let entry = |text: &str| {
            let what = What::Decision { level: LogLevel::Info, text: text.to_owned() };
            Entry { at: rfc3339(SystemTime::now()), what }
        };
        let long = "x".repeat(usize::try_from(MAX_BYTES).unwrap());
        append(folder.path(), &[entry(&long)]).unwrap();
        append(folder.path(), &[entry("after")]).unwrap();
        assert!(folder.path().join(OLDER).exists());
        let read = history::read(folder.path(), 10).unwrap();
        assert!(matches!(&read[1].what, What::Decision { text, .. } if text == "after"));
    }
}
