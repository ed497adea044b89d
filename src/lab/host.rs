//! A running host: a container with systemd as its first process, started without a manager on the machine.
//!
//! A host is found by its control group, never by a remembered process number: what was killed or started
//! anew cannot be mistaken.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::child;
use crate::control_group::Hierarchies;
use crate::disk;
use crate::image::Image;
use crate::interrupt::Interrupt;
use crate::layout::{Host, Lab};
use crate::network;
use crate::packages;
use crate::root;
use crate::wait;

/// From start to the first process of the host.
const APPEAR: Duration = Duration::from_secs(20);
/// From the first process to a booted system with sshd; seconds in practice.
const BOOT: Duration = Duration::from_secs(90);
/// From the booted system to a login by ssh.
const LOGIN: Duration = Duration::from_secs(30);
/// The search path of a root login.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Joins the control groups given up to `--`, then becomes what follows. It ends if a group is gone: then the
/// lab was taken down meanwhile.
const JOIN: &str =
    "set -e; while [ \"$1\" != -- ]; do echo 0 > \"$1/cgroup.procs\"; shift; done; shift; exec \"$@\"";

/// Powers a host on: starts its container and plugs its cables. Returns before it has booted.
pub(crate) fn start(
    lab: &Lab,
    host: &Host,
    image: &Image,
    hierarchies: &Hierarchies,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    root::reuse_layer(lab, host)?;
    let groups = hierarchies.create(&lab.control_group(Some(host)))?;
    let mut extra = vec![format!("--bind-ro={}:{}", image.packages.display(), packages::INSIDE)];
    if host.has_disk() {
        let number = disk::attach(&lab.disk(host))?;
        root::name_partitions(&lab.root(host), number)?;
        extra.push(format!("--bind={}:{}", crate::sys::node(number).display(), root::SECOND_DISK));
    }
    let mut container = spawn(lab, host, image, &groups, &extra)?;
    let appeared = wait::until(APPEAR, interrupt, || {
        if let Some(status) = container.try_wait().context("look at the container")? {
            bail!("the container ended at once ({status})");
        }
        leader(lab, host, hierarchies)
    });
    let leader = appeared.with_context(|| format!("power on {}{}", host.name, console_tail(lab, host)))?;
    network::plug(lab, host, leader)
}

fn spawn(
    lab: &Lab,
    host: &Host,
    image: &Image,
    groups: &[PathBuf],
    extra: &[String],
) -> anyhow::Result<Child> {
    let (root, mount) = root::mounted(lab, host, image);
    let path = lab.console(host);
    let console = fs::File::create(&path).with_context(|| format!("create {}", path.display()))?;
    let errors = console.try_clone().context("share the console")?;
    let mut command = child::program("sh");
    command.args(["-c", JOIN, "join"]).args(groups).arg("--");
    command.arg("nsenter").arg(format!("--net={}", lab.netns_path().display()));
    command.args(["unshare", "--mount", "sh", "-c", root::MOUNT, "mount"]).args(mount).arg("--");
    command.args(["setsid", "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit"]);
    command.args([
        "--settings=no",
        "--private-network",
        "--console=read-only",
        "--capability=all",
        "--link-journal=no",
    ]);
    command.args(["--resolv-conf=off", "--timezone=off", "--bind=/dev/fuse", "--bind=/dev/loop-control"]);
    command.arg(format!("--bind-ro=/dev:{}:norbind", root::DEVICES));
    command.arg(format!("--directory={}", root.display()));
    command.arg(format!("--machine={}", lab.machine(host))).arg(format!("--hostname={}", host.fqdn));
    command.args(extra);
    // The unified hierarchy inside, whatever the machine has outside.
    command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
    command.stdin(Stdio::null()).stdout(console).stderr(errors);
    command.spawn().with_context(|| format!("start the container of {}", host.name))
}

/// The first process of a host, as the machine numbers it; `None` when the host is off or only just starting.
pub(crate) fn leader(lab: &Lab, host: &Host, hierarchies: &Hierarchies) -> anyhow::Result<Option<i32>> {
    let processes = hierarchies.processes(&lab.control_group(Some(host)))?;
    Ok(processes.into_iter().find(|pid| is_first(*pid)))
}

