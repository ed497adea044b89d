//! A pair that the cluster manager looks after, with its witness, under a client that writes rows: what drills need.
//!
//! Whatever a drill does, it ends with [`assert_unbroken`] and [`Managed::restore`], so that several share one lab.

use std::path::Path;
use std::time::{Duration, Instant};

use lab::load::LoadReport;
use serde_json::Value;

use crate::harness::{Client, Lab, futago, succeeded, until};

/// The hosts that carry data.
pub(crate) const PAIR: [&str; 2] = ["ha-a", "ha-b"];
/// The third voter.
pub(crate) const WITNESS: &str = "witness";
/// No outage of a pair that has what it needs takes that long: beyond it something hangs.
const SANE_OUTAGE_MS: f64 = 60_000.0;

/// A lab with a witness and a managed service.
pub(crate) struct Managed {
    pub(crate) lab: Lab,
}

/// The other host of the pair.
pub(crate) fn other(host: &str) -> &'static str {
    if host == PAIR[0] { PAIR[1] } else { PAIR[0] }
}

impl Managed {
    /// Brings everything up, with the timings of a profile, until one machine may fail.
    pub(crate) fn up(profile: &str) -> Self {
        Self::of(profile, |_| {})
    }

    /// As [`Managed::up`], of a project that was changed before anything is applied.
    pub(crate) fn of(profile: &str, change: impl FnOnce(&Path)) -> Self {
        Self::on(Lab::up(&["--witness"]), profile, change)
    }

    /// As [`Managed::of`], on a pair that was set up without a manager first.
    pub(crate) fn added(profile: &str, change: impl FnOnce(&Path)) -> Self {
        let lab = Lab::up(&["--witness"]);
        lab.apply(&[]);
        Self::on(lab, profile, change)
    }

    /// The same on hosts that are there already.
    pub(crate) fn on(lab: Lab, profile: &str, change: impl FnOnce(&Path)) -> Self {
        lab.run("stack", &["--managed", profile]);
        change(&lab.folder());
        lab.apply(&[]);
        let managed = Self { lab };
        managed.until_protected();
        managed
    }

    /// `futago cluster status --json` of a host, if its manager answers.
    pub(crate) fn status(&self, host: &str) -> Option<Value> {
        let output = self.lab.try_in(host, "futago cluster status --json");
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Runs `futago cluster WORDS` on a host, whatever its exit code; returns all that it said.
    pub(crate) fn told(&self, host: &str, words: &str) -> String {
        let output = self.lab.try_in(host, &format!("futago cluster {words} 2>&1"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `futago cluster WORDS` on a host; it must succeed. Returns its stdout.
    pub(crate) fn cluster(&self, host: &str, words: &str) -> String {
        self.lab.run_in(host, &format!("futago cluster {words}"))
    }

    /// Runs `futago cluster WORDS -i INVENTORY` on the controller; it must succeed. Returns its stdout.
    pub(crate) fn by_controller(&self, words: &[&str]) -> String {
        let mut command = futago();
        command.arg("cluster").args(words).arg("-i").arg(self.lab.folder().join("inventory.yml"));
        succeeded(command)
    }

    /// The host where the whole stack runs, by the managers themselves.
    pub(crate) fn active_now(&self) -> Option<&'static str> {
        let acts = |host: &&str| self.status(host).is_some_and(|s| s["local"]["role"] == "active");
        PAIR.into_iter().find(acts)
    }

    /// Waits until the stack runs somewhere, and says where.
    pub(crate) fn active(&self) -> &'static str {
        let mut found = None;
        self.until("the stack runs", || {
            found = self.active_now();
            found.is_some()
        });
        found.expect("a host")
    }

    /// Waits until the manager of a host gives this verdict.
    pub(crate) fn until_verdict(&self, host: &str, verdict: &str) {
        let what = format!("{host} says {verdict}");
        self.until(&what, || self.status(host).is_some_and(|s| s["verdict"] == verdict));
    }

    /// Waits until both hosts say that any one machine may fail.
    pub(crate) fn until_protected(&self) {
        PAIR.into_iter().for_each(|host| self.until_verdict(host, "PROTECTED"));
    }

    /// Waits for something, and on failure shows what the managers think.
    pub(crate) fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let shown = Shown(self);
        until(what, &mut is_so);
        drop(shown);
    }

    /// A client that writes rows through the virtual address, and the auditor beside it. The service runs.
    pub(crate) fn client(&self) -> Client {
        Client::start(&self.lab)
    }

    /// Heals every link, powers everything on, and waits until any one machine may fail.
    pub(crate) fn restore(&self) {
        self.lab.run("heal", &[]);
        for host in PAIR.into_iter().chain([WITNESS]) {
            if !self.lab.is_powered(host) {
                self.lab.run("power-on", &[host]);
            }
        }
        self.until_protected();
    }

    /// What a host says to an operator, all of it.
    pub(crate) fn shown(&self, host: &str) -> String {
        ["status", "why", "history --last 12"]
            .map(|verb| format!("{host} {verb}:\n{}", self.told(host, verb)))
            .join("\n")
    }
}

/// Shows what both managers say when a test fails while this lives.
struct Shown<'a>(&'a Managed);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let journal = "journalctl --unit futago-clusterd --lines 60 --no-pager --output short-precise";
            for host in PAIR {
                let lines = self.0.lab.try_in(host, journal).stdout;
                eprintln!("{}\n{host} {journal}:\n{}", self.0.shown(host), String::from_utf8_lossy(&lines));
            }
        }
    }
}

/// No promise was broken: every acknowledged row is there, never two hosts wrote or answered for the address.
/// Prints the outage that the client has seen, and returns it in milliseconds.
pub(crate) fn assert_unbroken(case: &str, report: &LoadReport) -> f64 {
    assert_eq!(report.broken(), Vec::<String>::new(), "{case}: {:?}", report.audit);
    let outage = report.client.longest.map_or(0.0, |gap| gap.length_ms());
    println!("outage {case}: {outage:.0} ms");
    outage
}

/// As [`assert_unbroken`], for a case that the pair must survive by itself: the client was served again, and soon.
pub(crate) fn assert_survived(case: &str, report: &LoadReport) {
    let outage = assert_unbroken(case, report);
    assert!(outage < SANE_OUTAGE_MS, "{case}: {:?}", report.client.gaps);
    assert!(!report.client.longest.is_some_and(|gap| gap.open), "{case}: {:?}", report.client.gaps);
}

/// A text for people, without its line breaks.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Waits at most so long for something to stay as it is: returns whether it did.
pub(crate) fn stays(time: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + time;
    while Instant::now() < end {
        if !is_so() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    true
}
