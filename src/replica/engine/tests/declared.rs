//! What an administrator declares, and writes that wait for one.

use super::*;

fn refused(bench: &mut Bench, command: Command) -> Reason {
    let token = bench.command(command);
    bench.taken_reply(token).expect("no answer").expect_err("not refused").reason
}

fn done(bench: &mut Bench, command: Command) {
    let token = bench.command(command);
    assert_eq!(bench.taken_reply(token), Some(Ok(())));
}

fn managed() -> Bench {
    Bench::build(Settings { managed: true, ..settings(0) }, |_| {})
}

/// A node whose disk never held data, and a peer with another one.
fn new_pair() -> (Bench, LinkId) {
    let mut bench = Bench::new(|attached| {
        attached.superblock = Superblock::just_created(&attached.layout);
    });
    let peer = new_peer(&bench);
    let link = bench.connect(1, peer);
    (bench, link)
}

fn new_peer(bench: &Bench) -> PeerState {
    let generations = Generations { current: crate::generation::JUST_CREATED, ..bench.peer().generations };
    let abilities = Abilities(Abilities::SKIP_SYNC);
    PeerState { generations, disk: DiskState::Inconsistent, abilities, ..bench.peer() }
}

const NEW: Generations = Generations { current: 0x7777, bitmap: 0, history: [0; 8], counter: 1 };
const PROMOTE: Command = Command::Primary { force: false, term: None, alone: false };

#[test]
fn an_outdated_disk_is_promoted_by_force_only_also_after_a_restart() {
    let mut bench = Bench::new(|_| {});
    done(&mut bench, Command::Outdate);
    assert_eq!(bench.engine.disk, DiskState::Outdated);
    assert!(bench.engine.superblock.outdated);
    assert_eq!(refused(&mut bench, PROMOTE), Reason::NoUpToDateDisk);
    done(&mut bench, Command::Outdate);
}

#[test]
fn outdate_is_refused_where_it_means_nothing_or_not_what_it_says() {
    let (mut bench, _) = Bench::primary();
    assert_eq!(refused(&mut bench, Command::Outdate), Reason::InUse);
    let mut bench = Bench::new(|_| {});
    let peer = bench.peer();
    bench.connect(1, peer);
    assert_eq!(refused(&mut bench, Command::Outdate), Reason::Connected);
    let mut bench = Bench::new(|attached| attached.superblock.consistent = false);
    assert_eq!(refused(&mut bench, Command::Outdate), Reason::LowerThanOutdated);
    assert_eq!(Reason::LowerThanOutdated.exit_code(), 5);
    assert_eq!(refused(&mut managed(), Command::Outdate), Reason::Managed);
}

#[test]
fn a_peer_that_is_written_over_is_the_target_when_both_compare_again() {
    let mut bench = Bench::new(|_| {});
    let peer = bench.peer();
    let link = bench.connect(1, peer);
    bench.quick_metadata = false;
    let token = bench.command(Command::InvalidateRemote);
    assert!(
        bench.taken_reply(token).is_none() && !bench.todo.contains(&Action::Hangup { link }),
        "not durable"
    );
    bench.metadata();
    assert_eq!(bench.taken_reply(token), Some(Ok(())));
    assert!(bench.todo.contains(&Action::Hangup { link }));
    bench.quick_metadata = true;
    let peer = PeerState { disk: DiskState::UpToDate, ..bench.peer() };
    let again = bench.connect(2, peer);
    bench.receive(again, Message::BitmapEnd);
    let Some(Message::SyncStart { blocks, .. }) = bench.sent("SyncStart") else { panic!("not the source") };
    assert_eq!(blocks, bench.engine.device_bytes() / BLOCK, "not every block");
    assert_eq!(bench.engine.disk, DiskState::UpToDate);
}

#[test]
fn a_peer_that_is_in_use_or_away_is_not_written_over() {
    let mut bench = Bench::new(|_| {});
    assert_eq!(refused(&mut bench, Command::InvalidateRemote), Reason::NoConnection);
    let peer = PeerState { role: Role::Primary, disk: DiskState::UpToDate, ..bench.peer() };
    bench.connect(1, peer);
    assert_eq!(refused(&mut bench, Command::InvalidateRemote), Reason::PeerRefused);
    assert_eq!(bench.engine.bitmap.count(), 0);
    assert_eq!(refused(&mut managed(), Command::InvalidateRemote), Reason::Managed);
}

#[test]
fn two_new_disks_are_the_same_when_the_peer_has_stored_it() {
    let (mut bench, link) = new_pair();
    let token = bench.command(Command::SkipInitialSync);
    let Some(Message::SkipSync(generations)) = bench.sent("SkipSync") else {
        panic!("the peer is not asked")
    };
    assert!(!generations.is_just_created() && bench.engine.disk == DiskState::Inconsistent);
    assert_eq!(refused(&mut bench, PROMOTE), Reason::InTransition);
    bench.receive(link, Message::SkipSyncAnswer { granted: true });
    assert_eq!(bench.taken_reply(token), Some(Ok(())));
    assert_eq!(bench.engine.disk, DiskState::UpToDate);
    assert_eq!(bench.engine.superblock.generations, generations);
    assert_eq!(bench.engine.bitmap.count(), 0);
}

