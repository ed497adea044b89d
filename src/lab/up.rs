//! Brings a lab up: all of it, or nothing.

use std::fs;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::child;
use crate::control_group::{self, Hierarchies};
use crate::disk;
use crate::files;
use crate::host;
use crate::image::{self, Image};
use crate::interrupt::Interrupt;
use crate::layout::{Host, Lab, PAIR};
use crate::lock::{self, Lock};
use crate::network;
use crate::packages;
use crate::power::{self, Keep};
use crate::record::Record;
use crate::requirements;
use crate::root;
use crate::sources;

/// Size of the second disks unless said otherwise.
pub(crate) const DISK_BYTES: u64 = 1 << 30;
/// How long another command may keep a lab for itself: an `up` that builds the image takes longest.
const BUSY: Duration = Duration::from_secs(1800);
/// For apt-get to read the lists of a local repository.
const UPDATE: Duration = Duration::from_secs(60);

/// What the lab shall be like; what is not said is as the lab already is, or else the default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    pub(crate) suite: Option<String>,
    pub(crate) witness: bool,
    pub(crate) disk_bytes: Option<u64>,
}

/// Keeps other commands from changing the lab.
pub(crate) fn lock(lab: &Lab, interrupt: &Interrupt) -> anyhow::Result<Lock> {
    lock::take(&lab.lock(), BUSY, &format!("another command is changing lab `{lab}`"), interrupt)
}

/// Brings the lab up and returns when every host has booted. On failure, and when interrupted, what this call
/// made is gone again.
pub(crate) fn up(lab: &Lab, wish: &Wish, interrupt: &Interrupt) -> anyhow::Result<()> {
    requirements::install(interrupt)?;
    let hierarchies = control_group::hierarchies()?;
    let lock = lock(lab, interrupt)?;
    let existing = Record::load(lab)?.filter(|record| record.complete);
    match existing {
        Some(record) => again(lab, wish, &record, &hierarchies, interrupt),
        None => {
            let made = fresh(lab, wish, &hierarchies, interrupt);
            undo(lab, made, Keep::Nothing, &hierarchies).inspect_err(|_| lock.retire())
        }
    }
}

/// Takes back what a failed start left, and adds to the error what could not be taken back.
fn undo(lab: &Lab, made: anyhow::Result<()>, keep: Keep, hierarchies: &Hierarchies) -> anyhow::Result<()> {
    let Err(error) = made else { return Ok(()) };
    eprintln!("cleaning up");
    match power::down(lab, keep, hierarchies) {
        Ok(()) => Err(error),
        Err(left) => Err(error.context(format!("cleaning up failed too: {left:#}"))),
    }
}

