//! The image all hosts start from: a small Debian with systemd and sshd, made once and kept.
//!
//! It is kept under the hash of its recipe, so that another recipe makes another image. It is built under a
//! temporary name and renamed when done, so that what is there is whole; one lock lets one builder at a time.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::child;
use crate::interrupt::Interrupt;
use crate::lock;
use crate::packages;
use crate::sources::Sources;

const CACHE: &str = "/var/cache/futago/images";
/// Bump when what this file does to the image changes.
const REVISION: u32 = 1;
/// What every host has from the start.
const INCLUDE: [&str; 11] = [
    "systemd",
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    "openssh-server",
    "iproute2",
    "iputils-ping",
    "kmod",
    "netbase",
    "procps",
    "ca-certificates",
];
/// Not for hosts without documentation readers: keeps the image, and each host's copy of it, small.
const EXCLUDE: [&str; 3] = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*"];
/// Units that touch the kernel all hosts share, or work at times nobody asked for.
const MASKED: [&str; 12] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "console-getty.service",
    "getty@.service",
    "dev-hugepages.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-networkd-wait-online.service",
];
/// What a machine has and a container lacks: a writable /sys/devices (queue settings of block devices) and the
/// control files of FUSE connections.
const MACHINE_UNIT: &str = "\
[Unit]
Description=What a machine has and a container lacks
DefaultDependencies=no
Before=sysinit.target sys-fs-fuse-connections.mount
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'mount -o remount,rw /sys/devices; \
mount -o remount,rw /sys && mkdir -p /sys/fs/fuse/connections && mount -o remount,ro /sys; \
mount -t fusectl fusectl /sys/fs/fuse/connections'
[Install]
WantedBy=sysinit.target
";
/// Downloads and unpacks some 150 MB.
const BUILD: Duration = Duration::from_secs(1200);

/// An image that is ready for use.
#[derive(Debug)]
pub(crate) struct Image {
    /// The hash of its recipe.
    pub(crate) hash: String,
    /// The root file system to copy.
    pub(crate) root: PathBuf,
    /// The package repository to bind into hosts.
    pub(crate) packages: PathBuf,
}

fn at(hash: &str) -> Image {
    let folder = Path::new(CACHE).join(hash);
    Image { hash: hash.to_owned(), root: folder.join("root"), packages: folder.join("packages") }
}

/// The image of this hash, if it is still there.
pub(crate) fn cached(hash: &str) -> Option<Image> {
    let image = at(hash);
    image.packages.join("Packages").exists().then_some(image)
}

/// Returns the image for these sources, building it when there is none.
pub(crate) fn ensure(sources: &Sources, interrupt: &Interrupt) -> anyhow::Result<Image> {
    let hash = recipe(sources);
    if let Some(image) = cached(&hash) {
        return Ok(image);
    }
    let path = Path::new(CACHE).join("lock");
    let _lock = lock::take(&path, BUILD, "another lab is building the image", interrupt)?;
    if let Some(image) = cached(&hash) {
        return Ok(image);
    }
    let started = Instant::now();
    eprintln!(
        "image: building Debian {} with systemd and sshd, once; this takes about a minute",
        sources.suite
    );
    let building = Path::new(CACHE).join("building");
    remove(&building)?;
    let built = build(&building, sources, interrupt);
    let finished = Path::new(CACHE).join(&hash);
    let kept = built.and_then(|()| {
        remove(&finished)?;
        fs::rename(&building, &finished).with_context(|| format!("rename to {}", finished.display()))
    });
    if kept.is_err() {
        // The error that matters is the one of the build.
        let _ = remove(&building);
    }
    kept.with_context(|| {
        let suite = &sources.suite;
        format!(
            "build the hosts' image of Debian {suite}, from this machine's archives; do they have {suite}?"
        )
    })?;
    eprintln!("image: done in {} s, kept in {}", started.elapsed().as_secs(), finished.display());
    Ok(at(&hash))
}

