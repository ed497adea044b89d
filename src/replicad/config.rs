//! Reads the resource files of a folder and what they include, and says what each resource means on this
//! node. The language itself is `replica::config`'s business.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use replica::config::{self, ConfigError, Include, Local, Parsed, Problem};

/// Files read at most, included ones counted: more is a mistake (a file that includes itself, for instance).
const MAX_FILES: usize = 256;

/// Where things are; overridden only to try things out without touching the system.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Site {
    /// Folder of the resource files.
    #[arg(long, value_name = "DIR", default_value = "/etc/futago/replica.d", hide = true)]
    pub(crate) config: PathBuf,
    /// Folder of the control socket.
    #[arg(long, value_name = "DIR", default_value = "/run/futago", hide = true)]
    pub(crate) run_dir: PathBuf,
    /// Folder of this host's identity: ca.pem, member.pem, member.key.
    #[arg(long, value_name = "DIR", default_value = "/etc/futago/tls", hide = true)]
    pub(crate) tls: PathBuf,
    /// Name of this node in the resource files, instead of what `uname -n` prints.
    #[arg(long, value_name = "NAME", hide = true)]
    pub(crate) node: Option<String>,
}

impl Site {
    /// Name of this node.
    #[must_use]
    pub(crate) fn node(&self) -> String {
        let system = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        self.node.clone().unwrap_or_else(system)
    }

    /// Path of the control socket.
    #[must_use]
    pub(crate) fn socket(&self) -> PathBuf {
        self.run_dir.join("replicad.sock")
    }
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// A file or folder cannot be read.
    #[error("read {}: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Too many files.
    #[error("more than {MAX_FILES} resource files: does one include itself?")]
    TooMany,
    /// What the files say is wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong(Vec<ConfigError>),
}

/// Name and content of a file.
type Text = (String, String);

/// Everything that the folder says. A folder that is not there says nothing.
pub(crate) fn load(folder: &Path) -> Result<Parsed, LoadError> {
    parse(&read(folder)?)
}

/// Like [`load`], but a file with mistakes does not keep the others from being used: the mistakes come second.
pub(crate) fn load_what_works(folder: &Path) -> (Parsed, Vec<LoadError>) {
    let mut problems = Vec::new();
    let mut texts = match read(folder) {
        Ok(texts) => texts,
        Err(error) => return (Parsed::default(), vec![error]),
    };
    loop {
        match parse(&texts) {
            Ok(parsed) => return (parsed, problems),
            Err(LoadError::Wrong(errors)) if !texts.is_empty() => {
                let before = texts.len();
                texts.retain(|(name, _)| !errors.iter().any(|e| *e.at.file == **name));
                if texts.len() == before {
                    texts.clear();
                }
                problems.push(LoadError::Wrong(errors));
            }
            Err(error) => {
                problems.push(error);
                return (Parsed::default(), problems);
            }
        }
    }
}

/// The resources that live on this node.
#[must_use]
pub(crate) fn local(parsed: &Parsed, node: &str) -> Vec<Local> {
    parsed.resources.iter().filter_map(|resource| resource.for_node(node).ok()).collect()
}

/// One resource as this node sees it; the error is for people.
pub(crate) fn find(parsed: &Parsed, name: &str, site: &Site) -> Result<Local, String> {
    let resource = parsed.resource(name).ok_or_else(|| undefined(parsed, name, &site.config))?;
    resource.for_node(&site.node()).map_err(|error| error.to_string())
}

/// The sentence of drbdadm, and where was looked.
pub(crate) fn undefined(parsed: &Parsed, name: &str, folder: &Path) -> String {
    let names: Vec<&str> = parsed.resources.iter().map(|r| r.name.as_str()).collect();
    let defined = if names.is_empty() { "no resource".to_owned() } else { names.join(", ") };
    format!(
        "'{name}' not defined in your config (for this host).\n  {}/*.res define {defined}",
        folder.display()
    )
}

fn parse(texts: &[Text]) -> Result<Parsed, LoadError> {
    let files: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    config::parse_files(&files).map_err(LoadError::Wrong)
}

