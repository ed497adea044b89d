//! The rules, one test each.

use super::*;

#[test]
fn write_is_not_answered_before_the_peer_has_it() {
    let (mut bench, link) = Bench::primary();
    bench.front(0, FrontOp::Write(block(5)));
    let Some(Message::Write { id, range }) = bench.sent("Write") else { panic!("not sent") };
    assert_eq!(range, block(5));
    bench.disk();
    assert_eq!(bench.taken_answer(), None, "the peer does not have it");
    bench.receive(link, Message::WriteAck { id });
    assert_eq!(bench.taken_answer(), Some((Slot(FRONT), Ok(()))));
}

#[test]
fn write_is_not_answered_before_the_local_disk_has_it() {
    let (mut bench, link) = Bench::primary();
    bench.front(0, FrontOp::Write(block(5)));
    let Some(Message::Write { id, .. }) = bench.sent("Write") else { panic!("not sent") };
    bench.receive(link, Message::WriteAck { id });
    assert_eq!(bench.taken_answer(), None, "the local disk does not have it");
    bench.disk();
    assert_eq!(bench.taken_answer(), Some((Slot(FRONT), Ok(()))));
}

#[test]
fn write_is_not_started_before_its_extent_is_in_the_activity_log() {
    let (mut bench, _) = Bench::primary();
    bench.quick_metadata = false;
    bench.front(0, FrontOp::Write(block(5)));
    assert!(bench.taken_write().is_none() && bench.sent("Write").is_none());
    bench.metadata();
    assert!(bench.taken_write().is_some() && bench.sent("Write").is_some());
}

#[test]
fn lone_write_waits_for_the_new_generation() {
    let (mut bench, link) = Bench::primary();
    bench.front(0, FrontOp::Write(block(5)));
    bench.disk();
    bench.quick_metadata = false;
    bench.lose(link);
    assert!(bench.engine.bitmap.contains(5), "the peer lacks it, and it is not marked");
    assert_eq!(bench.taken_answer(), None, "the generation is not durable");
    bench.metadata();
    assert_eq!(bench.taken_answer(), Some((Slot(FRONT), Ok(()))));
    let generations = &bench.engine.superblock.generations;
    assert_ne!(generations.current, GENERATION);
    assert_eq!(generations.bitmap, GENERATION);
}

#[test]
fn a_confirmed_write_that_is_not_flushed_is_marked_when_the_peer_is_lost() {
    let (mut bench, link) = Bench::primary();
    bench.write_everywhere(link, 0, 5);
    bench.lose(link);
    assert!(bench.engine.bitmap.contains(5));
}

#[test]
fn flush_waits_for_both() {
    for peer_first in [false, true] {
        let (mut bench, link) = Bench::primary();
        bench.write_everywhere(link, 0, 5);
        bench.front(1, FrontOp::Flush);
        let local = bench.taken_flush().unwrap();
        let Some(Message::Flush { id }) = bench.sent("Flush") else { panic!("the peer is not asked") };
        if peer_first {
            bench.receive(link, Message::FlushAck { id });
        } else {
            bench.done(local);
        }
        assert_eq!(bench.taken_answer(), None, "one disk is not flushed");
        if peer_first {
            bench.done(local);
        } else {
            bench.receive(link, Message::FlushAck { id });
        }
        assert_eq!(bench.taken_answer(), Some((Slot(FRONT + 1), Ok(()))));
        bench.lose(link);
        assert_eq!(bench.engine.bitmap.count(), 0, "flushed on both: nothing to mark");
    }
}

#[test]
fn lone_flush_waits_for_the_new_generation() {
    let (mut bench, link) = Bench::primary();
    bench.write_everywhere(link, 0, 5);
    bench.lose(link);
    bench.quick_metadata = false;
    bench.front(1, FrontOp::Flush);
    bench.disk();
    assert_eq!(bench.taken_answer(), None, "the peer may have lost it, and could be taken for the newest");
    bench.metadata();
    assert_eq!(bench.taken_answer(), Some((Slot(FRONT + 1), Ok(()))));
}

/// A target in the middle of a resync: the peer has one block that this node lacks.
fn target() -> (Bench, LinkId) {
    let mut bench = Bench::new(|_| {});
    let mut peer = bench.peer();
    peer.generations.rotate(0x2000);
    peer.dirty_blocks = 1;
    let link = bench.connect(1, peer);
    assert!(bench.sent("BitmapEnd").is_some(), "not the target");
    (bench, link)
}

