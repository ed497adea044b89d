//! Owner, group and permission bits of a path.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use super::error::Error;

const PERMISSION_BITS: u32 = 0o7777;

/// What was asked for; nothing means as it is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) mode: Option<u32>,
    pub(super) user: Option<u32>,
    pub(super) group: Option<u32>,
}

/// What a path has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) mode: u32,
    pub(super) user: u32,
    pub(super) group: u32,
}

impl Found {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self {
            mode: metadata.permissions().mode() & PERMISSION_BITS,
            user: metadata.uid(),
            group: metadata.gid(),
        }
    }
}

impl Wanted {
    /// Looks the names up; a number is taken as it is.
    pub(super) fn new(mode: Option<&str>, owner: Option<&str>, group: Option<&str>) -> Result<Self, Error> {
        let user = owner.map(|name| number("user", "/etc/passwd", name)).transpose()?;
        let group = group.map(|name| number("group", "/etc/group", name)).transpose()?;
        // The schema lets only octal digits through.
        Ok(Self { mode: mode.and_then(|text| u32::from_str_radix(text, 8).ok()), user, group })
    }

    /// A line for each difference.
    pub(super) fn differences(&self, found: Found) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(mode) = self.mode.filter(|mode| *mode != found.mode) {
            lines.push(format!("~ mode {:04o} -> {mode:04o}", found.mode));
        }
        if let Some(user) = self.user.filter(|user| *user != found.user) {
            lines.push(format!("~ owner {} -> {user}", found.user));
        }
        if let Some(group) = self.group.filter(|group| *group != found.group) {
            lines.push(format!("~ group {} -> {group}", found.group));
        }
        lines
    }

    /// Sets what differs.
    pub(super) fn apply(&self, path: &Path, found: Found) -> Result<(), Error> {
        let user = self.user.filter(|user| *user != found.user);
        let group = self.group.filter(|group| *group != found.group);
        if user.is_some() || group.is_some() {
            std::os::unix::fs::chown(path, user, group).map_err(Error::io("change the owner of", path))?;
        }
        // Changing the owner takes the set-id bits away.
        let mode = self.mode.unwrap_or(found.mode);
        if mode != found.mode || user.is_some() || group.is_some() {
            let permissions = fs::Permissions::from_mode(mode);
            fs::set_permissions(path, permissions).map_err(Error::io("change the mode of", path))?;
        }
        Ok(())
    }
}

/// The number of a user or group. The files are read directly: a static program has no name services.
fn number(kind: &'static str, file: &str, name: &str) -> Result<u32, Error> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let text = fs::read_to_string(file).map_err(Error::io("read", file))?;
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        fields.nth(1)?.parse().ok()
    });
    found.ok_or_else(|| Error::NoSuchOwner { kind, name: name.to_owned() })
}

/// The metadata of a path, `None` when nothing is there. Links are not followed.
pub(super) fn look(path: &Path) -> Result<Option<fs::Metadata>, Error> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { action: "look at", path: path.to_path_buf(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_named() {
        let found = Found { mode: 0o644, user: 0, group: 0 };
        let wanted = Wanted::new(Some("0640"), Some("root"), Some("4")).unwrap();
        assert_eq!(wanted.differences(found), ["~ mode 0644 -> 0640", "~ group 0 -> 4"]);
        assert!(Wanted::default().differences(found).is_empty());
    }

    #[test]
    fn an_unknown_owner_is_named() {
        let error = Wanted::new(None, Some("no-such-user"), None).unwrap_err();
        assert_eq!(error.to_string(), "there is no user \"no-such-user\" on this host");
    }
}
