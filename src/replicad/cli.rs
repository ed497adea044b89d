//! The command line of this part.

/// Verbs of `futago replica`.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {}

/// Arguments of `futago replicad`.
#[derive(Debug, clap::Args)]
pub struct Daemon {}

/// Runs a verb; the number is the exit code of the program.
pub fn run_verb(verb: Verb) -> anyhow::Result<u8> {
    match verb {}
}

/// Runs the daemon until it is told to stop.
pub fn run_daemon(_daemon: Daemon) -> anyhow::Result<u8> {
    Ok(0)
}
