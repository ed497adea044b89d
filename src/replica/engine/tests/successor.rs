//! What a process owes the one that it follows (`engine/resume.rs`).

use super::*;
use crate::engine::Resume;

/// A process that follows a Primary under a cluster manager, in step with its peer, with one hot extent.
fn successor() -> Bench {
    let settings = Settings { managed: true, ..settings(0) };
    let resume = Resume { term: Some(3), alone: false, loss: 0, seen: Some(GENERATION) };
    Bench::resumed(settings, Some(resume), |attached| {
        attached.superblock.primary = true;
        attached.superblock.fence = 3;
        attached.activity = Transaction { sequence: 4, extents: vec![0] };
    })
}

/// The peer, which has everything that was answered.
fn in_step(bench: &Bench, reconnect: bool) -> PeerState {
    PeerState { disk: DiskState::UpToDate, reconnect, ..bench.peer() }
}

#[test]
fn a_peer_that_stands_gets_no_block_and_owes_a_flush() {
    let mut bench = successor();
    bench.front(0, FrontOp::Flush);
    let peer = in_step(&bench, true);
    let link = bench.connect(1, peer);
    bench.receive(link, Message::Changed { role: Role::Secondary, disk: DiskState::UpToDate });
    assert_eq!(bench.engine.bitmap.count(), 0, "nothing differs");
    assert!(bench.taken_answer().is_none(), "what the process before has written is not flushed");
    let Some(Message::Flush { id }) = bench.sent("Flush") else { panic!("the peer is not asked to flush") };
    bench.receive(link, Message::FlushAck { id });
    bench.disk();
    assert_eq!(bench.taken_answer(), Some((Slot(FRONT), Ok(()))));
}

#[test]
fn what_a_peer_that_restarted_may_have_lost_is_marked() {
    let mut bench = successor();
    let peer = in_step(&bench, false);
    bench.connect(1, peer);
    assert_eq!(bench.engine.bitmap.count(), crate::activity::EXTENT_BYTES.min(DISK_BYTES) / BLOCK);
}

#[test]
fn the_activity_log_goes_on() {
    let mut bench = successor();
    bench.quick_metadata = false;
    let peer = in_step(&bench, true);
    let link = bench.connect(1, peer);
    bench.receive(link, Message::Changed { role: Role::Secondary, disk: DiskState::UpToDate });
    bench.metadata();
    bench.front(0, FrontOp::Write(block(1)));
    assert!(bench.taken_write().is_some(), "an extent that is in the log is taken for cold");
}
