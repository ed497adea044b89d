//! Values with an inner form: durations, addresses, names. Each is reported with what is allowed and then
//! treated as absent.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use base::fields::Fields;
use base::problem::{Problem, Problems};
use base::yaml::{Content, Node};
use cluster::timing::Millis;

/// Longest name of a cluster, a host or a resource; DNS allows no more for a host.
const MAX_NAME: usize = 253;

/// `300ms`, `5s`, `10m`, `2h` within bounds; otherwise the default.
pub(super) fn duration(
    fields: &mut Fields<'_, '_>,
    key: &str,
    default: Millis,
    allowed: std::ops::RangeInclusive<Millis>,
) -> Millis {
    let Some(node) = fields.get(key) else { return default };
    let parsed = if let Content::Text(text) = &node.content { millis(text) } else { None };
    match parsed {
        Some(value) if allowed.contains(&value) => value,
        Some(_) => {
            let (low, high) = (spelled(*allowed.start()), spelled(*allowed.end()));
            fields.report(node, format!("{key:?} must be from {low} to {high}, not {}", node.shown()));
            default
        }
        None => {
            let message = format!("{key:?} must be a duration, not {}", node.shown());
            fields
                .problems()
                .push(Problem::new(&node.place, message).hint("a number with a unit: 300ms, 5s, 10m, 2h"));
            default
        }
    }
}

/// Milliseconds of a number with a unit.
pub(super) fn millis(text: &str) -> Option<Millis> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.parse::<Millis>().ok()?.checked_mul(factor)
}

fn spelled(value: Millis) -> String {
    match value {
        0 => "0s".to_owned(),
        v if v % 3_600_000 == 0 => format!("{}h", v / 3_600_000),
        v if v % 60_000 == 0 => format!("{}m", v / 60_000),
        v if v % 1_000 == 0 => format!("{}s", v / 1_000),
        v => format!("{v}ms"),
    }
}

/// A host name, or another name made of the same signs.
pub(super) fn name(what: &str, text: &str, node: &Node, problems: &mut Problems) -> Option<String> {
    let sign = |c: char| c.is_ascii_alphanumeric() || "-._@".contains(c);
    if !text.is_empty() && text.len() <= MAX_NAME && text.chars().all(sign) && !text.starts_with(['-', '.']) {
        return Some(text.to_owned());
    }
    let message =
        format!("{what} must be made of letters, digits, '-', '.', '_' and '@', not {}", node.shown());
    problems.push(Problem::new(&node.place, message));
    None
}

/// An address without port.
pub(super) fn ip(text: &str, node: &Node, problems: &mut Problems) -> Option<IpAddr> {
    let parsed = text.parse().ok();
    if parsed.is_none() {
        problems.push(Problem::new(
            &node.place,
            format!("{} is not an address such as 10.9.0.1 or 2001:db8::1", node.shown()),
        ));
    }
    parsed
}

/// An address with a port; with this port when it has none.
pub(super) fn socket(
    text: &str,
    port: Option<u16>,
    node: &Node,
    problems: &mut Problems,
) -> Option<SocketAddr> {
    let bare = || Some(SocketAddr::new(text.parse().ok()?, port?));
    let parsed = text.parse().ok().or_else(bare);
    if parsed.is_none() {
        let allowed = match port {
            Some(port) => format!("an address with or without port (else {port}), such as 10.9.0.1"),
            None => "an address with a port, such as 10.9.0.1:7792 or [2001:db8::1]:7792".to_owned(),
        };
        problems.push(Problem::new(&node.place, format!("{} is not {allowed}", node.shown())));
    }
    parsed
}

/// A path from the root.
pub(super) fn path(fields: &mut Fields<'_, '_>, key: &str) -> Option<PathBuf> {
    let node = fields.get(key)?;
    let text = fields.text(key)?;
    if text.starts_with('/') {
        return Some(text.into());
    }
    fields.report(node, format!("{key:?} must be a path that begins with /, not {}", node.shown()));
    None
}

/// One of these words.
pub(super) fn word<T: Copy>(fields: &mut Fields<'_, '_>, key: &str, default: T, allowed: &[(&str, T)]) -> T {
    let Some(node) = fields.get(key) else { return default };
    // An unquoted `off` is text in YAML 1.2; a `false` was meant as one.
    let text = match &node.content {
        Content::Bool(false) => "off".to_owned(),
        _ => match fields.text(key) {
            Some(text) => text,
            None => return default,
        },
    };
    if let Some((_, value)) = allowed.iter().find(|(word, _)| *word == text) {
        return *value;
    }
    let words: Vec<&str> = allowed.iter().map(|(word, _)| *word).collect();
    let sentence = format!("{key:?} cannot be");
    fields.problems().push(Problem::unknown_word(&node.place, &sentence, &text, &words));
    default
}

/// A mapping of texts.
pub(super) fn texts_by_name(
    fields: &mut Fields<'_, '_>,
    key: &str,
) -> std::collections::BTreeMap<String, String> {
    let mut found = std::collections::BTreeMap::new();
    for entry in fields.map(key) {
        let text = match &entry.value.content {
            Content::Text(text) => text.clone(),
            Content::Number(number) => number.to_string(),
            Content::Bool(value) => value.to_string(),
            _ => {
                let message = format!("{:?} must be text, not {}", entry.key, entry.value.shown());
                fields.report(&entry.value, message);
                continue;
            }
        };
        found.insert(entry.key.clone(), text);
    }
    found
}
