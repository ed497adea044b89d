//! From the tree of a cluster.yml to [`Settings`]: every key, and what must hold between them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use base::fields::Fields;
use base::problem::{Place, Problem, Problems};
use base::yaml::{Content, Node};
use cluster::config::{Class, Config, ForeignStart, Policy, Quorum};
use cluster::member::Node as Member;
use cluster::timing::{Millis, Timing};

use super::etcd;
use super::resource::{List, Resources};
use super::value;
use super::{Fencing, Hook, Settings, WITNESS_PORT, Watchdog, Witness, WitnessSettings};

/// Ways between two hosts: a local segment, a public one, and spare ones.
const MAX_PATHS: usize = 8;
const TLS_DIR: &str = "/etc/futago/tls";
const WITNESS_STATE: &str = "/var/lib/futago/witness";
const WINDOW_MS: Millis = 600_000;
const FENCE_MS: Millis = 60_000;

const KEYS: &[&str] = &[
    "cluster",
    "failover_target",
    "window",
    "nodes",
    "witness",
    "etcd",
    "tls",
    "metrics",
    "watchdog",
    "gateway",
    "group",
    "everywhere",
    "policy",
    "fencing",
    "alerts",
];

pub(super) fn cluster(file: &str, text: &str, here: &str) -> Result<Settings, Problems> {
    let root = Node::parse(file, text)?;
    let mut problems = Problems::default();
    let settings = settings(&root, here, &mut problems);
    match settings {
        Some(settings) => problems.or(settings),
        None if problems.is_empty() => Err(Problem::new(&Place::whole(file), "nothing is in it").into()),
        None => Err(problems),
    }
}

fn settings(root: &Node, here: &str, problems: &mut Problems) -> Option<Settings> {
    let mut fields = Fields::of(root, "the configuration of a cluster", KEYS, problems)?;
    let cluster = cluster_name(&mut fields);
    let timing = timing(&mut fields);
    let (names, paths) = nodes(&mut fields);
    let node = local(&mut fields, &names, here);
    let witness = witness_of(&mut fields, &names, &paths);
    let etcd = etcd::read(&mut fields, witness.is_some());
    let resources = resources(&mut fields);
    let fencing = fencing(&mut fields, &names);
    let tls = value::path(&mut fields, "tls").unwrap_or_else(|| PathBuf::from(TLS_DIR));
    let metrics = listen(&mut fields);
    let watchdog = value::word(
        &mut fields,
        "watchdog",
        Watchdog::Auto,
        &[("auto", Watchdog::Auto), ("required", Watchdog::Required), ("off", Watchdog::Off)],
    );
    if let (Watchdog::Required, Some(Timing { watchdog_s: None, failover_target_ms, .. }), Some(node)) =
        (watchdog, timing, fields.get("watchdog"))
    {
        fields.report(
            node,
            format!(
                "\"watchdog: required\" needs a failover_target of 4 s or more, not {failover_target_ms} ms: a device counts in whole seconds, and must reset the machine within half the holder lease"
            ),
        );
    }
    let gateway = gateway(&mut fields);
    let policy = policy(&mut fields);
    let alerts = alerts(&mut fields);
    let quorum = match (&witness, &etcd, &fencing) {
        (Some(_), _, _) => Quorum::Witness,
        (None, Some(_), _) => Quorum::Etcd,
        (None, None, [Some(_), Some(_)]) => Quorum::Fencing,
        _ => Quorum::Manual,
    };
    let public_interface = resources.group.iter().find_map(|resource| match &resource.class {
        Class::Address { interface, .. } => Some(interface.clone()),
        _ => None,
    });
    let core = Config {
        cluster: cluster?,
        node: node?,
        names,
        quorum,
        timing: timing?,
        group: resources.group,
        everywhere: resources.everywhere,
        policy,
    };
    Some(Settings {
        core,
        paths,
        witness,
        etcd,
        tls,
        metrics,
        watchdog,
        gateway,
        public_interface,
        fencing,
        alerts,
    })
}

