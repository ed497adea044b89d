//! The end of a reign: revocation, deposition, demotion, and who is the source afterwards.

use super::*;

#[test]
fn revoke_fails_every_request_at_once_and_marks_what_was_not_answered() {
    let mut bench = blocked();
    bench.front(1, FrontOp::Write(block(9)));
    bench.front(2, FrontOp::Flush);
    bench.quick_metadata = false;
    let token = bench.command(Command::Revoke);
    assert!(bench.aborted());
    for _ in 0..3 {
        let (_, result) = bench.taken_answer().unwrap();
        assert_eq!(result, Err(FrontError::Io));
    }
    bench.front(3, FrontOp::Write(block(10)));
    assert_eq!(bench.taken_answer(), Some((Slot(FRONT + 3), Err(FrontError::Io))));
    assert_eq!(bench.taken_reply(token), None, "not durable");
    bench.metadata();
    assert_eq!(bench.taken_reply(token), Some(Ok(())));
    assert!(bench.engine.bitmap.contains(5) && !bench.engine.superblock.primary);
    assert_eq!((bench.engine.role.visible(), bench.bond().term), (Role::Secondary, None));
}

#[test]
fn revoke_works_while_the_peer_is_connected_and_a_promotion_is_under_way() {
    let (mut bench, link) = primary();
    bench.write_everywhere(link, 0, 5);
    let token = bench.command(Command::Revoke);
    assert_eq!(bench.taken_reply(token), Some(Ok(())));
    assert!(bench.hung_up() && bench.engine.bitmap.contains(5), "the peer has not flushed it");
    bench.quick_metadata = false;
    let bid = bench.command(Command::Primary { force: false, term: Some(2), alone: true });
    let token = bench.command(Command::Revoke);
    assert!(bench.reason(bid).is_some());
    bench.metadata();
    assert_eq!(bench.taken_reply(token), Some(Ok(())));
    assert!(!bench.engine.superblock.primary);
}

#[test]
fn a_write_on_its_way_to_the_disk_holds_up_what_comes_after_a_revocation() {
    let (mut bench, _) = primary();
    bench.front(0, FrontOp::Write(block(5)));
    let (io, _) = bench.taken_write().unwrap();
    bench.command(Command::Revoke);
    assert_eq!(bench.taken_answer(), None, "the disk still uses its buffer");
    bench.todo.clear();
    bench.event(Event::LinkUp { link: LinkId(2) });
    assert!(bench.sent("Hello").is_none(), "a resync could be overtaken");
    let token = bench.command(Command::Primary { force: false, term: Some(2), alone: true });
    assert!(bench.take(|a| matches!(a, Action::StartExport { .. }).then_some(())).is_none());
    bench.done(io);
    assert_eq!(bench.taken_answer(), Some((Slot(FRONT), Err(FrontError::Io))));
    assert!(bench.sent("Hello").is_some());
    assert_eq!(bench.taken_reply(token), None, "waits for the handshake");
}

#[test]
fn a_promotion_is_refused_while_the_old_device_is_held() {
    let (mut bench, _) = primary();
    bench.command(Command::Revoke);
    let token = bench.command(Command::Primary { force: false, term: Some(2), alone: true });
    bench.event(Event::ExportBusy { holders: vec!["mounted on /mnt".into()] });
    let Some(Err(refusal)) = bench.taken_reply(token) else { panic!("promoted") };
    assert_eq!((refusal.reason, refusal.detail.as_str()), (Reason::InUse, "mounted on /mnt"));
    assert!(!bench.engine.superblock.primary && bench.bond().term.is_none());
}

#[test]
fn down_and_secondary_of_a_blocked_primary_do_not_hang() {
    let mut bench = blocked();
    let token = bench.command(Command::Secondary);
    assert_eq!(bench.reason(token), Some(Reason::InTransition));
    let token = bench.command(Command::Down);
    assert_eq!(bench.taken_answer(), Some((Slot(FRONT), Err(FrontError::Io))));
    bench.front(1, FrontOp::Flush);
    assert_eq!(bench.taken_answer(), Some((Slot(FRONT + 1), Err(FrontError::Io))));
    bench.event(Event::ExportStopped);
    bench.disk();
    assert_eq!(bench.taken_reply(token), Some(Ok(())));
    assert!(!bench.engine.superblock.primary && bench.engine.bitmap.contains(5));
}

#[test]
fn a_demotion_whose_peer_is_lost_ends() {
    let (mut bench, link) = primary();
    bench.write_everywhere(link, 0, 5);
    let token = bench.command(Command::Secondary);
    bench.event(Event::ExportStopped);
    bench.disk();
    assert_eq!(bench.taken_reply(token), None, "the peer has not flushed");
    bench.lose_for_good(link);
    assert_eq!(bench.taken_reply(token), Some(Ok(())));
    assert!(bench.engine.bitmap.contains(5) && bench.bond().term.is_none());
    assert_eq!(bench.engine.superblock.generations.current, GENERATION);
}

