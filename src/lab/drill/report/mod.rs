//! Shows a record: lines for a terminal, one object for programs, a folder with both that and a page for people.

mod page;
mod plot;
mod table;

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::record::Record;

/// A folder that a report is written to.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes the folder if need be, and makes sure that files can be written there.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let probe = path.join(format!(".drill.{}.tmp", std::process::id()));
        let tried = fs::create_dir_all(path).and_then(|()| {
            OpenOptions::new().write(true).create_new(true).open(&probe).map(drop)?;
            fs::remove_file(&probe)
        });
        tried.with_context(|| {
            format!("write a report into {}: name a folder with --report that can be written", path.display())
        })?;
        Ok(Self(path.to_owned()))
    }

    /// Writes `drill-NAME.json` and `drill-NAME.html`, and returns where the page is; what had these names is replaced, whole.
    pub(crate) fn keep(&self, record: &Record, name: &str) -> anyhow::Result<PathBuf> {
        let path = |end: &str| self.0.join(format!("drill-{name}.{end}"));
        for (end, text) in [("json", record.lines()?), ("html", page::render(record)?)] {
            let path = path(end);
            base::file::replace(&path, text.as_bytes(), 0o644)
                .with_context(|| format!("write the report {}", path.display()))?;
            eprintln!("report: {}", path.display());
        }
        Ok(path("html"))
    }
}

impl Record {
    /// The whole as one object, in one line.
    pub(crate) fn json(&self) -> anyhow::Result<String> {
        serde_json::to_string(self).context("write the record of the drills")
    }

    /// The same object, each of its fields and each drill in a line of its own: a file that can be looked into.
    fn lines(&self) -> anyhow::Result<String> {
        let object = serde_json::to_value(self).context("write the record of the drills")?;
        let fields = object.as_object().map(|object| object.iter()).into_iter().flatten();
        let lines: Vec<String> = fields
            .map(|(name, value)| match value.as_array() {
                Some(items) if !items.is_empty() => {
                    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
                    format!("\"{name}\":[\n{}\n]", items.join(",\n"))
                }
                _ => format!("\"{name}\":{value}"),
            })
            .collect();
        Ok(format!("{{{}}}\n", lines.join(",\n")))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn refusal(path: &Path) -> Option<io::ErrorKind> {
        let error = Folder::open(path).err()?;
        error.downcast_ref::<io::Error>().map(io::Error::kind)
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_refused_and_one_that_can_stays_empty() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(refusal(&file.join("below")), Some(io::ErrorKind::NotADirectory));
        let below = folder.path().join("new").join("below");
        assert_eq!(refusal(&below), None);
        assert_eq!(fs::read_dir(&below).unwrap().count(), 0);
    }

    #[test]
    fn both_forms_of_the_object_are_the_same() {
        let record = page::tests::record();
        let lines = record.lines().unwrap();
        let of_file: serde_json::Value = serde_json::from_str(&lines).unwrap();
        let of_line: serde_json::Value = serde_json::from_str(&record.json().unwrap()).unwrap();
        assert_eq!(of_file, of_line);
        assert_eq!(lines.lines().filter(|line| line.starts_with("{\"name\"")).count(), 2, "{lines}");
    }

    #[test]
    fn a_report_is_two_files_that_replace_older_ones() {
        let folder = tempfile::tempdir().unwrap();
        let report = Folder::open(folder.path()).unwrap();
        fs::write(folder.path().join("drill-lamp.html"), "old").unwrap();
        report.keep(&page::tests::record(), "lamp").unwrap();
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|at| at.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["drill-lamp.html", "drill-lamp.json"]);
        assert!(
            fs::read_to_string(folder.path().join("drill-lamp.html")).unwrap().starts_with("<!DOCTYPE html>")
        );
    }
}
