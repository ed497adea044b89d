//! Threads that do what blocks on the disk, so that the driver never does.
//!
//! One queue, taken from the front; metadata goes to the front of it, because data waits for it. The queue
//! is bounded by the slots: an operation holds one, except flushes and metadata, of which the core has few.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use replica::event::{DiskError, IoId, MetaTx, Range, Slot};

use crate::STACK_BYTES;
use crate::aligned::Aligned;
use crate::disk::Backing;
use crate::sys::Arena;

/// Operations on the disk at the same time.
const WORKERS: usize = 4;
/// Bytes of a thread's own buffer: of metadata written, or of blocks digested, at a time.
const PIECE: usize = 256 << 10;

/// One operation.
#[derive(Debug)]
pub enum Job {
    /// Disk to slot.
    Read(IoId, Slot, Range),
    /// What stands for each block of the range.
    Digest(IoId, Range),
    /// Slot to disk.
    Write(IoId, Slot, Range),
    /// Zeroes to disk, which may give the room back.
    Zero(IoId, Range, bool),
    /// Make completed writes durable.
    Flush(IoId),
    /// Write these and make them durable.
    Meta(MetaTx, Vec<(u64, Vec<u8>)>),
}

/// The end of an operation.
#[derive(Debug)]
pub enum Done {
    /// Of a data operation or flush.
    Io(IoId, Result<(), DiskError>),
    /// Of digests.
    Digest(IoId, Result<Vec<u128>, DiskError>),
    /// Of the restoring of a record of the undo log: the place of the next one.
    Restored(IoId, Result<u64, DiskError>),
    /// Of a metadata transaction.
    Meta(MetaTx, Result<(), DiskError>),
}

#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

/// The threads of one disk. Dropping them finishes what is queued.
#[derive(Debug)]
pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts them; `done` is called from them.
    pub fn start<F>(disk: &Arc<Backing>, arena: &Arc<Arena>, done: F) -> io::Result<Self>
    where
        F: Fn(Done) + Send + Sync + Clone + 'static,
    {
        let shared = Arc::new(Shared::default());
        let mut workers = Self { shared: Arc::clone(&shared), threads: Vec::new() };
        for _ in 0..WORKERS {
            let (shared, disk, arena) = (Arc::clone(&shared), Arc::clone(disk), Arc::clone(arena));
            let done = done.clone();
            let body = move || {
                let mut buffer = Aligned::zeroed(PIECE);
                while let Some(job) = shared.next() {
                    done(perform(&disk, &arena, &mut buffer, job));
                }
            };
            let thread =
                thread::Builder::new().name("disk".to_owned()).stack_size(STACK_BYTES).spawn(body)?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Queues operations, in order; empties `jobs`.
    pub fn submit(&self, jobs: &mut Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let count = jobs.len();
        for job in jobs.drain(..) {
            if matches!(job, Job::Meta(..)) { queue.jobs.push_front(job) } else { queue.jobs.push_back(job) }
        }
        drop(queue);
        (0..count.min(WORKERS)).for_each(|_| self.shared.filled.notify_one());
    }
}

impl Shared {
    /// Waits for an operation; `None` when the queue is closed and empty.
    fn next(&self) -> Option<Job> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.shared.filled.notify_all();
        for thread in self.threads.drain(..) {
            // A worker that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

fn perform(disk: &Backing, arena: &Arena, buffer: &mut Aligned, job: Job) -> Done {
    let named = |what, result: io::Result<()>| {
        result.map_err(|error| DiskError(disk.problem(what, error).to_string()))
    };
    match job {
        Job::Read(io, slot, range) => {
            let room = arena.bytes_mut(slot, 0, range.len as usize);
            Done::Io(io, named("read", disk.read(range.offset, room)))
        }
        Job::Digest(io, range) => {
            let mut digests = Vec::new();
            let read = digest(disk, buffer, range, &mut digests);
            Done::Digest(io, named("read", read).map(|()| digests))
        }
        Job::Write(io, slot, range) => {
            let bytes = arena.bytes(slot, range.len as usize);
            Done::Io(io, named("write", disk.write(range.offset, bytes)))
        }
        Job::Zero(io, range, unmap) => Done::Io(io, named("zero", disk.zero(range, unmap, buffer))),
        Job::Flush(io) => Done::Io(io, named("flush", disk.flush())),
        Job::Meta(tx, writes) => Done::Meta(tx, named("write metadata", write_meta(disk, buffer, &writes))),
    }
}

fn digest(disk: &Backing, buffer: &mut Aligned, range: Range, out: &mut Vec<u128>) -> io::Result<()> {
    let mut offset = range.offset;
    while offset < range.end() {
        let len = usize::try_from(range.end() - offset).unwrap_or(usize::MAX).min(PIECE);
        let piece = buffer.bytes_mut().get_mut(..len).unwrap_or_default();
        disk.read(offset, piece)?;
        out.extend(replica::digest::blocks(piece));
        offset += u64::try_from(len).unwrap_or(u64::MAX);
    }
    Ok(())
}

fn write_meta(disk: &Backing, buffer: &mut Aligned, writes: &[(u64, Vec<u8>)]) -> io::Result<()> {
    for (offset, bytes) in writes {
        disk.write_copied(*offset, bytes, buffer)?;
    }
    disk.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn what_was_written_is_read_back_and_an_error_names_the_disk() {
        let file = tempfile::NamedTempFile::new_in(".").unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let disk = Arc::new(Backing::open(file.path()).unwrap());
        let arena = Arc::new(Arena::new(2).unwrap());
        let (sender, results) = mpsc::channel();
        let workers = Workers::start(&disk, &arena, move |done| sender.send(done).unwrap()).unwrap();
        let range = Range { offset: 8192, len: 4096 };
        arena.bytes_mut(Slot(0), 0, 4096).fill(7);
        for job in
            [Job::Write(IoId(1), Slot(0), range), Job::Flush(IoId(2)), Job::Read(IoId(3), Slot(1), range)]
        {
            workers.submit(&mut vec![job]);
            assert!(matches!(results.recv().unwrap(), Done::Io(_, Ok(()))));
        }
        assert!(arena.bytes(Slot(1), 4096).iter().all(|b| *b == 7));
        let beyond = Range { offset: 1 << 20, len: 4096 };
        workers.submit(&mut vec![Job::Read(IoId(4), Slot(1), beyond)]);
        let Done::Io(_, Err(error)) = results.recv().unwrap() else { panic!("read beyond the end") };
        assert!(error.0.contains(file.path().to_str().unwrap()), "{error}");
    }
}
