//! The configuration of a cluster, checked: what the core needs to know of /etc/futago/cluster.yml.
//!
//! The shell reads the file; everything here is already known to be whole and free of contradictions.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::{Deserialize, Serialize};

use crate::member::Node;
use crate::timing::{Millis, Timing};

/// A cluster, seen from one of its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of the cluster.
    pub cluster: String,
    /// Which node this is.
    pub node: Node,
    /// Host names, in the order A, B (`uname -n`).
    pub names: [String; 2],
    /// How votes are counted.
    pub quorum: Quorum,
    /// All times.
    pub timing: Timing,
    /// The stack, in order: it runs on exactly one node. Indices into it are [`ResourceId`].
    pub group: Vec<Resource>,
    /// Services that run on both nodes all the time. Their indices follow those of the group.
    pub everywhere: Vec<Resource>,
    /// What to do about failures.
    pub policy: Policy,
}

impl Config {
    /// Host name of a node.
    #[must_use]
    pub fn name(&self, node: Node) -> &str {
        let [a, b] = &self.names;
        match node {
            Node::A => a,
            Node::B => b,
        }
    }

    /// Digest of what both nodes must be told alike. Two versions of this program may have different ones for the
    /// same configuration.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let Self { cluster, node: _, names, quorum, timing, group, everywhere, policy } = self;
        let mut hasher = DefaultHasher::new();
        format!("{cluster:?} {names:?} {quorum:?} {timing:?} {group:?} {everywhere:?} {policy:?}")
            .hash(&mut hasher);
        hasher.finish()
    }

    /// A resource by its number: the group's first, then those that run everywhere.
    #[must_use]
    pub fn resource(&self, id: ResourceId) -> Option<&Resource> {
        self.group.iter().chain(&self.everywhere).nth(id.0)
    }
}

/// Number of a resource in its configuration: the group's first, then those that run everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceId(pub usize);

/// How votes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quorum {
    /// Two of A, B and the witness.
    Witness,
    /// The record is kept by an etcd cluster.
    Etcd,
    /// A and B; a verified fencing of the peer stands for its vote.
    Fencing,
    /// A and B, and nothing else: failover is by hand.
    Manual,
}

impl Quorum {
    /// Only A and B vote: an operator's order may have to stand for one of them.
    #[must_use]
    pub const fn is_of_two(self) -> bool {
        matches!(self, Self::Fencing | Self::Manual)
    }
}

/// One resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name: unique.
    pub name: String,
    /// What it is.
    pub class: Class,
    /// Resources of the group that must run before it starts and stop after it stops: the one before it in
    /// the list unless configured otherwise. Empty for the first and for those that run everywhere.
    pub after: Vec<ResourceId>,
    /// Longest a start may take.
    pub start_timeout_ms: Millis,
    /// Longest a stop may take.
    pub stop_timeout_ms: Millis,
    /// How often it is looked at, beside events; 0 for events only.
    pub monitor_interval_ms: Millis,
    /// Longest a look may take.
    pub monitor_timeout_ms: Millis,
    /// Failed looks in a row that count as one failure: a loaded machine is not a broken one.
    pub monitor_failures: u32,
    /// Restarts on the same node before it fails over.
    pub restarts: u32,
    /// Resources after it are stopped and started around its restart; otherwise they stay as they are.
    pub restart_dependents: bool,
}

/// What a resource is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The replicated device: `futago:replica`.
    Replica {
        /// Resource of the replication daemon.
        resource: String,
    },
    /// A file system: `futago:mount`.
    Mount {
        /// Block device.
        device: String,
        /// Where to.
        directory: String,
        /// ext4, xfs.
        fstype: String,
        /// Mount options, comma-separated.
        options: String,
    },
    /// A bind mount: `futago:bind`.
    Bind {
        /// What to show,
        source: String,
        /// where.
        directory: String,
    },
    /// The virtual address: `futago:address`.
    Address {
        /// Address without prefix.
        address: String,
        /// Prefix length.
        prefix: u8,
        /// Interface.
        interface: String,
    },
    /// A unit: `systemd:NAME`.
    Systemd {
        /// Unit name with its suffix.
        unit: String,
        /// A deep look beside the unit's state.
        check: Option<Check>,
    },
    /// An agent of the OCF API: `ocf:PROVIDER:TYPE`.
    Ocf {
        /// Folder under resource.d.
        provider: String,
        /// Agent.
        kind: String,
        /// `OCF_RESKEY_*`.
        params: BTreeMap<String, String>,
        /// `OCF_CHECK_LEVEL` of the periodic look.
        check_level: u32,
    },
}

/// A deep look at a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// GET must answer 200 to 399, and contain the text.
    Http {
        /// `http://HOST[:PORT]/PATH`.
        url: String,
        /// Text that must be in the answer.
        contains: Option<String>,
    },
    /// A TCP connection must come to pass.
    Tcp {
        /// HOST:PORT.
        address: String,
    },
    /// The server must greet and answer a ping (MariaDB's protocol over its socket).
    Sql {
        /// Path of the UNIX socket.
        socket: String,
    },
    /// A command must end with 0.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
    },
}

/// What to do about failures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// A resource of the group is found running on the node where it must not run.
    pub foreign_start: ForeignStart,
    /// Reboot as the last step when a stop has failed and the device could not be taken back.
    pub reboot_on_failed_stop: bool,
    /// Silence of the public segment (link down or no answer from the gateway) leads to a switchover when the
    /// peer's is good.
    pub watch_public_link: bool,
}

/// What happens to a service that somebody started by hand on the standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForeignStart {
    /// It is stopped, with an alarm.
    Stop,
    /// Only an alarm.
    Alarm,
}
