//! What is kept of drills, for programs and for the page. Everything follows from what client, auditor and programs
//! said: arithmetic only.
//!
//! All times of a drill are milliseconds since its fault was made; what was before is negative.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::anyhow;
use serde::{Serialize, Serializer};

use super::events::Event;
use super::outage::{self, Part};
use crate::load::{AuditReport, ClientReport, Pace};
use crate::machine::Machine;

/// A pause shorter than this is no outage that could be split into parts: two requests of the client or three that
/// were slow.
const SPLIT_FROM_MS: f64 = 100.0;

/// All drills of one run of the verb.
#[derive(Debug, Serialize)]
pub(crate) struct Record {
    /// Name and version.
    pub(super) program: String,
    /// When it began, RFC 3339.
    pub(super) at: String,
    pub(super) machine: Machine,
    /// Which hosts, for who reads.
    pub(super) pair: String,
    pub(super) stack: String,
    pub(super) system: String,
    pub(super) client: Client,
    pub(super) drills: Vec<Drill>,
    /// Drills that were not begun, and why.
    pub(super) left_out: Option<LeftOut>,
}

/// Who asks the service while things go wrong.
#[derive(Debug, Serialize)]
pub(super) struct Client {
    pub(super) asks_for: Asked,
    #[serde(flatten)]
    pub(super) pace: Pace,
    /// How its requests get to the service.
    pub(super) way: String,
}

/// What a client asks for, and so what an outage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Asked {
    /// That a row is written: each acknowledged request is a row.
    Rows,
    /// The page of the site; rows are written beside it.
    Pages,
}

/// What was not done.
#[derive(Debug, Serialize)]
pub(super) struct LeftOut {
    pub(super) drills: Vec<String>,
    pub(super) because: String,
}

/// One drill.
#[derive(Debug, Serialize)]
pub(crate) struct Drill {
    pub(super) name: String,
    pub(super) title: &'static str,
    /// What was done, in a sentence.
    pub(super) done: &'static str,
    /// To which host, or between which.
    pub(super) place: String,
    /// Where the service ran.
    pub(super) active: String,
    /// When the fault was made, RFC 3339, and the same in milliseconds since 1970.
    pub(super) at: String,
    pub(super) at_unix_ms: u64,
    pub(super) passed: bool,
    /// Why it failed.
    pub(super) reason: Option<String>,
    /// The longest time between two acknowledged requests.
    pub(super) outage: Option<Outage>,
    pub(super) rows: Rows,
    pub(super) errors: Errors,
    /// None where nobody could look at the hosts from outside.
    pub(super) audit: Option<Audit>,
    pub(super) latency: Latencies,
    /// From the moment the fault was taken back until the pair was healthy; none where nothing is taken back.
    pub(super) restored_ms: Option<f64>,
    pub(super) resync: Option<Resync>,
    pub(super) events: Vec<Told>,
    /// Logs of hosts that could not be read.
    pub(super) unread: Vec<String>,
    pub(super) requests: Vec<Request>,
}

/// The longest time between two acknowledged requests.
#[derive(Debug, Serialize)]
pub(super) struct Outage {
    pub(super) length_s: f64,
    pub(super) from_ms: f64,
    pub(super) to_ms: f64,
    /// It lasted until the client was stopped.
    pub(super) open: bool,
    /// What it was spent on; empty for a pause that is none.
    pub(super) parts: Vec<Part>,
    /// Of these, the recovery of the database.
    pub(super) database_recovery_ms: Option<f64>,
}

/// What became of the rows.
#[derive(Debug, Serialize)]
pub(super) struct Rows {
    pub(super) acknowledged: u64,
    /// So many were looked for in the database afterwards.
    pub(super) checked: u64,
    pub(super) lost: usize,
    /// Why they could not be looked for.
    pub(super) unchecked: Option<String>,
    /// The longest time between two of them, where a request of the client is no row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pause_s: Option<f64>,
}

/// Requests that were not acknowledged: all, and by what they were.
#[derive(Debug, Serialize)]
pub(super) struct Errors {
    pub(super) total: u64,
    pub(super) kinds: BTreeMap<String, u64>,
}

