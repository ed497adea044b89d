//! The section `manager`: that the pair is looked after by the cluster manager, and what it runs.
//!
//! Everything that a person writes is checked here, before any host is contacted. What is the same on every pair (the
//! replicated device, its file system, the virtual address) is filled in, so that `group` lists what lies between.

use std::net::IpAddr;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::etcd::{self, Etcd};
use super::fencing;
use super::resource::{self, Resource};
use super::secrets::Secrets;
use super::{Member, VirtualIp, stack};
use base::fields::Fields;
use base::problem::Problem;
use base::yaml::{Content, Node};

pub(super) const MANAGER: &[&str] = &[
    "failover_target",
    "window",
    "etcd",
    "mount",
    "fstype",
    "mount_options",
    "group",
    "everywhere",
    "watchdog",
    "gateway",
    "metrics",
    "verify",
    "policy",
    "fencing",
    "alerts",
];
pub(super) const POLICY: &[&str] = &["foreign_start", "reboot_on_failed_stop", "watch_public_link"];
pub(super) const ALERT: &[&str] = &["exec", "webhook"];
pub(super) const PROFILES: &[&str] = &["fast", "default", "calm"];
pub(super) const FILE_SYSTEMS: &[&str] = &["ext4", "xfs"];
pub(super) const WATCHDOGS: &[&str] = &["auto", "required", "off"];
pub(super) const FOREIGN_STARTS: &[&str] = &["stop", "alarm"];
pub(super) const VERIFY: &[&str] = &["daily", "weekly", "monthly", "off"];
pub(super) const SEGMENTS: &[&str] = &["local", "public", "off"];

/// The replicated device of the shipped playbooks.
const DEVICE: &str = "/dev/drbd1";
const DEFAULT_MOUNT: &str = "/srv/data";
/// The shortest `failover_target` that leaves a watchdog a whole second.
const WATCHDOG_SECONDS: f64 = 4.0;
/// Bounds of `failover_target` in seconds; those of the manager.
const TARGET_SECONDS: std::ops::RangeInclusive<f64> = 2.4..=60.0;

/// What the cluster manager is told, whole and in the form of its own configuration file.
#[derive(Clone, Debug, PartialEq)]
pub struct Manager {
    /// The stack in order, with replica, mount and address.
    pub group: Vec<Value>,
    /// What runs on both hosts.
    pub everywhere: Vec<Value>,
    /// Units among both, which nobody else may start at boot.
    pub units: Vec<String>,
    /// Whether any of both is an OCF agent.
    pub ocf: bool,
    /// The file system: `device`, `directory`, `fstype`.
    pub mount: Value,
    /// Segments on which metrics and health are served.
    pub metrics: Vec<String>,
    /// How often both disks are compared, in systemd's words for a calendar; `off` for never.
    pub verify: String,
    /// What the etcd cluster is reached with that keeps the record, if one does.
    pub etcd: Option<Etcd>,
    /// Keys that go into the manager's file as they are.
    pub plain: Map<String, Value>,
}

impl Manager {
    /// As expressions see it.
    pub(super) fn describe(&self) -> Value {
        let Self { group, everywhere, units, ocf, mount, metrics, verify, etcd, plain } = self;
        let etcd = etcd.clone().unwrap_or_default().describe();
        json!({
            "group": group, "everywhere": everywhere, "units": units, "ocf": ocf, "mount": mount, "metrics": metrics,
            "verify": verify, "etcd": etcd, "settings": plain,
        })
    }

    /// Texts that must never be shown.
    pub fn secrets(&self) -> impl Iterator<Item = String> + '_ {
        let devices = self.plain.get("fencing").and_then(Value::as_array).into_iter().flatten();
        let told = devices.chain(&self.group).chain(&self.everywhere).flat_map(fencing::hidden);
        self.etcd.iter().flat_map(Etcd::secrets).chain(told)
    }
}

/// What the section is checked against.
pub(super) struct Around<'a> {
    pub(super) virtual_ip: Option<&'a VirtualIp>,
    pub(super) hosts: &'a [Member],
    pub(super) witness: bool,
    /// The inventory; the files that it names are beside it.
    pub(super) file: &'a Path,
    /// What comes with the program and runs on the pair.
    pub(super) stack: Option<&'a str>,
    /// What it may take values from.
    pub(super) secrets: &'a Secrets,
}

