//! Makes a checked inventory from YAML, or a list of everything that is wrong with it.

use std::net::IpAddr;
use std::path::Path;

use serde_json::{Map, Value};

use super::addresses::{self, Address};
use super::backup::{self, Backup};
use super::https::Https;
use super::secrets::{self, Secrets};
use super::ssh::{Ssh, refuse_passwords};
use super::{Inventory, Member, RESERVED, VirtualIp, etcd, manager, project, stack};
use crate::quote::Quotes;
use crate::report::Mask;
use base::fields::{Fields, is_identifier};
use base::problem::{Problem, Problems};
use base::yaml::{Content, Entry, Node};

pub(super) const TOP: &[&str] = &[
    "cluster",
    "virtual_ip",
    "hosts",
    "witness",
    "manager",
    "ssh",
    "stack",
    "https",
    "backup",
    "restore",
    "vars",
    "wipe",
    "secrets",
];
pub(super) const VIRTUAL_IP: &[&str] = &["address", "interface"];
pub(super) const HOST: &[&str] = &["address", "local_address", "disk", "interfaces", "fqdn", "port", "vars"];
pub(super) const INTERFACES: &[&str] = &["public", "local"];
pub(super) const WITNESS: &[&str] = &["address", "fqdn", "port", "vars"];

pub(super) fn inventory(file: &Path, text: &str) -> Result<Inventory, Problems> {
    let mut problems = Problems::default();
    let root = Node::read(&file.display().to_string(), text, &mut problems);
    match root.as_ref().and_then(|root| read(file, root, &mut problems)) {
        Some(inventory) if problems.is_empty() => Ok(inventory),
        _ => {
            let mask = Mask::new(root.iter().flat_map(|root| secrets::hidden(root, file)));
            Err(Quotes::of_inventory(text).add(&file.display().to_string(), &mask, mask.problems(problems)))
        }
    }
}

fn read(file: &Path, root: &Node, problems: &mut Problems) -> Option<Inventory> {
    let mut top = Fields::of(root, "an inventory", TOP, problems)?;
    let cluster = cluster(&mut top);
    let virtual_ip = top
        .required(
            "virtual_ip",
            "the address that moves with the service: {address: 203.0.113.10/24, interface: eth0}",
        )
        .and_then(|node| virtual_ip(node, top.problems()));
    let domain =
        cluster.as_deref().and_then(|c| c.split_once('.')).map_or("", |(_, domain)| domain).to_owned();
    let mut hosts = hosts(&mut top, &domain);
    let witness = top.get("witness").and_then(|node| witness(node, &domain, top.problems()));
    let stack = choice(&mut top, "stack", stack::STACKS);
    let passwords = stack.as_deref().map_or(&[][..], stack::passwords);
    let named = top.text("secrets").map(|name| file.parent().unwrap_or(Path::new("")).join(name));
    let secrets = Secrets::read(named, &project(file), file, passwords, top.problems());
    let around = manager::Around {
        virtual_ip: virtual_ip.as_ref(),
        hosts: &hosts,
        witness: top.get("witness").is_some(),
        file,
        stack: stack.as_deref(),
        secrets: &secrets,
    };
    // A stack is run by the manager: where nothing is said about it, with its defaults.
    let of_stack =
        top.get("stack").map(|node| Node { place: node.place.clone(), content: Content::Map(Vec::new()) });
    let manager = top.get("manager").or(of_stack.as_ref());
    let manager = manager.and_then(|node| manager::manager(node, &around, top.problems()));
    let https = Https::read(top.get("https"), file, cluster.as_deref(), top.problems());
    let mount = manager.as_ref().and_then(|manager| manager.mount["directory"].as_str());
    let has_stack = top.get("stack").is_some();
    let backup = Backup::read(top.get("backup"), mount, has_stack, top.problems());
    let restore = backup::restore(&mut top, has_stack);
    let ssh = Ssh::read(file, top.get("ssh"), top.problems());
    let vars = top.map("vars");
    refuse_passwords(vars, top.problems());
    let vars = variables(vars, top.problems());
    wipe(&mut top, &mut hosts);
    etcd::check_password(top.get("manager"), &secrets, top.problems());
    addresses::check(root, problems);
    names(cluster.as_deref(), hosts.iter().chain(&witness), problems);
    let (cluster, virtual_ip, ssh) = (cluster?, virtual_ip?, ssh?);
    Some(Inventory {
        file: file.to_owned(),
        cluster,
        virtual_ip,
        hosts,
        witness,
        manager,
        ssh,
        stack,
        https,
        backup,
        restore,
        vars,
        secrets,
        identities: None,
    })
}

