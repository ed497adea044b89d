//! Blocks that change by themselves on one disk: verify finds them under a running application, and repairs them.

use replica::control::{Command, VerifyStatus};
use replica::event::{BLOCK, FrontOp, Range, Slot, Token};

use crate::world::{Notice, World};

/// Far from each other, two of them neighbours.
const ROTTEN: [u64; 4] = [7, 1000, 1001, 3000];

/// Two nodes in sync, the first one Primary.
fn in_sync(seed: u64) -> World {
    let mut world = World::new(seed);
    world.start(0);
    world.start(1);
    pass(&mut world, 500);
    world.command(0, Token(1), Command::Primary { force: true, term: None, alone: false });
    pass(&mut world, 5_000);
    world
}

/// Lets time pass with an application that writes to some of the blocks over and over.
fn pass(world: &mut World, ms: u64) {
    let end = world.now + ms;
    let mut slot = 1000 + u32::try_from(world.now).unwrap() * 8;
    while world.step(end) {
        while let Some(notice) = world.notices.pop_front() {
            assert!(!matches!(notice, Notice::Reply { result: Err(_), .. }), "refused");
        }
        if world.nodes[0].exported && world.nodes[0].fronts.len() < 4 && world.rng.one_in(4) {
            slot += 1;
            let block = 64 + world.rng.below(40);
            let range = Range { offset: block * BLOCK, len: u32::try_from(BLOCK).unwrap() };
            world.front(0, Slot(slot), FrontOp::Write(range), vec![u64::from(slot)]);
        }
    }
}

fn verify(world: &mut World, repair: bool) -> VerifyStatus {
    world.command(0, Token(2), Command::Verify { repair });
    for _ in 0..200 {
        pass(world, 100);
        let status = world.status(0).and_then(|s| s.connection.verify).unwrap();
        if !status.running {
            return status;
        }
    }
    panic!("the verify did not end");
}

#[test]
fn what_rots_on_either_disk_is_found_exactly_and_repaired_from_the_primary() {
    for seed in 0..30 {
        let mut world = in_sync(seed);
        let clean = verify(&mut world, false);
        assert_eq!((clean.differing_kib, clean.interrupted.as_ref()), (0, None), "seed {seed}");
        let node = usize::try_from(seed % 2).unwrap();
        ROTTEN.iter().for_each(|block| world.nodes[node].disk.rot(*block));
        let found = verify(&mut world, false);
        assert_eq!(found.places, [(28, 4), (4000, 8), (12_000, 4)], "seed {seed}");
        assert_eq!((found.differing_kib, found.repaired_kib), (16, 0));
        let repaired = verify(&mut world, true);
        assert_eq!((repaired.differing_kib, repaired.repaired_kib), (16, 16), "seed {seed}");
        assert_eq!(verify(&mut world, false).differing_kib, 0, "seed {seed}");
        let [a, b] = &world.nodes;
        assert!(ROTTEN.iter().all(|block| a.disk.view(*block) == b.disk.view(*block)), "seed {seed}");
    }
}

#[test]
fn a_repair_that_is_cut_off_leaves_each_block_as_it_was_or_repaired() {
    for seed in 0..60 {
        let mut world = in_sync(seed);
        ROTTEN.iter().for_each(|block| world.nodes[1].disk.rot(*block));
        world.command(0, Token(2), Command::Verify { repair: true });
        let some = world.rng.below(60);
        pass(&mut world, some);
        world.crash(1, true);
        pass(&mut world, 1_000);
        world.start(1);
        pass(&mut world, 5_000);
        let [a, b] = &world.nodes;
        for block in ROTTEN {
            let same = a.disk.view(block) == b.disk.view(block);
            assert!(
                same || b.disk.view(block) == u64::MAX / 2 + block,
                "seed {seed}: block {block} is neither"
            );
        }
        assert_eq!(verify(&mut world, true).interrupted, None, "seed {seed}");
        assert_eq!(verify(&mut world, false).differing_kib, 0, "seed {seed}");
    }
}
