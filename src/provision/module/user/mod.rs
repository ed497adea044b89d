//! A user of the host with its groups, its keys and the hash of its password.
//!
//! Users are made and changed by the host's own programs. A password is only ever a hash, and only ever written to the
//! input of one of them.

mod accounts;
mod keys;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Module;
use super::context::{Context, joined};
use super::error::Error;
use super::schema::{ArgError, Kind, Schema};
use super::state::State;
use crate::protocol::Outcome;
use accounts::{Account, Group, Host};
use keys::Owner;

/// The longest name that all of the host's programs take.
const MAX_NAME: usize = 32;
/// Instead of a hash: nobody logs in by a password.
const NO_PASSWORD: &[&str] = &["*", "!"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    name: String,
    uid: Option<u32>,
    group: Option<String>,
    #[serde(default)]
    groups: Vec<String>,
    home: Option<PathBuf>,
    create_home: Option<bool>,
    shell: Option<PathBuf>,
    comment: Option<String>,
    #[serde(default)]
    system: bool,
    password: Option<String>,
    authorized_keys: Option<Vec<String>>,
    #[serde(default)]
    exclusive: bool,
    #[serde(default)]
    state: State,
    #[serde(default)]
    remove: bool,
}

/// What a program of the host has to do: its words, and a line for each difference.
#[derive(Debug, Default, PartialEq, Eq)]
struct Change {
    program: &'static str,
    words: Vec<String>,
    lines: Vec<String>,
}

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "user",
        summary: "Keeps a user: its numbers, groups, home, shell, the hash of its password, its keys of SSH.",
        returns: &[],
        example: "\
- name: Who deploys the shop
  user:
    name: deploy
    groups: [www-data]
    shell: /bin/bash
    authorized_keys: [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMQ6 ann@desk\"]
",
        keys: &[
            Schema::must("name", Kind::Text, "its name"),
            Schema::may("uid", Kind::Int, "its number (default: the next free one)"),
            Schema::may(
                "group",
                Kind::Text,
                "its first group, which must exist (default: as the distribution does)",
            ),
            Schema::may("groups", Kind::TextList, "more groups that it is in; others stay"),
            Schema::may("home", Kind::Path, "its home; an existing one is not moved"),
            Schema::may(
                "create_home",
                Kind::Bool,
                "make the home with a new user (default: true, with system: false)",
            ),
            Schema::may("shell", Kind::Path, "what it logs in to"),
            Schema::may("comment", Kind::Text, "its full name"),
            Schema::may("system", Kind::Bool, "a new user gets a number of those for services"),
            Schema::may(
                "password",
                Kind::Text,
                "hash of its password, as `openssl passwd -6` prints it; from the secrets. \"*\": none",
            ),
            Schema::may("authorized_keys", Kind::TextList, "keys of SSH that may log in; others stay"),
            Schema::may("exclusive", Kind::Bool, "no other keys than authorized_keys may log in"),
            Schema::may("state", Kind::Choice(&["present", "absent"]), "present (default) or absent"),
            Schema::may("remove", Kind::Bool, "with absent: remove its home and its mail too"),
        ],
    };

    fn validate(&self) -> Vec<ArgError> {
        let mut errors = self.combination();
        for (key, name) in std::iter::once(("name", &self.name))
            .chain(self.group.iter().map(|name| ("group", name)))
            .chain(self.groups.iter().map(|name| ("groups", name)))
        {
            if !is_name(name) {
                let kind = if key == "name" { "user" } else { "group" };
                errors.push(ArgError::at(key, format!("\"{name}\" is not the name of a {kind}")));
            }
        }
        let text = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
        for (key, text) in
            [("home", text(&self.home)), ("shell", text(&self.shell)), ("comment", self.comment.clone())]
        {
            if text.is_some_and(|text| text.contains([':', '\n'])) {
                let message =
                    format!("argument \"{key}\" of module user must have no colon and no line break");
                errors.push(ArgError::at(key, message));
            }
        }
        if self.password.as_deref().is_some_and(|hash| !is_hash(hash)) {
            let message =
                "argument \"password\" of module user must be a hash, as `openssl passwd -6` prints it";
            errors.push(ArgError::at("password", message));
        }
        let wrong = self
            .authorized_keys
            .iter()
            .flatten()
            .filter(|line| keys::key(line).is_none() || line.trim().contains(['\n', '\r']));
        errors.extend(wrong.map(|line| {
            let message = format!(
                "\"{line}\" is not a key of SSH; write the one line of a file such as id_ed25519.pub"
            );
            ArgError::at("authorized_keys", message)
        }));
        errors
    }

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        self.bring(&Host::this(), context)
    }
}

