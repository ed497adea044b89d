//! firewalld: what a zone lets in and which interfaces are in it, at run time and permanently together.
//!
//! Spoken to over D-Bus through busctl, which every systemd has: firewall-cmd takes a third of a second a call
//! to start its interpreter, busctl some milliseconds. What firewall-cmd does besides is done here too: the
//! zone of an interface that NetworkManager controls belongs into its connection, or it is lost at the next boot.

mod bus;
mod manager;
mod way_back;

use std::collections::BTreeSet;
use std::fs;

use serde::Deserialize;

use super::Module;
use super::context::Context;
use super::error::Error;
use super::schema::{ArgError, Kind, Schema};
use crate::protocol::Outcome;
use bus::Zone;
use manager::Profile;
use way_back::WayBack;

/// Lets everything in.
const TRUSTED: &str = "trusted";
const ROUTES: &str = "/proc/net/route";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    zone: Option<String>,
    #[serde(default)]
    services: Vec<String>,
    #[serde(default)]
    ports: Vec<String>,
    #[serde(default)]
    interfaces: Vec<String>,
    #[serde(default)]
    state: State,
    #[serde(default)]
    if_running: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Enabled,
    Disabled,
}

/// Where a setting lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Runtime,
    Permanent,
    /// In the connection of NetworkManager, instead of permanent.
    Connection,
}

/// One setting of a zone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    Service(String),
    /// Number or range, and protocol.
    Port(String, String),
    Interface(String),
}

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "firewall",
        summary: "Opens services and ports in a firewalld zone and puts interfaces into it, at once and for good.",
        returns: &[],
        example: "\
- name: Let browsers in
  firewall: {zone: public, services: [http, https], if_running: true}
",
        keys: &[
            Schema::may("zone", Kind::Text, "the zone; firewalld's default zone when left out"),
            Schema::may("services", Kind::TextList, "services to let in, such as http"),
            Schema::may("ports", Kind::TextList, "ports to let in, such as 7789/tcp"),
            Schema::may("interfaces", Kind::TextList, "interfaces of the zone"),
            Schema::may("state", Kind::Choice(&["enabled", "disabled"]), "enabled (default) or disabled"),
            Schema::may("if_running", Kind::Bool, "leave a host without a running firewalld alone"),
        ],
    };

    fn validate(&self) -> Vec<ArgError> {
        let wrong = self.ports.iter().filter(|text| port(text).is_none());
        let mut errors: Vec<ArgError> = wrong
            .map(|text| {
                ArgError::at(
                    "ports",
                    format!("\"{text}\" is not a port; write it as 7789/tcp or 5000-5010/udp"),
                )
            })
            .collect();
        if self.services.is_empty() && self.ports.is_empty() && self.interfaces.is_empty() {
            errors.push(ArgError::whole("module firewall needs services, ports or interfaces"));
        }
        errors
    }

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        if !bus::is_running("org.fedoraproject.FirewallD1")? {
            if self.if_running {
                return Ok(Context::same("firewalld does not run here"));
            }
            if context.check {
                return Ok(Context::unknown("firewalld does not run yet"));
            }
            let hint = "install it and start it with the service module in an earlier task";
            return Err(Error::refused("change the firewall: firewalld does not run", hint));
        }
        let name = match &self.zone {
            Some(zone) => zone.clone(),
            None => bus::default_zone()?,
        };
        self.guard_uplink(&name)?;
        let zone = Zone::read(&name)?;
        let profiles = manager::profiles(&self.interfaces)?;
        let changes = changes(&self.items(), self.state, &zone, &profiles);
        if changes.is_empty() {
            return Ok(Context::same(format!("zone {name} is as asked")));
        }
        let lines = describe(&changes, self.state);
        let words = lines.join(", ");
        if !context.check {
            let (now, for_good): (Vec<_>, Vec<_>) =
                changes.iter().partition(|(side, _)| *side == Side::Runtime);
            let now: Vec<&Item> = now.into_iter().map(|(_, item)| item).collect();
            let way_back = WayBack::of(&name, &now, self.state)?;
            for item in &now {
                bus::change_runtime(&name, item, self.state == State::Enabled)?;
            }
            // What works now is tried before it is made permanent.
            if self.may_cut_off() {
                way_back.unless_reached(context, &format!("zone {name}: {words}"))?;
            }
            for (side, item) in for_good {
                self.apply(&zone, *side, item, &profiles)?;
            }
        }
        Ok(context.changed(format!("zone {name}: {words}"), &lines))
    }
}

