//! The superblock: what one disk durably knows about itself.

use super::{CRC_AT, Layout, MAGIC, MetaError, SUPER_BYTES, VERSION};
use crate::generation::{Generations, HISTORY, JUST_CREATED};

/// What one disk durably knows about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Counts the writes of the superblock; the highest valid one counts.
    pub sequence: u64,
    /// Usable bytes of this disk.
    pub data_bytes: u64,
    /// Size of the exported device, once agreed with the peer; 0 before.
    pub agreed_bytes: u64,
    /// Generation identifiers.
    pub generations: Generations,
    /// The data is one point in time, not a mix.
    pub consistent: bool,
    /// It was the newest when last known.
    pub was_up_to_date: bool,
    /// It is known to be older than the peer's.
    pub outdated: bool,
    /// This node is Primary now: after a crash the activity log must be applied.
    pub primary: bool,
    /// This node crashed while Primary and has not been in sync since.
    pub crashed_primary: bool,
    /// This node lost the link to a Primary while it was UpToDate, and what it had until then is durable. Set
    /// for the generation it has; cleared before it next tells the peer about itself.
    pub survived: bool,
    /// Highest cluster term promised; 0 without a cluster manager.
    pub fence: u64,
    /// When the peer was left behind: the end of the time that both disks have in common, as this node's clock
    /// said, in seconds since 1970; 0 where it is not known. For people; never decides.
    pub parted: u64,
    /// This disk is the target of a resync that is not finished, and can be what it was before.
    pub undo: Option<UndoMark>,
}

/// What a rollback needs to know besides the old blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndoMark {
    /// Number of the undo log; never 0.
    pub log: u64,
    /// What the disk was.
    pub generations: Generations,
    /// Until when it had everything, in seconds since 1970; 0 where it is not known.
    pub as_of: u64,
}

mod flag {
    pub(super) const CONSISTENT: u32 = 1;
    pub(super) const WAS_UP_TO_DATE: u32 = 1 << 1;
    pub(super) const OUTDATED: u32 = 1 << 2;
    pub(super) const PRIMARY: u32 = 1 << 3;
    pub(super) const CRASHED_PRIMARY: u32 = 1 << 4;
    pub(super) const SURVIVED: u32 = 1 << 5;
}

impl Superblock {
    /// The superblock of a new disk: just created, Inconsistent.
    #[must_use]
    pub fn just_created(layout: &Layout) -> Self {
        Self {
            sequence: 1,
            data_bytes: layout.data_bytes,
            agreed_bytes: 0,
            generations: Generations { current: JUST_CREATED, bitmap: 0, history: [0; HISTORY], counter: 0 },
            consistent: false,
            was_up_to_date: false,
            outdated: false,
            primary: false,
            crashed_primary: false,
            survived: false,
            fence: 0,
            parted: 0,
            undo: None,
        }
    }

    /// One slot's bytes.
    ///
    /// ```text
    ///  0 magic[8]  8 version u32  12 flags u32  16 sequence  24 data_bytes  32 agreed_bytes  40 fence
    /// 48 current  56 bitmap  64 history[8]  128 counter  136 parted
    /// 144 undo log (0: none)  152 as of  160 current  168 bitmap  176 history[8]  240 counter, before the resync
    /// 248… zero  4092 crc32c of the bytes before
    /// ```
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SUPER_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.flags().to_le_bytes());
        let mut words = vec![self.sequence, self.data_bytes, self.agreed_bytes, self.fence];
        words.extend(generation_words(&self.generations));
        words.push(self.parted);
        if let Some(undo) = &self.undo {
            words.extend([undo.log, undo.as_of]);
            words.extend(generation_words(&undo.generations));
        }
        words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        out.resize(CRC_AT, 0);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    fn flags(&self) -> u32 {
        let on = |set: bool, bit: u32| if set { bit } else { 0 };
        on(self.consistent, flag::CONSISTENT)
            | on(self.was_up_to_date, flag::WAS_UP_TO_DATE)
            | on(self.outdated, flag::OUTDATED)
            | on(self.primary, flag::PRIMARY)
            | on(self.crashed_primary, flag::CRASHED_PRIMARY)
            | on(self.survived, flag::SURVIVED)
    }

    /// Reads one slot.
    pub fn decode(slot: &[u8]) -> Result<Self, MetaError> {
        let (body, crc) = slot.split_at_checked(CRC_AT).ok_or(MetaError::Incomplete)?;
        let (magic, rest) = body.split_first_chunk::<8>().ok_or(MetaError::Incomplete)?;
        if *magic != MAGIC {
            return Err(MetaError::Missing);
        }
        if crc != crc32c::crc32c(body).to_le_bytes() {
            return Err(MetaError::Damaged);
        }
        let (version, rest) = rest.split_first_chunk::<4>().ok_or(MetaError::Incomplete)?;
        let found = u32::from_le_bytes(*version);
        if found > VERSION {
            return Err(MetaError::Newer { found });
        }
        let (flags, rest) = rest.split_first_chunk::<4>().ok_or(MetaError::Incomplete)?;
        Self::from_words(u32::from_le_bytes(*flags), rest).ok_or(MetaError::Incomplete)
    }

    fn from_words(flags: u32, rest: &[u8]) -> Option<Self> {
        let mut words =
            rest.chunks_exact(8).map(|c| c.try_into().map(u64::from_le_bytes).unwrap_or_default());
        let mut next = || words.next();
        let (sequence, data_bytes, agreed_bytes, fence) = (next()?, next()?, next()?, next()?);
        let generations = read_generations(&mut next)?;
        let parted = next()?;
        let (log, as_of, before) = (next()?, next()?, read_generations(&mut next)?);
        let undo = (log != 0).then_some(UndoMark { log, generations: before, as_of });
        Some(Self {
            sequence,
            data_bytes,
            agreed_bytes,
            generations,
            consistent: flags & flag::CONSISTENT != 0,
            was_up_to_date: flags & flag::WAS_UP_TO_DATE != 0,
            outdated: flags & flag::OUTDATED != 0,
            primary: flags & flag::PRIMARY != 0,
            crashed_primary: flags & flag::CRASHED_PRIMARY != 0,
            survived: flags & flag::SURVIVED != 0,
            fence,
            parted,
            undo,
        })
    }

    /// Begins a generation that the peer does not have.
    pub fn part(&mut self, new: u64, now: u64) {
        if self.generations.bitmap == 0 {
            self.parted = now;
        }
        self.generations.rotate(new);
    }
}

fn generation_words(g: &Generations) -> impl Iterator<Item = u64> {
    [g.current, g.bitmap].into_iter().chain(g.history).chain([g.counter])
}

fn read_generations(next: &mut impl FnMut() -> Option<u64>) -> Option<Generations> {
    let (current, bitmap) = (next()?, next()?);
    let mut history = [0; HISTORY];
    for entry in &mut history {
        *entry = next()?;
    }
    Some(Generations { current, bitmap, history, counter: next()? })
}
