//! Mistakes that were found by reading or by the simulator, each with the smallest history that shows it.

use super::*;

#[test]
fn a_background_flush_without_the_peer_promises_nothing() {
    let (mut bench, link) = Bench::primary();
    bench.write_everywhere(link, 0, 5);
    bench.later(1000);
    let local = bench.taken_flush().unwrap();
    bench.lose(link);
    bench.done(local);
    bench.quick_metadata = false;
    bench.front(1, FrontOp::Flush);
    bench.disk();
    assert_eq!(bench.taken_answer(), None, "only one disk is flushed, and no generation says so");
    bench.metadata();
    assert_eq!(bench.taken_answer(), Some((Slot(FRONT + 1), Ok(()))));
}

#[test]
fn promotion_waits_for_writes_of_the_lost_peer() {
    let mut bench = Bench::new(|_| {});
    let peer = PeerState { role: Role::Primary, ..bench.peer() };
    let link = bench.connect(1, peer);
    bench.receive(link, Message::Write { id: 1, range: block(5) });
    let (slow, _) = bench.taken_write().unwrap();
    bench.lose(link);
    let token = bench.command(Command::Primary { force: false, term: None, alone: false });
    let exports = |b: &Bench| b.todo.iter().any(|a| matches!(a, Action::StartExport { .. }));
    assert!(!exports(&bench), "an old write could come after a new one");
    bench.done(slow);
    assert!(exports(&bench));
    bench.event(Event::ExportStarted);
    assert_eq!(bench.taken_reply(token), Some(Ok(())));
}

#[test]
fn a_device_that_cannot_be_made_on_a_failed_disk_is_answered() {
    let mut bench = Bench::new(|_| {});
    let peer = bench.peer();
    let link = bench.connect(1, peer);
    let token = bench.command(Command::Primary { force: false, term: None, alone: false });
    bench.receive(link, Message::RoleAnswer { granted: true });
    bench.front(0, FrontOp::Read(block(0)));
    let (io, _) = bench.taken_read().unwrap();
    bench.failed(io);
    bench.event(Event::ExportFailed { reason: "no loop device".into() });
    assert!(bench.taken_reply(token).unwrap().is_err());
    let down = bench.command(Command::Down);
    assert_eq!(bench.taken_reply(down), Some(Ok(())), "and the resource can be taken down");
}

#[test]
fn disconnect_is_answered_although_applications_are_at_work() {
    let (mut bench, link) = Bench::primary();
    bench.front(0, FrontOp::Read(block(1)));
    let token = bench.command(Command::Disconnect);
    assert!(bench.sent("Goodbye").is_some());
    bench.lose(link);
    assert_eq!(bench.taken_reply(token), Some(Ok(())));
}

#[test]
fn a_resource_that_goes_down_takes_no_other_command() {
    let mut bench = Bench::new(|_| {});
    let peer = bench.peer();
    let link = bench.connect(1, peer);
    bench.quick_metadata = false;
    let down = bench.command(Command::Down);
    for command in [
        Command::Primary { force: true, term: None, alone: false },
        Command::Connect { discard_my_data: false },
    ] {
        let token = bench.command(command);
        assert_eq!(bench.taken_reply(token).unwrap().unwrap_err().reason, Reason::InTransition);
    }
    bench.metadata();
    bench.lose(link);
    assert_eq!(bench.taken_reply(down), Some(Ok(())));
    assert!(bench.todo.contains(&Action::Stopped));
}

#[test]
fn a_device_that_was_taken_away_is_demoted_only_when_its_writes_are_over() {
    let (mut bench, link) = Bench::primary();
    bench.front(0, FrontOp::Write(block(5)));
    bench.front(1, FrontOp::Write(block(5)));
    let token = bench.command(Command::Secondary);
    bench.event(Event::ExportStopped);
    bench.disk();
    let mut id = 1;
    while bench.taken_reply(token).is_none() {
        assert_eq!(bench.engine.role.visible(), Role::Secondary);
        bench.receive(link, Message::RoleAsk);
        assert_eq!(bench.sent("RoleAnswer"), Some(Message::RoleAnswer { granted: false }));
        if bench.sent("Write").is_some() {
            bench.receive(link, Message::WriteAck { id });
            id += 1;
        }
        if let Some(Message::Flush { id }) = bench.sent("Flush") {
            bench.receive(link, Message::FlushAck { id });
        }
        bench.disk();
    }
    assert_eq!(id, 3, "demoted with a write left");
}

