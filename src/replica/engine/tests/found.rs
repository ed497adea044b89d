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
