//! The terminal while bars are drawn on it: it does not show `^C`, which would move the cursor off the bars and
//! leave one of them behind. Must never touch a terminal that another job has.

use std::io::{IsTerminal as _, stderr, stdout};

use rustix::fs::{FileType, fstat};
use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};

/// Whether bars can be drawn on stderr. A dumb terminal cannot take back what is printed; and what goes through a
/// pipe is most likely shown on the same terminal, later, in the middle of the bars.
pub(super) fn can_draw() -> bool {
    let piped = fstat(stdout()).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
    stderr().is_terminal() && !piped && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Puts the terminal back when dropped.
pub(super) struct Quiet(Termios);

impl Quiet {
    /// `None` when there is no terminal, when another job has it, or when it is quiet already.
    pub(super) fn begin() -> Option<Self> {
        let before = tcgetattr(stderr()).ok()?;
        if !in_foreground() || !before.local_modes.contains(LocalModes::ECHOCTL) {
            return None;
        }
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHOCTL);
        tcsetattr(stderr(), OptionalActions::Now, &quiet).ok()?;
        Some(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if in_foreground() {
            // Nothing worse than a missing `^C` comes of a failure.
            let _ = tcsetattr(stderr(), OptionalActions::Now, &self.0);
        }
    }
}

/// A job in the background that changed the terminal would be stopped.
fn in_foreground() -> bool {
    tcgetpgrp(stderr()).is_ok_and(|group| group == getpgrp())
}
