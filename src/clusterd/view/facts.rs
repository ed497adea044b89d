//! Facts read out of a status, said in one phrase each: shared by the text and the live view.

use std::fmt::Write as _;

use cluster::config::Quorum;
use cluster::control::{Move, NodeView, ResourceView, Status};
use cluster::event::ReplicaView;
use cluster::member::{Node, Nodes};
use cluster::timing::Millis;

use super::tone::Tone;
use super::words::{Names, count, size, time};

/// A phrase and what it means.
pub(crate) type Phrase = (Tone, String);

/// What is known of a node: as it says itself, or as the peer last said.
pub(crate) fn node(status: &Status, node: Node) -> Option<&NodeView> {
    if node == status.node { Some(&status.local) } else { status.peer.as_ref() }
}

/// Role of a node, in one word.
pub(crate) fn role(status: &Status, of: Node) -> Phrase {
    match node(status, of) {
        _ if of != status.node && is_silent(status, status.peer_heard_ms_ago) => {
            (Tone::Bad, "silent".to_owned())
        }
        Some(view) if view.role == "active" => (Tone::Good, view.role.clone()),
        Some(view) if view.role == "standby" => (Tone::Plain, view.role.clone()),
        Some(view) => (Tone::Warn, view.role.clone()),
        None => (Tone::Bad, "not seen yet".to_owned()),
    }
}

/// The device of a node, in DRBD's words: `Primary/UpToDate`.
pub(crate) fn device(status: &Status, of: Node) -> Phrase {
    let Some(view) = node(status, of) else { return (Tone::Plain, String::new()) };
    let Some(replica) = &view.replica else { return (Tone::Bad, "no replication".to_owned()) };
    let role = if replica.primary { "Primary" } else { "Secondary" };
    if of != status.node && is_silent(status, status.peer_heard_ms_ago) {
        return (Tone::Dim, format!("was {role}/{}", replica.disk));
    }
    let tone = if replica.disk == "UpToDate" { Tone::Good } else { Tone::Warn };
    (tone, format!("{role}/{}", replica.disk))
}

/// Whether a host counts as gone.
pub(crate) fn is_silent(status: &Status, heard_ms_ago: Option<Millis>) -> bool {
    heard_ms_ago.is_none_or(|ms| ms > status.timing.peer_silence_ms)
}

/// What is known of a node now: nothing of one that is silent.
fn node_now(status: &Status, of: Node) -> Option<&NodeView> {
    let gone = of != status.node && is_silent(status, status.peer_heard_ms_ago);
    node(status, of).filter(|_| !gone)
}

/// When the peer was last heard.
pub(crate) fn heard(status: &Status, heard_ms_ago: Option<Millis>) -> Phrase {
    last_heard(heard_ms_ago, is_silent(status, heard_ms_ago))
}

fn last_heard(heard_ms_ago: Option<Millis>, silent: bool) -> Phrase {
    let tone = if silent { Tone::Bad } else { Tone::Plain };
    (tone, heard_ms_ago.map_or_else(|| "never heard".to_owned(), |ms| format!("heard {} ago", time(ms))))
}

/// This node's right to act.
pub(crate) fn lease(status: &Status) -> Phrase {
    match status.lease_left_ms {
        _ if status.lone => (Tone::Warn, "acts alone, by the record".to_owned()),
        Some(left) => (Tone::Good, format!("lease {} left", time(left))),
        None => (Tone::Dim, "no lease".to_owned()),
    }
}

/// The ways to `peer` or `witness`, in the order of the configuration; nothing when there is only one.
pub(crate) fn paths(status: &Status, to: &str) -> Option<String> {
    let mut ways: Vec<_> = status.paths.iter().filter(|path| path.to == to).collect();
    ways.sort_by_key(|path| path.path);
    let age = |heard: Option<Millis>| heard.map_or_else(|| "never".to_owned(), time);
    let ages: Vec<String> = ways.iter().map(|path| age(path.heard_ms_ago)).collect();
    (ages.len() > 1).then(|| format!("paths: {}", ages.join(", ")))
}

/// Who votes beside the two hosts, and how it is.
pub(crate) fn third(status: &Status) -> (&'static str, Phrase, Phrase) {
    let plain = |text: &str| (Tone::Plain, text.to_owned());
    match status.quorum {
        Quorum::Witness => {
            let ago = status.witness_heard_ms_ago;
            let silent = ago.is_none_or(|ms| ms >= status.timing.witness_silence_ms());
            let role = if silent { (Tone::Bad, "silent".to_owned()) } else { plain("votes") };
            ("witness", role, last_heard(ago, silent))
        }
        Quorum::Etcd => ("etcd", plain("keeps the record"), heard(status, status.witness_heard_ms_ago)),
        Quorum::Fencing => ("fencing", plain("stands for the vote of a dead host"), plain("")),
        Quorum::Manual => {
            ("witness", (Tone::Warn, "none".to_owned()), (Tone::Warn, "failover is by hand".to_owned()))
        }
    }
}

