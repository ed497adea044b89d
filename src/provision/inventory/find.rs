//! Which files are the inventories: those that are named, those of a named folder, or the one that is found here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use base::yaml::{Content, Node};

/// Names that an inventory has where nothing is said.
const NAMES: [&str; 2] = ["ha.yml", "inventory.yml"];
/// The folder of inventories where nothing is said.
const FOLDER: &str = "inventory";

/// Each file once; an error is the whole text that the user needs.
pub(crate) fn files(named: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    if named.is_empty() {
        return Ok(vec![find()?]);
    }
    let (mut files, mut seen) = (Vec::new(), BTreeSet::new());
    for path in named {
        let found = if path.is_dir() { of_folder(path)? } else { vec![path.clone()] };
        // A file that is not there is told by who reads it.
        files.extend(
            found.into_iter().filter(|file| seen.insert(file.canonicalize().unwrap_or(file.clone()))),
        );
    }
    Ok(files)
}

/// The only one that is here.
pub(crate) fn find() -> Result<PathBuf, String> {
    if let Some(name) = NAMES.iter().find(|name| Path::new(name).is_file()) {
        return Ok(PathBuf::from(name));
    }
    let mut files = inventories(Path::new(FOLDER));
    match files.pop() {
        Some(only) if files.is_empty() => Ok(only),
        Some(_) => Err(format!(
            "there are several inventories in {FOLDER}/; choose one with -i FILE, or all of them with -i {FOLDER}"
        )),
        None => {
            Err("there is no inventory here; name one with -i FILE, or write an example with `futago init`"
                .into())
        }
    }
}

fn of_folder(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let files = inventories(folder);
    if files.is_empty() {
        return Err(format!("{}: there is no inventory (*.yml, *.yaml) in this folder", folder.display()));
    }
    Ok(files)
}

/// The files of YAML in a folder, without those that others of them name as their secrets.
fn inventories(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "yml" || end == "yaml")).collect();
    let secrets: Vec<PathBuf> = files.iter().filter_map(|file| Some(folder.join(secrets(file)?))).collect();
    files.retain(|file| !secrets.contains(file));
    files.sort();
    files
}

/// What an inventory says about its secrets.
fn secrets(inventory: &Path) -> Option<String> {
    let root = Node::parse("", &fs::read_to_string(inventory).ok()?).ok()?;
    match &root.get("secrets")?.content {
        Content::Text(name) => Some(name.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_its_inventories_and_each_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let texts =
            [("b.yml", "secrets: own.yml"), ("a.yaml", "cluster: a"), ("own.yml", "x: y"), ("notes", "")];
        for (name, text) in texts {
            fs::write(path(name), text).unwrap();
        }
        let named = [path("b.yml"), folder.path().to_owned(), path("./b.yml"), path("none.yml")];
        assert_eq!(files(&named).unwrap(), [path("b.yml"), path("a.yaml"), path("none.yml")]);
        fs::create_dir(path("empty")).unwrap();
        let refusal = files(&[path("empty")]).unwrap_err();
        assert!(
            refusal.ends_with("empty: there is no inventory (*.yml, *.yaml) in this folder"),
            "{refusal}"
        );
    }
}
