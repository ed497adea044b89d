//! The border of the manager's core: what the shell reports ([`Event`]) and what the core asks for
//! ([`Action`]).

use serde::{Deserialize, Serialize};

use crate::config::ResourceId;
use crate::control::{Command, CommandError, Status};
use crate::member::{Node, Voter};
use crate::message::Message;
use crate::record::Term;
use crate::store::{Op, Outcome, RequestId};
use crate::timing::Millis;

/// Names one operation on a resource, on the replication daemon or on a fence device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OpId(pub u64);

/// Names one operator's command; chosen by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Names one configured way to the peer or the witness: its position in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PathId(pub u8);

/// What happened. Delivered one at a time, together with the time.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A member said something.
    Heard {
        /// Who, by its certificate.
        from: Voter,
        /// On which way.
        path: PathId,
        /// What.
        message: Message,
    },
    /// An operation of the store is over.
    StoreDone {
        /// Which.
        id: RequestId,
        /// How.
        outcome: Outcome,
    },
    /// The replication daemon has changed, or is gone (`None`: no daemon, or the resource is not up).
    Replica(Option<ReplicaView>),
    /// An operation on the replication daemon is over.
    ReplicaDone {
        /// Which.
        op: OpId,
        /// How; the text of a refusal is for people.
        result: Result<(), String>,
    },
    /// An operation on a resource is over.
    ResourceDone {
        /// Which.
        op: OpId,
        /// How.
        outcome: AgentOutcome,
    },
    /// A resource changed by itself: noticed by an event of the system, not by a look.
    ResourceChanged {
        /// Which.
        resource: ResourceId,
        /// What it is now.
        state: Running,
        /// What was noticed: `main process exited, code=killed, status=9/KILL`.
        reason: String,
    },
    /// A fencing is over; `Ok` means that the target was seen to be off.
    FenceDone {
        /// Which.
        op: OpId,
        /// How.
        result: Result<(), String>,
    },
    /// The state of this host's network and disks has changed.
    Health(Health),
    /// An operator's command.
    Command {
        /// Named in [`Action::Reply`].
        token: Token,
        /// What.
        command: Command,
        /// When, in seconds since 1970: of two orders that were given apart the later one wins.
        at: u64,
    },
    /// Stop everything and say goodbye: the host goes down, or the service manager stops us.
    Shutdown {
        /// Which.
        kind: Shutdown,
    },
    /// The time asked for by [`Action::WakeAt`] has come.
    Tick,
}

/// Why the manager ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shutdown {
    /// Hand over and stop what runs: the host goes down, or `systemctl stop`.
    HandOver,
    /// Only the program is exchanged: leave everything running, the next one takes it over.
    Restart,
}

/// What the replication daemon says about the replicated device, as far as decisions need it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaView {
    /// This node is Primary.
    pub primary: bool,
    /// The local disk: UpToDate, Consistent, Outdated, Inconsistent, Failed … (DRBD's words).
    pub disk: String,
    /// Connected to the peer.
    pub connected: bool,
    /// Not even trying to be: after a split brain, or disconnected by somebody.
    #[serde(default)]
    pub stands_alone: bool,
    /// Why, in the replication daemon's words.
    #[serde(default)]
    pub alone_because: Option<String>,
    /// The peer is Primary.
    pub peer_primary: bool,
    /// The peer's disk.
    pub peer_disk: String,
    /// Per mille of a running resync that is done.
    pub sync_permille: Option<u32>,
    /// KiB known to differ.
    pub out_of_sync_kib: u64,
    /// Data sent to the peer since the daemon was started, KiB.
    #[serde(default)]
    pub sent_kib: u64,
    /// Data received from it, KiB.
    #[serde(default)]
    pub received_kib: u64,
    /// Writes of applications that were answered.
    #[serde(default)]
    pub writes: u64,
    /// What they waited, summed up, in microseconds.
    #[serde(default)]
    pub write_us: u64,
    /// Flushes of applications that were answered.
    #[serde(default)]
    pub flushes: u64,
    /// What they waited, summed up, in microseconds.
    #[serde(default)]
    pub flush_us: u64,
    /// Highest term promised.
    pub fence: Term,
    /// Term under which it is Primary.
    pub term: Option<Term>,
    /// It may answer writes without the peer.
    pub alone: bool,
    /// Number of the present loss of the peer.
    pub loss: u64,
    /// Writes wait for a decision.
    pub blocked: bool,
    /// It has learned that its term is over.
    pub deposed: bool,
}

/// Whether something runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Running {
    /// It runs.
    Started,
    /// It does not run, in good order.
    Stopped,
    /// It is broken.
    Failed,
    /// It is starting or stopping, or cannot be told.
    Unknown,
}

/// How an operation on a resource ended, in OCF's terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentOutcome {
    /// What follows from it.
    pub result: AgentResult,
    /// For people; empty when there is nothing to say.
    pub reason: String,
}