pub(super) fn manager(
    node: &Node,
    around: &Around<'_>,
    problems: &mut base::problem::Problems,
) -> Option<Manager> {
    if let Some(entry) = node.entries().iter().find(|e| e.key == "witness") {
        let problem = Problem::new(&entry.place, "manager has no key \"witness\"");
        problems.push(problem.hint("the witness is a host: write `witness: {address: …}` beside `hosts`"));
    }
    let mut fields = Fields::of(node, "manager", MANAGER, problems)?;
    let mut plain = Map::new();
    let mut keep = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            plain.insert(key.to_owned(), value);
        }
    };
    let (target, watchdog) = (target(&mut fields), word(&mut fields, "watchdog", WATCHDOGS));
    watchdog_fits(&mut fields, target.as_ref(), watchdog.as_ref());
    keep("failover_target", target);
    keep("window", resource::duration(&mut fields, "window").map(Value::from));
    keep("watchdog", watchdog);
    keep("gateway", gateway(&mut fields));
    let etcd = fields.get("etcd");
    let etcd = etcd.and_then(|node| etcd::read(node, around.witness, around.file, fields.problems()));
    keep("etcd", etcd.as_ref().map(|etcd| etcd.settings.clone().into()));
    keep("policy", policy(&mut fields));
    keep("fencing", fencing::read(&mut fields, around.hosts, around.secrets));
    keep("alerts", alerts(&mut fields));
    let metrics = metrics(&mut fields);
    let verify = word(&mut fields, "verify", VERIFY).and_then(|v| v.as_str().map(str::to_owned));
    let verify = verify.unwrap_or_else(|| "monthly".to_owned());
    let mount = mount(&mut fields);
    let own = resource::list(&mut fields, "group");
    let everywhere = resource::list(&mut fields, "everywhere");
    let group = whole(around, own, &mount);
    resource::check_names(&group, &everywhere, fields.problems());
    let mut units: Vec<String> = Vec::new();
    for unit in group.iter().chain(&everywhere).filter_map(Resource::unit) {
        if !units.iter().any(|u| u == unit) {
            units.push(unit.to_owned());
        }
    }
    let ocf = group.iter().chain(&everywhere).any(Resource::is_ocf);
    let mount = group.iter().find(|r| r.is_mount_of(DEVICE)).map_or(mount, |r| r.value.clone());
    let values = |list: Vec<Resource>| list.into_iter().map(|r| r.value).collect();
    Some(Manager {
        group: values(group),
        everywhere: values(everywhere),
        units,
        ocf,
        mount,
        metrics,
        verify,
        etcd,
        plain,
    })
}

/// The group: the device, its file system, what belongs to the stack, what is written, the address, and what of the stack
/// comes after it. What is written with the name of a resource of the stack takes its place.
fn whole(around: &Around<'_>, written: Vec<Resource>, mount: &Value) -> Vec<Resource> {
    let mut own = around.stack.map(stack::group).unwrap_or_default();
    let mut last = around.stack.map(stack::after_address).unwrap_or_default();
    for resource in written {
        match own.iter_mut().chain(&mut last).find(|own| own.name == resource.name && !own.is_written()) {
            Some(own) => *own = resource,
            None => own.push(resource),
        }
    }
    let mut group = Vec::new();
    if !own.iter().any(|r| r.class == "futago:replica") {
        group.push(Resource::new(json!({"name": "r0", "class": "futago:replica", "resource": "r0"})));
    }
    if !own.iter().any(|r| r.is_mount_of(DEVICE)) {
        group.push(Resource::new(mount.clone()));
    }
    let has_address = own.iter().any(|r| r.class == "futago:address");
    group.extend(own);
    if let Some(ip) = around.virtual_ip.filter(|_| !has_address) {
        let cidr = format!("{}/{}", ip.address, ip.prefix);
        let value =
            json!({"name": "address", "class": "futago:address", "address": cidr, "interface": ip.interface});
        group.push(Resource::new(value));
    }
    group.extend(last);
    group
}

fn mount(fields: &mut Fields<'_, '_>) -> Value {
    let directory = resource::path(fields, "mount").unwrap_or_else(|| DEFAULT_MOUNT.to_owned());
    let fstype = word(fields, "fstype", FILE_SYSTEMS).unwrap_or_else(|| FILE_SYSTEMS[0].into());
    let options = fields.text("mount_options").unwrap_or_else(|| "noatime".to_owned());
    json!({
        "name": "data", "class": "futago:mount", "device": DEVICE, "directory": directory, "fstype": fstype,
        "options": options,
    })
}

