//! Debian's GlusterFS as its documentation gives it to a beginner for two hosts: a volume `replica 2` over the local
//! segment, its bricks on XFS, mounted by its own client. Only its write-behind is off, so that a write is answered when
//! both bricks have it, as here.

use std::time::Duration;

use crate::layout::PAIR;
use crate::stage::Stage;
use crate::up::{self, Wish};
use crate::wait;

/// For apt-get with a local repository.
const INSTALL: Duration = Duration::from_secs(300);
/// For the hosts to find each other.
const FORM: Duration = Duration::from_secs(60);

/// The file that is written to instead of a device.
pub(super) const FILE: &str = "/mnt/volume/file";
/// What brings a host's brick to its disk.
pub(super) const SETTLE: &str = "sync --file-system /srv/brick";
/// Its programs on each host.
pub(super) const PROGRAMS: &str = "glusterd,glusterfsd,glusterfs";

const BRICK: &str = "/srv/brick";

/// Boots a pair with a replicated volume that ha-a has mounted.
pub(super) fn prepare(stage: &Stage) -> anyhow::Result<()> {
    up::up(&stage.lab, &Wish::default(), &stage.interrupt)?;
    stage.provision("apply", &["network"])?;
    up::offer_compared(&stage.lab, &stage.interrupt)?;
    for host in &PAIR {
        eprintln!("{}: apt-get install glusterfs-server glusterfs-client fio", host.name);
        stage.answer(host, &install(), INSTALL)?;
    }
    let [first, second] = &PAIR;
    stage.shell(first, &format!("gluster peer probe {}-local", second.name))?;
    let found =
        || Ok(stage.quietly(first, "gluster peer status")?.text.contains("(Connected)").then_some(()));
    wait::until(FORM, &stage.interrupt, found)?;
    let bricks = PAIR.each_ref().map(|host| format!("{}-local:{BRICK}/data", host.name)).join(" ");
    // It asks whether two bricks without an arbiter are meant; a comparison with two hosts is.
    stage.shell(first, &format!("yes | gluster volume create bench replica 2 {bricks}"))?;
    // By default its client answers a write that no brick has yet.
    stage.shell(first, "gluster volume set bench performance.write-behind off")?;
    stage.shell(first, "gluster volume start bench")?;
    stage.shell(
        first,
        &format!("mkdir -p /mnt/volume && mount -t glusterfs {}-local:/bench /mnt/volume", first.name),
    )?;
    Ok(())
}

fn install() -> String {
    format!(
        "set -e; DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet glusterfs-server glusterfs-client fio \
         xfsprogs; mkfs.xfs -q -f /dev/vdb; mkdir -p {BRICK}; mount /dev/vdb {BRICK}; mkdir {BRICK}/data; \
         systemctl start glusterd"
    )
}
