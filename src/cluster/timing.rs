//! All times, from one number: how long after its last sign of life a dead primary may be replaced.
//!
//! With `target` the user's `failover_target`:
//! ```text
//! holder lease  L = target / 2                the primary acts on no renewal older than this (from its sending)
//! grant hold    H = floor(L) + 1.2 s          voters grant no takeover earlier than this (from its receiving)
//! renew         R = L / 4
//! valid_lft     V = floor(L), at least 1 s    lifetime of the address in the kernel; it is gone within V + 1 s
//! peer silence  P = 2.5 R                     no heartbeat on any path for this long: the peer is gone
//! watchdog      W = floor(L / 2)              the machine is reset this long after the manager hangs; none below 1 s,
//!                                             because devices count in whole seconds
//! ```
//! Needed, and checked: `L (1+d) + 0.1 s <= H (1-d)` with d = 0.1 % clock drift; `V + 1 s + 0.2 s <= H`: what the
//! kernel still answers for is gone before anybody else may act; `W <= L / 2`; `H >= 2 s`.

use serde::{Deserialize, Serialize};

/// Milliseconds on the clock that also runs while the machine sleeps (`CLOCK_BOOTTIME`).
pub type Millis = u64;

/// The times of a cluster, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Timing {
    /// What the user asked for.
    pub failover_target_ms: Millis,
    /// How often the primary renews.
    pub renew_ms: Millis,
    /// How long a renewal lets the primary act, from when it was sent.
    pub holder_lease_ms: Millis,
    /// How long a voter lets nobody else in, from when it received the renewal.
    pub grant_hold_ms: Millis,
    /// Lifetime of the virtual address in the kernel, whole seconds.
    pub address_valid_s: u32,
    /// How often every member says that it is alive.
    pub heartbeat_ms: Millis,
    /// Silence on every path after which the peer counts as gone.
    pub peer_silence_ms: Millis,
    /// Whole seconds after which a watchdog device resets a hung machine; `None` where that would be too late.
    pub watchdog_s: Option<u32>,
    /// How long an operation of the record store may take before it is given up.
    pub store_timeout_ms: Millis,
    /// Quiet time after which failure counters are forgotten, and in which at most one automatic failover
    /// for a failed resource is made.
    pub window_ms: Millis,
}

/// A failover target outside of what can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "failover_target {0} ms is out of range: 2400 (fast) to 60000; below, ordinary scheduling delays would look like death"
)]
pub struct OutOfRange(pub Millis);

impl Timing {
    /// The profile for machines on a quiet network.
    pub const FAST_MS: Millis = 2_400;
    /// The profile unless asked otherwise.
    pub const DEFAULT_MS: Millis = 4_000;
    /// The profile for virtual machines that are paused for backups.
    pub const CALM_MS: Millis = 10_000;
    /// How often a standby asks the voters whether they would vote, only to know that they are there.
    pub const PROBE_MS: Millis = 2_000;
    const LONGEST_MS: Millis = 60_000;

    /// Everything that follows from the target; `window_ms` is the user's other number.
    pub fn derive(failover_target_ms: Millis, window_ms: Millis) -> Result<Self, OutOfRange> {
        if !(Self::FAST_MS..=Self::LONGEST_MS).contains(&failover_target_ms) {
            return Err(OutOfRange(failover_target_ms));
        }
        let holder_lease_ms = failover_target_ms / 2;
        let whole_s = (holder_lease_ms / 1000).max(1);
        let renew_ms = holder_lease_ms / 4;
        Ok(Self {
            failover_target_ms,
            renew_ms,
            holder_lease_ms,
            grant_hold_ms: (whole_s * 1000 + 1200).max(holder_lease_ms + 200),
            address_valid_s: u32::try_from(whole_s).unwrap_or(u32::MAX),
            heartbeat_ms: renew_ms,
            peer_silence_ms: renew_ms * 5 / 2,
            watchdog_s: u32::try_from(holder_lease_ms / 2000).ok().filter(|s| *s > 0),
            store_timeout_ms: renew_ms,
            window_ms,
        })
    }

    /// Silence after which the witness counts as gone: a standby asks it seldom, and one lost answer is no alarm.
    #[must_use]
    pub fn witness_silence_ms(&self) -> Millis {
        (self.peer_silence_ms + Self::PROBE_MS) * 2
    }

    /// The inequalities that safety of the address rests on; each with its sentence and whether it holds.
    #[must_use]
    pub fn inequalities(&self) -> Vec<(String, bool)> {
        let t = self;
        // A thousandth of drift on either side.
        let holder = t.holder_lease_ms + t.holder_lease_ms / 1000 + 1 + 100;
        let grantor = t.grant_hold_ms - t.grant_hold_ms / 1000 - 1;
        let kernel = u64::from(t.address_valid_s) * 1000 + 1200;
        let watchdog = t.watchdog_s.map(|s| {
            let holds = u64::from(s) * 2000 <= t.holder_lease_ms;
            (format!("watchdog {s} s <= half the holder lease {} ms", t.holder_lease_ms), holds)
        });
        let rest = vec![
            (
                format!(
                    "holder lease {} ms + 0.1 % drift + 100 ms <= grant hold {} ms - 0.1 % drift",
                    t.holder_lease_ms, t.grant_hold_ms
                ),
                holder <= grantor,
            ),
            (
                format!(
                    "address lifetime {} s + 1 s kernel granularity + 200 ms <= grant hold {} ms",
                    t.address_valid_s, t.grant_hold_ms
                ),
                kernel <= t.grant_hold_ms,
            ),
            (
                format!("two lost renewals ({} ms each) fit into the holder lease", t.renew_ms),
                t.renew_ms * 3 <= t.holder_lease_ms,
            ),
            (format!("grant hold {} ms >= 2000 ms", t.grant_hold_ms), t.grant_hold_ms >= 2000),
        ];
        rest.into_iter().chain(watchdog).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn every_target_in_range_keeps_every_inequality() {
        for target in Timing::FAST_MS..=Timing::LONGEST_MS {
            let timing = Timing::derive(target, 600_000).unwrap();
            for (sentence, holds) in timing.inequalities() {
                assert!(holds, "target {target} ms: {sentence}");
            }
        }
    }

    #[test]
    fn a_watchdog_counts_in_whole_seconds_and_is_none_where_that_is_too_late() {
        let of = |target| Timing::derive(target, 0).unwrap().watchdog_s;
        let seconds = [2_400, 3_999, 4_000, 7_999, 8_000, 10_000, 60_000].map(of);
        assert_eq!(seconds, [None, None, Some(1), Some(1), Some(2), Some(2), Some(15)]);
    }

    #[test]
    fn a_target_that_cannot_be_kept_is_refused() {
        assert_eq!(Timing::derive(2_399, 0), Err(OutOfRange(2_399)));
        assert_eq!(Timing::derive(60_001, 0), Err(OutOfRange(60_001)));
    }
}