#[test]
fn target_is_marked_before_data_comes() {
    let (mut bench, link) = target();
    bench.quick_metadata = false;
    bench.receive(link, Message::SyncStart { base: GENERATION, blocks: 1, as_of: 0 });
    assert!(bench.sent("SyncReady").is_none(), "data may come, and the disk is not marked");
    bench.metadata();
    assert!(bench.sent("SyncReady").is_some());
    assert!(!bench.engine.superblock.consistent);
    assert_eq!(bench.engine.disk, DiskState::Inconsistent);
}

#[test]
fn a_target_that_is_only_asked_tells_how_far_the_resync_is() {
    let (mut bench, link) = target();
    bench.receive(link, Message::SyncStart { base: GENERATION, blocks: 8, as_of: 0 });
    let left = |bench: &Bench| bench.engine.status(0).connection.out_of_sync_kib / 4;
    let four = |first: u64| Range { offset: first * BLOCK, len: 4 * 4096 };
    assert_eq!(left(&bench), 8);
    bench.receive(link, Message::VerifyAsk { id: 1, range: four(0) });
    assert_eq!(left(&bench), 4, "the same blocks are never sent");
    bench.receive(link, Message::Resync { id: 2, range: block(2) });
    assert_eq!(left(&bench), 4, "what was asked for and then sent counts once");
    bench.receive(link, Message::Resync { id: 3, range: block(4) });
    assert_eq!(left(&bench), 3, "what comes unasked counts");
}

#[test]
fn data_for_a_node_that_is_not_marked_is_refused() {
    let (mut bench, link) = target();
    bench.receive(link, Message::Resync { id: 1, range: block(5) });
    assert!(bench.taken_write().is_none());
    assert!(bench.todo.contains(&Action::Hangup { link }));
    assert!(bench.todo.contains(&Action::Release { slot: Slot(INCOMING) }));
}

#[test]
fn connected_nodes_are_never_both_primary() {
    let (mut bench, link) = Bench::primary();
    bench.receive(link, Message::RoleAsk);
    assert_eq!(bench.sent("RoleAnswer"), Some(Message::RoleAnswer { granted: false }));

    let mut bench = Bench::new(|_| {});
    let peer = PeerState { role: Role::Primary, ..bench.peer() };
    bench.connect(1, peer);
    let token = bench.command(Command::Primary { force: true, term: None, alone: false });
    let refusal = bench.taken_reply(token).unwrap().unwrap_err();
    assert_eq!(refusal.reason, Reason::TwoPrimaries);
}

#[test]
fn promotion_waits_for_the_consent_of_the_peer() {
    let mut bench = Bench::new(|_| {});
    let peer = bench.peer();
    let link = bench.connect(1, peer);
    let token = bench.command(Command::Primary { force: false, term: None, alone: false });
    assert!(bench.sent("RoleAsk").is_some());
    assert!(!bench.todo.iter().any(|a| matches!(a, Action::StartExport { .. })));
    bench.receive(link, Message::RoleAnswer { granted: false });
    assert_eq!(bench.taken_reply(token).unwrap().unwrap_err().reason, Reason::TwoPrimaries);
    assert!(!bench.todo.iter().any(|a| matches!(a, Action::StartExport { .. })));
}

#[test]
fn sync_target_refuses_primary_and_says_why() {
    let (mut bench, link) = target();
    bench.receive(link, Message::SyncStart { base: GENERATION, blocks: 1, as_of: 0 });
    for force in [false, true] {
        let token = bench.command(Command::Primary { force, term: None, alone: false });
        let refusal = bench.taken_reply(token).unwrap().unwrap_err();
        assert_eq!(refusal.reason, Reason::NoUpToDateDisk);
        assert!(refusal.detail.contains("target of a resync from ha-1"), "{}", refusal.detail);
    }
}

#[test]
fn a_node_that_restarted_alone_refuses_primary_and_says_why() {
    let mut bench = Bench::new(|_| {});
    let token = bench.command(Command::Primary { force: false, term: None, alone: false });
    let refusal = bench.taken_reply(token).unwrap().unwrap_err();
    assert_eq!(refusal.reason, Reason::NoUpToDateDisk);
    assert!(refusal.detail.contains("has not seen ha-1 since"), "{}", refusal.detail);
}

