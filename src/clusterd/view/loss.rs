//! What `force-primary` and `discard-diverged` may cost, said before they are done.

use cluster::config::Quorum;
use cluster::control::Status;
use cluster::member::Node;

use super::facts;
use super::words::{Names, size, time};

/// What may be lost when `node` is made primary by force, a sentence each. Empty: nothing.
pub(crate) fn of_force(status: &Status, node: Node) -> Vec<String> {
    let names = Names::of(status);
    let record = &status.record;
    let (name, peer) = (names.get(node), names.get(node.peer()));
    let has_all = record.synced.contains(node);
    // Unheard, or with two hosts and nothing else, the peer may have gone on alone.
    if has_all && !status.own_vote_only && status.quorum != Quorum::Manual {
        return Vec::new();
    }
    let whose = if status.own_vote_only { "its own record" } else { "the record" };
    let by = format!("By {whose} (version {}, term {}) {name}", record.version.0, record.term.0);
    let mut out = vec![if !has_all {
        format!("{by} lacks writes that were acknowledged: only {peer} is known to have them all.")
    } else if record.primary == Some(node) {
        format!("{by} has every acknowledged write, unless {peer} was made the primary since.")
    } else {
        format!("{by} had every acknowledged write. It lacks what {peer} has acknowledged alone since.")
    }];
    let view = |of: Node| facts::node(status, of).and_then(|view| view.replica.as_ref());
    let differ = Node::ALL.into_iter().filter_map(|of| view(of).map(|v| v.out_of_sync_kib)).max();
    match differ.filter(|kib| *kib > 0) {
        Some(kib) => {
            out.push(format!(
                "At least {} differ between the two disks, as far as is known here.",
                size(kib)
            ));
        }
        None => out.push(format!("How much differs is known on {peer} only.")),
    }
    if let Some(disk) = view(node).map(|v| v.disk.as_str()).filter(|disk| *disk != "UpToDate") {
        let worse = if disk == "Inconsistent" {
            ": a resync of it has not ended, so file systems on it may be damaged. Where `futago replica status` says undo:ready, `futago replica rollback` first brings back what it held before"
        } else {
            ""
        };
        out.push(format!("The disk of {name} is {disk}{worse}."));
    }
    if let Some(ms) = status.peer_heard_ms_ago.filter(|_| node == status.node) {
        out.push(format!(
            "{peer} was last heard {} ago. If it only cannot be reached, repair the network instead.",
            time(ms)
        ));
    }
    out.push(format!(
        "{peer} keeps what only it has: when it returns its data are kept aside until discard-diverged."
    ));
    out
}

/// What is lost when the overruled data of `node` are given up.
pub(crate) fn of_discard(status: &Status, node: Node) -> Vec<String> {
    let names = Names::of(status);
    let (name, peer) = (names.get(node), names.get(node.peer()));
    vec![
        format!("What was written on {name} and overruled by force-primary is given up for good."),
        format!(
            "A resync overwrites it with the data of {peer}. To keep a copy, copy the backing disk of {name} first."
        ),
    ]
}
