//! Splits an outage into its parts, by what the programs said: each milestone ends the part before it. Arithmetic only.
//!
//! The parts always add up to the outage, whatever was or was not said.

use serde::Serialize;

use super::events::{Event, RECOVERED, RECOVERS, Voice};

/// The part of a database's start in which it makes good what a crash has left.
pub(super) const RECOVERY: &str = "database: crash recovery";
/// What follows the last milestone.
const REST: &str = "the first answer";

/// A part of an outage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Part {
    pub(super) name: String,
    /// Milliseconds; zero is the beginning of the outage.
    pub(super) from_ms: f64,
    pub(super) to_ms: f64,
}

impl Part {
    pub(super) fn length_ms(&self) -> f64 {
        super::record::tenths(self.to_ms - self.from_ms)
    }
}

/// Splits the time between two moments, in microseconds of the calendar. `events` are in the order of time; what was
/// said on the host `silent` does not count: it is gone.
pub(super) fn split(from_us: u64, to_us: u64, events: &[Event], silent: Option<&str>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut before = Before::default();
    let mut mark = from_us;
    for event in events.iter().filter(|event| Some(event.host.as_str()) != silent) {
        let Some(name) = before.ends(event) else { continue };
        if event.at_us <= from_us {
            // A row that was under way came after it; what follows has its meaning from it all the same.
            continue;
        }
        // The address answers a little before the manager says that everything runs.
        let end = event.at_us.min(to_us);
        extend(&mut parts, name, (mark, end), from_us);
        mark = end;
        if end == to_us {
            break;
        }
    }
    if mark < to_us {
        extend(&mut parts, REST.to_owned(), (mark, to_us), from_us);
    }
    parts
}

fn extend(parts: &mut Vec<Part>, name: String, (from, to): (u64, u64), zero: u64) {
    let ms = |us: u64| super::record::ms_between(zero, us);
    match parts.last_mut() {
        Some(last) if last.name == name => last.to_ms = ms(to),
        _ => parts.push(Part { name, from_ms: ms(from), to_ms: ms(to) }),
    }
}

/// What was said before and gives the next sentence its meaning.
#[derive(Default)]
struct Before {
    leaving: bool,
    promoted: bool,
    recovering: bool,
    recovered: bool,
}

impl Before {
    /// The name of the part that a sentence ends.
    fn ends(&mut self, event: &Event) -> Option<String> {
        let text = event.text.as_str();
        match event.voice {
            Voice::Manager => self.of_manager(text).map(str::to_owned),
            Voice::Replication => self.of_replication(text).map(str::to_owned),
            Voice::Systemd => self.of_systemd(text),
            Voice::Database => self.of_database(text).map(str::to_owned),
        }
    }

