//! Secrets: those that a person has written, and passwords that the stack needs and nobody has written.
//!
//! Both are in one file, `name: value` in YAML, which only its owner can read: the one that the inventory names, else one of
//! the project's own folder. A password is made when it is first needed, added to that file before any host is contacted,
//! and never made again.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use base::problem::{Place, Problem, Problems};
use base::yaml::{Content, Node};

use super::project;
use super::read::variables;
use crate::quote::names_a_secret;

/// A secret shorter than this would mask ordinary words.
pub(super) const MIN_CHARS: usize = 6;
/// Of one that is made: some 139 bits.
const MADE_CHARS: usize = 24;
/// Folder of the project for what only this program writes.
const FOLDER: &str = ".futago";

/// Why a secret could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The file or its folder.
    #[error("{action} {path}: {source}; no host was contacted", path = path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Somebody has damaged the file meanwhile.
    #[error("{0}")]
    Content(Problems),
}

/// The secrets of one inventory.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Secrets {
    file: PathBuf,
    values: Map<String, Value>,
    /// Names of those that are in no file yet.
    made: Vec<String>,
}

impl Secrets {
    /// Those of a file, and a new value for each password that is not there. `named` is the file that the inventory names.
    pub(super) fn read(
        named: Option<PathBuf>,
        project: &Path,
        inventory: &Path,
        passwords: &[&str],
        problems: &mut Problems,
    ) -> Self {
        let may_be_missing = named.is_none() || !passwords.is_empty();
        let file = named.unwrap_or_else(|| default_file(project, inventory));
        let mut secrets = Self { values: Map::new(), file, made: Vec::new() };
        if passwords.is_empty() && may_be_missing {
            return secrets;
        }
        match load(&secrets.file, may_be_missing).and_then(|(values, _)| secrets.complete(values, passwords))
        {
            Ok(()) => {}
            Err(found) => problems.extend(found),
        }
        secrets
    }

    /// All of them, by name.
    #[must_use]
    pub fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// Where they are kept.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Adds those that were made to the file, durably, and returns their names. What another run has added meanwhile counts.
    pub fn keep(&mut self) -> Result<Vec<String>, SecretsError> {
        if self.made.is_empty() {
            return Ok(Vec::new());
        }
        let folder = self.file.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| SecretsError::File { action, path, source }
        };
        if folder.ends_with(FOLDER) {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed("make", folder))?;
        }
        // Two runs at the same time must not make two passwords; the lock falls with the folder's descriptor.
        let held = File::open(folder).and_then(|folder| folder.lock().map(|()| folder));
        let _held = held.map_err(failed("lock", folder))?;
        let (there, mut text) = load(&self.file, true).map_err(SecretsError::Content)?;
        let made = std::mem::take(&mut self.made);
        let (late, new): (Vec<String>, Vec<String>) = made.into_iter().partition(|n| there.contains_key(n));
        for name in late {
            self.values.insert(name.clone(), there.get(&name).cloned().unwrap_or_default());
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        for name in &new {
            // Letters and digits in quotes: JSON and YAML agree on that.
            text += &format!("{name}: {}\n", self.values.get(name).cloned().unwrap_or_default());
        }
        if !new.is_empty() {
            base::file::replace(&self.file, text.as_bytes(), 0o600).map_err(failed("write", &self.file))?;
        }
        Ok(new)
    }

    fn complete(&mut self, values: Map<String, Value>, passwords: &[&str]) -> Result<(), Problems> {
        self.values = values;
        for name in passwords {
            if self.values.contains_key(*name) {
                continue;
            }
            let value = base::random::text(MADE_CHARS).map_err(|error| {
                let place = Place::start(&self.file.display().to_string());
                Problem::new(&place, format!("make the password {name:?}: {error}"))
            })?;
            self.values.insert((*name).to_owned(), value.into());
            self.made.push((*name).to_owned());
        }
        Ok(())
    }
}

/// Where they are when the inventory names no file.
fn default_file(project: &Path, inventory: &Path) -> PathBuf {
    let stem = inventory.file_stem().unwrap_or_default().to_string_lossy();
    project.join(FOLDER).join(format!("{stem}.secrets.yml"))
}

/// What must not be shown of an inventory that is wrong, as far as it can be known: what is in the file of its secrets, and
/// what has the name of one.
pub(super) fn hidden(root: &Node, inventory: &Path) -> Vec<String> {
    let named = root.get("secrets").and_then(|node| match &node.content {
        Content::Text(name) => Some(inventory.parent().unwrap_or(Path::new("")).join(name)),
        _ => None,
    });
    let file = named.unwrap_or_else(|| default_file(&project(inventory), inventory));
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut texts = Vec::new();
    if let Some(secrets) = Node::read("", &text, &mut Problems::default()) {
        collect(&secrets, true, &mut texts);
    }
    collect(root, false, &mut texts);
    texts
}

