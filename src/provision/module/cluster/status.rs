//! The cluster as `futago cluster status --json` shows it.

use std::fmt;

use serde_json::Value;

/// What decisions are made of.
#[derive(Debug, Clone, Default)]
pub(super) struct Status {
    /// PROTECTED, DEGRADED, HELD or DOWN, and why.
    pub(super) verdict: String,
    pub(super) because: String,
    /// Host name of this node.
    pub(super) node: String,
    /// Changes of the record; 0 before there is one.
    pub(super) version: u64,
    /// Host name of the primary by the record.
    pub(super) primary: Option<String>,
    pub(super) maintenance: bool,
    /// An operator keeps the stack off a host.
    pub(super) standby: bool,
    /// What this node does: `active`, `standby` …
    pub(super) role: String,
    /// There is neither a witness nor a fence device, and both disks have everything: no pair of this kind is better
    /// off.
    complete_by_hand: bool,
    /// The device on this node is Primary.
    pub(super) leads: bool,
    /// The peer has read another configuration than this node.
    pub(super) setups_differ: bool,
    /// What is being done right now.
    pub(super) doing: Option<String>,
    /// Resources that run somewhere, and all of them.
    pub(super) running: (usize, usize),
}

impl Status {
    /// `None` when the answer has another shape.
    pub(super) fn parse(answer: &Value) -> Option<Self> {
        let text =
            |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let name = |letter: &str| {
            let index = match letter {
                "a" => 0,
                "b" => 1,
                _ => return None,
            };
            answer.pointer(&format!("/names/{index}"))?.as_str().map(str::to_owned)
        };
        let resources = answer.get("resources")?.as_array()?;
        let runs = |resource: &&Value| {
            let states = resource.get("state").and_then(Value::as_array);
            states.is_some_and(|states| states.iter().any(|state| state == "started"))
        };
        Some(Self {
            verdict: text("/verdict"),
            because: text("/because"),
            node: name(&text("/node"))?,
            version: answer.pointer("/record/version")?.as_u64()?,
            primary: name(&text("/record/primary")),
            maintenance: answer.pointer("/record/intent/maintenance")?.as_bool()?,
            standby: ["a", "b"]
                .iter()
                .any(|node| answer.pointer(&format!("/record/intent/standby/{node}")) == Some(&true.into())),
            role: text("/local/role"),
            complete_by_hand: text("/quorum") == "manual"
                && ["/record/synced/a", "/record/synced/b", "/local/replica/connected"]
                    .iter()
                    .all(|pointer| answer.pointer(pointer) == Some(&true.into())),
            leads: answer.pointer("/local/replica/primary").and_then(Value::as_bool).unwrap_or(false),
            setups_differ: answer
                .pointer("/peer/setup")
                .is_some_and(|theirs| Some(theirs) != answer.pointer("/local/setup")),
            doing: Some(text("/doing")).filter(|doing| !doing.is_empty()),
            running: (resources.iter().filter(runs).count(), resources.len()),
        })
    }

    /// Something has happened in between; texts for people may change all the time.
    pub(super) fn differs(&self, other: &Self) -> bool {
        let key =
            |s: &Self| (s.verdict.clone(), s.version, s.role.clone(), s.leads, s.doing.clone(), s.running);
        key(self) != key(other)
    }

    /// The primary of the record is this node.
    pub(super) fn is_here(&self) -> bool {
        self.primary.as_ref() == Some(&self.node)
    }

    /// There is a record.
    pub(super) fn has_record(&self) -> bool {
        self.version > 0 && self.primary.is_some()
    }

    /// A majority of voters has said whether there is a record.
    pub(super) fn knows_the_record(&self) -> bool {
        self.has_record() || self.is_held()
    }

    /// As well off as it can be.
    pub(super) fn is_protected(&self) -> bool {
        self.verdict == "PROTECTED" || (self.complete_by_hand && self.verdict == "DEGRADED")
    }

    /// It goes on only when somebody has repaired something or decided.
    pub(super) fn is_held(&self) -> bool {
        self.verdict == "HELD"
    }

    /// Everything runs, as well as an operator lets it.
    pub(super) fn is_as_wanted(&self) -> bool {
        self.is_protected() || self.maintenance || (self.standby && self.verdict == "DEGRADED")
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.knows_the_record() {
            return f.write_str(&self.because);
        }
        if !self.has_record() {
            return f.write_str("it has no record yet");
        }
        let short = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
        let primary = self.primary.as_deref().map(short).unwrap_or_default();
        write!(f, "{} on {primary}", self.verdict)?;
        if self.maintenance {
            return f.write_str(", in maintenance");
        }
        match &self.doing {
            Some(doing) => write!(f, ", {doing}"),
            None if self.verdict == "PROTECTED" || self.because.is_empty() => Ok(()),
            None => write!(f, ": {}", self.because),
        }
    }
}
