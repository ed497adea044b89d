//! A marked block of /etc/hosts; every other line stays as it is.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base::nearest::nearest;
use serde::Deserialize;
use serde_json::Value;

use super::attributes::Wanted;
use super::context::Context;
use super::error::Error;
use super::schema::{ArgError, Kind, Schema};
use super::text::{self, Text};
use super::{Module, copy};
use crate::protocol::Outcome;

const DEFAULT_PATH: &str = "/etc/hosts";
const DEFAULT_MARKER: &str = "futago";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    entries: Value,
    marker: Option<String>,
    path: Option<PathBuf>,
}

/// One line of the block.
#[derive(Debug)]
struct Entry {
    address: IpAddr,
    names: Vec<String>,
}

impl Entry {
    const KEYS: [&'static str; 2] = ["address", "names"];

    /// What is written, or what is wrong with it.
    fn read(value: &Value) -> Result<Self, String> {
        let whole = || format!("an entry is {{address: 192.0.2.1, names: [a.example.com, a]}}, not {value}");
        let map = value.as_object().ok_or_else(whole)?;
        if let Some(key) = map.keys().find(|key| !Self::KEYS.contains(&key.as_str())) {
            let near = nearest(key, Self::KEYS.into_iter());
            let near = near.map_or_else(
                || "it has address and names".to_owned(),
                |near| format!("did you mean \"{near}\"?"),
            );
            return Err(format!("an entry has no key \"{key}\"; {near}"));
        }
        let address = map.get("address").ok_or_else(whole)?;
        let ip = address.as_str().and_then(|text| text.parse().ok());
        let ip = ip.ok_or_else(|| format!("the address of an entry must be an IP address, not {address}"))?;
        let names = map.get("names").and_then(Value::as_array).filter(|names| !names.is_empty());
        let names = names.ok_or_else(|| format!("address {ip} has no list of names"))?;
        let name = |name: &Value| {
            name.as_str().map(str::to_owned).ok_or_else(|| format!("{name} is not a host name"))
        };
        Ok(Self { address: ip, names: names.iter().map(name).collect::<Result<_, String>>()? })
    }
}

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "hosts",
        summary: "Keeps a marked block of names in /etc/hosts; all other lines stay.",
        returns: &[],
        example: "\
- name: The names of both hosts
  hosts:
    entries:
      - {address: \"{{ hosts[0].address }}\", names: [\"{{ hosts[0].fqdn }}\", \"{{ hosts[0].name }}\"]}
      - {address: \"{{ hosts[1].address }}\", names: [\"{{ hosts[1].fqdn }}\", \"{{ hosts[1].name }}\"]}
",
        keys: &[
            Schema::must("entries", Kind::Any, "a list of {address: 192.0.2.1, names: [a.example.com, a]}"),
            Schema::may("marker", Kind::Text, "name of the block, when there are several (default: futago)"),
            Schema::may("path", Kind::Path, "the file (default: /etc/hosts)"),
        ],
    };

    fn validate(&self) -> Vec<ArgError> {
        let wrong = |message: String| ArgError::at("entries", message);
        let Some(entries) = self.entries.as_array() else {
            let message =
                format!("argument \"entries\" of module hosts must be a list, not {}", self.entries);
            return vec![wrong(message)];
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
        let mut errors = Vec::new();
        let mut seen = BTreeSet::new();
        for entry in entries.iter().map(Entry::read) {
            match entry {
                Err(message) => errors.push(wrong(message)),
                Ok(Entry { address, names }) => {
                    for name in names {
                        if name.is_empty() || !name.chars().all(fits) {
                            errors.push(wrong(format!("\"{name}\" is not a host name")));
                        }
                        let message = format!("the name {name} is given twice");
                        if !seen.insert((address.is_ipv4(), name)) {
                            errors.push(wrong(message));
                        }
                    }
                }
            }
        }
        if self
            .marker
            .as_ref()
            .is_some_and(|marker| marker.trim().is_empty() || marker.contains(char::is_control))
        {
            errors.push(ArgError::at(
                "marker",
                "argument \"marker\" of module hosts must be a name on one line",
            ));
        }
        errors
    }

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        let path = self.path.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
        let text = text::read(path)?.unwrap_or_default();
        let marker = self.marker.as_deref().unwrap_or(DEFAULT_MARKER);
        // They were checked before.
        let entries: Vec<Entry> = self
            .entries
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|entry| Entry::read(entry).ok())
            .collect();
        let wanted = with_block(&text, marker, &entries).map_err(|line| text::damaged(path, marker, line))?;
        let conflicts = conflicts(&text, marker, &entries);
        let outcome = copy::place(path, wanted.as_bytes(), Wanted::default(), context)?;
        if conflicts.is_empty() {
            return Ok(outcome);
        }
        let message = format!("{}; also named outside the block: {}", outcome.message, conflicts.join(", "));
        Ok(Outcome { message, ..outcome })
    }
}

