//! One run a host: an exclusive lock, with who holds it written inside.
//!
//! The lock belongs to the open file and falls with the process, however that ends. No child inherits it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// An agent whose controller has just gone needs a moment to notice.
const PATIENCE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(50);

/// Held until dropped.
pub(super) struct Lock {
    _file: File,
}

pub(super) enum Taken {
    Ours(Lock),
    /// Who has it, and since when.
    By(String),
}

impl Lock {
    pub(super) fn take(path: &Path, holder: &str) -> io::Result<Taken> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(POLL),
                Err(TryLockError::WouldBlock) => {
                    let mut text = String::new();
                    file.read_to_string(&mut text)?;
                    return Ok(Taken::By(text.trim().to_owned()));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{holder}, process {}, since {}", std::process::id(), clock())?;
        Ok(Taken::Ours(Self { _file: file }))
    }
}

/// Time of day in UTC, which is all that a message about a run under way needs.
fn clock() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() % 86_400;
    format!("{:02}:{:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_is_told_who_holds_the_host_and_gets_it_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/agent.lock");
        let Taken::Ours(first) = Lock::take(&path, "ann@laptop").unwrap() else { panic!("not free") };
        let Taken::By(holder) = Lock::take(&path, "bob@desk").unwrap() else { panic!("taken twice") };
        assert!(holder.starts_with("ann@laptop, process "), "{holder}");
        drop(first);
        assert!(matches!(Lock::take(&path, "bob@desk").unwrap(), Taken::Ours(_)));
        assert!(fs::read_to_string(&path).unwrap().starts_with("bob@desk"));
    }
}