/// The container's first child is its set-up code and becomes `systemd` later: only then it counts.
pub(crate) fn is_first(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let numbers: Vec<&str> = field("NSpid:").unwrap_or_default().split_whitespace().collect();
    numbers.len() > 1 && numbers.last() == Some(&"1") && field("Name:").map(str::trim) == Some("systemd")
}

/// The first process of a host that must be on.
pub(crate) fn running(lab: &Lab, host: &Host, hierarchies: &Hierarchies) -> anyhow::Result<i32> {
    match leader(lab, host, hierarchies)? {
        Some(pid) => Ok(pid),
        None => bail!(
            "{} of lab `{lab}` is off; power it on: futago lab power-on {} --name {lab}",
            host.name,
            host.name
        ),
    }
}

/// A command that will run inside a host, as root, in an environment like that of a login.
pub(crate) fn inside(leader: i32) -> Command {
    let mut command = child::program("nsenter");
    command.arg(format!("--target={leader}"));
    command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]);
    command.args(["--", "env", "--ignore-environment", "--chdir=/root"]);
    command.arg(format!("PATH={PATH}")).args(["HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/bash"]);
    command.args(["LANG=C.UTF-8", "TERM=dumb"]);
    command
}

/// The ssh client with this lab's key and known hosts, in the lab's network, logging in to a host.
pub(crate) fn ssh(lab: &Lab, host: &Host) -> Command {
    let mut command = network::inside(lab, "ssh");
    command.args(["-F", "/dev/null", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes"]);
    command.args(["-o", "GlobalKnownHostsFile=/dev/null", "-o", "ConnectTimeout=5"]);
    command.arg("-o").arg(format!("UserKnownHostsFile={}", lab.known_hosts().display()));
    command.arg("-i").arg(lab.identity()).arg(format!("root@{}", host.public));
    command
}

/// Waits until a host has booted and lets us in by ssh, its key verified.
pub(crate) fn ready(
    lab: &Lab,
    host: &Host,
    hierarchies: &Hierarchies,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + BOOT;
    let booted = wait::until(BOOT, interrupt, || {
        let Some(leader) = leader(lab, host, hierarchies)? else { bail!("it is off again") };
        let mut command = inside(leader);
        command.args(["systemctl", "is-system-running", "--wait"]);
        let left = deadline.saturating_duration_since(Instant::now());
        match child::run_for(&mut command, "", left, interrupt) {
            Ok(_) => Ok(Some(Vec::new())),
            Err(child::ChildError::Interrupted(error)) => Err(error.into()),
            Err(error) if error.to_string().contains("degraded") => failed_units(leader).map(Some),
            Err(_) => Ok(None),
        }
    });
    let failed = booted.with_context(|| format!("boot {}{}", host.name, console_tail(lab, host)))?;
    if !failed.is_empty() {
        eprintln!("{}: booted, but these units failed: {}", host.name, failed.join(" "));
    }
    let mut refusal = String::new();
    let answered = wait::until(LOGIN, interrupt, || {
        let mut command = ssh(lab, host);
        match child::run(command.args(["-o", "BatchMode=yes", "true"])) {
            Ok(_) => Ok(Some(())),
            Err(error) => {
                refusal = error.to_string();
                Ok(None)
            }
        }
    });
    answered.with_context(|| format!("log in to {}: {refusal}", host.name))
}

fn failed_units(leader: i32) -> anyhow::Result<Vec<String>> {
    let mut command = inside(leader);
    command.args(["systemctl", "list-units", "--failed", "--plain", "--no-legend"]);
    let output = child::run(&mut command)?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

fn console_tail(lab: &Lab, host: &Host) -> String {
    let path = lab.console(host);
    let bytes = fs::read(&path).unwrap_or_default();
    format!(
        "; its console, {}, ends with:{}",
        path.display(),
        child::last_lines(&String::from_utf8_lossy(&bytes))
    )
}
