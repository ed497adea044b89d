//! Applications on the two nodes, and the check of what they were promised.

use std::collections::BTreeMap;

use replica::control::{Command, Status};
use replica::event::{BLOCK, FrontOp, Millis, Range, Slot, Token};
use replica::handler::Handler;
use replica::state::{DiskState, ReplicationState, Role};

use crate::disk::Version;
use crate::model::{Level, Timeline};
use crate::world::{Notice, World, name};

mod checks;
mod faults;

/// Requests of the application in flight.
const DEPTH: usize = 6;
/// Blocks that applications touch, spread over more extents than the activity log holds. Some writes lie
/// across two of them: 93 * 11 is the last block of an extent of 1024.
const HOT_BLOCKS: u64 = 48;
const STRIDE: u64 = 93;

/// Steps of the world within one stretch of time, by far more than any stretch needs.
const MOST_STEPS: u32 = 300_000;

enum Request {
    Write {
        first: u64,
        versions: Vec<Version>,
    },
    /// With what was answered last in each block when it was asked for.
    Read {
        first: u64,
        oldest: Vec<Option<Version>>,
    },
    Flush {
        promise: Vec<(u64, Version)>,
    },
}

/// One run.
pub(crate) struct Play {
    pub(crate) world: World,
    /// Both disks hold the same when they are new: there need be no first resync.
    is_equal: bool,
    /// The line of data that everyone agreed upon last.
    main: Timeline,
    /// The line of a node that was promoted without having everything of the main line.
    fork: Option<(usize, Timeline)>,
    /// Answered writes of the main line when the fork began.
    main_writes_at_fork: u64,
    /// What the fork lacked when it began was not promised: its power was cut before a flush, and somebody has
    /// promoted it without asking the other node.
    fork_is_excused: bool,
    /// Nodes that have lost power since both agreed last.
    lost_power: [bool; 2],
    /// Nodes that may not know any more, since both agreed last, that they were in step until they lost the other.
    forgot: [bool; 2],
    /// When a node lost its connection, and when it has stored that at the latest.
    apart: [Option<(Millis, Millis)>; 2],
    /// When a node last called itself Outdated.
    outdated: [Option<Millis>; 2],
    /// Nodes whose disk somebody has declared the newest since both agreed last.
    declared: [bool; 2],
    /// An administrator has promoted the node against its advice.
    forced: [bool; 2],
    /// A daemon that will be killed, and when; nothing else happens until then.
    doomed: Option<(usize, Millis)>,
    /// Nothing happens until both daemons run.
    is_calm: bool,
    requests: [BTreeMap<Slot, Request>; 2],
    restart: [Option<Millis>; 2],
    next_slot: u32,
    next_version: Version,
    next_token: u64,
    /// Orders to pause, and to roll back, that are not answered.
    pauses: BTreeMap<Token, (usize, Millis)>,
    rollbacks: BTreeMap<Token, usize>,
    /// Orders to give up the data of a node, that are not answered.
    invalidations: BTreeMap<Token, usize>,
    pub(crate) exchanged: u32,
    pub(crate) bereaved: u32,
    pub(crate) rolled_back: u32,
    pub(crate) violation: Option<String>,
    pub(crate) splits: u32,
}

impl Play {
    pub(crate) fn new(seed: u64) -> Self {
        let is_equal = seed.is_multiple_of(7);
        let mut world =
            if is_equal { World::with_equal_disks(seed) } else { World::with_enlarged_disks(seed) };
        world.knows_only_data = seed.is_multiple_of(4);
        if seed.is_multiple_of(5) {
            world.handlers = [Handler::BeforeResyncTarget, Handler::BeforeResyncSource].into_iter().collect();
        }
        Self {
            world,
            is_equal,
            main: Timeline::begin(0),
            fork: None,
            main_writes_at_fork: 0,
            fork_is_excused: false,
            lost_power: [false; 2],
            forgot: [false; 2],
            apart: [None; 2],
            outdated: [None; 2],
            declared: [false; 2],
            forced: [false; 2],
            doomed: None,
            is_calm: false,
            requests: [BTreeMap::new(), BTreeMap::new()],
            restart: [None, None],
            next_slot: 100,
            next_version: 1,
            next_token: 0,
            pauses: BTreeMap::new(),
            rollbacks: BTreeMap::new(),
            invalidations: BTreeMap::new(),
            exchanged: 0,
            bereaved: 0,
            rolled_back: 0,
            violation: None,
            splits: 0,
        }
    }

