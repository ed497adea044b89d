//! What the programs on both hosts said of a fault, from their journals: when it was noticed, what was decided, when
//! each part of the service stopped and started.
//!
//! The journal gives moments to the microsecond where the manager's own history has seconds, it outlives a power cut,
//! and all hosts of a lab have the machine's clock. Reading of text only.

use std::time::Duration;

use serde::Deserialize;

/// For a host to look through its journal.
pub(super) const LOOK: Duration = Duration::from_secs(30);
/// Whose words are always read.
const OURS: [&str; 2] = ["futago-clusterd", "futago-replicad"];
/// Events of one host that are kept: a drill has some thirty, a service that flaps must not fill the report.
const MAX_EVENTS: usize = 200;

/// How the database begins and ends to make good what a crash has left.
pub(super) const RECOVERS: &str = "Starting crash recovery";
pub(super) const RECOVERED: &str = "rollback segments are active";

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    Manager,
    Replication,
    Systemd,
    Database,
}

impl Voice {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Replication => "replication",
            Self::Systemd => "systemd",
            Self::Database => "database",
        }
    }
}

/// Something that was said.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    /// Microseconds of the calendar since 1970.
    pub(super) at_us: u64,
    pub(super) host: String,
    pub(super) voice: Voice,
    pub(super) text: String,
}

/// The command that shows what our daemons and these units have said since a moment of the host's clock. A unit that a host
/// does not have says nothing.
pub(super) fn command<'a>(units: impl IntoIterator<Item = &'a str>, since_us: u64) -> String {
    let units: Vec<String> = OURS.into_iter().chain(units).map(|unit| format!("--unit {unit}")).collect();
    format!(
        "journalctl --output json --output-fields MESSAGE,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT --no-pager \
         --since @{} {}",
        since_us / 1_000_000,
        units.join(" ")
    )
}

/// What that command has shown, oldest first.
pub(super) fn read(text: &str, host: &str, since_us: u64) -> Vec<Event> {
    let lines = text.lines().filter_map(|line| parse(line, host));
    let mut events: Vec<Event> = lines.filter(|event| event.at_us >= since_us).take(MAX_EVENTS).collect();
    only_after_recovery(&mut events);
    events
}

/// The database says at every start that it has its rollback segments; that tells something only where it ends a
/// recovery.
fn only_after_recovery(events: &mut Vec<Event>) {
    let mut recovering = false;
    events.retain(|event| {
        recovering |= event.text.contains(RECOVERS);
        !event.text.contains(RECOVERED) || std::mem::take(&mut recovering)
    });
}

/// One line of the journal; some messages are bytes and no text.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    at_us: String,
    #[serde(rename = "MESSAGE")]
    message: String,
    #[serde(rename = "SYSLOG_IDENTIFIER", default)]
    identifier: String,
    #[serde(rename = "_SYSTEMD_UNIT", default)]
    unit: String,
}

/// `None` for what does not matter here.
fn parse(line: &str, host: &str) -> Option<Event> {
    let line: Line = serde_json::from_str(line).ok()?;
    let at_us = line.at_us.parse().ok()?;
    let (voice, text) = match (line.identifier.as_str(), line.unit.as_str()) {
        ("futago", "futago-clusterd.service") => (Voice::Manager, of_manager(&line.message)?),
        ("futago", "futago-replicad.service") => (Voice::Replication, of_replication(&line.message)?),
        ("systemd", _) => (Voice::Systemd, of_systemd(&line.message)?),
        ("mariadbd", _) => (Voice::Database, of_database(&line.message)?),
        _ => return None,
    };
    Some(Event { at_us, host: host.to_owned(), voice, text })
}

/// Level and text of a line of one of our daemons; a sentence's second line has no level.
fn leveled(message: &str) -> Option<(&str, &str)> {
    let (level, text) = message.trim_start().split_once(' ')?;
    ["ERROR", "WARN", "INFO"].contains(&level).then(|| (level, text.trim()))
}

fn of_manager(message: &str) -> Option<String> {
    const NOISE: [&str; 7] = [
        "path ",
        "operator: cleanup",
        "no watchdog",
        "no vote in",
        "r0 cannot be seen",
        "no longer: r0 cannot be seen",
        "connected to systemd",
    ];
    let (_, text) = leveled(message)?;
    (!NOISE.iter().any(|noise| text.starts_with(noise))).then(|| text.to_owned())
}

