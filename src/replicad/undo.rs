//! The undo log of a resource: a thread that does what the core asks of it, in order. It is a thread of its own, so
//! that the log's disk, when it hangs, holds up nothing but the resync.

mod file;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use replica::event::{DiskError, IoId, Range};
use replica::undo::Found;

use crate::STACK_BYTES;
use crate::disk::Backing;
use crate::worker::Done;
use file::LogFile;

/// Where the logs are, unless the resource files say something else.
const FOLDER: &str = "/var/lib/futago/undo";

/// The file of a resource's undo log.
#[must_use]
pub fn default_path(resource: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{resource}.undo"))
}

/// What is asked of the thread; see the actions of the same names in [`replica::event::Action`].
#[derive(Debug)]
pub enum Job {
    /// Make room, for all of it or as much as it comes to, and begin.
    Prepare(IoId, u64, u64, bool),
    /// Save the old content of these.
    Save(IoId, u64, u64, Vec<Range>),
    /// Write the old content of a record back.
    Restore(IoId, u64, u64),
    /// Give the room back.
    Drop,
}

/// The thread of one resource. Dropping it finishes what is queued.
#[derive(Debug)]
pub struct Undo {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Undo {
    /// Starts it; `done` is called from it.
    pub fn start(
        path: PathBuf,
        disk: Arc<Backing>,
        done: impl Fn(Done) + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, queue) = channel();
        let mut file = LogFile::new(path);
        let body = move || {
            for job in queue {
                if let Some(end) = perform(&mut file, &disk, job) {
                    done(end);
                }
            }
        };
        let thread = thread::Builder::new().name("undo".to_owned()).stack_size(STACK_BYTES).spawn(body)?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Queues a job.
    pub fn submit(&self, job: Job) {
        // The thread ends only when this is dropped.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

fn perform(file: &mut LogFile, disk: &Backing, job: Job) -> Option<Done> {
    Some(match job {
        Job::Prepare(io, log, bytes, all) => {
            Done::Io(io, file.prepare(disk, log, bytes, all).map_err(DiskError))
        }
        Job::Save(io, log, at, ranges) => Done::Io(io, file.save(disk, log, at, ranges).map_err(DiskError)),
        Job::Restore(io, log, at) => Done::Restored(io, file.restore(disk, log, at).map_err(DiskError)),
        Job::Drop => {
            file.give_up();
            return None;
        }
    })
}

/// The log that the superblock names; the error is for people.
pub fn find(path: &Path, log: u64, data_bytes: u64) -> Result<Found, String> {
    LogFile::new(path.to_path_buf()).find(log, data_bytes)
}
