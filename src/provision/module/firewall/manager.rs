//! NetworkManager's connections, as far as the firewall is concerned.
//!
//! It tells firewalld the zone of every interface that it activates, so the zone of such an interface is kept
//! in its connection. Connections that live in memory only are nobody's wish and are left out.

use base::process;

use super::super::error::Error;
use super::super::exec::program;
use super::bus;

/// A connection that is active on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) interface: String,
    pub(super) uuid: String,
    /// Empty for the default zone.
    pub(super) zone: String,
}

/// Files of connections that are gone after a boot.
const VOLATILE: &str = "/run/";

/// The lasting connections of these interfaces.
pub(super) fn profiles(interfaces: &[String]) -> Result<Vec<Profile>, Error> {
    if interfaces.is_empty() || !bus::is_running("org.freedesktop.NetworkManager")? {
        return Ok(Vec::new());
    }
    let active = nmcli(&["-t", "-f", "DEVICE,UUID,FILENAME", "connection", "show", "--active"])?;
    let mut profiles = Vec::new();
    for (interface, uuid) in lasting(&active) {
        if interfaces.iter().any(|name| name == interface) {
            let zone = nmcli(&["-g", "connection.zone", "connection", "show", "uuid", uuid])?;
            profiles.push(Profile {
                interface: interface.into(),
                uuid: uuid.into(),
                zone: zone.trim().into(),
            });
        }
    }
    Ok(profiles)
}

impl Profile {
    /// Takes effect at once on an active connection.
    pub(super) fn set_zone(&self, zone: &str) -> Result<(), Error> {
        nmcli(&["connection", "modify", "uuid", &self.uuid, "connection.zone", zone]).map(drop)
    }
}

fn nmcli(args: &[&str]) -> Result<String, Error> {
    let output = process::run(program("nmcli").args(args))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `eth1:5fb06bd0-…:/etc/NetworkManager/system-connections/eth1.nmconnection`.
fn lasting(text: &str) -> Vec<(&str, &str)> {
    let fields = text.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        Some((fields.next()?, fields.next()?, fields.next()?))
    });
    fields.filter(|(_, _, file)| !file.starts_with(VOLATILE)).map(|(name, uuid, _)| (name, uuid)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_live_in_memory_only_are_left_out() {
        let text = "eth0:uuid-0:/etc/NetworkManager/system-connections/eth0.nmconnection\n\
                    lo:uuid-1:/run/NetworkManager/system-connections/lo.nmconnection\n\
                    eth1:uuid-2:/etc/sysconfig/network-scripts/ifcfg-eth1\n";
        assert_eq!(lasting(text), [("eth0", "uuid-0"), ("eth1", "uuid-2")]);
    }
}