/// The file with the block in place of the old one, or at the end. The error is the line of a stray marker.
fn with_block(text: &str, marker: &str, entries: &[Entry]) -> Result<String, usize> {
    let (begin, end) = (format!("# BEGIN {marker}"), format!("# END {marker}"));
    let mut block = vec![begin.clone()];
    block.extend(entries.iter().map(|entry| format!("{}\t{}", entry.address, entry.names.join(" "))));
    block.push(end.clone());
    let mut text = Text::new(text);
    let place = text.block(&begin, &end)?.unwrap_or(text.len()..text.len());
    text.splice(place, &block.iter().map(String::as_str).collect::<Vec<_>>());
    Ok(text.to_string())
}

/// Our names with another address on other lines: `ha-a is 127.0.1.1 on line 2`.
fn conflicts(text: &str, marker: &str, entries: &[Entry]) -> Vec<String> {
    let (begin, end) = (format!("# BEGIN {marker}"), format!("# END {marker}"));
    let mut inside = false;
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        inside = (inside || line.trim() == begin) && line.trim() != end;
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()).filter(|_| !inside)
        else {
            continue;
        };
        for name in words {
            let named = |entry: &&Entry| entry.names.iter().any(|own| own.eq_ignore_ascii_case(name));
            let other =
                |entry: &Entry| entry.address != address && entry.address.is_ipv4() == address.is_ipv4();
            if entries.iter().find(named).is_some_and(other) {
                found.push(format!("{name} is {address} on line {}", index + 1));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::testing::{applied, checked, converges, mistakes};
    use serde_json::{Value, json};
    use std::fs;

    fn five_names() -> Value {
        json!([
            {"address": "203.0.113.10", "names": ["ha.example.com"]},
            {"address": "203.0.113.11", "names": ["ha-a.example.com", "ha-a"]},
            {"address": "192.168.1.101", "names": ["ha-a-local"]},
        ])
    }

    #[test]
    fn the_block_is_added_after_all_lines_that_were_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        fs::write(&path, "127.0.0.1\tlocalhost\n::1 localhost # six").unwrap();
        converges("hosts", json!({"path": path, "entries": five_names()}));
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "127.0.0.1\tlocalhost\n::1 localhost # six\n# BEGIN futago\n203.0.113.10\tha.example.com\n\
             203.0.113.11\tha-a.example.com ha-a\n192.168.1.101\tha-a-local\n# END futago\n"
        );
    }

    #[test]
    fn an_older_block_is_replaced_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        fs::write(&path, "1.1.1.1 one\n# BEGIN futago\n9.9.9.9 old\n# END futago\n2.2.2.2 two\n").unwrap();
        converges("hosts", json!({"path": path, "entries": [{"address": "3.3.3.3", "names": ["three"]}]}));
        let wanted = "1.1.1.1 one\n# BEGIN futago\n3.3.3.3\tthree\n# END futago\n2.2.2.2 two\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), wanted);
    }

    #[test]
    fn the_same_name_on_another_line_is_reported_and_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        fs::write(&path, "127.0.0.1 localhost\n127.0.1.1 ha-a\n").unwrap();
        let outcome = checked("hosts", json!({"path": path, "entries": five_names()}));
        assert!(outcome.message.ends_with("also named outside the block: ha-a is 127.0.1.1 on line 2"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "127.0.0.1 localhost\n127.0.1.1 ha-a\n");
    }

    #[test]
    fn a_damaged_block_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        fs::write(&path, "# END futago\n# BEGIN futago\n").unwrap();
        let failure = applied("hosts", json!({"path": path, "entries": five_names()})).failure.unwrap();
        assert!(failure.message.ends_with("a damaged block futago at line 2"), "{}", failure.message);
    }

    #[test]
    fn names_and_addresses_are_checked_before_contact() {
        let entries =
            json!([{"address": "1.1.1.1", "names": ["a", "b c"]}, {"address": "1.1.1.2", "names": ["a"]}]);
        let wanted = ["\"b c\" is not a host name", "the name a is given twice"];
        assert_eq!(mistakes("hosts", json!({"entries": entries})), wanted);
        let wrong = mistakes("hosts", json!({"entries": [{"address": "1.1.1", "names": []}]}));
        assert_eq!(wrong, ["the address of an entry must be an IP address, not \"1.1.1\""]);
    }
}
