//! One run a host: an exclusive lock, with who holds it written inside.
//!
//! The lock belongs to the open file and falls with the process, however that ends. No child inherits it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// An agent whose controller has just gone needs a moment to notice.
const PATIENCE: Duration = Duration::from_secs(2);
/// An agent that finishes the step of a controller that is gone is waited for a little longer; the controller
/// that waits for us gives up after 30 s.
const PATIENCE_WITH_ORPHANS: Duration = Duration::from_secs(25);
const POLL: Duration = Duration::from_millis(50);
const ORPHAN: &str = "its controller is gone, it ends after the step that it is doing";

/// Held until dropped.
pub(super) struct Lock {
    file: File,
    holder: String,
}

pub(super) enum Taken {
    Ours(Lock),
    /// Who has it, and since when.
    By(String),
}

impl Lock {
    pub(super) fn take(path: &Path, holder: &str) -> io::Result<Taken> {
        Self::take_within(path, holder, PATIENCE)
    }

    fn take_within(path: &Path, holder: &str, patience: Duration) -> io::Result<Taken> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
            let text = fs::read_to_string(path)?;
            let bound = if text.contains(ORPHAN) { PATIENCE_WITH_ORPHANS } else { patience };
            if started.elapsed() >= bound {
                return Ok(Taken::By(text.trim().to_owned()));
            }
            thread::sleep(POLL);
        }
        let holder = format!("{holder}, process {}, since {}", std::process::id(), clock());
        let lock = Self { file, holder };
        lock.write(&lock.holder)?;
        Ok(Taken::Ours(lock))
    }

    /// Lets others know that nobody waits for this agent any more.
    pub(super) fn orphan(&self) -> io::Result<()> {
        self.write(&format!("{}; {ORPHAN}", self.holder))
    }

    fn write(&self, text: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all_at(format!("{text}\n").as_bytes(), 0)
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

    fn taken(path: &Path, holder: &str) -> Taken {
        Lock::take_within(path, holder, Duration::ZERO).unwrap()
    }

    #[test]
    fn a_second_run_is_told_who_holds_the_host_and_gets_it_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/agent.lock");
        let Taken::Ours(first) = taken(&path, "ann@laptop") else { panic!("not free") };
        let Taken::By(holder) = taken(&path, "bob@desk") else { panic!("taken twice") };
        assert!(holder.starts_with("ann@laptop, process "), "{holder}");
        drop(first);
        assert!(matches!(taken(&path, "bob@desk"), Taken::Ours(_)));
        assert!(fs::read_to_string(&path).unwrap().starts_with("bob@desk"));
    }

    #[test]
    fn an_agent_without_its_controller_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.lock");
        let Taken::Ours(first) = taken(&path, "ann@laptop") else { panic!("not free") };
        first.orphan().unwrap();
        let waiting = {
            let path = path.clone();
            thread::spawn(move || matches!(taken(&path, "bob@desk"), Taken::Ours(_)))
        };
        drop(first);
        assert!(waiting.join().unwrap());
    }
}
