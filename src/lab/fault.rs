//! Faults of the network: packets that are dropped or late between the ends of a link.
//!
//! What is cut is remembered nowhere but in the kernel: each pair of ends has a rule in the bridges' packet
//! filter, whose comment says what it does. Addresses, cables and routes stay as they are, as with a broken
//! switch; whoever talks over the link learns of it only by silence.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use serde_json::Value;

use crate::child;
use crate::layout::{HOSTS, Host, Lab, PAIR, Segment, WITNESS};
use crate::network;

/// The table in the lab's own namespace.
const TABLE: &str = "bridge futago";
/// A link that lets nothing through.
pub(crate) const ALL: u8 = 100;
/// What the machine's own end of the public segment is called.
const CONTROLLER: &str = "controller";

/// A link that can be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Link {
    /// The segment the pair replicates over.
    Local,
    /// The segment of clients, witness and controller.
    Public,
    /// What the witness and the pair say to each other, on the public segment.
    Witness,
}

/// One direction between two ends of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Direction {
    segment: &'static str,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
}

/// How many percent of the packets are dropped, by direction.
pub(crate) type Faults = BTreeMap<Direction, u8>;

impl Link {
    pub(crate) const ALL: [Self; 3] = [Self::Local, Self::Public, Self::Witness];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Public => "public",
            Self::Witness => "witness",
        }
    }

    fn segment(self) -> Segment {
        match self {
            Self::Local => Segment::Local,
            Self::Public | Self::Witness => Segment::Public,
        }
    }

    /// Both directions between all ends of this link.
    pub(crate) fn directions(self) -> Vec<Direction> {
        let mut ends: Vec<&str> = PAIR.iter().map(|host| host.name).collect();
        if self != Self::Local {
            ends.push(WITNESS.name);
        }
        if self == Self::Public {
            ends.push(CONTROLLER);
        }
        let segment = self.segment().as_str();
        let all = ends.iter().flat_map(|from| ends.iter().map(|to| Direction { segment, from, to }));
        let concerned = |d: &Direction| self != Self::Witness || [d.from, d.to].contains(&WITNESS.name);
        all.filter(|direction| direction.from != direction.to && concerned(direction)).collect()
    }
}

/// Picks directions of a link; `None` stands for every end.
pub(crate) fn pick(link: Link, from: Option<&str>, to: Option<&str>) -> anyhow::Result<Vec<Direction>> {
    let from = from.map(end).transpose()?;
    let to = to.map(end).transpose()?;
    let wanted = |d: &Direction| from.is_none_or(|end| end == d.from) && to.is_none_or(|end| end == d.to);
    let picked: Vec<Direction> = link.directions().into_iter().filter(wanted).collect();
    if picked.is_empty() {
        let (from, to) = (from.unwrap_or("anywhere"), to.unwrap_or("anywhere"));
        bail!("nothing goes over the link {} from {from} to {to}", link.as_str());
    }
    Ok(picked)
}

fn end(name: &str) -> anyhow::Result<&'static str> {
    if name == CONTROLLER {
        return Ok(CONTROLLER);
    }
    let found = HOSTS.into_iter().find(|host| host.name == name || host.fqdn == name);
    found.map(|host| host.name).with_context(|| {
        format!(
            "no end `{name}`: links have the ends ha-a, ha-b, witness and controller, which is this machine"
        )
    })
}

/// Drops packets in these directions from now on.
pub(crate) fn drop_packets(lab: &Lab, directions: &[Direction], loss_percent: u8) -> anyhow::Result<()> {
    let mut faults = current(lab)?;
    faults.extend(directions.iter().map(|direction| (*direction, loss_percent)));
    install(lab, &faults)
}

/// Makes every packet to these hosts late. Needs a kernel that can.
pub(crate) fn delay_packets(lab: &Lab, link: Link, to: Option<&str>, delay_ms: u32) -> anyhow::Result<()> {
    if link == Link::Witness {
        bail!("delay acts on all a host receives on a segment; name the segment: public");
    }
    let late = format!("{delay_ms}ms");
    for port in ports(&pick(link, None, to)?) {
        let set = tc(lab, &["qdisc", "replace", "dev", &port, "root", "netem", "delay", &late]);
        set.context(
            "delay packets (--loss works without this): the kernel must have netem, CONFIG_NET_SCH_NETEM, \
             and tc comes with the package iproute2",
        )?;
    }
    Ok(())
}

/// Lets everything through again: on one link, or on all.
pub(crate) fn heal(lab: &Lab, link: Option<Link>) -> anyhow::Result<()> {
    let mut faults = current(lab)?;
    let healed: Vec<Direction> = match link {
        Some(link) => link.directions(),
        None => Link::ALL.into_iter().flat_map(Link::directions).collect(),
    };
    faults.retain(|direction, _| !healed.contains(direction));
    install(lab, &faults)?;
    if link != Some(Link::Witness) {
        for port in ports(&healed) {
            // Most ports were never made slow, and a host that is off has none.
            let _ = tc(lab, &["qdisc", "delete", "dev", &port, "root"]);
        }
    }
    Ok(())
}

