//! What a lab is like right now, as found in the kernel.

use std::fmt;

use serde::Serialize;

use crate::control_group::Hierarchies;
use crate::disk;
use crate::fault::{self, Faults, Link};
use crate::host;
use crate::layout::{Host, Lab};
use crate::record::Record;
use crate::root;

/// A lab and everything in it.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    name: String,
    state: State,
    inventory: String,
    identity: String,
    known_hosts: String,
    netns: String,
    hosts: Vec<HostStatus>,
    links: Vec<LinkStatus>,
}

/// A lab as a whole.
#[derive(Clone, Copy, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum State {
    /// There is no such lab.
    Absent,
    /// All hosts are off.
    Down,
    /// Some hosts are off.
    Partial,
    /// All hosts are on.
    Up,
}

#[derive(Debug, Serialize)]
struct HostStatus {
    name: &'static str,
    fqdn: &'static str,
    powered: bool,
    public: String,
    local: Option<String>,
    disk: Option<DiskStatus>,
}

#[derive(Debug, Serialize)]
struct DiskStatus {
    node: &'static str,
    bytes: u64,
    /// The machine's loop device, while attached.
    device: Option<String>,
}

#[derive(Debug, Serialize)]
struct LinkStatus {
    link: &'static str,
    faults: Vec<FaultStatus>,
    /// The loss that all directions of the link have in common.
    #[serde(skip)]
    everywhere: Option<u8>,
}

#[derive(Debug, Serialize)]
struct FaultStatus {
    from: &'static str,
    to: &'static str,
    loss_percent: u8,
}

/// Looks at a lab.
pub(crate) fn look(lab: &Lab, hierarchies: &Hierarchies) -> anyhow::Result<Status> {
    let record = Record::load(lab)?.filter(|record| record.complete);
    let mut hosts = Vec::new();
    for host in record.iter().flat_map(Record::hosts) {
        hosts.push(look_at(lab, host, record.as_ref().map_or(0, |r| r.disk_bytes), hierarchies)?);
    }
    let faults = if lab.netns_path().exists() { fault::current(lab)? } else { Faults::new() };
    let witness = record.as_ref().is_some_and(|record| record.witness);
    let links = Link::ALL.into_iter().filter(|link| witness || *link != Link::Witness);
    let state = match hosts.iter().filter(|host| host.powered).count() {
        _ if record.is_none() => State::Absent,
        0 => State::Down,
        on if on == hosts.len() => State::Up,
        _ => State::Partial,
    };
    Ok(Status {
        name: lab.to_string(),
        state,
        inventory: lab.inventory().display().to_string(),
        identity: lab.identity().display().to_string(),
        known_hosts: lab.known_hosts().display().to_string(),
        netns: lab.netns(),
        links: if record.is_some() {
            links.map(|link| link_status(link, &faults)).collect()
        } else {
            Vec::new()
        },
        hosts,
    })
}

fn look_at(lab: &Lab, host: &Host, bytes: u64, hierarchies: &Hierarchies) -> anyhow::Result<HostStatus> {
    let disk = if host.has_disk() {
        let device =
            disk::attached_below(&lab.disk(host))?.first().map(|number| format!("/dev/loop{number}"));
        Some(DiskStatus { node: root::SECOND_DISK, bytes, device })
    } else {
        None
    };
    Ok(HostStatus {
        name: host.name,
        fqdn: host.fqdn,
        powered: host::leader(lab, host, hierarchies)?.is_some(),
        public: host.public.to_string(),
        local: host.local.map(|address| address.to_string()),
        disk,
    })
}

fn link_status(link: Link, faults: &Faults) -> LinkStatus {
    let of_link = link.directions();
    let fault = |(direction, loss): (&fault::Direction, &u8)| FaultStatus {
        from: direction.from,
        to: direction.to,
        loss_percent: *loss,
    };
    let first = of_link.first().and_then(|direction| faults.get(direction)).copied();
    let everywhere = first.filter(|_| of_link.iter().all(|d| faults.get(d).copied() == first));
    let faults = faults.iter().filter(|(direction, _)| of_link.contains(direction)).map(fault).collect();
    LinkStatus { link: link.as_str(), faults, everywhere }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Absent => {
                let name = &self.name;
                return writeln!(f, "there is no lab `{name}`; make it: futago lab up --name {name}");
            }
            State::Down => "down",
            State::Partial => "up in part",
            State::Up => "up",
        };
        writeln!(f, "lab `{}` is {state}; inventory: {}\n", self.name, self.inventory)?;
        writeln!(f, "{:<8} {:<6} {:<20} {:<13} {:<14} DISK", "HOST", "POWER", "NAME", "PUBLIC", "LOCAL")?;
        for host in &self.hosts {
            let power = if host.powered { "on" } else { "off" };
            let local = host.local.as_deref().unwrap_or("-");
            write!(f, "{:<8} {power:<6} {:<20} {:<13} {local:<14} ", host.name, host.fqdn, host.public)?;
            match &host.disk {
                Some(disk) => writeln!(f, "{disk}")?,
                None => writeln!(f, "-")?,
            }
        }
        writeln!(f, "\n{:<8} STATE", "LINK")?;
        self.links.iter().try_for_each(|link| writeln!(f, "{:<8} {link}", link.link))
    }
}

impl fmt::Display for DiskStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = self.device.as_deref().unwrap_or("detached");
        write!(f, "{} {} MiB ({device})", self.node, self.bytes >> 20)
    }
}

impl fmt::Display for LinkStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.faults.is_empty() {
            return f.write_str("whole");
        }
        match self.everywhere {
            Some(fault::ALL) => return f.write_str("cut"),
            Some(loss) => return write!(f, "loses {loss} %"),
            None => {}
        }
        let describe = |fault: &FaultStatus| match fault.loss_percent {
            fault::ALL => format!("{} to {} cut", fault.from, fault.to),
            loss => format!("{} to {} loses {loss} %", fault.from, fault.to),
        };
        f.write_str(&self.faults.iter().map(describe).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(link: Link, lost: impl Fn(&fault::Direction) -> Option<u8>) -> String {
        let faults: Faults = link.directions().into_iter().filter_map(|d| Some((d, lost(&d)?))).collect();
        link_status(link, &faults).to_string()
    }

    #[test]
    fn a_link_is_told_in_one_word_unless_its_directions_differ() {
        assert_eq!(shown(Link::Public, |_| None), "whole");
        assert_eq!(shown(Link::Public, |_| Some(fault::ALL)), "cut");
        assert_eq!(shown(Link::Local, |_| Some(50)), "loses 50 %");
        let one_way = |d: &fault::Direction| (d.from == "ha-a").then_some(fault::ALL);
        assert_eq!(shown(Link::Local, one_way), "ha-a to ha-b cut");
    }
}
