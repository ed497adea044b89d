//! The article's story: a file on a mirrored disk, moved by hand, through a power cut and back.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use super::story::{Step, Story, step};
use crate::layout::{Host, PAIR};
use crate::power;
use crate::stage::{self, Stage, Status};
use crate::up::{self, Wish};
use crate::wait;

/// The whole story.
pub(super) const STEPS: [Step; 16] = [
    step("boot two bare hosts", boot),
    step("make them a replicating pair: futago apply", apply),
    step("apply again: nothing changes", apply_again),
    step("both disks are UpToDate", both_up_to_date),
    step("ha-a: mount the device and make a file", make_a_file),
    step("ha-a: a mounted Primary refuses to become Secondary", refuse_secondary),
    step("ha-a: unmount and become Secondary", hand_over),
    step("ha-b: fetch everything anew; not Primary before it is done", watch_a_sync),
    step("ha-b: become Primary; the file is there", take_over_in_order),
    step("ha-b: touch the file", touch_the_file),
    step("ha-b: power cut; ha-a notices", cut_power),
    step("ha-a: become Primary; the newer time stamp is there", take_over_after_power_cut),
    step("ha-a: write while ha-b is off", write_alone),
    step("ha-b: boot; only what changed is sent", return_and_resync),
    step("both disks are UpToDate again", both_up_to_date),
    step("ha-b: become Primary; what ha-a wrote is there", read_what_was_written_alone),
];

const A: &Host = &PAIR[0];
const B: &Host = &PAIR[1];
const FILE: &str = "/mnt/file";
/// What ha-a writes alone.
const DATA_MIB: u32 = 8;
/// For states that follow from a message between the hosts, or from a missing one.
const SOON: Duration = Duration::from_secs(30);
/// For a whole sync of the disk.
const SYNC: Duration = Duration::from_secs(300);

fn boot(story: &mut Story) -> anyhow::Result<()> {
    boot_bare(&story.stage, &Wish::default())
}

/// Boots the hosts and makes sure that nothing of ours is on them.
pub(super) fn boot_bare(stage: &Stage, wish: &Wish) -> anyhow::Result<()> {
    up::up(&stage.lab, wish, &stage.interrupt)?;
    for host in [A, B] {
        let name = stage.shell(host, "uname -n")?;
        ensure!(name == host.fqdn, "{} calls itself {name}", host.name);
        let bare = stage.quietly(host, "! test -e /dev/vdb1 && ! test -e /usr/local/sbin/futago")?;
        ensure!(bare.ok, "{} is not bare", host.name);
    }
    Ok(())
}

fn apply(story: &mut Story) -> anyhow::Result<()> {
    story.stage.provision("apply", &[])?;
    for host in [A, B] {
        story.stage.shell(host, "systemctl is-active futago-replicad")?;
    }
    Ok(())
}

pub(super) fn apply_again(story: &mut Story) -> anyhow::Result<()> {
    stage::nothing_changed(&story.stage.provision("apply", &[])?)
}

fn both_up_to_date(story: &mut Story) -> anyhow::Result<()> {
    for host in [A, B] {
        story.stage.until(host, "both disks are UpToDate", SYNC, Status::is_in_sync)?;
    }
    Ok(())
}

fn make_a_file(story: &mut Story) -> anyhow::Result<()> {
    if story.stage.status(A)?.role() != "Primary" {
        story.stage.shell(A, "futago replica primary r0")?;
    }
    let kind = story.stage.shell(A, "blkid --output value --match-tag TYPE /dev/drbd1")?;
    ensure!(kind == "ext4", "/dev/drbd1 holds {kind:?} instead of ext4");
    story.stage.shell(A, "mount /dev/drbd1 /mnt")?;
    story.stage.shell(A, &format!("touch {FILE}"))?;
    story.stage.shell(A, &format!("ls -l {FILE}"))?;
    Ok(())
}

fn refuse_secondary(story: &mut Story) -> anyhow::Result<()> {
    let said = story.stage.try_shell(A, "futago replica secondary r0")?;
    ensure!(!said.ok, "a mounted Primary has become Secondary");
    ensure!(said.text.contains("/mnt"), "the refusal does not say who holds the device: {}", said.text);
    ensure!(story.stage.status(A)?.role() == "Primary", "the refusal has changed the role");
    Ok(())
}

fn hand_over(story: &mut Story) -> anyhow::Result<()> {
    story.stage.shell(A, "umount /mnt")?;
    story.stage.shell(A, "futago replica secondary r0")?;
    story.stage.until(A, "role:Secondary", SOON, |status| status.role() == "Secondary")?;
    Ok(())
}

