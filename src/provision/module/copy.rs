//! A file with exactly this content, owner and mode.

use std::fs;
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding as _};
use serde::Deserialize;
use similar::TextDiff;

use super::Module;
use super::attributes::{self, Found, Wanted};
use super::context::Context;
use super::error::Error;
use super::schema::{ArgError, Kind, Schema};
use crate::protocol::Outcome;

const DEFAULT_MODE: u32 = 0o644;
/// Unchanged lines around a change.
const DIFF_CONTEXT: usize = 3;
/// A diff of more bytes than this helps nobody.
const MAX_DIFF_BYTES: usize = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    dest: PathBuf,
    content: Option<String>,
    content_base64: Option<String>,
    mode: Option<String>,
    owner: Option<String>,
    group: Option<String>,
}

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "copy",
        summary: "Writes a file durably: content, owner, group and permission bits.",
        returns: &[],
        example: "\
- name: Greet
  copy:
    dest: /etc/motd
    content: \"This is {{ fqdn }}, half of {{ cluster.name }}.\\n\"
    mode: \"0644\"
",
        keys: &[
            Schema::must("dest", Kind::Path, "the file on the host"),
            Schema::may("content", Kind::Text, "its text"),
            Schema::may("content_base64", Kind::Text, "its bytes in base64, instead of content"),
            Schema::may(
                "mode",
                Kind::Mode,
                "permission bits (default: kept, or \"0644\" for a new file); needed when a secret is in it",
            ),
            Schema::may("owner", Kind::Text, "user that owns it"),
            Schema::may("group", Kind::Text, "group that owns it"),
        ],
    };

    fn validate(&self) -> Vec<ArgError> {
        let mut errors = Vec::new();
        if self.content.is_some() == self.content_base64.is_some() {
            errors.push(ArgError::whole("module copy needs one of src, content and content_base64"));
        }
        if self.dest.as_os_str().as_encoded_bytes().ends_with(b"/") {
            errors
                .push(ArgError::at("dest", "argument \"dest\" of module copy must be a file, not a folder"));
        }
        if self.content_base64.as_deref().is_some_and(|text| Base64::decode_vec(text).is_err()) {
            errors.push(ArgError::at(
                "content_base64",
                "argument \"content_base64\" of module copy is not base64",
            ));
        }
        errors
    }

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        let content = match (self.content, self.content_base64) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(text)) => Base64::decode_vec(&text).unwrap_or_default(),
            (None, None) => Vec::new(),
        };
        let wanted = Wanted::new(self.mode.as_deref(), self.owner.as_deref(), self.group.as_deref())?;
        place(&self.dest, &content, wanted, context)
    }
}

/// Makes `path` a file with this content and these attributes; a link there is followed.
pub(super) fn place(
    path: &Path,
    content: &[u8],
    wanted: Wanted,
    context: &Context,
) -> Result<Outcome, Error> {
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let name = path.display();
    let found = attributes::look(path)?;
    if found.as_ref().is_some_and(|metadata| !metadata.is_file()) {
        return Err(Error::refused(
            format!("{name} exists and is not a file"),
            "choose another dest, or remove it",
        ));
    }
    let Some(found) = found.as_ref().map(Found::of) else {
        if !context.check {
            require_folder(path)?;
            let owner = (wanted.user.unwrap_or(0), wanted.group.unwrap_or(0));
            write(path, content, wanted.mode.unwrap_or(DEFAULT_MODE), owner)?;
        }
        return Ok(context.changed(format!("{name} created"), &difference(path, None, content)));
    };
    let before = fs::read(path).map_err(Error::io("read", path))?;
    let mut lines = wanted.differences(found);
    if before == content {
        if lines.is_empty() {
            return Ok(Context::same(format!("{name} is as asked")));
        }
        if !context.check {
            wanted.apply(path, found)?;
        }
        let first = lines.join(", ");
        return Ok(context.changed(format!("{name}: {}", first.replace("~ ", "")), &lines));
    }
    lines.extend(difference(path, Some(&before), content));
    if !context.check {
        let owner = (wanted.user.unwrap_or(found.user), wanted.group.unwrap_or(found.group));
        write(path, content, wanted.mode.unwrap_or(found.mode), owner)?;
    }
    Ok(context.changed(format!("{name} changed"), &lines))
}

