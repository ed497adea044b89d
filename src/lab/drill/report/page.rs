//! The record as one page that needs nothing else: no script, no other file, no network. Pure: record in, text out.

use anyhow::Context as _;
use minijinja::value::Serde;
use minijinja::{Environment, Value};
use serde::Serialize;

use super::plot;
use crate::drill::record::{Asked, Audit, Client, Drill, Latency, Record, Resync, Told};

const TEMPLATE: &str = include_str!("page.html");

/// What the template is given.
#[derive(Serialize)]
struct Page<'a> {
    program: &'a str,
    at: &'a str,
    machine: String,
    pair: &'a str,
    stack: &'a str,
    system: &'a str,
    client: &'a Client,
    /// What a request asks for is a row.
    of_rows: bool,
    passed: bool,
    drills: Vec<Section<'a>>,
    left_out: Option<String>,
}

/// A drill, its figures as they are read.
#[derive(Serialize)]
struct Section<'a> {
    id: String,
    name: &'a str,
    title: &'a str,
    done: &'a str,
    place: &'a str,
    active: &'a str,
    at: &'a str,
    passed: bool,
    reason: Option<&'a str>,
    outage: Option<String>,
    recovery: Option<String>,
    rows: u64,
    checked: u64,
    lost: String,
    unchecked: Option<&'a str>,
    errors: u64,
    kinds: Vec<String>,
    pause: Option<String>,
    audit: Option<&'a Audit>,
    restored: Option<String>,
    resync: Option<String>,
    latency: Vec<LatencyRow>,
    plot: Value,
    parts: Option<Value>,
    events: Vec<EventRow<'a>>,
    unread: &'a [String],
}

#[derive(Serialize)]
struct LatencyRow {
    when: &'static str,
    latency: Latency,
}

#[derive(Serialize)]
struct EventRow<'a> {
    number: usize,
    at: String,
    host: &'a str,
    by: &'a str,
    text: &'a str,
}

/// Renders the page.
pub(super) fn render(record: &Record) -> anyhow::Result<String> {
    let mut templates = Environment::new();
    // The name decides that every value is escaped.
    templates.add_template("page.html", TEMPLATE).context("read the template of the report")?;
    let template = templates.get_template("page.html").context("find the template of the report")?;
    let page = template.render(Serde(page(record))).context("render the report of the drills")?;
    Ok(page + "\n")
}

fn page(record: &Record) -> Page<'_> {
    Page {
        program: &record.program,
        at: &record.at,
        machine: record.machine.to_string(),
        pair: &record.pair,
        stack: &record.stack,
        system: &record.system,
        client: &record.client,
        of_rows: record.client.asks_for == Asked::Rows,
        passed: record.passed(),
        drills: record.drills.iter().zip(1..).map(|(drill, number)| section(drill, number)).collect(),
        left_out: record
            .left_out
            .as_ref()
            .map(|left| format!("Not begun: {}. {}", left.drills.join(", "), left.because)),
    }
}

fn section(drill: &Drill, number: usize) -> Section<'_> {
    let outage = drill.outage.as_ref();
    let recovery = outage.and_then(|outage| outage.database_recovery_ms);
    let split = outage.filter(|outage| !outage.parts.is_empty());
    let id = format!("drill-{number}");
    Section {
        name: &drill.name,
        title: drill.title,
        done: drill.done,
        place: &drill.place,
        active: &drill.active,
        at: &drill.at,
        passed: drill.passed,
        reason: drill.reason.as_deref(),
        outage: outage
            .map(|outage| format!("{}{:.2} s", if outage.open { "> " } else { "" }, outage.length_s)),
        recovery: recovery.map(|ms| format!("{ms:.0} ms")),
        rows: drill.rows.acknowledged,
        checked: drill.rows.checked,
        lost: drill.lost(),
        unchecked: drill.rows.unchecked.as_deref(),
        errors: drill.errors.total,
        kinds: drill.errors.kinds.iter().map(|(kind, count)| format!("{count} × {kind}")).collect(),
        pause: drill.rows.pause_s.map(|s| seconds(s * 1000.0)),
        audit: drill.audit.as_ref(),
        restored: drill.restored_ms.map(seconds),
        resync: drill.resync.as_ref().map(caught_up),
        latency: latencies(drill),
        plot: Value::from_safe_string(plot::requests(drill, &format!("{id}-plot"))),
        parts: split.map(|outage| Value::from_safe_string(plot::parts(outage, &format!("{id}-parts")))),
        events: drill.events.iter().zip(1..).map(|(event, number)| event_row(event, number)).collect(),
        unread: &drill.unread,
        id,
    }
}

