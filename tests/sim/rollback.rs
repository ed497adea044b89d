//! The source of a resync is lost for good on the way: the target goes back, byte for byte; and when the source
//! returns after all, nothing differs without anybody knowing.

use replica::control::{Command, Status};
use replica::engine::UndoPolicy;
use replica::event::{BLOCK, FrontOp, Range, Slot, Token};
use replica::state::{ConnectionState, DiskState, ReplicationState};

use crate::world::{Notice, World};

/// Blocks that the target has missed.
const MISSED: u64 = 1500;
const ROLLBACK: Token = Token(77);

fn pass(world: &mut World, ms: u64) -> Option<Result<(), String>> {
    let end = world.now + ms;
    let mut rolled_back = None;
    loop {
        while let Some(notice) = world.notices.pop_front() {
            if let Notice::Reply { token: ROLLBACK, result } = notice {
                rolled_back = Some(result.map_err(|refusal| format!("{refusal}: {}", refusal.detail)));
            }
        }
        if !world.step(end) {
            return rolled_back;
        }
    }
}

fn write(world: &mut World, slot: u32, first: u64, blocks: u64) {
    let data: Vec<u64> = (first..first + blocks).map(|block| u64::from(slot) << 20 | block).collect();
    let range = Range { offset: first * BLOCK, len: u32::try_from(blocks * BLOCK).unwrap() };
    world.front(0, Slot(slot), FrontOp::Write(range), data);
}

/// The second node was away while the first one, Primary, has written; it is just coming back.
fn returning(seed: u64) -> World {
    returning_in(World::new(seed), seed)
}

fn returning_in(mut world: World, seed: u64) -> World {
    world.start(0);
    world.start(1);
    pass(&mut world, 500);
    world.command(0, Token(1), Command::Primary { force: true, term: None, alone: false });
    pass(&mut world, 8_000);
    assert_eq!(status(&world, 1).device.disk, DiskState::UpToDate, "seed {seed}");
    world.crash(1, true);
    // So slow that the source has stored, on the way, that some blocks need not be sent any more.
    world.resync_rate_kib = if seed.is_multiple_of(3) { 600 } else { 0 };
    world.crash(0, false);
    world.start(0);
    world.command(0, Token(1), Command::Primary { force: true, term: None, alone: false });
    pass(&mut world, 2_000);
    for (slot, first) in (1000..).zip((0..MISSED).step_by(100)) {
        write(&mut world, slot, first, 100);
        pass(&mut world, 50);
    }
    world.start(1);
    world
}

fn status(world: &World, node: usize) -> Status {
    world.status(node).unwrap()
}

/// Lets the resync go on, under an application, until so many percent are done.
fn until_done(world: &mut World, percent: f64) {
    for slot in 2000..30_000 {
        let here = status(world, 1);
        if here.connection.replication == ReplicationState::SyncTarget
            && here.connection.sync.is_some_and(|sync| sync.done >= percent)
        {
            return;
        }
        assert!(here.connection.replication != ReplicationState::Established || slot < 2500, "too late");
        if slot % 7 == 0 && world.nodes[0].fronts.len() < 3 {
            write(world, slot, 1200 + u64::from(slot) * 13 % 600, 1);
        }
        pass(world, 1);
    }
    panic!("the resync did not come to {percent} %");
}