fn cluster_name(fields: &mut Fields<'_, '_>) -> Option<String> {
    let node = fields.required("cluster", "the name of the cluster, which its certificates carry")?;
    let text = fields.text("cluster")?;
    value::name("the name of a cluster", &text, node, fields.problems())
}

fn timing(fields: &mut Fields<'_, '_>) -> Option<Timing> {
    let window_ms = value::duration(fields, "window", WINDOW_MS, 10_000..=86_400_000);
    let Some(node) = fields.get("failover_target") else {
        return Timing::derive(Timing::DEFAULT_MS, window_ms).ok();
    };
    let target = match &node.content {
        Content::Text(text) => match text.as_str() {
            "fast" => Some(Timing::FAST_MS),
            "default" => Some(Timing::DEFAULT_MS),
            "calm" => Some(Timing::CALM_MS),
            text => value::millis(text),
        },
        // Seconds, with a fraction or without: `2.4` is exact enough as text.
        Content::Number(number) => tenths(&number.to_string()),
        _ => None,
    };
    let Some(target) = target else {
        let message = format!("\"failover_target\" cannot be {}", node.shown());
        let hint = "fast (2.4 s), default (4 s), calm (10 s), or seconds from 2.4 to 60";
        fields.problems().push(Problem::new(&node.place, message).hint(hint));
        return None;
    };
    match Timing::derive(target, window_ms) {
        Ok(timing) => Some(timing),
        Err(error) => {
            fields.report(node, error.to_string());
            None
        }
    }
}

/// Milliseconds of seconds written as a decimal number.
fn tenths(seconds: &str) -> Option<Millis> {
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let fraction = fraction.get(..3).unwrap_or(fraction);
    let thousandths: Millis = format!("{fraction:0<3}").parse().ok()?;
    whole.parse::<Millis>().ok()?.checked_mul(1000)?.checked_add(thousandths)
}

type Pair = ([String; 2], [Vec<IpAddr>; 2]);

/// Both hosts; what is missing is empty, and reported.
fn nodes(fields: &mut Fields<'_, '_>) -> Pair {
    let mut pair = Pair::default();
    let Some(list) = fields.required("nodes", "the two hosts that carry the data, with name and paths")
    else {
        return pair;
    };
    let items = fields.list("nodes");
    let [a, b] = items else {
        fields.report(list, format!("a cluster has exactly two nodes, not {}", items.len()));
        return pair;
    };
    let (names, paths) = (&mut pair.0, &mut pair.1);
    for ((item, name), paths) in [a, b].into_iter().zip(names.iter_mut()).zip(paths.iter_mut()) {
        let Some(mut inner) = Fields::of(item, "a node", &["name", "paths"], fields.problems()) else {
            continue;
        };
        if let (Some(node), Some(text)) =
            (inner.required("name", "what `uname -n` prints there"), inner.text("name"))
        {
            *name = value::name("the name of a node", &text, node, inner.problems()).unwrap_or_default();
        }
        inner.required("paths", "its addresses, the local segment first");
        for (text, node) in inner.texts("paths") {
            paths.extend(value::ip(&text, node, inner.problems()));
        }
    }
    agree(fields, b, &pair);
    pair
}

/// What must hold between the two.
fn agree(fields: &mut Fields<'_, '_>, second: &Node, (names, paths): &Pair) {
    let ([name_a, name_b], [a, b]) = (names, paths);
    if name_a == name_b && !name_a.is_empty() {
        fields.report(second, format!("both nodes are called {name_a:?}"));
    }
    if a.len() != b.len() || a.len() > MAX_PATHS {
        let message = format!(
            "the nodes have {} and {} paths: both need the same number, at most {MAX_PATHS}",
            a.len(),
            b.len()
        );
        fields.report(second, message);
    }
    for (index, (from, to)) in a.iter().zip(b).enumerate() {
        if from.is_ipv4() != to.is_ipv4() {
            let message = format!("path {}: {from} and {to} are of different families", index + 1);
            fields.report(second, message);
        }
    }
    let mut seen = Vec::new();
    for address in a.iter().chain(b) {
        if seen.contains(&address) {
            fields.report(second, format!("the address {address} is there twice"));
        }
        seen.push(address);
    }
}