fn of_replication(message: &str) -> Option<String> {
    const NOISE: [&str; 2] = ["declare this process", "tell systemd"];
    let (level, text) = leveled(message)?;
    let text =
        text.strip_prefix("resource{name=").and_then(|rest| rest.split_once("}: ")).map_or(text, |at| at.1);
    let of_state = ["role:", "disk:", "replication:"].iter().any(|start| text.starts_with(start));
    let on_the_way = text.ends_with("-> WFBitMapS") || text.ends_with("-> WFBitMapT");
    let matters =
        if level == "INFO" { of_state && !on_the_way } else { !NOISE.iter().any(|n| text.starts_with(n)) };
    matters.then(|| text.to_owned())
}

fn of_systemd(message: &str) -> Option<String> {
    // `Starting mariadb.service - MariaDB 10.11 database server...`
    let (verb, rest) = message.split_once(' ')?;
    if ["Starting", "Started", "Stopping", "Stopped"].contains(&verb) {
        return Some(format!("{verb} {}", rest.split(' ').next().unwrap_or_default()));
    }
    message.contains(": Main process exited").then(|| message.to_owned())
}

fn of_database(message: &str) -> Option<String> {
    const TOLD: [&str; 3] = [RECOVERS, RECOVERED, "ready for connections"];
    let (_, text) = message.split_once("[Note] ")?;
    TOLD.iter().any(|told| text.contains(told)).then(|| text.trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(identifier: &str, unit: &str, message: &str) -> Option<(Voice, String)> {
        let line = serde_json::json!({
            "__REALTIME_TIMESTAMP": "1796036239025165",
            "SYSLOG_IDENTIFIER": identifier,
            "_SYSTEMD_UNIT": unit,
            "MESSAGE": message,
        });
        let event = parse(&line.to_string(), "ha-a")?;
        assert_eq!((event.at_us, event.host.as_str()), (1_796_036_239_025_165, "ha-a"));
        Some((event.voice, event.text))
    }

    #[test]
    fn what_matters_of_each_program_is_kept_without_its_frame() {
        let manager = |text| said("futago", "futago-clusterd.service", text);
        let replication = |text| said("futago", "futago-replicad.service", text);
        let kept = |voice, text: &str| Some((voice, text.to_owned()));
        let becomes = "ha-a becomes the primary, term 3: ha-b is silent";
        assert_eq!(manager(&format!("  WARN {becomes}")), kept(Voice::Manager, becomes));
        let role = "role:Secondary -> Primary";
        assert_eq!(
            replication(&format!("  INFO resource{{name=r0}}: {role}")),
            kept(Voice::Replication, role)
        );
        assert_eq!(
            said("systemd", "init.scope", "Started mariadb.service - MariaDB 10.11 database server."),
            kept(Voice::Systemd, "Started mariadb.service")
        );
        assert_eq!(
            said(
                "mariadbd",
                "mariadb.service",
                "2026-11-30 10:57:19 0 [Note] InnoDB: Starting crash recovery from checkpoint LSN=5"
            ),
            kept(Voice::Database, "InnoDB: Starting crash recovery from checkpoint LSN=5")
        );
    }

    #[test]
    fn rollback_segments_are_told_only_where_they_end_a_recovery() {
        let event = |text: &str| Event {
            at_us: 0,
            host: "ha-a".to_owned(),
            voice: Voice::Database,
            text: text.to_owned(),
        };
        let all = [RECOVERED, RECOVERS, RECOVERED, "ready for connections", RECOVERED].map(event);
        let mut kept = all.to_vec();
        only_after_recovery(&mut kept);
        assert_eq!(kept, all[1..4]);
    }

    #[test]
    fn what_says_nothing_of_the_fault_is_left_out() {
        for (identifier, unit, text) in [
            ("futago", "futago-clusterd.service", "  INFO path 1 to ha-b.example.com is up"),
            ("futago", "futago-clusterd.service", "   bring it up: futago replica up r0"),
            ("futago", "futago-replicad.service", "  INFO resource{name=r0}: replication:Off -> WFBitMapS"),
            ("futago", "futago-replicad.service", "  INFO resource{name=r0}: self 0004:0000 bits:0"),
            ("systemd", "init.scope", "apache2.service: Deactivated successfully."),
            ("mariadbd", "mariadb.service", "2026-11-30 10:57:19 0 [Note] InnoDB: Using io_uring"),
            ("sshd", "ssh.service", "Server listening on 0.0.0.0 port 22."),
        ] {
            assert_eq!(said(identifier, unit, text), None, "{text}");
        }
        assert_eq!(parse(r#"{"__REALTIME_TIMESTAMP":"1","MESSAGE":[27,91]}"#, "ha-a"), None);
    }
}
