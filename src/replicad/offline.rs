//! Questions about a disk that its daemon answers while the resource is up, and the disk itself while it is down.

use std::path::Path;

use replica::meta::Attached;

use crate::config::{self, Site};
use crate::ctl::{self, Answer, Request};
use crate::disk::{Backing, DiskProblem};
use crate::{enlarged, verbs};

/// Exit codes of its own.
mod exit {
    pub(super) const UNKNOWN: u8 = 1;
    pub(super) const FAILED: u8 = 20;
}

/// How both are asked.
pub(crate) struct Question<T> {
    /// What the daemon is asked.
    pub(crate) request: Request,
    /// Takes what was asked for out of the answer; any other answer is given back.
    pub(crate) answer: fn(Answer) -> Result<T, Answer>,
    /// The same, out of the metadata.
    pub(crate) of_disk: fn(&Attached) -> T,
}

/// The answer, or the exit code of the verb; why is said already.
pub(crate) fn ask<T>(site: &Site, name: &str, verb: &str, question: Question<T>) -> Result<T, u8> {
    match ctl::ask(&site.socket(), &question.request) {
        // No daemon, or not its business now.
        Err(_) | Ok(Answer::NotUp { .. }) => attached(site, name, verb).map(|disk| (question.of_disk)(&disk)),
        Ok(answer) => (question.answer)(answer).map_err(|answer| verbs::say(&answer, verb, name)),
    }
}

fn attached(site: &Site, name: &str, verb: &str) -> Result<Attached, u8> {
    let parsed = verbs::configuration(site)?;
    let local = config::find(&parsed, name, site).map_err(|text| {
        eprintln!("{text}");
        exit::UNKNOWN
    })?;
    read(Path::new(&local.disk), name).map_err(|problem| {
        eprintln!("{problem}\nCommand 'replica {verb} {name}' terminated with exit code {}", exit::FAILED);
        exit::FAILED
    })
}

/// The metadata of a disk that nobody uses; also of one that has grown since.
fn read(disk: &Path, resource: &str) -> Result<Attached, DiskProblem> {
    let disk = Backing::open(disk)?;
    match enlarged::at_the_old_end(&disk, &enlarged::default_path(resource)) {
        Some((_, attached)) => Ok(attached),
        None => disk.attach(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_nobody_uses_is_read() {
        let file = tempfile::NamedTempFile::new_in(".").unwrap();
        file.as_file().set_len(4 << 20).unwrap();
        let layout = replica::meta::Layout::for_device(4 << 20).unwrap();
        for (offset, bytes) in replica::meta::creation(&layout).into_iter().flatten() {
            std::os::unix::fs::FileExt::write_all_at(file.as_file(), &bytes, offset).unwrap();
        }
        let found = read(file.path(), "no-such-resource").unwrap();
        assert_eq!(found.superblock.generations.current, replica::generation::JUST_CREATED);
    }
}
