//! The rules at the top of `engine.rs`, each tried by hand: one engine, its disk and its peer played here.

mod declared;
mod found;
mod hang;
mod managed;
mod rules;
mod scripts;
mod successor;
mod zero;

use super::*;
use crate::control::{Command, Refusal};
use crate::event::{FrontError, FrontOp, LinkId, Slot};
use crate::generation::Generations;
use crate::message::{Abilities, Hello, Message, PeerState};
use crate::state::{ReplicationState, Role};

const DISK_BYTES: u64 = 40 << 20;
const GENERATION: u64 = 0x1000;
const FRONT: u32 = 100;
const INCOMING: u32 = 1000;

/// One engine; what it wants to be done piles up in `todo` until the test does it.
struct Bench {
    engine: Engine,
    now: Millis,
    todo: Vec<Action>,
    last_token: u64,
    /// Metadata writes are done at once.
    quick_metadata: bool,
    /// In the header of what the peer sends.
    peer_term: u64,
}

fn settings(node_id: u32) -> Settings {
    let name = |n: u32| format!("ha-{n}");
    Settings {
        resource: "r0".into(),
        node: name(node_id),
        node_id,
        peer: name(1 - node_id),
        peer_node_id: 1 - node_id,
        volume: 0,
        minor: 1,
        ping_interval_ms: 1000,
        ping_timeout_ms: 500,
        request_timeout_ms: 30_000,
        connect_interval_ms: 1000,
        disk_timeout_ms: 0,
        al_extents: 4,
        resync_rate_kib: 0,
        managed: false,
        undo: UndoPolicy::Off,
        handlers: Handlers::default(),
    }
}

fn block(number: u64) -> Range {
    Range { offset: number * BLOCK, len: 4096 }
}

impl Bench {
    /// A node whose disk was in step with the peer's, changed by `change`.
    fn new(change: impl FnOnce(&mut Attached)) -> Self {
        Self::build(settings(0), change)
    }

    fn build(settings: Settings, change: impl FnOnce(&mut Attached)) -> Self {
        Self::following(settings, (None, None), change)
    }

    /// A process that follows one of a Primary or of a Secondary.
    fn following(
        settings: Settings,
        (resume, contact): (Option<Resume>, Option<u64>),
        change: impl FnOnce(&mut Attached),
    ) -> Self {
        let layout = Layout::for_device(DISK_BYTES).unwrap();
        let mut superblock = Superblock::just_created(&layout);
        superblock.generations.current = GENERATION;
        superblock.consistent = true;
        superblock.agreed_bytes = layout.data_bytes;
        let bitmap = Bitmap::new(layout.data_bytes / BLOCK);
        let mut attached =
            Attached { layout, superblock, bitmap, activity: Transaction::default(), undo: None };
        change(&mut attached);
        let mut todo = Vec::new();
        let engine = Engine::new(
            settings,
            attached,
            Origin { seed: 7, unix_seconds: 0, resume, contact, unmaps: true },
            1,
            &mut todo,
        );
        let mut bench = Self { engine, now: 1, todo, last_token: 0, quick_metadata: true, peer_term: 0 };
        bench.metadata();
        bench
    }

    /// A node that has written block 5 since it last saw the peer.
    fn ahead() -> Self {
        Self::new(|attached| {
            attached.superblock.generations.rotate(0x2000);
            attached.bitmap.set(5, 6);
        })
    }

    /// What the peer says about itself when it has the same data.
    fn peer(&self) -> PeerState {
        PeerState {
            generations: Generations { current: GENERATION, bitmap: 0, history: [0; 8], counter: 0 },
            role: Role::Secondary,
            disk: DiskState::Consistent,
            bytes: self.engine.layout.data_bytes,
            capacity: self.engine.layout.data_bytes,
            crashed_primary: false,
            reconnect: false,
            discard_my_data: false,
            dirty_blocks: 0,
            abilities: Abilities(Abilities::ZERO | Abilities::UNMAP),
        }
    }

    fn event(&mut self, event: Event) {
        self.engine.handle(event, self.now, &mut self.todo);
        if self.quick_metadata {
            self.metadata();
        }
    }

    /// Takes out the first action that `pick` wants.
    fn take<T>(&mut self, pick: impl Fn(&Action) -> Option<T>) -> Option<T> {
        let at = self.todo.iter().position(|a| pick(a).is_some())?;
        pick(&self.todo.remove(at))
    }

    /// Does the metadata writes that are asked for, until there are none.
    fn metadata(&mut self) {
        while self.metadata_once() {}
    }

    fn metadata_once(&mut self) -> bool {
        let is_meta = |a: &Action| if let Action::WriteMeta { tx, .. } = a { Some(*tx) } else { None };
        let Some(tx) = self.take(is_meta) else { return false };
        self.engine.handle(Event::MetaDone { tx, result: Ok(()) }, self.now, &mut self.todo);
        true
    }

    fn taken_flush(&mut self) -> Option<IoId> {
        self.take(|a| if let Action::FlushDisk { io } = a { Some(*io) } else { None })
    }

    fn taken_write(&mut self) -> Option<(IoId, Range)> {
        self.take(|a| if let Action::WriteDisk { io, range, .. } = a { Some((*io, *range)) } else { None })
    }

