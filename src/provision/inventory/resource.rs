//! One resource of the cluster manager as a person writes it: its keys by class, and names that are unique.

use serde_json::Value;

use base::fields::Fields;
use base::problem::{Place, Problem, Problems};
use base::yaml::Node;

/// Keys of every resource.
pub(super) const COMMON: &[&str] = &[
    "name",
    "class",
    "after",
    "start_timeout",
    "stop_timeout",
    "monitor_interval",
    "monitor_timeout",
    "monitor_failures",
    "restarts",
    "restart_dependents",
];
/// Classes, or the part before the name of what they run; with the keys that they add and those they need.
const CLASSES: &[(&str, &[&str], &[&str])] = &[
    ("futago:replica", &["resource"], &["resource"]),
    ("futago:mount", &["device", "directory", "fstype", "options"], &["device", "directory"]),
    ("futago:bind", &["source", "directory"], &["source", "directory"]),
    ("futago:address", &["address", "interface"], &["address", "interface"]),
    ("systemd:", &["check"], &[]),
    ("ocf:", &["params", "check_level"], &[]),
];
pub(super) const CHECK: &[&str] = &["http", "contains", "tcp", "sql", "command"];
const DURATIONS: &[&str] = &["start_timeout", "stop_timeout", "monitor_interval", "monitor_timeout"];
const PATHS: &[&str] = &["device", "directory", "source"];
const TEXTS: &[&str] = &["resource", "fstype", "options", "address", "interface"];
/// More is not a policy but a loop.
const MAX_COUNT: u64 = 1000;
/// The levels of the OCF API.
const MAX_CHECK_LEVEL: u64 = 30;

/// A resource that was read.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    pub(super) name: String,
    /// `futago:mount`, `systemd:mariadb`.
    pub(super) class: String,
    /// All of it, for the manager's own file.
    pub(super) value: Value,
    /// Where it is written, unless it was filled in; and the names in `after`.
    place: Option<Place>,
    after: Vec<(String, Place)>,
}

impl Resource {
    /// One that was filled in.
    pub(super) fn new(value: Value) -> Self {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self { name: text("name"), class: text("class"), place: None, after: Vec::new(), value }
    }

    /// Whether a person has written it.
    pub(super) fn is_written(&self) -> bool {
        self.place.is_some()
    }

    /// The unit of a `systemd:` resource.
    pub(super) fn unit(&self) -> Option<&str> {
        self.class.strip_prefix("systemd:")
    }

    pub(super) fn is_ocf(&self) -> bool {
        self.class.starts_with("ocf:")
    }

    pub(super) fn is_mount_of(&self, device: &str) -> bool {
        self.class == "futago:mount" && self.value.get("device").is_some_and(|d| d == device)
    }
}

/// Keys of a resource of any class.
#[cfg(test)]
pub(super) fn all_keys() -> Vec<&'static str> {
    let mut own: Vec<&str> = CLASSES.iter().flat_map(|(_, own, _)| own.iter().copied()).collect();
    own.extend(COMMON);
    own.sort_unstable();
    own.dedup();
    own
}

/// The resources of a list; those with mistakes are reported and left out.
pub(super) fn list(fields: &mut Fields<'_, '_>, key: &str) -> Vec<Resource> {
    fields.list(key).iter().filter_map(|node| resource(node, fields.problems())).collect()
}

fn resource(node: &Node, problems: &mut Problems) -> Option<Resource> {
    let class = node.get("class").and_then(|n| n.to_json().as_str().map(str::to_owned)).unwrap_or_default();
    let known =
        CLASSES.iter().find(|(name, ..)| class == *name || (name.ends_with(':') && runs(&class, name)));
    let (own, needed) = known.map_or((&[][..], &[][..]), |(_, own, needed)| (*own, *needed));
    let every: Vec<&str> = CLASSES.iter().flat_map(|(_, own, _)| own.iter().copied()).collect();
    // Which keys fit is only known when the class is.
    let allowed = [COMMON, if known.is_some() { own } else { &every }].concat();
    let mut fields = Fields::of(node, "a resource", &allowed, problems)?;
    let name =
        fields.required("name", "a name for the resource, such as mariadb").and_then(|_| fields.text("name"));
    let what = "what it is, such as systemd:mariadb, ocf:heartbeat:nginx or futago:bind";
    let at = fields.required("class", what);
    if let Some(at) = at.filter(|_| known.is_none()) {
        let mut classes: Vec<&str> = CLASSES.iter().map(|(name, ..)| *name).collect();
        classes.retain(|c| !c.ends_with(':'));
        classes.extend(["systemd:UNIT", "ocf:PROVIDER:TYPE"]);
        fields.problems().push(Problem::unknown_word(&at.place, "there is no class", &class, &classes));
    }
    for key in needed {
        fields.required(key, "this class needs it");
    }
    values(&mut fields);
    let after = fields.texts("after").into_iter().map(|(name, at)| (name, at.place.clone())).collect();
    let name = name?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(fits) {
        fields.report(node, format!("{name:?} cannot be the name of a resource: use letters, digits, - _ ."));
    }
    Some(Resource { name, class, value: node.to_json(), place: Some(node.place.clone()), after })
}