fn recipe(sources: &Sources) -> String {
    let parts = [
        REVISION.to_string(),
        sources.suite.clone(),
        sources.lines.join("\n"),
        INCLUDE.join(" "),
        EXCLUDE.join(" "),
        MASKED.join(" "),
        MACHINE_UNIT.to_owned(),
        packages::INSTALLABLE.join(" "),
    ];
    let digest = Sha256::digest(parts.join("\0"));
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn build(folder: &Path, sources: &Sources, interrupt: &Interrupt) -> anyhow::Result<()> {
    let root = folder.join("root");
    let repository = folder.join("packages");
    let partial = repository.join("partial");
    fs::create_dir_all(&partial).with_context(|| format!("create {}", partial.display()))?;
    let mut command = child::program("mmdebstrap");
    command.args(["--mode=root", "--variant=minbase", "--format=directory"]);
    command.arg(format!("--include={}", INCLUDE.join(",")));
    command.arg("--aptopt=APT::Install-Recommends \"false\"").arg("--dpkgopt=force-unsafe-io");
    command.args(EXCLUDE.map(|path| format!("--dpkgopt=path-exclude={path}")));
    // The packages for later, with all that they need and the image does not have.
    command.arg(format!(
        "--customize-hook=APT_CONFIG=\"$MMDEBSTRAP_APT_CONFIG\" apt-get --yes --quiet --download-only \
         -oDir::Cache::archives='{}' install {}",
        repository.display(),
        packages::INSTALLABLE.join(" ")
    ));
    command.arg(&sources.suite).arg(&root).arg("-");
    let lines = sources.lines.join("\n") + "\n";
    child::run_for(&mut command, &lines, BUILD, interrupt)?;
    for leftover in [partial, repository.join("lock")] {
        remove(&leftover)?;
    }
    packages::index(&repository)?;
    furnish(&root)
}

/// Makes the system into a host of the lab, as far as all hosts are alike.
fn furnish(root: &Path) -> anyhow::Result<()> {
    let keys = root.join("etc/ssh");
    for entry in fs::read_dir(&keys).with_context(|| format!("list {}", keys.display()))? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ssh_host_")) {
            remove(&path)?;
        }
    }
    for place in ["etc/apt/sources.list.d", "etc/resolv.conf", "etc/machine-id", "var/lib/dbus/machine-id"] {
        remove(&root.join(place))?;
    }
    write(root, "etc/apt/sources.list", &packages::source_line())?;
    write(root, "etc/resolv.conf", "")?;
    write(root, "etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")?;
    write(root, "etc/systemd/system/futago-lab-machine.service", MACHINE_UNIT)?;
    for folder in ["etc/apt/sources.list.d", "var/log/journal", &packages::INSIDE[1..]] {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let units = root.join("etc/systemd/system");
    for unit in MASKED {
        link("/dev/null", &units.join(unit))?;
    }
    link("../futago-lab-machine.service", &units.join("sysinit.target.wants/futago-lab-machine.service"))?;
    let network = "/lib/systemd/system/systemd-networkd.service";
    link(network, &units.join("multi-user.target.wants/systemd-networkd.service"))
}

fn link(target: &str, path: &Path) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    remove(path)?;
    symlink(target, path).with_context(|| format!("link {}", path.display()))
}

fn write(root: &Path, place: &str, text: &str) -> anyhow::Result<()> {
    let path = root.join(place);
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

/// Removes a file or a folder, if it is there.
pub(crate) fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.with_context(|| format!("remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_source_or_suite_makes_another_image() {
        let sources =
            |suite: &str, line: &str| Sources { suite: suite.to_owned(), lines: vec![line.to_owned()] };
        let one = recipe(&sources("bookworm", "deb http://a.invalid bookworm main"));
        assert_eq!(one, recipe(&sources("bookworm", "deb http://a.invalid bookworm main")));
        assert_ne!(one, recipe(&sources("bookworm", "deb http://b.invalid bookworm main")));
        assert_ne!(one, recipe(&sources("trixie", "deb http://a.invalid bookworm main")));
    }
}