fn cluster(top: &mut Fields<'_, '_>) -> Option<String> {
    let node = top.required("cluster", "the full name of the service, such as ha.example.com")?;
    let name = top.text("cluster")?;
    if !is_host_name(&name) || !name.contains('.') {
        let message = format!("\"cluster\" must be a full host name such as ha.example.com, not {name:?}");
        top.report(node, message);
        return None;
    }
    Some(name)
}

fn choice(fields: &mut Fields<'_, '_>, key: &str, allowed: &[&str]) -> Option<String> {
    let word = fields.text(key)?;
    if allowed.contains(&word.as_str()) {
        return Some(word);
    }
    let place = fields.get(key).map(|n| n.place.clone())?;
    fields.problems().push(Problem::unknown_word(&place, &format!("there is no {key}"), &word, allowed));
    None
}

fn virtual_ip(node: &Node, problems: &mut Problems) -> Option<VirtualIp> {
    let mut fields = Fields::of(node, "virtual_ip", VIRTUAL_IP, problems)?;
    let interface = fields.required("interface", "the interface that carries the address").map(|_| ());
    let interface = interface.and_then(|()| fields.text("interface"));
    let node = fields.required("address", "an address with its prefix, such as 203.0.113.10/24")?;
    let written = fields.text("address")?;
    let parsed = Address::parse(&written).and_then(|address| Some((address.ip, address.prefix?)));
    if parsed.is_none() {
        let message = "\"address\" must be an address with its prefix, such as 203.0.113.10/24, not";
        fields.report(node, format!("{message} {written:?}"));
    }
    let (address, prefix) = parsed?;
    Some(VirtualIp { address, prefix, interface: interface? })
}

fn hosts(top: &mut Fields<'_, '_>, domain: &str) -> Vec<Member> {
    let Some(node) = top.required("hosts", "the two hosts of the pair, by name") else { return Vec::new() };
    let entries = top.map("hosts");
    if matches!(node.content, Content::Map(_)) && entries.len() != 2 {
        let names: Vec<&str> = entries.iter().map(|e| e.key.as_str()).collect();
        let message = format!("a pair has exactly two hosts, here are {}: {}", names.len(), names.join(", "));
        let problem = Problem::new(&node.place, message);
        top.problems().push(problem.hint("a further cluster is an inventory file of its own"));
    }
    entries.iter().filter_map(|e| host(e, domain, top.problems())).collect()
}

fn host(entry: &Entry, domain: &str, problems: &mut Problems) -> Option<Member> {
    let name = &entry.key;
    if !is_host_name(name) || ["all", "pair", "first", "witness"].contains(&name.as_str()) {
        problems.push(Problem::new(&entry.place, format!("{name:?} cannot be the name of a host")));
    }
    let mut fields = Fields::of(&entry.value, "a host", HOST, problems)?;
    let address = ip(&mut fields, "address", "where SSH reaches the host");
    let local_address = local_address(&mut fields);
    let disk = disk(&mut fields);
    let interfaces = fields
        .required("interfaces", "the interfaces of both segments: {public: eth0, local: eth1}")
        .and_then(|node| interfaces(node, fields.problems()));
    let fqdn = full_name(&mut fields, name, domain);
    let port = port(&mut fields);
    let vars = variables(fields.map("vars"), fields.problems());
    let (public_interface, local_interface) = interfaces?;
    Some(Member {
        name: name.split('.').next().unwrap_or(name).to_owned(),
        fqdn,
        address: address?,
        port,
        local_address: Some(local_address?),
        disk: Some(disk?),
        public_interface,
        local_interface,
        wipe: Vec::new(),
        vars,
        place: entry.place.clone(),
    })
}

fn witness(node: &Node, domain: &str, problems: &mut Problems) -> Option<Member> {
    let mut fields = Fields::of(node, "the witness", WITNESS, problems)?;
    let address = ip(&mut fields, "address", "where SSH reaches the witness");
    let fqdn = full_name(&mut fields, "witness", domain);
    let port = port(&mut fields);
    let vars = variables(fields.map("vars"), fields.problems());
    Some(Member {
        name: "witness".to_owned(),
        fqdn,
        address: address?,
        port,
        local_address: None,
        disk: None,
        public_interface: None,
        local_interface: None,
        wipe: Vec::new(),
        vars,
        place: node.place.clone(),
    })
}

