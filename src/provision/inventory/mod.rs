//! The inventory: two hosts, how to reach them, and what is special about them.
//!
//! This file owns the checked type and its paths. `read.rs` makes it from YAML and reports every mistake at once.

mod addresses;
mod backup;
mod etcd;
mod example;
mod fencing;
mod find;
mod https;
mod manager;
mod pem;
mod read;
mod resource;
mod schema;
mod secrets;
mod site;
mod ssh;
mod stack;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

pub use backup::Backup;
pub use etcd::Etcd;
pub use example::write_example;
pub(crate) use find::{files, find};
pub use https::Https;
pub use manager::Manager;
pub(crate) use read::variables as read_variables;
pub(crate) use schema::json_schema;
pub use secrets::{Secrets, SecretsError};
pub use site::{Administrator, Site};
pub use ssh::{JumpHost, Ssh};

use base::problem::{Place, Problem, Problems};
use base::yaml::Node;

use crate::identity::Identities;
use crate::template::Scope;

/// A checked inventory.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// The file it comes from.
    pub file: PathBuf,
    /// Full name of the service: what the virtual address answers to.
    pub cluster: String,
    /// The address that moves with the service.
    pub virtual_ip: VirtualIp,
    /// The pair; the first one starts as primary.
    pub hosts: Vec<Member>,
    /// The third voice, if there is one.
    pub witness: Option<Member>,
    /// What the cluster manager runs; without it everything is started and moved by hand.
    pub manager: Option<Manager>,
    /// How to reach them.
    pub ssh: Ssh,
    /// Which application is built on the pair.
    pub stack: Option<String>,
    /// What the site of the stack shows to browsers.
    pub https: Https,
    /// When and where the data of the stack are saved.
    pub backup: Option<Backup>,
    /// The backup that a new pair begins with: a folder on the first host.
    pub restore: Option<String>,
    /// Variables of all hosts.
    pub vars: Map<String, Value>,
    /// Variables that are never shown.
    pub secrets: Secrets,
    /// What members prove with who they are; none before the first apply.
    pub identities: Option<Identities>,
}

/// The address that moves with the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualIp {
    /// The address.
    pub address: IpAddr,
    /// Length of its network prefix.
    pub prefix: u8,
    /// Interface that carries it.
    pub interface: String,
}

/// One host.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Short name: its key in the inventory.
    pub name: String,
    /// Its name as `uname -n` prints it there.
    pub fqdn: String,
    /// Where SSH reaches it, on the public segment.
    pub address: IpAddr,
    /// Port of SSH, when it differs from the inventory's.
    pub port: Option<u16>,
    /// Its address on the local segment; a witness has none.
    pub local_address: Option<IpAddr>,
    /// The disk that is replicated; a witness has none.
    pub disk: Option<String>,
    /// Interface on the public segment.
    pub public_interface: Option<String>,
    /// Interface on the local segment.
    pub local_interface: Option<String>,
    /// Disks of this host whose content may be destroyed.
    pub wipe: Vec<String>,
    /// Variables of this host alone.
    pub vars: Map<String, Value>,
    /// Where the inventory describes it.
    pub place: Place,
}

