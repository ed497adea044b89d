//! What the lab needs from the machine: root, and a few Debian packages, which it installs after saying so.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::child;
use crate::interrupt::Interrupt;
use crate::sources;

/// A program the lab runs, the package that has it, and what for.
struct Tool {
    program: &'static str,
    package: &'static str,
    purpose: &'static str,
}

const fn tool(program: &'static str, package: &'static str, purpose: &'static str) -> Tool {
    Tool { program, package, purpose }
}

const TOOLS: [Tool; 9] = [
    tool("systemd-nspawn", "systemd-container", "run the hosts"),
    tool("mmdebstrap", "mmdebstrap", "build the hosts' image"),
    tool("ssh", "openssh-client", "log in to the hosts"),
    tool("ssh-keygen", "openssh-client", "make the hosts' keys"),
    tool("ip", "iproute2", "make their network"),
    tool("nft", "nftables", "cut their links"),
    tool("nsenter", "util-linux", "enter the hosts"),
    tool("partx", "util-linux", "read the disks' partitions"),
    tool("dpkg-deb", "dpkg", "index the hosts' packages"),
];

/// For downloading and unpacking a handful of small packages.
const INSTALL: Duration = Duration::from_secs(600);

/// An error unless the process is root's.
pub(crate) fn root() -> anyhow::Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    bail!("the lab needs root: it makes network namespaces, loop devices and containers; run it with sudo")
}

/// Installs what is missing, saying first what and why.
pub(crate) fn install(interrupt: &Interrupt) -> anyhow::Result<()> {
    let missing: Vec<&Tool> = TOOLS.iter().filter(|tool| !is_there(tool.program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    packages.dedup();
    let why: Vec<&str> = missing.iter().map(|tool| tool.purpose).collect();
    eprintln!("apt-get install {}: needed to {}", packages.join(" "), why.join(", "));
    if !is_there("apt-get") {
        bail!(
            "install {}: there is no apt-get on this machine; install them by other means",
            packages.join(" ")
        );
    }
    if let Err(first) = install_packages(&packages, interrupt) {
        interrupt.check()?;
        // Lists that are missing or out of date are the usual cause.
        sources::update(interrupt);
        let again = install_packages(&packages, interrupt);
        again.with_context(|| format!("install {} (the first attempt said: {first})", packages.join(" ")))?;
    }
    Ok(())
}

fn install_packages(packages: &[&str], interrupt: &Interrupt) -> Result<(), child::ChildError> {
    let mut command = child::program("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command.args(["--yes", "--quiet", "--no-install-recommends", "-oDPkg::Lock::Timeout=120", "install"]);
    child::run_for(command.args(packages), "", INSTALL, interrupt).map(drop)
}

fn is_there(program: &str) -> bool {
    child::PLACES.iter().any(|place| Path::new(place).join(program).exists())
}