/// The faults that are in force.
pub(crate) fn current(lab: &Lab) -> anyhow::Result<Faults> {
    let mut command = network::inside(lab, "nft");
    let output =
        child::run(command.args(["--json", "list", "ruleset", "bridge"])).context("list cut links")?;
    let listed: Value =
        serde_json::from_slice(&output.stdout).context("list cut links: read nft's answer")?;
    Ok(faults(&listed))
}

fn faults(listed: &Value) -> Faults {
    let items = listed.get("nftables").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let comments = items.iter().filter_map(|item| item.get("rule")?.get("comment")?.as_str());
    comments.filter_map(parse).collect()
}

fn parse(comment: &str) -> Option<(Direction, u8)> {
    let words: Vec<&str> = comment.split(' ').collect();
    let [segment, from, to, loss] = words.as_slice() else { return None };
    let known = Link::ALL.into_iter().flat_map(Link::directions);
    let direction = known.into_iter().find(|d| d.segment == *segment && d.from == *from && d.to == *to)?;
    Some((direction, loss.parse().ok()?))
}

fn install(lab: &Lab, faults: &Faults) -> anyhow::Result<()> {
    let mut command = network::inside(lab, "nft");
    child::feed(command.args(["--file", "-"]), &ruleset(faults))
        .context("set the links' packet filter")
        .map(drop)
}

/// The whole table, replaced in one transaction.
fn ruleset(faults: &Faults) -> String {
    let mut text = format!("add table {TABLE}\ndelete table {TABLE}\nadd table {TABLE}\n");
    for hook in ["forward", "input", "output"] {
        text += &format!("add chain {TABLE} {hook} {{ type filter hook {hook} priority 0; }}\n");
    }
    for (direction, loss) in faults {
        let Direction { segment, from, to } = direction;
        let source = format!("iifname \"{from}-{segment}\"");
        let target = format!("oifname \"{to}-{segment}\"");
        let (hook, ends) = match (*from, *to) {
            (CONTROLLER, _) => ("output", target),
            (_, CONTROLLER) => ("input", source),
            _ => ("forward", format!("{source} {target}")),
        };
        let chance = if *loss < ALL { format!("numgen random mod 100 < {loss} ") } else { String::new() };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "add rule {TABLE} {hook} {ends} {chance}drop comment \"{segment} {from} {to} {loss}\""
        );
    }
    text
}

/// The machine's ends of the cables to the hosts that these directions lead to.
fn ports(directions: &[Direction]) -> Vec<String> {
    let is_host = |d: &&Direction| HOSTS.iter().any(|host: &&Host| host.name == d.to);
    let mut ports: Vec<String> =
        directions.iter().filter(is_host).map(|d| format!("{}-{}", d.to, d.segment)).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn tc(lab: &Lab, words: &[&str]) -> anyhow::Result<()> {
    child::run(network::inside(lab, "tc").args(words))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directions: &[Direction]) -> Vec<String> {
        directions.iter().map(|d| format!("{}>{}", d.from, d.to)).collect()
    }

    #[test]
    fn a_cut_without_ends_covers_both_directions_and_with_an_end_only_one() {
        assert_eq!(names(&pick(Link::Local, None, None).unwrap()), ["ha-a>ha-b", "ha-b>ha-a"]);
        assert_eq!(names(&pick(Link::Local, Some("ha-b"), None).unwrap()), ["ha-b>ha-a"]);
        assert_eq!(
            names(&pick(Link::Public, Some("ha-a"), Some("controller")).unwrap()),
            ["ha-a>controller"]
        );
        assert_eq!(pick(Link::Public, None, None).unwrap().len(), 12);
    }

    #[test]
    fn the_witness_link_leaves_the_pair_and_the_controller_alone() {
        let expected = ["ha-a>witness", "ha-b>witness", "witness>ha-a", "witness>ha-b"];
        assert_eq!(names(&pick(Link::Witness, None, None).unwrap()), expected);
    }

    #[test]
    fn an_end_that_is_not_on_the_link_is_refused() {
        assert!(pick(Link::Local, Some("witness"), None).is_err());
        assert!(pick(Link::Local, Some("ha-c"), None).is_err());
        assert!(pick(Link::Public, Some("ha-a"), Some("ha-a")).is_err());
    }

    #[test]
    fn every_fault_is_told_again_from_the_comment_of_its_rule() {
        for direction in Link::ALL.into_iter().flat_map(Link::directions) {
            let text = ruleset(&Faults::from([(direction, 30)]));
            let comment = text.rsplit('"').nth(1).unwrap();
            assert_eq!(parse(comment), Some((direction, 30)), "{text}");
            assert!(text.contains("numgen random mod 100 < 30 drop"), "{text}");
        }
        assert_eq!(parse("of somebody else"), None);
    }
}
