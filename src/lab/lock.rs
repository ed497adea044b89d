//! Locks that die with their process, so that nothing has to be cleaned after a kill.

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::interrupt::Interrupt;
use crate::wait;

/// Released when dropped, or when the process dies in any way.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

/// Takes the lock, waiting at most `limit` for another process; says `busy` on stderr before it waits.
pub(crate) fn take(path: &Path, limit: Duration, busy: &str, interrupt: &Interrupt) -> anyhow::Result<Lock> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let open = File::options().create(true).append(true).open(path);
    let file = open.with_context(|| format!("open lock {}", path.display()))?;
    let mut told = false;
    let taken = wait::until(limit, interrupt, || match file.try_lock() {
        Ok(()) => Ok(Some(())),
        Err(TryLockError::WouldBlock) => {
            if !told {
                eprintln!("{busy}; waiting");
                told = true;
            }
            Ok(None)
        }
        Err(TryLockError::Error(error)) => Err(error).context("lock"),
    });
    match taken {
        Ok(()) => Ok(Lock(file)),
        Err(error) => bail!("{busy}: {error} (lock file {})", path.display()),
    }
}
