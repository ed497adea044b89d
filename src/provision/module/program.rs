//! The running program itself, installed on the host.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Module;
use super::attributes::{self, Found, Wanted};
use super::context::Context;
use super::error::Error;
use super::schema::{Kind, Schema};
use crate::protocol::Outcome;

/// Where the program is installed, and where the replica module expects it.
pub(super) const DEFAULT_DEST: &str = "/usr/local/sbin/futago";
/// The link leads to the running file even after its path was replaced.
const RUNNING: &str = "/proc/self/exe";
const MODE: u32 = 0o755;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    dest: Option<PathBuf>,
}

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "program",
        summary: "Installs futago itself on the host.",
        returns: &[],
        example: "\
- name: Install futago
  program: {dest: /usr/local/sbin/futago}
",
        keys: &[Schema::may("dest", Kind::Path, "where to (default: /usr/local/sbin/futago)")],
    };

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        let dest = self.dest.as_deref().unwrap_or(Path::new(DEFAULT_DEST));
        install(Path::new(RUNNING), dest, context)
    }
}

fn install(from: &Path, dest: &Path, context: &Context) -> Result<Outcome, Error> {
    let name = dest.display();
    let wanted = Wanted { mode: Some(MODE), ..Wanted::default() };
    let found = attributes::look(dest)?;
    if found.as_ref().is_some_and(|metadata| !metadata.is_file()) {
        return Err(Error::refused(
            format!("{name} exists and is not a file"),
            "choose another dest, or remove it",
        ));
    }
    let found = found.as_ref().map(Found::of);
    if let Some(found) = found
        && same_content(from, dest)?
    {
        let lines = wanted.differences(found);
        if lines.is_empty() {
            return Ok(Context::same(format!("{name} is this program")));
        }
        if !context.check {
            wanted.apply(dest, found)?;
        }
        return Ok(context.changed(format!("{name}: mode corrected"), &lines));
    }
    if !context.check {
        let bytes = fs::read(from).map_err(Error::io("read", from))?;
        base::file::replace(dest, &bytes, MODE).map_err(Error::io("replace", dest))?;
    }
    let what = if found.is_some() { "replaced by this program" } else { "installed" };
    Ok(context
        .changed(format!("{name} {what}"), &[format!("{} {name}", if found.is_some() { "~" } else { "+" })]))
}

/// Both files are on this host: comparing them is faster than hashing them.
fn same_content(a: &Path, b: &Path) -> Result<bool, Error> {
    const PIECE: usize = 1 << 20;
    let open = |path: &Path| fs::File::open(path).map_err(Error::io("read", path));
    let (mut first, mut second) = (open(a)?, open(b)?);
    let size =
        |file: &fs::File, path: &Path| file.metadata().map(|m| m.len()).map_err(Error::io("look at", path));
    if size(&first, a)? != size(&second, b)? {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        let count = fill(&mut first, &mut left).map_err(Error::io("read", a))?;
        if fill(&mut second, &mut right).map_err(Error::io("read", b))? != count {
            return Ok(false);
        }
        if left.get(..count) != right.get(..count) {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

fn fill(file: &mut fs::File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while let Some(rest) = buffer.get_mut(have..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            count => have += count,
        }
    }
    Ok(have)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{applied, checked, converges, mistakes};
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    #[test]
    fn the_running_program_is_installed_once_and_replaces_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let dest = folder.path().join("futago");
        converges("program", json!({"dest": dest}));
        let before = fs::metadata(&dest).unwrap();
        assert_eq!(before.permissions().mode() & 0o7777, 0o755);
        assert!(!applied("program", json!({"dest": dest})).changed);
        assert_eq!(fs::metadata(&dest).unwrap().ino(), before.ino());
        fs::write(&dest, "older").unwrap();
        converges("program", json!({"dest": dest}));
        assert_eq!(fs::metadata(&dest).unwrap().len(), before.len());
    }

    #[test]
    fn a_folder_in_its_place_is_refused_by_the_plan_already_and_wrong_arguments_before_contact() {
        let folder = tempfile::tempdir().unwrap();
        let taken = checked("program", json!({"dest": folder.path()})).failure.unwrap();
        assert!(taken.message.ends_with("exists and is not a file"), "{}", taken.message);
        let relative = mistakes("program", json!({"dest": "sbin/futago"}));
        assert_eq!(
            relative,
            ["argument \"dest\" of module program must be an absolute path, not \"sbin/futago\""]
        );
        let misspelt = mistakes("program", json!({"dst": "/usr/local/sbin/futago"}));
        assert_eq!(misspelt, ["module program has no argument \"dst\"; did you mean \"dest\"?"]);
    }

    #[test]
    fn a_difference_in_the_last_byte_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        let mut bytes = vec![7; (1 << 20) + 5];
        fs::write(&a, &bytes).unwrap();
        fs::write(&b, &bytes).unwrap();
        assert!(same_content(&a, &b).unwrap());
        *bytes.last_mut().unwrap() = 8;
        fs::write(&b, &bytes).unwrap();
        assert!(!same_content(&a, &b).unwrap());
    }
}
