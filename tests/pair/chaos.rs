//! Dice: random faults and operators against a managed pair, then repair, then it must serve again.

use cluster::config::Quorum;
use cluster::control::Command;
use cluster::event::Shutdown;
use cluster::member::{Node, Nodes, Voter};
use cluster::timing::Timing;

use crate::host::Fault;
use crate::managed::Cluster;
use crate::net::{LOCAL, PUBLIC};

/// Longest pause between two disturbances.
const PAUSE_MS: u64 = 4_000;
/// After the repair everything must run again within so long: several leases, restarts and windows.
const CONVERGE_MS: u64 = 240_000;

/// Plays one history; the error tells what was violated.
pub(crate) fn play(seed: u64, disturbances: u64) -> (Cluster, Result<(), String>) {
    let profile = [Timing::FAST_MS, Timing::DEFAULT_MS][(seed % 2) as usize];
    let mut cluster = Cluster::new(seed, Quorum::Witness, profile);
    let result = history(&mut cluster, disturbances);
    (cluster, result)
}

fn history(cluster: &mut Cluster, disturbances: u64) -> Result<(), String> {
    cluster.bring_up(Quorum::Witness)?;
    for _ in 0..disturbances {
        let pause = cluster.world.rng.below(PAUSE_MS);
        cluster.pass(pause)?;
        disturb(cluster);
    }
    repair(cluster)
}

fn disturb(cluster: &mut Cluster) {
    let node = Node::ALL[cluster.world.rng.below(2) as usize];
    let service = ["mariadb", "apache"][cluster.world.rng.below(2) as usize];
    let dice = cluster.world.rng.below(3) as usize;
    match cluster.world.rng.below(40) {
        0..3 => cluster.power_off(node),
        3..8 => cluster.power_on(node),
        8 => Node::ALL.into_iter().for_each(|n| cluster.power_off(n)),
        9 => cluster.stop_witness(false),
        10..13 => cluster.start_witness(),
        13 => cluster.kill_manager(node),
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
            cluster.command(node, Command::Switchover { to: None });
        }
        32 => {
            cluster.command(node, Command::Standby { node });
        }
        33 => {
            cluster.command(node, Command::Online { node });
        }
        34 => cluster.kill_service(node, service),
        35 => {
            let faults = [None, Some(Fault::Start), Some(Fault::Stop), None];
            let fault = faults[cluster.world.rng.below(4) as usize];
            cluster.set_fault(node, service, fault);
        }
        36 => cluster.start_service(node, service),
        37 => cluster.shut_down_manager(node, Shutdown::Restart),
        38 => cluster.set_public_link(node, false),
        _ => {}
    }
}

/// Mends everything, takes back what operators asked for, and waits for a protected service.
fn repair(cluster: &mut Cluster) -> Result<(), String> {
    cluster.tell("--- repair".into());
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
            cluster.start_replicad(node);
            cluster.start_manager(node);
        }
        for node in Node::ALL {
            cluster.command(Node::A, Command::Online { node });
        }
        cluster.command(Node::B, Command::Cleanup { resource: None });
        cluster.command(Node::A, Command::Resume);
        cluster.pass(10_000)?;
        let served = Node::ALL.into_iter().any(|n| cluster.is_served_by(n));
        if served && cluster.record().synced == Nodes::BOTH {
            return Ok(());
        }
    }
    Err(format!(
        "converges_after_heal: not served and complete: A {:?} B {:?}",
        cluster.status(Node::A).map(|s| (s.verdict, s.because, s.why)),
        cluster.status(Node::B).map(|s| (s.verdict, s.because, s.why))
    ))
}