    /// Plays a whole run: initial sync, chaos for `steps` rounds, repair, comparison.
    pub(crate) fn run(&mut self, steps: u64) -> Result<(), String> {
        self.world.start(0);
        self.world.start(1);
        self.pass(500)?;
        if self.is_equal && !self.world.knows_only_data {
            self.command(0, Command::SkipInitialSync);
            self.pass(100)?;
            self.command(0, Command::Primary { force: false, term: None, alone: false });
        } else {
            self.command(0, Command::Primary { force: true, term: None, alone: false });
        }
        self.pass(200)?;
        for _ in 0..steps {
            let pause = self.world.rng.below(400);
            self.pass(pause)?;
            self.trouble();
            self.restart_dead(false);
        }
        self.repair()
    }

    fn fail(&mut self, text: String) {
        self.world.say(format!("VIOLATION {text}"));
        self.violation.get_or_insert(text);
    }

    /// Lets time pass, with applications at work.
    fn pass(&mut self, ms: Millis) -> Result<(), String> {
        let end = self.world.now + ms;
        for _ in 0..MOST_STEPS {
            self.notice();
            self.watch();
            if let Some(text) = &self.violation {
                return Err(text.clone());
            }
            self.applications();
            if !self.world.step(end) {
                return Ok(());
            }
        }
        Err(format!("{MOST_STEPS} steps did not take {ms} ms: something spins"))
    }

    fn applications(&mut self) {
        for node in 0..2 {
            let ready = self.world.nodes[node].exported && self.requests[node].len() < DEPTH;
            if ready && self.world.rng.one_in(3) {
                self.submit(node);
            }
        }
    }

    fn line(&mut self, node: usize) -> &mut Timeline {
        match &mut self.fork {
            Some((owner, fork)) if *owner == node => fork,
            _ => &mut self.main,
        }
    }

    fn submit(&mut self, node: usize) {
        self.next_slot += 1;
        let slot = Slot(self.next_slot);
        let blocks = self.world.nodes[node].device_bytes / BLOCK;
        let first = self.world.rng.below(HOT_BLOCKS) * STRIDE;
        let kind = self.world.rng.below(8);
        // What is zeroed at a time may be long: it is done in pieces.
        let most = if kind == 2 && self.world.rng.one_in(10) { 600 } else { 3 };
        let len = 1 + self.world.rng.below(most);
        let range = Range { offset: first * BLOCK, len: (len * BLOCK) as u32 };
        if first + len > blocks {
            return;
        }
        let (op, request, data) = match kind {
            0 => (FrontOp::Flush, Request::Flush { promise: self.line(node).promise() }, Vec::new()),
            1 => {
                let oldest = (first..first + len).map(|block| self.line(node).answered(block)).collect();
                (FrontOp::Read(range), Request::Read { first, oldest }, Vec::new())
            }
            _ => {
                let versions: Vec<Version> = (self.next_version..self.next_version + len).collect();
                self.next_version += len;
                for (block, version) in (first..).zip(&versions) {
                    let before = self.world.nodes[node].disk.view(block);
                    self.line(node).submit(block, *version, before);
                }
                let op = if kind == 2 {
                    FrontOp::Zero { range, unmap: self.world.rng.one_in(2) }
                } else {
                    FrontOp::Write(range)
                };
                (op, Request::Write { first, versions: versions.clone() }, versions)
            }
        };
        self.requests[node].insert(slot, request);
        self.world.front(node, slot, op, data);
    }

    fn notice(&mut self) {
        while let Some(notice) = self.world.notices.pop_front() {
            match notice {
                Notice::Answered { node, slot, result } => {
                    let Some(request) = self.requests[node].remove(&slot) else { continue };
                    if result.is_ok() {
                        self.answered(node, slot, request);
                    } else if self.world.nodes[node].exported && !self.has_failed(node) {
                        self.fail(format!("{}: a request failed without a reason", name(node)));
                    }
                }
                Notice::Primary { node } => self.promoted(node),
                Notice::Stopped { node } => {
                    self.restart[node] = Some(self.world.now + 500);
                    self.forget_being_in_step(node);
                }
                Notice::Reply { token, result } => {
                    if let Some((node, _)) = self.pauses.remove(&token) {
                        self.paused(node, result.is_ok());
                    }
                    self.invalidations.remove(&token);
                    let rolled_back = self.rollbacks.remove(&token).filter(|_| result.is_ok());
                    if let Some(node) = rolled_back {
                        self.rolled_back(node);
                    }
                    if let Err(refusal) = result {
                        self.world.say(format!("command {} refused: {refusal}: {}", token.0, refusal.detail));
                    }
                }
            }
        }
    }

