//! The lab's network: a namespace with one bridge a segment, and a cable from each host to its bridges.
//!
//! Nothing leads from that namespace to the machine's own network.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::child;
use crate::layout::{CONTROLLER, Host, Lab, PREFIX_BITS, Segment};

/// Creates the namespace and its bridges; what exists is kept.
pub(crate) fn ensure(lab: &Lab) -> anyhow::Result<()> {
    if !lab.netns_path().exists() {
        child::run(child::program("ip").args(["netns", "add", &lab.netns()]))
            .context("create network namespace")?;
        ip(lab, &["link", "set", "lo", "up"])?;
    }
    for segment in [Segment::Public, Segment::Local] {
        let bridge = segment.as_str();
        if ip(lab, &["link", "show", "dev", bridge]).is_err() {
            // Without an address of its own it takes the lowest of its ports', and changes it with them: for
            // seconds after a power cut, the hosts that are left would answer to an address that is gone.
            let address = lab.link_address(bridge);
            ip(lab, &["link", "add", "name", bridge, "address", &address, "type", "bridge"])?;
        }
        ip(lab, &["link", "set", "dev", bridge, "up"])?;
    }
    let controller = format!("{CONTROLLER}/{PREFIX_BITS}");
    ip(lab, &["address", "replace", &controller, "dev", Segment::Public.as_str()])
}

/// Gives a running host its network interfaces, each a cable into the bridge of its segment; what it has is kept.
///
/// Not left to nspawn: that wants a machine identity of the machine outside, which not every machine has.
pub(crate) fn plug(lab: &Lab, host: &Host, leader: i32) -> anyhow::Result<()> {
    for segment in host.segments() {
        let (port, bridge) = (host.port(segment), segment.as_str());
        if ip(lab, &["link", "show", "dev", &port]).is_err() {
            let address = lab.link_address(&port);
            let peer = ["name", segment.interface(), "address", &address, "netns", &leader.to_string()];
            let words = [&["link", "add", "name", &port, "type", "veth", "peer"], peer.as_slice()].concat();
            ip(lab, &words).with_context(|| format!("give {} its {}", host.name, segment.interface()))?;
        }
        ip(lab, &["link", "set", "dev", &port, "master", bridge, "up"])
            .with_context(|| format!("plug {port} into bridge {bridge} of namespace {}", lab.netns()))?;
    }
    Ok(())
}

/// Pulls a host's cables, so that its death is not announced to others by its closing connections.
pub(crate) fn unplug(lab: &Lab, host: &Host) {
    for segment in host.segments() {
        // A host that is half dead may have no cables any more.
        let _ = ip(lab, &["link", "set", "dev", &host.port(segment), "down"]);
    }
}

/// Takes a dead host's cables away.
///
/// The kernel would do it when the host's own network namespace ends, but connections that can no longer say
/// goodbye keep that alive for minutes; without cables they give up at once.
pub(crate) fn remove_cables(lab: &Lab, host: &Host) {
    for segment in host.segments() {
        // Most of the time they are gone already.
        let _ = ip(lab, &["link", "delete", "dev", &host.port(segment)]);
    }
}

/// Removes the namespace and with it the bridges; nothing to remove is fine.
pub(crate) fn remove(lab: &Lab) -> anyhow::Result<()> {
    if !lab.netns_path().exists() {
        return Ok(());
    }
    child::run(child::program("ip").args(["netns", "delete", &lab.netns()]))
        .context("remove network namespace")?;
    Ok(())
}

/// A command that will run inside the lab's network namespace.
///
/// Not `ip netns exec`: that would also hide the control groups, which nspawn needs.
pub(crate) fn inside(lab: &Lab, program: impl AsRef<Path>) -> Command {
    let mut command = child::program("nsenter");
    command.arg(format!("--net={}", lab.netns_path().display())).arg(program.as_ref());
    command
}

fn ip(lab: &Lab, words: &[&str]) -> anyhow::Result<()> {
    let mut command = child::program("ip");
    command.args(["-netns", &lab.netns()]).args(words);
    child::run(&mut command)?;
    Ok(())
}
