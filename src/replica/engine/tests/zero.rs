//! What is zeroed, or discarded (`engine/request.rs`).

use super::*;
use crate::event::Fill;

fn zero(first: u64, blocks: u32) -> FrontOp {
    FrontOp::Zero { range: Range { offset: first * BLOCK, len: blocks * 4096 }, unmap: true }
}

#[test]
fn what_is_zeroed_is_done_piece_by_piece_and_keeps_others_out_until_all_is_done() {
    let (mut bench, link) = Bench::primary();
    bench.front(0, zero(200, 100));
    bench.front(1, FrontOp::Write(block(200)));
    let mut pieces = Vec::new();
    while let Some(message) = bench.sent("Zero") {
        let Message::Zero { id, range, unmap: true, resync: false } = message else { panic!("{message:?}") };
        assert!(bench.taken_answer().is_none() && bench.sent("Write").is_none(), "it is not over");
        pieces.push((range.offset / BLOCK, range.end() / BLOCK));
        bench.disk();
        bench.receive(link, Message::WriteAck { id });
    }
    assert_eq!(pieces, [(200, 256), (256, 300)]);
    assert_eq!(bench.taken_answer(), Some((Slot(FRONT), Ok(()))));
    assert!(bench.sent("Write").is_some(), "what came later is later on both disks");
}

#[test]
fn a_peer_that_knows_only_data_gets_zeroes_as_data() {
    let mut bench = Bench::new(|_| {});
    let peer = PeerState { abilities: Abilities::default(), ..bench.peer() };
    let link = bench.connect(1, peer);
    bench.promote(Some(link));
    bench.front(0, zero(5, 1));
    assert_eq!(bench.sent("Write"), Some(Message::Write { id: 1, range: block(5) }));
    let fill = bench.take(|a| if let Action::WriteDisk { fill, .. } = a { Some(*fill) } else { None });
    assert_eq!(fill, Some(Fill::Unmapped), "the own disk need not be filled");
}

#[test]
fn room_is_given_back_only_where_both_disks_can() {
    for (abilities, expected) in [(Abilities(Abilities::UNMAP), true), (Abilities::default(), false)] {
        let mut bench = Bench::new(|_| {});
        let peer = PeerState { abilities, ..bench.peer() };
        let link = bench.connect(1, peer);
        let token = bench.command(Command::Primary { force: false, term: None, alone: false });
        bench.receive(link, Message::RoleAnswer { granted: true });
        let told =
            |a: &Action| if let Action::StartExport { discard, .. } = a { Some(*discard) } else { None };
        assert_eq!(bench.take(told), Some(expected), "{token:?}");
    }
}

#[test]
fn a_resync_has_zeroes_zeroed() {
    let mut bench = Bench::new(|attached| {
        attached.superblock.generations.rotate(0x2000);
        attached.bitmap.set(5, 8);
    });
    let peer = PeerState { role: Role::Secondary, ..bench.peer() };
    let link = bench.connect(1, peer);
    bench.receive(link, Message::BitmapEnd);
    bench.receive(link, Message::SyncReady);
    let Some(Message::VerifyAsk { id, .. }) = bench.sent("VerifyAsk") else { panic!("nothing is compared") };
    let zero = crate::digest::of_zeroes();
    let io = bench.take(|a| if let Action::DigestDisk { io, .. } = a { Some(*io) } else { None }).unwrap();
    bench.event(Event::Digested { io, result: Ok(vec![7, zero, zero]) });
    bench.receive(link, Message::VerifyReply { id, digests: vec![8, 8, zero] });
    let Some(Message::Zero { range, unmap: true, resync: true, .. }) = bench.sent("Zero") else {
        panic!("sent as data")
    };
    assert_eq!(range, block(6));
    assert_eq!(bench.sent("Resync"), None, "it is being read");
    bench.disk();
    assert!(matches!(bench.sent("Resync"), Some(Message::Resync { range, .. }) if range == block(5)));
}
