//! What a lab remembers between commands. It can be lost without anything leaking.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::layout::{HOSTS, Host, Lab, WITNESS};

/// The record of one lab.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// Whether the hosts' systems and disks are all there; a lab that is not complete is made anew.
    pub(crate) complete: bool,
    /// Size of each second disk.
    pub(crate) disk_bytes: u64,
    /// The image the hosts were made from, whose packages they install.
    pub(crate) image: String,
    /// The Debian release of the hosts.
    pub(crate) suite: String,
    /// Whether there is a third host.
    pub(crate) witness: bool,
}

impl Record {
    /// The hosts of this lab.
    pub(crate) fn hosts(&self) -> Vec<&'static Host> {
        HOSTS.into_iter().filter(|host| self.witness || **host != WITNESS).collect()
    }

    /// Reads a lab's record; `None` when there is no such lab, or only the remains of one.
    pub(crate) fn load(lab: &Lab) -> anyhow::Result<Option<Self>> {
        let path = path(lab);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.with_context(|| format!("read {}", path.display()))?,
        };
        let fix = || format!("read {}; to start over: futago lab down --purge --name {lab}", path.display());
        serde_json::from_str(&text).map(Some).with_context(fix)
    }

    /// Writes it, durably.
    pub(crate) fn save(&self, lab: &Lab) -> anyhow::Result<()> {
        let path = path(lab);
        let text = serde_json::to_string_pretty(self).context("write the lab's record")? + "\n";
        base::file::replace(&path, text.as_bytes(), 0o644)
            .with_context(|| format!("write {}", path.display()))
    }
}

fn path(lab: &Lab) -> PathBuf {
    lab.folder().join("lab.json")
}