/// What was seen of the hosts from outside.
#[derive(Debug, Serialize)]
pub(super) struct Audit {
    /// How often it was looked, and the longest time between two looks.
    pub(super) looks: u64,
    pub(super) longest_pause_ms: f64,
    /// How often both hosts could write the replicated file system.
    pub(super) two_writers: u64,
    /// How often two hosts answered for the virtual address.
    pub(super) two_answers: u64,
    pub(super) moves: usize,
}

/// Before the fault, and from then on.
#[derive(Debug, Serialize)]
pub(super) struct Latencies {
    pub(super) before: Option<Latency>,
    pub(super) after: Option<Latency>,
}

/// Of acknowledged requests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Latency {
    pub(super) count: usize,
    pub(super) median_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) worst_ms: f64,
}

/// How the disk that was left behind caught up.
#[derive(Debug, Serialize)]
pub(super) struct Resync {
    /// What it lacked when the fault was taken back, and what was sent until it was up to date.
    pub(super) lacking_kib: f64,
    pub(super) sent_kib: f64,
    /// From the moment the fault was taken back until both disks were UpToDate: a boot may be part of it.
    pub(super) until_up_to_date_ms: f64,
    /// Copying alone, by the log of the daemon that sent.
    pub(super) copying_ms: Option<f64>,
}

/// Something that happened.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    pub(super) at_ms: f64,
    /// The host; none for what the drill itself did or saw.
    pub(super) host: Option<String>,
    pub(super) by: &'static str,
    pub(super) text: String,
}

/// A request: when it was sent, and the latency in milliseconds or what went wrong.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Request {
    pub(super) sent_ms: f64,
    pub(super) answer: Result<f64, String>,
}

impl Serialize for Request {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.answer {
            Ok(latency_ms) => (self.sent_ms, latency_ms).serialize(serializer),
            Err(kind) => (self.sent_ms, kind).serialize(serializer),
        }
    }
}

impl Record {
    /// A record of nothing yet.
    pub(super) fn begin(pair: String, stack: String, system: String, client: Client) -> anyhow::Result<Self> {
        Ok(Self {
            program: format!("futago {}", env!("CARGO_PKG_VERSION")),
            at: base::time::rfc3339(SystemTime::now()),
            machine: Machine::look()?,
            pair,
            stack,
            system,
            client,
            drills: Vec::new(),
            left_out: None,
        })
    }

    /// Adds a drill. One that broke a promise is an error, of what is in the record all the same.
    pub(crate) fn add(&mut self, drill: Drill) -> anyhow::Result<()> {
        let broken = drill.reason.clone();
        self.drills.push(drill);
        broken.map_or(Ok(()), |reason| Err(anyhow!(reason)))
    }

    /// Whether every drill that was asked for was done and kept its promises.
    pub(crate) fn passed(&self) -> bool {
        self.left_out.is_none() && !self.drills.is_empty() && self.drills.iter().all(|drill| drill.passed)
    }
}

/// What a drill is, for who reads of it.
#[derive(Clone, Debug)]
pub(super) struct Deed {
    /// As the command line has it, and as tables have it.
    pub(super) name: String,
    pub(super) title: &'static str,
    /// What is done, in a sentence.
    pub(super) done: &'static str,
    /// To which host, or between which.
    pub(super) place: String,
    /// Where the service ran.
    pub(super) active: String,
    /// The host that has nothing to say any more.
    pub(super) silent: Option<String>,
    /// What is done once the fault is made.
    pub(super) afterwards: Option<&'static str>,
    /// Whether something is done to take it back.
    pub(super) is_taken_back: bool,
}

/// When things happened, in microseconds of the calendar since 1970.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    pub(super) struck_us: Option<u64>,
    /// All that belongs to the fault is done.
    pub(super) done_us: Option<u64>,
    pub(super) undone_us: Option<u64>,
    pub(super) in_sync_us: Option<u64>,
    pub(super) healthy_us: Option<u64>,
}

/// How a disk that was left behind caught up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copied {
    /// What it lacked when the fault was taken back, by the other one's bitmap.
    pub(super) lacking_kib: f64,
    /// What was sent to it from then on until it was up to date: also what was written meanwhile.
    pub(super) sent_kib: f64,
}

