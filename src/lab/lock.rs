//! Locks that die with their process, so that nothing has to be cleaned after a kill.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::interrupt::Interrupt;
use crate::wait::{self, WaitError};

/// Released when dropped, or when the process dies in any way.
#[derive(Debug)]
pub(crate) struct Lock {
    #[expect(dead_code, reason = "the open file is the lock")]
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Releases the lock and removes its file: what it guarded is no more.
    pub(crate) fn retire(self) {
        // Whoever waits for it finds that the file is another one now, and opens that.
        let _ = fs::remove_file(&self.path);
    }
}

/// Takes the lock, waiting at most `limit` for another process; says `busy` on stderr before it waits.
pub(crate) fn take(path: &Path, limit: Duration, busy: &str, interrupt: &Interrupt) -> anyhow::Result<Lock> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let mut told = false;
    let taken = wait::until(limit, interrupt, || {
        let file = File::options().create(true).append(true).open(path).context("open the lock file")?;
        match file.try_lock() {
            Ok(()) => Ok(is_at(&file, path).then_some(file)),
            Err(TryLockError::WouldBlock) => {
                if !told {
                    eprintln!("{busy}; waiting");
                    told = true;
                }
                Ok(None)
            }
            Err(TryLockError::Error(error)) => Err(error).context("lock"),
        }
    });
    match taken {
        Ok(file) => Ok(Lock { file, path: path.to_owned() }),
        Err(WaitError::Interrupted(error)) => Err(error.into()),
        Err(error) => bail!("{busy}: {error} (lock file {})", path.display()),
    }
}

/// Whether this open file is still the one of that name: it may have been retired between opening and locking.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), fs::metadata(path)) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_excludes_and_can_be_taken_again_after_it_was_retired() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let take = || take(&path, Duration::ZERO, "busy", &Interrupt::never());
        let first = take().unwrap();
        assert!(take().unwrap_err().to_string().starts_with("busy"));
        first.retire();
        assert!(!path.exists());
        drop(take().unwrap());
        take().unwrap();
    }
}
