//! The rules of the bond to the cluster manager (`engine/bond.rs`), one test each.

mod ends;

use super::*;
use crate::control::Managed;

/// A node under a cluster manager.
fn managed(change: impl FnOnce(&mut Attached)) -> Bench {
    Bench::build(Settings { managed: true, ..settings(0) }, change)
}

impl Bench {
    fn bond(&self) -> Managed {
        self.engine.status(self.now).managed.unwrap()
    }

    fn reason(&mut self, token: Token) -> Option<Reason> {
        self.taken_reply(token).and_then(Result::err).map(|refusal| refusal.reason)
    }

    /// A Secondary peer with the same data, which has been in contact before.
    fn returning(&self) -> PeerState {
        let disk = DiskState::UpToDate;
        PeerState {
            generations: self.engine.superblock.generations.clone(),
            disk,
            reconnect: true,
            ..self.peer()
        }
    }

    fn whole_peer(&mut self, link: LinkId) {
        self.receive(link, Message::Changed { role: Role::Secondary, disk: DiskState::UpToDate });
    }

    fn promote_by(&mut self, term: u64, alone: bool, link: Option<LinkId>) {
        let token = self.command(Command::Primary { force: false, term: Some(term), alone });
        if let Some(link) = link {
            assert!(self.sent("RoleAsk").is_some());
            self.receive(link, Message::RoleAnswer { granted: true });
        }
        self.event(Event::ExportStarted);
        assert_eq!(self.taken_reply(token), Some(Ok(())));
    }

    fn aborted(&mut self) -> bool {
        self.take(|a| matches!(a, Action::AbortExport).then_some(())).is_some()
    }

    fn hung_up(&mut self) -> bool {
        self.take(|a| matches!(a, Action::Hangup { .. }).then_some(())).is_some()
    }

    /// The node after a crash, with what was durable.
    fn crashed(self, settings: Settings) -> Self {
        let (superblock, bitmap) = (self.engine.superblock.clone(), self.engine.bitmap.clone());
        Self::build(settings, |attached| {
            attached.superblock = superblock;
            attached.bitmap = bitmap;
        })
    }

    /// The term in the header of the next message of this name.
    fn sent_term(&mut self, wanted: &str) -> Option<u64> {
        self.take(|a| match a {
            Action::Send { message, term, .. } if message.name() == wanted => Some(*term),
            _ => None,
        })
    }
}

/// A Primary of term 1 whose peer is whole.
fn primary() -> (Bench, LinkId) {
    let mut bench = managed(|_| {});
    let peer = bench.peer();
    let link = bench.connect(1, peer);
    bench.whole_peer(link);
    bench.promote_by(1, false, Some(link));
    assert_eq!(
        bench.bond(),
        Managed { fence: 1, term: Some(1), alone: false, loss: 0, blocked: false, deposed: false }
    );
    (bench, link)
}

/// The same with a write that the peer has not confirmed, after the peer was lost.
fn blocked() -> Bench {
    let (mut bench, link) = primary();
    bench.front(0, FrontOp::Write(block(5)));
    bench.disk();
    bench.lose_for_good(link);
    assert!(bench.bond().blocked && bench.bond().loss == 1);
    bench.todo.clear();
    bench
}

#[test]
fn promotion_needs_a_term_and_says_who_gives_it() {
    let mut bench = managed(|_| {});
    let token = bench.command(Command::Primary { force: true, term: None, alone: false });
    let Some(Err(refusal)) = bench.taken_reply(token) else { panic!("promoted") };
    assert_eq!(refusal.reason, Reason::Managed);
    assert!(refusal.detail.contains("futago cluster switchover"), "{}", refusal.detail);
}

#[test]
fn a_term_below_the_fence_is_refused() {
    let mut bench = managed(|attached| attached.superblock.fence = 5);
    let token = bench.command(Command::Primary { force: true, term: Some(4), alone: true });
    assert_eq!(bench.reason(token), Some(Reason::Fenced));
}

#[test]
fn a_consistent_disk_is_promoted_by_the_record_and_the_fence_is_stored_with_it() {
    let mut bench = managed(|_| {});
    assert_eq!(bench.engine.disk, DiskState::Consistent);
    bench.quick_metadata = false;
    let token = bench.command(Command::Primary { force: false, term: Some(3), alone: true });
    assert!(bench.take(|a| matches!(a, Action::StartExport { .. }).then_some(())).is_none(), "not durable");
    bench.metadata();
    assert!(bench.take(|a| matches!(a, Action::StartExport { .. }).then_some(())).is_some());
    bench.event(Event::ExportStarted);
    assert_eq!(bench.taken_reply(token), Some(Ok(())));
    assert_eq!((bench.engine.superblock.fence, bench.bond().term), (3, Some(3)));
}

