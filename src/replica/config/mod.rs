//! The configuration language: drbd.conf's resource files, the part that concerns two nodes.
//!
//! Text in, checked resources out; every mistake with its place. No file is opened here: the shell reads
//! files and expands `include`, and hands over names and texts. The steps, one file each:
//!
//! ```text
//! lexer    text       → words and signs
//! tree     signs      → statements: words, then ";" or a block; repairs missing signs and goes on
//! collect  statements → what the file says, section by section (section, options, table: the grammar)
//! resolve  all files  → resources: inheritance, defaults, completeness, clashes
//! ```
//! Inheritance, from general to special: `common`, `resource`, `on`, `volume`, `connection`.

mod collect;
mod error;
mod lexer;
mod options;
mod raw;
mod resolve;
mod section;
mod table;
mod tree;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

pub use error::{Advice, ConfigError, Location, Note, Problem, Wanted, Why};
pub use options::{Kind, Unit};

use crate::activity;
use crate::engine::{Settings, UndoPolicy};
use crate::event::Millis;
use crate::handler::Handler;

/// Most mistakes that are reported in one go: beyond it, the file is something else.
const MAX_ERRORS: usize = 50;

/// What the files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The resources, in the order of the files.
    pub resources: Vec<Resource>,
    /// Statements that were accepted and have no effect.
    pub notes: Vec<Note>,
    /// The `include` statements: file patterns, relative to the including file.
    pub includes: Vec<Include>,
}

/// An `include "pattern";`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Include {
    /// The pattern as written.
    pub pattern: String,
    /// Where.
    pub at: Location,
}

/// What is run for which handler: a line for `/bin/sh`.
pub type Commands = BTreeMap<Handler, String>;

/// One resource, complete and without contradictions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Name.
    pub name: String,
    /// Number of its one volume.
    pub volume: u32,
    /// Minor number of the device.
    pub minor: u32,
    /// Path of the replicated device, the same on both hosts.
    pub device: String,
    /// The two hosts, in the order of the file.
    pub hosts: [Host; 2],
    /// The scripts that are called.
    pub handlers: Commands,
    /// Where it is defined.
    pub at: Location,
}

/// One side of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Name, as `uname -n` prints it there.
    pub name: String,
    /// Number.
    pub node_id: u32,
    /// Address for replication.
    pub address: SocketAddr,
    /// Path of the backing disk.
    pub disk: String,
    /// Path of the undo log, where the files say it: a file, or a block device.
    pub undo_file: Option<String>,
    /// The options that hold on this host.
    pub options: Options,
}

/// The options that have an effect, with defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// `ping-int`.
    pub ping_interval_ms: Millis,
    /// `ping-timeout`.
    pub ping_timeout_ms: Millis,
    /// `timeout`.
    pub timeout_ms: Millis,
    /// `ko-count`: how many times `timeout` the peer may take.
    pub ko_count: u32,
    /// `connect-int`.
    pub connect_interval_ms: Millis,
    /// `disk-timeout`; 0 for ever.
    pub disk_timeout_ms: Millis,
    /// `al-extents`.
    pub al_extents: u32,
    /// The lower one of `resync-rate` and `c-max-rate`; 0 for no limit.
    pub resync_rate_kib: u64,
    /// `managed`: the cluster manager decides who is Primary and who goes on alone.
    pub managed: bool,
    /// `tls`: whether the peer must prove who it is, and nobody can read along. `None`: as the host has an identity.
    pub tls: Option<bool>,
    /// `undo-log`: whether a resync of this host's disk keeps what it writes over.
    pub undo: UndoPolicy,
    /// `on-io-error call-local-io-error`: the handler is called before the failed disk is given up.
    pub calls_local_io_error: bool,
}

/// What holds where the files say nothing.
///
/// Deliberately not DRBD's: `ping-int` and `connect-int` are 1 s (DRBD 10 s), so that the loss and the return
/// of a peer are noticed within about a second, a resync has no upper limit (DRBD 100 MiB/s), and a disk that does not
/// answer for a minute counts as failed (DRBD: never).
pub const DEFAULTS: Options = Options {
    ping_interval_ms: 1000,
    ping_timeout_ms: 500,
    timeout_ms: 6000,
    ko_count: 7,
    connect_interval_ms: 1000,
    disk_timeout_ms: 60_000,
    al_extents: 1237,
    resync_rate_kib: 0,
    managed: false,
    tls: None,
    undo: UndoPolicy::Try,
    calls_local_io_error: false,
};

