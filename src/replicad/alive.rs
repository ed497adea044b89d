//! Tells systemd that the daemon is alive, as long as every driver comes round. One that hangs is ended and started
//! anew (`WatchdogSec=` of its unit): otherwise its writes would wait for ever, and the cluster manager, whose
//! connection to it stays open, would not notice.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::STACK_BYTES;
use crate::daemon::{Daemon, ask_status, say};

/// Words within one timeout: a late one does no harm.
const WORDS: u32 = 4;

/// Starts to tell, if systemd wants to hear it.
pub(crate) fn tell(daemon: &Arc<Daemon>) -> std::io::Result<()> {
    let Some(within) = base::notify::watchdog_within() else { return Ok(()) };
    let daemon = Arc::clone(daemon);
    let body = move || {
        loop {
            if all_come_round(&daemon, within) {
                say("WATCHDOG=1");
            }
            thread::sleep(within / WORDS);
        }
    };
    thread::Builder::new().name("alive".to_owned()).stack_size(STACK_BYTES).spawn(body).map(drop)
}

/// Whether each driver that has not ended answers in time.
fn all_come_round(daemon: &Daemon, within: Duration) -> bool {
    daemon.running().into_iter().all(|(name, running)| {
        let answers = ask_status(&running, within / WORDS).is_some() || running.is_finished();
        if !answers {
            tracing::error!("the driver of {name} does not come round: this is a defect");
        }
        answers
    })
}
