//! A world that breaks one rule of replication behind the engines' backs: so that it is known that the
//! simulator would notice an engine that breaks it. The engines themselves are the real ones.

use replica::control::{Command, Status};
use replica::event::{Action, BLOCK, IoId, LinkId, MetaTx, Millis, Range, Slot, Token};
use replica::message::{Message, PeerState};
use replica::meta::{Attached, Layout, Superblock};

use super::{DiskOp, Happening, Notice, Packet, World};

/// How long a block of a resync is on its way that was confirmed already.
const LATE_MS: Millis = 30;
/// Names disk operations that no engine has asked for and no engine hears of.
const NOBODYS: u64 = 1 << 63;

/// Which rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// A write is confirmed when it was sent, not when the peer's disk has it.
    ConfirmsEarly,
    /// The peer's flush is confirmed, and the peer never hears of it.
    SkipsPeerFlush,
    /// A flush of the data does nothing.
    SkipsFlush,
    /// The activity log is not stored: a write begins before its extent is in it.
    SkipsActivityLog,
    /// The bitmap is not stored.
    ForgetsMarks,
    /// A block of a resync is confirmed when it was sent: its mark is cleared too early.
    ClearsEarly,
    /// A target is not marked Inconsistent before the first block.
    SkipsInconsistent,
    /// The generation of what is written alone is not stored.
    SkipsGeneration,
    /// Metadata counts as durable when it is in the disk's cache.
    SkipsMetaFlush,
    /// Every wish to be Primary is granted.
    GrantsEverybody,
    /// A block of a resync reaches the disk after it was confirmed, over newer ones.
    OvertakesWrites,
    /// Applications read the disk of the peer.
    ReadsElsewhere,
    /// A write counts as done on the own disk before the disk has it.
    WritesLate,
    /// The peer confirms a flush when it begins.
    ConfirmsFlushEarly,
    /// Being Primary is not stored: a crash goes unnoticed.
    SkipsPrimary,
    /// The crash mark is not stored.
    SkipsCrash,
    /// It is not stored that a node has outlived the Primary.
    SkipsSurvival,
    /// A node that leaves a Primary does not store that it is older from then on.
    SkipsOutdated,
    /// A target does not tell what it has changed itself.
    HidesMarks,
    /// The second node gives up its data whenever there is something to decide.
    GivesUp,
    /// Every wish to give up the own data is granted.
    GrantsEveryLoss,
    /// The old content of a block is saved after the block was changed.
    SavesLate,
    /// A rollback does not store which blocks it makes different.
    ForgetsUndone,
    /// What is compared is always found to be the same.
    ComparesNothing,
    /// Under a cluster manager: requests are answered although they must wait for the peer or for the record.
    AnswersBlocked,
    /// Under a cluster manager: a program that takes over answers without the peer, whatever was granted.
    ResumesAlone,
    /// A successor gets what was asked in the wrong order.
    RepeatsBackwards,
    /// A successor takes what was asked for done.
    RepeatsNothing,
    /// What a Secondary knows of its contact with the Primary counts over a power loss.
    RemembersContact,
    /// Under a cluster manager: the promise to take part in no older term is not stored.
    ForgetsFence,
    /// When both have parted from the same data, the second node calls its own that of the first one: of the split brain only
    /// it learns.
    SeenByOne,
}

impl World {
    /// What becomes of a request of an application besides.
    pub(super) fn sabotaged_front(&mut self, node: usize, slot: Slot) {
        let blocked = |world: &Self| world.status(node).and_then(|s| s.managed).is_some_and(|m| m.blocked);
        if self.sabotage == Some(Sabotage::AnswersBlocked)
            && self.nodes[node].fronts.contains_key(&slot)
            && blocked(self)
        {
            self.notices.push_back(Notice::Answered { node, slot, result: Ok(()) });
        }
    }