/// The record, without its intents.
pub(crate) fn record(status: &Status, names: &Names) -> Phrase {
    let record = &status.record;
    let Some(primary) = record.primary else {
        if status.own_vote_only {
            return (Tone::Bad, "not known, and this host has none of its own".to_owned());
        }
        return (Tone::Warn, "none yet: futago cluster bootstrap --primary HOST".to_owned());
    };
    let (tone, only) = if record.synced == Nodes::BOTH { (Tone::Plain, "") } else { (Tone::Warn, " only") };
    let (tone, by) = if status.own_vote_only { (Tone::Bad, "by this host alone: ") } else { (tone, "") };
    let text = format!(
        "{by}version {}, term {}, primary {}; all writes are on {}{only}",
        record.version.0,
        record.term.0,
        names.get(primary),
        names.list(record.synced),
    );
    (tone, text)
}

/// How replication is, seen from the Primary if there is one.
pub(crate) fn replication(status: &Status, names: &Names) -> Phrase {
    let at = |node: Node| node_now(status, node).and_then(|view| view.replica.as_ref());
    let primary = Node::ALL.into_iter().find(|node| at(*node).is_some_and(|view| view.primary));
    let from = primary.unwrap_or(status.node);
    let Some(view) = at(from) else {
        return (Tone::Bad, format!("no word from the replication daemon on {}", names.get(from)));
    };
    let (tone, mut text) = state_of(view, names.get(from.peer()));
    for node in Node::ALL.into_iter().filter(|_| !view.connected) {
        let told = at(node).filter(|view| view.stands_alone);
        if let Some(reason) = told.and_then(|view| view.alone_because.as_ref()) {
            let _ = write!(text, "; {} stands alone: {reason}", names.get(node));
        }
    }
    if !view.blocked {
        return (tone, text);
    }
    text.push_str("; writes wait for a decision");
    (Tone::Bad, text)
}

fn state_of(view: &ReplicaView, peer: &str) -> Phrase {
    let differ = size(view.out_of_sync_kib);
    if let Some(done) = view.sync_permille {
        return (Tone::Warn, format!("resync {}.{} %, {differ} to go", done / 10, done % 10));
    }
    if !view.connected {
        let known =
            if view.out_of_sync_kib == 0 { String::new() } else { format!("; {differ} differ so far") };
        return (Tone::Bad, format!("not connected to {peer}{known}"));
    }
    if view.out_of_sync_kib > 0 || view.peer_disk != "UpToDate" || view.disk != "UpToDate" {
        return (
            Tone::Warn,
            format!("not in sync: {differ} differ, the disk of {peer} is {}", view.peer_disk),
        );
    }
    (Tone::Good, "in sync".to_owned())
}

/// What operators have asked for and what stands until they say otherwise: a sentence each, with its end.
pub(crate) fn intents(status: &Status, names: &Names) -> Vec<Phrase> {
    let mut out = Vec::new();
    let intent = &status.record.intent;
    if let Some(reason) = &intent.hold {
        let text = format!("automatic failover is on hold ({reason}); end it: futago cluster resume");
        out.push((Tone::Warn, text));
    }
    if intent.maintenance {
        let text = "maintenance: resources are left alone; end it: futago cluster maintenance off";
        out.push((Tone::Warn, text.to_owned()));
    }
    for node in Node::ALL {
        let name = names.get(node);
        if intent.standby.contains(node) {
            let text = format!("{name} is in standby; end it: futago cluster online {name}");
            out.push((Tone::Warn, text));
        }
        if intent.diverged.contains(node) {
            let text = format!(
                "{name} has data that were overruled, kept aside; give them up: futago cluster discard-diverged {name}"
            );
            out.push((Tone::Warn, text));
        }
    }
    out
}

/// What is not as it should be on the hosts, each with the host's name.
pub(crate) fn problems(status: &Status, names: &Names) -> Vec<String> {
    let of = |node_: Node| {
        let problems =
            node_now(status, node_).map(|view| view.health.problems.as_slice()).unwrap_or_default();
        problems.iter().map(move |text| (node_, text))
    };
    Node::ALL.into_iter().flat_map(of).map(|(node, text)| format!("{}: {text}", names.get(node))).collect()
}

/// How long a resource has been in its state: `> 5 s` when it was found in it.
pub(crate) fn since(resource: &ResourceView) -> String {
    let more = if resource.found { "> " } else { "" };
    format!("{more}{}", time(resource.since_ms))
}

/// Remarks on a resource: failures, bans, the last reason. Empty when there is nothing to say.
pub(crate) fn remarks(resource: &ResourceView, names: &Names) -> String {
    let mut out = Vec::new();
    let [a, b] = resource.failures;
    for (node, failures) in [(Node::A, a), (Node::B, b)] {
        if failures > 0 {
            out.push(format!("{} on {}", count(failures, "failure"), names.get(node)));
        }
    }
    if !resource.banned.is_empty() {
        out.push(format!("may not run on {}", names.list(resource.banned)));
    }
    let head = out.join(", ");
    match &resource.reason {
        Some(reason) if head.is_empty() => reason.clone(),
        Some(reason) => format!("{head}: {reason}"),
        None => head,
    }
}

/// `ha-a -> ha-b`; only the target for a first start.
pub(crate) fn route(moved: &Move, names: &Names) -> String {
    match moved.from {
        Some(from) if from != moved.to => format!("{} -> {}", names.get(from), names.get(moved.to)),
        _ => format!("on {}", names.get(moved.to)),
    }
}

/// How long a move took.
pub(crate) fn duration(moved: &Move) -> Millis {
    moved.steps.iter().map(|(_, ms)| ms).sum()
}
