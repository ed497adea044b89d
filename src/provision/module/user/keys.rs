//! Keys of SSH that may log in as a user.
//!
//! The folder belongs to the user, who may put links into it: none is followed, so that nothing else on the host can
//! be read or written this way.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;

use super::super::context::Context;
use super::super::error::Error;
use super::super::text::Text;
use crate::protocol::Outcome;

const FOLDER: &str = ".ssh";
const FILE: &str = "authorized_keys";
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// A file of more bytes is not one of keys.
const MAX_BYTES: u64 = 1 << 20;
/// How the kinds of keys begin.
const KINDS: &[&str] = &["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"];
/// How the base64 of every key begins: the length of its kind.
const BEGIN_OF_KEY: &str = "AAAA";

/// Whose keys these are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The key itself in a line, without options and comment.
pub(super) fn key(line: &str) -> Option<&str> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_kind = |word: &str| KINDS.iter().any(|kind| word.starts_with(kind));
    let fits = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    let is_key = |word: &str| word.starts_with(BEGIN_OF_KEY) && word.chars().all(fits);
    words.windows(2).find_map(|pair| match pair {
        [kind, key] if is_kind(kind) && is_key(key) => Some(*key),
        _ => None,
    })
}

/// A key as people know it: its comment, or else its last characters.
pub(super) fn shown(line: &str) -> String {
    let key = key(line).unwrap_or_default();
    match line.trim().split_once(key) {
        Some((_, comment)) if !comment.trim().is_empty() => comment.trim().to_owned(),
        _ => format!("…{}", key.get(key.len().saturating_sub(12)..).unwrap_or(key)),
    }
}

/// Lets these keys in, and with `exclusive` no others.
pub(super) fn bring(
    home: &Path,
    owner: Owner,
    wanted: &[String],
    exclusive: bool,
    context: &Context,
) -> Result<Outcome, Error> {
    let path = home.join(FOLDER).join(FILE);
    if !home.is_dir() {
        let message = format!("there is no folder {} for the keys", home.display());
        if context.check {
            return Ok(Context::unknown(message));
        }
        let hint = "write create_home: true, or make it with the file module in an earlier task";
        return Err(Error::refused(message, hint));
    }
    let folder = open_folder(home, owner)?;
    let found = folder.as_ref().map_or(Ok(None), |folder| read(folder, &path, owner))?;
    let before = Text::new(found.as_ref().map_or("", |(text, _)| text.as_str()));
    let (after, lines) = edited(&before, wanted, exclusive);
    if after == before {
        return Ok(Context::same(format!("{} is as asked", path.display())));
    }
    if !context.check {
        let folder = match folder {
            Some(folder) => folder,
            None => make_folder(home, owner)?,
        };
        let mode = found.map_or(FILE_MODE, |(_, mode)| mode);
        // By the open folder: its path may be another one's by now.
        let inside = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(FILE);
        base::file::replace_as(&inside, after.to_string().as_bytes(), mode, Some((owner.uid, owner.gid)))
            .map_err(Error::io("replace", &path))?;
    }
    Ok(context.changed(format!("{} changed", path.display()), &lines))
}

/// The file with the keys in it, and a line for each difference.
fn edited(before: &Text, wanted: &[String], exclusive: bool) -> (Text, Vec<String>) {
    let mut text = before.clone();
    let mut lines = Vec::new();
    for line in wanted.iter().map(|line| line.trim()) {
        match text.last(|found| key(found).is_some() && key(found) == key(line)) {
            Some(index) if text.bare().nth(index) == Some(line) => {}
            Some(index) => {
                lines.push(format!("~ key {}", shown(line)));
                text.splice(index..index + 1, &[line]);
            }
            None => {
                lines.push(format!("+ key {}", shown(line)));
                text.splice(text.len()..text.len(), &[line]);
            }
        }
    }
    if exclusive {
        let is_wanted = |found: &str| wanted.iter().any(|line| key(line) == key(found));
        let others = before.bare().filter(|line| key(line).is_some() && !is_wanted(line));
        lines.extend(others.map(|line| format!("- key {}", shown(line))));
        text.remove(|found| key(found).is_some() && !is_wanted(found));
    }
    (text, lines)
}

/// The folder, when it is there and the user's own or root's.
fn open_folder(home: &Path, owner: Owner) -> Result<Option<File>, Error> {
    let path = home.join(FOLDER);
    let folder = match open(
        &path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        Ok(folder) => File::from(folder),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP | Errno::NOTDIR) => return Err(foreign(&path, "it is not a folder")),
        Err(error) => return Err(Error::io("open", path)(error.into())),
    };
    let uid = folder.metadata().map_err(Error::io("look at", &path))?.uid();
    if uid != owner.uid && uid != 0 {
        return Err(foreign(&path, "it belongs to somebody else"));
    }
    Ok(Some(folder))
}