impl Inventory {
    /// Reads and checks a file.
    pub fn load(file: &Path) -> Result<Self, Problems> {
        let shown = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|error| {
            Problem::new(&Place::whole(&shown), format!("read the inventory: {error}"))
                .hint("`futago init DIR` writes an example")
        })?;
        read::inventory(file, &text)
    }

    /// Checks an inventory that is already in memory; `file` is only its name, and the base of relative paths.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Problems> {
        read::inventory(file, text)
    }

    /// Texts of a file that must not be shown, also when it is wrong; as far as they can be known.
    pub(crate) fn hidden_in(file: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let root = Node::read("", &text, &mut Problems::default());
        root.map(|root| secrets::hidden(&root, file)).unwrap_or_default()
    }

    /// All hosts, the pair first.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.hosts.iter().chain(&self.witness)
    }

    /// Texts that must never be shown.
    #[must_use]
    pub fn hidden(&self) -> Vec<String> {
        let secrets = self.secrets.values().values().filter_map(|value| value.as_str().map(str::to_owned));
        let secrets = secrets.chain(self.identities.iter().flat_map(Identities::secrets));
        let secrets = secrets.chain(self.manager.iter().flat_map(Manager::secrets));
        secrets.chain(self.https.secrets()).collect()
    }

    /// The folder that the inventory stands for: its own, or the one above when it is called `inventory`.
    #[must_use]
    pub fn project(&self) -> PathBuf {
        project(&self.file)
    }

    /// What expressions see on one host; facts and registered results come on top of it.
    #[must_use]
    pub fn variables(&self, member: &Member) -> Map<String, Value> {
        let mut all = self.vars.clone();
        all.extend(member.vars.clone());
        all.extend(self.secrets.values().clone());
        let peer = self.hosts.iter().find(|h| h.name != member.name).filter(|_| member.disk.is_some());
        let own = [
            ("inventory_hostname", json!(member.name)),
            ("fqdn", json!(member.fqdn)),
            ("host", self.describe(member)),
            ("peer", peer.map_or(Value::Null, |p| self.describe(p))),
            ("hosts", self.hosts.iter().map(|h| self.describe(h)).collect()),
            ("witness", self.witness.as_ref().map_or(Value::Null, |w| self.describe(w))),
            ("cluster", describe_name(&self.cluster)),
            ("virtual_ip", self.virtual_ip.describe()),
            ("stack", json!(self.stack)),
            ("manager", self.manager.as_ref().map_or(Value::Null, Manager::describe)),
            ("backup", self.backup.as_ref().map_or(Value::Null, Backup::describe)),
            ("restore", json!(self.restore)),
        ];
        all.extend(own.map(|(name, value)| (name.to_owned(), value)));
        all
    }

    /// As [`Self::variables`], ready for expressions: what is not known yet has no value.
    pub(crate) fn scope(&self, member: &Member) -> Scope {
        let mut scope = Scope::new(&self.variables(member));
        match self.identities.as_ref().and_then(|all| all.of(&member.fqdn)) {
            Some(identity) => scope.set("tls", &identity),
            None => scope.set_partial("tls", &Map::new()),
        }
        self.describe_site(&mut scope);
        for name in ["host", "peer", "cluster", "virtual_ip"] {
            scope.fix(name);
        }
        scope
    }

    /// The variable `site`: what a certificate of the program's own is, is not known before the first apply.
    fn describe_site(&self, scope: &mut Scope) {
        let Site { https, redirect, url, .. } = self.site();
        let mut site = Map::new();
        for (key, value) in [("https", json!(https)), ("redirect", json!(redirect)), ("url", json!(url))] {
            site.insert(key.to_owned(), value);
        }
        let shown = match &self.https {
            Https::Off => None,
            Https::Given { certificate, key } => Some((certificate.clone(), key.clone())),
            Https::SelfSigned => self.identities.as_ref().and_then(|all| all.site(&self.cluster)),
        };
        match shown {
            Some((certificate, key)) => {
                site.insert("certificate".to_owned(), certificate.into());
                site.insert("key".to_owned(), key.into());
                scope.set("site", &Value::Object(site));
            }
            None => scope.set_partial("site", &site),
        }
    }

    fn describe(&self, member: &Member) -> Value {
        let position = self.hosts.iter().position(|h| h.name == member.name);
        let Member { name, fqdn, .. } = member;
        let domain = fqdn.split_once('.').map_or("", |(_, domain)| domain);
        json!({
            "name": name,
            "fqdn": fqdn,
            "domain": domain,
            "local_name": format!("{name}-local"),
            "local_fqdn": format!("{name}-local.{domain}").trim_end_matches('.'),
            "index": position,
            "address": member.address,
            "local_address": member.local_address,
            "disk": member.disk,
            "partition": member.disk.as_deref().map(first_partition),
            "interfaces": {"public": member.public_interface, "local": member.local_interface},
            "wipe": member.wipe,
        })
    }
}

impl VirtualIp {
    fn describe(&self) -> Value {
        let Self { address, prefix, interface } = self;
        json!({"address": address, "prefix": prefix, "interface": interface, "cidr": format!("{address}/{prefix}")})
    }
}

/// The folder that an inventory stands for.
pub(crate) fn project(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.file_name().is_some_and(|name| name == "inventory") {
        return folder.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    }
    if folder == Path::new(".")
        && std::env::current_dir().is_ok_and(|d| d.file_name().is_some_and(|n| n == "inventory"))
    {
        return PathBuf::from("..");
    }
    folder.to_owned()
}

/// `/dev/vdb1` of `/dev/vdb`, `/dev/nvme0n1p1` of `/dev/nvme0n1`.
fn first_partition(disk: &str) -> String {
    if disk.ends_with(|c: char| c.is_ascii_digit()) { format!("{disk}p1") } else { format!("{disk}1") }
}

/// `ha.example.com` as `{name: ha.example.com, short: ha, domain: example.com}`.
fn describe_name(fqdn: &str) -> Value {
    let (short, domain) = fqdn.split_once('.').unwrap_or((fqdn, ""));
    json!({"name": fqdn, "short": short, "domain": domain})
}

/// Names that the program sets itself; variables of the user must not hide them.
pub(crate) const RESERVED: &[&str] = &[
    "inventory_hostname",
    "fqdn",
    "host",
    "peer",
    "hosts",
    "witness",
    "cluster",
    "virtual_ip",
    "stack",
    "manager",
    "backup",
    "restore",
    "site",
    "tls",
    "facts",
    "item",
    "result",
];
