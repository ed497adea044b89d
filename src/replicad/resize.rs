//! `futago replica resize`: has the daemon look at a disk that has grown, lets the device become as large as both disks
//! allow, and says what is left to do.

use std::fs;
use std::time::Duration;

use replica::control::Status;
use replica::meta::Layout;
use replica::state::Role;

use crate::config::Site;
use crate::ctl::Report;
use crate::{reexec, verbs};

/// Longest until both hosts are connected again.
const RECONNECTED: Duration = Duration::from_secs(30);
/// Exit code: the daemon says nothing of the resource.
const NOTHING_SAID: u8 = 20;

/// Runs it; `grow` asks the daemon, and ends when the device has grown.
pub(crate) fn run(site: &Site, name: &str, grow: impl FnOnce() -> u8) -> u8 {
    let report = match look(site, name).and_then(|report| prepare(site, name, report)) {
        Ok(report) => report,
        Err(code) => return code,
    };
    let Some(status) = &report.status else { return verbs::not_up(&report) };
    if is_the_peers_business(status) {
        println!("{}", ready(name, status));
        return 0;
    }
    let code = grow();
    if code != 0 { code } else { told(site, name) }
}

/// Has the daemon look at its disk, if that has grown: it does when it starts. Its device goes on meanwhile.
fn prepare(site: &Site, name: &str, report: Report) -> Result<Report, u8> {
    if usable_kib(&report).is_none_or(|kib| kib <= capacity_kib(&report)) {
        return Ok(report);
    }
    let mut code = reexec::run(site);
    if code == 0 {
        code = verbs::in_sync(site, name, RECONNECTED);
    }
    if code == 0 { look(site, name) } else { Err(code) }
}

fn look(site: &Site, name: &str) -> Result<Report, u8> {
    verbs::reports(site, name)?.into_iter().next().ok_or(NOTHING_SAID)
}

/// What the disk would hold besides its metadata now.
fn usable_kib(report: &Report) -> Option<u64> {
    let mut disk = fs::File::open(&report.backing_dev).ok()?;
    let bytes = std::io::Seek::seek(&mut disk, std::io::SeekFrom::End(0)).ok()?;
    Layout::for_device(bytes).ok().map(|layout| layout.data_bytes / 1024)
}

fn capacity_kib(report: &Report) -> u64 {
    report.status.as_ref().map_or(0, |status| status.device.capacity_kib)
}

/// The size is changed where writes can be made to wait.
fn is_the_peers_business(status: &Status) -> bool {
    status.role != Role::Primary && (status.managed.is_some() || status.connection.peer_role == Role::Primary)
}

fn ready(name: &str, status: &Status) -> String {
    format!(
        "{name}: the disk here has room for {} KiB, the device has {} KiB. When both disks are enlarged: futago replica resize {name} on {}",
        status.device.capacity_kib, status.device.size_kib, status.connection.name
    )
}

/// The device has grown, and the system sees it.
fn told(site: &Site, name: &str) -> u8 {
    let status = match look(site, name) {
        Ok(Report { status: Some(status), .. }) => status,
        Ok(report) => return verbs::not_up(&report),
        Err(code) => return code,
    };
    let (kib, minor) = (status.device.size_kib, status.device.minor);
    println!(
        "{name}: the device has {kib} KiB now. The file system on it does not know yet: resize2fs /dev/drbd{minor} (ext4), xfs_growfs MOUNTPOINT (XFS)"
    );
    0
}