    fn taken_read(&mut self) -> Option<(IoId, Slot)> {
        self.take(|a| if let Action::ReadDisk { io, slot, .. } = a { Some((*io, *slot)) } else { None })
    }

    fn taken_answer(&mut self) -> Option<(Slot, Result<(), FrontError>)> {
        self.take(
            |a| if let Action::CompleteFront { slot, result } = a { Some((*slot, *result)) } else { None },
        )
    }

    fn taken_reply(&mut self, token: Token) -> Option<Result<(), Refusal>> {
        self.take(|a| match a {
            Action::Reply { token: t, result } if *t == token => Some(result.clone()),
            _ => None,
        })
    }

    /// The first message of this name that is to be sent.
    fn sent(&mut self, wanted: &str) -> Option<Message> {
        self.take(|a| match a {
            Action::Send { message, .. } if message.name() == wanted => Some(message.clone()),
            _ => None,
        })
    }

    fn done(&mut self, io: IoId) {
        self.event(Event::DiskDone { io, result: Ok(()) });
    }

    fn failed(&mut self, io: IoId) {
        self.event(Event::DiskDone { io, result: Err(DiskError("input/output error".into())) });
    }

    /// Every disk operation that is asked for is over.
    fn disk(&mut self) {
        while let Some(io) = self.take(|a| match a {
            Action::ReadDisk { io, .. } | Action::WriteDisk { io, .. } | Action::FlushDisk { io } => {
                Some(*io)
            }
            _ => None,
        }) {
            self.done(io);
        }
    }

    /// Both sides have read what a resync compares: every block differs, or none.
    fn compare(&mut self, link: LinkId, differ: bool) {
        while let Some((io, range)) =
            self.take(|a| if let Action::DigestDisk { io, range } = a { Some((*io, *range)) } else { None })
        {
            let Some(Message::VerifyAsk { id, range: asked }) = self.sent("VerifyAsk") else {
                panic!("the peer is not asked")
            };
            assert_eq!(asked, range);
            let blocks = usize::try_from(u64::from(range.len) / BLOCK).unwrap();
            self.event(Event::Digested { io, result: Ok(vec![1; blocks]) });
            let digests = vec![1 + u128::from(differ); blocks];
            self.receive(link, Message::VerifyReply { id, digests });
        }
    }

    fn receive(&mut self, link: LinkId, message: Message) {
        let data = matches!(message, Message::Write { .. } | Message::Resync { .. } | Message::Zero { .. });
        let term = self.peer_term;
        self.event(Event::Received { link, term, message, payload: data.then_some(Slot(INCOMING)) });
    }

    /// A connection on which the peer says `state`, and goes along with what follows.
    fn connect(&mut self, link: u64, state: PeerState) -> LinkId {
        let link = LinkId(link);
        let (node, peer) = (self.engine.settings.peer.clone(), self.engine.settings.node.clone());
        self.event(Event::LinkUp { link });
        self.receive(link, Message::Hello(Hello { resource: "r0".into(), node, peer }));
        self.receive(link, Message::State(state));
        link
    }

    fn lose(&mut self, link: LinkId) {
        self.event(Event::LinkLost { link, reason: "cut".into() });
    }

    /// Loses the peer, and no process replaces its own in time.
    fn lose_for_good(&mut self, link: LinkId) {
        self.lose(link);
        self.now += super::bond::REPLACED_MS;
        self.event(Event::Tick);
    }

    fn command(&mut self, command: Command) -> Token {
        self.last_token += 1;
        let token = Token(self.last_token);
        self.event(Event::Command { token, command });
        token
    }

    /// Promotes the node, with the consent of a peer that is connected.
    fn promote(&mut self, link: Option<LinkId>) {
        let token = self.command(Command::Primary { force: link.is_none(), term: None, alone: false });
        if let Some(link) = link {
            assert!(self.sent("RoleAsk").is_some(), "connected, and the peer is not asked");
            self.receive(link, Message::RoleAnswer { granted: true });
        }
        self.event(Event::ExportStarted);
        assert_eq!(self.taken_reply(token), Some(Ok(())));
    }

    fn front(&mut self, slot: u32, op: FrontOp) {
        self.event(Event::Front { slot: Slot(FRONT + slot), op });
    }

    /// A Primary that is connected to a peer with the same data.
    fn primary() -> (Self, LinkId) {
        let mut bench = Self::new(|_| {});
        let peer = bench.peer();
        let link = bench.connect(1, peer);
        bench.promote(Some(link));
        (bench, link)
    }

    /// Writes a block of an application to both disks and answers it.
    fn write_everywhere(&mut self, link: LinkId, slot: u32, number: u64) {
        self.front(slot, FrontOp::Write(block(number)));
        self.disk();
        let Some(Message::Write { id, .. }) = self.sent("Write") else { panic!("not sent to the peer") };
        self.receive(link, Message::WriteAck { id });
        assert_eq!(self.taken_answer(), Some((Slot(FRONT + slot), Ok(()))));
    }

    fn later(&mut self, ms: Millis) {
        self.now += ms;
        self.event(Event::Tick);
    }
}
