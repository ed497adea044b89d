//! Thousands of lives in bad weather, each from a seed: whatever is lost, repeated, overtaken or crashes, what the
//! store answered must be explained by one line of records (linearizability of a register with unique values:
//! one record a version; nothing answered is older than what was answered before the question; what was refused
//! never appears).

use std::collections::{BTreeMap, BTreeSet};

use cluster::config::Quorum;
use cluster::member::{Node, Voter};
use cluster::record::{Record, Term, Version};
use cluster::store::{LeaseRule, Op, Outcome, RequestId};
use cluster::timing::Millis;

use crate::bundled::{OfBundled, timing};
use crate::etcd::OfEtcd;
use crate::world::{CALM, Family, VOTERS, Weather, World};

const STEPS: u64 = 60;

/// An operation that was begun.
struct Begun {
    at: Millis,
    /// Base and name of a swap.
    swap: Option<(Record, String)>,
    renew: Option<Term>,
}

/// What a manager on a node knows.
#[derive(Default)]
struct Manager {
    base: Option<Record>,
    open: Option<RequestId>,
    /// The last swap's fate is not known: a no-op must be committed first.
    barrier: bool,
    next: u64,
}

/// One life.
struct Life<F: Family> {
    world: World<F>,
    managers: BTreeMap<Node, Manager>,
    begun: BTreeMap<(Node, RequestId), Begun>,
    /// What was seen to be committed.
    line: BTreeMap<Version, Record>,
    /// Names of records that were refused for good.
    refused: BTreeSet<String>,
    /// When which version was known to be committed at the latest.
    seen: Vec<(Millis, Version)>,
    /// Until when which node acts in which term.
    leases: Vec<(Node, Term, Millis)>,
    /// When which takeover was answered.
    takeovers: Vec<(Node, Term, Millis)>,
    commits: u32,
}

impl<F: Family> Life<F> {
    fn new(family: F, seed: u64) -> Self {
        Self {
            world: World::new(family, seed, CALM),
            managers: Node::ALL.into_iter().map(|node| (node, Manager::default())).collect(),
            begun: BTreeMap::new(),
            line: BTreeMap::new(),
            refused: BTreeSet::new(),
            seen: Vec::new(),
            leases: Vec::new(),
            takeovers: Vec::new(),
            commits: 0,
        }
    }