    /// What the world makes of an action; `None` when that is all.
    pub(super) fn sabotaged(&mut self, node: usize, action: Action) -> Option<Action> {
        let Some(sabotage) = self.sabotage else { return Some(action) };
        match action {
            Action::Send { link, term, message, payload } => {
                let message = self.sabotaged_message(sabotage, node, link, message)?;
                Some(Action::Send { link, term, message, payload })
            }
            Action::WriteMeta { tx, writes } => self.sabotaged_metadata(sabotage, node, tx, writes),
            Action::Dial if sabotage == Sabotage::GivesUp => {
                self.command(1 - node, Token(0), Command::Connect { discard_my_data: true });
                Some(Action::Dial)
            }
            Action::FlushDisk { io } if sabotage == Sabotage::SkipsFlush => {
                self.disk(node, io, DiskOp::Flush { time: 0 });
                None
            }
            Action::WriteDisk { io, slot, range, .. } if self.comes_late(sabotage, node, slot) => {
                self.write_late(node, io, slot, range);
                None
            }
            Action::SaveUndo { io, log, at, ranges } if sabotage == Sabotage::SavesLate => {
                self.disk(node, io, DiskOp::Flush { time: 0 });
                self.do_late(node, io, DiskOp::Save { log, at, ranges });
                None
            }
            Action::ReadDisk { io, slot, range }
                if sabotage == Sabotage::ReadsElsewhere && self.nodes[node].fronts.contains_key(&slot) =>
            {
                let elsewhere = &self.nodes[1 - node].disk;
                let data = (range.offset / BLOCK..range.end() / BLOCK).map(|b| elsewhere.view(b)).collect();
                self.nodes[node].slots.insert(slot, data);
                let nothing = Range { len: 0, ..range };
                self.disk(node, io, DiskOp::Write { range: nothing, data: Vec::new(), resync: false });
                None
            }
            action => Some(action),
        }
    }

    fn sabotaged_message(
        &mut self,
        sabotage: Sabotage,
        node: usize,
        link: LinkId,
        message: Message,
    ) -> Option<Message> {
        match (sabotage, message) {
            (
                Sabotage::ConfirmsEarly,
                message @ (Message::Write { id, .. } | Message::Zero { id, resync: false, .. }),
            ) => {
                self.invent(link, node, Message::WriteAck { id });
                Some(message)
            }
            (
                Sabotage::ClearsEarly,
                message @ (Message::Resync { id, .. } | Message::Zero { id, resync: true, .. }),
            ) => {
                self.invent(link, node, Message::ResyncAck { id });
                Some(message)
            }
            (Sabotage::ConfirmsFlushEarly, Message::Flush { id }) => {
                self.invent(link, node, Message::FlushAck { id });
                Some(Message::Flush { id })
            }
            (Sabotage::ConfirmsFlushEarly, Message::FlushAck { .. }) => None,
            (Sabotage::HidesMarks, Message::Bitmap { .. }) => None,
            (Sabotage::GrantsEveryLoss, Message::InvalidateAsk) => {
                self.invent(link, node, Message::InvalidateAnswer { granted: true });
                None
            }
            (Sabotage::SkipsPeerFlush, Message::Flush { id }) => {
                self.invent(link, node, Message::FlushAck { id });
                None
            }
            (Sabotage::SeenByOne, Message::State(state)) if node == 1 => {
                let disk = &self.nodes[0].disk;
                let base = state.generations.bitmap;
                let other = Attached::decode(disk.layout, &disk.metadata()).ok();
                let parted =
                    other.map(|a| a.superblock.generations).filter(|g| base != 0 && g.bitmap == base);
                let generations = parted.unwrap_or(state.generations);
                Some(Message::State(PeerState { generations, ..state }))
            }
            // Said already.
            (Sabotage::ConfirmsEarly, Message::WriteAck { .. })
            | (Sabotage::ClearsEarly, Message::ResyncAck { .. }) => None,
            (Sabotage::GrantsEverybody, Message::RoleAnswer { .. }) => {
                Some(Message::RoleAnswer { granted: true })
            }
            (_, message) => Some(message),
        }
    }