fn local(fields: &mut Fields<'_, '_>, names: &[String; 2], here: &str) -> Option<Member> {
    let [a, b] = names;
    if a.is_empty() || b.is_empty() {
        return None;
    }
    if here == a {
        return Some(Member::A);
    }
    if here == b {
        return Some(Member::B);
    }
    let node = fields.get("nodes")?;
    let problem = Problem::new(
        &node.place,
        format!("this host is called {here:?} (`uname -n`), and the nodes are {a:?} and {b:?}"),
    );
    fields.problems().push(problem.hint("set the host name, or write the name that `uname -n` prints"));
    None
}

fn witness_of(fields: &mut Fields<'_, '_>, names: &[String; 2], paths: &[Vec<IpAddr>; 2]) -> Option<Witness> {
    let node = fields.get("witness")?;
    let mut inner = Fields::of(node, "the witness", &["name", "addresses"], fields.problems())?;
    let name_node = inner.required("name", "the host name of the witness");
    let text = inner.text("name").unwrap_or_default();
    inner.required("addresses", "where the data hosts reach it");
    let mut addresses = Vec::new();
    for (text, node) in inner.texts("addresses") {
        let Some(address) = value::socket(&text, Some(WITNESS_PORT), node, inner.problems()) else {
            continue;
        };
        if paths.iter().flatten().any(|path| *path == address.ip()) {
            let message = format!(
                "{} is an address of a data host: a witness there fails together with it",
                address.ip()
            );
            inner.report(node, message);
        }
        addresses.push(address);
    }
    if addresses.len() > MAX_PATHS {
        inner.report(node, format!("at most {MAX_PATHS} addresses"));
    }
    let name = value::name("the name of the witness", &text, name_node?, inner.problems())?;
    if names.contains(&name) {
        inner.report(node, format!("the witness {name:?} is a data host: a third machine must vote"));
    }
    Some(Witness { name, addresses })
}

fn resources(fields: &mut Fields<'_, '_>) -> Resources {
    let mut resources = Resources::default();
    let Some(group) = fields.required("group", "the stack, in order: the replicated device first") else {
        return resources;
    };
    let items = fields.list("group");
    for item in items {
        resources.add(List::Group, item, fields.problems());
    }
    for item in fields.list("everywhere") {
        resources.add(List::Everywhere, item, fields.problems());
    }
    let class_of = |item: &Node| item.get("class").map(Node::to_json);
    let is_replica = |item: &&Node| class_of(item).is_some_and(|class| class == "futago:replica");
    let devices: Vec<&Node> = items.iter().filter(is_replica).collect();
    match devices.as_slice() {
        [] => fields
            .report(group, "the group has no \"futago:replica\": without the data there is nothing to move"),
        [device] if !items.first().is_some_and(|first| std::ptr::eq(first, *device)) => {
            fields.report(device, "the replicated device comes first: everything else stands on it");
        }
        [_] => {}
        [_, second, ..] => fields.report(second, "there is one replicated device, and this is another"),
    }
    resources
}

fn fencing(fields: &mut Fields<'_, '_>, names: &[String; 2]) -> [Option<Fencing>; 2] {
    let mut devices = [None, None];
    for item in fields.list("fencing") {
        let keys = ["target", "agent", "params", "timeout"];
        let Some(mut inner) = Fields::of(item, "a fence device", &keys, fields.problems()) else { continue };
        let target_node = inner.required("target", "the host that it switches off");
        let target = inner.text("target").unwrap_or_default();
        let agent_node =
            inner.required("agent", "fence_ipmilan or another program in /usr/sbin, or its path");
        let text = inner.text("agent").unwrap_or_default();
        let agent = if text.starts_with('/') {
            Some(text)
        } else {
            agent_node.and_then(|n| value::name("an agent", &text, n, inner.problems()))
        };
        let params = value::texts_by_name(&mut inner, "params");
        let timeout =
            Duration::from_millis(value::duration(&mut inner, "timeout", FENCE_MS, 1_000..=600_000));
        let Some(target_node) = target_node else { continue };
        let Some(position) = names.iter().position(|name| *name == target) else {
            let allowed: Vec<&str> = names.iter().map(String::as_str).collect();
            inner.problems().push(Problem::unknown_word(
                &target_node.place,
                "there is no node",
                &target,
                &allowed,
            ));
            continue;
        };
        if let (Some(place), Some(agent)) = (devices.get_mut(position), agent)
            && place.replace(Fencing { agent, params, timeout }).is_some()
        {
            inner.report(target_node, format!("{target:?} has two fence devices"));
        }
    }
    devices
}

