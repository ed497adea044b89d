//! Users and groups as the files of a host have them. They are read directly: a static program has no name services.
//!
//! Reads only; changes are made by the host's own programs, which keep the files consistent.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::super::error::Error;
use super::super::exec::{self, program};

/// Bound for a program that changes one line of a file; a lock of another one is waited for.
const CHANGE: Duration = Duration::from_secs(60);

/// Where users and groups are kept, and what changes them.
pub(super) struct Host {
    root: PathBuf,
    chpasswd: Vec<OsString>,
}

/// A line of /etc/passwd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) comment: String,
    pub(super) home: PathBuf,
    pub(super) shell: String,
}

/// A line of /etc/group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) gid: u32,
    pub(super) members: Vec<String>,
}

impl Host {
    /// This one.
    pub(super) fn this() -> Self {
        Self::at(Path::new("/"), vec!["chpasswd".into()])
    }

    /// One whose files are below a folder, with a program that sets passwords.
    pub(super) fn at(root: &Path, chpasswd: Vec<OsString>) -> Self {
        Self { root: root.to_owned(), chpasswd }
    }

    pub(super) fn accounts(&self) -> Result<Vec<Account>, Error> {
        Ok(self.read("passwd")?.lines().filter_map(account).collect())
    }

    pub(super) fn groups(&self) -> Result<Vec<Group>, Error> {
        Ok(self.read("group")?.lines().filter_map(group).collect())
    }

    /// The hash of a user's password; `None` for a user who is not there.
    pub(super) fn hash(&self, name: &str) -> Result<Option<String>, Error> {
        let text = self.read("shadow")?;
        let mut lines = text.lines().filter_map(|line| {
            let mut fields = line.split(':');
            Some((fields.next()?, fields.next()?))
        });
        Ok(lines.find(|(user, _)| *user == name).map(|(_, hash)| hash.to_owned()))
    }

    /// The folder of a user, as it is reached from here.
    pub(super) fn home(&self, account: &Account) -> PathBuf {
        let path = account.home.strip_prefix("/").unwrap_or(&account.home);
        self.root.join(path)
    }

    /// One of useradd, usermod and userdel.
    pub(super) fn run(&self, name: &str, words: &[String]) -> Result<(), Error> {
        let mut command = program(name);
        if self.root != Path::new("/") {
            command.arg("--prefix").arg(&self.root);
        }
        base::process::run(command.args(words))?;
        Ok(())
    }

    /// Sets a hash; it goes to the program's input, where nobody sees it.
    pub(super) fn set_hash(&self, name: &str, hash: &str) -> Result<(), Error> {
        let mut words = self.chpasswd.iter();
        let mut command = Command::new(words.next().map_or(OsStr::new("chpasswd"), OsString::as_os_str));
        command.env("LC_ALL", "C").current_dir("/").args(words).arg("--encrypted");
        let input = format!("{name}:{hash}\n").into_bytes();
        let finished = exec::run(&mut command, Some(input), CHANGE, &mut |_| {})?;
        if finished.status.is_some_and(|status| status.success()) {
            return Ok(());
        }
        Err(Error::Late {
            what: format!("set the password of {name}: chpasswd did not succeed"),
            output: String::from_utf8_lossy(&finished.stderr).trim_end().to_owned(),
            hint: "is /etc/shadow locked or read-only?".into(),
        })
    }

    fn read(&self, name: &str) -> Result<String, Error> {
        let path = self.root.join("etc").join(name);
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn account(line: &str) -> Option<Account> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, comment, home, shell] = fields.as_slice() else { return None };
    Some(Account {
        name: (*name).to_owned(),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        comment: (*comment).to_owned(),
        home: home.into(),
        shell: (*shell).to_owned(),
    })
}

fn group(line: &str) -> Option<Group> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, gid, members] = fields.as_slice() else { return None };
    let members = members.split(',').filter(|member| !member.is_empty()).map(str::to_owned).collect();
    Some(Group { name: (*name).to_owned(), gid: gid.parse().ok()?, members })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_files_are_understood_and_others_are_left_out() {
        let found = account("www:x:33:34:The web,,,:/var/www:/bin/false").unwrap();
        assert_eq!((found.uid, found.gid, found.shell.as_str()), (33, 34, "/bin/false"));
        assert_eq!(found.home, Path::new("/var/www"));
        assert_eq!(account("+::::::"), None);
        assert_eq!(account(""), None);
        assert_eq!(group("adm:x:4:a,b").unwrap().members, ["a", "b"]);
        assert!(group("adm:x:4:").unwrap().members.is_empty());
    }
}