fn fresh(lab: &Lab, wish: &Wish, hierarchies: &Hierarchies, interrupt: &Interrupt) -> anyhow::Result<()> {
    // Remains of an `up` that was killed.
    power::down(lab, Keep::Nothing, hierarchies)?;
    let sources = sources::find(wish.suite.as_deref(), interrupt)?;
    let image = image::ensure(&sources, interrupt)?;
    let mut record = Record {
        complete: false,
        disk_bytes: wish.disk_bytes.unwrap_or(DISK_BYTES),
        image: image.hash.clone(),
        suite: sources.suite,
        witness: wish.witness,
    };
    let started = Instant::now();
    let hosts = record.hosts();
    fs::create_dir_all(lab.folder()).with_context(|| format!("create {}", lab.folder().display()))?;
    record.save(lab)?;
    let authorized = files::identity(lab)?;
    for host in &hosts {
        make(lab, host, &image, record.disk_bytes, &authorized, interrupt)?;
    }
    files::write_inventory(lab, &record)?;
    files::write_known_hosts(lab, &record)?;
    boot(lab, &hosts, &image, hierarchies, interrupt)?;
    record.complete = true;
    record.save(lab)?;
    eprintln!("lab `{lab}`: up after {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn make(
    lab: &Lab,
    host: &Host,
    image: &Image,
    disk_bytes: u64,
    authorized: &str,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let folder = lab.host_folder(host);
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    root::create(lab, host, image, authorized, interrupt)?;
    if host.has_disk() {
        disk::create(&lab.disk(host), disk_bytes)?;
    }
    Ok(())
}

/// The lab exists: power on what is off.
fn again(
    lab: &Lab,
    wish: &Wish,
    record: &Record,
    hierarchies: &Hierarchies,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    refuse_other(lab, wish, record)?;
    let mut off = Vec::new();
    for host in record.hosts() {
        match host::leader(lab, host, hierarchies)? {
            None => off.push(host),
            // A host that rebooted by itself came back without cables.
            Some(leader) => network::plug(lab, host, leader)?,
        }
    }
    if off.is_empty() {
        eprintln!("lab `{lab}` is already up");
        return Ok(());
    }
    let image = image_of(lab, record)?;
    let names: Vec<&str> = off.iter().map(|host| host.name).collect();
    eprintln!("lab `{lab}` exists: powering on {}", names.join(", "));
    let started = boot(lab, &off, &image, hierarchies, interrupt);
    if off.len() == record.hosts().len() {
        return undo(lab, started, Keep::Disks, hierarchies);
    }
    started.inspect_err(|_| {
        for host in off {
            // The error that matters is the one of the start.
            let _ = power::cut(lab, host, hierarchies);
        }
    })
}

/// Boots one host of a lab that exists; one that is on stays as it is.
pub(crate) fn power_on(
    lab: &Lab,
    host: &'static Host,
    hierarchies: &Hierarchies,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let _lock = lock(lab, interrupt)?;
    let record = existing(lab, host)?;
    if host::leader(lab, host, hierarchies)?.is_some() {
        eprintln!("{} of lab `{lab}` is already on", host.name);
        return Ok(());
    }
    let image = image_of(lab, &record)?;
    boot(lab, &[host], &image, hierarchies, interrupt).inspect_err(|_| {
        // The error that matters is the one of the start.
        let _ = power::cut(lab, host, hierarchies);
    })
}

/// Exchanges a host for a bare one, as after a fire: nothing of it is left, neither its system nor its disk.
pub(crate) fn exchange(
    lab: &Lab,
    host: &'static Host,
    hierarchies: &Hierarchies,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let _lock = lock(lab, interrupt)?;
    let record = existing(lab, host)?;
    let image = image_of(lab, &record)?;
    power::cut(lab, host, hierarchies)?;
    let folder = lab.host_folder(host);
    disk::detach_below(&folder)?;
    image::remove(&folder)?;
    let authorized = files::authorized(lab)?;
    make(lab, host, &image, record.disk_bytes, &authorized, interrupt)?;
    files::write_known_hosts(lab, &record)?;
    boot(lab, &[host], &image, hierarchies, interrupt)
}

/// The record of a lab that exists and has this host.
pub(crate) fn existing(lab: &Lab, host: &Host) -> anyhow::Result<Record> {
    let Some(record) = Record::load(lab)?.filter(|record| record.complete) else {
        bail!("there is no lab `{lab}`; make it: futago lab up --name {lab}");
    };
    if !record.hosts().contains(&host) {
        bail!("lab `{lab}` has no {}: it was not made with --witness", host.name);
    }
    Ok(record)
}

/// Lets every host of a running lab install what only comparisons need, fetching that first if need be.
pub(crate) fn offer_compared(lab: &Lab, interrupt: &Interrupt) -> anyhow::Result<()> {
    let record = existing(lab, &PAIR[0])?;
    let hierarchies = control_group::hierarchies()?;
    let sources = sources::find(Some(&record.suite), interrupt)?;
    packages::compared(&image_of(lab, &record)?, &sources, interrupt)?;
    for host in record.hosts() {
        let mut command = host::inside(host::running(lab, host, &hierarchies)?);
        command.args(["sh", "-c", &packages::compared_source()]);
        child::run_for(&mut command, "", UPDATE, interrupt)
            .with_context(|| format!("tell {} of packages for comparisons", host.name))?;
    }
    Ok(())
}

/// An error unless the lab has a network at the moment.
pub(crate) fn has_network(lab: &Lab) -> anyhow::Result<()> {
    if lab.netns_path().exists() {
        return Ok(());
    }
    bail!("lab `{lab}` is not up; bring it up: futago lab up --name {lab}")
}

fn image_of(lab: &Lab, record: &Record) -> anyhow::Result<Image> {
    image::cached(&record.image).with_context(|| {
        format!(
            "the image that lab `{lab}` was made from is gone from the cache; \
             to start over: futago lab down --purge --name {lab}"
        )
    })
}

fn refuse_other(lab: &Lab, wish: &Wish, record: &Record) -> anyhow::Result<()> {
    let mut differences = Vec::new();
    if wish.suite.as_ref().is_some_and(|suite| *suite != record.suite) {
        differences.push(format!("its hosts run {}", record.suite));
    }
    if wish.disk_bytes.is_some_and(|bytes| bytes != record.disk_bytes) {
        differences.push(format!("its disks have {} MiB", record.disk_bytes >> 20));
    }
    if wish.witness && !record.witness {
        differences.push("it has no witness".to_owned());
    }
    if differences.is_empty() {
        return Ok(());
    }
    bail!(
        "lab `{lab}` exists and is different: {}; take another --name, or start over: \
         futago lab down --purge --name {lab}",
        differences.join(", ")
    )
}

/// Powers hosts on side by side and waits until all have booted.
pub(crate) fn boot(
    lab: &Lab,
    hosts: &[&'static Host],
    image: &Image,
    hierarchies: &Hierarchies,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    network::ensure(lab)?;
    let boot_one = |host: &'static Host| {
        let started = Instant::now();
        // A host that was powered off by its own hand has left something behind.
        power::cut(lab, host, hierarchies)?;
        host::start(lab, host, image, hierarchies, interrupt)?;
        host::ready(lab, host, hierarchies, interrupt)?;
        eprintln!("{}: booted in {:.1} s", host.name, started.elapsed().as_secs_f64());
        Ok(())
    };
    std::thread::scope(|scope| {
        let boots: Vec<_> = hosts.iter().map(|host| scope.spawn(move || boot_one(host))).collect();
        let results: Vec<anyhow::Result<()>> = boots.into_iter().map(result).collect();
        results.into_iter().collect()
    })
}

fn result(boot: ScopedJoinHandle<'_, anyhow::Result<()>>) -> anyhow::Result<()> {
    boot.join().unwrap_or_else(|_| bail!("a thread that boots a host has failed; this is a bug"))
}
