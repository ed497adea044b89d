//! One resource as `futago replica status --json` shows it, in the keys of drbdsetup.

use std::fmt;

use serde_json::Value;

/// What decisions are made of.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Status {
    pub(super) role: String,
    pub(super) disk: String,
    pub(super) connection: String,
    pub(super) peer: String,
    pub(super) peer_role: String,
    pub(super) peer_disk: String,
    pub(super) replication: String,
    pub(super) percent: Option<f64>,
    pub(super) eta_seconds: Option<u64>,
}

impl Status {
    /// `None` when the resource is not in the answer.
    pub(super) fn parse(answer: &Value, resource: &str) -> Option<Self> {
        let found = answer
            .as_array()?
            .iter()
            .find(|one| one.get("name").and_then(Value::as_str) == Some(resource))?;
        let text =
            |pointer: &str| found.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let peer = "/connections/0/peer_devices/0";
        let number = |key: &str| found.pointer(&format!("{peer}/{key}"));
        Some(Self {
            role: text("/role"),
            disk: text("/devices/0/disk-state"),
            connection: text("/connections/0/connection-state"),
            peer: text("/connections/0/name"),
            peer_role: text("/connections/0/peer-role"),
            peer_disk: text(&format!("{peer}/peer-disk-state")),
            replication: text(&format!("{peer}/replication-state")),
            percent: number("percent-resync-done").and_then(Value::as_f64),
            eta_seconds: number("estimated-seconds-to-finish").and_then(Value::as_u64),
        })
    }

    pub(super) fn is_standalone(&self) -> bool {
        self.connection == "StandAlone"
    }

    /// Connected, and the peer has told about its disk.
    pub(super) fn knows_peer(&self) -> bool {
        self.connection == "Connected" && !matches!(self.peer_disk.as_str(), "" | "DUnknown" | "Negotiating")
    }

    /// Somebody leads, or both disks have been compared and nothing flows into this one: what is shown now is
    /// not about to change by itself.
    pub(super) fn is_settled(&self) -> bool {
        let leads = self.role == "Primary" || self.peer_role == "Primary";
        let passing = |disk: &str| matches!(disk, "Attaching" | "Negotiating" | "Consistent" | "Detaching");
        let still = matches!(self.replication.as_str(), "Established" | "SyncSource");
        leads || (self.knows_peer() && still && !passing(&self.disk) && !passing(&self.peer_disk))
    }

    pub(super) fn in_sync(&self) -> bool {
        self.knows_peer() && self.disk == "UpToDate" && self.peer_disk == "UpToDate"
    }

    /// Both disks are as create-md leaves them: a disk that was ever in sync is never Inconsistent on both
    /// sides with nothing flowing.
    pub(super) fn never_held_data(&self) -> bool {
        self.knows_peer()
            && self.replication == "Established"
            && self.disk == "Inconsistent"
            && self.peer_disk == "Inconsistent"
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {}/{}", self.role, self.peer_role, self.disk, self.peer_disk)?;
        if self.connection != "Connected" {
            return write!(f, " {}", self.connection);
        }
        if !matches!(self.replication.as_str(), "" | "Established") {
            write!(f, " {}", self.replication)?;
        }
        Ok(())
    }
}