impl Args {
    fn items(&self) -> Vec<Item> {
        let services = self.services.iter().cloned().map(Item::Service);
        let ports =
            self.ports.iter().filter_map(|text| port(text)).map(|(range, kind)| Item::Port(range, kind));
        services.chain(ports).chain(self.interfaces.iter().cloned().map(Item::Interface)).collect()
    }

    fn apply(&self, zone: &Zone, side: Side, item: &Item, profiles: &[Profile]) -> Result<(), Error> {
        let add = self.state == State::Enabled;
        match (side, item) {
            (Side::Permanent, item) => zone.change_permanent(item, add),
            (Side::Connection, Item::Interface(name)) => {
                let profile = profiles.iter().find(|profile| profile.interface == *name);
                profile.map_or(Ok(()), |profile| profile.set_zone(if add { &zone.name } else { "" }))
            }
            (Side::Connection | Side::Runtime, _) => Ok(()),
        }
    }

    /// Whether new connections may not get in any more; what is let in besides cuts nobody off.
    fn may_cut_off(&self) -> bool {
        self.state == State::Disabled || !self.interfaces.is_empty()
    }

    /// An interface that leads to the outside is not opened to everyone by a slip.
    fn guard_uplink(&self, zone: &str) -> Result<(), Error> {
        if zone != TRUSTED || self.state == State::Disabled || self.interfaces.is_empty() {
            return Ok(());
        }
        let text = fs::read_to_string(ROUTES).map_err(Error::io("read", ROUTES))?;
        match self.interfaces.iter().find(|name| uplinks(&text).contains(name.as_str())) {
            Some(name) => Err(Error::refused(
                format!(
                    "put {name} into the zone trusted: it carries the default route, all ports would be open to everyone"
                ),
                "name the interface of the local segment",
            )),
            None => Ok(()),
        }
    }
}

/// Every place where an item is not as wanted, in the order in which they are to be changed.
fn changes(items: &[Item], state: State, zone: &Zone, profiles: &[Profile]) -> Vec<(Side, Item)> {
    let wanted = state == State::Enabled;
    let mut changes = Vec::new();
    for item in items {
        let profile = match item {
            Item::Interface(name) => profiles.iter().find(|profile| profile.interface == *name),
            _ => None,
        };
        if zone.runtime.contains(item) != wanted {
            changes.push((Side::Runtime, item.clone()));
        }
        match profile {
            Some(profile) if (profile.zone == zone.name) != wanted => {
                changes.push((Side::Connection, item.clone()));
            }
            Some(_) => {}
            None if zone.permanent.contains(item) != wanted => changes.push((Side::Permanent, item.clone())),
            None => {}
        }
    }
    changes.sort_by_key(|(side, _)| *side);
    changes
}

fn describe(changes: &[(Side, Item)], state: State) -> Vec<String> {
    let sign = if state == State::Enabled { '+' } else { '-' };
    let items: BTreeSet<&Item> = changes.iter().map(|(_, item)| item).collect();
    let line = |item: &&Item| {
        let sides = changes.iter().filter(|(_, other)| other == *item).map(|(side, _)| match side {
            Side::Runtime => "now",
            Side::Permanent => "permanently",
            Side::Connection => "in its connection",
        });
        let sides: Vec<&str> = sides.collect();
        let name = match item {
            Item::Service(name) => format!("service {name}"),
            Item::Port(range, kind) => format!("port {range}/{kind}"),
            Item::Interface(name) => format!("interface {name}"),
        };
        format!("{sign} {name} {}", sides.join(" and "))
    };
    items.iter().map(line).collect()
}

