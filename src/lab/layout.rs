//! Names, addresses and places of a lab. Everything here follows from the lab's name alone.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// Where all labs live.
const LABS: &str = "/var/lib/futago/lab";
/// Longest name of a lab: with a host's name behind it, it must stay a valid machine name.
const MAX_NAME_BYTES: usize = 32;

/// The address of the machine's own side of the public segment, inside the lab's namespace.
pub(crate) const CONTROLLER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The service's address and the length of the public segment's prefix.
pub(crate) const VIRTUAL_IP: (Ipv4Addr, u8) = (Ipv4Addr::new(203, 0, 113, 10), PREFIX_BITS);
/// Both segments are this long.
pub(crate) const PREFIX_BITS: u8 = 24;
/// The name of the pair as a whole.
pub(crate) const CLUSTER: &str = "ha.example.com";

/// A host of the lab, as the article has them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// The short name: the key in the inventory, the word on the command line.
    pub(crate) name: &'static str,
    /// What `uname -n` prints there.
    pub(crate) fqdn: &'static str,
    /// Its address on the public segment, at `eth0`.
    pub(crate) public: Ipv4Addr,
    /// Its address on the local segment, at `eth1`; the witness has none, and no second disk either.
    pub(crate) local: Option<Ipv4Addr>,
}

/// The two hosts of the pair.
pub(crate) const PAIR: [Host; 2] = [
    Host {
        name: "ha-a",
        fqdn: "ha-a.example.com",
        public: Ipv4Addr::new(203, 0, 113, 11),
        local: Some(Ipv4Addr::new(192, 168, 1, 101)),
    },
    Host {
        name: "ha-b",
        fqdn: "ha-b.example.com",
        public: Ipv4Addr::new(203, 0, 113, 12),
        local: Some(Ipv4Addr::new(192, 168, 1, 102)),
    },
];

/// The third host, on the public segment only.
pub(crate) const WITNESS: Host = Host {
    name: "witness",
    fqdn: "witness.example.com",
    public: Ipv4Addr::new(203, 0, 113, 13),
    local: None,
};

/// Every host a lab can have.
pub(crate) const HOSTS: [&Host; 3] = [&PAIR[0], &PAIR[1], &WITNESS];

impl Host {
    /// Whether this host has a second disk.
    pub(crate) fn has_disk(&self) -> bool {
        self.local.is_some()
    }

    /// The machine's end of the cable between this host and a segment, inside the lab's namespace.
    pub(crate) fn port(&self, segment: Segment) -> String {
        format!("{}-{}", self.name, segment.as_str())
    }

    /// The segments this host is on.
    pub(crate) fn segments(&self) -> impl Iterator<Item = Segment> + use<> {
        let local = self.local.map(|_| Segment::Local);
        std::iter::once(Segment::Public).chain(local)
    }
}

/// A network segment: a bridge of this name inside the lab's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Where clients and the witness are; `eth0`.
    Public,
    /// Where the pair replicates; `eth1`.
    Local,
}

impl Segment {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Local => "local",
        }
    }

    /// The interface's name inside a host.
    pub(crate) fn interface(self) -> &'static str {
        match self {
            Self::Public => "eth0",
            Self::Local => "eth1",
        }
    }
}

/// A host of that name that no lab has.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no host `{0}`: a lab has ha-a, ha-b and, when started with --witness, witness")]
pub(crate) struct UnknownHost(String);

/// Finds a host by its short or its full name.
pub(crate) fn host(name: &str) -> Result<&'static Host, UnknownHost> {
    let found = HOSTS.into_iter().find(|host| host.name == name || host.fqdn == name);
    found.ok_or_else(|| UnknownHost(name.to_owned()))
}

/// A lab's name cannot be used.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("lab name `{0}`: use 1 to {MAX_NAME_BYTES} lower-case letters, digits and inner hyphens")]
pub(crate) struct BadName(String);

/// A lab, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lab {
    name: String,
}

impl FromStr for Lab {
    type Err = BadName;

    fn from_str(name: &str) -> Result<Self, BadName> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let edges = name.starts_with('-') || name.ends_with('-');
        if name.is_empty() || name.len() > MAX_NAME_BYTES || edges || !name.chars().all(allowed) {
            return Err(BadName(name.to_owned()));
        }
        Ok(Self { name: name.to_owned() })
    }
}

impl fmt::Display for Lab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Lab {
    /// Everything of this lab that lies on a disk.
    pub(crate) fn folder(&self) -> PathBuf {
        Path::new(LABS).join(&self.name)
    }

