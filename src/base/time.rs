//! Moments as people and logs write them: UTC, to the second. No time zones, no leap seconds.

use std::time::{SystemTime, UNIX_EPOCH};

const SECONDS_PER_DAY: u64 = 86_400;

/// For names of files, where it sorts: `20261124T230124Z`. A time before 1970 is shown as 1970.
#[must_use]
pub fn compact(at: SystemTime) -> String {
    let [year, month, day, hour, minute, second] = fields(at);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// RFC 3339: `2026-11-24T23:01:24Z`. A time before 1970 is shown as 1970.
#[must_use]
pub fn rfc3339(at: SystemTime) -> String {
    let [year, month, day, hour, minute, second] = fields(at);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn fields(at: SystemTime) -> [u64; 6] {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (year, month, day) = civil(seconds / SECONDS_PER_DAY);
    let rest = seconds % SECONDS_PER_DAY;
    [year, month, day, rest / 3600, rest / 60 % 60, rest % 60]
}

/// Year, month and day of a number of days since 1970-01-01, by counting in 400-year cycles from 0000-03-01.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn time_stamps_are_dates() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(compact(at(0)), "19700101T000000Z");
        assert_eq!(compact(at(951_826_154)), "20000229T120914Z");
        assert_eq!(rfc3339(at(1_795_561_284)), "2026-11-24T23:01:24Z");
    }
}
