//! The orderly end of the daemon: every resource goes down; one whose device is held open is waited for, and
//! after a bound its device is taken away by force, so that no process is left waiting for a dead daemon.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use replica::control::{Command, Refusal};
use replica::event::Token;

use crate::STACK_BYTES;
use crate::daemon::{Daemon, say};
use crate::driver::Report;
use crate::running::Running;

/// How long users of a device have to let go of it. At shutdown systemd unmounts before it stops the daemon;
/// what is left then is not going to go.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause between two attempts.
const AGAIN: Duration = Duration::from_millis(500);
/// Longest that one attempt may take: it makes everything durable on two disks.
const ATTEMPT: Duration = Duration::from_secs(15);
/// Longest that a resource may take after its device was taken away by force.
const FORCED: Duration = Duration::from_secs(10);

/// Tokens of the attempts; the verbs' tokens are small numbers.
const FIRST_TOKEN: u64 = 1 << 62;

/// Takes all resources down, at the same time.
pub(crate) fn all(daemon: &Daemon) {
    let mut threads = Vec::new();
    for (name, running) in daemon.running() {
        let body = move || {
            let _span = tracing::info_span!("resource", %name).entered();
            one(&name, &running);
        };
        let thread = thread::Builder::new().name("shutdown".to_owned()).stack_size(STACK_BYTES).spawn(body);
        match thread {
            Ok(thread) => threads.push(thread),
            Err(error) => tracing::error!("start a thread to stop a resource: {error}"),
        }
    }
    for thread in threads {
        // A panic in there has been reported.
        let _ = thread.join();
    }
}

fn one(name: &str, running: &Arc<Running>) {
    let deadline = Instant::now() + PATIENCE;
    let mut said = None;
    for attempt in 0.. {
        match down(running, attempt, ATTEMPT) {
            Some(Ok(())) => {
                running.join();
                tracing::info!("down");
                return;
            }
            Some(Err(refusal)) => {
                if said.as_ref() != Some(&refusal) {
                    tracing::warn!("cannot stop yet: {refusal}: {}", refusal.detail);
                    say(&format!("STATUS={name}: {refusal}: {}", refusal.detail));
                    said = Some(refusal);
                }
            }
            None => tracing::warn!("cannot stop yet: no answer within {} s", ATTEMPT.as_secs()),
        }
        if Instant::now() > deadline {
            break;
        }
        thread::sleep(AGAIN);
    }
    tracing::error!(
        "taking the block device away by force: its users get errors; what they have not synced is lost"
    );
    running.mailbox.put(Report::Abort);
    match down(running, u64::MAX - FIRST_TOKEN, FORCED) {
        Some(Ok(())) => running.join(),
        Some(Err(refusal)) => tracing::error!("not stopped in order: {refusal}: {}", refusal.detail),
        None => tracing::error!("not stopped in order: no answer within {} s", FORCED.as_secs()),
    }
}

/// One attempt; `None` when there is no answer in time.
fn down(running: &Running, attempt: u64, within: Duration) -> Option<Result<(), Refusal>> {
    let (sender, answer) = sync_channel(1);
    let token = Token(FIRST_TOKEN + attempt);
    running.mailbox.put(Report::Command(token, Command::Down, sender));
    match answer.recv_timeout(within) {
        Ok(result) => Some(result),
        Err(_) if running.is_finished() => Some(Ok(())),
        Err(_) => {
            running.mailbox.put(Report::Abandoned(token));
            None
        }
    }
}
