//! What the files say to what holds: inheritance, defaults, completeness, and contradictions between places.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::error::{ConfigError, Location, Note, Problem, Wanted, Why};
use super::raw::{self, Address, Device, Given, Layer, Setting, Slot, Volume};
use super::table::IO_ERROR;
use super::{Commands, DEFAULTS, Host, Options, Resource};
use crate::activity;
use crate::engine::UndoPolicy;
use crate::handler::Handler;

/// Makes resources of what was collected.
pub(super) fn resources(
    raw: &[raw::Resource],
    common: &Layer,
    errors: &mut Vec<ConfigError>,
    notes: &mut Vec<Note>,
) -> Vec<Resource> {
    let mut resolver = Resolver { common, used: BTreeMap::new(), errors, notes };
    raw.iter().filter_map(|resource| resolver.resource(resource)).collect()
}

struct Resolver<'a> {
    common: &'a Layer,
    /// What only one may have, and where it was given.
    used: BTreeMap<String, Location>,
    errors: &'a mut Vec<ConfigError>,
    notes: &'a mut Vec<Note>,
}

impl Resolver<'_> {
    fn resource(&mut self, raw: &raw::Resource) -> Option<Resource> {
        let volume = self.volume_number(raw)?;
        let [a, b] = raw.hosts.as_slice() else {
            let (resource, found) = (raw.name.clone(), raw.hosts.len());
            let at = raw.hosts.get(2).map_or(&raw.at, |third| &third.at);
            self.error(at, Problem::HostCount { resource, found });
            return None;
        };
        if a.name == b.name {
            let (what, first) = (format!("on {}", a.name), a.at.clone());
            self.error(&b.at, Problem::Twice { what, first });
            return None;
        }
        self.connection(raw, [a, b]);
        let devices = [a, b].map(|host| self.device(raw, host, volume));
        let ids = self.node_ids([a, b]);
        let (first, second) = (self.host(raw, a, volume), self.host(raw, b, volume));
        let (device, [id_a, id_b]) = (self.same_device(devices)?, ids?);
        let (first, second) = (first?, second?);
        Some(Resource {
            name: raw.name.clone(),
            volume,
            minor: device.minor,
            device: device.path,
            hosts: [Host { node_id: id_a, ..first }, Host { node_id: id_b, ..second }],
            handlers: self.handlers(raw),
            at: raw.at.clone(),
        })
    }

    /// The number of the one volume.
    fn volume_number(&mut self, raw: &raw::Resource) -> Option<u32> {
        let mut volumes = raw.volumes.iter().chain(raw.hosts.iter().flat_map(|h| &h.volumes));
        let Some(first) = volumes.next() else {
            let example = "volume 0 { device /dev/drbd1; disk /dev/vdb1; meta-disk internal; }";
            let inside = format!("resource {}", raw.name);
            self.error(&raw.at, Problem::Missing { what: "volume", inside, example });
            return None;
        };
        if let Some(other) = volumes.find(|v| v.number != first.number) {
            let subject = format!("volume {} beside volume {}", other.number, first.number);
            let why = "a resource has one volume; give each its own resource";
            self.error(&other.at, Problem::Refused { subject, why });
            return None;
        }
        Some(first.number)
    }

    fn connection(&mut self, raw: &raw::Resource, hosts: [&raw::Host; 2]) {
        if let Some(second) = raw.connections.get(1) {
            let why = "two hosts have one connection; remove the others";
            self.error(&second.at, Problem::Refused { subject: "a second connection".to_owned(), why });
        }
        for end in raw.connections.iter().flat_map(|c| &c.ends) {
            if !hosts.iter().any(|h| h.name == end.name) {
                let (found, resource) = (end.name.clone(), raw.name.clone());
                let known = hosts.map(|h| h.name.clone()).to_vec();
                self.error(&end.at, Problem::UnknownHost { found, resource, known });
            }
        }
        let Some(connection) = raw.connections.first().filter(|c| !c.ends.is_empty()) else { return };
        for host in hosts {
            let mut ends = connection.ends.iter().filter(|e| e.name == host.name);
            if ends.next().is_none() {
                let inside = "the connection".to_owned();
                let example = "host ha-a; host ha-b;";
                self.error(&connection.at, Problem::Missing { what: "host", inside, example });
            }
            if let Some(again) = ends.next() {
                let (what, first) = (format!("host {}", host.name), connection.at.clone());
                self.error(&again.at, Problem::Twice { what, first });
            }
        }
    }

    fn node_ids(&mut self, [a, b]: [&raw::Host; 2]) -> Option<[u32; 2]> {
        match (&a.node_id, &b.node_id) {
            (None, None) => Some([0, 1]),
            (Some(_), None) => self.missing_id(b),
            (None, Some(_)) => self.missing_id(a),
            (Some(first), Some(second)) => {
                let ids = [first.value?, second.value?];
                if first.value == second.value {
                    let what = format!("node-id {}", ids.first().copied().unwrap_or_default());
                    self.error(&second.at, Problem::Clash { what, first: first.at.clone() });
                    return None;
                }
                Some(ids)
            }
        }
    }

    fn missing_id<T>(&mut self, host: &raw::Host) -> Option<T> {
        self.missing("node-id", host, "node-id 1; (or remove it from the other host)");
        None
    }

    fn missing(&mut self, what: &'static str, host: &raw::Host, example: &'static str) {
        let inside = format!("on {}", host.name);
        self.error(&host.at, Problem::Missing { what, inside, example });
    }

    /// A host, still without its number.
    fn host(&mut self, raw: &raw::Resource, host: &raw::Host, volume: u32) -> Option<Host> {
        let address = self.address(raw, host);
        let disk = self.disk(raw, host, volume);
        let options = self.options(raw, host, volume);
        let undo_file = self.undo_file(raw, host, volume);
        Some(Host { name: host.name.clone(), node_id: 0, address: address?, disk: disk?, undo_file, options })
    }

    fn address(&mut self, raw: &raw::Resource, host: &raw::Host) -> Option<SocketAddr> {
        const EXAMPLE: &str = "address ipv4 192.168.1.101:7789;";
        let end = raw.connections.iter().flat_map(|c| &c.ends).find(|e| e.name == host.name);
        let given = end.and_then(|e| e.address.as_ref()).or(host.address.as_ref());
        let Some(given) = given else {
            self.missing("address", host, EXAMPLE);
            return None;
        };
        let Address { ip, port } = given.value?;
        let Some(port) = end.and_then(|e| e.port).or(port) else {
            let inside = format!("the address of {}", host.name);
            self.error(&given.at, Problem::Missing { what: "port", inside, example: EXAMPLE });
            return None;
        };
        let address = SocketAddr::new(ip, port);
        self.unique(format!("address {address}"), &given.at);
        Some(address)
    }

    fn disk(&mut self, raw: &raw::Resource, host: &raw::Host, volume: u32) -> Option<String> {
        let Some(given) = pick(raw, host, volume, |v| &v.disk) else {
            self.missing("disk", host, "disk /dev/vdb1;");
            return None;
        };
        let disk = given.value.clone()?;
        let device = pick(raw, host, volume, |v| &v.device).and_then(|d| d.value.as_ref());
        if device.is_some_and(|device| device.path == disk) {
            let name = "disk".to_owned();
            let wanted = Wanted::Text("the disk below, not the replicated device itself");
            self.error(&given.at, Problem::Value { name, found: disk, wanted });
            return None;
        }
        self.unique(format!("disk {disk} of {}", host.name), &given.at);
        Some(disk)
    }

    fn device(&mut self, raw: &raw::Resource, host: &raw::Host, volume: u32) -> Option<Given<Device>> {
        let given = pick(raw, host, volume, |v| &v.device);
        if given.is_none() {
            self.missing("device", host, "device /dev/drbd1;");
        }
        given.cloned()
    }

    fn same_device(&mut self, devices: [Option<Given<Device>>; 2]) -> Option<Device> {
        let [Some(a), Some(b)] = devices else { return None };
        let (first, second) = (a.value?, b.value?);
        if first.path != second.path || first.minor != second.minor {
            let show = |d: &Device| format!("{} minor {}", d.path, d.minor);
            let (found, other) = (show(&second), show(&first));
            self.error(&b.at, Problem::Differs { what: "the device", found, other, first: a.at });
            return None;
        }
        let path_is_free = self.unique(format!("device {}", first.path), &a.at);
        // With DRBD's names one implies the other: one mistake, one message.
        if path_is_free {
            self.unique(format!("minor {}", first.minor), &a.at);
        }
        Some(first)
    }

    /// Claims something that only one may have.
    fn unique(&mut self, what: String, at: &Location) -> bool {
        if let Some(first) = self.used.get(&what).cloned() {
            self.error(at, Problem::Clash { what, first });
            return false;
        }
        self.used.insert(what, at.clone());
        true
    }

    fn undo_file(&mut self, raw: &raw::Resource, host: &raw::Host, volume: u32) -> Option<String> {
        let Setting { name, word, at, .. } = self.setting(raw, host, volume, "undo-file", |l| &l.disk)?;
        if !word.starts_with('/') {
            let wanted = Wanted::Text("a path from / on: of a file, or of a block device of its own");
            self.error(&at, Problem::Value { name: name.to_owned(), found: word, wanted });
            return None;
        }
        self.unique(format!("undo-file {word} of {}", host.name), &at);
        Some(word)
    }

    /// The scripts; an empty one is none.
    fn handlers(&mut self, raw: &raw::Resource) -> Commands {
        let layers = [&raw.layer, self.common];
        let find = |name: &str| layers.iter().flat_map(|layer| &layer.rest).find(|s| s.name == name);
        let given = |handler: &Handler| find(handler.as_str()).filter(|s| !s.word.trim().is_empty());
        let local = given(&Handler::LocalIoError).cloned();
        let commands = Handler::ALL.iter().filter_map(|h| Some((*h, given(h)?.word.clone()))).collect();
        let calls = |layer: &Layer| {
            layer.disk.iter().any(|s| s.name == "on-io-error" && s.word == CALL_LOCAL_IO_ERROR)
        };
        let mut places = vec![self.common, &raw.layer];
        places.extend(raw.hosts.iter().map(|host| &host.layer));
        let volumes = raw.volumes.iter().chain(raw.hosts.iter().flat_map(|host| &host.volumes));
        places.extend(volumes.map(|volume| &volume.layer));
        places.extend(raw.connections.iter().map(|connection| &connection.layer));
        if let Some(setting) = local.filter(|_| !places.into_iter().any(calls)) {
            self.note(&setting, Why::NoEffect("it is called with \"on-io-error call-local-io-error\" only"));
        }
        commands
    }

    fn note(&mut self, setting: &Setting, why: Why) {
        let note = Note { at: setting.at.clone(), subject: setting.name.to_owned(), why };
        // A statement that holds for both hosts is resolved for each of them.
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// An option that holds on a host: the most special one counts.
    fn setting(
        &self,
        raw: &raw::Resource,
        host: &raw::Host,
        volume: u32,
        name: &str,
        of: fn(&Layer) -> &Vec<Setting>,
    ) -> Option<Setting> {
        let volumes = raw.volumes.iter().chain(&host.volumes).filter(|v| v.number == volume);
        let mut layers = vec![self.common, &raw.layer, &host.layer];
        layers.extend(volumes.map(|v| &v.layer));
        layers.extend(raw.connections.iter().map(|c| &c.layer));
        layers.iter().rev().flat_map(|l| of(l)).find(|s| s.name == name).cloned()
    }

    fn options(&mut self, raw: &raw::Resource, host: &raw::Host, volume: u32) -> Options {
        let find = |name: &str, of| self.setting(raw, host, volume, name, of);
        let net = |name: &str| find(name, |l| &l.net).and_then(|s| s.number);
        let disk = |name: &str| find(name, |l| &l.disk).and_then(|s| s.number);
        let al_extents = disk("al-extents").and_then(|n| u32::try_from(n).ok());
        let managed = find("managed", |l| &l.rest).and_then(|s| s.number);
        let rates = [disk("resync-rate"), disk("c-max-rate")];
        let io_error = find("on-io-error", |l| &l.disk);
        let options = Options {
            ping_interval_ms: net("ping-int").map_or(DEFAULTS.ping_interval_ms, |s| s * 1000),
            ping_timeout_ms: net("ping-timeout").map_or(DEFAULTS.ping_timeout_ms, |t| t * 100),
            timeout_ms: net("timeout").map_or(DEFAULTS.timeout_ms, |t| t * 100),
            ko_count: net("ko-count").and_then(|n| u32::try_from(n).ok()).unwrap_or(DEFAULTS.ko_count),
            connect_interval_ms: net("connect-int").map_or(DEFAULTS.connect_interval_ms, |s| s * 1000),
            disk_timeout_ms: disk("disk-timeout").map_or(DEFAULTS.disk_timeout_ms, |t| t * 100),
            al_extents: al_extents.unwrap_or(DEFAULTS.al_extents).min(activity::MAX_EXTENTS),
            resync_rate_kib: rates.into_iter().flatten().min().unwrap_or(DEFAULTS.resync_rate_kib),
            managed: managed.map_or(DEFAULTS.managed, |yes| yes == 1),
            tls: net("tls").map(|yes| yes == 1).or(DEFAULTS.tls),
            undo: find("undo-log", |l| &l.disk).map_or(DEFAULTS.undo, |s| undo_policy(&s.word)),
            calls_local_io_error: io_error.as_ref().is_some_and(|s| s.word == CALL_LOCAL_IO_ERROR),
        };
        let limited = find("al-extents", |l| &l.disk).filter(|_| al_extents > Some(activity::MAX_EXTENTS));
        if let Some(setting) = limited {
            self.note(&setting, Why::Limited("8000 extents fit into the activity log"));
        }
        if let Some(setting) = io_error.filter(|setting| setting.word == "pass_on") {
            self.note(&setting, Why::NoEffect(IO_ERROR));
        }
        options
    }

    fn error(&mut self, at: &Location, problem: Problem) {
        let error = ConfigError { at: at.clone(), problem };
        // A statement that holds for both hosts is resolved for each of them.
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }
}

/// Value of `on-io-error`.
const CALL_LOCAL_IO_ERROR: &str = "call-local-io-error";

fn undo_policy(word: &str) -> UndoPolicy {
    match word {
        "no" => UndoPolicy::Off,
        "required" => UndoPolicy::Require,
        _ => UndoPolicy::Try,
    }
}

/// A statement of the volume, from the host's own block or from the resource's.
fn pick<'r, T>(
    raw: &'r raw::Resource,
    host: &'r raw::Host,
    volume: u32,
    slot: impl Fn(&'r Volume) -> &'r Slot<T>,
) -> Option<&'r Given<T>> {
    let volumes = host.volumes.iter().chain(&raw.volumes).filter(|v| v.number == volume);
    volumes.filter_map(|v| slot(v).as_ref()).next()
}
