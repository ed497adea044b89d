//! The language between operators and the manager: commands, refusals, status.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::{Quorum, ResourceId};
use crate::event::{Health, ReplicaView, Running};
use crate::member::{Node, Nodes};
use crate::record::{Record, Term};
use crate::timing::{Millis, Timing};

/// What an operator asks for. Any node takes any command and passes it on where it must be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// Create the record: this cluster is new, or takes over a running pair. Refused once there is a record.
    Bootstrap {
        /// The first primary.
        primary: Node,
        /// Begin in maintenance: only the device is brought up, resources are left alone until
        /// `maintenance off`.
        maintenance: bool,
    },
    /// Move the stack to the other node (or to this one), in good order.
    Switchover {
        /// Where to; the other one unless named.
        to: Option<Node>,
    },
    /// Keep the stack off a node: it moves away if it runs there.
    Standby {
        /// Which node.
        node: Node,
    },
    /// Take `standby` back.
    Online {
        /// Which node.
        node: Node,
    },
    /// Leave resources alone, or look after them again.
    Maintenance {
        /// On or off.
        on: bool,
    },
    /// No automatic failover.
    Hold {
        /// Why, for the status.
        reason: String,
    },
    /// Automatic failover again; forgets failure counts of the window.
    Resume,
    /// Forget failures, look at everything again.
    Cleanup {
        /// One resource, or all.
        resource: Option<String>,
    },
    /// Stop and start one resource where it runs.
    Restart {
        /// Which.
        resource: String,
    },
    /// Make a node primary that may lack acknowledged writes.
    ForcePrimary {
        /// Which.
        node: Node,
        /// The operator has read what may be lost.
        accept_loss: bool,
    },
    /// An operator has made sure that a node is switched off and stays so until it is heard again: it stands as
    /// fenced where no witness votes (`Quorum::Fencing`, `Quorum::Manual`).
    ConfirmOff {
        /// Which.
        node: Node,
    },
    /// Give up the overruled data of a node that came back after `force-primary`: let it resync.
    DiscardDiverged {
        /// Which.
        node: Node,
    },
}

impl Command {
    /// As an operator types it.
    pub fn words(&self, name: impl Fn(Node) -> String) -> String {
        match self {
            Self::Bootstrap { primary, maintenance } => {
                let extra = if *maintenance { " --maintenance" } else { "" };
                format!("bootstrap --primary {}{extra}", name(*primary))
            }
            Self::Switchover { to: None } => "switchover".to_owned(),
            Self::Switchover { to: Some(to) } => format!("switchover --to {}", name(*to)),
            Self::Standby { node } => format!("standby {}", name(*node)),
            Self::Online { node } => format!("online {}", name(*node)),
            Self::Maintenance { on } => format!("maintenance {}", if *on { "on" } else { "off" }),
            Self::Hold { reason } => format!("hold: {reason}"),
            Self::Resume => "resume".to_owned(),
            Self::Cleanup { resource: None } => "cleanup".to_owned(),
            Self::Cleanup { resource: Some(resource) } => format!("cleanup {resource}"),
            Self::Restart { resource } => format!("restart {resource}"),
            Self::ForcePrimary { node, accept_loss } => {
                let extra = if *accept_loss { " --accept-loss" } else { "" };
                format!("force-primary {}{extra}", name(*node))
            }
            Self::ConfirmOff { node } => format!("confirm-off {}", name(*node)),
            Self::DiscardDiverged { node } => format!("discard-diverged {}", name(*node)),
        }
    }
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct CommandError {
    /// What class.
    pub kind: CommandErrorKind,
    /// What forbids it in this very case, and what would help.
    pub text: String,
}

/// Classes of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandErrorKind {
    /// A precondition does not hold.
    Refused,
    /// No such node or resource.
    NotFound,
    /// The node that must do it cannot be reached, or too few voters can.
    Unreachable,
    /// Begun, and did not come to its end; the status tells where things are.
    Failed,
}

/// The one word that a status begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// The stack runs and any single machine may fail.
    Protected,
    /// The stack runs, and one more failure may stop it.
    Degraded,
    /// An operator must decide something.
    Held,
    /// The stack does not run.
    Down,
}

