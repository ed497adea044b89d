//! The sections `backup` and `restore`: when the data of a stack are saved and where to, and what a new pair begins with.

use serde_json::{Value, json};

use base::fields::Fields;
use base::problem::{Problem, Problems};
use base::yaml::{Content, Node};

pub(super) const BACKUP: &[&str] = &["at", "keep", "directory", "then"];
pub(super) const WORDS: &[&str] = &["off"];

const DEFAULT_AT: &str = "03:30";
const DEFAULT_KEEP: u64 = 7;
const DEFAULT_DIRECTORY: &str = "/var/backups/futago";
/// Ten years, one a day.
const MAX_KEEP: u64 = 3660;

/// Backups of what the stack keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Time of the day on the hosts, HH:MM.
    pub at: String,
    /// How many whole ones stay.
    pub keep: u64,
    /// Where they are, on the host that made them.
    pub directory: String,
    /// A program that is run with the folder of each whole one.
    pub then: Option<String>,
}

impl Backup {
    /// As expressions see it.
    pub(super) fn describe(&self) -> Value {
        let Self { at, keep, directory, then } = self;
        json!({"at": at, "keep": keep, "directory": directory, "then": then})
    }

    /// What is written; with a stack, where nothing is written, the default. `mount` is where the data of the stack are.
    pub(super) fn read(
        node: Option<&Node>,
        mount: Option<&str>,
        stack: bool,
        problems: &mut Problems,
    ) -> Option<Self> {
        let Some(node) = node else { return stack.then(Self::default) };
        match &node.content {
            Content::Text(text) if text == "off" => None,
            Content::Text(text) => {
                let sentence = "\"backup\" must be off or {at: TIME, keep: NUMBER, directory: FOLDER, then: PROGRAM}, not";
                problems.push(Problem::unknown_word(&node.place, sentence, text, WORDS));
                None
            }
            _ => {
                needs_stack(node, "backup", stack, problems);
                section(node, mount, problems)
            }
        }
    }
}

impl Default for Backup {
    fn default() -> Self {
        Self { at: DEFAULT_AT.into(), keep: DEFAULT_KEEP, directory: DEFAULT_DIRECTORY.into(), then: None }
    }
}

/// The folder on the first host that a new pair begins with.
pub(super) fn restore(top: &mut Fields<'_, '_>, stack: bool) -> Option<String> {
    let node = top.get("restore")?;
    needs_stack(node, "restore", stack, top.problems());
    path(top, "restore")
}

fn section(node: &Node, mount: Option<&str>, problems: &mut Problems) -> Option<Backup> {
    let default = Backup::default();
    let mut fields = Fields::of(node, "backup", BACKUP, problems)?;
    let directory = path(&mut fields, "directory").unwrap_or(default.directory);
    let inside = mount.filter(|mount| format!("{directory}/").starts_with(&format!("{mount}/")));
    if let (Some(mount), Some(at)) = (inside, fields.get("directory")) {
        fields.report(at, format!("\"directory\" is {directory}, a part of {mount}, which is what is saved"));
    }
    Some(Backup {
        at: at(&mut fields).unwrap_or(default.at),
        keep: fields.int("keep", 1, MAX_KEEP).unwrap_or(default.keep),
        directory,
        then: path(&mut fields, "then"),
    })
}

fn needs_stack(node: &Node, key: &str, stack: bool, problems: &mut Problems) {
    if !stack {
        let problem =
            Problem::new(&node.place, format!("{key:?} is about the data of a stack, here is none"));
        problems.push(problem.hint(format!("write \"stack\" too, or drop {key:?}")));
    }
}

/// A time of the day.
fn at(fields: &mut Fields<'_, '_>) -> Option<String> {
    let text = fields.text("at")?;
    let number = |part: &str, below: u8| {
        part.len() == 2
            && part.bytes().all(|b| b.is_ascii_digit())
            && part.parse().is_ok_and(|n: u8| n < below)
    };
    if text.split_once(':').is_some_and(|(hour, minute)| number(hour, 24) && number(minute, 60)) {
        return Some(text);
    }
    let node = fields.get("at")?;
    fields.report(node, format!("\"at\" must be a time of the day such as \"03:30\", not {text:?}"));
    None
}

/// An absolute path that means the same in a shell and in a unit.
fn path(fields: &mut Fields<'_, '_>, key: &str) -> Option<String> {
    let text = fields.text(key)?;
    let fits = |part: &str| {
        !["", ".", ".."].contains(&part)
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    let trimmed = text.strip_suffix('/').unwrap_or(&text);
    if trimmed.strip_prefix('/').is_some_and(|rest| rest.split('/').all(fits)) {
        return Some(trimmed.to_owned());
    }
    let node = fields.get(key)?;
    let message = format!("{key:?} must be an absolute path of letters, digits, . _ - and /, not {text:?}");
    fields.report(node, message);
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Inventory;
    use super::*;

    fn read(more: &str) -> Result<Inventory, String> {
        let text = format!("{}{more}", include_str!("../../../inventory/example.yml"));
        Inventory::parse(Path::new("ha.yml"), &text).map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_stack_is_saved_unless_that_is_switched_off() {
        assert_eq!(read("").unwrap().backup, None);
        assert_eq!(read("stack: lamp\n").unwrap().backup, Some(Backup::default()));
        assert_eq!(read("stack: lamp\nbackup: off\n").unwrap().backup, None);
        let own =
            read("stack: lamp\nbackup: {at: \"23:05\", directory: /mnt/nas/, then: /usr/local/bin/away}\n");
        let expected = Backup {
            at: "23:05".into(),
            directory: "/mnt/nas".into(),
            then: Some("/usr/local/bin/away".into()),
            ..Backup::default()
        };
        assert_eq!(own.unwrap().backup, Some(expected));
        let restored = read("stack: lamp\nbackup: off\nrestore: /root/ha-1\n").unwrap();
        assert_eq!((restored.backup, restored.restore.as_deref()), (None, Some("/root/ha-1")));
    }

    #[test]
    fn a_folder_beside_the_mount_is_not_a_part_of_it() {
        let beside = "stack: lamp\nbackup: {directory: /srv/data-saved}\n";
        assert_eq!(read(beside).unwrap().backup.unwrap().directory, "/srv/data-saved");
        let own = "stack: lamp\nmanager: {mount: /mnt/x}\nbackup: {directory: /mnt/x/saved}\n";
        let said = read(own).unwrap_err();
        assert!(said.contains("\"directory\" is /mnt/x/saved, a part of /mnt/x"), "{said}");
    }
}
