//! The metrics in Prometheus' text format. Names end in their unit; what is one of several states is a sample
//! for each state, 1 for the present one.

use std::fmt::Write as _;

use cluster::control::{Status, Verdict};
use cluster::event::{ReplicaView, Running};
use cluster::member::Node;
use cluster::timing::Millis;

use crate::view::facts;
use crate::view::words;

const VERDICTS: [Verdict; 4] = [Verdict::Protected, Verdict::Degraded, Verdict::Held, Verdict::Down];
const STATES: [Running; 4] = [Running::Started, Running::Stopped, Running::Failed, Running::Unknown];

/// A counter of the replica.
type Counter = fn(&ReplicaView) -> u64;

/// All metrics of a status.
pub(super) fn write(status: &Status) -> String {
    let mut out = Text::default();
    let names = status.names.each_ref().map(String::as_str);
    let [a, b] = names;
    let me = if status.node == Node::A { a } else { b };
    out.gauge("futago_build_info", "Version of this program.");
    out.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    out.gauge("futago_cluster_info", "Names of the cluster and of this node.");
    out.sample(&[("cluster", &status.cluster), ("node", me)], 1);
    out.gauge("futago_cluster_verdict", "What a status begins with.");
    for verdict in VERDICTS {
        out.sample(&[("verdict", words::verdict(verdict))], u64::from(verdict == status.verdict));
    }
    out.gauge("futago_cluster_active", "The stack runs on this node.");
    out.sample(&[], u64::from(status.local.role == "active"));
    out.gauge("futago_cluster_can", "What is possible right now.");
    for ability in &status.can {
        out.sample(&[("what", &ability.what)], u64::from(ability.yes));
    }
    record(&mut out, status, names);
    members(&mut out, status);
    resources(&mut out, status, names);
    replication(&mut out, status, names);
    if let Some(last) = status.history.first() {
        out.gauge("futago_cluster_last_move_seconds", "How long the last move of the stack took.");
        out.seconds(&[("kind", &last.kind)], facts::duration(last));
    }
    out.0
}

fn record(out: &mut Text, status: &Status, names: [&str; 2]) {
    let record = &status.record;
    out.gauge("futago_cluster_record_version", "Number of the last change of the record.");
    out.sample(&[], record.version.0);
    out.gauge("futago_cluster_record_term", "Number of the present primary's reign; grows at each move.");
    out.sample(&[], record.term.0);
    let nodes = [(Node::A, names[0]), (Node::B, names[1])];
    out.gauge("futago_cluster_record_primary", "The node that may write, by the record.");
    for (node, name) in nodes {
        out.sample(&[("node", name)], u64::from(record.primary == Some(node)));
    }
    out.gauge("futago_cluster_record_synced", "The node is known to hold every acknowledged write.");
    for (node, name) in nodes {
        out.sample(&[("node", name)], u64::from(record.synced.contains(node)));
    }
    out.gauge("futago_cluster_standby", "An operator keeps the stack off the node.");
    for (node, name) in nodes {
        out.sample(&[("node", name)], u64::from(record.intent.standby.contains(node)));
    }
    out.gauge("futago_cluster_maintenance", "Resources are left alone.");
    out.sample(&[], u64::from(record.intent.maintenance));
    out.gauge("futago_cluster_hold", "Automatic failover is on hold.");
    out.sample(&[], u64::from(record.intent.hold.is_some()));
    out.counter(
        "futago_cluster_moves_total",
        "Moves of the stack to this node that have come to a good end since its manager was started; takeover and failover are automatic.",
    );
    for (kind, count) in &status.moves {
        out.sample(&[("kind", kind)], *count);
    }
    out.gauge("futago_cluster_failovers", "Automatic failovers for a failed resource in the present window.");
    out.sample(&[], u64::from(record.intent.failovers));
}

fn members(out: &mut Text, status: &Status) {
    out.gauge(
        "futago_cluster_lease_left_seconds",
        "What is left of this node's right to act; 0 without one.",
    );
    out.seconds(&[], status.lease_left_ms.unwrap_or(0));
    out.gauge("futago_cluster_lone", "This node acts without a lease: only it is up to date, by the record.");
    out.sample(&[], u64::from(status.lone));
    out.gauge("futago_cluster_heard_seconds", "Since a member was last heard; no sample: never.");
    for (member, ms) in [("peer", status.peer_heard_ms_ago), ("witness", status.witness_heard_ms_ago)] {
        if let Some(ms) = ms {
            out.seconds(&[("member", member)], ms);
        }
    }
    out.gauge("futago_cluster_path_heard_seconds", "Since a path last carried something; no sample: never.");
    for path in &status.paths {
        if let Some(ms) = path.heard_ms_ago {
            out.seconds(&[("member", &path.to), ("path", &path.path.to_string())], ms);
        }
    }
}

