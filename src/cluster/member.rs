//! Who takes part: two data hosts and, usually, a witness.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One of the two hosts that carry the data, in the order of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Node {
    /// The first host.
    A,
    /// The second host.
    B,
}

impl Node {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The other one.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// Who votes on the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Voter {
    /// The first host.
    A,
    /// The second host.
    B,
    /// The witness: votes, carries no data, never proposes.
    Witness,
}

impl From<Node> for Voter {
    fn from(node: Node) -> Self {
        match node {
            Node::A => Self::A,
            Node::B => Self::B,
        }
    }
}

impl Voter {
    /// The data host, unless it is the witness.
    #[must_use]
    pub const fn node(self) -> Option<Node> {
        match self {
            Self::A => Some(Node::A),
            Self::B => Some(Node::B),
            Self::Witness => None,
        }
    }
}

/// A set of data hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Nodes {
    /// The first host is in it.
    pub a: bool,
    /// The second host is in it.
    pub b: bool,
}

impl Nodes {
    /// Neither.
    pub const NONE: Self = Self { a: false, b: false };
    /// Both.
    pub const BOTH: Self = Self { a: true, b: true };

    /// Only this one.
    #[must_use]
    pub const fn only(node: Node) -> Self {
        match node {
            Node::A => Self { a: true, b: false },
            Node::B => Self { a: false, b: true },
        }
    }

    /// Whether it is in the set.
    #[must_use]
    pub const fn contains(self, node: Node) -> bool {
        match node {
            Node::A => self.a,
            Node::B => self.b,
        }
    }

    /// The set with this one.
    #[must_use]
    pub const fn with(self, node: Node) -> Self {
        match node {
            Node::A => Self { a: true, b: self.b },
            Node::B => Self { a: self.a, b: true },
        }
    }

    /// The set without this one.
    #[must_use]
    pub const fn without(self, node: Node) -> Self {
        match node {
            Node::A => Self { a: false, b: self.b },
            Node::B => Self { a: self.a, b: false },
        }
    }

    /// Whether nobody is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        !self.a && !self.b
    }
}

/// `A`, `B`, `AB` or `-`: for logs of scenarios and models, where hosts have no names.
impl fmt::Display for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.a, self.b) {
            (true, true) => "AB",
            (true, false) => "A",
            (false, true) => "B",
            (false, false) => "-",
        })
    }
}
