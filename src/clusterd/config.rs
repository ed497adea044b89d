//! What /etc/futago/cluster.yml and witness.yml say. Every mistake is found in one pass, with its place, what is
//! allowed there and the nearest right name; nothing starts with half a configuration.

pub mod etcd;
mod read;
mod resource;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use base::problem::Problems;
use cluster::member::Node;

/// Managers listen here, on every path.
pub const MANAGER_PORT: u16 = 7790;
/// The witness listens here unless configured otherwise.
pub const WITNESS_PORT: u16 = 7791;

/// Where things are; overridden only to try things out without touching the system.
#[derive(Clone, Debug, clap::Args)]
pub struct Site {
    /// The configuration of the cluster.
    #[arg(long, value_name = "FILE", default_value = "/etc/futago/cluster.yml", hide = true)]
    pub config: PathBuf,
    /// Folder of the control sockets.
    #[arg(long, value_name = "DIR", default_value = "/run/futago", hide = true)]
    pub run_dir: PathBuf,
    /// Folder of what must survive a restart.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/futago/cluster", hide = true)]
    pub state_dir: PathBuf,
    /// Name of this node in the configuration, instead of what `uname -n` prints.
    #[arg(long, value_name = "NAME", hide = true)]
    pub node: Option<String>,
}

impl Site {
    /// Path of the control socket of the manager.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("clusterd.sock")
    }

    /// Path of the control socket of the replication daemon.
    #[must_use]
    pub fn replicad_socket(&self) -> PathBuf {
        self.run_dir.join("replicad.sock")
    }

    /// Name of this node.
    #[must_use]
    pub fn node(&self) -> String {
        let system = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        self.node.clone().unwrap_or_else(system)
    }
}

/// A cluster as configured, seen from this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What the core needs to know.
    pub core: cluster::config::Config,
    /// Addresses of A and of B, the local segment first; the same number each.
    pub paths: [Vec<IpAddr>; 2],
    /// The witness.
    pub witness: Option<Witness>,
    /// Who keeps the record instead of A, B and a witness.
    pub etcd: Option<etcd::Etcd>,
    /// Folder with `ca.pem`, `member.pem`, `member.key`.
    pub tls: PathBuf,
    /// Where metrics and health are served.
    pub metrics: Vec<SocketAddr>,
    /// Whether the machine is reset when the manager hangs.
    pub watchdog: Watchdog,
    /// Who must answer on the public segment.
    pub gateway: Option<IpAddr>,
    /// Interface of the public segment: the one that carries the virtual address.
    pub public_interface: Option<String>,
    /// How to switch A and B off.
    pub fencing: [Option<Fencing>; 2],
    /// Who is told.
    pub alerts: Vec<Hook>,
}

impl Settings {
    /// Addresses of a node.
    #[must_use]
    pub fn paths(&self, node: Node) -> &[IpAddr] {
        let [a, b] = &self.paths;
        match node {
            Node::A => a,
            Node::B => b,
        }
    }

    /// How to switch a node off.
    #[must_use]
    pub fn fencing(&self, node: Node) -> Option<&Fencing> {
        let [a, b] = &self.fencing;
        match node {
            Node::A => a.as_ref(),
            Node::B => b.as_ref(),
        }
    }
}

/// The witness as the data hosts know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Host name.
    pub name: String,
    /// Where it listens; each is a path of its own.
    pub addresses: Vec<SocketAddr>,
}

/// Whether the machine is reset when the manager hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watchdog {
    /// If there is a watchdog.
    Auto,
    /// The manager does not start without one.
    Required,
    /// Never.
    Off,
}

/// A fence device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fencing {
    /// Name of the program below /usr/sbin: `fence_ipmilan`.
    pub agent: String,
    /// What it is told.
    pub params: BTreeMap<String, String>,
    /// Longest that one call may take.
    pub timeout: Duration,
}

/// Who is told about alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A program.
    Exec(PathBuf),
    /// A POST to this `http://` URL.
    Webhook(String),
}

/// The witness as it knows itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessSettings {
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Folder with `ca.pem`, `member.pem`, `member.key`.
    pub tls: PathBuf,
    /// Folder of its records.
    pub state: PathBuf,
}

/// Reads the configuration of a cluster as it concerns this node.
pub fn load(site: &Site) -> anyhow::Result<Settings> {
    let (name, text) = content(&site.config)?;
    Ok(cluster(&name, &text, &site.node())?)
}

/// Reads the configuration of a witness.
pub fn load_witness(path: &Path) -> anyhow::Result<WitnessSettings> {
    let (name, text) = content(path)?;
    Ok(witness(&name, &text)?)
}

fn content(path: &Path) -> anyhow::Result<(String, String)> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok((path.display().to_string(), text))
}

/// The text of a cluster.yml; `file` is its name in messages, `here` the name of this host.
pub fn cluster(file: &str, text: &str, here: &str) -> Result<Settings, Problems> {
    read::cluster(file, text, here)
}

/// The text of a witness.yml.
pub fn witness(file: &str, text: &str) -> Result<WitnessSettings, Problems> {
    read::witness(file, text)
}
