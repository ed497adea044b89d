//! The terminal while bars are drawn on it: it does not show `^C`, which would move the cursor off the bars and
//! leave one of them behind. Must never touch a terminal that another job has.

use std::io::stderr;

use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};

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