#[test]
fn the_size_of_a_device_that_was_made_is_not_reduced_by_a_smaller_peer() {
    let mut bench = Bench::new(|a| a.superblock.agreed_bytes = 0);
    bench.promote(None);
    let half = bench.engine.layout.data_bytes / 2;
    let peer = PeerState { bytes: half, capacity: half, ..bench.peer() };
    bench.connect(1, peer);
    assert_eq!(bench.engine.device_bytes(), bench.engine.layout.data_bytes);
    assert!(bench.sent("Goodbye").is_some(), "a smaller peer is accepted");
}

#[test]
fn a_bitmap_from_beyond_the_disk_is_no_panic() {
    let mut bench = Bench::ahead();
    let peer = bench.peer();
    let link = bench.connect(1, peer);
    for first_word in [1 << 40, u64::MAX / 64, u64::MAX - 1] {
        bench.receive(link, Message::Bitmap { first_word, words: vec![1; 4] });
    }
    assert_eq!(bench.engine.bitmap.count(), 1);
}

/// A source that has asked its disk for block 5.
fn source() -> (Bench, LinkId, IoId) {
    let mut bench = Bench::ahead();
    let peer = bench.peer();
    let link = bench.connect(1, peer);
    bench.receive(link, Message::BitmapEnd);
    bench.receive(link, Message::SyncReady);
    bench.compare(link, true);
    let (io, _) = bench.taken_read().unwrap();
    (bench, link, io)
}

#[test]
fn a_slow_target_does_not_make_the_clock_spin() {
    let (mut bench, link, io) = source();
    bench.done(io);
    for _ in 0..40 {
        bench.later(250);
        bench.receive(link, Message::Pong { id: 0 });
    }
    bench.todo.clear();
    bench.later(1);
    let wakes = |a: &Action| if let Action::WakeAt { at } = a { Some(*at) } else { None };
    while let Some(at) = bench.take(wakes) {
        assert!(at > bench.now + 100, "woken {} ms later for nothing", at - bench.now);
    }
}

#[test]
fn a_block_that_was_never_sent_cannot_be_confirmed() {
    let (mut bench, link, _io) = source();
    bench.receive(link, Message::ResyncAck { id: 2 });
    assert!(bench.todo.contains(&Action::Hangup { link }), "the disk still reads into the buffer");
    assert!(bench.taken_flush().is_none() && bench.engine.bitmap.contains(5));
}

#[test]
fn giving_up_data_is_forgotten_when_new_data_is_written() {
    let mut bench = Bench::new(|_| {});
    bench.command(Command::Connect { discard_my_data: true });
    bench.promote(None);
    let peer = bench.peer();
    bench.connect(1, peer);
    let Some(Message::State(state)) = bench.sent("State") else { panic!("no handshake") };
    assert!(!state.discard_my_data);
}

#[test]
fn bits_stay_when_the_peer_was_lost_before_its_flush() {
    let (mut bench, link, io) = source();
    bench.done(io);
    let Some(Message::Resync { id, .. }) = bench.sent("Resync") else { panic!("not sent") };
    bench.receive(link, Message::ResyncAck { id });
    let slow = bench.taken_flush().unwrap();
    bench.lose(link);
    let mut peer = bench.peer();
    peer.disk = DiskState::Inconsistent;
    bench.connect(2, peer);
    assert!(bench.engine.link.joined().is_some());
    bench.done(slow);
    assert!(bench.engine.bitmap.contains(5), "only this disk is flushed");
}

#[test]
fn a_forced_promotion_begins_a_new_generation() {
    let mut bench = Bench::new(|_| {});
    bench.promote(None);
    let generations = &bench.engine.superblock.generations;
    assert_ne!(
        generations.current, GENERATION,
        "the peer could give its data to the disk that was declared good"
    );
    assert_eq!(generations.bitmap, GENERATION);
}

#[test]
fn a_survivor_of_the_primary_stays_the_source_over_its_own_restart() {
    let mut bench = Bench::new(|_| {});
    let primary = PeerState { role: Role::Primary, ..bench.peer() };
    let link = bench.connect(1, primary);
    bench.lose(link);
    assert!(bench.engine.superblock.survived, "stored, and the disk flushed with it");
    let superblock = bench.engine.superblock.clone();
    let mut restarted = Bench::new(|attached| attached.superblock = superblock);
    let crashed = PeerState { crashed_primary: true, dirty_blocks: 3, ..restarted.peer() };
    restarted.connect(1, crashed);
    assert!(!restarted.engine.superblock.survived, "cleared before this node tells about itself");
    assert_eq!(restarted.engine.status(1).connection.replication, ReplicationState::WFBitMapS);
}