    /// Held by whoever changes this lab.
    pub(crate) fn lock(&self) -> PathBuf {
        Path::new("/run/futago").join(format!("lab-{}.lock", self.name))
    }

    /// The network namespace with the bridges.
    pub(crate) fn netns(&self) -> String {
        format!("futago-{}", self.name)
    }

    /// The same as a file that namespaces are entered by.
    pub(crate) fn netns_path(&self) -> PathBuf {
        Path::new("/run/netns").join(self.netns())
    }

    /// The control group of a host, or of all hosts, below the root of each hierarchy.
    pub(crate) fn control_group(&self, host: Option<&Host>) -> PathBuf {
        let lab = Path::new("futago").join(&self.name);
        host.map_or_else(|| lab.clone(), |host| lab.join(host.name))
    }

    /// A machine name that no other lab's host has.
    pub(crate) fn machine(&self, host: &Host) -> String {
        format!("futago-{}-{}", self.name, host.name)
    }

    /// The machine identity (machine-id(5)) of a host: the same for every life of a lab of this name, so that
    /// what a host left in the kernel can be told even when the host's files are gone.
    pub(crate) fn machine_id(&self, host: &Host) -> String {
        let digest = Sha256::digest(format!("futago lab {} {}", self.name, host.fqdn));
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The link-layer address of what is at a port, or of a bridge: locally administered, and the same after every
    /// power cut, so that neighbours need not forget an old one first.
    pub(crate) fn link_address(&self, port: &str) -> String {
        let digest = Sha256::digest(format!("futago lab {} {port}", self.name));
        let tail: String = digest.iter().take(5).map(|byte| format!(":{byte:02x}")).collect();
        format!("02{tail}")
    }

    /// What belongs to one host.
    pub(crate) fn host_folder(&self, host: &Host) -> PathBuf {
        self.folder().join("hosts").join(host.name)
    }

    /// Its own files: what differs from the image, or all, where layers do not work.
    pub(crate) fn root(&self, host: &Host) -> PathBuf {
        self.host_folder(host).join("root")
    }

    /// For overlayfs itself; missing when the root is a copy of the image.
    pub(crate) fn work(&self, host: &Host) -> PathBuf {
        self.host_folder(host).join("work")
    }

    /// Where image and own files are mounted as one, in the container's mount namespace only.
    pub(crate) fn merged(&self, host: &Host) -> PathBuf {
        self.host_folder(host).join("merged")
    }

    /// The file behind its second disk.
    pub(crate) fn disk(&self, host: &Host) -> PathBuf {
        self.host_folder(host).join("disk")
    }

    /// What it wrote to its console since it was last powered on.
    pub(crate) fn console(&self, host: &Host) -> PathBuf {
        self.host_folder(host).join("console.log")
    }

    /// For the user: the inventory.
    pub(crate) fn inventory(&self) -> PathBuf {
        self.folder().join("inventory.yml")
    }

    /// For the user: the private key that logs in as root.
    pub(crate) fn identity(&self) -> PathBuf {
        self.folder().join("id_ed25519")
    }

    /// For the user: the hosts' real keys.
    pub(crate) fn known_hosts(&self) -> PathBuf {
        self.folder().join("known_hosts")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_leave_its_folder_or_break_a_machine_name_is_refused() {
        for bad in ["", "-a", "a-", "../x", "a/b", "A", "a b", "a.b", &"x".repeat(33)] {
            assert_eq!(bad.parse::<Lab>(), Err(BadName(bad.to_owned())));
        }
        assert_eq!("t12-x".parse::<Lab>().unwrap().to_string(), "t12-x");
    }

    #[test]
    fn a_host_is_found_by_its_short_and_its_full_name() {
        assert_eq!(host("ha-b").unwrap().fqdn, "ha-b.example.com");
        assert_eq!(host("witness.example.com").unwrap().name, "witness");
        assert!(host("ha-c").is_err());
    }

    #[test]
    fn interface_names_fit_the_kernel() {
        for host in HOSTS {
            for segment in host.segments() {
                assert!(host.port(segment).len() < 16, "{}", host.port(segment));
            }
        }
    }

    #[test]
    fn machine_identities_differ_between_hosts_and_labs_and_never_change() {
        let lab: Lab = "one".parse().unwrap();
        let other: Lab = "two".parse().unwrap();
        let ids = [lab.machine_id(&PAIR[0]), lab.machine_id(&PAIR[1]), other.machine_id(&PAIR[0])];
        assert!(ids.iter().all(|id| id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit())));
        assert!(ids[0] != ids[1] && ids[0] != ids[2]);
        assert_eq!(ids[0], lab.machine_id(&PAIR[0]));
    }
}
