//! The resources of a cluster.yml: their classes, times and order.

use std::collections::BTreeMap;

use base::fields::Fields;
use base::problem::{Problem, Problems};
use base::yaml::{Content, Node};
use cluster::config::{Check, Class, Resource, ResourceId};
use cluster::timing::Millis;

use super::value;

/// Most resources of a cluster: far above any stack that fails over within seconds.
const MAX_RESOURCES: usize = 64;
/// A database that replays its log may take long.
const START_MS: Millis = 120_000;
const STOP_MS: Millis = 60_000;
const MONITOR_EVERY_MS: Millis = 5_000;
const MONITOR_MS: Millis = 10_000;
/// Of a unit's check: an answer from this very host.
const CHECK_MS: Millis = 5_000;
/// A loaded machine is not a broken one.
const MONITOR_FAILURES: u64 = 3;
const RESTARTS: u64 = 2;

const TIMES: &[&str] = &[
    "name",
    "class",
    "start_timeout",
    "stop_timeout",
    "monitor_interval",
    "monitor_timeout",
    "monitor_failures",
    "restarts",
    "restart_dependents",
];
const CLASSES: &[&str] = &["futago:replica", "futago:mount", "futago:bind", "futago:address", "systemd:UNIT"];

/// Which list a resource is in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    /// Runs on exactly one node.
    Group,
    /// Runs on both.
    Everywhere,
}

/// Collects resources over both lists.
#[derive(Default)]
pub(super) struct Resources {
    pub(super) group: Vec<Resource>,
    pub(super) everywhere: Vec<Resource>,
    /// Names and what they stand for, with their numbers.
    names: BTreeMap<String, usize>,
}

impl Resources {
    /// Takes one entry of a list.
    pub(super) fn add(&mut self, list: List, node: &Node, problems: &mut Problems) {
        let count = self.group.len() + self.everywhere.len();
        if count >= MAX_RESOURCES {
            problems.push(Problem::new(&node.place, format!("more than {MAX_RESOURCES} resources")));
            return;
        }
        let class_text = match node.get("class").map(|n| &n.content) {
            Some(Content::Text(text)) => text.clone(),
            _ => String::new(),
        };
        let mut allowed = TIMES.to_vec();
        allowed.extend(keys_of(&class_text));
        if list == List::Group {
            allowed.push("after");
        }
        let Some(mut fields) = Fields::of(node, "a resource", &allowed, problems) else { return };
        let name = self.name(&mut fields, count);
        let class = class(&mut fields, list);
        let after = match list {
            List::Group => self.after(&mut fields, count),
            List::Everywhere => Vec::new(),
        };
        // A wrong one keeps its place, so that those after it are not reported for it.
        let class = class.unwrap_or(Class::Replica { resource: String::new() });
        let monitor_ms = if matches!(class, Class::Systemd { .. }) { CHECK_MS } else { MONITOR_MS };
        let resource = Resource {
            name: name.unwrap_or_default(),
            restart_dependents: fields.bool("restart_dependents").unwrap_or(carries_others(&class)),
            class,
            after,
            start_timeout_ms: value::duration(&mut fields, "start_timeout", START_MS, 100..=3_600_000),
            stop_timeout_ms: value::duration(&mut fields, "stop_timeout", STOP_MS, 100..=3_600_000),
            monitor_interval_ms: value::duration(
                &mut fields,
                "monitor_interval",
                MONITOR_EVERY_MS,
                0..=3_600_000,
            ),
            monitor_timeout_ms: value::duration(&mut fields, "monitor_timeout", monitor_ms, 100..=600_000),
            monitor_failures: count_of(&mut fields, "monitor_failures", 1, MONITOR_FAILURES),
            restarts: count_of(&mut fields, "restarts", 0, RESTARTS),
        };
        match list {
            List::Group => self.group.push(resource),
            List::Everywhere => self.everywhere.push(resource),
        }
    }

