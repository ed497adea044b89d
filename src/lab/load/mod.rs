//! A client of the service and its auditor: rows are written through the virtual address while things go wrong,
//! and somebody who belongs to neither host watches that no promise is broken.
//!
//! Both live in the lab's network namespace: the machine outside gets no route to the hosts. Neither knows what
//! manages the hosts.

mod arp;
mod audit;
mod client;
mod gaps;
mod mounts;
mod row;
mod sys;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};

use crate::layout::{self, Lab, VIRTUAL_IP};
use crate::stack;
use crate::stage::Stage;

pub(crate) use audit::Auditor;
pub use audit::{AuditReport, Violation};
#[cfg(test)]
pub(crate) use client::Failed;
pub use client::{Acknowledged, ClientReport};
pub(crate) use client::{Ask, Client, Pace, calendar_us, enter, ms};
pub use gaps::Gap;
pub(crate) use gaps::Gaps;
pub(crate) use mounts::DATA;
pub(crate) use row::PACE;
use row::RowPage;

/// Where the page that writes a row is.
const PORT: u16 = 80;

/// What client and auditor have seen when they are told to stop.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LoadReport {
    /// What the service did for its client.
    pub client: ClientReport,
    /// What the hosts did meanwhile.
    pub audit: AuditReport,
    /// Acknowledged rows that the active host does not have.
    pub missing: Vec<u64>,
    /// Why it could not be asked for them.
    pub unchecked: Option<String>,
}

impl LoadReport {
    /// Which promises were broken, in words; empty when every acknowledged row is there, and never two hosts could
    /// write or answered for the virtual address.
    #[must_use]
    pub fn broken(&self) -> Vec<String> {
        let mut broken = self.audit.evidence();
        broken.extend(self.unchecked.iter().map(|why| format!("the rows could not be checked: {why}")));
        if let [first, ..] = self.missing.as_slice() {
            let (lost, all) = (self.missing.len(), self.client.acknowledged);
            broken.push(format!("{lost} of {all} acknowledged rows are missing, the first is {first}"));
        }
        broken
    }
}

/// A client and an auditor at work. They end when this is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) client: Client,
    pub(crate) auditor: Auditor,
}

impl Load {
    /// Starts both. `log` gets a line for each acknowledged row.
    pub(crate) fn start(lab: &Lab, log: PathBuf) -> anyhow::Result<Self> {
        let auditor = Auditor::start(lab)?;
        let page = RowPage((VIRTUAL_IP.0, PORT).into());
        let client = Client::start(page, PACE, Some(lab.netns_path()), Some(log))?;
        Ok(Self { client, auditor })
    }

    /// Ends both, the client first, so that every row it got was audited; then the host that answered last for
    /// the virtual address is asked for the rows.
    pub(crate) fn stop(self, stage: &Stage) -> anyhow::Result<LoadReport> {
        let client = self.client.stop().context("write rows through the virtual address")?;
        let audit = self.auditor.stop().context("audit the hosts")?;
        let asked = match audit.active() {
            Some(active) => layout::host(active)
                .map_err(anyhow::Error::from)
                .and_then(|host| stack::missing_rows(stage, host, &client)),
            None => Err(anyhow!("no host has answered for the virtual address")),
        };
        let (missing, unchecked) = match asked {
            Ok(missing) => (missing, None),
            Err(error) => (Vec::new(), Some(format!("{error:#}"))),
        };
        Ok(LoadReport { client, audit, missing, unchecked })
    }
}

/// Tells a thread or a task to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn order(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_ordered(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
