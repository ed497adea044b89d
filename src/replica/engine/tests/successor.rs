//! What a process owes the one that it follows (`engine/resume.rs`).

use super::*;
use crate::engine::Resume;

/// A process that follows a Primary under a cluster manager, in step with its peer, with one hot extent.
fn successor() -> Bench {
    let settings = Settings { managed: true, ..settings(0) };
    let resume = Resume { term: Some(3), alone: false, loss: 0, seen: Some(GENERATION) };
    Bench::following(settings, (Some(resume), None), |attached| {
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

fn loss(bench: &Bench) -> (u64, bool) {
    let managed = bench.engine.status(bench.now).managed.unwrap();
    (managed.loss, managed.blocked)
}

#[test]
fn the_manager_is_not_asked_while_the_connection_is_made() {
    let mut bench = successor();
    bench.front(0, FrontOp::Write(block(1)));
    bench.now += 900;
    bench.event(Event::Tick);
    assert_eq!(loss(&bench), (0, false), "the peer may not have heard yet");
    bench.now += 100;
    bench.event(Event::Tick);
    assert_eq!(loss(&bench), (1, true));
}

#[test]
fn a_peer_whose_process_is_replaced_is_not_lost() {
    let mut bench = successor();
    let peer = in_step(&bench, true);
    let link = bench.connect(1, peer.clone());
    let whole = Message::Changed { role: Role::Secondary, disk: DiskState::UpToDate };
    bench.receive(link, whole.clone());
    bench.front(0, FrontOp::Write(block(1)));
    bench.lose(link);
    bench.now += 300;
    let link = bench.connect(2, peer);
    bench.receive(link, whole);
    assert_eq!((loss(&bench), bench.engine.bitmap.count()), ((0, false), 0));
    assert!(bench.sent("Write").is_some(), "what was not confirmed is sent once more");
    bench.receive(link, Message::Goodbye { disk: DiskState::UpToDate });
    assert_eq!(loss(&bench), (1, true), "who says goodbye does not come back by itself");
}

#[test]
fn a_peer_that_lacks_data_is_told_to_the_manager_at_once() {
    let mut bench = successor();
    let peer = in_step(&bench, false);
    bench.connect(1, peer);
    assert_eq!(loss(&bench), (1, true), "a resync needs its decision");
}

/// The peer, in whose process's place another one has come.
fn secondary(contact: u64) -> Bench {
    let settings = Settings { managed: true, ..settings(0) };
    Bench::following(settings, (None, Some(contact)), |_| {})
}

#[test]
fn a_secondary_has_lost_nothing_while_its_machine_ran() {
    let mut bench = secondary(GENERATION);
    assert!(bench.engine.superblock.survived, "the disk is flushed, and it stays known over a power loss");
    let primary = PeerState { role: Role::Primary, ..in_step(&bench, false) };
    bench.connect(1, primary);
    let Some(Message::State(state)) = bench.sent("State") else { panic!("nothing is said") };
    assert!(state.reconnect);
    bench.receive(LinkId(1), Message::Changed { role: Role::Primary, disk: DiskState::UpToDate });
    assert_eq!(bench.engine.contact(), Some(GENERATION));
}

#[test]
fn what_was_noted_of_another_generation_counts_for_nothing() {
    assert!(!secondary(GENERATION + 1).engine.superblock.survived);
    let crashed = Bench::following(settings(0), (None, Some(GENERATION)), |attached| {
        attached.superblock.primary = true;
    });
    assert!(!crashed.engine.superblock.survived, "it was Primary meanwhile");
}

/// The peer confirms what it gets before it says that its disk is UpToDate.
#[test]
fn what_was_held_back_while_a_process_was_replaced_is_answered() {
    let mut bench = successor();
    let peer = in_step(&bench, true);
    let whole = Message::Changed { role: Role::Secondary, disk: DiskState::UpToDate };
    let link = bench.connect(1, peer.clone());
    bench.receive(link, whole.clone());
    bench.front(0, FrontOp::Write(block(1)));
    bench.disk();
    bench.lose(link);
    bench.todo.clear();
    let link = bench.connect(2, PeerState { disk: DiskState::Consistent, ..peer });
    let Some(Message::Write { id, .. }) = bench.sent("Write") else { panic!("not sent again") };
    bench.receive(link, Message::WriteAck { id });
    assert_eq!(bench.taken_answer(), None, "the peer is not whole");
    bench.receive(link, whole);
    assert_eq!(bench.taken_answer(), Some((Slot(FRONT), Ok(()))));
}