#[test]
fn whenever_the_source_is_lost_the_target_is_what_it_was_and_later_equal() {
    for (at, percent) in [0.0, 20.0, 50.0, 99.0].into_iter().enumerate() {
        for seed in 0..25 {
            let mut world = returning(seed * 4 + at as u64);
            until_done(&mut world, percent);
            // Every second time the target, too, goes down on the way.
            lose_source(&mut world);
            if seed % 2 == 0 {
                world.crash(1, seed % 4 == 0);
                world.start(1);
            }
            pass(&mut world, 2_000);
            let before = status(&world, 1).device;
            assert_eq!((before.disk, before.undo.is_some()), (DiskState::Inconsistent, true), "seed {seed}");
            world.command(1, ROLLBACK, Command::Rollback);
            let mut outcome = None;
            for round in 0..60 {
                outcome = outcome.or(pass(&mut world, 50));
                // And sometimes in the middle of going back.
                if seed % 3 == 0 && outcome.is_none() && round < 8 && world.rng.one_in(4) {
                    let power = world.rng.one_in(2);
                    world.crash(1, power);
                    world.start(1);
                    pass(&mut world, 5);
                    world.command(1, ROLLBACK, Command::Rollback);
                }
            }
            assert_eq!(outcome, Some(Ok(())), "seed {seed} at {percent} %");
            let node = &world.nodes[1];
            assert_eq!(node.undo.differs(&node.disk), None, "seed {seed} at {percent} %");
            assert_eq!(status(&world, 1).device.disk, DiskState::Outdated);
            returns(&mut world, seed);
        }
    }
}

/// For good, as it seems: without power, or out of reach and then still knowing what it has sent.
fn lose_source(world: &mut World) {
    if world.resync_rate_kib == 0 {
        world.crash(0, true);
    } else {
        (0..2).for_each(|node| world.set_cut(node, true));
    }
}

/// The source is there again: the resync runs anew, and a verify finds nothing.
fn returns(world: &mut World, seed: u64) {
    world.crash(1, seed.is_multiple_of(5));
    (0..2).for_each(|node| world.set_cut(node, false));
    if world.nodes[0].engine.is_none() {
        world.start(0);
    }
    world.start(1);
    pass(world, 20_000);
    let here = status(world, 1);
    assert_eq!(here.connection.replication, ReplicationState::Established, "seed {seed}: {here:?}");
    let [a, b] = &world.nodes;
    let blocks = a.disk.layout.data_bytes / BLOCK;
    let differs = (0..blocks).find(|block| a.disk.view(*block) != b.disk.view(*block));
    assert_eq!(differs, None, "seed {seed}: a block differs, and nobody knows");
}

#[test]
fn without_room_the_resync_goes_on_and_there_is_nothing_to_roll_back() {
    for seed in 0..20 {
        let mut world = returning(seed);
        world.nodes[1].cramped = seed % 2 == 0;
        until_done(&mut world, 0.0);
        world.nodes[1].cramped = true;
        until_done(&mut world, 60.0);
        assert!(world.log.iter().any(|line| line.contains("the resync goes on without an undo log")));
        lose_source(&mut world);
        pass(&mut world, 2_000);
        world.command(1, ROLLBACK, Command::Rollback);
        let refused = pass(&mut world, 100).unwrap().unwrap_err();
        assert!(refused.starts_with("There is nothing to roll back"), "{refused}");
        returns(&mut world, seed);
    }
}

#[test]
fn where_the_log_is_required_a_resync_waits_for_room_and_nothing_is_lost() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.undo_policy = UndoPolicy::Require;
        let mut world = returning_in(world, seed);
        let from_the_start = seed % 2 == 0;
        world.nodes[1].cramped = from_the_start;
        if !from_the_start {
            until_done(&mut world, 0.0);
            world.nodes[1].cramped = true;
        }
        pass(&mut world, 3_000);
        let here = status(&world, 1);
        assert_eq!(here.connection.state, ConnectionState::StandAlone, "seed {seed}");
        assert!(here.connection.standalone_reason.unwrap().contains("no space left on device"));
        let device = here.device;
        assert_eq!(
            (device.disk == DiskState::Inconsistent, device.undo.is_some()),
            (!from_the_start, !from_the_start)
        );
        world.nodes[1].cramped = false;
        world.command(1, Token(3), Command::Connect { discard_my_data: false });
        pass(&mut world, 20_000);
        assert_eq!(status(&world, 1).connection.replication, ReplicationState::Established, "seed {seed}");
    }
}
