//! Resets the machine when the manager hangs. Only the driver feeds it, between two events: a driver that does
//! not come round does not feed.
//!
//! The device is opened once and kept: on some machines closing it disarms or resets. It is disarmed only in an
//! orderly end, after the driver has seen that nothing which it started still works.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};

use anyhow::{Context as _, bail};
use cluster::timing::{Millis, Timing};

use crate::config;
use crate::sys;

const DEVICE: &str = "/dev/watchdog";
/// What softdog calls itself.
const SOFTWARE: &str = "Software Watchdog";
/// The namespace of processes that is the machine itself (`PROC_PID_INIT_INO`): a container's manager must not
/// reset its host.
const MACHINE: &str = "pid:[4026531836]";
/// Feeds within one timeout: a late one does no harm.
const FEEDS: Millis = 4;

/// The watchdog of the machine, and systemd's for this service.
#[derive(Debug)]
pub(crate) struct Watchdog {
    device: Option<File>,
    every_ms: Millis,
    due: Option<Millis>,
    systemd: bool,
}

impl Watchdog {
    /// Opens and so arms it, as configured.
    pub(crate) fn open(mode: config::Watchdog, timing: &Timing) -> anyhow::Result<Self> {
        let device = match mode {
            config::Watchdog::Off => None,
            config::Watchdog::Required => Some(arm(timing).with_context(|| {
                format!("open {DEVICE}, which the configuration requires; `modprobe softdog` loads one")
            })?),
            config::Watchdog::Auto => arm(timing)
                .map_err(|error| {
                    tracing::info!("no watchdog: {error:#}; a hung manager does not reset this host");
                })
                .ok(),
        };
        let systemd = base::notify::watchdog_within()
            .map(|time| Millis::try_from(time.as_millis()).unwrap_or(Millis::MAX));
        let timeout = match (&device, systemd) {
            (Some(_), Some(systemd)) => Some(systemd.min(timing.watchdog_ms)),
            (Some(_), None) => Some(timing.watchdog_ms),
            (None, systemd) => systemd,
        };
        let every_ms = timeout.map_or(0, |timeout| (timeout / FEEDS).max(1));
        Ok(Self { device, every_ms, due: timeout.map(|_| 0), systemd: systemd.is_some() })
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
        if let Some(device) = &mut self.device
            && let Err(error) = device.write_all(b"\0")
        {
            tracing::error!("feed {DEVICE}: {error}");
        }
    }

    /// Nothing that the manager started still works: the machine needs no watching over it.
    pub(crate) fn disarm(mut self) {
        if let Some(device) = &mut self.device
            && let Err(error) = device.write_all(b"V")
        {
            tracing::error!("disarm {DEVICE}: {error}; the machine will be reset");
        }
    }
}

fn arm(timing: &Timing) -> anyhow::Result<File> {
    let namespace = fs::read_link("/proc/self/ns/pid").context("read /proc/self/ns/pid")?;
    if namespace.as_os_str() != MACHINE {
        bail!("this is a container, and {DEVICE} would reset its host");
    }
    let device = OpenOptions::new().write(true).open(DEVICE).with_context(|| format!("open {DEVICE}"))?;
    let identity =
        sys::watchdog_identity(&device).unwrap_or_else(|_| "a watchdog of unknown kind".to_owned());
    let seconds = i32::try_from((timing.watchdog_ms / 1000).max(1)).unwrap_or(i32::MAX);
    match sys::watchdog_set_timeout(&device, seconds) {
        Ok(real) if u64::try_from(real).unwrap_or(0) * 1000 > timing.watchdog_ms => tracing::warn!(
            "{identity}: resets a hung machine after {real} s, later than the {} ms that the times ask for",
            timing.watchdog_ms
        ),
        Ok(real) => tracing::info!("{identity}: resets this machine {real} s after the manager hangs"),
        Err(error) => tracing::warn!("{identity}: set its timeout to {seconds} s: {error}"),
    }
    if identity == SOFTWARE {
        tracing::info!("softdog is part of the kernel: it does not help when the kernel itself is dead");
    }
    Ok(device)
}

/// Resets the machine at once; nothing is written out.
pub(crate) fn reset() -> io::Error {
    rustix::system::reboot(rustix::system::RebootCommand::Restart)
        .err()
        .map_or_else(|| io::Error::other("the machine goes on"), Into::into)
}
