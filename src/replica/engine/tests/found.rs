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
    let token = bench.command(Command::Primary { force: false });
    let exports = |b: &Bench| b.todo.iter().any(|a| matches!(a, Action::StartExport { .. }));
    assert!(!exports(&bench), "an old write could come after a new one");
    bench.done(slow);
    assert!(exports(&bench));
    bench.event(Event::ExportStarted);
    assert_eq!(bench.taken_reply(token), Some(Ok(())));
}