/// What is the same on both disks is not sent: so one of them is made another one first.
fn watch_a_sync(story: &mut Story) -> anyhow::Result<()> {
    story.stage.shell(B, "dd if=/dev/urandom of=/dev/vdb1 bs=1M count=600 oflag=direct status=none")?;
    story.stage.shell(B, "futago replica invalidate r0")?;
    let said = story.stage.try_shell(B, "futago replica primary r0")?;
    ensure!(!said.ok, "ha-b became Primary while its disk is inconsistent");
    let seen_midway = Cell::new(false);
    let shown = Cell::new(-1.0);
    let finished = wait::until(SYNC, &story.stage.interrupt, || {
        let status = story.stage.status(B)?;
        let percent = status.percent_in_sync()?;
        if status.replication() == "SyncTarget" {
            seen_midway.set(seen_midway.get() || (percent > 0.0 && percent < 100.0));
            if percent - shown.get() >= 10.0 {
                shown.set(percent);
                let (disk, peer) = (status.disk(), status.peer_disk());
                eprintln!("ha-b: replication:SyncTarget disk:{disk} peer-disk:{peer} done:{percent:.2}");
            }
        }
        Ok(status.is_in_sync().then_some(()))
    });
    finished.context("wait until ha-b has everything")?;
    ensure!(seen_midway.get(), "the sync was never seen on its way");
    story.stage.shell(B, "futago replica status r0")?;
    Ok(())
}

fn take_over_in_order(story: &mut Story) -> anyhow::Result<()> {
    story.stage.shell(B, "futago replica primary r0")?;
    story.stage.shell(B, "mount /dev/drbd1 /mnt")?;
    story.stage.shell(B, &format!("ls -l {FILE}"))?;
    Ok(())
}

fn touch_the_file(story: &mut Story) -> anyhow::Result<()> {
    let before = time_stamp(&story.stage, B)?;
    story.stage.shell(B, &format!("touch {FILE} && sync"))?;
    story.stage.shell(B, &format!("ls -l --time-style=full-iso {FILE}"))?;
    story.stamp = time_stamp(&story.stage, B)?;
    ensure!(story.stamp != before, "the time stamp has not changed");
    Ok(())
}

fn time_stamp(stage: &Stage, host: &Host) -> anyhow::Result<String> {
    let said = stage.quietly(host, &format!("stat --format=%y {FILE}"))?;
    ensure!(said.ok, "read the time stamp of {FILE} on {}: {}", host.name, said.text);
    Ok(said.text)
}

fn cut_power(story: &mut Story) -> anyhow::Result<()> {
    eprintln!("# futago lab power-off ha-b --name {}", story.stage.lab);
    let lock = up::lock(&story.stage.lab, &story.stage.interrupt)?;
    power::cut(&story.stage.lab, B, &story.stage.hierarchies)?;
    drop(lock);
    story.stage.until(A, "connection:Connecting", SOON, |status| status.connection() == "Connecting")?;
    Ok(())
}

fn take_over_after_power_cut(story: &mut Story) -> anyhow::Result<()> {
    story.stage.shell(A, "futago replica primary r0")?;
    story.stage.shell(A, "mount /dev/drbd1 /mnt")?;
    story.stage.shell(A, "ls -l --time-style=full-iso /mnt")?;
    let found = time_stamp(&story.stage, A)?;
    ensure!(found == story.stamp, "ha-a has the time stamp {found}, but ha-b wrote {}", story.stamp);
    Ok(())
}

fn write_alone(story: &mut Story) -> anyhow::Result<()> {
    story.stage.shell(A, &format!("rm {FILE}"))?;
    story.stage.shell(A, &format!("head --bytes={DATA_MIB}M /dev/urandom > /mnt/data && sync"))?;
    story.checksum = story.stage.shell(A, "sha256sum < /mnt/data")?;
    let lacking = story.stage.status(A)?.out_of_sync_kib()?;
    eprintln!("ha-b lacks {lacking} KiB");
    ensure!(lacking >= f64::from(DATA_MIB * 1024), "ha-b lacks only {lacking} KiB of what was written");
    Ok(())
}

fn return_and_resync(story: &mut Story) -> anyhow::Result<()> {
    eprintln!("# futago lab power-on ha-b --name {}", story.stage.lab);
    up::power_on(&story.stage.lab, B, &story.stage.hierarchies, &story.stage.interrupt)?;
    story.stage.shell(B, "systemctl start futago-replicad")?;
    story.stage.try_shell(B, "futago replica status r0")?;
    let status = story.stage.until(B, "both disks are UpToDate", SYNC, Status::is_in_sync)?;
    let (received, size) = (status.received_kib()?, status.size_kib()?);
    eprintln!("ha-b received {received} of {size} KiB");
    ensure!(received >= f64::from(DATA_MIB * 1024), "ha-b received less than it lacked");
    ensure!(received < size / 4.0, "ha-b received {received} of {size} KiB: more than what changed");
    Ok(())
}

fn read_what_was_written_alone(story: &mut Story) -> anyhow::Result<()> {
    story.stage.shell(A, "umount /mnt")?;
    story.stage.shell(A, "futago replica secondary r0")?;
    story.stage.shell(B, "futago replica primary r0")?;
    story.stage.shell(B, "mount /dev/drbd1 /mnt")?;
    story.stage.shell(B, "ls -l /mnt")?;
    let found = story.stage.shell(B, "sha256sum < /mnt/data")?;
    if found != story.checksum {
        bail!("what ha-a wrote reads differently on ha-b");
    }
    ensure!(
        !story.stage.quietly(B, &format!("test -e {FILE}"))?.ok,
        "the file that ha-a removed is still there"
    );
    story.stage.shell(B, "umount /mnt && futago replica secondary r0")?;
    story.stage.shell(A, "futago replica primary r0")?;
    Ok(())
}
