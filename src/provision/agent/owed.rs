//! The handlers that a host owes: something was changed for which they have to run, and they have not run yet.
//!
//! They are kept on the host, durably, so that the next run does what one that failed, lost its host or lost its
//! controller has left, from wherever it comes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::protocol::{Failure, Outcome, Owed};

/// Where they are kept.
pub const OWED: &str = "/var/lib/futago/owed.json";

/// The file with what is in it.
pub(super) struct Ledger {
    path: PathBuf,
    owed: BTreeSet<Owed>,
}

impl Ledger {
    /// Reads what earlier runs have left.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let owed = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { path: path.to_owned(), owed })
    }

    pub(super) fn owed(&self) -> &BTreeSet<Owed> {
        &self.owed
    }

    /// The outcome of a step that notifies these when it has changed something: then they are kept before anybody hears of it.
    pub(super) fn after(&mut self, notify: &BTreeSet<Owed>, outcome: Outcome) -> Outcome {
        if !outcome.changed || notify.is_empty() {
            return outcome;
        }
        let failure = self.set(self.owed.union(notify).cloned().collect()).failure;
        Outcome { failure: outcome.failure.or(failure), ..outcome }
    }

    /// From now on these are owed, and no others.
    pub(super) fn set(&mut self, owed: BTreeSet<Owed>) -> Outcome {
        if owed == self.owed {
            return Outcome::default();
        }
        match self.write(&owed) {
            Ok(()) => {
                self.owed = owed;
                Outcome::default()
            }
            Err(error) => {
                let message = format!("keep which handlers are owed in {}: {error}", self.path.display());
                Outcome { failure: Some(Failure { message, ..Failure::default() }), ..Outcome::default() }
            }
        }
    }

    fn write(&self, owed: &BTreeSet<Owed>) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        base::file::replace(&self.path, &serde_json::to_vec(owed)?, 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owed(handler: &str) -> BTreeSet<Owed> {
        BTreeSet::from([Owed { play: "Web".into(), handler: handler.into() }])
    }

    #[test]
    fn what_a_change_owes_is_there_for_the_next_agent_until_it_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("futago/owed.json");
        let mut ledger = Ledger::open(&path).unwrap();
        let same = ledger.after(&owed("Restart"), Outcome::default());
        assert!(same == Outcome::default() && !path.exists(), "nothing was changed");
        let changed = Outcome { changed: true, ..Outcome::default() };
        assert_eq!(ledger.after(&owed("Restart"), changed.clone()), changed);
        assert_eq!(*Ledger::open(&path).unwrap().owed(), owed("Restart"));
        assert_eq!(ledger.set(BTreeSet::new()), Outcome::default());
        assert!(Ledger::open(&path).unwrap().owed().is_empty());
    }

    #[test]
    fn a_change_whose_handler_cannot_be_kept_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("owed.json");
        let mut ledger = Ledger::open(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let outcome = ledger.after(&owed("Restart"), Outcome { changed: true, ..Outcome::default() });
        let message = outcome.failure.unwrap().message;
        assert!(
            message.starts_with(&format!("keep which handlers are owed in {}: ", path.display())),
            "{message}"
        );
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "{").unwrap();
        assert!(Ledger::open(&path).is_err(), "what cannot be read is not taken for nothing");
    }
}
