//! The daemons of the two nodes: started, killed, exchanged for another program.

use super::*;

/// What a daemon has left behind whose device the kernel keeps.
pub(crate) struct Legacy {
    resume: Resume,
    /// What was asked and, as far as it is known, not answered.
    requests: Vec<(Slot, FrontOp, Vec<Version>)>,
}

impl World {
    /// Starts the daemon of a node.
    pub(crate) fn start(&mut self, node: usize) {
        let Some(Legacy { resume, requests }) = self.nodes[node].legacy.take() else {
            return self.start_with(node, None);
        };
        self.start_with(node, Some(resume));
        self.take_up(node, requests);
    }

    /// Ends the daemon at once. With `power`, what the disk has not flushed may be lost, and the peer is not
    /// told that the connection is gone.
    pub(crate) fn crash(&mut self, node: usize, power: bool) {
        self.say(format!("{} {}", name(node), if power { "loses power" } else { "is killed" }));
        self.nodes[node].exported = false;
        self.nodes[node].fronts.clear();
        self.nodes[node].kept.clear();
        self.nodes[node].legacy = None;
        self.end_process(node, power);
    }

    /// The daemon ends at once, the kernel keeps its device. False when no other process could go on.
    pub(crate) fn bereave(&mut self, node: usize) -> bool {
        let Some(resume) = self.nodes[node].engine.as_ref().and_then(Engine::resume) else { return false };
        self.say(format!("{} is killed, its device stays: {resume:?}", name(node)));
        let mut asked = std::mem::take(&mut self.nodes[node].fronts);
        asked.extend(self.nodes[node].answered.take().filter(|_| self.rng.one_in(2)));
        let requests = asked.into_iter().map(|(slot, op)| (slot, op, self.slot_data(node, slot))).collect();
        self.end_process(node, false);
        self.nodes[node].legacy = Some(Legacy { resume, requests });
        self.nodes[node].paused = true;
        true
    }

    /// What was asked of the process before is asked once more.
    fn take_up(&mut self, node: usize, mut requests: Vec<(Slot, FrontOp, Vec<Version>)>) {
        if self.sabotage == Some(Sabotage::RepeatsBackwards) {
            requests.reverse();
        }
        self.nodes[node].paused = false;
        for (slot, op, data) in requests {
            if self.sabotage == Some(Sabotage::RepeatsNothing) {
                self.notices.push_back(Notice::Answered { node, slot, result: Ok(()) });
            } else {
                self.front(node, slot, op, data);
            }
        }
        self.end_pause(node);
    }

    /// The daemon takes requests again.
    pub(crate) fn end_pause(&mut self, node: usize) {
        self.nodes[node].paused = false;
        for (slot, op, data) in std::mem::take(&mut self.nodes[node].kept) {
            self.front(node, slot, op, data);
        }
    }

    /// The program of a daemon that has paused is exchanged for another one; its device stays.
    pub(crate) fn exchange(&mut self, node: usize) {
        let resume = self.nodes[node].engine.as_ref().and_then(Engine::resume);
        let alone = self.sabotage == Some(Sabotage::ResumesAlone);
        let resume = resume.map(|resume| Resume { alone: resume.alone || alone, ..resume });
        self.say(format!("{} goes on in another process: {resume:?}", name(node)));
        assert!(self.nodes[node].fronts.is_empty(), "requests are left");
        self.nodes[node].exported = resume.is_some();
        self.end_process(node, false);
        self.start_with(node, resume);
        self.end_pause(node);
    }

    fn end_process(&mut self, node: usize, power: bool) {
        let n = &mut self.nodes[node];
        n.engine = None;
        n.paused = false;
        n.life += 1;
        n.slots.clear();
        n.zeroing.clear();
        n.resynced.clear();
        for op in std::mem::take(&mut n.pending).into_values() {
            let (content, resync): (Vec<(u64, Version)>, bool) = match op {
                DiskOp::Write { range, data, resync } => {
                    ((range.offset / BLOCK..).zip(data).collect(), resync)
                }
                DiskOp::Restore { log, at } => (n.undo.record(log, at).unwrap().0, false),
                DiskOp::Save { log, at, ranges } if self.rng.one_in(2) => {
                    n.undo.save(&n.disk, log, at, &ranges);
                    continue;
                }
                _ => continue,
            };
            for (block, version) in content {
                if self.rng.one_in(2) {
                    n.mixed |= resync && n.disk.view(block) != version;
                    n.disk.write(block, version);
                }
            }
        }
        if power {
            n.disk.lose_power(&mut self.rng);
            if self.sabotage != Some(Sabotage::RemembersContact) {
                n.contact = None;
            }
        }
        let open: Vec<u64> = self.links.iter().filter(|(_, c)| c.open[node]).map(|(l, _)| *l).collect();
        for link in open {
            self.links.get_mut(&link).unwrap().open[node] = false;
            if !power {
                self.post(link, 1 - node, Packet::End);
            }
        }
    }
}