    fn live(mut self, wipe_witness: bool) -> u32 {
        self.create();
        let random = &mut self.world.random;
        self.world.weather = Weather {
            loss_percent: random.below(30),
            repeat_percent: random.below(20),
            delay_ms: 1 + random.below(30),
            flush_ms: 1 + random.below(8),
            crash_permille: random.below(40),
        };
        let mut restarts: Vec<(Millis, Voter)> = Vec::new();
        for _ in 0..STEPS {
            for voter in std::mem::take(&mut self.world.crashed) {
                restarts.push((self.world.now + self.world.random.below(1_000), voter));
            }
            let now = self.world.now;
            for (_, voter) in restarts.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
                if wipe_witness && voter == Voter::Witness && self.world.random.percent(30) {
                    self.world.wipe(voter);
                }
                self.world.start(voter);
                if let Some(node) = voter.node() {
                    self.managers.get_mut(&node).unwrap().open = None;
                }
            }
            self.disturb();
            for node in Node::ALL {
                self.act(node);
            }
            let patience = if self.world.random.percent(10) { 3_000 } else { 60 };
            let until = self.world.now + self.world.random.below(patience);
            self.world.run_until(until);
            self.collect();
        }
        self.heal();
        self.judge();
        self.commits
    }

    fn create(&mut self) {
        let create =
            Op::Swap { expect: Version(0), record: Record::created(Node::A), lease: LeaseRule::Whatever };
        let Outcome::Committed(record) = self.world.call(Node::A, 0, create) else {
            panic!("no first record")
        };
        self.learn(record);
        // Everybody has it: an empty data node together with a lost witness is one failure too many.
        let later = self.world.now + 100;
        self.world.run_until(later);
    }

    fn disturb(&mut self) {
        let random = &mut self.world.random;
        if random.percent(10) {
            self.world.cut.clear();
        } else if random.percent(10) {
            let pick = |n: u64| VOTERS[usize::try_from(n).unwrap()];
            let (one, other) = (pick(random.below(3)), pick(random.below(3)));
            self.world.cut.push((one, other));
        }
        if self.world.random.percent(3) {
            let voter = VOTERS[usize::try_from(self.world.random.below(3)).unwrap()];
            if self.world.is_up(voter) {
                self.world.crash(voter);
            }
        }
    }

    /// A manager without an open operation begins one.
    fn act(&mut self, node: Node) {
        if !self.world.is_up(node.into()) || self.world.random.percent(30) {
            return;
        }
        let random = self.world.random.next();
        let manager = self.managers.get_mut(&node).unwrap();
        if manager.open.is_some() {
            return;
        }
        manager.next += 1;
        let id = RequestId(manager.next);
        let (op, swap) = choose(node, manager, random);
        manager.open = Some(id);
        if let Op::Swap { record, .. } = &op
            && record.primary == Some(node.peer())
        {
            // Who hands over has stopped.
            self.leases.retain(|(holder, ..)| *holder != node);
        }
        let renew = if let Op::Renew { term } = &op { Some(*term) } else { None };
        self.begun.insert((node, id), Begun { at: self.world.now, swap, renew });
        self.world.submit(node, id, op);
    }

    fn collect(&mut self) {
        for ((node, id), (outcome, at)) in std::mem::take(&mut self.world.done) {
            let Some(begun) = self.begun.remove(&(node, id)) else { continue };
            let manager = self.managers.get_mut(&node).unwrap();
            if manager.open == Some(id) {
                manager.open = None;
            }
            let name = begun.swap.as_ref().map(|(_, name)| name.clone());
            match &outcome {
                Outcome::Committed(record) | Outcome::Conflict(record) => {
                    manager.base = Some(record.clone());
                    manager.barrier = false;
                    let before = self.seen.iter().filter(|(seen, _)| *seen < begun.at).map(|(_, v)| *v).max();
                    assert!(Some(record.version) >= before, "older than what was known: {record:?}");
                    self.seen.push((at, record.version));
                    self.learn(record.clone());
                }
                Outcome::Renewed { sent_at } => {
                    self.leases.push((node, begun.renew.unwrap(), sent_at + timing().holder_lease_ms));
                }
                Outcome::Unknown => manager.barrier = true,
                _ => {}
            }
            match (&outcome, begun.swap) {
                (Outcome::Committed(record), Some((base, name))) => {
                    assert_eq!(
                        record.intent.hold.as_ref(),
                        Some(&name),
                        "another's record is answered as ours"
                    );
                    let old = self.line.insert(base.version, base.clone());
                    assert!(old.is_none_or(|old| old == base), "made from a record that is not in the line");
                    self.commits += 1;
                    if record.term > base.term && record.primary == Some(node) {
                        self.takeovers.push((node, record.term, at));
                    }
                }
                (Outcome::Conflict(_) | Outcome::NoMajority { .. } | Outcome::Leased { .. }, Some(_)) => {
                    self.refused.extend(name);
                }
                _ => {}
            }
        }
    }

    fn learn(&mut self, record: Record) {
        let had = self.line.entry(record.version).or_insert_with(|| record.clone());
        assert_eq!(*had, record, "two records of one version");
    }

    /// Good weather again: the store must become readable by itself, with one answer for both.
    fn heal(&mut self) {
        self.world.weather = CALM;
        self.world.cut.clear();
        for voter in VOTERS {
            if !self.world.is_up(voter) {
                self.world.start(voter);
            }
        }
        let later = self.world.now + 10_000;
        self.world.run_until(later);
        self.collect();
        for node in Node::ALL {
            let id = 1_000_000;
            let outcome = self.world.call(node, id, Op::Read);
            let Outcome::Committed(record) = outcome else {
                panic!("not readable after healing: {outcome:?}")
            };
            let newest = *self.line.keys().max().unwrap();
            assert!(record.version >= newest, "a committed record is lost: {newest:?} > {record:?}");
            self.learn(record);
        }
    }

    fn judge(&self) {
        for record in self.line.values() {
            let name = record.intent.hold.as_ref();
            assert!(
                name.is_none_or(|name| !self.refused.contains(name)),
                "refused, yet committed: {record:?}"
            );
        }
        for (node, term, at) in &self.takeovers {
            for (holder, old, until) in &self.leases {
                let overlaps = holder != node && old < term && until > at;
                assert!(!overlaps, "{node:?} took over at {at} while {holder:?} could act until {until}");
            }
        }
    }
}

