//! Applications, faults and administrators on the two nodes, and the check of what they were promised.

use std::collections::BTreeMap;

use replica::control::{Command, Status};
use replica::event::{BLOCK, FrontOp, Millis, Range, Slot, Token};
use replica::state::{ConnectionState, DiskState, ReplicationState, Role};

use crate::disk::Version;
use crate::model::{Level, Timeline};
use crate::world::{Notice, World, name};

/// Requests of the application in flight.
const DEPTH: usize = 6;
/// Blocks that applications touch, spread over more extents than the activity log holds. Some writes lie
/// across two of them: 93 * 11 is the last block of an extent of 1024.
const HOT_BLOCKS: u64 = 48;
const STRIDE: u64 = 93;

/// Steps of the world within one stretch of time, by far more than any stretch needs.
const MOST_STEPS: u32 = 300_000;

enum Request {
    Write { first: u64, versions: Vec<Version> },
    Read { first: u64, len: u64 },
    Flush { promise: Vec<(u64, Version)> },
}

/// One run.
pub(crate) struct Play {
    pub(crate) world: World,
    /// The line of data that everyone agreed upon last.
    main: Timeline,
    /// The line of a node that was promoted without having everything of the main line.
    fork: Option<(usize, Timeline)>,
    /// Answered writes of the main line when the fork began.
    main_writes_at_fork: u64,
    /// What the fork lacked when it began was not promised: its power was cut before a flush.
    fork_is_excused: bool,
    /// Nodes that have lost power since both agreed last.
    lost_power: [bool; 2],
    /// Nodes whose daemon has been started anew since both agreed last.
    restarted: [bool; 2],
    requests: [BTreeMap<Slot, Request>; 2],
    restart: [Option<Millis>; 2],
    next_slot: u32,
    next_version: Version,
    next_token: u64,
    /// Orders to roll back that are not answered.
    rollbacks: BTreeMap<Token, usize>,
    pub(crate) rolled_back: u32,
    pub(crate) violation: Option<String>,
    pub(crate) splits: u32,
}

