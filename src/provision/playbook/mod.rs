//! Playbooks: plays and tasks in Ansible's shape, as written; nothing is evaluated here.

mod foreign;
mod read;
mod schema;
mod task;

pub(crate) use foreign::advice;
pub use read::{Read, read};
pub(crate) use schema::{of_playbook, of_tasks};

use crate::inventory::{Inventory, Member};
use base::problem::Place;
use base::yaml::{Entry, Node};

/// The tag of tasks that run whatever tags are asked for.
pub const ALWAYS: &str = "always";
/// The tag of tasks that run only when asked for by a tag.
pub const NEVER: &str = "never";

/// What to do, in order.
#[derive(Clone, Debug)]
pub struct Playbook {
    /// The file it was read from, as shown.
    pub name: String,
    /// Its plays, imports filled in.
    pub plays: Vec<Play>,
}

/// Tasks for some hosts.
#[derive(Clone, Debug)]
pub struct Play {
    /// Its name.
    pub name: String,
    /// Where it starts.
    pub place: Place,
    /// On which hosts.
    pub hosts: Vec<Pattern>,
    /// Only for hosts where all of these hold; decided before contact.
    pub when: Vec<Expression>,
    /// Variables of its tasks.
    pub vars: Vec<Entry>,
    /// What to do.
    pub tasks: Vec<Task>,
    /// What to do at its end when a task asks for it.
    pub handlers: Vec<Task>,
    /// How many hosts at a time; all when absent.
    pub serial: Option<usize>,
}

/// A set of hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// The pair and the witness.
    All,
    /// The two hosts.
    Pair,
    /// The first host of the pair.
    First,
    /// The witness, if there is one.
    Witness,
    /// One host by name.
    Name(String),
}

/// One module, and when and how to run it.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its name; the module's when it has none.
    pub name: String,
    /// Where it starts.
    pub place: Place,
    /// The module; empty when it could not be told, which is reported.
    pub module: String,
    /// Where the module is named.
    pub module_place: Place,
    /// The module's arguments: a mapping.
    pub args: Vec<Entry>,
    /// All must hold.
    pub when: Vec<Expression>,
    /// Once for each item.
    pub each: Option<Each>,
    /// Variable that takes the result.
    pub register: Option<String>,
    /// Handlers to run when something changed.
    pub notify: Vec<(String, Place)>,
    /// Repetition until a condition holds.
    pub until: Option<Until>,
    /// Replaces the module's own opinion.
    pub changed_when: Option<Expression>,
    /// Replaces the module's own opinion.
    pub failed_when: Option<Expression>,
    /// Nothing of it is shown or logged.
    pub no_log: bool,
    /// Only on the first of the hosts; the others get its result.
    pub run_once: bool,
    /// Its own tags and those of its play and imports.
    pub tags: Vec<String>,
    /// Variables of this task.
    pub vars: Vec<Entry>,
}

/// An expression and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    /// Without braces.
    pub source: String,
    /// Its place.
    pub place: Place,
}

/// What a task is repeated for.
#[derive(Clone, Debug)]
pub enum Each {
    /// Written out; items may contain expressions.
    Items(Vec<Node>),
    /// An expression that gives a list.
    Computed(Expression),
}

/// Repetition of a task that is waiting for something.
#[derive(Clone, Debug)]
pub struct Until {
    /// Ends the repetition; sees the result as `result`.
    pub condition: Expression,
    /// At most this often after the first time.
    pub retries: u64,
    /// Seconds between.
    pub delay_seconds: u64,
}

impl Pattern {
    /// A word of `hosts` or `--limit`.
    #[must_use]
    pub fn parse(word: String) -> Self {
        match word.as_str() {
            "all" => Self::All,
            "pair" => Self::Pair,
            "first" => Self::First,
            "witness" => Self::Witness,
            _ => Self::Name(word),
        }
    }

    /// Whether a host belongs to it.
    #[must_use]
    pub fn covers(&self, member: &Member, inventory: &Inventory) -> bool {
        let in_pair = member.disk.is_some();
        match self {
            Self::All => true,
            Self::Pair => in_pair,
            Self::First => inventory.hosts.first().is_some_and(|first| first.name == member.name),
            Self::Witness => !in_pair,
            Self::Name(name) => *name == member.name || *name == member.fqdn,
        }
    }
}

impl Play {
    /// The hosts of this play.
    #[must_use]
    pub fn members<'a>(&self, inventory: &'a Inventory) -> Vec<&'a Member> {
        inventory.members().filter(|m| self.hosts.iter().any(|p| p.covers(m, inventory))).collect()
    }
}
