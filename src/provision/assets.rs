//! Playbooks, templates and files by name: from the project's folders first, then those built into the program.
//!
//! A file of the project hides the built-in one of the same name. Names never lead out of the folders.

use std::path::{Component, Path, PathBuf};

use base::nearest::nearest;

/// How built-in files are shown in messages.
const BUILT_IN: &str = "built-in:";
/// Most bytes of one file that is sent to a host by `copy`.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// Files of one folder, and folders in it, among which the one that was meant is looked for.
const MAX_NAMED: usize = 1000;
const MAX_NAMED_DEPTH: usize = 3;

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../", $name)))),*]
    };
}

static TABLE: &[(&str, &str)] = built_in![
    "playbooks/site.yml",
    "playbooks/network.yml",
    "playbooks/storage.yml",
    "playbooks/members.yml",
    "playbooks/replication.yml",
    "playbooks/cluster.yml",
    "playbooks/stack.yml",
    "playbooks/lamp.yml",
    "playbooks/zabbix.yml",
    "playbooks/wordpress.yml",
    "playbooks/backup.yml",
    "playbooks/running.yml",
    "playbooks/verify.yml",
    "playbooks/zabbix-pair.yml",
    "templates/r0.res.j2",
    "templates/cluster.yml.j2",
    "templates/witness.yml.j2",
    "templates/lamp/mariadb.cnf.j2",
    "templates/lamp/site.conf.j2",
    "templates/lamp/index.php.j2",
    "templates/lamp/alive.php.j2",
    "templates/lamp/first-content.sh.j2",
    "templates/backup/backup.sh.j2",
    "templates/backup/restore.sh.j2",
    "templates/wordpress/config.php.j2",
    "templates/wordpress/site.conf.j2",
    "templates/wordpress/install.php.j2",
    "templates/zabbix/server.conf.j2",
    "templates/zabbix/agent.conf.j2",
    "templates/zabbix/frontend.php.j2",
    "templates/zabbix/site.conf.j2",
    "templates/zabbix/import.sh.j2",
    "templates/zabbix/pair.php.j2",
    "templates/zabbix/template.yml.j2",
    "templates/units/futago-replicad.service.j2",
    "templates/units/futago-clusterd.service.j2",
    "templates/units/futago-witnessd.service.j2",
    "templates/units/futago-alert@.service.j2",
    "templates/units/futago-verify.service.j2",
    "templates/units/futago-verify.timer.j2",
    "templates/units/futago-backup.service.j2",
    "templates/units/futago-backup.timer.j2",
];

/// A text with the name under which it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    /// Path of the file, or `built-in:playbooks/site.yml`.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// Why a file cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AssetError {
    /// Nowhere.
    #[error("there is no {folder}/{name}{near}; looked in {looked}")]
    Missing {
        /// `playbooks`, `templates` or `files`.
        folder: &'static str,
        /// What was asked for.
        name: String,
        /// `, did you mean …`, when there is something like it.
        near: String,
        /// Where.
        looked: String,
    },
    /// It is there, but cannot be read.
    #[error("read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Leads out of the folder, or is too large.
    #[error("{name:?} {reason}")]
    Refused {
        /// What was asked for.
        name: String,
        /// Why not.
        reason: String,
    },
}

/// Where the project's own files are.
#[derive(Clone, Debug)]
pub struct Assets {
    roots: Vec<PathBuf>,
}

impl Assets {
    /// The folders to look in, the most important one first.
    #[must_use]
    pub fn new(roots: Vec<PathBuf>) -> Self {
        let mut seen: Vec<PathBuf> = Vec::new();
        for root in roots {
            if !seen.iter().any(|other| is_same(other, &root)) {
                seen.push(root);
            }
        }
        Self { roots: seen }
    }

    /// A playbook: a path as it is when it is one, else a name.
    pub fn playbook(&self, name: &str) -> Result<Asset, AssetError> {
        if name.contains('/') && Path::new(name).is_file() {
            return read(Path::new(name));
        }
        let name =
            if Path::new(name).extension().is_some() { name.to_owned() } else { format!("{name}.yml") };
        self.text("playbooks", &name)
    }

    /// A playbook that another one imports: beside it, else by name. From one of the folders it is always by
    /// name, so that the most important folder's file is taken.
    pub fn imported(&self, name: &str, importer: &str) -> Result<Asset, AssetError> {
        let folder = Path::new(importer).parent().unwrap_or(Path::new(""));
        let is_ours = self.roots.iter().any(|root| is_same(&root.join("playbooks"), folder));
        let beside = folder.join(name);
        if !importer.starts_with(BUILT_IN) && !is_ours && beside.is_file() {
            return read(&beside);
        }
        self.playbook(name)
    }

