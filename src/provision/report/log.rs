//! The log of every run, below `.futago/runs/` of the project: lines of JSON that only the owner can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base::time;

use super::{Event, Sink};

/// Logs of one inventory that are kept; older ones are removed.
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
        let stem = inventory.file_stem().map_or("run".into(), |s| s.to_string_lossy());
        remove_old(&folder, &stem);
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

/// Those of other inventories stay: a run of many has a log for each of them before it begins.
fn remove_old(folder: &Path, stem: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut logs: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    logs.retain(|path| inventory_of(path) == Some(stem));
    logs.sort();
    for path in logs.iter().take((logs.len() + 1).saturating_sub(KEPT)) {
        // What cannot be removed stays.
        let _ = fs::remove_file(path);
    }
}

/// The inventory in `TIME-INVENTORY-PROCESS.jsonl`.
fn inventory_of(log: &Path) -> Option<&str> {
    let (_, rest) = log.file_name()?.to_str()?.strip_suffix(".jsonl")?.split_once('-')?;
    rest.rsplit_once('-').map(|(inventory, _)| inventory)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of the logs that are there.
    fn names(project: &Path) -> Vec<String> {
        let logs = fs::read_dir(project.join(".futago/runs")).unwrap();
        logs.map(|log| log.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn old_logs_of_the_same_inventory_are_removed_and_new_ones_are_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join(".futago/runs");
        fs::create_dir_all(&runs).unwrap();
        for number in 100..250 {
            fs::write(runs.join(format!("20200101T000{number}Z-ha-7.jsonl")), "").unwrap();
        }
        for other in ["20200101T000000Z-ha-west-7.jsonl", "20200101T000000Z-west-7.jsonl"] {
            fs::write(runs.join(other), "").unwrap();
        }
        let log = Log::create(folder.path(), Path::new("ha.yml")).unwrap();
        let left = names(folder.path());
        assert_eq!(left.iter().filter(|name| !name.contains("west")).count(), KEPT);
        assert_eq!(left.len(), KEPT + 2, "those of other inventories stay");
        assert!(left.iter().all(|name| !name.contains("T000150Z")), "the oldest ones go");
        assert_eq!(fs::metadata(log.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    /// All logs of a run are begun before the first of its hosts is contacted.
    #[test]
    fn a_run_of_many_inventories_keeps_all_of_its_logs() {
        let folder = tempfile::tempdir().unwrap();
        let begin = |number| Log::create(folder.path(), Path::new(&format!("ha-{number}.yml"))).unwrap();
        let logs: Vec<Log> = (0..KEPT + 20).map(begin).collect();
        assert!(logs.iter().all(|log| log.path().exists()), "{} are left", names(folder.path()).len());
    }
}
