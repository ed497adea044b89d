//! What the provisioner can do on a host: one file per module, each with its arguments and its checks.

mod command;
mod copy;
mod file;
mod filesystem;
mod firewall;
mod hosts;
mod mount;
mod package;
mod partition;
mod program;
mod replica;
mod schema;
mod service;
mod wait_for;

pub(crate) use schema::nearest;
pub use schema::{ArgError, Key, Kind, Schema};

use serde_json::{Map, Value};

static SCHEMAS: &[Schema] = &[
    command::SCHEMA,
    copy::SCHEMA,
    file::SCHEMA,
    filesystem::SCHEMA,
    firewall::SCHEMA,
    hosts::SCHEMA,
    mount::SCHEMA,
    package::SCHEMA,
    partition::SCHEMA,
    program::SCHEMA,
    replica::SCHEMA,
    service::SCHEMA,
    wait_for::SCHEMA,
];

/// All modules, by name.
#[must_use]
pub fn schemas() -> &'static [Schema] {
    SCHEMAS
}

/// Checks arguments before anything is done: unknown and missing ones, wrong types, combinations that
/// exclude each other. Every mistake is reported.
pub fn check_args(module: &str, args: &Map<String, Value>) -> Result<(), Vec<ArgError>> {
    let Some(schema) = SCHEMAS.iter().find(|schema| schema.name == module) else {
        return Err(vec![unknown_module(module)]);
    };
    schema.coerce(args).map(drop)
}

fn unknown_module(module: &str) -> ArgError {
    ArgError::whole(match schema::nearest(module, SCHEMAS.iter().map(|schema| schema.name)) {
        Some(right) => format!("there is no module \"{module}\"; did you mean \"{right}\"?"),
        None => format!("there is no module \"{module}\""),
    })
}