fn write(path: &Path, content: &[u8], mode: u32, owner: (u32, u32)) -> Result<(), Error> {
    base::file::replace_as(path, content, mode, Some(owner)).map_err(Error::io("replace", path))
}

fn require_folder(path: &Path) -> Result<(), Error> {
    match path.parent() {
        Some(folder) if !folder.is_dir() => Err(Error::refused(
            format!("create {}: there is no folder {}", path.display(), folder.display()),
            "make the folder with the file module in an earlier task",
        )),
        _ => Ok(()),
    }
}

/// A unified diff; for bytes that are not text, their sizes.
fn difference(path: &Path, before: Option<&[u8]>, after: &[u8]) -> Vec<String> {
    let (old, new) = (std::str::from_utf8(before.unwrap_or_default()), std::str::from_utf8(after));
    let size = before.map_or(0, <[u8]>::len) + after.len();
    match (old, new) {
        (Ok(old), Ok(new)) if size <= MAX_DIFF_BYTES => {
            let diff = TextDiff::from_lines(old, new);
            let from = if before.is_some() { path.display().to_string() } else { "/dev/null".into() };
            let mut unified = diff.unified_diff();
            unified.context_radius(DIFF_CONTEXT).header(&from, &path.display().to_string());
            vec![unified.to_string().trim_end().to_owned()]
        }
        _ => vec![format!("~ {} bytes -> {} bytes", before.map_or(0, <[u8]>::len), after.len())],
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{applied, converges, mistakes};
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    #[test]
    fn a_file_is_created_then_left_alone_to_its_time_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.conf");
        let args = json!({"dest": path, "content": "one\n", "mode": "0640"});
        let created = converges("copy", args.clone());
        assert!(created.diff.unwrap().contains("+one"));
        let before = fs::metadata(&path).unwrap();
        assert_eq!(before.permissions().mode() & 0o7777, 0o640);
        assert!(!applied("copy", args).changed);
        let after = fs::metadata(&path).unwrap();
        assert_eq!(
            (before.ino(), before.mtime_nsec(), before.ctime_nsec()),
            (after.ino(), after.mtime_nsec(), after.ctime_nsec())
        );
    }

    #[test]
    fn a_change_shows_as_a_unified_diff_and_keeps_mode_and_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.conf");
        fs::write(&path, "one\ntwo\nthree\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let outcome = converges("copy", json!({"dest": path, "content": "one\n2\nthree\n"}));
        let name = path.display();
        let wanted = format!("--- {name}\n+++ {name}\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three");
        assert_eq!(outcome.diff.unwrap(), wanted);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn only_the_mode_is_changed_when_only_it_differs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "x").unwrap();
        let before = fs::metadata(&path).unwrap();
        let outcome = converges("copy", json!({"dest": path, "content": "x", "mode": "0600"}));
        assert_eq!(outcome.diff.as_deref(), Some("~ mode 0644 -> 0600"));
        assert_eq!(fs::metadata(&path).unwrap().ino(), before.ino());
    }

    #[test]
    fn bytes_arrive_whole_and_a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (link, file) = (folder.path().join("link"), folder.path().join("file"));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let outcome = converges("copy", json!({"dest": link, "content_base64": "AP8B"}));
        assert_eq!(
            (fs::read(&file).unwrap(), outcome.diff.as_deref()),
            (vec![0, 255, 1], Some("~ 0 bytes -> 3 bytes"))
        );
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_missing_folder_or_a_folder_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let deep =
            applied("copy", json!({"dest": folder.path().join("no/file"), "content": ""})).failure.unwrap();
        assert!(deep.message.ends_with("/no") && deep.hint.is_some(), "{}", deep.message);
        let taken = applied("copy", json!({"dest": folder.path(), "content": ""})).failure.unwrap();
        assert!(taken.message.ends_with("exists and is not a file"), "{}", taken.message);
    }

    #[test]
    fn exactly_one_kind_of_content_is_needed() {
        let wanted = ["module copy needs one of src, content and content_base64"];
        assert_eq!(mistakes("copy", json!({"dest": "/a"})), wanted);
        assert_eq!(mistakes("copy", json!({"dest": "/a", "content": "", "content_base64": ""})), wanted);
        assert_eq!(mistakes("copy", json!({"dest": "/a", "content_base64": "?"})).len(), 1);
    }
}
