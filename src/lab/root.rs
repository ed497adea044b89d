//! One host's own system: a copy of the image with its name, identity, keys and addresses.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use crate::child;
use crate::image::Image;
use crate::interrupt::Interrupt;
use crate::layout::{Host, Lab, PREFIX_BITS, Segment};

/// Copying some 200 MB.
const COPY: Duration = Duration::from_secs(120);
/// Where the machine's device nodes show up inside a host, read-only.
pub(crate) const DEVICES: &str = "/run/devices";
/// The name under which hosts see their second disk.
pub(crate) const SECOND_DISK: &str = "/dev/vdb";
/// Partitions of the second disk that get a name.
const PARTITIONS: u32 = 4;

/// Copies the image and makes the copy this host. `authorized` is the public key that may log in as root.
pub(crate) fn create(
    lab: &Lab,
    host: &Host,
    image: &Image,
    authorized: &str,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let root = lab.root(host);
    let mut copy = child::program("cp");
    copy.args(["--archive", "--reflink=auto", "--no-target-directory"]).arg(&image.root).arg(&root);
    child::run_for(&mut copy, "", COPY, interrupt)
        .with_context(|| format!("copy the image for {}", host.name))?;
    write(&root, "etc/hostname", &format!("{}\n", host.fqdn), 0o644)?;
    write(&root, "etc/machine-id", &format!("{}\n", lab.machine_id(host)), 0o444)?;
    write(&root, "root/.ssh/authorized_keys", authorized, 0o600)?;
    set_mode(&root.join("root/.ssh"), 0o700)?;
    write(&root, "etc/systemd/network/10-public.network", &network(Segment::Public, host.public), 0o644)?;
    if let Some(local) = host.local {
        write(&root, "etc/systemd/network/10-local.network", &network(Segment::Local, local), 0o644)?;
    }
    host_key(&root, host)
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
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    set_mode(&path, mode)
}

fn set_mode(path: &Path, mode: u32) -> anyhow::Result<()> {
    let set = fs::set_permissions(path, fs::Permissions::from_mode(mode));
    set.with_context(|| format!("set permissions of {}", path.display()))
}