fn read(folder: &Path) -> Result<Vec<Text>, LoadError> {
    let mut texts: Vec<Text> = Vec::new();
    let mut waiting = matching(folder, "*.res").or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(Vec::new()),
        _ => Err(LoadError::Read { path: folder.to_path_buf(), error }),
    })?;
    waiting.reverse();
    let mut seen = Vec::new();
    while let Some(path) = waiting.pop() {
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        if seen.contains(&real) {
            continue;
        }
        seen.push(real);
        if texts.len() == MAX_FILES {
            return Err(LoadError::TooMany);
        }
        let text =
            fs::read_to_string(&path).map_err(|error| LoadError::Read { path: path.clone(), error })?;
        let name = path.display().to_string();
        // A file with mistakes includes nothing; the mistakes are told when all is parsed together.
        let includes = match config::parse(&name, &text) {
            Ok(parsed) => parsed.includes,
            Err(_) => Vec::new(),
        };
        texts.push((name, text));
        for include in includes {
            waiting.extend(included(&path, &include)?);
        }
    }
    Ok(texts)
}

/// The files that an include names. Only the last part of the pattern may have a `*`. A pattern that matches
/// nothing is no error, as in DRBD; a plain name that does not exist is.
fn included(from: &Path, include: &Include) -> Result<Vec<PathBuf>, LoadError> {
    let pattern = from.parent().unwrap_or(Path::new("/")).join(&include.pattern);
    let last = pattern.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
    if !last.contains('*') {
        return Ok(vec![pattern]);
    }
    let folder = pattern.parent().unwrap_or(Path::new("/"));
    match matching(folder, &last) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LoadError::Read { path: folder.to_path_buf(), error })
        }
        found => Ok(found.unwrap_or_default()),
    }
}

/// Files of a folder whose name matches a pattern with at most one `*`, in order of their names.
fn matching(folder: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
    let (head, tail) = pattern.split_once('*').unwrap_or((pattern, ""));
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let fits = name.to_str().and_then(|n| n.strip_prefix(head)).is_some_and(|rest| rest.ends_with(tail));
        if fits && !name.to_string_lossy().starts_with('.') && entry.path().is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The exit code of a verb that cannot use the configuration.
#[must_use]
pub(crate) fn exit_code(error: &LoadError) -> u8 {
    let unknown_here = |e: &ConfigError| matches!(e.problem, Problem::NotHere { .. });
    match error {
        LoadError::Wrong(errors) if errors.iter().all(unknown_here) => 1,
        LoadError::Wrong(_) | LoadError::TooMany => 10,
        LoadError::Read { .. } => 20,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(name: &str, minor: u32) -> String {
        format!(
            "resource {name} {{ device /dev/drbd{minor}; disk /dev/vd{minor}; meta-disk internal;
               on a {{ address 10.0.0.1:77{minor}0; }} on b {{ address 10.0.0.2:77{minor}0; }} }}\n"
        )
    }

    #[test]
    fn a_broken_file_does_not_keep_the_others_from_being_used() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("r1.res"), resource("r1", 1)).unwrap();
        fs::write(folder.path().join("r2.res"), "resource r2 { nonsense }").unwrap();
        fs::write(folder.path().join("readme.txt"), "not read").unwrap();
        assert!(matches!(load(folder.path()), Err(LoadError::Wrong(_))));
        let (parsed, problems) = load_what_works(folder.path());
        assert_eq!(parsed.resources.len(), 1);
        let text = problems[0].to_string();
        assert!(text.contains("r2.res:1:") && !text.contains("r1.res"), "{text}");
    }

    #[test]
    fn includes_are_followed_relative_to_their_file_and_only_once() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("more")).unwrap();
        fs::write(folder.path().join("r1.res"), format!("include \"more/*.inc\";\n{}", resource("r1", 1)))
            .unwrap();
        fs::write(folder.path().join("more/x.inc"), format!("include \"../r1.res\";\n{}", resource("r2", 2)))
            .unwrap();
        let parsed = load(folder.path()).unwrap();
        let names: Vec<&str> = parsed.resources.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["r1", "r2"]);
    }

    #[test]
    fn no_folder_means_no_resources() {
        assert!(load(Path::new("/does/not/exist")).unwrap().resources.is_empty());
    }
}
