//! The administrator's scripts: when they are called, and what waits for those that decide.

use super::*;
use crate::event::CallId;
use crate::handler::Handler;

impl Bench {
    /// A node with all scripts, and a peer that has written one block more.
    fn target_with_scripts() -> (Self, LinkId) {
        let mut bench = Self::build(with_scripts(), |_| {});
        let mut peer = bench.peer();
        peer.generations.rotate(0x2000);
        peer.dirty_blocks = 1;
        let link = bench.connect(1, peer);
        (bench, link)
    }

    fn called(&mut self) -> Option<(CallId, Handler)> {
        self.take(|a| match a {
            Action::CallHandler { call, handler } => Some((*call, *handler)),
            _ => None,
        })
    }

    fn all_called(&mut self) -> Vec<Handler> {
        std::iter::from_fn(|| self.called()).map(|(_, handler)| handler).collect()
    }

    fn script_ends(&mut self, call: CallId, result: Result<(), &str>) {
        self.event(Event::HandlerEnded { call, result: result.map_err(str::to_owned) });
    }

    fn why_alone(&self) -> String {
        self.engine.status(self.now).connection.standalone_reason.unwrap_or_default()
    }
}

fn with_scripts() -> Settings {
    Settings { handlers: Handler::ALL.iter().copied().collect(), ..settings(0) }
}

const START: Message = Message::SyncStart { base: GENERATION, blocks: 1, as_of: 0 };

#[test]
fn a_target_is_not_marked_before_its_script_has_ended_well() {
    let (mut bench, link) = Bench::target_with_scripts();
    bench.receive(link, START);
    let (call, handler) = bench.called().unwrap();
    assert_eq!(handler, Handler::BeforeResyncTarget);
    assert!(bench.engine.superblock.consistent && bench.sent("SyncReady").is_none());
    bench.script_ends(call, Ok(()));
    assert!(!bench.engine.superblock.consistent);
    assert!(bench.sent("SyncReady").is_some());
    bench.receive(link, Message::SyncFinish(bench.peer().generations));
    assert_eq!(bench.all_called(), [Handler::AfterResyncTarget]);
}

#[test]
fn a_script_that_fails_refuses_the_resync_and_leaves_the_disk_as_it_is() {
    let (mut bench, link) = Bench::target_with_scripts();
    bench.receive(link, START);
    let (call, _) = bench.called().unwrap();
    bench.script_ends(call, Err("returned 1"));
    assert!(bench.engine.superblock.consistent && bench.engine.disk > DiskState::Inconsistent);
    assert!(bench.why_alone().starts_with("before-resync-target handler returned 1, dropping connection"));
    assert!(bench.todo.contains(&Action::Hangup { link }));
}

#[test]
fn a_script_of_an_earlier_connection_does_not_let_a_later_resync_begin() {
    let (mut bench, link) = Bench::target_with_scripts();
    bench.receive(link, START);
    let (first, _) = bench.called().unwrap();
    bench.lose(link);
    let mut peer = bench.peer();
    peer.generations.rotate(0x2000);
    peer.dirty_blocks = 1;
    let again = bench.connect(2, peer);
    bench.receive(again, START);
    assert_eq!(bench.all_called(), [Handler::Disconnected], "two at the same time");
    bench.script_ends(first, Err("returned 1"));
    let (second, handler) = bench.called().unwrap();
    assert_eq!(handler, Handler::BeforeResyncTarget);
    assert!(bench.engine.superblock.consistent && bench.why_alone().is_empty());
    bench.script_ends(first, Ok(()));
    assert!(bench.engine.superblock.consistent, "the end of a call counts once");
    bench.script_ends(second, Ok(()));
    assert!(!bench.engine.superblock.consistent);
}

#[test]
fn a_source_does_not_announce_before_its_script_has_ended_well() {
    for result in [Ok(()), Err("returned 2")] {
        let mut bench = Bench::build(with_scripts(), |attached| {
            attached.superblock.generations.rotate(0x2000);
            attached.bitmap.set(5, 6);
        });
        let peer = bench.peer();
        let link = bench.connect(1, peer);
        bench.receive(link, Message::BitmapEnd);
        let (call, handler) = bench.called().unwrap();
        assert_eq!(handler, Handler::BeforeResyncSource);
        assert!(bench.sent("SyncStart").is_none());
        bench.script_ends(call, result);
        assert_eq!(bench.sent("SyncStart").is_some(), result.is_ok());
        assert_eq!(bench.why_alone().starts_with("before-resync-source handler returned 2"), result.is_err());
    }
}

#[test]
fn a_split_brain_is_told() {
    let mut bench = Bench::build(with_scripts(), |attached| attached.superblock.generations.rotate(0x2000));
    let mut peer = bench.peer();
    peer.generations.rotate(0x3000);
    bench.connect(1, peer);
    assert!(bench.why_alone().starts_with("split brain"));
    assert_eq!(bench.all_called(), [Handler::InitialSplitBrain, Handler::SplitBrain]);
}

#[test]
fn a_failed_disk_is_told_and_that_of_a_primary_without_a_good_copy_more_loudly() {
    for peer_is_there in [true, false] {
        let mut bench = Bench::build(with_scripts(), |_| {});
        let peer = bench.peer();
        let link = bench.connect(1, peer);
        bench.promote(Some(link));
        bench.receive(link, Message::Changed { role: Role::Secondary, disk: DiskState::UpToDate });
        if !peer_is_there {
            bench.lose(link);
        }
        bench.all_called();
        bench.front(0, FrontOp::Read(block(5)));
        let (io, _) = bench.taken_read().unwrap();
        bench.failed(io);
        let called = bench.all_called();
        assert!(called.contains(&Handler::LocalIoError), "{called:?}");
        assert_eq!(called.contains(&Handler::PriOnInconDegr), !peer_is_there, "{called:?}");
    }
}

#[test]
fn without_a_line_in_the_resource_file_nothing_is_called() {
    let mut bench = Bench::new(|_| {});
    let peer = bench.peer();
    let link = bench.connect(1, peer);
    bench.lose(link);
    assert_eq!(bench.all_called(), []);
}