    fn name(&mut self, fields: &mut Fields<'_, '_>, number: usize) -> Option<String> {
        let node = fields.required("name", "what status and commands call it")?;
        let text = fields.text("name")?;
        let name = value::name("the name of a resource", &text, node, fields.problems())?;
        if self.names.insert(name.clone(), number).is_some() {
            fields.report(node, format!("two resources are called {name:?}"));
        }
        Some(name)
    }

    /// Those before it in the list that it needs: the last one unless written otherwise.
    fn after(&self, fields: &mut Fields<'_, '_>, number: usize) -> Vec<ResourceId> {
        if fields.get("after").is_none() {
            return number.checked_sub(1).map(ResourceId).into_iter().collect();
        }
        let mut found = Vec::new();
        for (text, node) in fields.texts("after") {
            match self.names.get(&text).filter(|n| **n < number) {
                Some(earlier) => found.push(ResourceId(*earlier)),
                None => {
                    let earlier = self.names.iter().filter(|(_, n)| **n < number);
                    let allowed: Vec<&str> = earlier.map(|(name, _)| name.as_str()).collect();
                    let sentence = "the group has before this one no resource";
                    fields.problems().push(Problem::unknown_word(&node.place, sentence, &text, &allowed));
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// What stands on it cannot outlive its restart.
const fn carries_others(class: &Class) -> bool {
    matches!(class, Class::Replica { .. } | Class::Mount { .. } | Class::Bind { .. })
}

fn count_of(fields: &mut Fields<'_, '_>, key: &str, least: u64, default: u64) -> u32 {
    let count = fields.int(key, least, 1000).unwrap_or(default);
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn keys_of(class: &str) -> &'static [&'static str] {
    match class.split(':').next() {
        Some("systemd") => &["check"],
        Some("ocf") => &["params", "check_level"],
        _ => match class {
            "futago:replica" => &["resource"],
            "futago:mount" => &["device", "directory", "fstype", "options"],
            "futago:bind" => &["source", "directory"],
            "futago:address" => &["address", "interface"],
            // An unknown class is one mistake, not one for each of its keys.
            _ => &[
                "resource",
                "device",
                "directory",
                "fstype",
                "options",
                "source",
                "address",
                "interface",
                "check",
                "params",
                "check_level",
            ],
        },
    }
}

fn class(fields: &mut Fields<'_, '_>, list: List) -> Option<Class> {
    let node = fields.required("class", "futago:mount, systemd:UNIT, ocf:PROVIDER:TYPE …")?;
    let text = fields.text("class")?;
    if list == List::Everywhere && text.starts_with("futago:") {
        fields.report(node, format!("{text:?} cannot run on both hosts: it belongs to the group"));
        return None;
    }
    let words: Vec<&str> = text.split(':').collect();
    match words.as_slice() {
        ["futago", "replica"] => Some(Class::Replica { resource: named(fields, "resource")? }),
        ["futago", "mount"] => mount(fields),
        ["futago", "bind"] => {
            let (source, directory) = (path(fields, "source"), path(fields, "directory"));
            Some(Class::Bind { source: source?, directory: directory? })
        }
        ["futago", "address"] => address(fields),
        ["systemd", unit] if !unit.is_empty() => {
            let unit = value::name("a unit", unit, node, fields.problems());
            let check = check(fields);
            unit.map(|unit| Class::Systemd { unit: with_suffix(unit), check })
        }
        ["ocf", provider, kind] if !provider.is_empty() && !kind.is_empty() => {
            let provider = value::name("a provider", provider, node, fields.problems());
            let kind = value::name("an agent", kind, node, fields.problems());
            let params = value::texts_by_name(fields, "params");
            let level = fields.int("check_level", 0, 100).unwrap_or(0);
            let check_level = u32::try_from(level).unwrap_or(0);
            Some(Class::Ocf { provider: provider?, kind: kind?, params, check_level })
        }
        _ => {
            let problem = Problem::unknown_word(&node.place, "there is no class", &text, CLASSES);
            fields.problems().push(if problem.hint.as_ref().is_some_and(|h| h.starts_with("allowed")) {
                problem.hint(format!("allowed: {}, ocf:PROVIDER:TYPE", CLASSES.join(", ")))
            } else {
                problem
            });
            None
        }
    }
}

fn with_suffix(unit: String) -> String {
    let kinds = [".service", ".socket", ".target", ".timer", ".mount", ".path"];
    if kinds.iter().any(|kind| unit.ends_with(kind)) { unit } else { unit + ".service" }
}

fn named(fields: &mut Fields<'_, '_>, key: &str) -> Option<String> {
    let node = fields.required(key, "which one")?;
    let text = fields.text(key)?;
    value::name(&format!("{key:?}"), &text, node, fields.problems())
}

fn path(fields: &mut Fields<'_, '_>, key: &str) -> Option<String> {
    fields.required(key, "a path that begins with /")?;
    value::path(fields, key).map(|path| path.to_string_lossy().into_owned())
}

fn mount(fields: &mut Fields<'_, '_>) -> Option<Class> {
    let (device, directory) = (path(fields, "device"), path(fields, "directory"));
    let fstype = named(fields, "fstype");
    let options = fields.text("options").unwrap_or_default();
    Some(Class::Mount { device: device?, directory: directory?, fstype: fstype?, options })
}

fn address(fields: &mut Fields<'_, '_>) -> Option<Class> {
    let interface = named(fields, "interface");
    let node = fields.required("address", "the virtual address with its prefix length: 203.0.113.10/24")?;
    let text = fields.text("address")?;
    let parsed = text.split_once('/').and_then(|(address, prefix)| {
        let address: std::net::IpAddr = address.parse().ok()?;
        let prefix: u8 = prefix.parse().ok()?;
        (prefix <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, prefix))
    });
    let Some((address, prefix)) = parsed else {
        let message = format!("{text:?} is not an address with its prefix length, such as 203.0.113.10/24");
        fields.report(node, message);
        return None;
    };
    Some(Class::Address { address: address.to_string(), prefix, interface: interface? })
}

fn check(fields: &mut Fields<'_, '_>) -> Option<Check> {
    let node = fields.get("check")?;
    let mut inner =
        Fields::of(node, "a check", &["http", "contains", "tcp", "sql", "command"], fields.problems())?;
    let kinds = ["http", "tcp", "sql", "command"];
    let given: Vec<&str> = kinds.into_iter().filter(|kind| inner.get(kind).is_some()).collect();
    let [kind] = given.as_slice() else {
        inner.report(node, format!("a check is exactly one of {}", kinds.join(", ")));
        return None;
    };
    if *kind != "http"
        && let Some(contains) = inner.get("contains")
    {
        inner.report(contains, "\"contains\" belongs to \"http\"");
    }
    match *kind {
        "http" => http(&mut inner),
        "tcp" => {
            let value = inner.get("tcp")?;
            let address = inner.text("tcp")?;
            let whole = address.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
            });
            if !whole {
                inner.report(value, format!("{address:?} is not HOST:PORT"));
            }
            whole.then_some(Check::Tcp { address })
        }
        "sql" => path(&mut inner, "sql").map(|socket| Check::Sql { socket }),
        _ => {
            let argv: Vec<String> = inner.texts("command").into_iter().map(|(text, _)| text).collect();
            if !argv.first().is_some_and(|program| program.starts_with('/')) {
                inner.report(node, "\"command\" is a list: a program with its whole path, and its arguments");
                return None;
            }
            Some(Check::Command { argv })
        }
    }
}

fn http(fields: &mut Fields<'_, '_>) -> Option<Check> {
    let node = fields.get("http")?;
    let url = fields.text("http")?;
    if !url.strip_prefix("http://").is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')) {
        fields.report(node, format!("{url:?} is not http://HOST[:PORT]/PATH"));
        return None;
    }
    Some(Check::Http { url, contains: fields.text("contains") })
}
