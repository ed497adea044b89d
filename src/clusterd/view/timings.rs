//! The text of `futago cluster timings`: each time with what it is for, and the inequalities that must hold.

use cluster::timing::{Millis, Timing};

use super::page::Page;
use super::tone::Tone;
use super::words::time;

/// Writes all times; whether every inequality holds.
pub(crate) fn write(page: &mut Page, timing: &Timing) -> bool {
    let target = format!("Failover target {}", time(timing.failover_target_ms));
    page.heading(&target);
    let rows: [(&str, Millis, &str); 8] = [
        ("heartbeat", timing.heartbeat_ms, "every member says that it is alive"),
        ("renew", timing.renew_ms, "the primary renews its lease"),
        ("holder lease", timing.holder_lease_ms, "the primary acts on no renewal older than this"),
        ("grant hold", timing.grant_hold_ms, "voters let nobody else in before this"),
        ("peer silence", timing.peer_silence_ms, "without a word on any path: the member is gone"),
        ("address lifetime", u64::from(timing.address_valid_s) * 1000, "the kernel itself drops the address"),
        ("store timeout", timing.store_timeout_ms, "an operation on the record is given up"),
        (
            "window",
            timing.window_ms,
            "at most one failover for a failed resource; then failures are forgotten",
        ),
    ];
    for (name, ms, sentence) in rows {
        row(page, name, &exact(ms), sentence);
    }
    match timing.watchdog_s {
        Some(s) => row(
            page,
            "watchdog",
            &exact(u64::from(s) * 1000),
            "a hung machine is reset, where it has a device",
        ),
        None => row(
            page,
            "watchdog",
            "none",
            "a device counts in whole seconds: half the holder lease must be one at least",
        ),
    }
    page.heading("What must hold");
    let inequalities = timing.inequalities();
    for (sentence, holds) in &inequalities {
        let (tone, word) = if *holds { (Tone::Good, "  yes") } else { (Tone::Bad, "  NO") };
        page.sentence(&[(7, tone, word)], Tone::Plain, sentence);
    }
    inequalities.iter().all(|(_, holds)| *holds)
}

fn row(page: &mut Page, name: &str, value: &str, sentence: &str) {
    let (name, value) = (format!("  {name}"), format!("{value:>9}"));
    page.sentence(&[(19, Tone::Strong, &name), (12, Tone::Plain, &value)], Tone::Plain, sentence);
}

fn exact(ms: Millis) -> String {
    if ms < 60_000 { format!("{ms} ms") } else { time(ms) }
}

/// A target as typed: a profile, or a time such as `4s`, `2.4s`, `3500ms`, `1m`.
///
/// # Errors
/// What it may be.
pub(crate) fn parse_target(text: &str) -> Result<Millis, String> {
    let wrong = || format!("`{text}` is no failover target; write fast, default, calm or a time such as 4s");
    match text {
        "fast" => return Ok(Timing::FAST_MS),
        "default" => return Ok(Timing::DEFAULT_MS),
        "calm" => return Ok(Timing::CALM_MS),
        _ => {}
    }
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: Millis = match unit {
        "ms" => 1,
        "s" | "" => 1000,
        "m" => 60_000,
        _ => return Err(wrong()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |s: &str| !s.is_empty() && s.len() <= 6 && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(wrong());
    }
    let parse = |s: &str| s.parse::<Millis>().map_err(|_| wrong());
    let scale = (0..fraction.len()).fold(1, |scale, _| scale * 10);
    Ok(parse(whole)? * factor + parse(fraction)? * factor / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_typed() {
        assert_eq!(parse_target("fast"), Ok(2_400));
        assert_eq!(parse_target("2.4s"), Ok(2_400));
        assert_eq!(parse_target("4"), Ok(4_000));
        assert_eq!(parse_target("3500ms"), Ok(3_500));
        assert_eq!(parse_target("1m"), Ok(60_000));
        for wrong in ["", "s", "4h", "-4s", "4,5s", "1.2.3s", "9999999s"] {
            assert!(parse_target(wrong).is_err(), "{wrong}");
        }
    }
}
