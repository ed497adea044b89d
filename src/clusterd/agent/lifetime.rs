//! How long the kernel may keep the virtual address without hearing from us again.
//!
//! Rule: it is gone before anybody else may act. A renewal sent at `s` lets us act until `s + L` (holder lease);
//! voters let nobody else in before `s + H` (grant hold). An address whose lifetime of `n` seconds was set at `r`
//! is gone by `r + n + 1 s`, the granularity of the kernel's check (net/ipv4/devinet.c `check_lifetime`,
//! net/ipv6/addrconf.c `addrconf_verify_rtnl`). So `r + n + 1 s <= s + H`, with `s = until - L`.

use cluster::timing::{Millis, Timing};

/// The kernel looks at lifetimes at least this often while one is about to end.
const GRANULARITY_MS: Millis = 1_000;

/// Seconds of lifetime that may be set now; `None` when even one is too long, or the right to act has ended.
pub(super) fn seconds(until: Option<Millis>, now: Millis, timing: &Timing) -> Option<u32> {
    let until = until.filter(|until| now < *until)?;
    let others = until + timing.grant_hold_ms.saturating_sub(timing.holder_lease_ms);
    let whole = others.saturating_sub(now + GRANULARITY_MS) / 1_000;
    let seconds = u32::try_from(whole).unwrap_or(u32::MAX).min(timing.address_valid_s);
    (seconds >= 1).then_some(seconds)
}

/// Whether a lifetime that was set no later than `now` ends in time: looked at again after it was set, because a
/// machine may stand still between a decision and its deed.
pub(super) fn is_in_time(seconds: u32, until: Option<Millis>, now: Millis, timing: &Timing) -> bool {
    let slack = timing.grant_hold_ms.saturating_sub(timing.holder_lease_ms);
    until.is_some_and(|until| now + u64::from(seconds) * 1_000 + GRANULARITY_MS <= until + slack)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_gone_before_anybody_else_may_act() {
        for target in Timing::FAST_MS..20_000 {
            let timing = Timing::derive(target, 0).unwrap();
            let sent = 1_000_000;
            let until = Some(sent + timing.holder_lease_ms);
            for late in (0..=timing.holder_lease_ms + 10).step_by(7) {
                let now = sent + late;
                if let Some(seconds) = seconds(until, now, &timing) {
                    let gone = now + u64::from(seconds) * 1_000 + GRANULARITY_MS;
                    assert!(gone <= sent + timing.grant_hold_ms, "{target} ms, {late} ms late");
                    assert!(is_in_time(seconds, until, now, &timing));
                }
            }
        }
    }

    #[test]
    fn a_renewal_answered_in_time_gives_the_full_lifetime() {
        for target in Timing::FAST_MS..20_000 {
            let timing = Timing::derive(target, 0).unwrap();
            let until = Some(1_000_000 + timing.holder_lease_ms);
            assert_eq!(seconds(until, 1_000_100, &timing), Some(timing.address_valid_s), "{target} ms");
        }
    }

    #[test]
    fn without_the_right_to_act_there_is_no_lifetime() {
        let timing = Timing::derive(Timing::DEFAULT_MS, 0).unwrap();
        assert_eq!(seconds(None, 5, &timing), None);
        assert_eq!(seconds(Some(5), 5, &timing), None);
        assert!(!is_in_time(1, None, 5, &timing));
    }
}