/// Making the device ends with a flush by the system: were it to wait for the peer, the manager would never hear of
/// the promotion, and never record that the peer is gone.
#[test]
fn a_device_is_made_without_the_peer_and_only_then_waits_for_it() {
    let mut bench = managed(|_| {});
    let token = bench.command(Command::Primary { force: false, term: Some(3), alone: false });
    bench.metadata();
    assert!(bench.bond().blocked);
    bench.front(0, FrontOp::Flush);
    assert!(bench.taken_answer().is_some());
    bench.event(Event::ExportStarted);
    assert_eq!(bench.taken_reply(token), Some(Ok(())));
    bench.front(1, FrontOp::Flush);
    bench.disk();
    assert_eq!(bench.taken_answer(), None);
}

#[test]
fn an_outdated_disk_is_promoted_by_force_only() {
    let mut bench = managed(|attached| attached.superblock.outdated = true);
    let token = bench.command(Command::Primary { force: false, term: Some(3), alone: true });
    assert_eq!(bench.reason(token), Some(Reason::NoUpToDateDisk));
}

#[test]
fn fence_is_durable_before_it_is_answered_and_outlives_a_crash() {
    let mut bench = managed(|_| {});
    bench.quick_metadata = false;
    let token = bench.command(Command::Fence { term: 7 });
    assert_eq!(bench.taken_reply(token), None);
    bench.metadata();
    assert_eq!(bench.taken_reply(token), Some(Ok(())));
    let lower = bench.command(Command::Fence { term: 6 });
    assert_eq!(bench.taken_reply(lower), Some(Ok(())));
    assert_eq!(bench.bond().fence, 7, "never lowered");
    let mut bench = bench.crashed(Settings { managed: true, ..settings(0) });
    let token = bench.command(Command::Primary { force: false, term: Some(6), alone: true });
    assert_eq!(bench.reason(token), Some(Reason::Fenced));
}

#[test]
fn without_a_manager_its_commands_are_refused() {
    for command in [Command::Fence { term: 1 }, Command::GoAlone { term: 1, loss: 1 }, Command::Revoke] {
        let mut bench = Bench::new(|_| {});
        let token = bench.command(command);
        assert_eq!(bench.reason(token), Some(Reason::Managed));
    }
}

/// A Secondary in step with a Primary of term 1.
fn secondary() -> (Bench, LinkId) {
    let mut bench = managed(|_| {});
    bench.peer_term = 1;
    let peer = PeerState { role: Role::Primary, disk: DiskState::UpToDate, ..bench.peer() };
    let link = bench.connect(1, peer);
    assert_eq!(bench.bond().fence, 1, "contact with a newer term raises the fence");
    assert_eq!(bench.engine.disk, DiskState::UpToDate);
    bench.todo.clear();
    (bench, link)
}

#[test]
fn after_a_promise_the_older_primary_is_hung_up_and_its_writes_never_reach_the_disk() {
    let (mut bench, link) = secondary();
    bench.quick_metadata = false;
    let token = bench.command(Command::Fence { term: 2 });
    assert!(bench.sent("Fenced").is_some() && bench.hung_up(), "before the answer");
    assert_eq!(bench.taken_reply(token), None);
    bench.receive(link, Message::Write { id: 1, range: block(3) });
    assert!(bench.taken_write().is_none());
    bench.metadata();
    assert_eq!(bench.taken_reply(token), Some(Ok(())));
    bench.todo.clear();
    // It comes back with its old term.
    bench.event(Event::LinkUp { link: LinkId(2) });
    let (node, peer) = ("ha-1".to_owned(), "ha-0".to_owned());
    bench.receive(LinkId(2), Message::Hello(Hello { resource: "r0".into(), node, peer }));
    assert!(matches!(bench.sent("Fenced"), Some(Message::Fenced { term: 2 })) && bench.hung_up());
    let status = bench.engine.status(bench.now).connection;
    assert_eq!(status.state, crate::state::ConnectionState::Connecting, "not for ever");
    assert!(status.standalone_reason.unwrap().contains("term 2 was promised"));
}

#[test]
fn a_write_of_an_older_term_on_a_standing_connection_never_reaches_the_disk() {
    let (mut bench, link) = secondary();
    for term in [0, 1] {
        bench.peer_term = 2;
        bench.receive(link, Message::Ping { id: 1 });
        bench.peer_term = term;
        bench.receive(link, Message::Write { id: 1, range: block(3) });
        assert!(bench.taken_write().is_none(), "term {term}");
    }
}

