//! Resets the machine when the manager hangs; systemd's, beside it, ends a manager or a witness that hangs. Fed by whoever
//! waits for events: while the manager starts, by what waits for its parts ([`Watchdog::fed_while`]), then by the driver
//! between two events. Who does not come round does not feed.
//!
//! Rules: the device is opened and fed before anything else of a start, so that a manager that was killed is followed in
//! time; its timeout is at most half the holder lease, or it is not used; how the manager ends decides whether it is let
//! go ([`Watchdog::end`]). It is opened once and kept: on some machines closing it disarms or resets.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use cluster::event::Left;
use cluster::timing::{Millis, Timing};

use crate::clock;
use crate::config;
use crate::sys;

/// What softdog calls itself.
const SOFTWARE: &str = "Software Watchdog";
/// The namespace of processes that is the machine itself (`PROC_PID_INIT_INO`): a container's manager must not
/// reset its host.
const MACHINE: &str = "pid:[4026531836]";
/// Feeds within one timeout: a late one does no harm.
const FEEDS: Millis = 4;
/// What lets a device go, so that closing it ends its counting (`Documentation/watchdog/watchdog-api.rst`).
const MAGIC_CLOSE: &[u8] = b"V";
/// A running stack is without a manager for so long at most while its program is exchanged.
const EXCHANGE_S: i32 = 30;

/// Where the device is, and how it is spoken to.
pub(crate) struct Place {
    path: PathBuf,
    is_machine: fn() -> io::Result<bool>,
    identity: fn(&File) -> io::Result<String>,
    set_timeout: fn(&File, i32) -> io::Result<i32>,
}

impl Place {
    /// The watchdog of this machine.
    pub(crate) fn of_machine() -> Self {
        Self {
            path: PathBuf::from("/dev/watchdog"),
            is_machine: || Ok(fs::read_link("/proc/self/ns/pid")?.as_os_str() == MACHINE),
            identity: |device| sys::watchdog_identity(device),
            set_timeout: |device, seconds| sys::watchdog_set_timeout(device, seconds),
        }
    }
}

/// A device that counts.
struct Armed {
    file: File,
    place: Place,
}

/// The watchdog of the machine, and systemd's for this service.
pub(crate) struct Watchdog {
    armed: Option<Armed>,
    every_ms: Millis,
    due: Option<Millis>,
    systemd: bool,
}

impl Watchdog {
    /// Opens and so arms it, as configured, and feeds it.
    pub(crate) fn open(mode: config::Watchdog, timing: &Timing, place: Place) -> anyhow::Result<Self> {
        let armed = match mode {
            config::Watchdog::Off => None,
            config::Watchdog::Required => {
                Some(arm(timing, place).context("the configuration requires a watchdog")?)
            }
            config::Watchdog::Auto => arm(timing, place)
                .map_err(|error| {
                    tracing::info!("no watchdog: {error:#}; a hung manager does not reset this host");
                })
                .ok(),
        };
        let device = armed.as_ref().and(timing.watchdog_s).map(|s| Millis::from(s) * 1000);
        Ok(Self::begin(armed, device))
    }

    /// Only systemd's, for a service that needs no device.
    pub(crate) fn of_service() -> Self {
        Self::begin(None, None)
    }

    fn begin(armed: Option<Armed>, device: Option<Millis>) -> Self {
        let systemd = base::notify::watchdog_within()
            .map(|time| Millis::try_from(time.as_millis()).unwrap_or(Millis::MAX));
        let timeout = device.into_iter().chain(systemd).min();
        let every_ms = timeout.map_or(0, |timeout| (timeout / FEEDS).max(1));
        let mut watchdog = Self { armed, every_ms, due: timeout.map(|_| 0), systemd: systemd.is_some() };
        watchdog.feed(clock::now());
        watchdog
    }

    /// When it wants to be fed next.
    pub(crate) const fn due(&self) -> Option<Millis> {
        self.due
    }

