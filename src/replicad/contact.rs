//! What a Secondary leaves to the process that follows it: a note that its disk has everything it has confirmed
//! ([`replica::engine::Engine::contact`]). It counts until the machine boots anew, because a power loss may take what
//! the disk has not flushed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Names a run of the kernel (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The note of one resource.
#[derive(Debug)]
pub struct Contact {
    path: PathBuf,
    boot: Option<String>,
    noted: Option<u64>,
}

impl Contact {
    /// Begins with what an earlier process has noted during this run of the kernel.
    #[must_use]
    pub fn new(run_dir: &Path, resource: &str) -> Self {
        let boot = fs::read_to_string(BOOT_ID).ok().map(|text| text.trim().to_owned());
        Self::of_boot(run_dir.join(format!("{resource}.contact")), boot)
    }

    fn of_boot(path: PathBuf, boot: Option<String>) -> Self {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let noted = text.split_once(' ').filter(|(of, _)| Some(*of) == boot.as_deref());
        let noted = noted.and_then(|(_, generation)| u64::from_str_radix(generation.trim(), 16).ok());
        Self { path, boot, noted }
    }

    /// The generation that is noted.
    #[must_use]
    pub fn noted(&self) -> Option<u64> {
        self.noted
    }

    /// Notes it, if it is new; without `generation` nothing is left.
    pub fn note(&mut self, generation: Option<u64>) {
        if self.noted == generation {
            return;
        }
        let written = match (generation, &self.boot) {
            (Some(generation), Some(boot)) => {
                let text = format!("{boot} {generation:016x}\n");
                base::file::replace(&self.path, text.as_bytes(), 0o600)
            }
            _ => fs::remove_file(&self.path),
        };
        match written {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("note the contact with the peer in {}: {error}", self.path.display());
            }
            _ => self.noted = generation,
        }
    }
}

impl Drop for Contact {
    /// Its resource goes down in order: what becomes of the disk from now on is not known.
    fn drop(&mut self) {
        self.note(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_for_the_next_process_and_not_for_the_next_boot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r0.contact");
        let open = |boot: &str| Contact::of_boot(path.clone(), Some(boot.to_owned()));
        let mut contact = open("one");
        assert_eq!(contact.noted(), None);
        contact.note(Some(0xabc));
        // It was killed.
        std::mem::forget(contact);
        std::mem::forget(open("two"));
        let mut next = open("one");
        assert_eq!(next.noted(), Some(0xabc));
        next.note(None);
        assert_eq!(open("one").noted(), None);
        next.note(Some(2));
        assert_eq!(open("two").noted(), None, "the disk may have lost something");
        drop(next);
        assert!(!path.exists(), "it has gone down in order");
    }
}
