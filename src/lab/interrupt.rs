//! Ctrl-C and termination: long work asks here whether it should stop, and cleans up by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

/// How soon it is noticed by who waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The user, or the system, wants the program to stop.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("interrupted")]
pub(crate) struct Interrupted;

/// Tells whether to stop. Cleaning up is done under [`Interrupt::never`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Work that must come to its end.
    pub(crate) fn never() -> Self {
        Self::default()
    }

    /// From now on the process does not die of SIGINT, SIGTERM and SIGHUP, but is told here.
    pub(crate) fn watch() -> anyhow::Result<Self> {
        let told = Self::default();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("watch signals")?;
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let guard = runtime.enter();
        let mut streams =
            kinds.into_iter().map(signal).collect::<Result<Vec<_>, _>>().context("watch signals")?;
        drop(guard);
        let flag = told.clone();
        std::thread::spawn(move || {
            runtime.block_on(async {
                let [a, b, c] = streams.as_mut_slice() else { return };
                loop {
                    tokio::select! { _ = a.recv() => {}, _ = b.recv() => {}, _ = c.recv() => {} }
                    flag.0.store(true, Ordering::Relaxed);
                }
            });
        });
        Ok(told)
    }

    /// Ends once the process was told to stop.
    pub(crate) async fn told(&self) {
        while self.check().is_ok() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// An error once the process was told to stop.
    pub(crate) fn check(&self) -> Result<(), Interrupted> {
        if self.0.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
    }
}
