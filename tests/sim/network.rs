//! Connections between the two nodes: packets arrive in order, late, or not at all.

use super::*;

pub(super) enum Packet {
    Message { term: u64, message: Message, data: Option<Vec<Version>> },
    End,
}

#[derive(Default)]
pub(super) struct Connection {
    pub(super) open: [bool; 2],
    /// Packets on their way to each side.
    pub(super) queue: [VecDeque<Packet>; 2],
    pub(super) last_arrival: [Millis; 2],
}

impl World {
    /// Sets whether packets from a node are held back.
    pub(crate) fn set_cut(&mut self, from: usize, cut: bool) {
        self.cut[from] = cut;
        if !cut {
            let links: Vec<u64> = self.links.keys().copied().collect();
            for link in links {
                for _ in 0..self.links[&link].queue[1 - from].len() {
                    self.schedule_arrival(link, 1 - from);
                }
            }
        }
    }

    pub(super) fn send(
        &mut self,
        node: usize,
        link: LinkId,
        term: u64,
        mut message: Message,
        payload: Option<Slot>,
    ) {
        if let Message::State(state) = &mut message {
            self.met_at = self.now;
            if self.knows_only_data {
                state.abilities = Abilities::default();
            }
        }
        let data = payload.map(|slot| match &message {
            // What is zero here becomes zero there.
            Message::Zero { range, resync: true, .. } => {
                let disk = &self.nodes[node].disk;
                (range.offset / BLOCK..range.end() / BLOCK).map(|block| disk.view(block)).collect()
            }
            Message::Write { range, .. } | Message::Zero { range, .. } => self.slot_part(node, slot, *range),
            _ => self.slot_data(node, slot),
        });
        if self.links.get(&link.0).is_some_and(|c| c.open[node]) {
            self.post(link.0, 1 - node, Packet::Message { term, message, data });
        }
    }

    pub(super) fn post(&mut self, link: u64, to: usize, packet: Packet) {
        self.links.get_mut(&link).unwrap().queue[to].push_back(packet);
        self.schedule_arrival(link, to);
    }

    pub(super) fn schedule_arrival(&mut self, link: u64, to: usize) {
        let delay = self.delay(self.lag);
        let now = self.now;
        let connection = self.links.get_mut(&link).unwrap();
        let at = connection.last_arrival[to].max(now + delay);
        connection.last_arrival[to] = at;
        self.at(at - now, Happening::Arrive { to, link });
    }

    pub(super) fn dial(&mut self, node: usize) {
        let peer = 1 - node;
        if self.nodes[peer].engine.is_none() || self.cut[0] || self.cut[1] || self.frozen[peer] {
            self.event(node, Event::DialFailed);
            return;
        }
        self.last_link += 1;
        self.met_at = self.now;
        let link = self.last_link;
        self.links.insert(link, Connection { open: [true; 2], ..Connection::default() });
        self.event(node, Event::LinkUp { link: LinkId(link) });
        self.event(peer, Event::LinkUp { link: LinkId(link) });
    }

    pub(super) fn arrive(&mut self, to: usize, link: u64) {
        if self.cut[1 - to] {
            return;
        }
        let Some(connection) = self.links.get_mut(&link) else { return };
        let Some(packet) = connection.queue[to].pop_front() else { return };
        if !connection.open[to] {
            return;
        }
        match packet {
            Packet::Message { term, message, data } => {
                let n = &mut self.nodes[to];
                // Every block was copied: from here on the data is the source's.
                n.mixed &= !matches!(message, Message::SyncFinish(_));
                let payload = data.map(|data| {
                    n.next_peer_slot += 1;
                    let slot = Slot(n.next_peer_slot);
                    n.slots.insert(slot, data);
                    if matches!(message, Message::Resync { .. } | Message::Zero { resync: true, .. }) {
                        n.resynced.insert(slot);
                    }
                    slot
                });
                self.event(to, Event::Received { link: LinkId(link), term, message, payload });
            }
            Packet::End => {
                connection.open[to] = false;
                self.event(to, Event::LinkLost { link: LinkId(link), reason: "closed by the peer".into() });
            }
        }
    }
}
