//! The language between the controller and the agent on a host: framed JSON over one SSH channel.
//!
//! ```text
//! agent      → Reply::Hello                       first, without being asked
//! controller → Request::Run(step)                 one at a time; or Request::Owe(handlers)
//! agent      → Reply::Progress*  Reply::Done
//! agent      → Reply::Reach                       within a step that may have cut the controller off;
//! controller → Request::Reached                   after a new connection was tried
//! controller → closes the channel                 the agent ends
//! ```
//! Values that must not be shown travel like all others; the controller masks them where it prints.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Version of this language. Controller and agent are the same file, so a difference means a stale upload.
pub const VERSION: u32 = 2;

/// What the controller asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Run one module.
    Run(Step),
    /// The answer to [`Reply::Reach`].
    Reached {
        /// A new connection got through.
        through: bool,
    },
    /// Keep that these handlers are owed, and no others.
    Owe {
        /// All of them.
        handlers: BTreeSet<Owed>,
    },
}

/// A handler that has to run on a host, also when this run does not come to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owed {
    /// Name of the play that it is in.
    pub play: String,
    /// Its name.
    pub handler: String,
}

/// One module with its arguments, all expressions resolved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Name of the module.
    pub module: String,
    /// Its arguments, checked against its schema.
    pub args: Map<String, Value>,
    /// Only find out what would change.
    pub check: bool,
    /// Describe the change as a unified diff where the module can.
    pub diff: bool,
    /// Handlers that are owed from the moment on in which it changes something.
    pub notify: BTreeSet<Owed>,
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// Who is there.
    Hello {
        /// [`VERSION`] of the agent.
        version: u32,
        /// What the host is.
        facts: Facts,
        /// What earlier runs have left to do.
        owed: BTreeSet<Owed>,
    },
    /// A long step is under way.
    Progress(Progress),
    /// Does a new connection still get through? Without a yes in time the step takes back what it did.
    Reach {
        /// How long it waits for the answer.
        seconds: u64,
    },
    /// The step is over.
    Done(Outcome),
}

/// What an agent knows about its host; available to expressions as `facts`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// `uname -n`.
    pub hostname: String,
    /// Kernel release.
    pub kernel: String,
    /// `ID` of /etc/os-release: `debian`, `ubuntu`, `rocky` …
    pub distribution: String,
    /// `VERSION_ID` of /etc/os-release.
    pub distribution_version: String,
    /// `debian` or `redhat`, from `ID` and `ID_LIKE`; empty when neither.
    pub family: String,
    /// Machine hardware name, such as `x86_64`.
    pub architecture: String,
    /// Processors online.
    pub processors: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
}

/// A sign of life of a long step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// What is going on: `syncing`, `unpacking mariadb-server`.
    pub message: String,
    /// Percent done, 0–100, when it can be known.
    pub percent: Option<f64>,
    /// Seconds left, when they can be estimated.
    pub eta_seconds: Option<u64>,
}

/// How a step ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Something was changed, or would be with `check`.
    pub changed: bool,
    /// With `check`: whether anything would change cannot be known before earlier steps are really done.
    pub unknown: bool,
    /// Short sentence on what was or would be done; one line.
    pub message: String,
    /// Unified diff, or one line per change prefixed by `+`, `-` or `~`; only when asked for.
    pub diff: Option<String>,
    /// Results for `register`: `stdout`, `rc`, … by module.
    pub data: Map<String, Value>,
    /// Set when the step failed: nothing was changed after the point that it names.
    pub failure: Option<Failure>,
}

/// Why a step failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What was attempted, on what, and why it failed.
    pub message: String,
    /// The last lines of a program's output.
    pub output: String,
    /// What to do about it.
    pub hint: Option<String>,
}