/// What a manager does next.
fn choose(node: Node, manager: &Manager, random: u64) -> (Op, Option<(Record, String)>) {
    let Some(base) = manager.base.clone() else { return (Op::Read, None) };
    if manager.barrier || random % 100 < 15 {
        return (Op::Read, None);
    }
    if random % 100 < 40 && base.primary == Some(node) {
        return (Op::Renew { term: base.term }, None);
    }
    if random % 100 < 45 {
        return (Op::PreVote, None);
    }
    let changes = [
        (base.degraded(node, base.term), LeaseRule::Whatever),
        (base.rejoined(node, base.term), LeaseRule::Whatever),
        (base.handed_over(node, base.term), LeaseRule::Whatever),
        (base.taken_over(node), LeaseRule::MustBeOver),
        (base.taken_over(node), LeaseRule::MustBeOver),
        (base.bumped(), LeaseRule::Whatever),
    ];
    let mut allowed: Vec<_> =
        changes.into_iter().filter_map(|(change, rule)| Some((change.ok()?, rule))).collect();
    let pick = usize::try_from(random / 128).unwrap_or(usize::MAX) % allowed.len();
    let (mut record, lease) = allowed.swap_remove(pick);
    let name = format!("{node:?}{}", manager.next);
    record.intent.hold = Some(name.clone());
    (Op::Swap { expect: base.version, record, lease }, Some((base, name)))
}

fn lives<F>(family: F, wipe_witness: bool, seeds: std::ops::Range<u64>)
where
    F: Family + Copy + std::panic::UnwindSafe + 'static,
{
    let mut commits = 0;
    // Read when this is compiled: a core, and so its tests here, sees no environment.
    let chosen = option_env!("STORE_SEED").and_then(|seed| seed.parse::<u64>().ok());
    for seed in chosen.map_or(seeds.clone(), |seed| seed..seed + 1) {
        let life = move || Life::new(family, seed).live(wipe_witness);
        match std::panic::catch_unwind(life) {
            Ok(some) => commits += some,
            Err(panic) => {
                eprintln!("STORE_SEED={seed} repeats this");
                std::panic::resume_unwind(panic)
            }
        }
    }
    let least = u32::try_from(seeds.end - seeds.start).unwrap();
    assert!(chosen.is_some() || commits > least, "hardly anything was committed: {commits}");
}

#[test]
fn one_line_of_records_with_a_witness() {
    lives(OfBundled { quorum: Quorum::Witness }, false, 0..1_500);
}

#[test]
fn one_line_of_records_while_the_witness_loses_its_store() {
    lives(OfBundled { quorum: Quorum::Witness }, true, 10_000..11_000);
}

#[test]
fn one_line_of_records_with_two_voters_by_hand() {
    lives(OfBundled { quorum: Quorum::Manual }, false, 20_000..20_500);
}

#[test]
fn one_line_of_records_with_two_voters_and_fencing() {
    lives(OfBundled { quorum: Quorum::Fencing }, false, 30_000..30_500);
}

#[test]
fn one_line_of_records_in_etcd() {
    lives(OfEtcd, false, 40_000..41_500);
}
