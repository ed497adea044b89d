//! The values in a header and in the bodies of messages.

use super::{Abilities, BITMAP_WORDS, Hello, MAX_NAME_BYTES, Message, PeerState, aligned};
use crate::event::{BLOCK, MAX_IO_BYTES, Range};
use crate::generation::{Generations, HISTORY};
use crate::state::{DiskState, Role};

/// Puts values behind each other, little endian.
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A name longer than the wire allows is cut; the receiver then refuses it as not its own.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        let bytes = text.as_bytes().get(..MAX_NAME_BYTES).unwrap_or(text.as_bytes());
        self.0.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn generations(&mut self, g: &Generations) {
        self.u64(g.current);
        self.u64(g.bitmap);
        g.history.iter().for_each(|h| self.u64(*h));
        self.u64(g.counter);
    }

    pub(super) fn state(&mut self, s: &PeerState) {
        self.generations(&s.generations);
        self.0.extend([s.role.code(), s.disk.code()]);
        self.0.extend([u8::from(s.crashed_primary), u8::from(s.reconnect), u8::from(s.discard_my_data)]);
        self.u64(s.bytes);
        self.u64(s.dirty_blocks);
    }
}

/// Takes them off again; `None` when they are not there or have no meaning.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[b]| b)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(super) fn role(&mut self) -> Option<Role> {
        self.u8().and_then(Role::from_code)
    }

    pub(super) fn disk(&mut self) -> Option<DiskState> {
        self.u8().and_then(DiskState::from_code)
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let len = usize::from(self.u8()?);
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }

    pub(super) fn hello(&mut self) -> Option<Hello> {
        Some(Hello { resource: self.text()?, node: self.text()?, peer: self.text()? })
    }

    pub(super) fn words(&mut self) -> Option<Vec<u64>> {
        let mut words = Vec::with_capacity(self.0.len() / 8);
        while !self.0.is_empty() {
            words.push(self.u64()?);
        }
        (words.len() <= BITMAP_WORDS).then_some(words)
    }

    pub(super) fn digests(&mut self) -> Option<Vec<u128>> {
        let mut digests = Vec::with_capacity(self.0.len() / 16);
        while !self.0.is_empty() {
            digests.push(u128::from_le_bytes(self.array()?));
        }
        (digests.len() as u64 * BLOCK <= u64::from(MAX_IO_BYTES)).then_some(digests)
    }

    /// A range whose length stands in the body: no data of this length follows.
    pub(super) fn range(&mut self, offset: u64) -> Option<Range> {
        let len = self.u32()?;
        aligned(Range { offset, len }).filter(|range| range.len <= MAX_IO_BYTES)
    }

    pub(super) fn zero(&mut self, id: u64, range: Range) -> Option<Message> {
        let range = self.range(range.offset)?;
        Some(Message::Zero { id, range, unmap: self.bool()?, resync: self.bool()? })
    }

    pub(super) fn generations(&mut self) -> Option<Generations> {
        let (current, bitmap) = (self.u64()?, self.u64()?);
        let mut history = [0; HISTORY];
        for entry in &mut history {
            *entry = self.u64()?;
        }
        Some(Generations { current, bitmap, history, counter: self.u64()? })
    }

    /// An older program says no `capacity`: its device is as large as it can be.
    pub(super) fn state(&mut self, capacity: u64, abilities: Abilities) -> Option<PeerState> {
        let state = PeerState {
            generations: self.generations()?,
            role: self.role()?,
            disk: self.disk()?,
            crashed_primary: self.bool()?,
            reconnect: self.bool()?,
            discard_my_data: self.bool()?,
            bytes: self.u64()?,
            capacity,
            dirty_blocks: self.u64()?,
            abilities,
        };
        Some(PeerState { capacity: if capacity == 0 { state.bytes } else { capacity }, ..state })
    }
}