fn resources(out: &mut Text, status: &Status, names: [&str; 2]) {
    out.gauge("futago_cluster_resource_state", "State of a resource on a node.");
    for resource in &status.resources {
        for (name, now) in names.into_iter().zip(resource.state) {
            for state in STATES {
                let labels =
                    [("resource", resource.name.as_str()), ("node", name), ("state", words::running(state))];
                out.sample(&labels, u64::from(state == now));
            }
        }
    }
    out.gauge("futago_cluster_resource_failures", "Failures since the last cleanup or quiet window.");
    for resource in &status.resources {
        for (name, failures) in names.into_iter().zip(resource.failures) {
            out.sample(&[("resource", &resource.name), ("node", name)], u64::from(failures));
        }
    }
}

fn replication(out: &mut Text, status: &Status, names: [&str; 2]) {
    let view = |node: Node| facts::node(status, node).and_then(|view| view.replica.as_ref());
    let views: Vec<_> =
        Node::ALL.into_iter().zip(names).filter_map(|(node, name)| Some((name, view(node)?))).collect();
    let mut each = |name: &str, help: &str, value: &dyn Fn(&ReplicaView) -> u64| {
        out.gauge(name, help);
        for (node, view) in &views {
            out.sample(&[("node", node)], value(view));
        }
    };
    each("futago_replication_primary", "The node is Primary.", &|v| u64::from(v.primary));
    each("futago_replication_up_to_date", "Its disk is UpToDate.", &|v| u64::from(v.disk == "UpToDate"));
    each("futago_replication_connected", "It is connected to its peer.", &|v| u64::from(v.connected));
    each("futago_replication_blocked", "Writes wait for a decision.", &|v| u64::from(v.blocked));
    each("futago_replication_out_of_sync_bytes", "Known to differ between the disks.", &|v| {
        v.out_of_sync_kib.saturating_mul(1024)
    });
    each("futago_replication_sync_permille", "Of a running resync that is done; 1000 without one.", &|v| {
        u64::from(v.sync_permille.unwrap_or(1000))
    });
    let counted: [(&str, &str, Counter); 2] = [
        ("futago_replication_sent_bytes_total", "Data sent to the peer since the daemon was started.", |v| {
            v.sent_kib
        }),
        ("futago_replication_received_bytes_total", "Data received from the peer.", |v| v.received_kib),
    ];
    for (name, help, kib) in counted {
        out.counter(name, help);
        for (node, view) in &views {
            out.sample(&[("node", node)], kib(view).saturating_mul(1024));
        }
    }
    waits(out, &views);
}

/// What applications wait for an answer: the mean is the rate of the seconds over the rate of the number.
fn waits(out: &mut Text, views: &[(&str, &ReplicaView)]) {
    let kinds: [(&str, &str, Counter, Counter); 2] = [
        ("write", "writes", |v| v.writes, |v| v.write_us),
        ("flush", "flushes", |v| v.flushes, |v| v.flush_us),
    ];
    for (one, many, number, us) in kinds {
        let help = format!("Answered {many} of applications since the daemon was started.");
        out.counter(&format!("futago_replication_{many}_total"), &help);
        for (node, view) in views {
            out.sample(&[("node", node)], number(view));
        }
        let help = format!("What applications waited for the answers to their {many}, summed up.");
        out.counter(&format!("futago_replication_{one}_seconds_total"), &help);
        for (node, view) in views {
            let us = us(view);
            out.value(&[("node", node)], &format!("{}.{:06}", us / 1_000_000, us % 1_000_000));
        }
    }
}

/// The format: `# HELP`, `# TYPE`, samples.
#[derive(Default)]
struct Text(String, String);

impl Text {
    /// Begins a metric that goes up and down.
    fn gauge(&mut self, name: &str, help: &str) {
        self.begin(name, help, "gauge");
    }

    /// Begins a metric that only grows, until the program that counts is started anew.
    fn counter(&mut self, name: &str, help: &str) {
        self.begin(name, help, "counter");
    }

    fn begin(&mut self, name: &str, help: &str, kind: &str) {
        self.1 = name.to_owned();
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        self.value(labels, &value.to_string());
    }

    fn seconds(&mut self, labels: &[(&str, &str)], ms: Millis) {
        self.value(labels, &format!("{}.{:03}", ms / 1000, ms % 1000));
    }

    fn value(&mut self, labels: &[(&str, &str)], value: &str) {
        self.0.push_str(&self.1);
        for (position, (name, text)) in labels.iter().enumerate() {
            let before = if position == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{name}=\"{}\"", escaped(text));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::sample;
    use crate::view::tests::golden;

    #[test]
    fn every_metric_has_help_and_type_and_samples_that_parse() {
        let text = write(&sample::resync());
        golden("metrics", &text);
        let mut metric = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                metric = rest.split(' ').next().unwrap();
            } else if !line.starts_with("# TYPE ") {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(name.split('{').next() == Some(metric), "{line}");
                value.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
            }
        }
    }

    #[test]
    fn labels_cannot_break_out() {
        let mut status = sample::protected();
        status.cluster = "a\"} 1\nevil 2".to_owned();
        assert!(!write(&status).lines().any(|line| line.starts_with("evil")));
    }
}