#[test]
fn a_write_of_a_newer_term_is_not_confirmed_before_the_fence_is_durable() {
    let (mut bench, link) = secondary();
    bench.quick_metadata = false;
    bench.peer_term = 2;
    bench.receive(link, Message::Write { id: 1, range: block(3) });
    bench.disk();
    assert!(bench.sent("WriteAck").is_none());
    bench.metadata();
    assert!(bench.sent("WriteAck").is_some());
    assert_eq!(bench.bond().fence, 2);
}

#[test]
fn the_primary_learns_that_it_was_fenced_and_keeps_trying() {
    let (mut bench, link) = primary();
    bench.receive(link, Message::Fenced { term: 9 });
    assert!(bench.hung_up() && bench.bond().blocked);
    let status = bench.engine.status(bench.now).connection;
    assert!(status.standalone_reason.unwrap().contains("promised term 9"));
    assert_eq!(status.state, crate::state::ConnectionState::Connecting);
}

#[test]
fn what_a_primary_sends_carries_its_term() {
    let (mut bench, link) = primary();
    bench.front(0, FrontOp::Write(block(5)));
    bench.disk();
    assert_eq!(bench.sent_term("Write"), Some(1));
    bench.receive(link, Message::Ping { id: 4 });
    assert_eq!(bench.sent_term("Pong"), Some(1));
}

#[test]
fn a_lone_write_is_answered_after_the_grant_for_this_loss_only() {
    let mut bench = blocked();
    assert_eq!(bench.taken_answer(), None);
    bench.front(1, FrontOp::Write(block(9)));
    bench.disk();
    assert_eq!(bench.taken_answer(), None);
    assert_eq!(bench.engine.superblock.generations.current, GENERATION, "nothing is named before the grant");
    for (term, loss) in [(1, 0), (0, 1), (2, 1), (1, 2)] {
        let token = bench.command(Command::GoAlone { term, loss });
        assert_eq!(bench.reason(token), Some(Reason::Stale));
    }
    bench.quick_metadata = false;
    let token = bench.command(Command::GoAlone { term: 1, loss: 1 });
    assert_eq!(bench.taken_reply(token), Some(Ok(())));
    assert_eq!(bench.taken_answer(), None, "the generation is not durable");
    assert!(bench.engine.bitmap.contains(5));
    bench.metadata();
    bench.disk();
    let answers = [bench.taken_answer(), bench.taken_answer()];
    assert!(answers.iter().all(|a| matches!(a, Some((_, Ok(()))))), "{answers:?}");
    assert!(bench.bond().alone && !bench.bond().blocked);
    assert_eq!(bench.engine.superblock.generations.bitmap, GENERATION);
}

#[test]
fn a_grant_for_an_earlier_loss_is_refused() {
    let mut bench = blocked();
    let peer = bench.returning();
    let link = bench.connect(2, peer);
    bench.whole_peer(link);
    assert!(!bench.bond().blocked);
    bench.lose_for_good(link);
    assert_eq!(bench.bond().loss, 2);
    let token = bench.command(Command::GoAlone { term: 1, loss: 1 });
    assert_eq!(bench.reason(token), Some(Reason::Stale));
    assert_eq!(bench.taken_answer(), None);
}

#[test]
fn a_blocked_primary_whose_peer_returns_goes_on_without_a_grant() {
    let mut bench = blocked();
    bench.front(1, FrontOp::Flush);
    let peer = bench.returning();
    let link = bench.connect(2, peer);
    let Some(Message::Write { id, range }) = bench.sent("Write") else { panic!("not sent again") };
    assert_eq!(range, block(5));
    bench.receive(link, Message::WriteAck { id });
    bench.whole_peer(link);
    assert_eq!(bench.taken_answer(), Some((Slot(FRONT), Ok(()))));
    bench.disk();
    let Some(Message::Flush { id }) = bench.sent("Flush") else { panic!("the peer is not asked to flush") };
    bench.receive(link, Message::FlushAck { id });
    assert_eq!(bench.taken_answer(), Some((Slot(FRONT + 1), Ok(()))));
    assert_eq!(bench.engine.superblock.generations.current, GENERATION);
    assert_eq!(bench.engine.bitmap.count(), 0);
}