fn make_folder(home: &Path, owner: Owner) -> Result<File, Error> {
    let path = home.join(FOLDER);
    fs::DirBuilder::new().mode(FOLDER_MODE).create(&path).map_err(Error::io("create", &path))?;
    std::os::unix::fs::lchown(&path, Some(owner.uid), Some(owner.gid))
        .map_err(Error::io("change the owner of", &path))?;
    open_folder(home, owner)?.ok_or_else(|| foreign(&path, "it has just been removed"))
}

/// Content and mode of the file.
fn read(folder: &File, path: &Path, owner: Owner) -> Result<Option<(String, u32)>, Error> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(folder, FILE, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(foreign(path, "it is a link")),
        Err(error) => return Err(Error::io("open", path)(error.into())),
    };
    let found = file.metadata().map_err(Error::io("look at", path))?;
    if !found.is_file() || found.len() > MAX_BYTES {
        return Err(foreign(path, "it is not a file of keys"));
    }
    if found.uid() != owner.uid && found.uid() != 0 {
        return Err(foreign(path, "it belongs to somebody else"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    let invalid =
        |_| Error::io("read", path)(io::Error::new(io::ErrorKind::InvalidData, "not a text in UTF-8"));
    let text = String::from_utf8(bytes).map_err(invalid)?;
    Ok(Some((text, found.permissions().mode() & 0o7777)))
}

fn foreign(path: &Path, why: &str) -> Error {
    let what = format!("let keys in through {}: {why}", path.display());
    Error::refused(what, "the folder and the file must be the user's own; correct them on the host")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const ANN: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAnn ann@desk";
    const BOB: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADBob bob@desk";

    fn me() -> Owner {
        Owner { uid: rustix::process::getuid().as_raw(), gid: rustix::process::getgid().as_raw() }
    }

    fn run(home: &Path, keys: &[&str], exclusive: bool, check: bool) -> Result<Outcome, Error> {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        bring(home, me(), &keys, exclusive, &Context::new(check, true, &mut |_| {}))
    }

    fn kept(home: &Path) -> String {
        fs::read_to_string(home.join(".ssh/authorized_keys")).unwrap()
    }

    #[test]
    fn keys_are_added_with_a_folder_of_the_users_own_and_found_again() {
        let home = tempfile::tempdir().unwrap();
        assert!(run(home.path(), &[ANN], false, true).unwrap().changed);
        assert!(!home.path().join(".ssh").exists(), "a plan makes nothing");
        let done = run(home.path(), &[ANN], false, false).unwrap();
        assert_eq!((done.changed, done.diff.as_deref()), (true, Some("+ key ann@desk")));
        assert_eq!(kept(home.path()), format!("{ANN}\n"));
        let mode = |path: &str| fs::metadata(home.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(".ssh"), mode(".ssh/authorized_keys")), (0o700, 0o600));
        for check in [true, false] {
            assert!(!run(home.path(), &[ANN], false, check).unwrap().changed);
        }
    }

    #[test]
    fn others_stay_unless_exclusive_and_a_comment_or_options_may_change() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".ssh")).unwrap();
        fs::write(home.path().join(".ssh/authorized_keys"), format!("# ours\n{BOB}\n")).unwrap();
        run(home.path(), &[ANN], false, false).unwrap();
        assert_eq!(kept(home.path()), format!("# ours\n{BOB}\n{ANN}\n"));
        let limited = format!("from=\"192.0.2.1\",no-pty {ANN}");
        assert_eq!(key(&limited), key(ANN));
        let done = run(home.path(), &[&limited], true, false).unwrap();
        assert_eq!(done.diff.as_deref(), Some("~ key ann@desk\n- key bob@desk"));
        assert_eq!(kept(home.path()), format!("# ours\n{limited}\n"));
    }

    #[test]
    fn a_link_in_the_users_folder_is_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let secret = home.path().join("secret");
        fs::write(&secret, "root only\n").unwrap();
        fs::create_dir(home.path().join(".ssh")).unwrap();
        symlink(&secret, home.path().join(".ssh/authorized_keys")).unwrap();
        let error = run(home.path(), &[ANN], false, false).unwrap_err().to_string();
        assert!(error.ends_with("authorized_keys: it is a link"), "{error}");
        fs::remove_dir_all(home.path().join(".ssh")).unwrap();
        symlink(home.path(), home.path().join(".ssh")).unwrap();
        let error = run(home.path(), &[ANN], false, false).unwrap_err().to_string();
        assert!(error.ends_with(".ssh: it is not a folder"), "{error}");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "root only\n");
    }

    #[test]
    fn what_is_no_key_is_told_from_one() {
        assert_eq!(key("command=\"x y\" ecdsa-sha2-nistp256 AAAAE2Vj"), Some("AAAAE2Vj"));
        for wrong in ["", "# ssh-rsa AAAAB3", "ssh-rsa", "ssh-rsa BBBB", "AAAAB3 ssh-rsa", "ssh-rsa AAAA;x"] {
            assert_eq!(key(wrong), None, "{wrong}");
        }
        assert_eq!(shown("ssh-rsa AAAAB3NzaC1yc2EAAAAD"), "…aC1yc2EAAAAD");
    }
}