    /// The driver is alive.
    pub(crate) fn feed(&mut self, now: Millis) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        self.due = Some(now + self.every_ms);
        if self.systemd
            && let Err(error) = base::notify::notify("WATCHDOG=1")
        {
            tracing::debug!("tell systemd: {error}");
        }
        if let Some(armed) = &mut self.armed {
            armed.write(b"\0", "feed");
        }
    }

    /// Feeds it while something is waited for.
    pub(crate) async fn fed_while<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            let every = Duration::from_millis(if self.due.is_some() { self.every_ms } else { Millis::MAX });
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(every) => self.feed(clock::now()),
            }
        }
    }

    /// The manager ends. A device that is not let go counts on, and resets the machine when nobody feeds it.
    pub(crate) fn end(self, left: Left, working: usize) {
        let Some(armed) = self.armed else { return };
        match left {
            // Nothing is left that could do harm.
            Left::Nothing if working == 0 => armed.let_go(),
            // Operators work on this machine, perhaps for hours; nobody feeds it meanwhile.
            Left::ToOperators => armed.let_go(),
            Left::ToSuccessor => armed.wait_for_successor(),
            Left::Nothing | Left::Stuck => tracing::error!(
                "not everything on this host has ended: the watchdog counts on and resets it ({working} operations are at work)"
            ),
        }
    }

    /// The manager could not start: an error in its configuration is no reason to reset the machine.
    pub(crate) fn not_started(self) {
        if let Some(armed) = self.armed {
            armed.let_go();
        }
    }
}

impl Armed {
    fn write(&mut self, what: &[u8], verb: &str) {
        if let Err(error) = self.file.write_all(what) {
            tracing::error!("{verb} {}: {error}", self.place.path.display());
        }
    }

    fn let_go(mut self) {
        self.write(MAGIC_CLOSE, "disarm");
    }

    /// The next program opens it within moments. Should it not come, the machine is reset: the stack would run on with
    /// nobody to look after it.
    fn wait_for_successor(mut self) {
        match (self.place.set_timeout)(&self.file, EXCHANGE_S) {
            Ok(real) => {
                self.write(b"\0", "feed");
                tracing::info!("the watchdog waits {real} s for the next program");
            }
            Err(error) => {
                tracing::warn!("the watchdog cannot wait {EXCHANGE_S} s, and is let go: {error}");
                self.let_go();
            }
        }
    }
}

fn arm(timing: &Timing, place: Place) -> anyhow::Result<Armed> {
    let path = place.path.display().to_string();
    let Some(most) = timing.watchdog_s.and_then(|s| i32::try_from(s).ok()) else {
        bail!("half the holder lease of {} ms is less than a device's whole second", timing.holder_lease_ms);
    };
    if !(place.is_machine)().context("read the namespace of this process")? {
        bail!("this is a container, and {path} would reset its host");
    }
    let file = OpenOptions::new()
        .write(true)
        .open(&place.path)
        .with_context(|| format!("open {path} (`modprobe softdog` loads one)"))?;
    let armed = Armed { file, place };
    let identity =
        (armed.place.identity)(&armed.file).unwrap_or_else(|_| "a watchdog of unknown kind".to_owned());
    match (armed.place.set_timeout)(&armed.file, most) {
        Ok(real) if real <= most => {
            tracing::info!("{identity}: resets this machine {real} s after the manager hangs");
        }
        Ok(real) => {
            armed.let_go();
            bail!("{identity} does not go below {real} s, and half the holder lease allows {most} s");
        }
        Err(error) => {
            armed.let_go();
            return Err(error).with_context(|| format!("set the timeout of {identity} to {most} s"));
        }
    }
    if identity == SOFTWARE {
        tracing::info!("softdog is part of the kernel: it does not help when the kernel itself is dead");
    }
    Ok(armed)
}

/// Resets the machine at once; nothing is written out.
pub(crate) fn reset() -> io::Error {
    rustix::system::reboot(rustix::system::RebootCommand::Restart)
        .err()
        .map_or_else(|| io::Error::other("the machine goes on"), Into::into)
}

#[cfg(test)]
mod tests;
