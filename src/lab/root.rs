//! One host's own system: the image with the host's name, identity, keys and addresses on top.
//!
//! The image is not copied: what a host changes lies in a layer of its own (overlayfs) above the image, which
//! all hosts share and none can change. Where the file system below cannot carry such a layer, it is copied.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::child;
use crate::image::{self, Image};
use crate::interrupt::Interrupt;
use crate::layout::{Host, Lab, PREFIX_BITS, Segment};

/// Copying some 200 MB on a busy machine.
const COPY: Duration = Duration::from_secs(120);
/// Where the machine's device nodes show up inside a host, read-only.
pub(crate) const DEVICES: &str = "/run/devices";
/// The name under which hosts see their second disk.
pub(crate) const SECOND_DISK: &str = "/dev/vdb";
/// Partitions of the second disk that get a name.
const PARTITIONS: u32 = 4;

/// Folders of a host that get files of its own, with the permissions they have in Debian: those of the upper
/// layer count.
const FOLDERS: [(&str, u32); 8] = [
    ("", 0o755),
    ("etc", 0o755),
    ("etc/ssh", 0o755),
    ("etc/systemd", 0o755),
    ("etc/systemd/network", 0o755),
    ("etc/tmpfiles.d", 0o755),
    ("root", 0o700),
    ("root/.ssh", 0o700),
];

/// Makes this host's own system over the image. `authorized` is the public key that may log in as root.
pub(crate) fn create(
    lab: &Lab,
    host: &Host,
    image: &Image,
    authorized: &str,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let root = lab.root(host);
    for folder in [&root, &lab.work(host), &lab.merged(host)] {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    if let Err(error) = try_layer(lab, host, image) {
        eprintln!("{}: copying the image, because layers do not work here: {error:#}", host.name);
        image::remove(&lab.work(host))?;
        let mut copy = child::program("cp");
        copy.args(["--archive", "--reflink=auto", "--no-target-directory"]).arg(&image.root).arg(&root);
        child::run_for(&mut copy, "", COPY, interrupt)
            .with_context(|| format!("copy the image for {}", host.name))?;
    }
    for (folder, mode) in FOLDERS {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        set_mode(&folder, mode)?;
    }
    write(&root, "etc/hostname", &format!("{}\n", host.fqdn), 0o644)?;
    write(&root, "etc/machine-id", &format!("{}\n", lab.machine_id(host)), 0o444)?;
    write(&root, "root/.ssh/authorized_keys", authorized, 0o600)?;
    write(&root, "etc/systemd/network/10-public.network", &network(Segment::Public, host.public), 0o644)?;
    if let Some(local) = host.local {
        write(&root, "etc/systemd/network/10-local.network", &network(Segment::Local, local), 0o644)?;
    }
    host_key(&root, host)
}

/// The script that starts a container: it mounts the host's root where only the container sees it, so that
/// nothing has to be unmounted after whatever end, and becomes what follows `--`.
///
/// Its arguments before `--` are those of mount(8), none when the root is a copy.
pub(crate) const MOUNT: &str = "set -e; if [ \"$1\" != -- ]; then mount \"$1\" \"$2\" \"$3\" \"$4\" \"$5\" \"$6\"; shift 6; fi; shift; exec \"$@\"";

/// Clears the mark of a volatile layer that was in use, which forbids to use it again.
///
/// A volatile layer never waits for the machine's disk: not when a host calls fsync, and not when its root is
/// unmounted, which would otherwise sync the machine's whole file system. The mark guards against a crash of
/// the machine meanwhile; a lab does not outlive that.
pub(crate) fn reuse_layer(lab: &Lab, host: &Host) -> anyhow::Result<()> {
    image::remove(&lab.work(host).join("work/incompat"))
}

/// Where the host's root is found once the container is being started, and the arguments for [`MOUNT`].
pub(crate) fn mounted(lab: &Lab, host: &Host, image: &Image) -> (PathBuf, Vec<String>) {
    let work = lab.work(host);
    if !work.exists() {
        return (lab.root(host), Vec::new());
    }
    let merged = lab.merged(host);
    let (lower, upper) = (image.root.display(), lab.root(host));
    let options =
        format!("volatile,lowerdir={lower},upperdir={},workdir={}", upper.display(), work.display());
    let words =
        ["-t", "overlay", "-o", &options, "overlay", &merged.display().to_string()].map(str::to_owned);
    (merged, words.into())
}

fn try_layer(lab: &Lab, host: &Host, image: &Image) -> anyhow::Result<()> {
    let (_, mount) = mounted(lab, host, image);
    let mut command = child::program("unshare");
    command.args(["--mount", "mount"]).args(mount);
    child::run(&mut command)?;
    Ok(())
}

/// The host's public key as in known_hosts, without the names: `ssh-ed25519 AAAA…`.
pub(crate) fn public_host_key(root: &Path) -> anyhow::Result<String> {
    let path = root.join("etc/ssh/ssh_host_ed25519_key.pub");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}

/// Gives the second disk's partitions their names for the next boot.
///
/// The names are links to the nodes that the kernel itself keeps in its device file system: they lead nowhere
/// until the partition exists and are right the instant it does, so no helper has to watch.
pub(crate) fn name_partitions(root: &Path, loop_number: u32) -> anyhow::Result<()> {
    let line = |n| format!("L {SECOND_DISK}{n} - - - - {DEVICES}/loop{loop_number}p{n}\n");
    let text: String = (1..=PARTITIONS).map(line).collect();
    write(root, "etc/tmpfiles.d/futago-lab.conf", &text, 0o644)
}

/// Makes the host's key on this side, so that it is known before the host is first spoken to.
fn host_key(root: &Path, host: &Host) -> anyhow::Result<()> {
    key(&root.join("etc/ssh/ssh_host_ed25519_key"), &format!("root@{}", host.fqdn))
}

/// Makes a key pair without a passphrase.
pub(crate) fn key(path: &Path, comment: &str) -> anyhow::Result<()> {
    let mut command = child::program("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(path);
    child::run(&mut command).with_context(|| format!("make key {}", path.display())).map(drop)
}

fn network(segment: Segment, address: std::net::Ipv4Addr) -> String {
    format!(
        "[Match]\nName={}\n\n[Network]\nAddress={address}/{PREFIX_BITS}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
        segment.interface()
    )
}

fn write(root: &Path, place: &str, text: &str, mode: u32) -> anyhow::Result<()> {
    let path = root.join(place);
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    set_mode(&path, mode)
}

fn set_mode(path: &Path, mode: u32) -> anyhow::Result<()> {
    let set = fs::set_permissions(path, fs::Permissions::from_mode(mode));
    set.with_context(|| format!("set permissions of {}", path.display()))
}