/// `systemd:mariadb` runs something, `systemd:` does not; `ocf:` needs provider and type.
fn runs(class: &str, prefix: &str) -> bool {
    let words = if prefix == "ocf:" { 2 } else { 1 };
    class.strip_prefix(prefix).is_some_and(|rest| {
        rest.split(':').count() == words && rest.split(':').all(|w| !w.is_empty() && !w.contains('/'))
    })
}

fn values(fields: &mut Fields<'_, '_>) {
    for key in DURATIONS {
        duration(fields, key);
    }
    for key in PATHS {
        path(fields, key);
    }
    for key in TEXTS {
        fields.text(key);
    }
    fields.int("monitor_failures", 1, MAX_COUNT);
    fields.int("restarts", 0, MAX_COUNT);
    fields.int("check_level", 0, MAX_CHECK_LEVEL);
    fields.bool("restart_dependents");
    fields.map("params");
    let Some(node) = fields.get("check") else { return };
    let Some(mut check) = Fields::of(node, "a check", CHECK, fields.problems()) else { return };
    let kinds = CHECK.iter().filter(|key| **key != "contains" && check.get(key).is_some()).count();
    if kinds != 1 {
        check.report(
            node,
            "a check is one of {http: URL}, {tcp: HOST:PORT}, {sql: SOCKET}, {command: [PROGRAM, …]}",
        );
    }
    if let Some(at) = check.get("contains").filter(|_| check.get("http").is_none()) {
        check.report(at, "\"contains\" belongs to a check by http");
    }
    check.text("contains");
    check.text("tcp");
    path(&mut check, "sql");
    check.texts("command");
    let url = check.text("http").zip(check.get("http"));
    if let Some((url, at)) = url.filter(|(url, _)| !url.starts_with("http://")) {
        check.report(at, format!("\"http\" must be http://HOST[:PORT]/PATH, not {url:?}"));
    }
}

/// A length of time with its unit: `300ms`, `5s`, `10m`.
pub(super) fn duration(fields: &mut Fields<'_, '_>, key: &str) -> Option<String> {
    let text = fields.text(key)?;
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = text.strip_suffix(unit).unwrap_or_default();
    if number.is_empty() || number.parse::<u32>().is_err() || !["ms", "s", "m", "h"].contains(&unit) {
        let node = fields.get(key)?;
        fields.report(node, format!("{key:?} must be a time such as 300ms, 5s or 10m, not {text:?}"));
        return None;
    }
    Some(text)
}

/// An absolute path.
pub(super) fn path(fields: &mut Fields<'_, '_>, key: &str) -> Option<String> {
    let text = fields.text(key)?;
    if !text.starts_with('/') {
        let node = fields.get(key)?;
        fields.report(node, format!("{key:?} must be an absolute path, not {text:?}"));
        return None;
    }
    Some(text)
}

/// Each name once in the group and once in `everywhere`; `after` only names what is in the group.
pub(super) fn check_names(group: &[Resource], everywhere: &[Resource], problems: &mut Problems) {
    let names: Vec<&str> = group.iter().map(|r| r.name.as_str()).collect();
    let all: Vec<&Resource> = group.iter().chain(everywhere).collect();
    for (index, resource) in all.iter().enumerate() {
        let Some(place) = &resource.place else { continue };
        // Those that were filled in come first in everybody's eyes, also the address at the end.
        let twice = all.iter().enumerate().any(|(other, r)| {
            r.name == resource.name && other != index && (other < index || r.place.is_none())
        });
        if twice {
            problems.push(Problem::new(place, format!("a resource {:?} is there already", resource.name)));
        }
    }
    for (name, place) in group.iter().flat_map(|r| &r.after) {
        if !names.contains(&name.as_str()) {
            problems.push(Problem::unknown_word(place, "the group has no resource", name, &names));
        }
    }
    for (_, place) in everywhere.iter().flat_map(|r| &r.after) {
        problems.push(Problem::new(place, "what runs everywhere has no order: drop \"after\""));
    }
}
