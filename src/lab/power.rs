//! Takes hosts away: the power cut of one host, and the end of the whole lab.
//!
//! Everything here is found from the lab's name, so it works on the remains of anything that was killed.
//! Every wait is bounded; what does not go away is named.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::child;
use crate::control_group::Hierarchies;
use crate::disk::{self, DaemonDevice};
use crate::host;
use crate::image;
use crate::interrupt::Interrupt;
use crate::layout::{HOSTS, Host, Lab};
use crate::network;
use crate::wait;

/// How long killed processes take to be gone when nothing holds them.
const PROMPT: Duration = Duration::from_millis(500);
/// How long killed processes may take to be gone.
const DEATH: Duration = Duration::from_secs(5);
/// How long a host may take to shut down in good order.
const SHUTDOWN: Duration = Duration::from_secs(15);

/// Where nspawn keeps a folder for each container.
const PROPAGATE: &str = "/run/systemd/nspawn/propagate";

/// What remains of a lab that is taken down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Systems and disks stay: the same pair can be booted again.
    Disks,
    /// Nothing stays.
    Nothing,
}

/// Cuts a host's power: all its processes end at once, and its cables are dead before they do.
///
/// Its root and its disk stay as they are at that instant, together with what the kernel had not yet written.
pub(crate) fn cut(lab: &Lab, host: &Host, hierarchies: &Hierarchies) -> anyhow::Result<()> {
    network::unplug(lab, host);
    let devices = disk::of_machine(&lab.machine_id(host))?;
    end_processes(lab, host, hierarchies, &devices).with_context(|| format!("power off {}", host.name))?;
    // Looked for again: the daemon may have made one in its last moments.
    for device in disk::of_machine(&lab.machine_id(host))? {
        disk::detach_daemon_device(&device).with_context(|| format!("power off {}", host.name))?;
    }
    network::remove_cables(lab, host);
    // Where /run is on a disk, nspawn leaves this empty folder behind.
    let _ = fs::remove_dir(Path::new(PROPAGATE).join(lab.machine(host)));
    hierarchies.remove(&lab.control_group(Some(host)))
}

fn end_processes(
    lab: &Lab,
    host: &Host,
    hierarchies: &Hierarchies,
    devices: &[DaemonDevice],
) -> anyhow::Result<()> {
    let group = lab.control_group(Some(host));
    // The first process takes everything in its process namespace with it, also what has left the group; the
    // container's supervisor then cleans up after itself and ends.
    if let Some(leader) = host::leader(lab, host, hierarchies)?.and_then(Pid::from_raw) {
        // It may have ended by itself meanwhile.
        let _ = kill_process(leader, Signal::KILL);
        if gone(hierarchies, &group, PROMPT) {
            return Ok(());
        }
        // What still lives waits in the kernel for an answer of the dead daemon: end that wait.
        for device in devices {
            disk::abort(device)?;
        }
        if gone(hierarchies, &group, DEATH) {
            return Ok(());
        }
    }
    hierarchies.kill(&group)?;
    if gone(hierarchies, &group, DEATH) {
        return Ok(());
    }
    let stuck: Vec<String> = hierarchies.processes(&group)?.into_iter().map(describe).collect();
    bail!(
        "these processes were killed and do not end: {}; they wait for a device: see /proc/PID/stack, \
         and try again when the device answers",
        stuck.join(", ")
    )
}

fn gone(hierarchies: &Hierarchies, group: &Path, limit: Duration) -> bool {
    let look = || Ok(hierarchies.processes(group)?.is_empty().then_some(()));
    wait::until(limit, &Interrupt::never(), look).is_ok()
}

fn describe(pid: i32) -> String {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    format!("{} (pid {pid}, waiting in {})", read("comm").trim_end(), read("wchan"))
}

/// Shuts a host down in good order, and ends it by force when that takes too long.
fn stop(lab: &Lab, host: &Host, hierarchies: &Hierarchies) -> anyhow::Result<()> {
    if let Some(leader) = host::leader(lab, host, hierarchies)? {
        // A host too ill to obey is ended below.
        let _ = child::run(host::inside(leader).args(["systemctl", "poweroff", "--no-block"]));
        let group = lab.control_group(Some(host));
        let look = || Ok(hierarchies.processes(&group)?.is_empty().then_some(()));
        if wait::until(SHUTDOWN, &Interrupt::never(), look).is_err() {
            eprintln!("{}: did not shut down within {} s, cutting its power", host.name, SHUTDOWN.as_secs());
        }
    }
    cut(lab, host, hierarchies)
}

/// Takes a lab down: hosts, loop devices, network, control groups; with [`Keep::Nothing`] its files too.
///
/// Goes on after a failure, so that as little as possible is left, and reports all failures.
pub(crate) fn down(lab: &Lab, keep: Keep, hierarchies: &Hierarchies) -> anyhow::Result<()> {
    let end = |host: &'static Host| match keep {
        Keep::Disks => stop(lab, host, hierarchies),
        Keep::Nothing => cut(lab, host, hierarchies),
    };
    let mut failures: Vec<anyhow::Error> = std::thread::scope(|scope| {
        let hosts = HOSTS.map(|host| scope.spawn(move || end(host)));
        hosts.into_iter().filter_map(|host| host.join().ok()?.err()).collect()
    });
    failures.extend(disk::detach_below(&lab.folder()).err());
    failures.extend(network::remove(lab).err());
    if failures.is_empty() {
        failures.extend(hierarchies.remove(&lab.control_group(None)).err());
        if keep == Keep::Nothing {
            failures.extend(image::remove(&lab.folder()).err());
        }
    }
    let texts: Vec<String> = failures.iter().map(|error| format!("{error:#}")).collect();
    if texts.is_empty() {
        return Ok(());
    }
    bail!("take down lab `{lab}`: {}; once the cause is gone: futago lab down --name {lab}", texts.join("; "))
}

/// What of a lab is still on the machine, in words.
pub(crate) fn remains(lab: &Lab, hierarchies: &Hierarchies) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for place in [lab.netns_path(), lab.folder()] {
        found.extend(place.exists().then(|| place.display().to_string()));
    }
    let mut devices = disk::attached_below(&lab.folder())?;
    for host in HOSTS {
        devices.extend(disk::of_machine(&lab.machine_id(host))?.into_iter().map(|device| device.number));
    }
    found.extend(devices.into_iter().map(|number| format!("/dev/loop{number}")));
    found.extend(hierarchies.processes(&lab.control_group(None))?.into_iter().map(describe));
    Ok(found)
}
