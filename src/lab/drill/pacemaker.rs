//! Debian's Pacemaker and corosync with what their documentation gives a beginner for two hosts: both segments as
//! links, no fencing, a group of database, web server and address, looked at every ten seconds.
//!
//! Nothing is replicated: each host has a database of its own, so this system does less than the other ones.

use std::time::Duration;

use anyhow::Context as _;

use crate::layout::{Host, PAIR, VIRTUAL_IP};
use crate::stack;
use crate::stage::Stage;
use crate::up::{self, Wish};
use crate::wait;

/// For apt-get with a local repository.
const INSTALL: Duration = Duration::from_secs(300);
/// For a change of the configuration.
const CONFIGURE: Duration = Duration::from_secs(90);
/// For the hosts to find each other.
const FORM: Duration = Duration::from_secs(120);
/// The resources, each of which must be started on one host.
const RESOURCES: [&str; 3] = ["database", "web", "address"];

pub(super) const EXPLAIN: [&str; 2] = [
    "crm_mon --one-shot --operations --failcounts",
    "journalctl --unit corosync --unit pacemaker --lines 40 --no-pager --output short",
];

pub(super) fn prepare(stage: &Stage) -> anyhow::Result<()> {
    up::up(&stage.lab, &Wish::default(), &stage.interrupt)?;
    stage.provision("apply", &["network"])?;
    stack::install_local(stage)?;
    up::offer_compared(&stage.lab, &stage.interrupt)?;
    for host in &PAIR {
        eprintln!("{}: apt-get install corosync pacemaker", host.name);
        stage.answer(host, &install(), INSTALL)?;
    }
    let [first, _] = &PAIR;
    let formed = || Ok(nodes_online(&monitor(stage, first)?).then_some(()));
    wait::until(FORM, &stage.interrupt, formed)
        .context("wait until Pacemaker's hosts have found each other")?;
    stage.answer(first, &configure(), CONFIGURE)?;
    Ok(())
}

pub(super) fn is_healthy(stage: &Stage) -> anyhow::Result<bool> {
    // Both must say so: one that was powered on again is alone for a while.
    for host in &PAIR {
        let text = monitor(stage, host)?;
        if !nodes_online(&text) || !all_started(&text) {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn switchover(stage: &Stage, from: &Host) -> anyhow::Result<()> {
    let to = PAIR.iter().find(|host| host.name != from.name).context("find the other host")?;
    stage.shell(from, &format!("crm_resource --resource service --move --node {}", to.fqdn)).map(drop)
}

/// Clears the rule that a move leaves, and the memory of failures.
pub(super) fn forget(stage: &Stage) -> anyhow::Result<()> {
    let [first, _] = &PAIR;
    let told = || {
        Ok(stage
            .quietly(first, "crm_resource --resource service --clear && crm_resource --cleanup")?
            .ok
            .then_some(()))
    };
    wait::until(FORM, &stage.interrupt, told).context("let Pacemaker forget the fault")
}

fn monitor(stage: &Stage, host: &Host) -> anyhow::Result<String> {
    Ok(stage.quietly(host, "crm_mon --one-shot")?.text)
}

fn nodes_online(monitor: &str) -> bool {
    monitor.lines().any(|line| line.contains("Online:") && PAIR.iter().all(|host| line.contains(host.fqdn)))
}

/// Each resource has its line, `* web  (systemd:apache2):  Started ha-a.example.com`.
fn all_started(monitor: &str) -> bool {
    let started = |name: &str| {
        let mut lines = monitor.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.any(|words| words.get(1) == Some(&name) && words.get(3) == Some(&"Started"))
    };
    RESOURCES.iter().all(|name| started(name))
}

/// The packages, with corosync's configuration there before they start.
fn install() -> String {
    let mut nodes = String::new();
    for (number, host) in (1..).zip(&PAIR) {
        let local = host.local.map(|address| address.to_string()).unwrap_or_default();
        nodes += &format!(
            "  node {{\n    nodeid: {number}\n    name: {}\n    ring0_addr: {local}\n    ring1_addr: {}\n  }}\n",
            host.fqdn, host.public
        );
    }
    format!(
        "set -e; firewall-cmd --quiet --zone=public --add-service=high-availability --permanent; \
         firewall-cmd --quiet --reload; mkdir -p /etc/corosync; cat > /etc/corosync/corosync.conf << 'END'\n\
         totem {{\n  version: 2\n  cluster_name: lab\n  transport: knet\n}}\n\
         nodelist {{\n{nodes}}}\n\
         quorum {{\n  provider: corosync_votequorum\n  two_node: 1\n}}\n\
         logging {{\n  to_syslog: yes\n}}\nEND\n\
         DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet -o Dpkg::Options::=--force-confold \
         corosync pacemaker pacemaker-cli-utils resource-agents"
    )
}

/// The group, and the properties that a pair without fencing needs.
fn configure() -> String {
    let (address, bits) = VIRTUAL_IP;
    let monitor = |id: &str| {
        format!("<operations><op id=\"{id}-monitor\" name=\"monitor\" interval=\"10s\"/></operations>")
    };
    let systemd = |id: &str, unit: &str| {
        format!("<primitive id=\"{id}\" class=\"systemd\" type=\"{unit}\">{}</primitive>", monitor(id))
    };
    let group = format!(
        "<group id=\"service\">{}{}<primitive id=\"address\" class=\"ocf\" provider=\"heartbeat\" type=\"IPaddr2\">\
         <instance_attributes id=\"address-values\"><nvpair id=\"address-ip\" name=\"ip\" value=\"{address}\"/>\
         <nvpair id=\"address-bits\" name=\"cidr_netmask\" value=\"{bits}\"/>\
         <nvpair id=\"address-nic\" name=\"nic\" value=\"eth0\"/></instance_attributes>{}</primitive></group>",
        systemd("database", "mariadb"),
        systemd("web", "apache2"),
        monitor("address")
    );
    format!(
        "set -e; crm_attribute --name stonith-enabled --update false; \
         crm_attribute --type rsc_defaults --name resource-stickiness --update 1; \
         cibadmin --create --scope resources --xml-text '{group}'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONITOR: &str = "Node List:
  * Online: [ ha-a.example.com ha-b.example.com ]

Active Resources:
  * Resource Group: service:
    * database\t(systemd:mariadb):\t Started ha-a.example.com
    * web\t(systemd:apache2):\t Started ha-a.example.com
    * address\t(ocf:heartbeat:IPaddr2):\t Started ha-a.example.com
";

    #[test]
    fn a_pair_is_healthy_when_both_are_online_and_everything_is_started() {
        assert!(nodes_online(MONITOR) && all_started(MONITOR));
        assert!(!nodes_online(&MONITOR.replace("ha-b.example.com ]", "]")));
        assert!(!all_started(&MONITOR.replace("IPaddr2):\t Started", "IPaddr2):\t Stopped")));
        assert!(!all_started(&MONITOR.replace("    * web", "    * wed")));
    }
}
