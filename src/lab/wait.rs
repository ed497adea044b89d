//! Waiting for something to become true, never longer than said.

use std::time::{Duration, Instant};

use crate::interrupt::{Interrupt, Interrupted};

/// How often a state that cannot be subscribed to is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why waiting ended without the wanted state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WaitError {
    /// The time was up.
    #[error("not within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The process was told to stop.
    #[error("interrupted")]
    Interrupted(#[from] Interrupted),
    /// Looking failed, so that it will never come.
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

/// Looks until there is something to see, at most `limit` long.
pub(crate) fn until<T>(
    limit: Duration,
    interrupt: &Interrupt,
    look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> Result<T, WaitError> {
    until_every(LOOK_EVERY, limit, interrupt, look)
}

/// The same for what costs something to be looked at: a pause of this length between two looks.
pub(crate) fn until_every<T>(
    every: Duration,
    limit: Duration,
    interrupt: &Interrupt,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> Result<T, WaitError> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(seen) = look().map_err(WaitError::Failed)? {
            return Ok(seen);
        }
        interrupt.check()?;
        if Instant::now() >= deadline {
            return Err(WaitError::TimedOut(limit));
        }
        pause(every, interrupt)?;
    }
}

/// Lets time pass in which a late effect of something would show.
pub(crate) fn pause(time: Duration, interrupt: &Interrupt) -> Result<(), Interrupted> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        interrupt.check()?;
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Does something that may hang in the kernel, and stops waiting for it after `limit`.
pub(crate) fn at_most<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, WaitError> {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        // Nobody listens any more when the time was up.
        let _ = sender.send(work());
    });
    receiver.recv_timeout(limit).map_err(|_| WaitError::TimedOut(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_never_comes_ends_in_an_error() {
        let error = until(Duration::ZERO, &Interrupt::never(), || Ok(None::<()>)).unwrap_err();
        assert!(matches!(error, WaitError::TimedOut(_)));
    }

    #[test]
    fn work_that_hangs_does_not_hold_its_caller() {
        let (_keep, never) = std::sync::mpsc::channel::<()>();
        assert!(at_most(Duration::from_millis(1), move || never.recv()).is_err());
        assert_eq!(at_most(Duration::from_secs(60), || 7).unwrap(), 7);
    }
}
