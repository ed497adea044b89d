//! Outages as a client sees them: times without an acknowledged row. Arithmetic only.

use serde::{Deserialize, Serialize};

/// A pause of this length is worth naming: no normal request takes that long.
pub(crate) const NOTABLE_MS: f64 = 500.0;

/// A time without any acknowledged row, in milliseconds since the client was started.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq)]
pub struct Gap {
    /// The last acknowledgement before it; zero when it began with the client.
    pub from_ms: f64,
    /// The first acknowledgement after it, or the client's end.
    pub to_ms: f64,
    /// Whether it lasted until the client was stopped: then its true length is not known.
    pub open: bool,
}

impl Gap {
    /// How long it was.
    #[must_use]
    pub fn length_ms(&self) -> f64 {
        self.to_ms - self.from_ms
    }
}

/// The gaps of one life of a client, found as acknowledgements come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gaps {
    last_ms: f64,
    longest: Option<Gap>,
    notable: Vec<Gap>,
}

impl Gaps {
    /// An acknowledgement came.
    pub(crate) fn acknowledged(&mut self, at_ms: f64) {
        self.close(at_ms, false);
        self.last_ms = self.last_ms.max(at_ms);
    }

    /// The client was stopped. Returns the longest gap, and all that are notable.
    pub(crate) fn end(mut self, at_ms: f64) -> (Option<Gap>, Vec<Gap>) {
        self.close(at_ms, true);
        (self.longest, self.notable)
    }

    fn close(&mut self, to_ms: f64, open: bool) {
        let gap = Gap { from_ms: self.last_ms, to_ms, open };
        if self.longest.is_none_or(|longest| gap.length_ms() > longest.length_ms()) {
            self.longest = Some(gap);
        }
        if gap.length_ms() > NOTABLE_MS {
            self.notable.push(gap);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(acknowledged: &[f64], end: f64) -> (Option<Gap>, Vec<Gap>) {
        let mut gaps = Gaps::default();
        acknowledged.iter().for_each(|at| gaps.acknowledged(*at));
        gaps.end(end)
    }

    #[test]
    fn the_longest_time_between_two_acknowledgements_is_the_outage() {
        let outage = Gap { from_ms: 40.0, to_ms: 2540.0, open: false };
        assert_eq!(gaps(&[20.0, 40.0, 2540.0, 2560.0], 2570.0), (Some(outage), vec![outage]));
    }

    #[test]
    fn an_outage_that_never_ended_counts_until_the_end() {
        let outage = Gap { from_ms: 20.0, to_ms: 1000.0, open: true };
        assert_eq!(gaps(&[20.0], 1000.0), (Some(outage), vec![outage]));
        let all = Gap { from_ms: 0.0, to_ms: 900.0, open: true };
        assert_eq!(gaps(&[], 900.0), (Some(all), vec![all]));
    }

    #[test]
    fn short_pauses_are_no_outages() {
        let (longest, notable) = gaps(&[20.0, 520.0], 530.0);
        assert_eq!(longest.map(|gap| gap.length_ms()), Some(500.0));
        assert_eq!(notable, []);
    }
}