fn full_name(fields: &mut Fields<'_, '_>, name: &str, domain: &str) -> String {
    match fields.text("fqdn") {
        Some(fqdn) => {
            if let Some(node) = fields.get("fqdn").filter(|_| !is_host_name(&fqdn)) {
                fields.report(node, format!("{fqdn:?} is not a host name"));
            }
            fqdn
        }
        None if name.contains('.') || domain.is_empty() => name.to_owned(),
        None => format!("{name}.{domain}"),
    }
}

pub(super) fn port(fields: &mut Fields<'_, '_>) -> Option<u16> {
    fields.int("port", 1, u64::from(u16::MAX)).and_then(|port| u16::try_from(port).ok())
}

fn ip(fields: &mut Fields<'_, '_>, key: &str, meaning: &str) -> Option<IpAddr> {
    let node = fields.required(key, meaning)?;
    let text = fields.text(key)?;
    let address = text.parse().ok();
    if address.is_none() {
        fields.report(node, format!("{key:?} must be an IP address, not {text:?}"));
    }
    address
}

/// With the prefix of its network, or without.
fn local_address(fields: &mut Fields<'_, '_>) -> Option<IpAddr> {
    let node = fields.required("local_address", "its address on the local segment")?;
    let text = fields.text("local_address")?;
    let address = Address::parse(&text);
    if address.is_none() {
        let message = "\"local_address\" must be an IP address such as 192.168.1.101 or, with its prefix, 192.168.1.101/24, not";
        fields.report(node, format!("{message} {text:?}"));
    }
    address.map(|address| address.ip)
}

fn disk(fields: &mut Fields<'_, '_>) -> Option<String> {
    let node = fields.required("disk", "the disk that is replicated, such as /dev/vdb")?;
    let disk = fields.text("disk")?;
    if !disk.starts_with("/dev/") {
        fields.report(node, format!("\"disk\" must be a device such as /dev/vdb, not {disk:?}"));
        return None;
    }
    Some(disk)
}

fn interfaces(node: &Node, problems: &mut Problems) -> Option<(Option<String>, Option<String>)> {
    let mut fields = Fields::of(node, "interfaces", INTERFACES, problems)?;
    fields.required("public", "the interface on the public segment");
    fields.required("local", "the interface on the local segment");
    Some((fields.text("public"), fields.text("local")))
}

/// Variables by name; a name that the program uses itself is refused.
pub(crate) fn variables(entries: &[Entry], problems: &mut Problems) -> Map<String, Value> {
    for Entry { key, place, .. } in entries {
        if RESERVED.contains(&key.as_str()) {
            problems.push(Problem::new(place, format!("the variable {key:?} is set by futago itself")));
        } else if !is_identifier(key) {
            let problem = Problem::new(place, format!("{key:?} cannot be the name of a variable"));
            problems.push(problem.hint("letters, digits and _, not starting with a digit"));
        }
    }
    entries.iter().map(|e| (e.key.clone(), e.value.to_json())).collect()
}

fn wipe(top: &mut Fields<'_, '_>, hosts: &mut [Member]) {
    for (text, node) in top.texts("wipe") {
        let Some((name, disk)) = text.split_once(':') else {
            top.report(
                node,
                format!("\"wipe\" names disks as HOST:DEVICE, such as ha-b:/dev/vdb, not {text:?}"),
            );
            continue;
        };
        let known: Vec<&str> =
            top.get("hosts").map_or(&[][..], Node::entries).iter().map(|e| e.key.as_str()).collect();
        let Some(host) = hosts.iter_mut().find(|h| h.name == name) else {
            // A host that is there but wrong has been reported already.
            if known.contains(&name) {
                continue;
            }
            top.problems().push(Problem::unknown_word(
                &node.place,
                "\"wipe\" names a host that is not there:",
                name,
                &known,
            ));
            continue;
        };
        if host.disk.as_deref() != Some(disk) {
            let own = host.disk.as_deref().unwrap_or_default();
            top.report(node, format!("\"wipe\" names {disk:?}, but the disk of {name} is {own:?}"));
            continue;
        }
        host.wipe.push(disk.to_owned());
    }
}

/// No name may be there twice.
fn names<'a>(cluster: Option<&'a str>, members: impl Iterator<Item = &'a Member>, problems: &mut Problems) {
    let mut names: Vec<&str> = cluster.into_iter().collect();
    for Member { fqdn, place, .. } in members {
        if names.contains(&fqdn.as_str()) {
            problems.push(Problem::new(place, format!("the name {fqdn:?} is there twice")));
        }
        names.push(fqdn);
    }
}

pub(super) fn is_host_name(name: &str) -> bool {
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.len() < 64
            && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    name.len() < 254 && name.split('.').all(label)
}
