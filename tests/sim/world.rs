//! The world around two engines: disks, network, crashes. It performs their actions with random delays and
//! knows nothing of what they decide.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use replica::control::{Command, Refusal, Status};
use replica::engine::{Engine, Origin, Resume, Settings, UndoPolicy};
use replica::event::{
    Action, BLOCK, CallId, Event, FrontError, FrontOp, IoId, LinkId, MetaTx, Millis, Range, Slot, Token,
};
use replica::handler::Handlers;
use replica::message::{Abilities, Message};
use replica::meta::{Attached, Superblock, creation};
use replica::state::{DiskState, ReplicationState, Role};

use crate::disk::{Disk, Version};
use crate::rng::Rng;
use crate::undo::Store;

#[path = "network.rs"]
mod network;
#[path = "operations.rs"]
mod operations;
#[path = "processes.rs"]
mod processes;
#[path = "sabotage.rs"]
mod sabotage;

pub(crate) use operations::DiskOp;
pub(crate) use sabotage::Sabotage;

use network::{Connection, Packet};
use operations::broken;
use processes::Legacy;

/// Small, and still more extents than the activity log holds.
pub(crate) const DISK_BYTES: u64 = 18 << 20;
/// The device begins smaller than its disks: they were enlarged.
const FIRST_BYTES: u64 = 12 << 20;
/// Milliseconds after which a request is forgotten for which nothing happens.
const FORGOTTEN_MS: Millis = 3000;
/// Milliseconds that a script takes, mostly.
const SCRIPT_MS: Millis = 150;
/// Above those of applications.
const FIRST_PEER_SLOT: u32 = 1 << 24;

/// What happens at some time. `life` names the incarnation of a node that it belongs to.
pub(crate) enum Happening {
    Disk { node: usize, life: u32, io: IoId, op: DiskOp },
    Meta { node: usize, life: u32, tx: MetaTx, time: u64 },
    Dial { node: usize, life: u32 },
    Arrive { to: usize, link: u64 },
    Wake { node: usize, life: u32, order: u64 },
    Exported { node: usize, life: u32 },
    Unexported { node: usize, life: u32 },
    Resized { node: usize, life: u32 },
    Lost { node: usize, life: u32, link: u64 },
    Script { node: usize, life: u32, call: CallId },
}

impl Happening {
    fn node(&self) -> usize {
        match self {
            Self::Disk { node, .. }
            | Self::Meta { node, .. }
            | Self::Dial { node, .. }
            | Self::Arrive { to: node, .. }
            | Self::Wake { node, .. }
            | Self::Exported { node, .. }
            | Self::Unexported { node, .. }
            | Self::Resized { node, .. }
            | Self::Lost { node, .. }
            | Self::Script { node, .. } => *node,
        }
    }
}

/// What an observer sees.
pub(crate) enum Notice {
    Answered { node: usize, slot: Slot, result: Result<(), FrontError> },
    Reply { token: Token, result: Result<(), Refusal> },
    Primary { node: usize },
    Stopped { node: usize },
}

pub(crate) struct Node {
    pub(crate) engine: Option<Engine>,
    pub(crate) disk: Disk,
    pub(crate) exported: bool,
    /// Size of its device.
    pub(crate) device_bytes: u64,
    /// Every operation takes long.
    pub(crate) slow: bool,
    /// Operations hang, for longer than the engine waits.
    pub(crate) hangs: bool,
    /// Every operation fails.
    pub(crate) broken: bool,
    pub(crate) undo: Store,
    /// No request is handed to the daemon, whose program is about to be exchanged: the kernel keeps them.
    pub(crate) paused: bool,
    kept: Vec<(Slot, FrontOp, Vec<Version>)>,
    /// The undo log has no room any more.
    pub(crate) cramped: bool,
    /// A resync has changed the disk and is not finished: its data belongs to no point in time.
    pub(crate) mixed: bool,
    /// Requests of applications that are not answered, in the order of their arrival.
    pub(crate) fronts: BTreeMap<Slot, FrontOp>,
    /// What was answered last, as long as nothing was asked since: that it was answered may not be written down.
    answered: Option<(Slot, FrontOp)>,
    /// What the daemon has left that ended while the kernel kept its device.
    pub(crate) legacy: Option<Legacy>,
    /// What is noted until the machine boots anew.
    contact: Option<u64>,
    /// Buffers that hold blocks of a resync.
    resynced: BTreeSet<Slot>,
    life: u32,
    /// The wake-up that counts: the last one asked for.
    wake: u64,
    slots: BTreeMap<Slot, Vec<Version>>,
    /// Where what is zeroed begins, of requests that are done in pieces.
    zeroing: BTreeMap<Slot, u64>,
    next_peer_slot: u32,
    /// Writes and metadata handed to the disk and not over, for a crash to decide upon.
    pending: BTreeMap<u64, DiskOp>,
}