/// A profile by its name, or seconds.
fn target(fields: &mut Fields<'_, '_>) -> Option<Value> {
    let node = fields.get("failover_target")?;
    match &node.content {
        Content::Text(text) if PROFILES.contains(&text.as_str()) => return Some(text.clone().into()),
        Content::Number(n) if n.as_f64().is_some_and(|s| TARGET_SECONDS.contains(&s)) => {
            return Some(Value::Number(n.clone()));
        }
        Content::Text(text) => {
            let sentence = "\"failover_target\" must be fast, default, calm or seconds from 2.4 to 60, not";
            fields.problems().push(Problem::unknown_word(&node.place, sentence, text, PROFILES));
        }
        _ => {
            let message = "\"failover_target\" must be fast, default, calm or seconds from 2.4 to 60, not";
            fields.report(node, format!("{message} {}", node.shown()));
        }
    }
    None
}

/// A device counts in whole seconds, and must reset the machine within half the holder lease, a quarter of the target.
fn watchdog_fits(fields: &mut Fields<'_, '_>, target: Option<&Value>, watchdog: Option<&Value>) {
    let is_short = |v: &Value| v.as_str() == Some("fast") || v.as_f64().is_some_and(|s| s < WATCHDOG_SECONDS);
    if watchdog.and_then(Value::as_str) == Some("required")
        && target.is_some_and(is_short)
        && let Some(node) = fields.get("watchdog")
    {
        let message = "\"watchdog: required\" needs a failover_target of 4 s or more: a device counts in whole seconds, and must reset the machine within half the holder lease";
        fields.report(node, message.to_owned());
    }
}

fn word(fields: &mut Fields<'_, '_>, key: &str, allowed: &[&str]) -> Option<Value> {
    let word = fields.text(key)?;
    if !allowed.contains(&word.as_str()) {
        let place = fields.get(key)?.place.clone();
        let sentence = format!("{key:?} cannot be");
        fields.problems().push(Problem::unknown_word(&place, &sentence, &word, allowed));
        return None;
    }
    Some(word.into())
}

fn gateway(fields: &mut Fields<'_, '_>) -> Option<Value> {
    let text = fields.text("gateway")?;
    if text.parse::<IpAddr>().is_err() {
        let node = fields.get("gateway")?;
        fields.report(node, format!("\"gateway\" must be an IP address, not {text:?}"));
        return None;
    }
    Some(text.into())
}

fn policy(fields: &mut Fields<'_, '_>) -> Option<Value> {
    let node = fields.get("policy")?;
    let mut inner = Fields::of(node, "policy", POLICY, fields.problems())?;
    word(&mut inner, "foreign_start", FOREIGN_STARTS);
    inner.bool("reboot_on_failed_stop");
    inner.bool("watch_public_link");
    Some(node.to_json())
}

fn alerts(fields: &mut Fields<'_, '_>) -> Option<Value> {
    let mut hooks = Vec::new();
    for node in fields.list("alerts") {
        let Some(mut inner) = Fields::of(node, "an alert", ALERT, fields.problems()) else { continue };
        resource::path(&mut inner, "exec");
        let url = inner.text("webhook").zip(inner.get("webhook"));
        if let Some((url, at)) = url.filter(|(url, _)| !url.starts_with("http://")) {
            inner.report(at, format!("\"webhook\" must be an http:// URL, not {url:?}"));
        }
        if inner.get("exec").is_some() == inner.get("webhook").is_some() {
            inner.report(node, "an alert is either {exec: PROGRAM} or {webhook: URL}");
        }
        hooks.push(node.to_json());
    }
    (!hooks.is_empty()).then(|| hooks.into())
}

fn metrics(fields: &mut Fields<'_, '_>) -> Vec<String> {
    if fields.get("metrics").is_none() {
        return vec!["local".to_owned()];
    }
    let mut segments = Vec::new();
    for (text, node) in fields.texts("metrics") {
        if !SEGMENTS.contains(&text.as_str()) {
            let sentence = "\"metrics\" lists segments; there is no";
            fields.problems().push(Problem::unknown_word(&node.place, sentence, &text, SEGMENTS));
        }
        segments.push(text);
    }
    segments.retain(|s| s != "off");
    segments
}
