//! The steps of the story, in order. Each shows something and proves it, or fails.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use super::stage::Stage;
use crate::layout::{Host, PAIR};
use crate::power;
use crate::up::{self, Wish};
use crate::wait;

/// A step: what it shows, and how.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) perform: fn(&mut Stage) -> anyhow::Result<()>,
}

const fn step(name: &'static str, perform: fn(&mut Stage) -> anyhow::Result<()>) -> Step {
    Step { name, perform }
}

/// The whole story.
pub(crate) const STEPS: [Step; 16] = [
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

/// The last step, done whatever came before.
pub(crate) const TAKE_DOWN: &str = "take the lab down; nothing is left";

const A: &Host = &PAIR[0];
const B: &Host = &PAIR[1];
const FILE: &str = "/mnt/file";
/// What ha-a writes alone.
const DATA_MIB: u32 = 8;
/// For states that follow from a message between the hosts, or from a missing one.
const SOON: Duration = Duration::from_secs(30);
/// For a whole sync of the disk.
const SYNC: Duration = Duration::from_secs(300);

fn boot(stage: &mut Stage) -> anyhow::Result<()> {
    up::up(&stage.lab, &Wish::default(), &stage.interrupt)?;
    for host in [A, B] {
        let name = stage.shell(host, "uname -n")?;
        ensure!(name == host.fqdn, "{} calls itself {name}", host.name);
        let bare = stage.quietly(host, "! test -e /dev/vdb1 && ! test -e /usr/local/sbin/futago")?;
        ensure!(bare.ok, "{} is not bare", host.name);
    }
    Ok(())
}

fn apply(stage: &mut Stage) -> anyhow::Result<()> {
    stage.provision("apply")?;
    for host in [A, B] {
        stage.shell(host, "systemctl is-active futago-replicad")?;
    }
    Ok(())
}

fn apply_again(stage: &mut Stage) -> anyhow::Result<()> {
    let said = stage.provision("apply")?;
    for host in [A, B] {
        let recap = said.lines().find(|line| line.starts_with(host.name) && line.contains(" changed="));
        let recap = recap.with_context(|| format!("the recap has no line for {}", host.name))?;
        ensure!(
            recap.contains(" changed=0 ") && recap.contains(" failed=0 "),
            "not without changes: {recap}"
        );
    }
    Ok(())
}

fn both_up_to_date(stage: &mut Stage) -> anyhow::Result<()> {
    for host in [A, B] {
        stage.until(host, "both disks are UpToDate", SYNC, super::stage::Status::is_in_sync)?;
    }
    Ok(())
}

fn make_a_file(stage: &mut Stage) -> anyhow::Result<()> {
    if stage.status(A)?.role() != "Primary" {
        stage.shell(A, "futago replica primary r0")?;
    }
    let kind = stage.shell(A, "blkid --output value --match-tag TYPE /dev/drbd1")?;
    ensure!(kind == "ext4", "/dev/drbd1 holds {kind:?} instead of ext4");
    stage.shell(A, "mount /dev/drbd1 /mnt")?;
    stage.shell(A, &format!("touch {FILE}"))?;
    stage.shell(A, &format!("ls -l {FILE}"))?;
    Ok(())
}

fn refuse_secondary(stage: &mut Stage) -> anyhow::Result<()> {
    let said = stage.try_shell(A, "futago replica secondary r0")?;
    ensure!(!said.ok, "a mounted Primary has become Secondary");
    ensure!(said.text.contains("/mnt"), "the refusal does not say who holds the device: {}", said.text);
    ensure!(stage.status(A)?.role() == "Primary", "the refusal has changed the role");
    Ok(())
}

fn hand_over(stage: &mut Stage) -> anyhow::Result<()> {
    stage.shell(A, "umount /mnt")?;
    stage.shell(A, "futago replica secondary r0")?;
    stage.until(A, "role:Secondary", SOON, |status| status.role() == "Secondary")?;
    Ok(())
}

fn watch_a_sync(stage: &mut Stage) -> anyhow::Result<()> {
    stage.shell(B, "futago replica invalidate r0")?;
    let said = stage.try_shell(B, "futago replica primary r0")?;
    ensure!(!said.ok, "ha-b became Primary while its disk is inconsistent");
    let seen_midway = Cell::new(false);
    let shown = Cell::new(-1.0);
    let finished = wait::until(SYNC, &stage.interrupt, || {
        let status = stage.status(B)?;
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
    stage.shell(B, "futago replica status r0")?;
    Ok(())
}

fn take_over_in_order(stage: &mut Stage) -> anyhow::Result<()> {
    stage.shell(B, "futago replica primary r0")?;
    stage.shell(B, "mount /dev/drbd1 /mnt")?;
    stage.shell(B, &format!("ls -l {FILE}"))?;
    Ok(())
}

fn touch_the_file(stage: &mut Stage) -> anyhow::Result<()> {
    let before = time_stamp(stage, B)?;
    stage.shell(B, &format!("touch {FILE} && sync"))?;
    stage.shell(B, &format!("ls -l --time-style=full-iso {FILE}"))?;
    stage.stamp = time_stamp(stage, B)?;
    ensure!(stage.stamp != before, "the time stamp has not changed");
    Ok(())
}

fn time_stamp(stage: &Stage, host: &Host) -> anyhow::Result<String> {
    let said = stage.quietly(host, &format!("stat --format=%y {FILE}"))?;
    ensure!(said.ok, "read the time stamp of {FILE} on {}: {}", host.name, said.text);
    Ok(said.text)
}

fn cut_power(stage: &mut Stage) -> anyhow::Result<()> {
    eprintln!("# futago lab power-off ha-b --name {}", stage.lab);
    let lock = up::lock(&stage.lab, &stage.interrupt)?;
    power::cut(&stage.lab, B, &stage.hierarchies)?;
    drop(lock);
    stage.until(A, "connection:Connecting", SOON, |status| status.connection() == "Connecting")?;
    Ok(())
}

fn take_over_after_power_cut(stage: &mut Stage) -> anyhow::Result<()> {
    stage.shell(A, "futago replica primary r0")?;
    stage.shell(A, "mount /dev/drbd1 /mnt")?;
    stage.shell(A, "ls -l --time-style=full-iso /mnt")?;
    let found = time_stamp(stage, A)?;
    ensure!(found == stage.stamp, "ha-a has the time stamp {found}, but ha-b wrote {}", stage.stamp);
    Ok(())
}

fn write_alone(stage: &mut Stage) -> anyhow::Result<()> {
    stage.shell(A, &format!("rm {FILE}"))?;
    stage.shell(A, &format!("head --bytes={DATA_MIB}M /dev/urandom > /mnt/data && sync"))?;
    stage.checksum = stage.shell(A, "sha256sum < /mnt/data")?;
    let lacking = stage.status(A)?.out_of_sync_kib()?;
    eprintln!("ha-b lacks {lacking} KiB");
    ensure!(lacking >= f64::from(DATA_MIB * 1024), "ha-b lacks only {lacking} KiB of what was written");
    Ok(())
}

fn return_and_resync(stage: &mut Stage) -> anyhow::Result<()> {
    eprintln!("# futago lab power-on ha-b --name {}", stage.lab);
    up::power_on(&stage.lab, B, &stage.hierarchies, &stage.interrupt)?;
    stage.shell(B, "systemctl start futago-replicad")?;
    stage.try_shell(B, "futago replica status r0")?;
    let status = stage.until(B, "both disks are UpToDate", SYNC, super::stage::Status::is_in_sync)?;
    let (received, size) = (status.received_kib()?, status.size_kib()?);
    eprintln!("ha-b received {received} of {size} KiB");
    ensure!(received >= f64::from(DATA_MIB * 1024), "ha-b received less than it lacked");
    ensure!(received < size / 4.0, "ha-b received {received} of {size} KiB: more than what changed");
    Ok(())
}

fn read_what_was_written_alone(stage: &mut Stage) -> anyhow::Result<()> {
    stage.shell(A, "umount /mnt")?;
    stage.shell(A, "futago replica secondary r0")?;
    stage.shell(B, "futago replica primary r0")?;
    stage.shell(B, "mount /dev/drbd1 /mnt")?;
    stage.shell(B, "ls -l /mnt")?;
    let found = stage.shell(B, "sha256sum < /mnt/data")?;
    if found != stage.checksum {
        bail!("what ha-a wrote reads differently on ha-b");
    }
    ensure!(!stage.quietly(B, &format!("test -e {FILE}"))?.ok, "the file that ha-a removed is still there");
    stage.shell(B, "umount /mnt && futago replica secondary r0")?;
    stage.shell(A, "futago replica primary r0")?;
    Ok(())
}