#[test]
fn a_primary_that_learns_of_a_newer_term_is_deposed_and_becomes_the_target() {
    let mut bench = blocked();
    bench.peer_term = 2;
    let mut peer = bench.returning();
    peer.role = Role::Primary;
    peer.generations.rotate(0x2000);
    bench.event(Event::LinkUp { link: LinkId(2) });
    let (node, name) = ("ha-1".to_owned(), "ha-0".to_owned());
    bench.receive(LinkId(2), Message::Hello(Hello { resource: "r0".into(), node, peer: name }));
    assert!(bench.aborted());
    assert_eq!(bench.taken_answer(), Some((Slot(FRONT), Err(FrontError::Io))));
    assert!(bench.bond().deposed && bench.bond().fence == 2 && bench.bond().term.is_none());
    bench.todo.clear();
    let link = bench.connect(3, peer);
    assert!(bench.sent("BitmapEnd").is_some(), "not the target");
    assert!(bench.bond().deposed);
    bench.receive(link, Message::SyncStart { base: GENERATION, blocks: 1, as_of: 0 });
    assert!(bench.sent("SyncReady").is_some());
    let token = bench.command(Command::Secondary);
    assert_eq!(bench.taken_reply(token), Some(Ok(())));
    assert!(!bench.bond().deposed);
}

#[test]
fn a_crashed_primary_becomes_the_target_of_whoever_the_record_has_named() {
    for rotated in [true, false] {
        let mut bench = managed(|attached| {
            attached.superblock.primary = true;
            attached.activity.extents = vec![0];
        });
        bench.peer_term = 2;
        let mut peer = PeerState { role: Role::Primary, disk: DiskState::UpToDate, ..bench.peer() };
        if rotated {
            peer.generations.rotate(0x2000);
        }
        bench.connect(1, peer);
        assert!(bench.sent("BitmapEnd").is_some(), "not the target");
    }
}

#[test]
fn a_crashed_primary_that_the_record_names_again_is_the_source() {
    let mut bench = managed(|attached| {
        attached.superblock.primary = true;
        attached.activity.extents = vec![0];
    });
    bench.promote_by(2, true, None);
    let peer = bench.peer();
    let link = bench.connect(1, peer);
    resync(&mut bench, link);
}

#[test]
fn two_secondaries_that_may_differ_wait_for_a_primary() {
    let mut bench = managed(|attached| attached.bitmap.set(5, 6));
    let peer = bench.peer();
    bench.connect(1, peer);
    assert!(bench.hung_up() && bench.sent("BitmapEnd").is_none());
    let reason = bench.engine.status(bench.now).connection.standalone_reason.unwrap();
    assert!(reason.contains("cluster manager"), "{reason}");
}

#[test]
fn a_primary_takes_over_a_newer_term_of_its_own() {
    let (mut bench, _) = primary();
    let fence = bench.command(Command::Fence { term: 3 });
    assert_eq!(bench.taken_reply(fence), Some(Ok(())));
    assert_eq!(bench.bond().term, Some(1), "promising to itself takes nothing away");
    bench.todo.clear();
    let token = bench.command(Command::Primary { force: false, term: Some(3), alone: false });
    assert_eq!(bench.taken_reply(token), Some(Ok(())));
    assert_eq!((bench.bond().term, bench.bond().fence), (Some(3), 3));
    assert_eq!(bench.sent_term("Changed"), Some(3));
}

#[test]
fn the_newer_of_two_terms_that_are_asked_for_counts() {
    let mut bench = managed(|_| {});
    let peer = bench.peer();
    let link = bench.connect(1, peer);
    let token = bench.command(Command::Primary { force: false, term: Some(1), alone: false });
    bench.peer_term = 2;
    bench.quick_metadata = false;
    bench.receive(link, Message::RoleAsk);
    assert!(bench.sent("RoleAnswer").is_none(), "the term is not promised durably");
    bench.metadata();
    assert!(matches!(bench.sent("RoleAnswer"), Some(Message::RoleAnswer { granted: true })));
    bench.receive(link, Message::RoleAnswer { granted: true });
    assert_eq!(bench.reason(token), Some(Reason::Fenced));
}

#[test]
fn a_secondary_that_leaves_is_not_outdated_by_itself() {
    let (mut bench, _) = secondary();
    bench.command(Command::Disconnect);
    assert!(!bench.engine.superblock.outdated, "the record says who is older");
}