fn listen(fields: &mut Fields<'_, '_>) -> Vec<std::net::SocketAddr> {
    let Some(node) = fields.get("metrics") else { return Vec::new() };
    let Some(mut inner) = Fields::of(node, "metrics", &["listen"], fields.problems()) else {
        return Vec::new();
    };
    let texts = inner.texts("listen");
    texts.into_iter().filter_map(|(text, node)| value::socket(&text, None, node, inner.problems())).collect()
}

fn gateway(fields: &mut Fields<'_, '_>) -> Option<IpAddr> {
    let node = fields.get("gateway")?;
    let text = fields.text("gateway")?;
    value::ip(&text, node, fields.problems())
}

fn policy(fields: &mut Fields<'_, '_>) -> Policy {
    let mut policy =
        Policy { foreign_start: ForeignStart::Stop, reboot_on_failed_stop: false, watch_public_link: true };
    let Some(node) = fields.get("policy") else { return policy };
    let keys = ["foreign_start", "reboot_on_failed_stop", "watch_public_link"];
    let Some(mut inner) = Fields::of(node, "policy", &keys, fields.problems()) else { return policy };
    policy.foreign_start = value::word(
        &mut inner,
        "foreign_start",
        ForeignStart::Stop,
        &[("stop", ForeignStart::Stop), ("alarm", ForeignStart::Alarm)],
    );
    policy.reboot_on_failed_stop = inner.bool("reboot_on_failed_stop").unwrap_or(false);
    policy.watch_public_link = inner.bool("watch_public_link").unwrap_or(true);
    policy
}

fn alerts(fields: &mut Fields<'_, '_>) -> Vec<Hook> {
    let mut hooks = Vec::new();
    for item in fields.list("alerts") {
        let Some(mut inner) = Fields::of(item, "an alert", &["exec", "webhook"], fields.problems()) else {
            continue;
        };
        match (inner.get("exec"), inner.get("webhook")) {
            (Some(_), None) => hooks.extend(value::path(&mut inner, "exec").map(Hook::Exec)),
            (None, Some(node)) => {
                let Some(url) = inner.text("webhook") else { continue };
                if !url.starts_with("http://") {
                    inner.report(node, format!("{url:?} is not an http:// URL"));
                }
                hooks.push(Hook::Webhook(url));
            }
            _ => inner.report(item, "an alert is either \"exec\" or \"webhook\""),
        }
    }
    hooks
}

pub(super) fn witness(file: &str, text: &str) -> Result<WitnessSettings, Problems> {
    let root = Node::parse(file, text)?;
    let mut problems = Problems::default();
    let keys = ["listen", "tls", "state"];
    let Some(mut fields) = Fields::of(&root, "the configuration of a witness", &keys, &mut problems) else {
        return Err(problems);
    };
    fields.required("listen", "addresses with ports, such as 203.0.113.3:7791");
    let mut listen = Vec::new();
    for (text, node) in fields.texts("listen") {
        listen.extend(value::socket(&text, Some(WITNESS_PORT), node, fields.problems()));
    }
    let tls = value::path(&mut fields, "tls").unwrap_or_else(|| PathBuf::from(TLS_DIR));
    let state = value::path(&mut fields, "state").unwrap_or_else(|| PathBuf::from(WITNESS_STATE));
    problems.or(WitnessSettings { listen, tls, state })
}