/// A resource as one of its hosts sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// For the engine.
    pub settings: Settings,
    /// Path of the replicated device.
    pub device: String,
    /// Path of this host's backing disk.
    pub disk: String,
    /// This host's address.
    pub address: SocketAddr,
    /// The peer's address.
    pub peer_address: SocketAddr,
    /// `tls`, where the files say it.
    pub tls: Option<bool>,
    /// `undo-file`, where the files say it.
    pub undo_file: Option<String>,
    /// The scripts that are called here.
    pub handlers: Commands,
}

/// Parses one file.
pub fn parse(file: &str, text: &str) -> Result<Parsed, Vec<ConfigError>> {
    parse_files(&[(file, text)])
}

/// Parses several files as one configuration: `common` of any file holds for all resources, and resources of
/// different files must not clash.
pub fn parse_files(files: &[(&str, &str)]) -> Result<Parsed, Vec<ConfigError>> {
    let mut collector = collect::Collector::default();
    for (file, text) in files {
        let tokens = lexer::tokens(&Arc::from(*file), text, &mut collector.errors);
        let statements = tree::statements(tokens, &mut collector.errors);
        collector.file(&statements);
    }
    let collect::Collector { mut errors, mut notes, common, resources, includes } = collector;
    // After a lost brace nothing is where it belongs: what seems to be missing then is only elsewhere.
    let resources = if errors.iter().any(|e| e.problem.displaces()) {
        Vec::new()
    } else {
        resolve::resources(&resources, &common, &mut errors, &mut notes)
    };
    let order = |at: &Location| (files.iter().position(|(f, _)| **f == *at.file), at.line, at.column);
    if errors.is_empty() {
        notes.sort_by_key(|note| order(&note.at));
        return Ok(Parsed { resources, notes, includes });
    }
    errors.sort_by_key(|error| order(&error.at));
    if let Some(cut) = errors.get(MAX_ERRORS) {
        let at = cut.at.clone();
        errors.truncate(MAX_ERRORS);
        errors.push(ConfigError { at, problem: Problem::TooMany });
    }
    Err(errors)
}

impl Parsed {
    /// The resource of this name.
    #[must_use]
    pub fn resource(&self, name: &str) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.name == name)
    }
}

impl Resource {
    /// The resource as the host named `node` sees it.
    pub fn for_node(&self, node: &str) -> Result<Local, ConfigError> {
        let [a, b] = &self.hosts;
        let (own, peer) = match node {
            n if n == a.name => (a, b),
            n if n == b.name => (b, a),
            _ => {
                let hosts = [a.name.clone(), b.name.clone()];
                let (resource, node) = (self.name.clone(), node.to_owned());
                let problem = Problem::NotHere { resource, hosts, node };
                return Err(ConfigError { at: self.at.clone(), problem });
            }
        };
        let options = own.options;
        let mut handlers = self.handlers.clone();
        handlers.retain(|handler, _| *handler != Handler::LocalIoError || options.calls_local_io_error);
        let settings = Settings {
            resource: self.name.clone(),
            node: own.name.clone(),
            node_id: own.node_id,
            peer: peer.name.clone(),
            peer_node_id: peer.node_id,
            volume: self.volume,
            minor: self.minor,
            ping_interval_ms: options.ping_interval_ms,
            ping_timeout_ms: options.ping_timeout_ms,
            request_timeout_ms: options.timeout_ms.saturating_mul(u64::from(options.ko_count)),
            connect_interval_ms: options.connect_interval_ms,
            disk_timeout_ms: options.disk_timeout_ms,
            al_extents: options.al_extents.min(activity::MAX_EXTENTS),
            resync_rate_kib: options.resync_rate_kib,
            managed: options.managed,
            undo: options.undo,
            handlers: handlers.keys().copied().collect(),
        };
        Ok(Local {
            settings,
            device: self.device.clone(),
            disk: own.disk.clone(),
            address: own.address,
            peer_address: peer.address,
            tls: options.tls,
            undo_file: own.undo_file.clone(),
            handlers,
        })
    }
}