#[test]
fn a_flush_that_lost_its_peer_is_asked_for_again() {
    let (mut bench, link) = primary();
    bench.write_everywhere(link, 0, 5);
    bench.front(1, FrontOp::Flush);
    bench.disk();
    bench.lose_for_good(link);
    assert_eq!(bench.taken_answer(), None);
    bench.todo.clear();
    let peer = bench.returning();
    let link = bench.connect(2, peer);
    bench.whole_peer(link);
    let Some(Message::Flush { id }) = bench.sent("Flush") else { panic!("the peer is not asked") };
    assert_eq!(bench.taken_answer(), None);
    bench.receive(link, Message::FlushAck { id });
    assert_eq!(bench.taken_answer(), Some((Slot(FRONT + 1), Ok(()))));
}

#[test]
fn a_peer_that_restarted_is_not_made_a_target_before_the_grant() {
    let (mut bench, link) = primary();
    bench.write_everywhere(link, 0, 5);
    bench.lose_for_good(link);
    bench.todo.clear();
    // What it has confirmed and not flushed may be gone.
    let peer = PeerState { reconnect: false, disk: DiskState::Consistent, ..bench.returning() };
    let link = bench.connect(2, peer);
    assert!(bench.sent("State").is_none(), "the record counts on it");
    assert_eq!(bench.engine.superblock.generations.current, GENERATION);
    let token = bench.command(Command::GoAlone { term: 1, loss: 1 });
    assert_eq!(bench.taken_reply(token), Some(Ok(())));
    assert!(bench.sent("State").is_some());
    bench.receive(link, Message::BitmapEnd);
    assert!(bench.sent("SyncStart").is_some());
}

/// Plays the target of a resync to its end.
fn resync(bench: &mut Bench, link: LinkId) {
    bench.receive(link, Message::BitmapEnd);
    assert!(bench.sent("SyncStart").is_some());
    bench.receive(link, Message::SyncReady);
    for _ in 0..20 {
        bench.compare(link, true);
        bench.disk();
        if let Some(Message::Resync { id, .. }) = bench.sent("Resync") {
            bench.receive(link, Message::ResyncAck { id });
        } else if let Some(Message::Flush { id }) = bench.sent("Flush") {
            bench.receive(link, Message::FlushAck { id });
        } else if bench.sent("SyncFinish").is_some() {
            return;
        }
    }
    panic!("the resync does not end");
}

#[test]
fn alone_ends_before_the_peer_is_shown_up_to_date() {
    let mut bench = blocked();
    bench.command(Command::GoAlone { term: 1, loss: 1 });
    bench.disk();
    bench.todo.clear();
    let peer = bench.returning();
    let peer =
        PeerState { generations: Generations { current: GENERATION, bitmap: 0, ..peer.generations }, ..peer };
    let link = bench.connect(2, peer);
    resync(&mut bench, link);
    let shown = |b: &Bench| (b.bond().alone, b.engine.status(b.now).connection.peer_disk);
    assert_eq!(shown(&bench), (true, DiskState::Inconsistent));
    bench.receive(link, Message::SyncCommitted);
    assert_eq!(shown(&bench), (false, DiskState::UpToDate));
    bench.front(2, FrontOp::Write(block(6)));
    bench.disk();
    bench.lose_for_good(link);
    assert!(bench.bond().blocked && bench.bond().loss == 2);
    bench.metadata();
    assert!(bench.taken_answer().is_none_or(|(slot, _)| slot != Slot(FRONT + 2)), "both must have it again");
}

#[test]
fn a_promotion_without_peer_and_grant_begins_blocked_and_names_nothing() {
    let mut bench = managed(|_| {});
    bench.promote_by(4, false, None);
    assert_eq!(
        bench.bond(),
        Managed { fence: 4, term: Some(4), alone: false, loss: 1, blocked: true, deposed: false }
    );
    assert_eq!(bench.engine.superblock.generations.current, GENERATION);
    bench.front(0, FrontOp::Write(block(5)));
    assert!(bench.taken_write().is_none());
    bench.front(1, FrontOp::Read(block(5)));
    bench.disk();
    assert_eq!(bench.taken_answer(), Some((Slot(FRONT + 1), Ok(()))), "reads go on");
}

#[test]
fn a_takeover_by_the_record_begins_a_generation_and_answers_at_once() {
    let mut bench = managed(|_| {});
    bench.promote_by(4, true, None);
    let generations = &bench.engine.superblock.generations;
    assert!(generations.current != GENERATION && generations.bitmap == GENERATION);
    let named = generations.current;
    bench.front(0, FrontOp::Write(block(5)));
    bench.disk();
    assert_eq!(bench.taken_answer(), Some((Slot(FRONT), Ok(()))));
    assert_eq!(bench.engine.superblock.generations.current, named, "one generation is enough");
}
