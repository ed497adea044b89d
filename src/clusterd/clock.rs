//! The clock of the cluster: it also runs while the machine sleeps, and nobody sets it.

use std::time::{SystemTime, UNIX_EPOCH};

use cluster::timing::Millis;
use rustix::time::{ClockId, clock_gettime};

/// Seconds since the beginning of 1970, as the host's clock has it: only for telling orders of people apart.
#[must_use]
pub(crate) fn calendar() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Milliseconds since the machine started (`CLOCK_BOOTTIME`).
#[must_use]
pub(crate) fn now() -> Millis {
    let time = clock_gettime(ClockId::Boottime);
    let millis = |value: i64, factor: u64| u64::try_from(value).unwrap_or(0).saturating_mul(factor);
    millis(time.tv_sec, 1000) + millis(time.tv_nsec, 1) / 1_000_000
}
