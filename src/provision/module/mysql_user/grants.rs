//! Privileges: those that are asked for, those that the server shows, and the statements between them.
//!
//! Only compares and writes SQL; what an object is called in SQL is its name here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::super::mysql;

const ALL: &str = "ALL PRIVILEGES";
const OPTION: &str = "GRANT OPTION";
/// What an account has that has nothing.
const NOTHING: &str = "USAGE";
/// Other names of privileges, and the one that every server takes.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("ALL", ALL),
    ("GRANT", OPTION),
    ("BINLOG MONITOR", "REPLICATION CLIENT"),
    ("REPLICATION REPLICA", "REPLICATION SLAVE"),
    ("DELETE VERSIONING ROWS", "DELETE HISTORY"),
];

/// Privileges by the object that they are on, as SQL names it: `` `shop`.* ``.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Grants(BTreeMap<String, BTreeSet<String>>);

/// What leads from some privileges to others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) sql: String,
    /// A line for each difference.
    pub(super) lines: Vec<String>,
}

impl Grants {
    /// Those of the argument `privileges`: `shop.*: ALL` or `shop.orders: [SELECT, INSERT]`.
    pub(super) fn wanted(given: &Map<String, Value>) -> Result<Self, String> {
        let mut grants = Self::default();
        for (key, value) in given {
            let object = object(key).ok_or_else(|| {
                format!("\"{key}\" is not an object of privileges; write it as shop.*, shop.orders or *.*")
            })?;
            let words: Vec<&str> = match value {
                Value::String(text) => text.split(',').collect(),
                Value::Array(items) => items.iter().map(|item| item.as_str().unwrap_or_default()).collect(),
                other => {
                    return Err(format!(
                        "the privileges on {key} are a text or a list of texts, not {other}"
                    ));
                }
            };
            for word in words {
                let fits = |c: char| c.is_ascii_alphabetic() || c == ' ' || c == '_';
                if word.trim().is_empty() || !word.trim().chars().all(fits) {
                    return Err(format!(
                        "\"{}\" on {key} is not a privilege; write such as SELECT, or ALL. Those on columns are for mysql_query",
                        word.trim()
                    ));
                }
                grants.add(object.clone(), word);
            }
        }
        Ok(grants)
    }

    /// Those that SHOW GRANTS shows, a line each.
    pub(super) fn shown<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut grants = Self::default();
        for line in lines {
            let Some(rest) = line.strip_prefix("GRANT ") else { continue };
            // Without an object it is a role.
            let Some(on) = outside(rest, " ON ") else { continue };
            let (words, rest) = (rest.get(..on).unwrap_or_default(), rest.get(on + 4..).unwrap_or_default());
            let Some(to) = outside(rest, " TO ") else { continue };
            let object = rest.get(..to).unwrap_or_default();
            if words == "PROXY" {
                continue;
            }
            let mut words = words;
            while let Some(comma) = outside(words, ", ") {
                grants.add(object.to_owned(), words.get(..comma).unwrap_or_default());
                words = words.get(comma + 2..).unwrap_or_default();
            }
            grants.add(object.to_owned(), words);
            if outside(rest, " WITH GRANT OPTION").is_some() {
                grants.add(object.to_owned(), OPTION);
            }
        }
        grants
    }

    fn add(&mut self, object: String, word: &str) {
        let word = normal(word);
        if word != NOTHING {
            self.0.entry(object).or_default().insert(word);
        }
    }

    /// What makes these of those that the account has.
    pub(super) fn way_from(&self, found: &Self, account: &str) -> Way {
        let mut way = Way::default();
        for object in self.0.keys().chain(found.0.keys()).collect::<BTreeSet<_>>() {
            let of = |grants: &Self| grants.0.get(object).cloned().unwrap_or_default();
            let (wanted, found) = (of(self), of(found));
            way.at(object, &wanted, &found, account);
        }
        way
    }
}

impl Way {
    fn at(&mut self, object: &str, wanted: &BTreeSet<String>, found: &BTreeSet<String>, account: &str) {
        let plain = |set: &BTreeSet<String>, other: &BTreeSet<String>| -> Vec<String> {
            set.difference(other).filter(|word| *word != OPTION).cloned().collect()
        };
        let (mut grant, mut revoke) = (plain(wanted, found), plain(found, wanted));
        if wanted.contains(ALL) {
            grant.retain(|word| word == ALL);
            revoke.clear();
        } else if found.contains(ALL) {
            // All of them include those that stay: they are given anew.
            self.revoke(&[ALL.to_owned()], object, account);
            revoke.clear();
            grant = plain(wanted, &BTreeSet::new());
        }
        let more = wanted.contains(OPTION) && !found.contains(OPTION);
        if !grant.is_empty() || more {
            let words = if grant.is_empty() { NOTHING.to_owned() } else { grant.join(", ") };
            let option = if more { " WITH GRANT OPTION" } else { "" };
            self.sql.push_str(&format!("GRANT {words} ON {object} TO {account}{option};\n"));
            grant.extend(more.then(|| OPTION.to_owned()));
            self.lines.push(format!("+ {} on {object}", grant.join(", ")));
        }
        if found.contains(OPTION) && !wanted.contains(OPTION) {
            revoke.push(OPTION.to_owned());
        }
        if !revoke.is_empty() {
            self.revoke(&revoke, object, account);
        }
    }

    fn revoke(&mut self, words: &[String], object: &str, account: &str) {
        let words = words.join(", ");
        self.sql.push_str(&format!("REVOKE {words} ON {object} FROM {account};\n"));
        self.lines.push(format!("- {words} on {object}"));
    }
}

