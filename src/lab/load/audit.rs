//! Watches both hosts from outside for the whole run: never two that can write the replicated file system,
//! never two that answer for the virtual address. Afterwards: every acknowledged row is there.
//!
//! It asks the hosts for nothing that they could refuse or forget, and reports what it saw as evidence, how often
//! it looked included: what it did not see in a pause of its own, it does not claim.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::Stop;
use super::arp::{self, Asker, Cable, Mac};
use super::client;
use super::mounts::Mounts;
use crate::control_group;
use crate::layout::{Lab, PAIR, Segment};

/// How often mounts are looked at and the segment is asked: shorter than any host needs to mount or to add an
/// address, and cheap: two small files and one frame.
const EVERY: Duration = Duration::from_millis(20);
/// Pieces of evidence of one kind that are kept; beyond that they are only counted.
const MAX_EVIDENCE: usize = 100;

/// What the auditor has seen.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct AuditReport {
    /// How often the hosts' mounts were looked at and the segment was asked.
    pub looks: u64,
    /// The longest time between two looks.
    pub longest_pause_ms: f64,
    /// How often each host could write the replicated file system.
    pub writable: BTreeMap<String, u64>,
    /// How often each host answered for the virtual address.
    pub answered: BTreeMap<String, u64>,
    /// When the address was first answered for by another host than before.
    pub moves: Vec<Move>,
    /// Both hosts could write the replicated file system.
    pub two_writers: Violation,
    /// Two hosts answered one request for the virtual address.
    pub two_answers: Violation,
}

/// One kind of broken promise.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Violation {
    /// How often it was seen.
    pub count: u64,
    /// The first of these, in words.
    pub evidence: Vec<String>,
}

impl Violation {
    fn seen(&mut self, evidence: String) {
        self.count += 1;
        if self.evidence.len() < MAX_EVIDENCE {
            self.evidence.push(evidence);
        }
    }
}

/// The virtual address moved.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct Move {
    /// Milliseconds since the auditor was started.
    pub at_ms: f64,
    /// Who answers from now on.
    pub host: String,
}

impl AuditReport {
    /// The host that answered last for the virtual address.
    #[must_use]
    pub fn active(&self) -> Option<&str> {
        self.moves.last().map(|last| last.host.as_str())
    }

    /// What was seen of broken promises, in words.
    pub(crate) fn evidence(&self) -> Vec<String> {
        [&self.two_writers, &self.two_answers].into_iter().flat_map(|kind| kind.evidence.clone()).collect()
    }

    fn looked(&mut self, writable: [bool; 2], at_ms: f64) {
        for (host, can_write) in PAIR.iter().zip(writable) {
            if can_write {
                *self.writable.entry(host.name.to_owned()).or_default() += 1;
            }
        }
        if writable == [true; 2] {
            self.two_writers.seen(format!("{at_ms:.0} ms: both hosts can write the replicated file system"));
        }
    }
}

/// The request that each number was last used for, and who has answered it.
#[derive(Debug, Default)]
struct Asked(BTreeMap<u8, BTreeSet<Mac>>);

impl Asked {
    fn again(&mut self, number: u8) {
        self.0.insert(number, BTreeSet::new());
    }

    fn answered(&mut self, number: u8, mac: Mac, name: &str, at_ms: f64, report: &mut AuditReport) {
        let Some(answers) = self.0.get_mut(&number) else { return };
        if !answers.insert(mac) {
            return;
        }
        *report.answered.entry(name.to_owned()).or_default() += 1;
        if report.active() != Some(name) && report.moves.len() < MAX_EVIDENCE {
            report.moves.push(Move { at_ms, host: name.to_owned() });
        }
        if answers.len() > 1 {
            let all: Vec<String> = answers.iter().map(|mac| arp::shown(*mac)).collect();
            let all = all.join(" and ");
            report
                .two_answers
                .seen(format!("{at_ms:.0} ms: one request for the virtual address was answered by {all}"));
        }
    }
}

/// An auditor at work in a thread of its own.
#[derive(Debug)]
pub(crate) struct Auditor {
    stop: Stop,
    active: Arc<Mutex<Option<String>>>,
    thread: Option<JoinHandle<anyhow::Result<AuditReport>>>,
}

impl Auditor {
    /// Starts watching the pair of a lab that is up.
    pub(crate) fn start(lab: &Lab) -> anyhow::Result<Self> {
        let cable = Cable::plug(lab)?;
        let mounts = Mounts::new(lab.clone(), control_group::hierarchies()?);
        let (stop, active, lab) = (Stop::default(), Arc::default(), lab.clone());
        let (told, tell) = (stop.clone(), Arc::clone(&active));
        let work = move || watch(&lab, mounts, &told, &tell, cable);
        let thread = std::thread::Builder::new().name("auditor".to_owned()).spawn(work);
        Ok(Self { stop, active, thread: Some(thread.context("start the auditor's thread")?) })
    }