    fn answered(&mut self, node: usize, slot: Slot, request: Request) {
        let mirrored = self.in_step();
        match request {
            Request::Write { first, versions } => {
                self.apart[node] = None;
                for (block, version) in (first..).zip(&versions) {
                    self.line(node).answer(block, *version);
                    for other in 0..2 {
                        let has = self.world.nodes[other].disk.view(block) >= *version
                            && self.is_known(other, block);
                        if !has && (other == node || mirrored) {
                            let other = name(other);
                            self.fail(format!(
                                "version {version} of block {block} is answered, {other} lacks it"
                            ));
                        }
                        if !has {
                            self.line(node).answered_at.remove(&other);
                        }
                    }
                }
                self.line(node).writes += 1;
            }
            Request::Flush { promise } => {
                self.line(node).flushed(&promise);
                self.check_flush(node, &promise);
                if mirrored {
                    self.check_flush(1 - node, &promise);
                } else {
                    self.line(node).flushed_at.remove(&(1 - node));
                }
            }
            Request::Read { first, oldest } => {
                let seen = self.world.slot_data(node, slot);
                self.check_read(node, first, &seen, &oldest);
            }
        }
    }

    /// What a flush promises is on a disk whatever happens to its power.
    fn check_flush(&mut self, node: usize, promise: &[(u64, Version)]) {
        let disk = &self.world.nodes[node].disk;
        let lacks = |(block, version): &&(u64, Version)| {
            let has = disk.durable(*block);
            *version < self.next_version && (has < *version || has >= self.next_version)
        };
        if let Some((block, version)) = promise.iter().find(lacks) {
            let (has, node) = (disk.durable(*block), name(node));
            self.fail(format!("version {version} of block {block} is flushed, durable on {node} is {has}"));
        }
    }

    /// A read brings, for each block, what was answered last when it was asked for, or something later.
    fn check_read(&mut self, node: usize, first: u64, seen: &[Version], oldest: &[Option<Version>]) {
        if seen.len() != oldest.len() {
            let (asked, got) = (oldest.len(), seen.len());
            self.fail(format!("{}: a read of {asked} blocks at {first} brought {got}", name(node)));
        }
        for (block, (version, oldest)) in (first..).zip(seen.iter().zip(oldest)) {
            let Some(oldest) = oldest.filter(|oldest| !self.line(node).may_be_read(block, *version, *oldest))
            else {
                continue;
            };
            let node = name(node);
            self.fail(format!("{node}: a read of block {block} brought {version}, answered was {oldest}"));
        }
    }

    fn has_failed(&self, node: usize) -> bool {
        self.world.status(node).is_some_and(|s| s.device.disk == DiskState::Failed)
    }

    /// Whether a block holds something that an application wrote.
    fn is_known(&self, node: usize, block: u64) -> bool {
        self.world.nodes[node].disk.view(block) < self.next_version
    }

    /// Whether writes go to both nodes and both have everything.
    fn in_step(&self) -> bool {
        let good = |s: &Status| {
            s.connection.replication == ReplicationState::Established && s.device.disk == DiskState::UpToDate
        };
        (0..2).all(|n| self.world.status(n).as_ref().is_some_and(good))
    }

    /// A node was promoted: does it have what was promised?
    fn promoted(&mut self, node: usize) {
        self.world.nodes[node].mixed = false;
        let other = &self.world.nodes[1 - node];
        // Also one that just ends and still answers what was asked of it.
        let is_primary = self.is_primary(1 - node) || other.legacy.is_some();
        let other_is_primary = is_primary && (other.exported || !other.fronts.is_empty());
        if other_is_primary && self.fork.is_none() {
            self.begin_fork(node);
            return;
        }
        if self.goes_on_with_fork(node) {
            return;
        }
        let disk = &self.world.nodes[node].disk;
        if self.main.broken_by(disk, Level::Answered).is_none() {
            self.main.answered_at.insert(node);
            return;
        }
        let flushed = self.main.broken_by(disk, Level::Flushed);
        let nobody_has_more = self.main.answered_at.is_empty();
        if flushed.is_none() && nobody_has_more {
            self.main.lower(disk, node);
            return;
        }
        if self.main.answered_at.contains(&node) {
            let text = self.main.broken_by(disk, Level::Answered).unwrap_or_default();
            self.fail(format!("{} was promoted without answered writes: {text}", name(node)));
        } else if nobody_has_more && self.main.flushed_at.contains(&node) {
            let text = flushed.unwrap_or_default();
            self.fail(format!("{} was promoted without flushed writes: {text}", name(node)));
        } else {
            self.begin_fork(node);
        }
    }

    /// The program is exchanged when nothing is left; now and then that fails.
    fn paused(&mut self, node: usize, complete: bool) {
        if complete && !self.world.rng.one_in(5) {
            if self.is_primary(node) {
                self.exchanged += 1;
            } else {
                self.forget_being_in_step(node);
            }
            self.rollbacks.retain(|_, at| *at != node);
            self.world.exchange(node);
        } else {
            self.command(node, Command::Unpause);
            self.world.end_pause(node);
        }
    }

