//! What a module's arguments look like, and the check of given arguments against it.
//!
//! The same check runs on the controller before the first connection and on the host before the module.
//! It reports every mistake at once. It must never touch the system.

use base::nearest::nearest;
use serde_json::{Map, Value};

/// What Ansible calls some arguments: module, its name there, its name here.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("command", "cmd", "line"),
    ("file", "src", "target"),
    ("file", "dest", "path"),
    ("filesystem", "dev", "device"),
    ("filesystem", "fstype", "type"),
    ("http", "status_code", "status"),
    ("http", "ca_path", "ca"),
    ("lines", "regexp", "match"),
    ("lines", "insertafter", "after"),
    ("lines", "insertbefore", "before"),
    ("lines", "dest", "path"),
    ("lines", "content", "block"),
    ("mount", "src", "device"),
    ("mount", "fstype", "type"),
    ("mount", "opts", "options"),
    ("mysql_db", "encoding", "character_set"),
    ("mysql_db", "login_unix_socket", "socket"),
    ("mysql_query", "login_db", "database"),
    ("mysql_query", "login_unix_socket", "socket"),
    ("mysql_user", "priv", "privileges"),
    ("mysql_user", "login_unix_socket", "socket"),
    ("package", "pkg", "name"),
    ("package", "install_recommends", "recommends"),
    ("repository", "baseurl", "uris"),
    ("repository", "gpgkey", "key"),
    ("selinux", "state", "mode"),
    ("sysctl", "sysctl_file", "file"),
    ("user", "key", "authorized_keys"),
    ("user", "createhome", "create_home"),
];

/// One module as its users see it.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Its name in a task.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// All arguments it takes.
    pub keys: &'static [Key],
    /// What its result has for `register`, besides what every result has.
    pub returns: &'static [&'static str],
    /// A task of a playbook that uses it.
    pub example: &'static str,
}

/// One argument of a module.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// A task without it is refused.
    pub required: bool,
    /// One sentence.
    pub help: &'static str,
}

/// What an argument may hold. Text that spells a number or a truth value is taken as one where the kind
/// asks for it, because rendered expressions are text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One text; a number is taken as its digits.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number, 0 or more.
    Int,
    /// An absolute path.
    Path,
    /// Permission bits in octal, quoted: `"0644"`.
    Mode,
    /// A list of texts; a single text is a list of one.
    TextList,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A mapping of texts to values.
    Map,
    /// Whatever the module itself checks.
    Any,
}

/// A mistake in a module's arguments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ArgError {
    /// The argument it is about; none when it is about the task as a whole.
    pub key: Option<String>,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl ArgError {
    /// A mistake in one argument.
    pub(crate) fn at(key: &str, message: impl Into<String>) -> Self {
        Self { key: Some(key.to_owned()), message: message.into() }
    }

    /// A mistake in the combination of arguments.
    pub(crate) fn whole(message: impl Into<String>) -> Self {
        Self { key: None, message: message.into() }
    }
}

impl Schema {
    /// A required argument.
    pub(super) const fn must(name: &'static str, kind: Kind, help: &'static str) -> Key {
        Key { name, kind, required: true, help }
    }

    /// An argument that may be left out.
    pub(super) const fn may(name: &'static str, kind: Kind, help: &'static str) -> Key {
        Key { name, kind, required: false, help }
    }

    /// The arguments with texts turned into what their kinds ask for, or every mistake in them.
    pub(super) fn coerce(&self, args: &Map<String, Value>) -> Result<Map<String, Value>, Vec<ArgError>> {
        let mut out = Map::new();
        let mut errors = Vec::new();
        for (name, value) in args {
            let Some(key) = self.keys.iter().find(|key| key.name == name) else {
                errors.push(self.unknown(name));
                continue;
            };
            // An argument set to nothing is an argument left out.
            if value.is_null() {
                continue;
            }
            match key.kind.coerce(value) {
                Some(value) => drop(out.insert(name.clone(), value)),
                None => errors.push(self.wrong_type(key, value)),
            }
        }
        let missing =
            self.keys.iter().filter(|key| key.required && args.get(key.name).is_none_or(Value::is_null));
        errors.extend(missing.map(|key| self.missing(key)));
        if errors.is_empty() { Ok(out) } else { Err(errors) }
    }

    fn unknown(&self, name: &str) -> ArgError {
        let module = self.name;
        let elsewhere = ELSEWHERE.iter().find(|(of, theirs, _)| *of == module && *theirs == name);
        let near = || nearest(name, self.keys.iter().map(|key| key.name));
        let message = match elsewhere.map(|(.., here)| *here).or_else(near) {
            Some(right) => format!("module {module} has no argument \"{name}\"; did you mean \"{right}\"?"),
            None => {
                let all: Vec<&str> = self.keys.iter().map(|key| key.name).collect();
                format!("module {module} has no argument \"{name}\"; it takes {}", all.join(", "))
            }
        };
        ArgError::at(name, message)
    }