pub(crate) struct World {
    pub(crate) now: Millis,
    pub(crate) rng: Rng,
    pub(crate) nodes: [Node; 2],
    pub(crate) cut: [bool; 2],
    /// Whole machines that stand still, and what happens to them meanwhile.
    pub(crate) frozen: [bool; 2],
    pub(crate) held: [Vec<Happening>; 2],
    /// The engines obey a cluster manager.
    pub(crate) managed: bool,
    pub(crate) resync_rate_kib: u64,
    pub(crate) undo_policy: UndoPolicy,
    /// Scripts of administrators that are called.
    pub(crate) handlers: Handlers,
    /// Most milliseconds that a packet is on its way.
    pub(crate) lag: Millis,
    pub(crate) sabotage: Option<Sabotage>,
    /// The programs have come before the ability to send zeroes.
    pub(crate) knows_only_data: bool,
    /// Until when an operation of a disk hangs.
    pub(crate) hangs_until: Millis,
    /// The largest device that anybody has seen.
    pub(crate) seen_bytes: u64,
    /// Since when requests of a node wait although nothing is under way.
    idle_since: [Option<Millis>; 2],
    /// What must never be.
    pub(crate) broken_promise: Option<String>,
    /// When a connection last stood, or a node has said on it what it has.
    pub(crate) met_at: Millis,
    pub(crate) notices: VecDeque<Notice>,
    pub(crate) log: Vec<String>,
    happenings: BTreeMap<(Millis, u64), Happening>,
    order: u64,
    links: BTreeMap<u64, Connection>,
    last_link: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self::begin(seed, 0, false)
    }

    /// The device is smaller than its disks, which were enlarged.
    pub(crate) fn with_enlarged_disks(seed: u64) -> Self {
        Self::begin(seed, FIRST_BYTES, false)
    }

    /// The same, and both disks hold the same when they are new.
    pub(crate) fn with_equal_disks(seed: u64) -> Self {
        Self::begin(seed, FIRST_BYTES, true)
    }

    /// Two new disks that have agreed upon the size of the device, or not yet (0).
    fn begin(seed: u64, agreed_bytes: u64, equal: bool) -> Self {
        let mut rng = Rng::new(seed);
        let node = |n: u64| {
            let mut disk = Disk::new(DISK_BYTES, if equal { 0 } else { n });
            for step in creation(&disk.layout) {
                for (offset, bytes) in step {
                    disk.write_meta(offset, &agreeing(bytes, agreed_bytes));
                }
                disk.flush(disk.time());
            }
            Node {
                engine: None,
                disk,
                exported: false,
                device_bytes: 0,
                slow: false,
                hangs: false,
                broken: false,
                undo: Store::default(),
                paused: false,
                kept: Vec::new(),
                cramped: false,
                mixed: false,
                fronts: BTreeMap::new(),
                answered: None,
                legacy: None,
                contact: None,
                resynced: BTreeSet::new(),
                life: 0,
                wake: 0,
                slots: BTreeMap::new(),
                zeroing: BTreeMap::new(),
                next_peer_slot: FIRST_PEER_SLOT,
                pending: BTreeMap::new(),
            }
        };
        rng.next();
        Self {
            now: 0,
            rng,
            nodes: [node(0), node(1)],
            cut: [false; 2],
            frozen: [false; 2],
            held: [Vec::new(), Vec::new()],
            managed: false,
            resync_rate_kib: 0,
            undo_policy: UndoPolicy::Try,
            handlers: Handlers::default(),
            lag: 2,
            sabotage: None,
            knows_only_data: false,
            hangs_until: 0,
            seen_bytes: if agreed_bytes == 0 { DISK_BYTES } else { agreed_bytes },
            idle_since: [None; 2],
            broken_promise: None,
            met_at: 0,
            notices: VecDeque::new(),
            log: Vec::new(),
            happenings: BTreeMap::new(),
            order: 0,
            links: BTreeMap::new(),
            last_link: 0,
        }
    }

    pub(crate) fn say(&mut self, text: String) {
        self.log.push(format!("{:>7} {text}", self.now));
    }

    pub(crate) fn status(&self, node: usize) -> Option<Status> {
        self.nodes[node].engine.as_ref().map(|e| e.status(self.now))
    }

    fn start_with(&mut self, node: usize, resume: Option<Resume>) {
        let layout = self.nodes[node].disk.layout;
        let time = self.nodes[node].disk.time();
        self.nodes[node].disk.flush(time);
        let mut attached = Attached::decode(layout, &self.nodes[node].disk.metadata()).unwrap();
        if let Some(mark) = &attached.superblock.undo {
            attached.undo = Some(self.nodes[node].undo.find(&self.nodes[node].disk, mark.log));
        }
        let settings = Settings {
            resource: "r0".into(),
            node: name(node).into(),
            node_id: node as u32,
            peer: name(1 - node).into(),
            peer_node_id: 1 - node as u32,
            volume: 0,
            minor: 1,
            ping_interval_ms: 500,
            ping_timeout_ms: 300,
            request_timeout_ms: 3000,
            connect_interval_ms: 400,
            disk_timeout_ms: 8000,
            al_extents: 3,
            resync_rate_kib: self.resync_rate_kib,
            managed: self.managed,
            undo: self.undo_policy,
            handlers: self.handlers,
        };
        let mut out = Vec::new();
        let seed = self.rng.next();
        self.say(format!("{} starts", name(node)));
        let contact = self.nodes[node].contact;
        let origin = Origin { seed, unix_seconds: 1_800_000_000, resume, contact, unmaps: true };
        let engine = Engine::new(settings, attached, origin, self.now, &mut out);
        self.nodes[node].contact = engine.contact();
        self.nodes[node].engine = Some(engine);
        self.perform(node, out);
    }

    /// An application's request.
    pub(crate) fn front(&mut self, node: usize, slot: Slot, op: FrontOp, data: Vec<Version>) {
        if self.nodes[node].paused {
            self.nodes[node].kept.push((slot, op, data));
            return;
        }
        self.nodes[node].slots.insert(slot, data);
        if let FrontOp::Zero { range, .. } = op {
            self.nodes[node].zeroing.insert(slot, range.offset);
        }
        self.nodes[node].fronts.insert(slot, op);
        self.nodes[node].answered = None;
        self.event(node, Event::Front { slot, op });
        self.sabotaged_front(node, slot);
    }

    /// Someone else takes the device of a node away: its users get errors, the daemon is not asked.
    pub(crate) fn take_device(&mut self, node: usize) {
        self.say(format!("{} loses its device", name(node)));
        self.nodes[node].exported = false;
        self.nodes[node].kept.clear();
        self.nodes[node].fronts.clear();
    }

    pub(crate) fn command(&mut self, node: usize, token: Token, command: Command) {
        self.event(node, Event::Command { token, command });
    }

    pub(crate) fn slot_data(&self, node: usize, slot: Slot) -> Vec<Version> {
        self.nodes[node].slots.get(&slot).cloned().unwrap_or_default()
    }

    /// What a buffer holds for a part of its request: what is zeroed is done in pieces.
    pub(crate) fn slot_part(&self, node: usize, slot: Slot, range: Range) -> Vec<Version> {
        let whole = self.nodes[node].zeroing.get(&slot);
        let first = whole.map_or(0, |offset| (range.offset - offset) / BLOCK);
        let data = self.nodes[node].slots.get(&slot).into_iter().flatten().skip(first as usize);
        data.take((u64::from(range.len) / BLOCK) as usize).copied().collect()
    }

    fn event(&mut self, node: usize, event: Event) {
        let mut out = Vec::new();
        if let Some(engine) = &mut self.nodes[node].engine {
            engine.handle(event, self.now, &mut out);
            self.nodes[node].contact = engine.contact();
            self.perform(node, out);
            self.notice_forgotten(node);
        }
    }

    /// A request that waits while both nodes are in step and nothing is under way was forgotten.
    fn notice_forgotten(&mut self, node: usize) {
        let waits = !self.nodes[node].fronts.is_empty() && self.nodes[node].pending.is_empty();
        let idle = waits
            && self.status(node).is_some_and(|s| {
                let whole = s.connection.replication == ReplicationState::Established
                    && s.connection.peer_disk == DiskState::UpToDate
                    && s.device.disk == DiskState::UpToDate;
                let asked = s.connection.pending == 0 && s.device.lower_pending == 0;
                whole && asked && s.device.upper_pending > 0 && s.role == Role::Primary && !s.suspended
            });
        let since = *self.idle_since[node].get_or_insert(self.now);
        if !idle {
            self.idle_since[node] = None;
        } else if self.now - since > FORGOTTEN_MS {
            let slot = self.nodes[node].fronts.keys().next();
            self.broken_promise = Some(format!("{slot:?} of {} is forgotten", name(node)));
        }
    }

    fn at(&mut self, delay: Millis, happening: Happening) {
        self.order += 1;
        self.happenings.insert((self.now + delay, self.order), happening);
    }

    fn delay(&mut self, most: u64) -> Millis {
        // Mostly quick, sometimes slow.
        let most = if self.rng.one_in(20) { most * 10 } else { most };
        self.rng.below(most + 1)
    }

    fn perform(&mut self, node: usize, actions: Vec<Action>) {
        for action in actions {
            let Some(action) = self.sabotaged(node, action) else { continue };
            let life = self.nodes[node].life;
            match action {
                Action::WriteMeta { tx, writes } => {
                    // The bytes reach the disk at once, but are durable only with the flush at the end.
                    for (offset, bytes) in &writes {
                        self.nodes[node].disk.write_meta(*offset, bytes);
                    }
                    let (delay, time) = (self.disk_delay(node, 3), self.nodes[node].disk.time());
                    self.at(delay, Happening::Meta { node, life, tx, time });
                }
                Action::CompleteFront { slot, result } => {
                    let op = self.nodes[node].fronts.remove(&slot);
                    self.nodes[node].answered = op.map(|op| (slot, op));
                    self.notices.push_back(Notice::Answered { node, slot, result });
                }
                Action::Dial => {
                    let delay = self.delay(3);
                    self.at(delay, Happening::Dial { node, life });
                }
                Action::Send { link, term, message, payload } => {
                    self.send(node, link, term, message, payload);
                }
                Action::Hangup { link } => {
                    if let Some(connection) = self.links.get_mut(&link.0) {
                        connection.open[node] = false;
                        self.post(link.0, 1 - node, Packet::End);
                    }
                    self.at(0, Happening::Lost { node, life, link: link.0 });
                }
                Action::Release { slot } => {
                    self.nodes[node].slots.remove(&slot);
                    self.nodes[node].resynced.remove(&slot);
                }
                Action::ResizeExport { bytes } => {
                    self.show_size(node, bytes);
                    let delay = self.delay(5);
                    self.at(delay, Happening::Resized { node, life });
                }
                Action::StartExport { bytes, .. } => {
                    self.show_size(node, bytes);
                    self.nodes[node].exported = true;
                    self.notices.push_back(Notice::Primary { node });
                    let delay = self.delay(5);
                    self.at(delay, Happening::Exported { node, life });
                }
                Action::CallHandler { call, .. } => {
                    let delay = self.delay(SCRIPT_MS);
                    self.at(delay, Happening::Script { node, life, call });
                }
                Action::StopExport => self.at(1, Happening::Unexported { node, life }),
                Action::AbortExport => self.take_device(node),
                Action::Reply { token, result } => self.notices.push_back(Notice::Reply { token, result }),
                Action::Log { level, text } => self.say(format!("{} {level:?} {text}", name(node))),
                Action::DropUndo => self.nodes[node].undo.clear(),
                Action::WakeAt { at } => {
                    let delay = at.saturating_sub(self.now);
                    let order = self.order + 1;
                    self.nodes[node].wake = order;
                    self.at(delay, Happening::Wake { node, life, order });
                }
                Action::Stopped => {
                    self.nodes[node].engine = None;
                    self.nodes[node].contact = None;
                    self.nodes[node].life += 1;
                    self.notices.push_back(Notice::Stopped { node });
                }
                action => self.perform_on_disk(node, action),
            }
        }
    }

    /// Whether anybody has seen a larger device.
    pub(crate) fn has_grown(&self) -> bool {
        self.seen_bytes > FIRST_BYTES && self.seen_bytes < DISK_BYTES
    }

    /// What nobody could see before is the same on both disks when it is seen first.
    fn show_size(&mut self, node: usize, bytes: u64) {
        self.nodes[node].device_bytes = bytes;
        let [a, b] = &self.nodes;
        let differs = |block: &u64| a.disk.view(*block) != b.disk.view(*block);
        if let Some(block) = (self.seen_bytes / BLOCK..bytes / BLOCK).find(differs) {
            let node = name(node);
            self.broken_promise = Some(format!("the device of {node} grows, but block {block} differs"));
        }
        self.seen_bytes = self.seen_bytes.max(bytes);
    }

    /// When the next thing happens.
    pub(crate) fn next_at(&self) -> Option<Millis> {
        self.happenings.first_key_value().map(|((at, _), _)| *at)
    }

    /// Lets the next thing happen, if there is one before `until`.
    pub(crate) fn step(&mut self, until: Millis) -> bool {
        let Some((&(at, order), _)) = self.happenings.first_key_value() else {
            self.now = until;
            return false;
        };
        if at > until {
            self.now = until;
            return false;
        }
        self.now = self.now.max(at);
        let happening = self.happenings.remove(&(at, order)).unwrap();
        self.happen(happening);
        true
    }

    fn is_alive(&self, node: usize, life: u32) -> bool {
        self.nodes[node].life == life && self.nodes[node].engine.is_some()
    }

    /// A machine goes on.
    pub(crate) fn thaw(&mut self, node: usize) {
        self.frozen[node] = false;
        for happening in std::mem::take(&mut self.held[node]) {
            self.at(0, happening);
        }
    }

    fn happen(&mut self, happening: Happening) {
        let node = happening.node();
        if self.frozen[node] {
            self.held[node].push(happening);
            return;
        }
        match happening {
            Happening::Disk { node, life, io, op } if self.is_alive(node, life) => {
                self.disk_done(node, io, op);
            }
            Happening::Meta { node, life, tx, time } if self.is_alive(node, life) => {
                let n = &mut self.nodes[node];
                let result = if n.broken { Err(broken()) } else { Ok(()) };
                if result.is_ok() {
                    n.disk.flush(time);
                }
                self.event(node, Event::MetaDone { tx, result });
            }
            Happening::Dial { node, life } if self.is_alive(node, life) => self.dial(node),
            Happening::Arrive { to, link } => self.arrive(to, link),
            Happening::Wake { node, life, order }
                if self.is_alive(node, life) && self.nodes[node].wake == order =>
            {
                self.event(node, Event::Tick);
            }
            Happening::Exported { node, life } if self.is_alive(node, life) => {
                self.event(node, Event::ExportStarted);
            }
            Happening::Resized { node, life } if self.is_alive(node, life) => {
                self.event(node, Event::ExportResized { result: Ok(()) });
            }
            Happening::Unexported { node, life } if self.is_alive(node, life) => {
                // The kernel lets go of a device when nothing is in flight on it.
                self.nodes[node].exported = false;
                if !self.nodes[node].fronts.is_empty() {
                    self.at(1, Happening::Unexported { node, life });
                } else {
                    self.event(node, Event::ExportStopped);
                }
            }
            Happening::Script { node, life, call } if self.is_alive(node, life) => {
                let fails = self.rng.one_in(6);
                let result = if fails { Err("returned 1".to_owned()) } else { Ok(()) };
                self.event(node, Event::HandlerEnded { call, result });
            }
            Happening::Lost { node, life, link } if self.is_alive(node, life) => {
                self.event(node, Event::LinkLost { link: LinkId(link), reason: "hung up".into() });
            }
            _ => {}
        }
    }
}

/// The superblock of a device of some size that both have agreed upon; other metadata as it is.
fn agreeing(bytes: Vec<u8>, agreed_bytes: u64) -> Vec<u8> {
    match Superblock::decode(&bytes) {
        Ok(superblock) => Superblock { agreed_bytes, ..superblock }.encode(),
        Err(_) => bytes,
    }
}

pub(crate) fn name(node: usize) -> &'static str {
    ["ha-a", "ha-b"][node]
}