/// OCF's exit codes, by what follows from them (resource agent API 1.1; Pacemaker's `remap_operation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentResult {
    /// 0, 190: done; or, for a look, running.
    Ok,
    /// 7: for a look, not running, in good order.
    NotRunning,
    /// 1 and everything unknown: may be tried again or elsewhere.
    Failed,
    /// 2, 3, 4, 5: cannot work on this host.
    NotHere,
    /// 6: cannot work anywhere.
    Nowhere,
    /// It took too long and was killed.
    TimedOut,
    /// The replicated file system is full or read-only: the same on the peer, a failover would not help.
    FileSystem,
}

/// What is to be done with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Start it; done when it serves.
    Start,
    /// Stop it; done when nothing of it is left.
    Stop,
    /// Stop it with all force: its processes are killed, its mounts detached. The device answers EIO already.
    Kill,
    /// Is it running? Also the first look at everything (OCF's probe).
    Monitor,
}

/// What is to be done with the replication daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplicaVerb {
    /// Become Primary.
    Promote {
        /// Under this term.
        term: Term,
        /// The record says that only this node is up to date.
        alone: bool,
        /// Even if the disk is not known to be good: a new pair, or an operator's order.
        force: bool,
    },
    /// Become Secondary in good order.
    Demote,
    /// Promise durably to take part in no older term.
    Fence {
        /// The term.
        term: Term,
    },
    /// Go on without the peer.
    GoAlone {
        /// The present term.
        term: Term,
        /// The loss that was recorded.
        loss: u64,
    },
    /// Take the device away from its users at once: EIO.
    Revoke,
    /// Give up what only the local disk has: connect as the target whatever the generations say.
    Discard,
    /// Try to be connected again.
    Connect,
}

/// State of this host's network and disks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The public segment: link up, and somebody there answers.
    pub public: bool,
    /// The manager's own state can be stored.
    pub state_writable: bool,
    /// Sentences about what is not as it should be.
    pub problems: Vec<String>,
    /// What the group needs and this host does not have, a sentence each: a unit that is not installed, an agent.
    #[serde(default)]
    pub lacking: Vec<String>,
}

impl Health {
    /// Nothing is wrong.
    #[must_use]
    pub const fn good() -> Self {
        Self { public: true, state_writable: true, problems: Vec::new(), lacking: Vec::new() }
    }
}

/// What the shell shall do. Performed in the order given.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Begin an operation of the store. Answered by [`Event::StoreDone`].
    Store {
        /// Named in the answer.
        id: RequestId,
        /// What.
        op: Op,
    },
    /// Say something, on every way that is up.
    Send {
        /// To whom.
        to: Voter,
        /// What.
        message: Message,
    },
    /// Answered by [`Event::ReplicaDone`].
    Replica {
        /// Named in the answer.
        op: OpId,
        /// What.
        verb: ReplicaVerb,
    },
    /// Answered by [`Event::ResourceDone`] within the timeout and some seconds for killing.
    Resource {
        /// Named in the answer.
        op: OpId,
        /// Which.
        resource: ResourceId,
        /// What.
        verb: Verb,
        /// Longest it may take.
        timeout_ms: Millis,
    },
    /// This node may act as primary until then: refresh the lifetime of its addresses, feed the watchdog.
    /// Addresses are only added while this holds.
    MayActUntil {
        /// On the shell's clock.
        until: Millis,
    },
    /// The right to act is over: take every virtual address off this host at once.
    MayNotAct,
    /// Switch a host off and verify it. Answered by [`Event::FenceDone`].
    Fence {
        /// Named in the answer.
        op: OpId,
        /// Whom.
        target: Node,
    },
    /// Reset this host: the last resort after a failed stop, only when configured.
    Reboot {
        /// For the log.
        reason: String,
    },
    /// Answer an operator.
    Reply {
        /// Which command.
        token: Token,
        /// Done (with a sentence), or why not.
        result: Result<String, CommandError>,
    },
    /// The status has changed.
    Publish(Box<Status>),
    /// One line of the log, and of the history when it is a decision.
    Log {
        /// How much it matters.
        level: LogLevel,
        /// The sentence.
        text: String,
    },
    /// Tell people: alert hooks.
    Alert {
        /// How much it matters.
        level: LogLevel,
        /// What kind: `failover`, `resource-failed`, `degraded`, `protected`, `held`, `foreign-start` …
        kind: &'static str,
        /// The sentence.
        text: String,
    },
    /// Deliver [`Event::Tick`] at this time; replaces an earlier request.
    WakeAt {
        /// When.
        at: Millis,
    },
    /// The manager has said goodbye and may end.
    Exit {
        /// What it leaves on this host.
        left: Left,
    },
}

/// What a manager that ends leaves on its host: whether the machine is to be watched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing: everything was stopped, and seen to be.
    Nothing,
    /// What an operator looks after: in maintenance, or before there is a record.
    ToOperators,
    /// The stack, for the next program.
    ToSuccessor,
    /// Something that could not be stopped.
    Stuck,
}

/// Severity, by who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// A person must act.
    Error,
    /// Unexpected; the manager went on.
    Warn,
    /// A rare change of state.
    Info,
}
