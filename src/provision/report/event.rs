//! The events of a run. Their JSON form is what `--json` prints and the log keeps, one a line.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::protocol::{Failure, Progress};

/// Version of the events' form. It grows when one that reads them would misunderstand: not when something is added.
pub const VERSION: u32 = 1;

/// Something happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Everything was checked; the hosts are contacted now.
    RunStarted {
        /// [`VERSION`] of these events.
        version: u32,
        /// The inventory's file.
        inventory: String,
        /// The playbook's name.
        playbook: String,
        /// Nothing will be changed.
        check: bool,
        /// Who takes part.
        hosts: Vec<String>,
        /// Number of tasks.
        tasks: usize,
    },
    /// A host answers.
    Connected {
        /// Who.
        host: String,
        /// Since the start of the run.
        seconds: f64,
    },
    /// A play starts, or its next batch of hosts.
    PlayStarted {
        /// Its name.
        play: String,
        /// On whom.
        hosts: Vec<String>,
    },
    /// A task starts on all its hosts.
    TaskStarted {
        /// Its name.
        task: String,
        /// `file:line:column`.
        place: String,
        /// On whom.
        hosts: Vec<String>,
        /// It was asked for by another task.
        handler: bool,
    },
    /// A task is under way.
    Progress {
        /// Where.
        host: String,
        /// Which.
        task: String,
        /// How far.
        progress: Progress,
    },
    /// A task, or one item of its loop, is done on one host.
    TaskDone(Box<TaskDone>),
    /// A task is done on all its hosts.
    TaskFinished {
        /// Its name.
        task: String,
    },
    /// The user asked to stop; the running step is finished first.
    Stopping,
    /// The run is over.
    RunFinished {
        /// What happened where.
        hosts: Vec<HostRecap>,
        /// The tasks that took longest.
        slowest: Vec<TaskTime>,
        /// Handlers that were asked for and did not run, as `handler on host`.
        owed: Vec<String>,
        /// Command that goes on from here.
        continue_with: Option<String>,
        /// The log of this run.
        log: Option<String>,
        /// Duration.
        seconds: f64,
        /// Nothing was changed.
        check: bool,
        /// Exit code of the program.
        exit_code: u8,
    },
}

/// An event as machines read it.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    /// The cluster that it is about.
    pub(super) cluster: &'a str,
    #[serde(flatten)]
    pub(super) event: &'a Event,
}

/// The end of a task on one host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskDone {
    /// Where.
    pub host: String,
    /// Which.
    pub task: String,
    /// `file:line:column`.
    pub place: String,
    /// The item, in a loop.
    pub item: Option<Value>,
    /// How it ended.
    pub status: Status,
    /// What was or would be done.
    pub message: String,
    /// The change.
    pub diff: Option<String>,
    /// Duration.
    pub seconds: f64,
    /// Why it failed.
    pub failure: Option<Failure>,
}

/// How a task ended on one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing was to do.
    Skipped,
    /// Already as asked.
    Ok,
    /// Cannot be known before earlier steps are really done; only in a plan.
    Unknown,
    /// Changed, or would be.
    Changed,
    /// Failed.
    Failed,
    /// The host is not there, or no longer.
    Unreachable,
}

/// Counts of one host; a task counts once, however many items it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecap {
    /// Which.
    pub host: String,
    /// As asked, changed ones included.
    pub ok: u32,
    /// Changed.
    pub changed: u32,
    /// Not knowable in a plan; included in `ok`.
    pub unknown: u32,
    /// Failed.
    pub failed: u32,
    /// Lost or never reached.
    pub unreachable: u32,
    /// Skipped.
    pub skipped: u32,
}

impl HostRecap {
    /// Counts one task.
    pub fn count(&mut self, status: Status) {
        match status {
            Status::Skipped => self.skipped += 1,
            Status::Ok => self.ok += 1,
            Status::Unknown => {
                self.ok += 1;
                self.unknown += 1;
            }
            Status::Changed => {
                self.ok += 1;
                self.changed += 1;
            }
            Status::Failed => self.failed += 1,
            Status::Unreachable => self.unreachable += 1,
        }
    }

    /// `ha-a : ok=21 changed=0 failed=0 unreachable=0 skipped=1`, the name padded to a width.
    #[must_use]
    pub fn line(&self, width: usize) -> String {
        let Self { host, ok, changed, failed, unreachable, skipped, .. } = self;
        format!(
            "{host:<width$} : ok={ok} changed={changed} failed={failed} unreachable={unreachable} skipped={skipped}"
        )
    }
}

/// A task and how long it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskTime {
    /// Its name.
    pub task: String,
    /// Duration on the slowest host.
    pub seconds: f64,
}