/// Nothing was written since: both have the same generation, and both crashed as Primary.
#[test]
fn a_survivor_that_was_promoted_stays_the_source_over_its_own_crash() {
    // The higher number: the tie would go to the other one.
    let mut bench = Bench::build(settings(1), |_| {});
    let primary = PeerState { role: Role::Primary, ..bench.peer() };
    let link = bench.connect(1, primary);
    bench.lose(link);
    bench.promote(None);
    let superblock = bench.engine.superblock.clone();
    let mut restarted = Bench::build(settings(1), |attached| attached.superblock = superblock);
    assert!(restarted.engine.superblock.crashed_primary);
    let crashed = PeerState { crashed_primary: true, dirty_blocks: 3, ..restarted.peer() };
    restarted.connect(1, crashed);
    assert_eq!(restarted.engine.status(1).connection.replication, ReplicationState::WFBitMapS);
}

/// A node in step with a peer, both Secondary.
fn in_step(node_id: u32) -> (Bench, LinkId) {
    let mut bench = Bench::build(settings(node_id), |_| {});
    let peer = bench.peer();
    let link = bench.connect(1, peer);
    bench.receive(link, Message::Changed { role: Role::Secondary, disk: DiskState::UpToDate });
    let both = bench.engine.status(1);
    assert_eq!((both.device.disk, both.connection.peer_disk), (DiskState::UpToDate, DiskState::UpToDate));
    (bench, link)
}

#[test]
fn one_node_keeps_its_data_while_the_other_gives_up_its_own() {
    let (mut bench, link) = in_step(0);
    bench.receive(link, Message::InvalidateAsk);
    assert_eq!(bench.sent("InvalidateAnswer"), Some(Message::InvalidateAnswer { granted: true }));
    let token = bench.command(Command::Invalidate);
    let refusal = bench.taken_reply(token).unwrap().unwrap_err();
    assert!(refusal.detail.contains("only copy"), "{refusal:?}");
}

#[test]
fn of_two_that_give_up_their_data_at_once_one_keeps_it() {
    // The lower number goes first: it does not let the other one,
    let (mut bench, link) = in_step(0);
    let token = bench.command(Command::Invalidate);
    bench.receive(link, Message::InvalidateAsk);
    assert_eq!(bench.sent("InvalidateAnswer"), Some(Message::InvalidateAnswer { granted: false }));
    assert!(bench.taken_reply(token).is_none());
    bench.receive(link, Message::InvalidateAnswer { granted: true });
    assert_eq!(bench.taken_reply(token), Some(Ok(())));
    assert_eq!(bench.engine.status(1).device.disk, DiskState::Inconsistent);
    // which keeps its own.
    let (mut bench, link) = in_step(1);
    let token = bench.command(Command::Invalidate);
    bench.receive(link, Message::InvalidateAsk);
    assert_eq!(bench.sent("InvalidateAnswer"), Some(Message::InvalidateAnswer { granted: true }));
    assert!(bench.taken_reply(token).unwrap().is_err());
    bench.receive(link, Message::InvalidateAnswer { granted: false });
    assert_eq!(bench.engine.status(1).device.disk, DiskState::UpToDate);
}

#[test]
fn data_is_not_given_up_when_the_peer_is_lost_before_that_is_stored() {
    let (mut bench, link) = in_step(0);
    let token = bench.command(Command::Invalidate);
    bench.quick_metadata = false;
    bench.receive(link, Message::InvalidateAnswer { granted: true });
    // The marks are on their way to the disk, the superblock is not.
    bench.lose(link);
    assert!(bench.taken_reply(token).unwrap().unwrap_err().detail.contains("nothing was given up"));
    bench.metadata();
    assert!(bench.engine.superblock.consistent);
    assert_eq!(bench.engine.status(1).device.disk, DiskState::UpToDate);
}

#[test]
fn data_is_not_given_up_when_the_peer_is_lost_before_its_answer() {
    let (mut bench, link) = in_step(0);
    let token = bench.command(Command::Invalidate);
    bench.lose(link);
    assert!(bench.taken_reply(token).unwrap().is_err());
    assert_ne!(bench.engine.status(1).device.disk, DiskState::Inconsistent);
}