/// Adds the texts of a value that is secret, or has a secret in it by its name. One that could be a word is not one.
fn collect(node: &Node, is_secret: bool, texts: &mut Vec<String>) {
    match &node.content {
        Content::Text(text) if is_secret && text.chars().count() >= MIN_CHARS => texts.push(text.clone()),
        Content::List(items) => items.iter().for_each(|item| collect(item, is_secret, texts)),
        Content::Map(entries) => {
            for entry in entries.iter().filter(|entry| entry.key != "secrets") {
                collect(&entry.value, is_secret || names_a_secret(&entry.key), texts);
            }
        }
        _ => {}
    }
}

/// A file of its own that only its owner can read: its secrets, and its text.
fn load(path: &Path, may_be_missing: bool) -> Result<(Map<String, Value>, String), Problems> {
    let shown = path.display().to_string();
    let start = Place::start(&shown);
    let fail = |message: String, hint: String| Problems::from(Problem::new(&start, message).hint(hint));
    let read = std::fs::metadata(path).and_then(|meta| Ok((meta, std::fs::read(path)?)));
    let (meta, bytes) = match read {
        Ok(read) => read,
        Err(error) if may_be_missing && error.kind() == io::ErrorKind::NotFound => {
            return Ok(Default::default());
        }
        Err(e) => return Err(fail(format!("read the secrets: {e}"), "write it, or drop \"secrets\"".into())),
    };
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(fail("others can read the secrets".into(), format!("chmod 600 {shown}")));
    }
    if bytes.starts_with(b"age-encryption.org/") || bytes.starts_with(b"-----BEGIN AGE") {
        let hint = "decrypt it to a file that only you can read, and name that one".into();
        return Err(fail("this file is encrypted; this version reads plain YAML".into(), hint));
    }
    let text =
        String::from_utf8(bytes).map_err(|_| fail("the file is not text".into(), "write YAML".into()))?;
    if text.trim().is_empty() {
        return Ok((Map::new(), text));
    }
    let root = Node::parse(&shown, &text)?;
    let mut problems = Problems::default();
    for entry in root.entries() {
        let long = matches!(&entry.value.content, Content::Text(t) if t.chars().count() >= MIN_CHARS);
        if !long {
            let message =
                format!("the secret {:?} must be text of {MIN_CHARS} characters or more", entry.key);
            problems.push(Problem::new(&entry.place, message));
        }
    }
    let secrets = variables(root.entries(), &mut problems);
    problems.or((secrets, text))
}

#[cfg(test)]
mod tests {
    use super::super::Inventory;
    use super::*;

    fn inventory(folder: &Path, more: &str) -> Result<Inventory, Problems> {
        let text = format!("{}{more}", include_str!("../../../inventory/example.yml"));
        Inventory::parse(&folder.join("ha.yml"), &text)
    }

    fn password(inventory: &Inventory) -> String {
        inventory.secrets.values()["zabbix_admin_password"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_password_is_made_once_and_kept_where_only_its_owner_reads() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = inventory(folder.path(), "stack: zabbix\n").unwrap();
        let mut beside = inventory(folder.path(), "stack: zabbix\n").unwrap();
        assert!(!folder.path().join(".futago").exists(), "reading an inventory writes nothing");
        assert_eq!(first.secrets.keep().unwrap(), ["zabbix_admin_password"]);
        assert_eq!(beside.secrets.keep().unwrap(), Vec::<String>::new(), "the first one counts");
        assert_eq!(password(&first), password(&beside));
        let file = folder.path().join(".futago/ha.secrets.yml");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let mut again = inventory(folder.path(), "stack: zabbix\n").unwrap();
        assert_eq!(again.secrets.keep().unwrap(), Vec::<String>::new());
        assert_eq!(password(&again), password(&first));
    }

    #[test]
    fn what_a_person_has_written_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("own.yml");
        let own = "# mine\nweb_token: tiger-and-dragon";
        base::file::replace(&file, own.as_bytes(), 0o600).unwrap();
        let mut made = inventory(folder.path(), "stack: zabbix\nsecrets: own.yml\n").unwrap();
        made.secrets.keep().unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, format!("{own}\nzabbix_admin_password: \"{}\"\n", password(&made)));
        let chosen = format!("{own}\nzabbix_admin_password: correct horse\n");
        base::file::replace(&file, chosen.as_bytes(), 0o600).unwrap();
        let mut kept = inventory(folder.path(), "stack: zabbix\nsecrets: own.yml\n").unwrap();
        assert_eq!(kept.secrets.keep().unwrap(), Vec::<String>::new());
        assert_eq!(password(&kept), "correct horse");
    }

    #[test]
    fn a_named_file_may_be_missing_only_when_something_will_be_kept_there() {
        let folder = tempfile::tempdir().unwrap();
        let problems = inventory(folder.path(), "secrets: own.yml\n").unwrap_err().to_string();
        assert!(problems.contains("read the secrets"), "{problems}");
        let mut made = inventory(folder.path(), "stack: zabbix\nsecrets: own.yml\n").unwrap();
        made.secrets.keep().unwrap();
        assert!(folder.path().join("own.yml").exists());
    }
}