#[test]
fn mounted_primary_refuses_secondary() {
    let (mut bench, _) = Bench::primary();
    let token = bench.command(Command::Secondary);
    assert!(bench.todo.contains(&Action::StopExport));
    bench.event(Event::ExportBusy { holders: vec!["mounted on /mnt".into()] });
    let refusal = bench.taken_reply(token).unwrap().unwrap_err();
    assert_eq!(refusal, Refusal { reason: Reason::InUse, detail: "mounted on /mnt".into() });
    bench.front(0, FrontOp::Read(block(1)));
    bench.disk();
    assert_eq!(bench.taken_answer(), Some((Slot(FRONT), Ok(()))), "it is Primary as before");
}

#[test]
fn bits_are_cleared_only_after_both_disks_are_flushed() {
    let mut bench = Bench::ahead();
    let peer = bench.peer();
    let link = bench.connect(1, peer);
    bench.receive(link, Message::BitmapEnd);
    bench.receive(link, Message::SyncReady);
    bench.compare(link, true);
    bench.disk();
    let Some(Message::Resync { id, .. }) = bench.sent("Resync") else { panic!("not sent") };
    bench.receive(link, Message::ResyncAck { id });
    let Some(Message::Flush { id }) = bench.sent("Flush") else { panic!("the peer is not asked to flush") };
    bench.receive(link, Message::FlushAck { id });
    assert!(bench.engine.bitmap.contains(5), "the local disk is not flushed");
    bench.disk();
    assert!(!bench.engine.bitmap.contains(5));
    assert!(bench.sent("SyncFinish").is_some());
}

#[test]
fn what_is_the_same_is_not_sent_and_cleared_only_after_both_disks_are_flushed() {
    let mut bench = Bench::ahead();
    let peer = bench.peer();
    let link = bench.connect(1, peer);
    bench.promote(Some(link));
    bench.receive(link, Message::BitmapEnd);
    bench.receive(link, Message::SyncReady);
    bench.front(0, FrontOp::Write(block(5)));
    assert!(bench.taken_write().is_none(), "a write goes on in what is just compared");
    bench.compare(link, false);
    assert!(bench.sent("Resync").is_none() && bench.taken_read().is_none());
    assert!(bench.taken_write().is_some(), "the write waits although nothing is compared any more");
    assert!(bench.engine.bitmap.contains(5), "not flushed");
    let Some(Message::Flush { id }) = bench.sent("Flush") else { panic!("the peer is not asked to flush") };
    bench.receive(link, Message::FlushAck { id });
    let io = bench.taken_flush().unwrap();
    bench.done(io);
    assert!(!bench.engine.bitmap.contains(5));
}

#[test]
fn a_resync_that_is_held_up_sends_nothing_until_it_goes_on_or_the_peer_is_lost() {
    let mut bench = Bench::ahead();
    let token = bench.command(Command::PauseSync);
    let refusal = bench.taken_reply(token).unwrap().unwrap_err();
    assert!(refusal.detail.contains("sends no resync"), "{refusal:?}");
    for (link, ends_by_loss) in [(1, true), (2, false)] {
        let peer = bench.peer();
        let link = bench.connect(link, peer);
        bench.receive(link, Message::BitmapEnd);
        let token = bench.command(Command::PauseSync);
        assert_eq!(bench.taken_reply(token), Some(Ok(())));
        bench.receive(link, Message::SyncReady);
        assert!(bench.sent("VerifyAsk").is_none() && bench.taken_read().is_none(), "it goes on");
        assert!(bench.engine.status(0).connection.sync.unwrap().paused);
        if ends_by_loss {
            bench.lose(link);
        } else {
            let token = bench.command(Command::ResumeSync);
            assert_eq!(bench.taken_reply(token), Some(Ok(())));
            assert!(bench.sent("VerifyAsk").is_some(), "it does not go on");
        }
    }
}

#[test]
fn a_split_brain_is_refused_and_stands_alone() {
    let mut bench = Bench::new(|a| a.superblock.generations.rotate(0x2000));
    let mut peer = bench.peer();
    peer.generations.rotate(0x3000);
    let link = bench.connect(1, peer);
    assert!(bench.sent("Goodbye").is_some());
    bench.lose(link);
    let connection = bench.engine.status(0).connection;
    assert!(connection.standalone_reason.unwrap().contains("split brain"));
    assert_eq!(connection.state, crate::state::ConnectionState::StandAlone);
}