/// `shop.*` as SQL.
fn object(key: &str) -> Option<String> {
    let (database, table) = key.trim().split_once('.')?;
    let part = |text: &str| {
        (!text.is_empty() && !text.chars().any(char::is_control)).then(|| match text {
            "*" => "*".to_owned(),
            name => mysql::name(name),
        })
    };
    let (database, table) = (part(database)?, part(table)?);
    (database != "*" || table == "*").then(|| format!("{database}.{table}"))
}

/// A privilege under the name that is used here; columns in brackets stay as they are.
fn normal(word: &str) -> String {
    let (name, columns) = word.find('(').map_or((word, ""), |index| word.split_at(index));
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_uppercase();
    let other = OTHER_NAMES.iter().find(|(other, _)| *other == name).map(|(_, own)| (*own).to_owned());
    let name = other.unwrap_or(name);
    if columns.is_empty() { name } else { format!("{name} {columns}") }
}

/// Where a piece is first found, outside of quotes and brackets.
fn outside(text: &str, piece: &str) -> Option<usize> {
    let mut quote = None;
    let mut depth = 0_u32;
    for (index, c) in text.char_indices() {
        match (quote, c) {
            (None, _) if depth == 0 && text.get(index..).is_some_and(|rest| rest.starts_with(piece)) => {
                return Some(index);
            }
            (None, '`' | '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wanted(value: Value) -> Grants {
        Grants::wanted(value.as_object().unwrap()).unwrap()
    }

    fn way(value: Value, shown: &[&str]) -> Vec<String> {
        let way = wanted(value).way_from(&Grants::shown(shown.iter().copied()), "'a'@'b'");
        assert_eq!(way.sql.lines().count(), way.lines.len());
        way.sql.lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_the_server_shows_is_what_was_asked_for() {
        let shown = [
            "GRANT USAGE ON *.* TO `a`@`b` IDENTIFIED BY PASSWORD '*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19'",
            "GRANT ALL PRIVILEGES ON `shop`.* TO `a`@`b` WITH GRANT OPTION",
            "GRANT SELECT, INSERT ON `o``n TO `.`ta ON ble` TO `a`@`b`",
            "GRANT BINLOG MONITOR ON *.* TO `a`@`b` REQUIRE SSL WITH GRANT OPTION MAX_QUERIES_PER_HOUR 5",
            "GRANT `role` TO `a`@`b`",
            "GRANT PROXY ON ''@'%' TO 'a'@'b' WITH GRANT OPTION",
        ];
        let asked = json!({
            "shop.*": "all, grant", "o`n TO .ta ON ble": ["select", " INSERT"], "*.*": "replication  client, GRANT OPTION",
        });
        assert_eq!(way(asked, &shown), Vec::<String>::new());
    }

    #[test]
    fn only_what_differs_is_granted_and_revoked() {
        let shown = [
            "GRANT SELECT, DELETE ON `shop`.* TO `a`@`b`",
            "GRANT SELECT (`x`, `y`) ON `old`.`t` TO `a`@`b`",
        ];
        assert_eq!(
            way(json!({"shop.*": "SELECT, INSERT"}), &shown),
            [
                "REVOKE SELECT (`x`, `y`) ON `old`.`t` FROM 'a'@'b';",
                "GRANT INSERT ON `shop`.* TO 'a'@'b';",
                "REVOKE DELETE ON `shop`.* FROM 'a'@'b';",
            ]
        );
        assert_eq!(
            way(json!({"shop.*": "ALL"}), &shown[..1]),
            ["GRANT ALL PRIVILEGES ON `shop`.* TO 'a'@'b';"]
        );
        assert_eq!(way(json!({}), &shown[..1]), ["REVOKE DELETE, SELECT ON `shop`.* FROM 'a'@'b';"]);
    }

    #[test]
    fn fewer_than_all_are_given_anew_and_the_option_is_one_of_its_own() {
        let all = ["GRANT ALL PRIVILEGES ON `shop`.* TO `a`@`b` WITH GRANT OPTION"];
        assert_eq!(
            way(json!({"shop.*": "SELECT"}), &all),
            [
                "REVOKE ALL PRIVILEGES ON `shop`.* FROM 'a'@'b';",
                "GRANT SELECT ON `shop`.* TO 'a'@'b';",
                "REVOKE GRANT OPTION ON `shop`.* FROM 'a'@'b';",
            ]
        );
        let some = ["GRANT SELECT ON `shop`.* TO `a`@`b`"];
        assert_eq!(
            way(json!({"shop.*": "SELECT, GRANT"}), &some),
            ["GRANT USAGE ON `shop`.* TO 'a'@'b' WITH GRANT OPTION;"]
        );
    }

    #[test]
    fn what_could_be_something_else_than_a_privilege_is_refused() {
        let wrong = |value: Value| Grants::wanted(value.as_object().unwrap()).unwrap_err();
        assert!(wrong(json!({"shop": "ALL"})).starts_with("\"shop\" is not an object of privileges"));
        assert!(wrong(json!({"*.x": "ALL"})).starts_with("\"*.x\" is not an object"));
        assert!(wrong(json!({"a.*": "SELECT ON *.*; DROP"})).contains("is not a privilege"));
        assert!(wrong(json!({"a.*": "SELECT (x)"})).contains("is not a privilege"));
        assert!(wrong(json!({"a.*": ""})).contains("is not a privilege"));
        assert_eq!(wrong(json!({"a.*": 1})), "the privileges on a.* are a text or a list of texts, not 1");
        assert_eq!(object("a`b.*").unwrap(), "`a``b`.*");
    }
}