    fn missing(&self, key: &Key) -> ArgError {
        let Key { name, help, .. } = key;
        ArgError::at(name, format!("module {} needs the argument \"{name}\": {help}", self.name))
    }

    fn wrong_type(&self, key: &Key, value: &Value) -> ArgError {
        let (module, name) = (self.name, key.name);
        let wanted = key.kind.wanted();
        let advice = match (key.kind, value.as_str().map(str::to_ascii_lowercase).as_deref()) {
            (Kind::Bool, Some("yes" | "on")) => "; write true",
            (Kind::Bool, Some("no" | "off")) => "; write false",
            _ => "",
        };
        let message = format!("argument \"{name}\" of module {module} must be {wanted}, not {value}{advice}");
        ArgError::at(name, message)
    }
}

impl Kind {
    /// What it may hold, in words: `a text`, `one of present, absent`.
    #[must_use]
    pub fn wanted(self) -> String {
        match self {
            Self::Text => "a text".into(),
            Self::Bool => "true or false".into(),
            Self::Int => "a whole number".into(),
            Self::Path => "an absolute path".into(),
            Self::Mode => "permission bits in octal and in quotes, such as \"0644\"".into(),
            Self::TextList => "a list of texts".into(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Map => "a mapping".into(),
            Self::Any => "a value".into(),
        }
    }

    fn coerce(self, value: &Value) -> Option<Value> {
        match self {
            Self::Text => text(value).map(Value::String),
            Self::Bool => match value {
                Value::Bool(_) => Some(value.clone()),
                Value::String(text) => text.to_ascii_lowercase().parse().ok().map(Value::Bool),
                _ => None,
            },
            Self::Int => match value {
                Value::Number(number) => number.as_u64().map(Value::from),
                Value::String(text) => text.trim().parse::<u64>().ok().map(Value::from),
                _ => None,
            },
            Self::Path => value.as_str().filter(|path| path.starts_with('/')).map(Value::from),
            Self::Mode => value.as_str().filter(|text| is_mode(text)).map(Value::from),
            Self::TextList => match value {
                Value::Array(items) => items.iter().map(text).collect::<Option<Vec<_>>>().map(Value::from),
                other => text(other).map(|one| Value::from(vec![one])),
            },
            Self::Choice(words) => value.as_str().filter(|word| words.contains(word)).map(Value::from),
            Self::Map => value.is_object().then(|| value.clone()),
            Self::Any => Some(value.clone()),
        }
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn is_mode(text: &str) -> bool {
    (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SAMPLE: Schema = Schema {
        name: "sample",
        summary: "For the tests.",
        returns: &[],
        example: "",
        keys: &[
            Schema::must("dest", Kind::Path, "where to"),
            Schema::may("mode", Kind::Mode, "permission bits"),
            Schema::may("names", Kind::TextList, "names"),
            Schema::may("count", Kind::Int, "how many"),
            Schema::may("force", Kind::Bool, "do it"),
            Schema::may("state", Kind::Choice(&["present", "absent"]), "wanted"),
        ],
    };

    fn coerce(args: Value) -> Result<Value, Vec<String>> {
        let checked = SAMPLE.coerce(args.as_object().unwrap());
        checked.map(Value::Object).map_err(|errors| errors.into_iter().map(|e| e.message).collect())
    }

    #[test]
    fn rendered_text_becomes_what_the_kind_asks_for() {
        let given = json!({"dest": "/a", "names": "one", "count": "7", "force": "True", "mode": "0644"});
        let wanted = json!({"dest": "/a", "names": ["one"], "count": 7, "force": true, "mode": "0644"});
        assert_eq!(coerce(given), Ok(wanted));
    }

    #[test]
    fn every_mistake_is_reported_at_once_with_the_nearest_right_name() {
        let errors = coerce(json!({"dst": "/a", "mode": 644, "state": "gone", "frobnicate": 1})).unwrap_err();
        assert_eq!(
            errors,
            [
                "module sample has no argument \"dst\"; did you mean \"dest\"?",
                "argument \"mode\" of module sample must be permission bits in octal and in quotes, such as \
                 \"0644\", not 644",
                "argument \"state\" of module sample must be one of present, absent, not \"gone\"",
                "module sample has no argument \"frobnicate\"; it takes dest, mode, names, count, force, state",
                "module sample needs the argument \"dest\": where to",
            ]
        );
    }

    #[test]
    fn names_of_ansible_s_that_are_others_here_exist_here() {
        for (module, _, here) in ELSEWHERE {
            let schema = crate::module::schemas().iter().find(|schema| schema.name == *module).unwrap();
            assert!(schema.keys.iter().any(|key| key.name == *here), "{module}: {here}");
        }
    }

    #[test]
    fn a_relative_path_is_refused_and_nothing_is_left_out() {
        let errors = coerce(json!({"dest": "a/b", "force": null})).unwrap_err();
        assert_eq!(errors, ["argument \"dest\" of module sample must be an absolute path, not \"a/b\""]);
    }
}