    /// What the resync had brought, and every write since, is not on this node any more, and was never promised to be.
    fn rolled_back(&mut self, node: usize) {
        self.rolled_back += 1;
        self.main.answered_at.remove(&node);
        self.main.flushed_at.remove(&node);
        let n = &mut self.world.nodes[node];
        n.mixed = false;
        if let Some(text) = n.undo.differs(&n.disk) {
            self.fail(format!("{} was not rolled back: {text}", name(node)));
        }
    }

    /// A rollback that was complete when the node went down: nobody was told.
    fn fail_unless_rolled_back(&mut self, node: usize) {
        let n = &self.world.nodes[node];
        if n.undo.differs(&n.disk).is_some() {
            self.fail(format!("{} calls a mix of old and new blocks consistent", name(node)));
        } else {
            self.rolled_back(node);
        }
    }

    /// The node of the fork is promoted again: does it have what was promised on it?
    fn goes_on_with_fork(&mut self, node: usize) -> bool {
        let Some((_, fork)) = self.fork.as_mut().filter(|(owner, _)| *owner == node) else { return false };
        let disk = &self.world.nodes[node].disk;
        let broken = fork.broken_by(disk, fork.level());
        fork.lower(disk, node);
        if let Some(text) = broken {
            self.fail(format!("{} was promoted without writes of its own line: {text}", name(node)));
        }
        true
    }

    fn begin_fork(&mut self, node: usize) {
        self.world.say(format!("{} begins a line of its own", name(node)));
        self.main_writes_at_fork = self.main.writes;
        let lacks = |level| self.main.broken_by(&self.world.nodes[node].disk, level).is_some();
        let excused = self.lost_power[node] && self.forced[node];
        self.fork_is_excused = !lacks(Level::Answered) || (excused && !lacks(Level::Flushed));
        self.fork = Some((node, Timeline::begin(node)));
    }

    fn command(&mut self, node: usize, command: Command) {
        self.next_token += 1;
        if self.world.nodes[node].engine.is_some() {
            self.world.say(format!("{} command {} {command:?}", name(node), self.next_token));
            if matches!(command, Command::Invalidate) {
                self.invalidations.insert(Token(self.next_token), node);
            }
            self.world.command(node, Token(self.next_token), command);
        }
    }

    fn crash(&mut self, node: usize, power: bool) {
        // What outlived the other node was flushed with the note of it.
        let safe = self.has_noted_loss(node);
        self.world.crash(node, power);
        self.rollbacks.retain(|_, at| *at != node);
        self.pauses.retain(|_, (at, _)| *at != node);
        self.requests[node].clear();
        let after = 200 + self.world.rng.below(4000);
        self.restart[node] = Some(self.world.now + after);
        self.world.nodes[node].broken = false;
        self.lost_power[node] |= power;
        self.forget_being_in_step(node);
        // The other one has perhaps given its data up already, with the consent of this one.
        let given_up = self.invalidations.values().any(|giver| *giver != node);
        if power && given_up {
            self.main.answered_at.remove(&(1 - node));
        }
        if power && !safe {
            self.main.answered_at.remove(&node);
            if let Some((owner, fork)) = &mut self.fork
                && *owner == node
            {
                fork.answered_at.remove(&node);
            }
        }
    }

    /// The daemon ends, its device stays, another one goes on.
    fn bereave(&mut self, node: usize) {
        if !self.world.bereave(node) {
            return;
        }
        self.bereaved += 1;
        self.rollbacks.retain(|_, at| *at != node);
        self.pauses.retain(|_, (at, _)| *at != node);
        self.restart[node] = Some(self.world.now + self.world.rng.below(1500));
        self.forget_being_in_step(node);
    }

    /// A daemon that ends before it has stored that it outlived the other one does not know afterwards that it
    /// was in step: the crashed Primary is then taken for the newer one, with what its disk still has.
    fn forget_being_in_step(&mut self, node: usize) {
        self.forgot[node] |= !self.has_noted_loss(node);
        if (0..2).any(|n| self.lost_power[n] && self.forgot[1 - n]) {
            self.main.answered_at.clear();
        }
    }

    /// A node has stored that it lost the other one, and has not met it since.
    fn has_noted_loss(&self, node: usize) -> bool {
        self.apart[node].is_some_and(|(lost, stored)| self.world.met_at < lost && stored <= self.world.now)
    }

    fn restart_dead(&mut self, now: bool) {
        for node in 0..2 {
            if self.has_failed(node) && (now || self.world.rng.one_in(6)) {
                // The administrator plugs the cable in again and starts the daemon anew.
                self.crash(node, false);
            }
            if self.world.nodes[node].engine.is_none()
                && self.restart[node].is_some_and(|at| now || at <= self.world.now)
            {
                self.restart[node] = None;
                self.world.start(node);
            }
        }
    }

    fn is_primary(&self, node: usize) -> bool {
        self.world.status(node).is_some_and(|s| s.role == Role::Primary)
    }
}
