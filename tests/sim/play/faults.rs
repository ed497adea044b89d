//! Faults, administrators, and the repair at the end.

use replica::control::{Command, Status};
use replica::event::{Millis, Token};
use replica::state::{ConnectionState, DiskState, ReplicationState};

use super::Play;
use crate::world::name;

/// Longest that requests may take to their end before the program is exchanged.
const PAUSE_MS: Millis = 5000;

impl Play {
    /// What happens to the two nodes now.
    pub(super) fn trouble(&mut self) {
        self.end_late_pauses();
        self.is_calm &= self.world.nodes.iter().any(|n| n.engine.is_none());
        match self.doomed {
            Some((node, at)) => self.strike_again(node, at),
            None if self.is_calm => {}
            None => self.disturb(),
        }
    }

    fn end_late_pauses(&mut self) {
        let late: Vec<Token> = self
            .pauses
            .iter()
            .filter(|(_, (_, at))| *at <= self.world.now)
            .map(|(token, _)| *token)
            .collect();
        for (node, _) in late.iter().filter_map(|token| self.pauses.remove(token)).collect::<Vec<_>>() {
            self.paused(node, false);
        }
    }

    /// Something goes wrong, or an administrator does something.
    fn disturb(&mut self) {
        let node = self.world.rng.below(2) as usize;
        if self.disturb_resync(node) {
            return;
        }
        match self.world.rng.below(66) {
            0..3 => (0..2).for_each(|n| self.world.set_cut(n, true)),
            3 => self.world.set_cut(node, true),
            4..8 => (0..2).for_each(|n| self.world.set_cut(n, false)),
            8..10 => self.crash(node, false),
            10..12 => self.crash(node, true),
            12 => (0..2).for_each(|n| self.crash(n, true)),
            13..16 if self.is_primary(node) => self.command(node, Command::Secondary),
            13..20 if !self.is_primary(1 - node) => self.promote(node),
            20 => self.command(node, Command::Disconnect),
            21..23 => self.command(node, Command::Connect { discard_my_data: false }),
            23 if self.world.rng.one_in(3) => (0..2).for_each(|n| self.command(n, Command::Invalidate)),
            23 => self.command(node, Command::Invalidate),
            24 if !self.is_primary(node) => self.command(node, Command::Down),
            25 if self.world.rng.one_in(3) => (0..2).for_each(|n| self.command(n, Command::Down)),
            26 if self.world.rng.one_in(3) => self.world.nodes[node].broken = true,
            27..30 => {
                let hangs = self.world.rng.one_in(3);
                let disk = &mut self.world.nodes[node];
                (disk.slow, disk.hangs) = (!disk.slow, !disk.slow && hangs);
            }
            30 => self.world.lag = [2, 100, 600][self.world.rng.below(3) as usize],
            31 if self.world.nodes[node].exported => {
                self.command(node, Command::ResumeIo);
                self.world.take_device(node);
                self.requests[node].clear();
                self.command(node, Command::Secondary);
            }
            32..34 if self.may_be_forced(node) => self.force(node),
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
            39 if (0..2).all(|n| !self.is_primary(n)) => (0..2).for_each(|n| self.promote(n)),
            40..43 if self.world.nodes[node].engine.is_some() && !self.world.nodes[node].paused => {
                self.world.nodes[node].paused = true;
                self.command(node, Command::Pause);
                self.pauses.insert(Token(self.next_token), (node, self.world.now + PAUSE_MS));
            }
            43..45 if self.is_primary(node) && self.in_step() => self.strike(node),
            45..48 => self.bereave(node),
            48..56 if self.is_primary(node) => self.command(node, Command::Resize),
            56..58 => self.command(node, Command::PauseSync),
            58 => self.command(node, Command::ResumeSync),
            59 => self.command(node, Command::Outdate),
            60..62 => self.command(node, Command::InvalidateRemote),
            62 => self.command(node, Command::SuspendIo),
            63.. => (0..2).for_each(|n| self.command(n, Command::ResumeIo)),
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

    /// Troubles come together: the Primary loses power, perhaps because of what also cuts the link, and one of the
    /// two daemons ends before the nodes have met again.
    fn strike(&mut self, node: usize) {
        self.crash(node, true);
        if self.world.rng.one_in(2) {
            (0..2).for_each(|n| self.world.set_cut(n, true));
        }
        let (next, after) = (self.world.rng.below(2) as usize, 500 + self.world.rng.below(3000));
        self.doomed = Some((next, self.world.now + after));
    }

    fn strike_again(&mut self, node: usize, at: Millis) {
        if at <= self.world.now && self.world.nodes[node].engine.is_some() {
            self.doomed = None;
            self.is_calm = self.world.rng.one_in(2);
            self.crash(node, false);
        }
    }

    fn promote(&mut self, node: usize) {
        self.forced[node] = false;
        self.command(node, Command::Primary { force: false, term: None, alone: false });
    }

    fn force(&mut self, node: usize) {
        self.forced[node] = true;
        self.declared[node] = true;
        self.command(node, Command::Primary { force: true, term: None, alone: false });
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
        self.is_told(node, "split brain")
    }

    /// Why a node stands alone.
    fn is_told(&self, node: usize, why: &str) -> bool {
        let reason = self.world.status(node).and_then(|s| s.connection.standalone_reason);
        reason.is_some_and(|r| r.contains(why))
    }

    /// Mends everything, resolves what only a person can decide, and waits until both nodes agree.
    pub(super) fn repair(&mut self) -> Result<(), String> {
        self.world.lag = 2;
        self.world.nodes.iter_mut().for_each(|node| (node.slow, node.hangs) = (false, false));
        (0..2).for_each(|n| self.command(n, Command::ResumeIo));
        // What hangs is a fault that has been there already.
        self.pass(self.world.hangs_until.saturating_sub(self.world.now))?;
        for round in 0..40 {
            for node in 0..2 {
                self.world.set_cut(node, false);
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
            self.command(node, Command::ResumeSync);
            self.command(node, Command::ResumeIo);
            let usable = self.world.status(node).is_some_and(|s| s.device.disk > DiskState::Inconsistent);
            if usable && self.is_told(node, "`primary --force`") {
                self.force(node);
            }
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
            // Both have it: the one that nobody writes to.
            None => {
                let idle = || (0..2).find(|node| !self.is_primary(*node));
                (0..2).find(|n| !has_main(n)).or_else(idle).unwrap_or(1)
            }
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
