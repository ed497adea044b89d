//! The log of every run, below `.futago/runs/` of the project: lines of JSON that only the owner can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Event, Sink};

/// Logs that are kept; older ones are removed.
const KEPT: usize = 100;
const SECONDS_PER_DAY: u64 = 86_400;

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
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let stem = inventory.file_stem().map_or("run".into(), |s| s.to_string_lossy());
        let name = format!("{}-{stem}-{}.jsonl", stamp(since.as_secs()), std::process::id());
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
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut value = serde_json::to_value(event).unwrap_or_default();
        value["time"] = stamp(since.as_secs()).into();
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

/// `20261124T230124Z`.
fn stamp(seconds: u64) -> String {
    let (year, month, day) = civil(seconds / SECONDS_PER_DAY);
    let rest = seconds % SECONDS_PER_DAY;
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Year, month and day of a number of days since 1970-01-01, by counting in 400-year cycles from 0000-03-01.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stamps_are_dates() {
        assert_eq!(stamp(0), "19700101T000000Z");
        assert_eq!(stamp(951_826_154), "20000229T120914Z");
        assert_eq!(stamp(1_795_561_284), "20261124T230124Z");
    }

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