    /// The host that answered last for the virtual address.
    pub(crate) fn active(&self) -> Option<String> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it and returns what it saw.
    pub(crate) fn stop(mut self) -> anyhow::Result<AuditReport> {
        self.finish().unwrap_or_else(|| Ok(AuditReport::default()))
    }

    fn finish(&mut self) -> Option<anyhow::Result<AuditReport>> {
        self.stop.order();
        let ended = self.thread.take()?.join();
        Some(ended.unwrap_or_else(|_| Err(anyhow!("the auditor's thread has failed; this is a bug"))))
    }
}

impl Drop for Auditor {
    fn drop(&mut self) {
        // Whoever drops it has a greater worry.
        let _ = self.finish();
    }
}

/// The thread. The cable is unplugged when it ends.
fn watch(
    lab: &Lab,
    mut mounts: Mounts,
    stop: &Stop,
    active: &Mutex<Option<String>>,
    _cable: Cable,
) -> anyhow::Result<AuditReport> {
    let asker = Asker::enter(lab)?;
    let names: BTreeMap<String, &str> =
        PAIR.iter().map(|host| (lab.link_address(&host.port(Segment::Public)), host.name)).collect();
    let (mut report, mut asked) = (AuditReport::default(), Asked::default());
    let started = Instant::now();
    let at_ms = |moment: Instant| client::ms(moment.duration_since(started));
    let (mut last, mut number) = (started, 0);
    while !stop.is_ordered() {
        let now = Instant::now();
        report.looks += 1;
        report.longest_pause_ms = report.longest_pause_ms.max(client::ms(now - last));
        last = now;
        asked.again(number);
        asker.ask(number)?;
        number = (number + 1) % arp::SENDERS;
        report.looked(mounts.writable()?, at_ms(now));
        while pause(&asker, now + EVERY)? {
            while let Some((number, mac)) = asker.answer()? {
                let text = arp::shown(mac);
                let name = names.get(&text).copied().unwrap_or(&text);
                asked.answered(number, mac, name, at_ms(Instant::now()), &mut report);
                *active.lock().unwrap_or_else(PoisonError::into_inner) = report.active().map(str::to_owned);
            }
        }
    }
    Ok(report)
}

/// Waits for an answer, at most until then; whether there may be one.
fn pause(asker: &Asker, until: Instant) -> anyhow::Result<bool> {
    let left = until.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).context("measure a pause")?;
    match poll(&mut [PollFd::new(asker.socket(), PollFlags::IN)], Some(&left)) {
        Ok(0) => Ok(false),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(true),
        Err(error) => Err(error).context("wait for ARP replies"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = [2, 0, 0, 0, 0, 1];
    const B: Mac = [2, 0, 0, 0, 0, 2];

    #[test]
    fn two_answers_to_one_request_are_a_violation_and_to_two_requests_a_move() {
        let (mut report, mut asked) = (AuditReport::default(), Asked::default());
        asked.again(0);
        asked.answered(0, A, "ha-a", 1.0, &mut report);
        asked.again(1);
        asked.answered(1, B, "ha-b", 21.0, &mut report);
        // Late, and still an answer to its own request.
        asked.answered(0, A, "ha-a", 22.0, &mut report);
        assert_eq!((report.two_answers.count, report.active(), report.moves.len()), (0, Some("ha-b"), 2));
        asked.answered(1, A, "ha-a", 23.0, &mut report);
        assert_eq!(report.two_answers.count, 1);
        assert!(report.evidence()[0].contains("02:00:00:00:00:01 and 02:00:00:00:00:02"), "{report:?}");
    }

    #[test]
    fn evidence_is_bounded_and_counted_and_of_one_kind_hides_none_of_another() {
        let mut report = AuditReport::default();
        for at in 0..1000_u32 {
            report.looked([true, true], f64::from(at));
        }
        assert_eq!((report.two_writers.count, report.evidence().len()), (1000, MAX_EVIDENCE));
        assert_eq!(report.writable.get("ha-b"), Some(&1000));
        report.looked([true, false], 1000.0);
        assert_eq!(report.two_writers.count, 1000);

        let mut asked = Asked::default();
        asked.again(0);
        asked.answered(0, A, "ha-a", 1001.0, &mut report);
        asked.answered(0, B, "ha-b", 1001.0, &mut report);
        assert_eq!((report.two_answers.count, report.evidence().len()), (1, MAX_EVIDENCE + 1));
    }
}