    fn of_manager(&mut self, text: &str) -> Option<&'static str> {
        let starts = |word: &str| text.starts_with(word);
        if starts("switchover to ") {
            self.leaving = true;
            Some("the manager takes the order")
        } else if starts("failover to ") {
            self.leaving = true;
            Some("the manager decides to move")
        } else if text.contains(" failed on ") || text.contains(" is gone: ") {
            Some("the manager notices the failure")
        } else if starts("the gateway ") {
            Some("the manager misses the gateway")
        } else if text.contains(" becomes the primary, term ") {
            Some("the lease of the lost host ends, vote")
        } else if text.contains(" is lost to replication: ") {
            Some("recorded: one disk has to do")
        } else if text.contains(" is the primary of term ") {
            Some("handed over by the record")
        } else if starts("the stack runs on ") {
            Some("address")
        } else {
            None
        }
    }

    fn of_replication(&mut self, text: &str) -> Option<&'static str> {
        match text {
            "role:Primary -> Secondary" => Some("unmount and demote"),
            "role:Secondary -> Primary" => {
                self.promoted = true;
                Some("promote the replica")
            }
            _ if text.starts_with("connection:Connected -> Connecting") => {
                Some("replication notices that the peer is lost")
            }
            _ => None,
        }
    }

    fn of_systemd(&mut self, text: &str) -> Option<String> {
        let (verb, unit) = text.split_once(' ')?;
        if unit.starts_with("futago-") {
            return None;
        }
        let what = match unit {
            "mariadb.service" => "database",
            "apache2.service" => "web server",
            other => other.trim_end_matches(".service"),
        };
        match verb {
            // The address goes first and without a word.
            "Stopped" if std::mem::take(&mut self.leaving) => Some(format!("address and {what}: stop")),
            "Stopped" => Some(format!("{what}: stop")),
            "Started" if what == "database" && std::mem::take(&mut self.recovered) => {
                Some("database: open for clients".to_owned())
            }
            "Started" => Some(format!("{what}: start")),
            "Starting" if std::mem::take(&mut self.promoted) => Some("mount the file system".to_owned()),
            _ => None,
        }
    }

    fn of_database(&mut self, text: &str) -> Option<&'static str> {
        if text.contains(RECOVERS) {
            self.recovering = true;
            return Some("database: start of the process");
        }
        if text.contains(RECOVERED) && std::mem::take(&mut self.recovering) {
            self.recovered = true;
            return Some(RECOVERY);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at_us: u64, host: &str, voice: Voice, text: &str) -> Event {
        Event { at_us, host: host.to_owned(), voice, text: text.to_owned() }
    }

    fn takeover() -> Vec<Event> {
        use Voice::{Database, Manager, Replication, Systemd};
        vec![
            event(
                1_010,
                "ha-b",
                Manager,
                "address failed on ha-b (event: interface eth0 is down): restart 1 of 2",
            ),
            event(
                1_501_000,
                "ha-a",
                Replication,
                "connection:Connected -> Connecting: the peer was silent for 1500 ms",
            ),
            event(3_601_000, "ha-a", Manager, "ha-a becomes the primary, term 3: ha-b is silent"),
            event(3_611_000, "ha-a", Replication, "role:Secondary -> Primary"),
            event(3_661_000, "ha-a", Systemd, "Starting mariadb.service"),
            event(3_841_000, "ha-a", Database, "InnoDB: Starting crash recovery from checkpoint LSN=57008"),
            event(3_851_000, "ha-a", Database, "InnoDB: 128 rollback segments are active"),
            event(3_901_000, "ha-a", Systemd, "Started mariadb.service"),
            event(3_961_000, "ha-a", Systemd, "Started apache2.service"),
            event(
                4_021_000,
                "ha-a",
                Manager,
                "the stack runs on ha-a, 426 ms after the begin of its takeover",
            ),
        ]
    }

    #[test]
    fn a_takeover_is_told_by_its_parts_and_recovery_stands_apart() {
        let parts = split(1_000, 4_001_000, &takeover(), Some("ha-b"));
        let told: Vec<(&str, f64)> =
            parts.iter().map(|part| (part.name.as_str(), part.length_ms())).collect();
        let expected = [
            ("replication notices that the peer is lost", 1500.0),
            ("the lease of the lost host ends, vote", 2100.0),
            ("promote the replica", 10.0),
            ("mount the file system", 50.0),
            ("database: start of the process", 180.0),
            (RECOVERY, 10.0),
            ("database: open for clients", 50.0),
            ("web server: start", 60.0),
            ("address", 40.0),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn parts_add_up_to_the_outage_whatever_was_said() {
        for end in [500_000, 3_700_000, 4_001_000, 5_000_000] {
            for events in [takeover(), Vec::new()] {
                let parts = split(1_000, end, &events, None);
                let sum: f64 = parts.iter().map(Part::length_ms).sum();
                let whole = super::super::record::ms_between(1_000, end);
                assert!((sum - whole).abs() < 0.5, "{end}: {sum} of {whole}: {parts:?}");
                assert!(parts.windows(2).all(|two| two[0].to_ms == two[1].from_ms), "{parts:?}");
            }
        }
    }

    #[test]
    fn the_address_leaves_together_with_what_is_stopped_first() {
        let events = [
            event(10_000, "ha-a", Voice::Manager, "switchover to ha-b: an operator has asked for it"),
            event(20_000, "ha-a", Voice::Systemd, "Stopped apache2.service"),
            event(30_000, "ha-a", Voice::Systemd, "Stopped mariadb.service"),
        ];
        let names = |from_us: u64| -> Vec<String> {
            split(from_us, 30_000, &events, None).into_iter().map(|part| part.name).collect()
        };
        let expected = ["the manager takes the order", "address and web server: stop", "database: stop"];
        assert_eq!(names(0), expected);
        // A row was answered after the order.
        assert_eq!(names(11_000), expected[1..]);
    }

    #[test]
    fn a_clean_start_of_the_database_has_no_recovery() {
        let events = [
            event(10_000, "ha-a", Voice::Database, "InnoDB: 128 rollback segments are active"),
            event(20_000, "ha-a", Voice::Systemd, "Started mariadb.service"),
        ];
        let parts = split(0, 20_000, &events, None);
        assert_eq!(parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>(), ["database: start"]);
    }
}
