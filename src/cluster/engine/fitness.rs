//! Who can take the stack, and if not, why not: the sentences of `why`, of refusals and of the abilities in the
//! status come from here.

use super::Engine;
use crate::event::ReplicaView;
use crate::member::Nodes;
use crate::record::Record;
use crate::timing::Millis;

/// At most this many automatic failovers for a failure in a window: a second one would only repeat the first.
pub(super) const FAILOVERS: u32 = 1;

fn has_everything(disk: &str) -> bool {
    matches!(disk, "UpToDate" | "Consistent")
}

/// It neither reads nor writes any more, and has hung up.
pub(super) fn disk_has_failed(view: &ReplicaView) -> bool {
    matches!(view.disk.as_str(), "Failed" | "Diskless" | "Detaching")
}

pub(super) fn cannot_run(node: &str, lack: &str) -> String {
    format!("{node} cannot run the stack: {lack}")
}

impl Engine {
    /// Whether the device can become Primary here.
    pub(super) fn fit_here(&self) -> Result<(), String> {
        let me = self.name(self.me());
        let Some(view) = &self.replica.view else {
            return Err(format!("the replication daemon on {me} does not answer or the resource is not up"));
        };
        if has_everything(&view.disk) || self.may_force() {
            return Ok(());
        }
        Err(format!("the disk on {me} is {}", view.disk))
    }

    /// What the stack needs and this node does not have. A primary by the record is not held back by it: it starts
    /// what it can, and says at which resource it ended.
    pub(super) fn complete_here(&self) -> Result<(), String> {
        self.health.lacking.first().map_or(Ok(()), |lack| Err(cannot_run(self.name(self.me()), lack)))
    }

    /// The disk has failed below the running stack, and the peer cannot take it.
    pub(super) fn disk_lost(&self) -> Option<String> {
        self.replica.view.as_ref().filter(|view| view.primary && disk_has_failed(view))?;
        let why = self.may_fail_over(self.now).err()?;
        Some(format!(
            "the disk on {} has failed, so nothing is written any more, and {why}",
            self.name(self.me())
        ))
    }

    /// The peer runs by another configuration than this node.
    pub(super) fn setups_differ(&self) -> bool {
        let theirs = self.peer.view.as_ref().and_then(|v| v.setup);
        theirs.is_some_and(|theirs| theirs != self.setup)
    }

    /// The record itself says that this node's data is the truth, whatever its disk says: of a new pair, or by
    /// an operator's order.
    pub(super) fn may_force(&self) -> bool {
        let me = self.me();
        let bad =
            self.replica.view.as_ref().is_some_and(|v| v.disk == "Inconsistent" || v.disk == "Outdated");
        let peer_bad = self.replica.view.as_ref().is_none_or(|v| v.peer_disk != "UpToDate");
        bad && peer_bad
            && self.record().is_some_and(|r| {
                r.primary == Some(me)
                    && r.synced == Nodes::only(me)
                    && (r.term.0 == 1 || r.intent.diverged.contains(me.peer()))
            })
    }

    /// Whether the peer can take the stack now; the sentence is continued by the caller (`…, and {why}`).
    pub(super) fn peer_can_take(&self, now: Millis) -> Result<(), String> {
        let peer = self.name(self.other());
        let Some(record) = self.record() else { return Err("there is no record yet".to_owned()) };
        self.peer_may_take(record)?;
        if self.peer.goodbye {
            return Err(format!("the manager on {peer} has said goodbye"));
        }
        if !self.peer_is_there(now) {
            return Err(match self.peer.heard_at {
                Some(at) => format!("{peer} was last heard {} ms ago", now.saturating_sub(at)),
                None => format!("{peer} has not been heard since the manager here was started"),
            });
        }
        let Some(view) = &self.peer.view else { return Err(format!("{peer} has not told its state yet")) };
        if view.role == "waiting" {
            return Err(format!("the manager on {peer} is still starting"));
        }
        if !view.health.state_writable {
            return Err(format!("the manager on {peer} cannot store its state"));
        }
        if self.config.policy.watch_public_link && !view.health.public && self.health.public {
            return Err(format!("{peer} has lost the public segment"));
        }
        if let Some(lack) = view.health.lacking.first() {
            return Err(cannot_run(peer, lack));
        }
        self.peer_replica_can_take(view.replica.as_ref())
    }

    fn peer_may_take(&self, record: &Record) -> Result<(), String> {
        let peer = self.name(self.other());
        if record.intent.diverged.contains(self.other()) {
            return Err(format!(
                "the data of {peer} has been overruled (give it up with `futago cluster discard-diverged {peer}`)"
            ));
        }
        if !record.synced.contains(self.other()) {
            let progress = self.replica.view.as_ref().and_then(|v| v.sync_permille);
            let progress =
                progress.map_or_else(String::new, |p| format!(" (resync at {}.{} %)", p / 10, p % 10));
            return Err(format!("{peer} may lack acknowledged writes{progress}"));
        }
        if record.intent.standby.contains(self.other()) {
            return Err(format!("{peer} is in standby (`futago cluster online {peer}`)"));
        }
        Ok(())
    }

    fn peer_replica_can_take(&self, theirs: Option<&ReplicaView>) -> Result<(), String> {
        let peer = self.name(self.other());
        let Some(theirs) = theirs else {
            return Err(format!("the replication daemon on {peer} does not answer"));
        };
        if !has_everything(&theirs.disk) {
            return Err(format!("the disk on {peer} is {}", theirs.disk));
        }
        // Without its disk this node has answered no write that the peer lacks.
        let ours = self.replica.view.as_ref().filter(|view| !disk_has_failed(view));
        let Some(ours) = ours else { return Ok(()) };
        if ours.primary && !ours.deposed && (!ours.connected || ours.peer_disk != "UpToDate") {
            return Err(format!("replication to {peer} is interrupted"));
        }
        Ok(())
    }

    /// Whether the manager may move the stack by its own decision, without asking what was counted.
    pub(super) fn may_move(&self, now: Millis) -> Result<(), String> {
        if let Some(reason) = self.record().and_then(|r| r.intent.hold.as_ref()) {
            return Err(format!("automatic failover is on hold: {reason} (`futago cluster resume`)"));
        }
        if self.maintenance() {
            return Err("the cluster is in maintenance (`futago cluster maintenance off`)".to_owned());
        }
        self.peer_can_take(now)
    }

    /// Whether a failure may move the stack: once in a window.
    pub(super) fn may_fail_over(&self, now: Millis) -> Result<(), String> {
        self.may_move(now)?;
        let counted = self.record().map_or(0, |r| r.intent.failovers).saturating_add(self.tally.failovers);
        if counted >= FAILOVERS {
            return Err(format!(
                "the stack has failed over already within the last {} s (`futago cluster cleanup`)",
                self.config.timing.window_ms / 1000
            ));
        }
        Ok(())
    }
}
