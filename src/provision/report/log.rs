//! The log of every run, below `.futago/runs/` of the project: lines of JSON that only the owner can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base::time;

use super::{Event, Sink};

/// Logs that are kept; older ones are removed.
const KEPT: usize = 100;

/// The log of one run.
pub struct Log {
    file: File,
    path: PathBuf,
}

impl Log {
    /// Starts a log for a run of this inventory.
    pub fn create(project: &Path, inventory: &Path) -> io::Result<Self> {
        let folder = project.join(".futago").join("runs");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        remove_old(&folder);
        let stem = inventory.file_stem().map_or("run".into(), |s| s.to_string_lossy());
        let name = format!("{}-{stem}-{}.jsonl", time::compact(SystemTime::now()), std::process::id());
        let path = folder.join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { file, path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Sink for Log {
    fn event(&mut self, event: &Event) {
        if matches!(event, Event::Progress { .. }) {
            return;
        }
        let mut value = serde_json::to_value(event).unwrap_or_default();
        value["time"] = time::compact(SystemTime::now()).into();
        // A full disk on the controller must not stop a run half-way.
        let _ = writeln!(self.file, "{value}");
    }
}

fn remove_old(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut logs: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    logs.retain(|path| path.extension().is_some_and(|e| e == "jsonl"));
    logs.sort();
    for path in logs.iter().take((logs.len() + 1).saturating_sub(KEPT)) {
        // What cannot be removed stays.
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_logs_are_removed_and_new_ones_are_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join(".futago/runs");
        fs::create_dir_all(&runs).unwrap();
        for number in 0..150 {
            fs::write(runs.join(format!("20200101T000000Z-{number:03}.jsonl")), "").unwrap();
        }
        let log = Log::create(folder.path(), Path::new("ha.yml")).unwrap();
        assert_eq!(fs::read_dir(&runs).unwrap().count(), KEPT);
        assert_eq!(fs::metadata(log.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
