//! The addresses of an inventory among each other: each is there once, and each is in the network of its segment. They are
//! taken as they are written, so that one that is wrong does not hide what is wrong with another.

use std::fmt;
use std::net::IpAddr;

use base::problem::{Problem, Problems};
use base::yaml::{Content, Node};

/// An address, with the prefix of its network where one is written: `203.0.113.10/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) ip: IpAddr,
    pub(super) prefix: Option<u8>,
}

impl Address {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let Some((ip, prefix)) = text.split_once('/') else {
            return Some(Self { ip: text.parse().ok()?, prefix: None });
        };
        let ip: IpAddr = ip.parse().ok()?;
        let prefix = prefix.parse().ok().filter(|prefix| (1..=bits(ip)).contains(prefix))?;
        Some(Self { ip, prefix: Some(prefix) })
    }

    /// Its network; none when it is not written, or holds nothing but the address.
    fn network(self) -> Option<Network> {
        let length = self.prefix.filter(|prefix| *prefix < bits(self.ip))?;
        Some(Network { ip: self.ip, length })
    }
}

/// How many bits addresses of this family have.
fn bits(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// Addresses with the same first bits as one of them.
#[derive(Clone, Copy)]
struct Network {
    ip: IpAddr,
    length: u8,
}

impl Network {
    /// Its first address.
    fn base(self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.length)).unwrap_or(0);
                IpAddr::V4((ip.to_bits() & mask).into())
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.length)).unwrap_or(0);
                IpAddr::V6((ip.to_bits() & mask).into())
            }
        }
    }

    /// Whether an address is in it; none for one of the other family, about which it says nothing.
    fn holds(self, ip: IpAddr) -> Option<bool> {
        (ip.is_ipv4() == self.ip.is_ipv4()).then(|| self.base(ip) == self.base(self.ip))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base(self.ip), self.length)
    }
}

/// An address, and where it stands.
struct Written<'a> {
    what: String,
    owner: &'a str,
    node: &'a Node,
    address: Address,
}

impl<'a> Written<'a> {
    fn of(node: Option<&'a Node>, what: &str, owner: &'a str) -> Option<Self> {
        let node = node?;
        let Content::Text(text) = &node.content else { return None };
        Some(Self { what: what.to_owned(), owner, node, address: Address::parse(text)? })
    }

    fn of_host(host: &'a Node, key: &str, name: &'a str) -> Option<Self> {
        Self::of(host.get(key), &format!("{key} of {name}"), name)
    }

    fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::new(&self.node.place, message)
    }
}

/// Whatever is wrong with them.
pub(super) fn check(root: &Node, problems: &mut Problems) {
    let hosts = || root.get("hosts").map_or(&[][..], Node::entries).iter();
    let of_hosts = |key: &str| -> Vec<Written<'_>> {
        hosts().filter_map(|host| Written::of_host(&host.value, key, &host.key)).collect()
    };
    let (public, local) = (of_hosts("address"), of_hosts("local_address"));
    let virtual_ip =
        Written::of(root.get("virtual_ip").and_then(|node| node.get("address")), "virtual_ip", "");
    let witness = root.get("witness").and_then(|node| Written::of_host(node, "address", "witness"));
    distinct(public.iter().chain(&local).chain(&witness).chain(&virtual_ip), problems);
    if let Some(virtual_ip) = &virtual_ip {
        on_the_public_segment(virtual_ip, &public, &local, problems);
    }
    on_one_local_segment(&local, problems);
}

fn distinct<'a>(all: impl Iterator<Item = &'a Written<'a>>, problems: &mut Problems) {
    let mut seen: Vec<&Written<'_>> = Vec::new();
    for one in all {
        let ip = one.address.ip;
        match seen.iter().find(|other| other.address.ip == ip) {
            None => seen.push(one),
            Some(Written { what, node, .. }) => {
                let line = node.place.line;
                let message = format!("{} is {ip}, which is already {what}, on line {line}", one.what);
                problems.push(one.problem(message));
            }
        }
    }
}

/// The virtual address and those of both hosts are in one network, and those of the local segment are not.
fn on_the_public_segment(
    virtual_ip: &Written<'_>,
    public: &[Written<'_>],
    local: &[Written<'_>],
    problems: &mut Problems,
) {
    let Some(network) = virtual_ip.address.network() else { return };
    let outside: Vec<&Written<'_>> =
        public.iter().filter(|one| network.holds(one.address.ip) == Some(false)).collect();
    if outside.len() > 1 {
        let others: Vec<String> =
            outside.iter().map(|one| format!("{} is {}", one.what, one.address.ip)).collect();
        let ip = virtual_ip.address.ip;
        let message = format!("virtual_ip {ip} is outside of the public network: {}", others.join(", "));
        let hint = format!(
            "take one of the network of both hosts; one that is routed to them is written {ip}/{}",
            bits(ip)
        );
        problems.push(virtual_ip.problem(message).hint(hint));
    } else {
        for one in outside {
            let message = format!(
                "{} is {}, outside of the public network {network} of virtual_ip",
                one.what, one.address.ip
            );
            problems.push(one.problem(message));
        }
    }
    for one in local.iter().filter(|one| network.holds(one.address.ip) == Some(true)) {
        let message = format!("{} is {}, in the public network {network}", one.what, one.address.ip);
        problems.push(one.problem(message).hint("replication goes over a network of its own"));
    }
}

/// Both local addresses are in one network, as far as it is written.
fn on_one_local_segment(local: &[Written<'_>], problems: &mut Problems) {
    let [first, second] = local else { return };
    let (ip, other) = (second.address.ip, first.address.ip);
    if ip.is_ipv4() != other.is_ipv4() {
        let message = format!(
            "{} is {ip}, but that of {} is {other}: both are IPv4 or both IPv6",
            second.what, first.owner
        );
        problems.push(second.problem(message));
        return;
    }
    let (known, one) = if first.address.network().is_some() { (first, second) } else { (second, first) };
    let network = known.address.network();
    if let Some(network) = network.filter(|network| network.holds(one.address.ip) == Some(false)) {
        let message = format!(
            "{} is {}, outside of the network {network} of {}",
            one.what, one.address.ip, known.owner
        );
        problems.push(one.problem(message));
    } else if let (Some(one), Some(other)) = (first.address.prefix, second.address.prefix)
        && one != other
    {
        let message = format!("{} has the prefix /{other}, that of {} /{one}", second.what, first.owner);
        problems.push(second.problem(message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_what_has_its_first_bits_and_says_nothing_of_the_other_family() {
        let network = |text| Address::parse(text).unwrap().network();
        let holds = |one, ip: &str| network(one).unwrap().holds(ip.parse().unwrap());
        assert_eq!(holds("10.1.2.3/12", "10.15.255.255"), Some(true));
        assert_eq!(holds("10.1.2.3/12", "10.16.0.0"), Some(false));
        assert_eq!(holds("2001:db8::1/33", "2001:db8:7fff::"), Some(true));
        assert_eq!(holds("2001:db8::1/33", "2001:db8:8000::"), Some(false));
        assert_eq!(holds("10.1.2.3/12", "::1"), None);
        assert_eq!(network("10.1.2.3/12").unwrap().to_string(), "10.0.0.0/12");
        assert!(network("10.1.2.3/32").is_none() && network("10.1.2.3").is_none());
        for wrong in ["10.1.2.3/0", "10.1.2.3/33", "::1/129", "10.1.2/8", "10.1.2.3/", "/8"] {
            assert_eq!(Address::parse(wrong), None, "{wrong}");
        }
    }
}
