//! An alarm on the clock of the cluster. The runtime's own timers stop while the machine sleeps.

use std::io;
use std::os::fd::OwnedFd;

use cluster::timing::Millis;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys::register;

/// One alarm.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: AsyncFd<OwnedFd>,
    set: Option<Millis>,
}

impl Alarm {
    /// One that is not set.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        Ok(Self { timer: register(timer, Interest::READABLE)?, set: None })
    }

    /// Waits until then; for ever without a time. To be dropped at will. The caller looks at the clock itself.
    pub(crate) async fn wait(&mut self, until: Option<Millis>) -> io::Result<()> {
        let Some(until) = until else { return std::future::pending().await };
        if self.set != Some(until) {
            self.arm(until)?;
            self.set = Some(until);
        }
        loop {
            let mut ready = self.timer.readable().await?;
            match rustix::io::read(self.timer.get_ref(), &mut [0; 8]) {
                Ok(_) => {
                    self.set = None;
                    return Ok(());
                }
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn arm(&self, until: Millis) -> io::Result<()> {
        // All zero would disarm it.
        let until = until.max(1);
        let part = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let it_value = Timespec { tv_sec: part(until / 1000), tv_nsec: part(until % 1000 * 1_000_000) };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let time = Itimerspec { it_interval, it_value };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::ABSTIME, &time)?;
        Ok(())
    }
}
