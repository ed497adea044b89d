//! `futago replica rollback`: waits for the end of a rollback, shows how it goes on, and says what the disk is now.

use std::io::{IsTerminal as _, Write as _};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use replica::control::{Status, UndoStatus};

/// How often the daemon is asked.
const LOOK: Duration = Duration::from_millis(200);

/// Runs `order`, which ends with the rollback, and shows meanwhile what `look` finds.
pub(crate) fn follow(name: &str, order: impl FnOnce() -> u8 + Send, look: impl Fn() -> Option<Status>) -> u8 {
    let before = look();
    let (ended, end) = channel();
    let code = thread::scope(|scope| {
        scope.spawn(move || ended.send(order()));
        loop {
            match end.recv_timeout(LOOK) {
                Ok(code) => return code,
                Err(RecvTimeoutError::Timeout) => {
                    show(&progress(name, look().and_then(|status| status.device.undo)));
                }
                Err(RecvTimeoutError::Disconnected) => return 20,
            }
        }
    });
    show("");
    if code == 0 {
        let managed = before.as_ref().is_some_and(|status| status.managed.is_some());
        print!("{}", outcome(name, before.and_then(|status| status.device.undo), managed));
    }
    code
}

/// A line that is written over; nobody is harmed when it cannot be.
fn show(line: &str) {
    if std::io::stderr().is_terminal() {
        let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
    }
}

fn progress(name: &str, undo: Option<UndoStatus>) -> String {
    let Some(UndoStatus { saved_kib, restored: Some(restored), .. }) = undo else { return String::new() };
    format!("{name}: {restored:.1} % of {} MiB restored", saved_kib / 1024)
}

/// What the disk is now, for people.
fn outcome(name: &str, undo: Option<UndoStatus>, managed: bool) -> String {
    let of = undo.map_or(0, |undo| undo.as_of);
    let kib = undo.map_or(0, |undo| undo.saved_kib);
    let promote = if managed {
        "futago cluster force-primary HOST --accept-loss".to_owned()
    } else {
        format!("futago replica primary --force {name}")
    };
    format!(
        "{name}: {kib} KiB restored: this disk is what it was before the resync{}, and Outdated.\n\
         What was written since is not on it. To use it all the same: {promote}\n\
         To fetch the newer data after all: futago replica connect {name}\n",
        as_of(of)
    )
}

/// `, data of 2026-11-30T22:10:05Z`, where the time is known.
pub(crate) fn as_of(seconds: u64) -> String {
    let at = UNIX_EPOCH + Duration::from_secs(seconds);
    if seconds == 0 { String::new() } else { format!(", data of {}", base::time::rfc3339(at)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_says_what_the_disk_is_and_what_to_do() {
        let undo = UndoStatus { saved_kib: 4096, as_of: 1_796_076_605, restored: Some(12.34) };
        assert_eq!(
            outcome("r0", Some(undo), false),
            "r0: 4096 KiB restored: this disk is what it was before the resync, data of 2026-11-30T22:10:05Z, and Outdated.\n\
             What was written since is not on it. To use it all the same: futago replica primary --force r0\n\
             To fetch the newer data after all: futago replica connect r0\n"
        );
        assert!(outcome("r0", None, true).contains("use it all the same: futago cluster force-primary HOST"));
        assert_eq!(progress("r0", Some(undo)), "r0: 12.3 % of 4 MiB restored");
        assert_eq!(progress("r0", None), "");
    }
}