/// What the record of a drill is made of.
pub(super) struct Source<'a> {
    pub(super) deed: Deed,
    pub(super) client: &'a ClientReport,
    pub(super) rows: Rows,
    pub(super) audit: Option<Audit>,
    pub(super) marks: Marks,
    pub(super) copied: Option<Copied>,
    /// An error where it went wrong or a promise was broken.
    pub(super) outcome: &'a anyhow::Result<()>,
    /// In the order of time.
    pub(super) events: &'a [Event],
    pub(super) unread: Vec<String>,
}

impl Source<'_> {
    /// Makes the record.
    pub(super) fn drill(self) -> Drill {
        let Self { client, marks, .. } = self;
        // Without a fault there is nothing to count from but the client's start.
        let zero_us = marks.struck_us.unwrap_or(client.started_us);
        let zero_ms = ms_between(client.started_us, zero_us);
        let outage = self.outage(zero_us);
        let resync = self.resync();
        let events = self.told(zero_us, outage.as_ref());
        let between = |from: Option<u64>, to: Option<u64>| Some(ms_between(from?, to?));
        let Deed { name, title, done, place, active, is_taken_back, .. } = self.deed;
        Drill {
            name,
            title,
            done,
            place,
            active,
            at: base::time::rfc3339(moment(zero_us)),
            at_unix_ms: zero_us / 1000,
            passed: self.outcome.is_ok(),
            reason: self.outcome.as_ref().err().map(|error| format!("{error:#}")),
            rows: self.rows,
            errors: Errors { total: client.errors, kinds: client.kinds.clone() },
            audit: self.audit,
            latency: latencies(client, zero_ms),
            restored_ms: between(marks.undone_us.filter(|_| is_taken_back), marks.healthy_us),
            resync,
            events,
            unread: self.unread,
            requests: requests(client, zero_ms),
            outage,
        }
    }

    fn outage(&self, zero_us: u64) -> Option<Outage> {
        let client = self.client;
        let gap = client.longest?;
        let start = ms_between(zero_us, client.started_us);
        let split = gap.length_ms() >= SPLIT_FROM_MS;
        let us = |ms: f64| client.started_us.saturating_add(micros(ms));
        let silent = self.deed.silent.as_deref();
        let parts = split.then(|| outage::split(us(gap.from_ms), us(gap.to_ms), self.events, silent));
        let parts = parts.unwrap_or_default();
        let recovery: Vec<&Part> = parts.iter().filter(|part| part.name == outage::RECOVERY).collect();
        let sum = recovery.iter().map(|part| part.length_ms()).sum();
        Some(Outage {
            length_s: (gap.length_ms() / 10.0).round() / 100.0,
            from_ms: tenths(start + gap.from_ms),
            to_ms: tenths(start + gap.to_ms),
            open: gap.open,
            database_recovery_ms: (!recovery.is_empty()).then_some(sum),
            parts,
        })
    }

    fn resync(&self) -> Option<Resync> {
        let (copied, marks) = (self.copied?, self.marks);
        let (undone, in_sync) = (marks.undone_us?, marks.in_sync_us?);
        let said = |start: &str, end: &str| {
            let mut after = self.events.iter().filter(|event| event.at_us >= undone);
            let found = after.find(|event| event.text.starts_with(start) && event.text.ends_with(end));
            found.map(|event| event.at_us)
        };
        let begun = said("replication:", "-> SyncSource");
        let ended = said("replication:SyncSource", "-> Established");
        Some(Resync {
            lacking_kib: copied.lacking_kib,
            sent_kib: copied.sent_kib,
            until_up_to_date_ms: ms_between(undone, in_sync),
            copying_ms: begun.zip(ended).map(|(from, to)| ms_between(from, to)),
        })
    }

    /// What the programs said and what the drill did, in the order of time.
    fn told(&self, zero_us: u64, outage: Option<&Outage>) -> Vec<Told> {
        let mut told = self.own(zero_us, outage);
        told.extend(self.events.iter().map(|event| Told {
            at_ms: ms_between(zero_us, event.at_us),
            host: Some(event.host.clone()),
            by: event.voice.name(),
            text: event.text.clone(),
        }));
        told.sort_by(|a, b| a.at_ms.total_cmp(&b.at_ms));
        told
    }

    /// What the drill did and saw.
    fn own(&self, zero_us: u64, outage: Option<&Outage>) -> Vec<Told> {
        let (deed, marks) = (&self.deed, self.marks);
        let own = |at_ms: f64, text: &str| Told { at_ms, host: None, by: "drill", text: text.to_owned() };
        let at = |us: Option<u64>, text: &str| us.map(|us| own(ms_between(zero_us, us), text));
        let split = outage.filter(|outage| !outage.parts.is_empty());
        let closed = split.filter(|outage| !outage.open);
        // Where nothing is taken back, the pair is asked only when everything is over.
        let is = if deed.is_taken_back { "is" } else { "is found" };
        [
            at(marks.struck_us, &format!("fault made: {}", deed.title)),
            split.map(|outage| own(outage.from_ms, "the last answer before the outage")),
            closed.map(|outage| own(outage.to_ms, "service back: a request is answered")),
            deed.afterwards.and_then(|text| at(marks.done_us, text)),
            at(marks.undone_us.filter(|_| deed.is_taken_back), "fault taken back"),
            at(marks.in_sync_us, "both disks are UpToDate"),
            at(marks.healthy_us, &format!("the pair {is} healthy: PROTECTED on both hosts")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl Audit {
    pub(super) fn of(seen: &AuditReport) -> Self {
        Self {
            looks: seen.looks,
            longest_pause_ms: seen.longest_pause_ms,
            two_writers: seen.two_writers.count,
            two_answers: seen.two_answers.count,
            // The first is where the service was.
            moves: seen.moves.len().saturating_sub(1),
        }
    }
}

fn requests(client: &ClientReport, zero_ms: f64) -> Vec<Request> {
    let sent = |sent_ms: f64| tenths(sent_ms - zero_ms);
    let rows = client.rows.iter();
    let mut all: Vec<Request> = rows
        .map(|row| Request { sent_ms: sent(row.sent_ms), answer: Ok(tenths(row.acked_ms - row.sent_ms)) })
        .collect();
    let failed = client.failed.iter();
    all.extend(failed.map(|one| Request { sent_ms: sent(one.sent_ms), answer: Err(one.kind.clone()) }));
    all.sort_by(|a, b| a.sent_ms.total_cmp(&b.sent_ms));
    all
}

fn latencies(client: &ClientReport, zero_ms: f64) -> Latencies {
    let rows = &client.rows;
    let of = |is_before: bool| {
        let side = rows.iter().filter(|row| (row.acked_ms < zero_ms) == is_before);
        latency(side.map(|row| row.acked_ms - row.sent_ms).collect())
    };
    Latencies { before: of(true), after: of(false) }
}

fn latency(mut all_ms: Vec<f64>) -> Option<Latency> {
    all_ms.sort_by(f64::total_cmp);
    let count = all_ms.len();
    // The smallest that so many of a hundred do not exceed.
    let percentile = |percent: usize| {
        let rank = (count * percent).div_ceil(100).saturating_sub(1);
        all_ms.get(rank).copied().map(tenths)
    };
    let worst_ms = tenths(*all_ms.last()?);
    Some(Latency { count, median_ms: percentile(50)?, p99_ms: percentile(99)?, worst_ms })
}

/// From one moment of the calendar to another, in milliseconds; negative when that one was before.
pub(super) fn ms_between(from_us: u64, to_us: u64) -> f64 {
    let ms = Duration::from_micros(from_us.abs_diff(to_us)).as_secs_f64() * 1000.0;
    tenths(if to_us < from_us { -ms } else { ms })
}

fn micros(ms: f64) -> u64 {
    let time = Duration::try_from_secs_f64(ms / 1000.0).unwrap_or_default();
    u64::try_from(time.as_micros()).unwrap_or_default()
}

fn moment(us: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(us)
}

/// Tenths: no clock here is better, and more digits only make the record long.
pub(super) fn tenths(ms: f64) -> f64 {
    let rounded = (ms * 10.0).round() / 10.0;
    // No minus before a zero.
    if rounded == 0.0 { 0.0 } else { rounded }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::drill::events::Voice;
    use crate::load::{Acknowledged, Failed, Gap};

    const START_US: u64 = 1_796_036_230_000_000;

    /// A client that was started at [`START_US`], a power cut one second later, service again after two.
    fn client() -> ClientReport {
        let row = |sent_ms: f64| Acknowledged { id: 1, sent_ms, acked_ms: sent_ms + 5.0 };
        let times = [0.0, 500.0, 900.0, 3000.0, 3020.0];
        let gap = Gap { from_ms: 905.0, to_ms: 3005.0, open: false };
        let failed = vec![Failed { sent_ms: 1500.0, kind: "connection refused".to_owned() }];
        ClientReport {
            started_us: START_US,
            acknowledged: 5,
            errors: 1,
            kinds: BTreeMap::from([("connection refused".to_owned(), 1)]),
            longest: Some(gap),
            gaps: vec![gap],
            rows: times.map(row).to_vec(),
            failed,
        }
    }

    fn marks() -> Marks {
        let at = |ms: u64| Some(START_US + ms * 1000);
        Marks {
            struck_us: at(1000),
            done_us: at(1001),
            undone_us: at(4000),
            in_sync_us: at(5000),
            healthy_us: at(6500),
        }
    }

    fn events() -> Vec<Event> {
        let event = |ms: u64, voice, text: &str| Event {
            at_us: START_US + ms * 1000,
            host: "ha-b".to_owned(),
            voice,
            text: text.to_owned(),
        };
        vec![
            event(2000, Voice::Manager, "ha-b becomes the primary, term 3: ha-a is silent"),
            event(2500, Voice::Database, "InnoDB: Starting crash recovery from checkpoint LSN=1"),
            event(2600, Voice::Database, "InnoDB: 128 rollback segments are active"),
        ]
    }

    pub(in crate::drill) fn drill() -> Drill {
        let client = client();
        let audit = Audit { looks: 9, longest_pause_ms: 20.0, two_writers: 0, two_answers: 0, moves: 1 };
        Source {
            deed: crate::drill::Case::PowerLoss.told(&crate::layout::PAIR[0]),
            client: &client,
            rows: Rows { acknowledged: 5, checked: 5, lost: 0, unchecked: None, pause_s: None },
            audit: Some(audit),
            marks: marks(),
            copied: None,
            outcome: &Ok(()),
            events: &events(),
            unread: Vec::new(),
        }
        .drill()
    }

    #[test]
    fn times_count_from_the_fault_and_figures_from_both_sides_of_it() {
        let drill = drill();
        let outage = drill.outage.as_ref().unwrap();
        assert_eq!((outage.from_ms, outage.to_ms, outage.length_s), (-95.0, 2005.0, 2.1));
        assert_eq!(outage.database_recovery_ms, Some(100.0));
        assert_eq!(drill.restored_ms, Some(2500.0));
        assert_eq!(drill.latency.before.map(|latency| latency.count), Some(3));
        assert_eq!(drill.latency.after.map(|latency| (latency.count, latency.median_ms)), Some((2, 5.0)));
        let sent: Vec<f64> = drill.requests.iter().map(|request| request.sent_ms).collect();
        assert_eq!(sent, [-1000.0, -500.0, -100.0, 500.0, 2000.0, 2020.0]);
        assert!(drill.passed && drill.rows.checked == 5 && drill.at == "2026-11-30T10:57:11Z", "{drill:?}");
    }

    #[test]
    fn what_the_drill_did_and_what_was_said_stand_in_the_order_of_time() {
        let told = drill().events;
        assert!(told.windows(2).all(|two| two[0].at_ms <= two[1].at_ms), "{told:?}");
        assert_eq!(told.first().map(|first| first.text.as_str()), Some("the last answer before the outage"));
        assert_eq!(told.last().map(|last| last.at_ms), Some(5500.0));
        assert_eq!(told.iter().filter(|one| one.host.as_deref() == Some("ha-b")).count(), 3);
    }

    #[test]
    fn a_request_is_a_pair_of_its_time_and_what_came_of_it() {
        let requests = drill().requests;
        let text = serde_json::to_string(&requests[3..5]).unwrap();
        assert_eq!(text, r#"[[500.0,"connection refused"],[2000.0,5.0]]"#);
    }

    #[test]
    fn the_99th_percentile_of_few_is_the_worst_and_of_many_is_not() {
        let few = latency(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((few.median_ms, few.p99_ms, few.worst_ms), (2.0, 3.0, 3.0));
        let many = latency((1..=200_u32).map(f64::from).collect()).unwrap();
        assert_eq!((many.median_ms, many.p99_ms, many.worst_ms), (100.0, 198.0, 200.0));
        assert_eq!(latency(Vec::new()), None);
    }
}