impl Play {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            world: World::new(seed),
            main: Timeline::begin(0),
            fork: None,
            main_writes_at_fork: 0,
            fork_is_excused: false,
            lost_power: [false; 2],
            restarted: [false; 2],
            requests: [BTreeMap::new(), BTreeMap::new()],
            restart: [None, None],
            next_slot: 100,
            next_version: 1,
            next_token: 0,
            rollbacks: BTreeMap::new(),
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
        self.command(0, Command::Primary { force: true, term: None, alone: false });
        self.pass(200)?;
        for _ in 0..steps {
            let pause = self.world.rng.below(400);
            self.pass(pause)?;
            self.disturb();
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
        let first = self.world.rng.below(HOT_BLOCKS) * STRIDE;
        let len = 1 + self.world.rng.below(3);
        let range = Range { offset: first * BLOCK, len: (len * BLOCK) as u32 };
        let (op, request, data) = match self.world.rng.below(8) {
            0 => (FrontOp::Flush, Request::Flush { promise: self.line(node).promise() }, Vec::new()),
            1 => (FrontOp::Read(range), Request::Read { first, len }, Vec::new()),
            _ => {
                let versions: Vec<Version> = (self.next_version..self.next_version + len).collect();
                self.next_version += len;
                for (block, version) in (first..).zip(&versions) {
                    let before = self.world.nodes[node].disk.view(block);
                    self.line(node).submit(block, *version, before);
                }
                (FrontOp::Write(range), Request::Write { first, versions: versions.clone() }, versions)
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
                for (block, version) in (first..).zip(&versions) {
                    self.line(node).answer(block, *version);
                    for other in 0..2 {
                        let has = self.world.nodes[other].disk.view(block) >= *version
                            && self.is_known(other, block);
                        if !has {
                            self.line(node).answered_at.remove(&other);
                        }
                    }
                }
                self.line(node).writes += 1;
            }
            Request::Flush { promise } => {
                self.line(node).flushed(&promise);
                if !mirrored {
                    self.line(node).flushed_at.remove(&(1 - node));
                }
            }
            Request::Read { first, len } => {
                let seen = self.world.slot_data(node, slot);
                if seen.len() as u64 != len {
                    self.fail(format!(
                        "{}: a read of {len} blocks at {first} brought {}",
                        name(node),
                        seen.len()
                    ));
                }
            }
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
        let other_is_primary = self.is_primary(1 - node) && self.world.nodes[1 - node].exported;
        if other_is_primary && self.fork.is_none() {
            self.begin_fork(node);
            return;
        }
        let disk = &self.world.nodes[node].disk;
        if self.main.broken_by(disk, Level::Answered).is_none() {
            self.main.answered_at.insert(node);
            return;
        }
        if let Some((_, fork)) = self.fork.as_ref().filter(|(owner, _)| *owner == node) {
            if let Some(text) = fork.broken_by(disk, fork.level()) {
                self.fail(format!("{} was promoted without its own writes: {text}", name(node)));
            }
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

    fn begin_fork(&mut self, node: usize) {
        if self.fork.as_ref().is_some_and(|(owner, _)| *owner == node) {
            return;
        }
        self.world.say(format!("{} begins a line of its own", name(node)));
        self.main_writes_at_fork = self.main.writes;
        let lacks = |level| self.main.broken_by(&self.world.nodes[node].disk, level).is_some();
        self.fork_is_excused = !lacks(Level::Answered) || (self.lost_power[node] && !lacks(Level::Flushed));
        self.fork = Some((node, Timeline::begin(node)));
    }

    /// Rules that hold at every moment.
    fn watch(&mut self) {
        for node in 0..2 {
            let claims = |s: Status| {
                matches!(s.device.disk, DiskState::Outdated | DiskState::Consistent | DiskState::UpToDate)
            };
            if self.world.nodes[node].mixed && self.world.status(node).is_some_and(claims) {
                self.fail_unless_rolled_back(node);
            }
        }
        self.verified();
        let idle = self.requests.iter().all(BTreeMap::is_empty);
        let both_exported = self.world.nodes.iter().all(|n| n.exported);
        if !idle && !both_exported {
            return;
        }
        let (Some(a), Some(b)) = (self.world.status(0), self.world.status(1)) else { return };
        let connected = |s: &Status| s.connection.state == ConnectionState::Connected;
        if connected(&a)
            && connected(&b)
            && a.role == Role::Primary
            && b.role == Role::Primary
            && both_exported
        {
            self.fail("both nodes are Primary and connected".into());
        }
        // Writes of a device that was taken away go on without anybody who asked for them.
        if idle && a.device.upper_pending + b.device.upper_pending == 0 && self.in_step() {
            self.agree();
        }
    }

    /// No disk changes by itself here: a verify that finds a difference has compared a moment with another one, or
    /// the disks of two nodes that both call themselves UpToDate differ.
    fn verified(&mut self) {
        for node in 0..2 {
            let found = self.world.status(node).and_then(|s| s.connection.verify).map(|v| v.places);
            if let Some(place) = found.and_then(|places| places.into_iter().next()) {
                self.fail(format!("{}: verify finds a difference at {place:?} KiB", name(node)));
            }
        }
    }

    /// Both nodes say that they have the same, newest data: is it so?
    fn agree(&mut self) {
        let [a, b] = &self.world.nodes;
        let unchanged = a.disk.touched().chain(b.disk.touched()).next().is_none();
        if unchanged && self.fork.is_none() && self.main.is_everywhere() {
            return;
        }
        let differs =
            a.disk.touched().chain(b.disk.touched()).find(|block| a.disk.view(*block) != b.disk.view(*block));
        if let Some(block) = differs {
            let (x, y) = (a.disk.view(block), b.disk.view(block));
            self.fail(format!("both UpToDate, but block {block} is {x} on ha-a and {y} on ha-b"));
            return;
        }
        self.world.nodes.iter_mut().for_each(|n| n.disk.forget_touched());
        let disk = &self.world.nodes[0].disk;
        let broken = self.main.broken_by(disk, self.main.level());
        let unharmed = self.main.writes == self.main_writes_at_fork && self.fork_is_excused;
        if let Some((_, fork)) = self.fork.take() {
            let fork_broken = fork.broken_by(disk, fork.level());
            match (broken, fork_broken) {
                (None, None) => {}
                // A fork on which nothing was answered is no loss.
                (None, _) if fork.writes == 0 => {}
                (Some(_), None) if self.splits > 0 || unharmed => self.main = fork,
                (None, Some(_)) if self.splits > 0 => {}
                (m, f) => {
                    self.fail(format!("two lines of data became one without a word: main {m:?}, fork {f:?}"));
                }
            }
        } else if let Some(text) = broken {
            self.fail(format!("promised writes are gone: {text}"));
        }
        self.main.rebase(&self.world.nodes[0].disk, 0);
        self.main.answered_at = [0, 1].into();
        self.main.flushed_at = [0, 1].into();
        self.lost_power = [false; 2];
        self.restarted = [false; 2];
    }

    fn command(&mut self, node: usize, command: Command) {
        self.next_token += 1;
        if self.world.nodes[node].engine.is_some() {
            self.world.say(format!("{} command {} {command:?}", name(node), self.next_token));
            self.world.command(node, Token(self.next_token), command);
        }
    }

    fn crash(&mut self, node: usize, power: bool) {
        self.world.crash(node, power);
        self.rollbacks.retain(|_, at| *at != node);
        self.requests[node].clear();
        let after = 200 + self.world.rng.below(4000);
        self.restart[node] = Some(self.world.now + after);
        self.world.nodes[node].broken = false;
        self.lost_power[node] |= power;
        self.forget_being_in_step(node);
        if power {
            self.main.answered_at.remove(&node);
            if let Some((owner, fork)) = &mut self.fork
                && *owner == node
            {
                fork.answered_at.remove(&node);
            }
        }
    }

    /// A daemon that was started anew does not know that it was in step until the other node lost power: the
    /// crashed Primary is then taken for the newer one, with what its disk still has.
    fn forget_being_in_step(&mut self, node: usize) {
        self.restarted[node] = true;
        if (0..2).any(|n| self.lost_power[n] && self.restarted[1 - n]) {
            self.main.answered_at.clear();
        }
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

    /// Something goes wrong, or an administrator does something.
    fn disturb(&mut self) {
        let node = self.world.rng.below(2) as usize;
        if self.disturb_resync(node) {
            return;
        }
        match self.world.rng.below(40) {
            0..3 => (0..2).for_each(|n| self.world.set_cut(n, true)),
            3 => self.world.set_cut(node, true),
            4..8 => (0..2).for_each(|n| self.world.set_cut(n, false)),
            8..10 => self.crash(node, false),
            10..12 => self.crash(node, true),
            12 => (0..2).for_each(|n| self.crash(n, true)),
            13..16 if self.is_primary(node) => self.command(node, Command::Secondary),
            13..20 if !self.is_primary(1 - node) => {
                self.command(node, Command::Primary { force: false, term: None, alone: false });
            }
            20 => self.command(node, Command::Disconnect),
            21..23 => self.command(node, Command::Connect { discard_my_data: false }),
            23 => self.command(node, Command::Invalidate),
            24 if !self.is_primary(node) => self.command(node, Command::Down),
            25 if self.world.rng.one_in(3) => (0..2).for_each(|n| self.command(n, Command::Down)),
            26 if self.world.rng.one_in(3) => self.world.nodes[node].broken = true,
            27..30 => self.world.nodes[node].slow = !self.world.nodes[node].slow,
            30 => self.world.lag = [2, 100, 600][self.world.rng.below(3) as usize],
            31 if self.world.nodes[node].exported => {
                self.world.take_device(node);
                self.requests[node].clear();
                self.command(node, Command::Secondary);
            }
            32..34 if self.may_be_forced(node) => {
                self.command(node, Command::Primary { force: true, term: None, alone: false });
            }
            34 if self.sees_split(node) && !self.is_primary(node) && self.victim() == node => {
                self.splits += 1;
                self.command(node, Command::Connect { discard_my_data: true });
            }
            35 => self.world.nodes[node].cramped = !self.world.nodes[node].cramped,
            36..38 => {
                let repair = self.world.rng.one_in(2);
                self.command(node, Command::Verify { repair });
            }
            38 if self.world.rng.one_in(3) => self.command(node, Command::VerifyStop),
            _ => {}
        }
    }

    /// The source of a resync goes down on the way, or an administrator takes back what it has done.
    fn disturb_resync(&mut self, target: usize) -> bool {
        let here = self.world.status(target).map(|s| s.connection.replication);
        if here == Some(ReplicationState::SyncTarget) && self.world.rng.one_in(3) {
            let power = self.world.rng.one_in(2);
            self.crash(1 - target, power);
            return true;
        }
        let rolls_back = self.may_roll_back(target) && self.world.rng.one_in(3);
        if rolls_back {
            self.command(target, Command::Rollback);
            self.rollbacks.insert(Token(self.next_token), target);
        }
        rolls_back
    }

    fn may_roll_back(&self, node: usize) -> bool {
        let undo = |s: &Status| s.device.undo.is_some() && s.connection.state != ConnectionState::Connected;
        self.world.status(node).as_ref().is_some_and(undo)
    }

    /// An administrator forces a node that has not seen the other one, when that one is out of reach.
    fn may_be_forced(&self, node: usize) -> bool {
        let consistent = |s: &Status| {
            matches!(s.device.disk, DiskState::Consistent | DiskState::Outdated)
                && s.connection.state != ConnectionState::Connected
        };
        let other_is_away = self.world.nodes[1 - node].engine.is_none();
        self.fork.is_none() && other_is_away && self.world.status(node).as_ref().is_some_and(consistent)
    }

    fn sees_split(&self, node: usize) -> bool {
        let reason = self.world.status(node).and_then(|s| s.connection.standalone_reason);
        reason.is_some_and(|r| r.contains("split brain"))
    }

    /// Mends everything, resolves what only a person can decide, and waits until both nodes agree.
    fn repair(&mut self) -> Result<(), String> {
        self.world.lag = 2;
        for round in 0..40 {
            for node in 0..2 {
                self.world.set_cut(node, false);
                self.world.nodes[node].slow = false;
                self.world.nodes[node].broken = false;
            }
            self.restart_dead(true);
            self.pass(3000)?;
            if self.in_step() {
                return self.settle();
            }
            if (0..2).any(|n| self.sees_split(n)) || round >= 10 {
                self.decide_split()?;
            } else {
                self.mend(round);
            }
        }
        Err(format!("the nodes never agreed again: {:?} {:?}", self.world.status(0), self.world.status(1)))
    }

    fn mend(&mut self, round: u64) {
        for node in 0..2 {
            if self.is_primary(node) && self.is_primary(1 - node) && node == 1 {
                self.command(node, Command::Secondary);
            }
            let alone =
                self.world.status(node).is_some_and(|s| s.connection.state == ConnectionState::StandAlone);
            if alone {
                self.command(node, Command::Connect { discard_my_data: false });
            }
        }
        let worthless =
            (0..2).all(|n| self.world.status(n).is_some_and(|s| s.device.disk == DiskState::Inconsistent));
        if worthless && round > 2 {
            self.fail("no node has usable data any more".into());
        }
    }

    /// The node whose data a person who knows everything would give up.
    fn victim(&self) -> usize {
        let has_main =
            |node: &usize| self.main.broken_by(&self.world.nodes[*node].disk, self.main.level()).is_none();
        match &self.fork {
            Some((owner, _)) => *owner,
            None => (0..2).find(|n| !has_main(n)).unwrap_or(1),
        }
    }

    /// An administrator gives up the line of one node: the one that is not the main line.
    fn decide_split(&mut self) -> Result<(), String> {
        self.splits += 1;
        let victim = self.victim();
        self.world.say(format!("an administrator gives up the data of {}", name(victim)));
        self.command(victim, Command::Secondary);
        self.pass(2000)?;
        self.command(victim, Command::Disconnect);
        self.pass(2000)?;
        self.command(victim, Command::Connect { discard_my_data: true });
        self.command(1 - victim, Command::Connect { discard_my_data: false });
        self.pass(3000)
    }

    fn settle(&mut self) -> Result<(), String> {
        for node in 0..2 {
            self.command(node, Command::Secondary);
        }
        self.pass(5000)?;
        if self.in_step() { Ok(()) } else { Err("the nodes parted again without a fault".into()) }
    }
}
