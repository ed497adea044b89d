//! A vote on disk: read once at the start, replaced whole and durably at each change, off the driver's thread.
//!
//! A file that was cut short, changed, or belongs to another member is refused, never guessed at: a voter that
//! forgets what it promised can cost acknowledged writes. A missing file is an empty store, which the core treats
//! as one that proves nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::file;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

/// Version of the file's form.
const FORMAT: u32 = 1;
/// Pause before a failed write is tried again: the disk may be full for now.
const WRITE_AGAIN: Duration = Duration::from_secs(1);
/// Far above a record with every resource in it.
const MAX_BYTES: u64 = 1 << 20;

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    format: u32,
    /// Whose vote it is: `a.ha.example.com.futago.internal`.
    member: String,
    /// CRC-32C of the state's bytes.
    checksum: u32,
    state: Value,
}

/// Why a vote cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The file cannot be read.
    #[error("read {}: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is not what was written.
    #[error(
        "{} is damaged ({reason}); this member must not vote on what it may have forgotten. Restore nothing \
         from a backup: if the file is lost, move it away and start again, the others then admit it anew",
        path.display()
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        reason: String,
    },
    /// It is somebody else's.
    #[error("{} is the vote of {found}, and this is {expected}: was it copied from another host?", path.display())]
    Foreign {
        /// Which.
        path: PathBuf,
        /// Whose.
        found: String,
        /// Who this is.
        expected: String,
    },
    /// It was written by a newer version.
    #[error("{} has form {found}, this version knows {FORMAT}: it was written by a newer one", path.display())]
    Format {
        /// Which.
        path: PathBuf,
        /// Its form.
        found: u32,
    },
}

/// Reads a vote; `None` when there is no file.
pub fn read<S: DeserializeOwned>(path: &Path, member: &str) -> Result<Option<S>, KeepError> {
    let read = |error| KeepError::Read { path: path.to_owned(), error };
    match fs::metadata(path) {
        Ok(about) if about.len() > MAX_BYTES => {
            let reason = format!("{} bytes long", about.len());
            return Err(KeepError::Damaged { path: path.to_owned(), reason });
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(read(error)),
    }
    let bytes = fs::read(path).map_err(read)?;
    let damaged = |reason: String| KeepError::Damaged { path: path.to_owned(), reason };
    let envelope: Envelope = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if envelope.format != FORMAT {
        return Err(KeepError::Format { path: path.to_owned(), found: envelope.format });
    }
    if checksum(&envelope.state) != envelope.checksum {
        return Err(damaged("its checksum is wrong".to_owned()));
    }
    if envelope.member != member {
        let (found, expected) = (envelope.member, member.to_owned());
        return Err(KeepError::Foreign { path: path.to_owned(), found, expected });
    }
    serde_json::from_value(envelope.state).map(Some).map_err(|error| damaged(error.to_string()))
}

fn checksum(state: &Value) -> u32 {
    crc32c::crc32c(state.to_string().as_bytes())
}

/// Makes a vote durable.
pub fn write<S: Serialize>(path: &Path, member: &str, state: &S) -> io::Result<()> {
    let state = serde_json::to_value(state)?;
    let envelope = Envelope { format: FORMAT, member: member.to_owned(), checksum: checksum(&state), state };
    file::replace(path, &serde_json::to_vec(&envelope)?, 0o600)
}

/// Writes the newest of what it is given.
#[derive(Debug)]
pub(crate) struct Keeper<S> {
    newest: watch::Sender<Option<(u64, S)>>,
    problem: watch::Receiver<Option<String>>,
}

impl<S: Serialize + Clone + Send + Sync + 'static> Keeper<S> {
    /// `stored` is told the number of each state that is durable; those before it are, too.
    pub(crate) fn start<F, T>(path: PathBuf, member: String, mut stored: F) -> Self
    where
        F: FnMut(u64) -> T + Send + 'static,
        T: Future<Output = ()> + Send,
    {
        let (newest, mut changes) = watch::channel(None::<(u64, S)>);
        let (trouble, problem) = watch::channel(None);
        tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                let Some((seq, state)) = changes.borrow_and_update().clone() else { continue };
                let (to, whose) = (path.clone(), member.clone());
                let written = tokio::task::spawn_blocking(move || write(&to, &whose, &state)).await;
                match written.map_err(io::Error::other).flatten() {
                    Ok(()) => {
                        trouble.send_if_modified(|p| p.take().is_some());
                        stored(seq).await;
                    }
                    Err(error) => {
                        let text = format!("write {}: {error}", path.display());
                        if trouble.send_if_modified(|p| p.replace(text.clone()).as_ref() != Some(&text)) {
                            tracing::error!("{text}; this member does not vote until it can");
                        }
                        changes.mark_changed();
                        tokio::time::sleep(WRITE_AGAIN).await;
                    }
                }
            }
        });
        Self { newest, problem }
    }

    /// Begins to make a state durable; it takes the place of any that is not begun yet.
    pub(crate) fn persist(&self, seq: u64, state: S) {
        self.newest.send_replace(Some((seq, state)));
    }

    /// What stands in the way of writing.
    pub(crate) fn problem(&self) -> watch::Receiver<Option<String>> {
        self.problem.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(change: impl Fn(String) -> String) -> Result<Option<Vec<u64>>, KeepError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vote.json");
        write(&path, "a.x", &vec![1u64, u64::MAX]).unwrap();
        let text = change(fs::read_to_string(&path).unwrap());
        fs::write(&path, text).unwrap();
        read(&path, "a.x")
    }

    #[test]
    fn what_was_written_is_read_and_nothing_is_an_empty_store() {
        assert_eq!(file_with(|text| text).unwrap(), Some(vec![1, u64::MAX]));
        assert_eq!(read::<Vec<u64>>(Path::new("/nonexistent/vote.json"), "a.x").unwrap(), None);
    }

    #[test]
    fn a_vote_cut_short_or_changed_is_refused() {
        let whole = file_with(|text| text).map(|_| ());
        assert!(whole.is_ok());
        for length in [0, 1, 20, 60] {
            let cut = file_with(|text| text.chars().take(length).collect()).unwrap_err();
            assert!(cut.to_string().contains("is damaged"), "{cut}");
        }
        let changed = file_with(|text| text.replace("[1,", "[2,")).unwrap_err();
        assert!(changed.to_string().contains("its checksum is wrong"), "{changed}");
    }

    #[test]
    fn a_vote_of_another_member_is_refused() {
        let foreign = file_with(|text| text.replace("a.x", "b.x")).unwrap_err();
        assert!(matches!(&foreign, KeepError::Foreign { found, .. } if found == "b.x"), "{foreign}");
    }
}