/// `7789/tcp` or `5000-5010/udp`.
fn port(text: &str) -> Option<(String, String)> {
    let (range, kind) = text.split_once('/')?;
    let mut numbers = range.splitn(2, '-').map(str::parse::<u16>);
    let valid = numbers.all(|number| number.is_ok_and(|number| number > 0));
    let known = matches!(kind, "tcp" | "udp" | "sctp" | "dccp");
    (valid && known).then(|| (range.to_owned(), kind.to_owned()))
}

/// Interfaces with a default route: destination and mask are zero.
fn uplinks(routes: &str) -> BTreeSet<&str> {
    let default = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000")
    };
    routes.lines().skip(1).filter(default).filter_map(|line| line.split_whitespace().next()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::mistakes;
    use super::*;
    use serde_json::json;

    fn zone(name: &str, runtime: &[Item], permanent: &[Item]) -> Zone {
        Zone {
            name: name.into(),
            path: String::new(),
            runtime: runtime.to_vec(),
            permanent: permanent.to_vec(),
        }
    }

    fn service(name: &str) -> Item {
        Item::Service(name.into())
    }

    #[test]
    fn runtime_and_permanent_are_two_facts() {
        let items = [service("http"), Item::Port("7789".into(), "tcp".into())];
        let public = zone("public", &[service("ssh"), service("http")], &[service("ssh")]);
        let found = changes(&items, State::Enabled, &public, &[]);
        let wanted = [
            (Side::Runtime, items[1].clone()),
            (Side::Permanent, items[0].clone()),
            (Side::Permanent, items[1].clone()),
        ];
        assert_eq!(found, wanted);
        assert_eq!(
            describe(&found, State::Enabled),
            ["+ service http permanently", "+ port 7789/tcp now and permanently"]
        );
    }

    #[test]
    fn what_is_as_asked_on_both_sides_is_no_change() {
        let public = zone("public", &[service("http")], &[service("http")]);
        assert_eq!(changes(&[service("http")], State::Enabled, &public, &[]), []);
        assert_eq!(changes(&[service("ftp")], State::Disabled, &public, &[]), []);
        assert_eq!(changes(&[service("http")], State::Disabled, &public, &[]).len(), 2);
    }

    #[test]
    fn an_interface_of_network_manager_belongs_into_its_connection_and_not_into_the_zone() {
        let eth1 = Item::Interface("eth1".into());
        let trusted = zone("trusted", std::slice::from_ref(&eth1), &[]);
        let profile = |zone: &str| Profile { interface: "eth1".into(), uuid: "u".into(), zone: zone.into() };
        let items = std::slice::from_ref(&eth1);
        assert_eq!(changes(items, State::Enabled, &trusted, &[profile("trusted")]), []);
        let found = changes(items, State::Enabled, &trusted, &[profile("")]);
        assert_eq!(found, [(Side::Connection, eth1.clone())]);
        assert_eq!(changes(items, State::Enabled, &trusted, &[]), [(Side::Permanent, eth1.clone())]);
    }

    #[test]
    fn the_uplink_is_the_interface_with_the_default_route() {
        let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
                      eth0\t00000000\t0171CB00\t0003\t0\t0\t0\t00000000\n\
                      eth1\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n";
        assert_eq!(uplinks(routes).into_iter().collect::<Vec<_>>(), ["eth0"]);
    }

    #[test]
    fn ports_are_checked_before_contact() {
        for text in ["80/tcp", "5000-5010/udp"] {
            assert!(mistakes("firewall", json!({"ports": text})).is_empty(), "{text}");
        }
        for text in ["80", "0/tcp", "80/http", "70000/tcp", "a/tcp"] {
            assert_eq!(mistakes("firewall", json!({"ports": text})).len(), 1, "{text}");
        }
        assert_eq!(mistakes("firewall", json!({})), ["module firewall needs services, ports or interfaces"]);
    }
}
