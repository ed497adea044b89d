//! `futago replica reexec`: has the daemon exchange its program, and waits until the new one has everything.

use std::io;
use std::time::{Duration, Instant};

use base::frame::FrameError;

use crate::config::Site;
use crate::ctl::{self, Answer, Report, Request};
use crate::verbs;

/// Longest that the new program may take until it answers.
const WITHIN: Duration = Duration::from_secs(10);

/// Exit codes of its own.
mod exit {
    pub(super) const REFUSED: u8 = 11;
    pub(super) const LOST: u8 = 20;
}

/// Asks, waits, and says what has become of each resource.
pub(crate) fn run(site: &Site) -> u8 {
    let before = match verbs::reports(site, "all") {
        Ok(before) => before,
        Err(code) => return code,
    };
    let began = Instant::now();
    match ctl::ask(&site.socket(), &Request::Exchange) {
        // The process that was asked is another program now.
        Err(FrameError::Io(error)) if is_end(&error) => {}
        Err(error) => {
            eprintln!("the replication daemon has not understood: {error}");
            return exit::LOST;
        }
        Ok(Answer::Failed { text }) => {
            eprintln!("The program was not exchanged, everything goes on as before:\n  {text}");
            return exit::REFUSED;
        }
        Ok(_) => {
            eprintln!("the replication daemon gave an unexpected answer: is it of an older version?");
            return exit::LOST;
        }
    }
    let Some(after) = wait(site) else {
        eprintln!("the new program does not answer; see `journalctl -u futago-replicad`");
        return exit::LOST;
    };
    tell(&before, &after, began.elapsed())
}

/// The process at the other end of a connection has ended.
pub(crate) fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

/// The new program has the control socket, and answers when everything is up.
fn wait(site: &Site) -> Option<Vec<Report>> {
    match ctl::ask_within(&site.socket(), &Request::Status { name: None }, Some(WITHIN)) {
        Ok(Answer::Status(reports)) => Some(reports),
        _ => None,
    }
}

/// A line for each resource that was up.
fn tell(before: &[Report], after: &[Report], took: Duration) -> u8 {
    let mut code = 0;
    for old in before {
        let Some(was) = &old.status else { continue };
        let now = after.iter().find(|new| new.name == old.name).and_then(|new| new.status.as_ref());
        match now {
            Some(now) if now.role == was.role => {
                println!("{}: goes on as {}, {} ms", old.name, now.role, took.as_millis());
            }
            Some(now) => {
                eprintln!("{}: was {}, is {}", old.name, was.role, now.role);
                code = exit::LOST;
            }
            None => {
                eprintln!("{}: was {}, is not up any more", old.name, was.role);
                code = exit::LOST;
            }
        }
    }
    code
}
