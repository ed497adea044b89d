//! A disk that does not answer (`engine/hang.rs`).

use super::*;

fn impatient() -> (Bench, LinkId) {
    let mut bench = Bench::build(Settings { disk_timeout_ms: 5000, ..settings(0) }, |_| {});
    let peer = bench.peer();
    let link = bench.connect(1, peer);
    bench.promote(Some(link));
    (bench, link)
}

/// Time passes, and the peer is alive.
fn wait(bench: &mut Bench, link: LinkId, seconds: u64) {
    for _ in 0..seconds {
        bench.later(1000);
        bench.receive(link, Message::Ping { id: 1 });
    }
}

#[test]
fn a_disk_that_hangs_fails() {
    let (mut bench, link) = impatient();
    bench.front(0, FrontOp::Read(block(1)));
    wait(&mut bench, link, 4);
    assert_eq!(bench.engine.disk, DiskState::UpToDate);
    wait(&mut bench, link, 1);
    assert_eq!(bench.engine.disk, DiskState::Failed);
    assert!(bench.engine.disk_failure.as_ref().is_some_and(|why| why.contains("no answer for 5 s")));
    // It answers after all: nobody is told that this is good data of a disk that counts.
    bench.disk();
    assert!(bench.taken_answer().is_some(), "the buffer is free again");
}

#[test]
fn metadata_that_hangs_fails_the_disk_too() {
    let (mut bench, link) = impatient();
    bench.quick_metadata = false;
    bench.front(0, FrontOp::Write(block(1)));
    wait(&mut bench, link, 5);
    assert_eq!(bench.engine.disk, DiskState::Failed);
}

#[test]
fn time_in_which_the_machine_stood_still_is_not_the_disks() {
    let (mut bench, link) = impatient();
    bench.front(0, FrontOp::Read(block(1)));
    bench.later(600_000);
    assert_eq!(bench.engine.disk, DiskState::UpToDate);
    bench.disk();
    assert!(bench.taken_answer().is_some());
    wait(&mut bench, link, 10);
    assert_eq!(bench.engine.disk, DiskState::UpToDate, "nothing is under way");
}