impl Args {
    /// Mistakes in what is given together.
    fn combination(&self) -> Vec<ArgError> {
        let mut errors = Vec::new();
        if self.state == State::Absent {
            if self.name == "root" {
                errors.push(ArgError::at("name", "module user does not remove root"));
            }
            if self.asks_for_something() {
                errors.push(ArgError::whole("module user takes only name and remove with state absent"));
            }
        } else if self.remove {
            errors.push(ArgError::at("remove", "argument \"remove\" of module user belongs to state absent"));
        }
        if self.exclusive && self.authorized_keys.is_none() {
            errors.push(ArgError::at(
                "exclusive",
                "argument \"exclusive\" of module user needs authorized_keys",
            ));
        }
        errors
    }

    fn asks_for_something(&self) -> bool {
        let Self { uid, group, groups, home, create_home, shell, comment, password, authorized_keys, .. } =
            self;
        let own = uid.is_some() || group.is_some() || !groups.is_empty() || home.is_some();
        let other = create_home.is_some() || shell.is_some() || comment.is_some() || self.system;
        own || other || password.is_some() || authorized_keys.is_some()
    }

    fn bring(&self, host: &Host, context: &Context) -> Result<Outcome, Error> {
        let accounts = host.accounts()?;
        let found = accounts.iter().find(|account| account.name == self.name);
        if self.state == State::Absent {
            return self.remove(found, host, context);
        }
        if let Some(uid) = self.uid
            && let Some(other) =
                accounts.iter().find(|account| account.uid == uid && account.name != self.name)
        {
            let what = format!("give {} the number {uid}: it is that of {}", self.name, other.name);
            return Err(Error::refused(what, "choose a number that is free on both hosts"));
        }
        let groups = host.groups()?;
        let change = match found {
            Some(account) => self.difference(account, &groups)?,
            None => self.creation(&groups)?,
        };
        let mut parts = Vec::new();
        if !change.words.is_empty() {
            if !context.check {
                host.run(change.program, &change.words)?;
            }
            let word = if found.is_some() { "changed" } else { "made" };
            parts.push(context.changed(format!("user {} {word}", self.name), &change.lines));
        }
        parts.extend(self.set_password(host, context)?);
        parts.extend(self.let_in(found, host, context)?);
        if !parts.iter().any(|part| part.changed || part.unknown) {
            return Ok(Context::same(format!("user {} is as asked", self.name)));
        }
        Ok(joined(parts))
    }

    fn remove(&self, found: Option<&Account>, host: &Host, context: &Context) -> Result<Outcome, Error> {
        let name = &self.name;
        let Some(account) = found else { return Ok(Context::same(format!("there is no user {name}"))) };
        if !context.check {
            let words = [self.remove.then_some("--remove"), Some("--"), Some(name.as_str())];
            let words: Vec<String> = words.into_iter().flatten().map(str::to_owned).collect();
            host.run("userdel", &words)?;
        }
        let mut lines = vec![format!("- user {name}")];
        if self.remove {
            lines.push(format!("- {}", account.home.display()));
        }
        Ok(context.changed(format!("user {name} removed"), &lines))
    }

    /// What makes the user.
    fn creation(&self, groups: &[Group]) -> Result<Change, Error> {
        let mut change = Change { program: "useradd", ..Change::default() };
        change.lines.push(format!("+ user {}", self.name));
        if self.system {
            change.words.push("--system".into());
        }
        let home =
            if self.create_home.unwrap_or(!self.system) { "--create-home" } else { "--no-create-home" };
        change.words.push(home.into());
        if let Some(uid) = self.uid {
            change.add("--uid", &uid.to_string(), format!("+ number {uid}"));
        }
        if let Some(name) = &self.group {
            let group = group_of(groups, name)?;
            change.add("--gid", &group.gid.to_string(), format!("+ group {name}"));
        } else if groups.iter().any(|group| group.name == self.name) {
            // useradd would make a group of the user's name, and does not take one that is there.
            change.add("--gid", &self.name, format!("+ group {}", self.name));
        }
        if !self.groups.is_empty() {
            for name in &self.groups {
                group_of(groups, name)?;
            }
            let names = self.groups.join(",");
            change.add("--groups", &names, format!("+ groups {}", self.groups.join(", ")));
        }
        if let Some(home) = &self.home {
            change.add("--home-dir", &home.to_string_lossy(), format!("+ home {}", home.display()));
        }
        if let Some(shell) = &self.shell {
            change.add("--shell", &shell.to_string_lossy(), format!("+ shell {}", shell.display()));
        }
        if let Some(comment) = &self.comment {
            change.add("--comment", comment, format!("+ comment {comment}"));
        }
        change.words.extend(["--".into(), self.name.clone()]);
        Ok(change)
    }

