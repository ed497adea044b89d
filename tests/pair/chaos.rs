//! Dice: random faults and operators against a managed pair, then repair, then it must serve again.

use cluster::config::{ForeignStart, Quorum};
use cluster::control::Command;
use cluster::event::Shutdown;
use cluster::member::{Node, Nodes, Voter};
use cluster::timing::Timing;

use crate::host::Fault;
use crate::managed::{Cluster, Sabotage};
use crate::net::{LOCAL, PUBLIC};
use crate::setup;
use crate::world::World;
use replica::state::DiskState;

/// Longest pause between two disturbances.
const PAUSE_MS: u64 = 4_000;
/// How often a row is written: what counts is that there are some between two disturbances.
const ROW_MS: u64 = 60;
/// After the repair everything must run again within so long: several leases, restarts and windows.
const CONVERGE_MS: u64 = 240_000;

/// After a witness's disk was put back to an older copy, or a store was lost, nothing else may fail until it was noticed.
const NOTICE_MS: u64 = 3_000;

/// Plays one history; the error tells what was violated.
pub(crate) fn play(
    seed: u64,
    disturbances: u64,
    sabotage: Option<Sabotage>,
) -> (Cluster, Result<(), String>) {
    let profile = [Timing::FAST_MS, Timing::DEFAULT_MS][(seed % 2) as usize];
    // Most pairs have a witness; the other ways of deciding are tried, too.
    let quorum = match seed % 8 {
        6 if sabotage.is_none() => Quorum::Fencing,
        7 if sabotage.is_none() => Quorum::Manual,
        _ if sabotage == Some(Sabotage::OrderDoesNotLeap) => Quorum::Manual,
        _ => Quorum::Witness,
    };
    let mut cluster = Cluster::new(World::with_enlarged_disks(seed), quorum, profile);
    cluster.sabotage = sabotage;
    cluster.client.pace = ROW_MS;
    if seed.is_multiple_of(3) {
        cluster.configure(|config| config.everywhere.push(setup::everywhere("haproxy")));
    }
    if seed.is_multiple_of(5) {
        cluster.configure(|config| config.policy.foreign_start = ForeignStart::Alarm);
    }
    let result = history(&mut cluster, quorum, disturbances);
    (cluster, result)
}

fn history(cluster: &mut Cluster, quorum: Quorum, disturbances: u64) -> Result<(), String> {
    cluster.bring_up(quorum)?;
    for _ in 0..disturbances {
        let pause = cluster.world.rng.below(PAUSE_MS);
        cluster.pass(pause)?;
        match cluster.world.rng.below(55) {
            0 => restore_witness(cluster)?,
            54 => lose_store(cluster)?,
            1..7 => operate(cluster),
            7..11 => strike(cluster)?,
            _ => disturb(cluster),
        }
    }
    repair(cluster)
}

/// Troubles come together: the replication daemon of the active host is killed, and soon after another one has gone
/// on, one of the two machines loses power.
fn strike(cluster: &mut Cluster) -> Result<(), String> {
    let active = Node::ALL.into_iter().find(|node| cluster.is_exported(*node));
    let Some(active) = active.filter(|_| cluster.record().synced == Nodes::BOTH) else { return Ok(()) };
    if cluster.world.rng.one_in(3) {
        // Or nobody hears the active host any more, and those that are left have just been started.
        cluster.isolate(active.into(), true);
        cluster.kill_manager(active.peer());
        cluster.stop_witness(false);
        cluster.start_witness();
        return Ok(());
    }
    cluster.kill_replicad(active);
    let soon = 250 + cluster.world.rng.below(1000);
    cluster.pass(soon)?;
    let struck = if cluster.world.rng.one_in(2) { active } else { active.peer() };
    cluster.power_off(struck);
    Ok(())
}

/// The witness's disk is put back to an older copy while everybody who remembers it is there.
fn restore_witness(cluster: &mut Cluster) -> Result<(), String> {
    let snapshot = cluster.witness_snapshot();
    let pause = cluster.world.rng.below(PAUSE_MS);
    cluster.pass(pause)?;
    let complete = cluster.record().synced == Nodes::BOTH;
    if !complete || !cluster.all_is_well() {
        return Ok(());
    }
    cluster.restore_witness(snapshot);
    cluster.start_witness();
    cluster.pass(NOTICE_MS)
}

/// What a manager has stored is lost while everybody else remembers.
fn lose_store(cluster: &mut Cluster) -> Result<(), String> {
    // A witness that has lost its own store may not have been admitted again yet.
    if cluster.record().synced != Nodes::BOTH || cluster.witness_was_wiped || !cluster.all_is_well() {
        return Ok(());
    }
    let node = Node::ALL[cluster.world.rng.below(2) as usize];
    cluster.wipe_manager(node);
    cluster.pass(NOTICE_MS)
}

fn operate(cluster: &mut Cluster) {
    let node = Node::ALL[cluster.world.rng.below(2) as usize];
    let command = match cluster.world.rng.below(12) {
        0..4 => Command::Switchover { to: None },
        4 => Command::Standby { node },
        5 => Command::Online { node },
        6 => Command::Maintenance { on: cluster.world.rng.one_in(3) },
        7 => Command::Hold { reason: "chaos".into() },
        8 => Command::Resume,
        9 => Command::Cleanup { resource: None },
        // What a careful operator does: only when the other host is off.
        10 if !cluster.host(node.peer()).powered => Command::ConfirmOff { node: node.peer() },
        11 if !cluster.host(node.peer()).powered => Command::ForcePrimary { node, accept_loss: true },
        _ => Command::Restart { resource: "mariadb".into() },
    };
    cluster.command(node, command);
}