/// Everything there is to know about the cluster, seen from one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Name of the cluster.
    pub cluster: String,
    /// Which node says this.
    pub node: Node,
    /// Host names of A and B.
    pub names: [String; 2],
    /// The verdict.
    pub verdict: Verdict,
    /// Why, in one sentence; for DEGRADED also what one more failure would do.
    pub because: String,
    /// How votes are counted.
    pub quorum: Quorum,
    /// The newest record known here to be committed.
    pub record: Record,
    /// The record is only what this node's own vote says: the other of two voters was not heard.
    #[serde(default)]
    pub own_vote_only: bool,
    /// Milliseconds left of this node's right to act; `None` when it has none.
    pub lease_left_ms: Option<Millis>,
    /// This node acts without a lease because only it is up to date, by the record.
    pub lone: bool,
    /// This node, and the peer as it last said.
    pub local: NodeView,
    /// The peer.
    pub peer: Option<NodeView>,
    /// Milliseconds since the peer was last heard on any path.
    pub peer_heard_ms_ago: Option<Millis>,
    /// Milliseconds since the witness last answered.
    pub witness_heard_ms_ago: Option<Millis>,
    /// Each configured way.
    pub paths: Vec<PathView>,
    /// The group and then what runs everywhere, in order.
    pub resources: Vec<ResourceView>,
    /// What is being done right now: `switchover to ha-b: stop mariadb`; what the peer does begins with its name.
    pub doing: Option<String>,
    /// Can it fail over, switch over, lose the witness, right now?
    pub can: Vec<Ability>,
    /// Each decision not taken and refusal standing, one sentence each: `why`.
    pub why: Vec<String>,
    /// All times.
    pub timing: Timing,
    /// The last failovers and switchovers, newest first.
    pub history: Vec<Move>,
    /// Moves hither that have come to a good end since this node's manager was started, by their kind.
    #[serde(default)]
    pub moves: BTreeMap<String, u64>,
}

/// One configured way to a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathView {
    /// `peer` or `witness`.
    pub to: String,
    /// Number of the way.
    pub path: u8,
    /// Milliseconds since it last carried something.
    pub heard_ms_ago: Option<Millis>,
}

/// One data host's state, as it is told to the peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// What it is doing, in one word: `active`, `standby`, `starting`, `stopping`, `waiting`.
    pub role: String,
    /// The replicated device.
    pub replica: Option<ReplicaView>,
    /// Its network and disks.
    pub health: Health,
    /// Resources that run there.
    pub running: Vec<ResourceId>,
    /// Resources that failed there.
    pub failed: Vec<ResourceId>,
    /// Digest of what it is configured to run. Numbers of resources mean the same only where this is the same.
    #[serde(default)]
    pub setup: Option<u64>,
    /// What is being done there: `switchover to ha-b: stop mariadb`.
    #[serde(default)]
    pub doing: Option<String>,
    /// What failed there for good and waits for an operator, with what to type.
    #[serde(default)]
    pub given_up: Option<String>,
}

/// One resource, where this node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceView {
    /// Its name.
    pub name: String,
    /// `futago:mount`, `systemd:mariadb.service`, `ocf:heartbeat:IPaddr2`.
    pub class: String,
    /// It belongs to the group, or runs everywhere.
    pub everywhere: bool,
    /// Its state on A and on B, as far as known.
    pub state: [Running; 2],
    /// Nodes where it may not run.
    pub banned: Nodes,
    /// Milliseconds in its present state on this node.
    pub since_ms: Millis,
    /// The manager found it in this state when it was started: it may have been so for longer.
    #[serde(default)]
    pub found: bool,
    /// Failures counted on A and B.
    pub failures: [u32; 2],
    /// The last failure's reason.
    pub reason: Option<String>,
}

/// One question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ability {
    /// `fail over`, `switch over`, `lose the witness`.
    pub what: String,
    /// Yes or no.
    pub yes: bool,
    /// Why.
    pub because: String,
}

/// One move of the stack, with the time of each step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// `switchover`, `takeover`, `start`.
    pub kind: String,
    /// The term it began.
    pub term: Term,
    /// From where.
    pub from: Option<Node>,
    /// Where to.
    pub to: Node,
    /// Why.
    pub because: String,
    /// Milliseconds since it began, on this node's clock.
    pub ago_ms: Millis,
    /// Steps in order: name and milliseconds.
    pub steps: Vec<(String, Millis)>,
    /// It came to its end.
    pub finished: bool,
}
