//! Faults at random: the rules of the bench hold at every moment, and after the last fault everything comes back.

use super::bench::{World, index};
use crate::config::Quorum;
use crate::control::Command;
use crate::event::Shutdown;
use crate::member::{Node, Nodes};

/// Lives of one normal test run.
const LIVES: u64 = 40;

/// Numbers that look random and are the same every time (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
}

fn fault(world: &mut World, dice: &mut Dice, token: u64) {
    let node = Node::ALL[usize::from(dice.below(2) == 1)];
    let i = index(node);
    let running = world.hosts[i].engine.is_some();
    match dice.below(12) {
        0 if world.hosts[i].powered => world.power_off(node),
        0 | 1 if !world.hosts[i].powered => world.boot(node),
        1 if running => world.kill_manager(node),
        2 if world.hosts[i].powered && !running => world.start_manager(node),
        3 => world.witness[i] = !world.witness[i],
        4 => world.heartbeats = !world.heartbeats,
        5 => {
            world.replication = !world.replication;
            world.links();
        }
        6 if running => world.crash(node, 2),
        7 if running => world.command(node, Command::Switchover { to: None }, token),
        8 if running => world.shutdown(node, Shutdown::HandOver),
        9 if world.hosts[i].disk.up => world.crash_replica(node),
        9 => {
            world.hosts[i].disk.up = true;
            world.links();
        }
        10 => world.unknown.push(dice.below(2) == 1),
        _ => {}
    }
}

fn heal(world: &mut World) {
    world.witness = [true, true];
    world.heartbeats = true;
    world.replication = true;
    world.unknown.clear();
    for node in Node::ALL {
        let i = index(node);
        world.hosts[i].disk.up = true;
        if !world.hosts[i].powered {
            world.boot(node);
        } else if world.hosts[i].engine.is_none() {
            world.start_manager(node);
        }
    }
    world.links();
}

#[test]
fn whatever_happens_there_is_one_primary_and_everything_comes_back() {
    // Read when this is compiled: the core itself knows no environment.
    let number = |text: Option<&str>| text.and_then(|s| s.parse::<u64>().ok());
    let first = number(option_env!("SEED")).unwrap_or(0);
    for seed in first..first + number(option_env!("LIVES")).unwrap_or(LIVES) {
        println!("seed {seed}");
        let mut dice = Dice(seed);
        let mut world = World::settled(Quorum::Witness);
        for token in 0..20 {
            fault(&mut world, &mut dice, 100 + token);
            let pause = [3, 30, 300, 3_000][usize::try_from(dice.below(4)).unwrap()];
            world.run(1 + dice.below(pause));
        }
        heal(&mut world);
        // Whoever was ending may end now.
        world.run(30_000);
        heal(&mut world);
        world.run(30_000);
        world.command(Node::A, Command::Cleanup { resource: None }, 900);
        world.run(10_000);
        let primary = world.record.primary.unwrap();
        world.assert_runs_on(primary);
        assert_eq!(world.record.synced, Nodes::BOTH, "{:#?}", world.status(primary).why);
    }
}
