//! The files for the user: inventory, identity, known_hosts.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::layout::{CLUSTER, Host, Lab, Segment, VIRTUAL_IP, WITNESS};
use crate::record::Record;
use crate::root;

/// Makes the key that logs in as root and returns its public half.
pub(crate) fn identity(lab: &Lab) -> anyhow::Result<String> {
    root::key(&lab.identity(), &format!("futago lab {lab}"))?;
    authorized(lab)
}

/// The public half of the key that logs in as root.
pub(crate) fn authorized(lab: &Lab) -> anyhow::Result<String> {
    let public = lab.identity().with_extension("pub");
    fs::read_to_string(&public).with_context(|| format!("read {}", public.display()))
}

/// Writes the inventory.
pub(crate) fn write_inventory(lab: &Lab, record: &Record) -> anyhow::Result<()> {
    replace(&lab.inventory(), &inventory(lab, record))
}

/// Writes the keys by which hosts are known.
pub(crate) fn write_known_hosts(lab: &Lab, record: &Record) -> anyhow::Result<()> {
    let mut known = String::new();
    for host in record.hosts() {
        let key = root::public_host_key(&lab.root(host))?;
        writeln!(known, "{},{},{} {key}", host.public, host.name, host.fqdn)?;
    }
    replace(&lab.known_hosts(), &known)
}

fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let written = base::file::replace(path, text.as_bytes(), 0o644);
    written.with_context(|| format!("write {}", path.display()))
}

fn inventory(lab: &Lab, record: &Record) -> String {
    let (address, bits) = VIRTUAL_IP;
    let public = Segment::Public.interface();
    let mut text =
        format!("# The pair of the lab `{lab}`, written by `futago lab up`.\ncluster: {CLUSTER}\n");
    text += &format!("virtual_ip: {{address: {address}/{bits}, interface: {public}}}\nhosts:\n");
    text.extend(record.hosts().into_iter().filter_map(inventory_line));
    if record.witness {
        text += &format!("witness: {{address: {}}}\n", WITNESS.public);
    }
    text += &format!(
        "ssh:\n  user: root\n  port: 22\n  identity: {}\n  known_hosts: {}\n  netns: {}\n",
        lab.identity().display(),
        lab.known_hosts().display(),
        lab.netns()
    );
    text
}

fn inventory_line(host: &Host) -> Option<String> {
    let local = host.local?;
    Some(format!(
        "  {}: {{address: {}, local_address: {local}, disk: {}, interfaces: {{public: {}, local: {}}}}}\n",
        host.name,
        host.public,
        root::SECOND_DISK,
        Segment::Public.interface(),
        Segment::Local.interface()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inventory_has_the_documented_form() {
        let lab: Lab = "x".parse().unwrap();
        let record = Record {
            complete: true,
            disk_bytes: 1,
            image: "i".to_owned(),
            suite: "s".to_owned(),
            witness: true,
        };
        let expected = "\
# The pair of the lab `x`, written by `futago lab up`.
cluster: ha.example.com
virtual_ip: {address: 203.0.113.10/24, interface: eth0}
hosts:
  ha-a: {address: 203.0.113.11, local_address: 192.168.1.101, disk: /dev/vdb, interfaces: {public: eth0, local: eth1}}
  ha-b: {address: 203.0.113.12, local_address: 192.168.1.102, disk: /dev/vdb, interfaces: {public: eth0, local: eth1}}
witness: {address: 203.0.113.13}
ssh:
  user: root
  port: 22
  identity: /var/lib/futago/lab/x/id_ed25519
  known_hosts: /var/lib/futago/lab/x/known_hosts
  netns: futago-x
";
        assert_eq!(inventory(&lab, &record), expected);
    }
}
