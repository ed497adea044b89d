//! The text of `futago cluster status`: the verdict first, then what it rests on, most important things on top.

use cluster::control::{ResourceView, Status};
use cluster::member::Node;

use super::facts;
use super::page::{Page, cut};
use super::tone::Tone;
use super::words::{self, Names};

/// Moves shown; `history` has all.
const MOVES: usize = 3;
/// Columns of a state of a resource.
const STATE: usize = 9;
/// Columns of a role, of the longest state of a device.
const ROLE: usize = 12;
const DEVICE: usize = 28;

/// Writes the whole status.
pub(crate) fn write(page: &mut Page, status: &Status) {
    let names = Names::of(status);
    let verdict = words::verdict(status.verdict);
    let tone = Tone::verdict(status.verdict);
    page.sentence(&[(0, tone, verdict), (2, tone, ":")], Tone::Plain, &status.because);
    if let Some(doing) = &status.doing {
        page.sentence(&[(0, Tone::Strong, "Now: ")], Tone::Plain, doing);
    }
    for (tone, text) in facts::intents(status, &names) {
        page.sentence(&[(2, tone, "!")], tone, &text);
    }
    hosts(page, status, &names);
    for (heading, everywhere) in [("Stack", false), ("Everywhere", true)] {
        let list: Vec<_> = status.resources.iter().filter(|r| r.everywhere == everywhere).collect();
        if !list.is_empty() {
            stack(page, heading, &list, &status.resources, &names);
        }
    }
    abilities(page, status);
    moves(page, status, &names);
}

fn hosts(page: &mut Page, status: &Status, names: &Names) {
    page.heading(&format!("Cluster {}, seen from {}", status.cluster, names.get(status.node)));
    let (third, third_role, third_heard) = facts::third(status);
    let width = Node::ALL.map(|n| names.get(n).chars().count()).into_iter().max().unwrap_or(0);
    let width = width.max("replication".len()) + 4;
    for node in Node::ALL {
        let (role_tone, role) = facts::role(status, node);
        let (device_tone, device) = facts::device(status, node);
        let local = node == status.node;
        let (tone, last) =
            if local { facts::lease(status) } else { facts::heard(status, status.peer_heard_ms_ago) };
        let label = format!("  {}", names.get(node));
        page.row(&[
            (width, Tone::Strong, &label),
            (ROLE, role_tone, &role),
            (DEVICE, device_tone, &device),
            (0, tone, &last),
        ]);
        if let Some(paths) = facts::paths(status, "peer").filter(|_| !local) {
            page.row(&[(width + ROLE, Tone::Plain, ""), (0, Tone::Dim, &paths)]);
        }
    }
    let label = format!("  {third}");
    let role_width = third_role.1.chars().count() + 2;
    page.row(&[
        (width, Tone::Strong, &label),
        (role_width.max(ROLE + DEVICE), third_role.0, &third_role.1),
        (0, third_heard.0, &third_heard.1),
    ]);
    let (tone, record) = facts::record(status, names);
    page.sentence(&[(width, Tone::Strong, "  record")], tone, &record);
    let (tone, replication) = facts::replication(status, names);
    page.sentence(&[(width, Tone::Strong, "  replication")], tone, &replication);
    for problem in facts::problems(status, names) {
        page.sentence(&[(4, Tone::Warn, "  !")], Tone::Warn, &problem);
    }
}

fn stack(page: &mut Page, heading: &str, list: &[&ResourceView], all: &[ResourceView], names: &Names) {
    let widest = |text: &dyn Fn(&ResourceView) -> usize| all.iter().map(text).max().unwrap_or(0);
    let name = widest(&|r| r.name.chars().count()).min(16) + 4;
    let class = widest(&|r| class_of(r).chars().count()).min(26) + 2;
    let state = Node::ALL.map(|n| names.get(n).chars().count() + 2).map(|w| w.max(STATE));
    page.gap();
    page.row(&[
        (name + class, Tone::Strong, heading),
        (state[0], Tone::Strong, names.get(Node::A)),
        (state[1], Tone::Strong, names.get(Node::B)),
        (0, Tone::Strong, "since"),
    ]);
    for resource in list {
        let label = format!("  {}", cut(&resource.name, 16));
        let [a, b] = resource.state;
        page.row(&[
            (name, Tone::Plain, &label),
            (class, Tone::Dim, &cut(class_of(resource), 26)),
            (state[0], Tone::running(a), words::running(a)),
            (state[1], Tone::running(b), words::running(b)),
            (0, Tone::Dim, &facts::since(resource)),
        ]);
        let remarks = facts::remarks(resource, names);
        if !remarks.is_empty() {
            page.sentence(&[(name, Tone::Plain, "")], Tone::Warn, &remarks);
        }
    }
}

/// Without the suffix that nearly every unit has.
pub(crate) fn class_of(resource: &ResourceView) -> &str {
    resource.class.strip_suffix(".service").unwrap_or(&resource.class)
}

fn abilities(page: &mut Page, status: &Status) {
    if status.can.is_empty() {
        return;
    }
    page.heading("Can it");
    let width = status.can.iter().map(|ability| ability.what.chars().count()).max().unwrap_or(0) + 4;
    for ability in &status.can {
        let (tone, answer) = if ability.yes { (Tone::Good, "yes") } else { (Tone::Warn, "no") };
        let label = format!("  {}", ability.what);
        page.sentence(&[(width, Tone::Plain, &label), (5, tone, answer)], Tone::Plain, &ability.because);
    }
}

fn moves(page: &mut Page, status: &Status, names: &Names) {
    if status.history.is_empty() {
        return;
    }
    page.heading("Last moves");
    for moved in status.history.iter().take(MOVES) {
        let end = if moved.finished { "in" } else { "unfinished after" };
        let took = words::time(facts::duration(moved));
        let text = format!("{} {} {end} {took}: {}", moved.kind, facts::route(moved, names), moved.because);
        let ago = format!("  {} ago", words::time(moved.ago_ms));
        page.sentence(&[(19, Tone::Dim, &ago)], Tone::Plain, &text);
    }
}