    /// A template.
    pub fn template(&self, name: &str) -> Result<Asset, AssetError> {
        self.text("templates", name)
    }

    /// The bytes of a file that is copied to hosts.
    pub fn file(&self, name: &str) -> Result<Vec<u8>, AssetError> {
        let Some(path) = self.find("files", name)? else { return Err(self.missing("files", name)) };
        let failed = |source| AssetError::Read { path: path.display().to_string(), source };
        if std::fs::metadata(&path).map_err(failed)?.len() > MAX_FILE_BYTES {
            let reason = format!("is larger than {} MiB", MAX_FILE_BYTES >> 20);
            return Err(AssetError::Refused { name: name.to_owned(), reason });
        }
        std::fs::read(&path).map_err(failed)
    }

    /// The text of a playbook or template by the name under which it is shown.
    pub(crate) fn shown(name: &str) -> Option<String> {
        match name.strip_prefix(BUILT_IN) {
            Some(full) => TABLE.iter().find(|(known, _)| *known == full).map(|(_, text)| (*text).to_owned()),
            None => std::fs::read_to_string(name).ok(),
        }
    }

    fn text(&self, folder: &'static str, name: &str) -> Result<Asset, AssetError> {
        if let Some(path) = self.find(folder, name)? {
            return read(&path);
        }
        let full = format!("{folder}/{name}");
        match TABLE.iter().find(|(known, _)| *known == full) {
            Some((_, text)) => Ok(Asset { name: format!("{BUILT_IN}{full}"), text: (*text).to_owned() }),
            None => Err(self.missing(folder, name)),
        }
    }

    fn find(&self, folder: &str, name: &str) -> Result<Option<PathBuf>, AssetError> {
        if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
            let reason = format!("must be a plain name below {folder}/");
            return Err(AssetError::Refused { name: name.to_owned(), reason });
        }
        Ok(self.roots.iter().map(|root| root.join(folder).join(name)).find(|path| path.is_file()))
    }

    fn missing(&self, folder: &'static str, name: &str) -> AssetError {
        let mut looked: Vec<String> =
            self.roots.iter().map(|r| r.join(folder).display().to_string()).collect();
        looked.push("the built-in ones".into());
        let names = self.names(folder);
        let near = nearest(name, names.iter().map(String::as_str));
        let near = near.map(|near| format!(", did you mean {near}?")).unwrap_or_default();
        AssetError::Missing { folder, name: name.to_owned(), near, looked: looked.join(", ") }
    }

    /// What there is below a folder: of the project, and built in.
    fn names(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let built_in = TABLE.iter().filter_map(|(name, _)| name.strip_prefix(folder)?.strip_prefix('/'));
        names.extend(built_in.map(str::to_owned));
        for root in &self.roots {
            let root = root.join(folder);
            walk(&root, &root, MAX_NAMED_DEPTH, &mut names);
        }
        names
    }
}

/// Files below a folder by their name in it; a folder that cannot be read has none.
fn walk(root: &Path, folder: &Path, depth: usize, names: &mut Vec<String>) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).take(MAX_NAMED) {
        if path.is_dir() && depth > 0 {
            walk(root, &path, depth - 1, names);
        } else if let Ok(name) = path.strip_prefix(root) {
            names.push(name.display().to_string());
        }
    }
}

/// `./playbooks` and `playbooks` are the same folder.
fn is_same(a: &Path, b: &Path) -> bool {
    let steps = |path: &Path| {
        path.components()
            .filter(|c| *c != Component::CurDir)
            .map(|c| c.as_os_str().to_owned())
            .collect::<Vec<_>>()
    };
    steps(a) == steps(b)
}

fn read(path: &Path) -> Result<Asset, AssetError> {
    let name = path.strip_prefix("./").unwrap_or(path).display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Asset { name, text }),
        Err(source) => Err(AssetError::Read { path: name, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_project_hides_the_built_in_one() {
        let folder = tempfile::tempdir().unwrap();
        let assets = Assets::new(vec![folder.path().to_owned()]);
        assert_eq!(assets.playbook("site").unwrap().name, "built-in:playbooks/site.yml");
        std::fs::create_dir(folder.path().join("playbooks")).unwrap();
        std::fs::write(folder.path().join("playbooks/site.yml"), "[]").unwrap();
        assert_eq!(assets.playbook("site.yml").unwrap().text, "[]");
    }

    #[test]
    fn a_name_cannot_lead_out_of_the_folder() {
        let assets = Assets::new(vec![".".into()]);
        for name in ["../Cargo.toml", "/etc/passwd", "a/../../b"] {
            assert!(matches!(assets.template(name), Err(AssetError::Refused { .. })), "{name}");
        }
        assert!(matches!(assets.template("none.j2"), Err(AssetError::Missing { .. })));
    }
}
