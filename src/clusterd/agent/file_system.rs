//! Is a failure the file system's? Full or read-only, it is the same on the peer: a failover would not help, and
//! the core must know.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster::config::{Class, Resource};
use cluster::event::{AgentOutcome, AgentResult};
use tokio::time::timeout;

use super::mountinfo;

/// Less room than this is none: databases write in pages and log records of this size.
const NO_ROOM_BYTES: u64 = 1024 * 1024;
/// A file system that does not even tell its size in this time hangs.
const ASK: Duration = Duration::from_secs(1);

/// The file systems of the stack.
pub(super) struct FileSystems {
    directories: Vec<PathBuf>,
}

impl FileSystems {
    pub(super) fn of(resources: &[Resource]) -> Self {
        let directory = |resource: &Resource| match &resource.class {
            Class::Mount { directory, .. } => Some(PathBuf::from(directory)),
            _ => None,
        };
        Self { directories: resources.iter().filter_map(directory).collect() }
    }

    /// A failure of a service, told as one of the file system when that is what it looks like.
    pub(super) async fn explain(&self, done: AgentOutcome) -> AgentOutcome {
        if !matches!(done.result, AgentResult::Failed | AgentResult::TimedOut) {
            return done;
        }
        for directory in &self.directories {
            if let Some(problem) = problem(directory).await {
                let reason = format!("{}; {problem}", done.reason);
                return AgentOutcome { result: AgentResult::FileSystem, reason };
            }
        }
        done
    }
}

/// What is wrong with the file system mounted there: read-only, or full. `None` when nothing is mounted.
pub(super) async fn problem(directory: &Path) -> Option<String> {
    let table = mountinfo::own().ok()?;
    let entry = mountinfo::at(&table, directory)?;
    if entry.is_read_only() {
        return Some(format!(
            "the file system at {} is read-only; the kernel's log says why",
            directory.display()
        ));
    }
    full(directory).await
}

/// A sentence when there is no room left.
pub(super) async fn full(directory: &Path) -> Option<String> {
    let path = directory.to_owned();
    let asked = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&path));
    let size = timeout(ASK, asked).await.ok()?.ok()?.ok()?;
    let shown = directory.display();
    if size.f_bavail.saturating_mul(size.f_frsize) < NO_ROOM_BYTES {
        return Some(format!("the file system at {shown} has no space left: free some"));
    }
    if size.f_files > 0 && size.f_favail == 0 {
        return Some(format!("the file system at {shown} has no inodes left: remove some files"));
    }
    None
}