fn latencies(drill: &Drill) -> Vec<LatencyRow> {
    let rows = [("before the fault", drill.latency.before), ("from the fault on", drill.latency.after)];
    rows.into_iter().filter_map(|(when, latency)| Some(LatencyRow { when, latency: latency? })).collect()
}

fn event_row(event: &Told, number: usize) -> EventRow<'_> {
    let Told { at_ms, host, by, text } = event;
    let at = format!("{:+.3}", at_ms / 1000.0);
    EventRow { number, at, host: host.as_deref().unwrap_or_default(), by, text }
}

fn caught_up(resync: &Resync) -> String {
    let mib = |kib: f64| format!("{:.1} MiB", kib / 1024.0);
    let copying = resync.copying_ms.map(|ms| format!(", {ms:.0} ms of it for copying")).unwrap_or_default();
    format!(
        "the disk lacked {} when the fault was taken back; {} were sent, and {} later both disks were UpToDate{copying}",
        mib(resync.lacking_kib),
        mib(resync.sent_kib),
        seconds(resync.until_up_to_date_ms)
    )
}

fn seconds(ms: f64) -> String {
    format!("{:.2} s", ms / 1000.0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::drill::record::{LeftOut, tests::drill};
    use crate::machine::Machine;

    /// Two drills, the second of which has lost rows, and one that was not begun.
    pub(in crate::drill) fn record() -> Record {
        let mut failed = drill();
        failed.passed = false;
        failed.reason = Some("2 of 5 <acknowledged> rows are missing".to_owned());
        failed.rows.lost = 2;
        Record {
            program: "futago 0.0.0".to_owned(),
            at: "2026-11-30T10:57:00Z".to_owned(),
            machine: Machine::look().unwrap(),
            pair: "two hosts".to_owned(),
            stack: "lamp".to_owned(),
            system: "futago, default".to_owned(),
            client: Client { asks_for: Asked::Rows, pace: crate::load::PACE, way: "directly".to_owned() },
            drills: vec![drill(), failed],
            left_out: Some(LeftOut { drills: vec!["resync".to_owned()], because: "ha-a is off".to_owned() }),
        }
    }

    #[test]
    fn whatever_was_said_is_text_and_no_markup() {
        let page = render(&record()).unwrap();
        assert!(page.contains("2 of 5 &lt;acknowledged&gt; rows are missing"), "{page}");
        assert!(!page.contains("<acknowledged>"));
        // Pictures are markup.
        assert_eq!(page.matches("<svg ").count(), 4, "{page}");
    }

    #[test]
    fn the_page_needs_nothing_but_itself() {
        let page = render(&record()).unwrap();
        for foreign in ["<script", "<link", "src=", "url(", "@import", "http:", "https:"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        for own in ["<title>", "prefers-color-scheme: dark", "@media print", "<caption>", "<desc "] {
            assert!(page.contains(own), "{own}");
        }
    }

    #[test]
    fn every_identity_is_there_once_and_every_reference_leads_somewhere() {
        let page = render(&record()).unwrap();
        let values = |start: &str| -> Vec<String> {
            page.split(start).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
        };
        let ids = values(" id=\"");
        let once: std::collections::BTreeSet<&String> = ids.iter().collect();
        assert_eq!(once.len(), ids.len(), "{ids:?}");
        let mut references = values("href=\"#");
        references
            .extend(values("aria-labelledby=\"").iter().flat_map(|two| two.split(' ')).map(str::to_owned));
        assert!(
            references.len() > 4 && references.iter().all(|id| ids.contains(id)),
            "{references:?} {ids:?}"
        );
    }
}
