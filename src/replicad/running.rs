//! A resource that is up, seen from outside its thread.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::STACK_BYTES;
use crate::driver::Report;
use crate::mailbox::Mailbox;

/// A running resource.
#[derive(Debug)]
pub struct Running {
    /// For [`Report`]s.
    pub mailbox: Arc<Mailbox<Report>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    finished: Arc<AtomicBool>,
}

impl Running {
    /// Begins a thread that is told things by this mailbox.
    pub(crate) fn begin(
        name: &str,
        mailbox: Arc<Mailbox<Report>>,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let finished = Arc::new(AtomicBool::new(false));
        let guard = Finished(Arc::clone(&finished));
        let thread = thread::Builder::new().name(format!("driver {name}")).stack_size(STACK_BYTES);
        let resource = name.to_owned();
        let thread = thread.spawn(move || {
            let _guard = guard;
            let _span = tracing::info_span!("resource", name = %resource).entered();
            work();
        })?;
        Ok(Self { mailbox, thread: Mutex::new(Some(thread)), finished })
    }

    /// Whether the resource is down.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Waits until it is down and its disk is closed.
    pub fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A driver that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

struct Finished(Arc<AtomicBool>);

impl Drop for Finished {
    fn drop(&mut self) {
        if thread::panicking() {
            // Its device is kept: without a driver its users would wait for ever. The next process goes on.
            std::process::abort();
        }
        self.0.store(true, Ordering::Release);
    }
}