fn disturb(cluster: &mut Cluster) {
    let node = Node::ALL[cluster.world.rng.below(2) as usize];
    let service = ["mariadb", "apache"][cluster.world.rng.below(2) as usize];
    let dice = cluster.world.rng.below(3) as usize;
    match cluster.world.rng.below(46) {
        0..3 => cluster.power_off(node),
        3..8 => cluster.power_on(node),
        8 => Node::ALL.into_iter().for_each(|n| cluster.power_off(n)),
        9 => cluster.stop_witness(false),
        10..13 => cluster.start_witness(),
        13 => cluster.kill_manager(node),
        14 if dice == 0 => cluster.lose_replicad(node),
        14 => cluster.kill_replicad(node),
        15 => cluster.pause_manager(node, true),
        16..19 => cluster.pause_manager(node, false),
        19 => cluster.isolate([Voter::A, Voter::B, Voter::Witness][dice], true),
        20 => cluster.cut_segment([LOCAL, PUBLIC][dice % 2], true),
        21 => cluster.cut(node.into(), node.peer().into(), LOCAL, true),
        22 => cluster.cut(node.into(), Voter::Witness, PUBLIC, true),
        23..28 => cluster.heal(),
        28 => {
            cluster.net.loss = [0, 3, 10][cluster.world.rng.below(3) as usize];
            cluster.net.repeat = [0, 5][cluster.world.rng.below(2) as usize];
            cluster.net.lag = [1, 50, 400][cluster.world.rng.below(3) as usize];
        }
        29..32 => {
            let ms = [300, 1500, 4000, 9000][cluster.world.rng.below(4) as usize];
            if dice == 0 {
                cluster.suspend(node, ms);
            } else {
                cluster.freeze(node, ms);
            }
        }
        32 => cluster.stop_witness(true),
        33 => cluster.cut(node.peer().into(), node.into(), PUBLIC, true),
        34 => cluster.kill_service(node, service),
        35 => {
            let faults = [None, Some(Fault::Start), Some(Fault::Stop), None];
            let fault = faults[cluster.world.rng.below(4) as usize];
            cluster.set_fault(node, service, fault);
        }
        36 => cluster.start_service(node, service),
        37 => cluster.shut_down_manager(node, Shutdown::Restart),
        40..42 => cluster.exchange_replicad(node),
        42.. => cluster.resize(node),
        38 => cluster.set_public_link(node, false),
        39 => {
            let ms = 500 + cluster.world.rng.below(5_000);
            cluster.leap([Voter::A, Voter::B, Voter::Witness][dice], ms);
        }
    }
}

/// Mends everything, takes back what operators asked for, and waits for a protected service.
fn repair(cluster: &mut Cluster) -> Result<(), String> {
    cluster.tell("--- repair".into());
    cluster.is_mended = true;
    cluster.heal();
    cluster.start_witness();
    for node in Node::ALL {
        cluster.pause_manager(node, false);
        for service in ["mariadb", "apache"] {
            cluster.set_fault(node, service, None);
        }
        cluster.power_on(node);
    }
    let end = cluster.world.now + CONVERGE_MS;
    while cluster.world.now < end {
        for node in Node::ALL {
            cluster.power_on(node);
            cluster.start_replicad(node);
            cluster.start_manager(node);
        }
        take_back(cluster);
        Node::ALL.into_iter().for_each(|node| finish_forced(cluster, node));
        cluster.pass(10_000)?;
        let served = Node::ALL.into_iter().any(|n| cluster.is_served_by(n));
        if served && cluster.record().synced == Nodes::BOTH {
            return nothing_is_forgotten(cluster);
        }
    }
    Err(format!("converges_after_heal: not served and complete:\n{}", cluster.told()))
}

/// Where everything is well, every request is answered.
fn nothing_is_forgotten(cluster: &mut Cluster) -> Result<(), String> {
    let asked = cluster.client.unanswered();
    cluster.pass(5_000)?;
    let still = cluster.client.unanswered().intersection(&asked).next().copied();
    still.map_or(Ok(()), |(node, slot)| {
        Err(format!("converges_after_heal: {slot:?} of node {node} is never answered:\n{}", cluster.told()))
    })
}

/// A host that was forced while its disk was a mix needs a rollback, and, should it have restarted since, to be forced
/// once more.
fn finish_forced(cluster: &mut Cluster, node: Node) {
    cluster.roll_back(node);
    let is_outdated = |s: &replica::control::Status| s.device.disk == DiskState::Outdated;
    let alone = cluster.record().primary == Some(node) && cluster.record().synced == Nodes::only(node);
    if alone && cluster.world.status(node as usize).as_ref().is_some_and(is_outdated) {
        cluster.command(node, Command::ForcePrimary { node, accept_loss: true });
    }
}

/// Everything that operators asked for.
fn take_back(cluster: &mut Cluster) {
    let intent = cluster.record().intent;
    for node in Node::ALL {
        if intent.standby.contains(node) {
            cluster.command(Node::A, Command::Online { node });
        }
        if intent.diverged.contains(node) {
            cluster.command(Node::A, Command::DiscardDiverged { node });
        }
    }
    if intent.hold.is_some() || intent.failovers > 0 {
        cluster.command(Node::A, Command::Resume);
    }
    if intent.maintenance {
        cluster.command(Node::B, Command::Maintenance { on: false });
    }
    cluster.command(Node::B, Command::Cleanup { resource: None });
}