#[test]
fn the_peer_of_a_new_pair_answers_when_it_has_stored_it() {
    let (mut bench, link) = new_pair();
    bench.quick_metadata = false;
    bench.receive(link, Message::SkipSync(NEW));
    assert!(bench.sent("SkipSyncAnswer").is_none(), "not durable");
    bench.metadata();
    assert_eq!(bench.sent("SkipSyncAnswer"), Some(Message::SkipSyncAnswer { granted: true }));
    assert_eq!((bench.engine.disk, &bench.engine.superblock.generations), (DiskState::UpToDate, &NEW));
}

#[test]
fn a_disk_with_data_is_never_declared_the_same() {
    // Neither by its own administrator,
    let mut bench = Bench::new(|_| {});
    let peer = bench.peer();
    let link = bench.connect(1, peer);
    assert_eq!(refused(&mut bench, Command::SkipInitialSync), Reason::NotBlank);
    // nor by the peer's,
    let before = bench.engine.superblock.generations.clone();
    bench.receive(link, Message::SkipSync(NEW));
    assert_eq!(bench.sent("SkipSyncAnswer"), Some(Message::SkipSyncAnswer { granted: false }));
    assert_eq!(bench.engine.superblock.generations, before);
    // nor one that is just declared the good one.
    let (mut bench, link) = new_pair();
    bench.command(Command::Primary { force: true, term: None, alone: false });
    bench.receive(link, Message::SkipSync(NEW));
    assert_eq!(bench.sent("SkipSyncAnswer"), Some(Message::SkipSyncAnswer { granted: false }));
}

#[test]
fn a_new_pair_whose_line_is_cut_meanwhile_has_changed_nothing_here() {
    let (mut bench, link) = new_pair();
    let token = bench.command(Command::SkipInitialSync);
    bench.lose(link);
    let refusal = bench.taken_reply(token).unwrap().unwrap_err();
    assert_eq!(refusal.reason, Reason::NoConnection);
    assert!(bench.engine.superblock.generations.is_just_created());
    bench.receive(link, Message::SkipSyncAnswer { granted: true });
    assert_eq!(bench.engine.disk, DiskState::Inconsistent);
}

#[test]
fn of_two_that_declare_it_at_once_one_yields() {
    let (mut bench, link) = new_pair();
    let token = bench.command(Command::SkipInitialSync);
    bench.receive(link, Message::SkipSync(NEW));
    // This one has the lower number.
    assert_eq!(bench.sent("SkipSyncAnswer"), Some(Message::SkipSyncAnswer { granted: false }));
    assert_eq!(bench.taken_reply(token), None);
}

#[test]
fn suspended_writes_wait_and_those_on_their_way_come_to_their_end() {
    let (mut bench, link) = Bench::primary();
    bench.front(0, FrontOp::Write(block(5)));
    bench.disk();
    let token = bench.command(Command::SuspendIo);
    assert_eq!(bench.taken_reply(token), None, "a write is on its way");
    bench.front(1, FrontOp::Write(block(6)));
    assert_eq!(bench.taken_write(), None);
    let Some(Message::Write { id, .. }) = bench.sent("Write") else { panic!("not sent") };
    bench.receive(link, Message::WriteAck { id });
    assert_eq!(bench.taken_answer(), Some((Slot(FRONT), Ok(()))));
    assert_eq!(bench.taken_reply(token), Some(Ok(())));
    assert!(bench.engine.status(bench.now).suspended);
    bench.front(2, FrontOp::Read(block(5)));
    bench.disk();
    assert_eq!(bench.taken_answer(), Some((Slot(FRONT + 2), Ok(()))), "reads go on");
    assert_eq!(refused(&mut bench, Command::Secondary), Reason::InTransition);
    assert_eq!(refused(&mut bench, Command::Pause), Reason::InTransition);
    done(&mut bench, Command::ResumeIo);
    assert!(bench.taken_write().is_some() && bench.sent("Write").is_some());
}

#[test]
fn suspended_writes_begin_no_generation_when_the_peer_is_lost() {
    let (mut bench, link) = Bench::primary();
    done(&mut bench, Command::SuspendIo);
    bench.front(0, FrontOp::Write(block(5)));
    bench.lose_for_good(link);
    assert_eq!(bench.engine.superblock.generations.current, GENERATION);
    done(&mut bench, Command::ResumeIo);
    assert_ne!(bench.engine.superblock.generations.current, GENERATION);
}

#[test]
fn a_resource_that_goes_down_lets_suspended_writes_go_on() {
    let (mut bench, _) = Bench::primary();
    done(&mut bench, Command::SuspendIo);
    bench.front(0, FrontOp::Write(block(5)));
    bench.command(Command::Down);
    assert!(bench.taken_write().is_some());
}

#[test]
fn writes_are_suspended_where_they_come_from_and_not_under_a_manager() {
    let mut bench = Bench::new(|_| {});
    assert_eq!(refused(&mut bench, Command::SuspendIo), Reason::NotPrimary);
    done(&mut bench, Command::ResumeIo);
    assert_eq!(refused(&mut managed(), Command::SuspendIo), Reason::Managed);
}

#[test]
fn options_are_followed_at_once() {
    let (mut bench, link) = Bench::primary();
    let tuning = Tuning { ping_interval_ms: 5000, ..bench.engine.settings.tuning() };
    done(&mut bench, Command::Adjust(tuning));
    bench.later(4000);
    assert!(bench.sent("Ping").is_none() && bench.engine.link.joined().is_some_and(|s| s.id == link));
    bench.later(1000);
    assert!(bench.sent("Ping").is_some());
}