    /// Lets a node hear what the peer has not said.
    fn invent(&mut self, link: LinkId, node: usize, message: Message) {
        if self.links.get(&link.0).is_some_and(|c| c.open[node]) {
            self.post(link.0, node, Packet::Message { term: 0, message, data: None });
        }
    }

    fn sabotaged_metadata(
        &mut self,
        sabotage: Sabotage,
        node: usize,
        tx: MetaTx,
        mut writes: Vec<(u64, Vec<u8>)>,
    ) -> Option<Action> {
        let disk = &mut self.nodes[node].disk;
        if sabotage == Sabotage::SkipsMetaFlush {
            writes.iter().for_each(|(offset, bytes)| disk.write_meta(*offset, bytes));
            let (delay, life) = (self.disk_delay(node, 3), self.nodes[node].life);
            self.at(delay, Happening::Meta { node, life, tx, time: 0 });
            return None;
        }
        let Layout { bitmap_at, activity_at, super_at, .. } = disk.layout;
        let rolls_back = |status: Status| status.device.undo.is_some_and(|undo| undo.restored.is_some());
        let undoes = self.nodes[node].engine.as_ref().is_some_and(|e| rolls_back(e.status(self.now)));
        let disk = &self.nodes[node].disk;
        let stored = Attached::decode(disk.layout, &disk.metadata()).map(|a| a.superblock).ok();
        writes.retain_mut(|(offset, bytes)| match sabotage {
            Sabotage::ForgetsUndone if undoes => !(bitmap_at..activity_at).contains(offset),
            Sabotage::ForgetsMarks => !(bitmap_at..activity_at).contains(offset),
            Sabotage::SkipsActivityLog => !(activity_at..super_at).contains(offset),
            _ if *offset >= super_at => is_stored(sabotage, stored.as_ref(), bytes),
            _ => true,
        });
        Some(Action::WriteMeta { tx, writes })
    }

    fn comes_late(&self, sabotage: Sabotage, node: usize, slot: Slot) -> bool {
        match sabotage {
            Sabotage::OvertakesWrites => self.nodes[node].resynced.contains(&slot),
            Sabotage::WritesLate => self.nodes[node].fronts.contains_key(&slot),
            _ => false,
        }
    }

    /// The disk says that it has the block, and gets it later.
    fn write_late(&mut self, node: usize, io: IoId, slot: Slot, range: Range) {
        let data = self.slot_part(node, slot, range);
        let resync = self.nodes[node].resynced.contains(&slot);
        self.disk(node, io, DiskOp::Write { range, data: Vec::new(), resync });
        self.do_late(node, io, DiskOp::Write { range, data, resync });
    }

    fn do_late(&mut self, node: usize, io: IoId, op: DiskOp) {
        let life = self.nodes[node].life;
        let late = IoId(io.0 | NOBODYS);
        self.nodes[node].pending.insert(late.0, op.clone());
        self.at(LATE_MS, Happening::Disk { node, life, io: late, op });
    }
}

/// Whether the write of a superblock is carried out, perhaps changed.
fn is_stored(sabotage: Sabotage, stored: Option<&Superblock>, bytes: &mut Vec<u8>) -> bool {
    let (Some(old), Ok(mut new)) = (stored, Superblock::decode(bytes)) else { return true };
    match sabotage {
        Sabotage::SkipsInconsistent => new.consistent || !old.consistent,
        Sabotage::SkipsGeneration => {
            let begins = new.generations.bitmap != 0 && new.generations.current != old.generations.current;
            !(old.primary && new.primary && begins)
        }
        _ => {
            match sabotage {
                Sabotage::SkipsPrimary => new.primary = false,
                Sabotage::SkipsCrash => new.crashed_primary = false,
                Sabotage::SkipsSurvival => new.survived = false,
                Sabotage::SkipsOutdated => new.outdated = false,
                Sabotage::ForgetsFence => new.fence = 0,
                _ => {}
            }
            *bytes = new.encode();
            true
        }
    }
}