    /// What is to be changed of a user who is there; no words when nothing is.
    fn difference(&self, account: &Account, groups: &[Group]) -> Result<Change, Error> {
        let mut change = Change { program: "usermod", ..Change::default() };
        if let Some(uid) = self.uid.filter(|uid| *uid != account.uid) {
            change.add("--uid", &uid.to_string(), format!("~ number {} -> {uid}", account.uid));
        }
        if let Some(name) = &self.group {
            let group = group_of(groups, name)?;
            if group.gid != account.gid {
                change.add(
                    "--gid",
                    &group.gid.to_string(),
                    format!("~ group {} -> {}", account.gid, group.gid),
                );
            }
        }
        let mut missing = Vec::new();
        for name in &self.groups {
            let group = group_of(groups, name)?;
            if group.gid != account.gid && !group.members.contains(&self.name) {
                missing.push(group.name.clone());
            }
        }
        if !missing.is_empty() {
            change.words.push("--append".into());
            change.add("--groups", &missing.join(","), format!("+ groups {}", missing.join(", ")));
        }
        if let Some(home) = self.home.as_ref().filter(|home| **home != account.home) {
            let line = format!("~ home {} -> {}", account.home.display(), home.display());
            change.add("--home", &home.to_string_lossy(), line);
        }
        if let Some(shell) = self.shell.as_ref().filter(|shell| **shell != *Path::new(&account.shell)) {
            let line = format!("~ shell {} -> {}", account.shell, shell.display());
            change.add("--shell", &shell.to_string_lossy(), line);
        }
        if let Some(comment) = self.comment.as_ref().filter(|comment| **comment != account.comment) {
            change.add("--comment", comment, format!("~ comment {} -> {comment}", account.comment));
        }
        if !change.words.is_empty() {
            change.words.extend(["--".into(), self.name.clone()]);
        }
        Ok(change)
    }

    /// The hash is neither shown nor among the words of a program.
    fn set_password(&self, host: &Host, context: &Context) -> Result<Option<Outcome>, Error> {
        let Some(wanted) = &self.password else { return Ok(None) };
        if host.hash(&self.name)?.as_ref() == Some(wanted) {
            return Ok(None);
        }
        if !context.check {
            host.set_hash(&self.name, wanted)?;
        }
        Ok(Some(context.changed(format!("password of {} set", self.name), &["~ password".into()])))
    }

    fn let_in(
        &self,
        before: Option<&Account>,
        host: &Host,
        context: &Context,
    ) -> Result<Option<Outcome>, Error> {
        let Some(wanted) = &self.authorized_keys else { return Ok(None) };
        if before.is_none() && context.check {
            let lines: Vec<String> =
                wanted.iter().map(|line| format!("+ key {}", keys::shown(line))).collect();
            let changed = context.changed(format!("keys of {} added", self.name), &lines);
            return Ok((!wanted.is_empty()).then_some(changed));
        }
        // Made or changed just now, or as the change that is planned will leave it.
        let accounts = host.accounts()?;
        let mut account = accounts
            .into_iter()
            .find(|account| account.name == self.name)
            .ok_or_else(|| Error::NoSuchOwner { kind: "user", name: self.name.clone() })?;
        if let Some(home) = &self.home {
            account.home.clone_from(home);
        }
        let owner = Owner { uid: account.uid, gid: account.gid };
        keys::bring(&host.home(&account), owner, wanted, self.exclusive, context).map(Some)
    }
}

impl Change {
    fn add(&mut self, option: &str, value: &str, line: String) {
        self.words.extend([option.to_owned(), value.to_owned()]);
        self.lines.push(line);
    }
}

fn group_of<'a>(groups: &'a [Group], name: &str) -> Result<&'a Group, Error> {
    let fits = |group: &&Group| group.name == name || name.parse() == Ok(group.gid);
    groups.iter().find(fits).ok_or_else(|| Error::NoSuchOwner { kind: "group", name: name.to_owned() })
}

/// As useradd takes them, and capitals, which some directories have.
fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    let begins = characters.next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    begins && name.len() <= MAX_NAME && characters.all(|c| c.is_ascii_alphanumeric() || "_-.$".contains(c))
}

/// `$6$salt$hash` and its like of crypt(5).
fn is_hash(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "$./=,+-_*".contains(c);
    NO_PASSWORD.contains(&text)
        || (text.starts_with('$') && text.matches('$').count() >= 3 && text.chars().all(fits))
}
