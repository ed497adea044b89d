//! `futago agent`: carries out steps on a host, asked through its standard input and answering on its
//! standard output.
//!
//! One step at a time, no runtime; a second thread only reads. Programs started by a module never get hold of the frames:
//! the real input and output are moved to descriptors that no child inherits. One agent a host: a lock
//! keeps two runs apart. A panic is answered as a failure of the step.

pub(crate) mod facts;
mod lock;
mod owed;
mod stdio;

use std::fs::File;
use std::panic;
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use base::frame::{self, FrameError};

use crate::module::{self, Planned};
use crate::protocol::{Failure, Outcome, Reply, Request, VERSION};
use lock::{Lock, Taken};
use owed::Ledger;
pub use owed::OWED;

/// Exit code when another run holds the host: the temporary failure of sysexits.h.
pub const EXIT_BUSY: u8 = 75;
/// Where the lock is.
pub const LOCK: &str = "/run/futago/agent.lock";

type Output = Arc<Mutex<File>>;

/// Serves until the controller closes the channel. `holder` says on whose behalf; the number is the exit code.
pub fn run(holder: &str, lock: &Path, owed: &Path) -> anyhow::Result<u8> {
    let lock = match Lock::take(lock, holder).context("lock this host")? {
        Taken::Ours(lock) => lock,
        Taken::By(other) => {
            eprintln!("{other}");
            return Ok(EXIT_BUSY);
        }
    };
    let (input, output) = stdio::take().context("set standard input and output aside")?;
    let output: Output = Arc::new(Mutex::new(output));
    answer_panics(Arc::clone(&output));
    let ledger = Ledger::open(owed);
    let mut ledger =
        ledger.with_context(|| format!("read which handlers are owed from {}", owed.display()))?;
    let owed = ledger.owed().clone();
    send(&output, &Reply::Hello { version: VERSION, facts: facts::gather(), owed })?;
    let mut planned = Planned::default();
    let requests = listen(input, lock)?;
    while let Ok(request) = requests.recv() {
        let progress = &mut |sign| {
            // The step goes on without its controller; the answer then fails too, and the agent ends.
            let _ = send(&output, &Reply::Progress(sign));
        };
        let outcome = match request.context("read a request")? {
            Request::Run(step) => {
                let outcome = module::run(&step, &mut planned, progress, &mut |within| {
                    is_reached(&output, &requests, within)
                });
                if step.check { outcome } else { ledger.after(&step.notify, outcome) }
            }
            Request::Owe { handlers } => ledger.set(handlers),
            // It came too late: the step is over.
            Request::Reached { .. } => continue,
        };
        send(&output, &Reply::Done(outcome))?;
    }
    Ok(0)
}

/// Asks the controller to come by a new connection. One that is gone does not.
fn is_reached(output: &Output, requests: &Receiver<Result<Request, FrameError>>, within: Duration) -> bool {
    let asked = send(output, &Reply::Reach { seconds: within.as_secs() });
    asked.is_ok() && matches!(requests.recv_timeout(within), Ok(Ok(Request::Reached { through: true })))
}

/// Reads requests in a thread of its own, so that the end of the channel is noticed in the middle of a step
/// and told to those who wait for the host. The lock lives as long as the process.
fn listen(mut input: File, lock: Lock) -> anyhow::Result<Receiver<Result<Request, FrameError>>> {
    let (sender, receiver) = sync_channel(1);
    let reader = move || {
        loop {
            let request = match frame::read(&mut input) {
                Ok(Some(request)) => Ok(request),
                Ok(None) => break,
                Err(error) => Err(error),
            };
            let last = request.is_err();
            if sender.send(request).is_err() || last {
                break;
            }
        }
        // Best effort: it only helps others to word their message.
        let _ = lock.orphan();
        drop(sender);
        loop {
            thread::park();
        }
    };
    thread::Builder::new().name("requests".into()).spawn(reader).context("start a thread")?;
    Ok(receiver)
}

fn send(output: &Output, reply: &Reply) -> anyhow::Result<()> {
    let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
    frame::write(&mut *output, reply).context("answer")
}

/// A release build ends at a panic, so the hook is where it must be answered.
fn answer_panics(output: Output) {
    panic::set_hook(Box::new(move |info| {
        let failure = Failure {
            message: "the module failed by a mistake of this program".into(),
            output: info.to_string(),
            hint: Some("report it with this text; steps done before this one stay done".into()),
        };
        let outcome = Outcome { failure: Some(failure), ..Outcome::default() };
        let _ = send(&output, &Reply::Done(outcome));
        std::process::exit(1);
    }));
}
