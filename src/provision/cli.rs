//! The command line of this part.

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub enum Command {}

/// Runs a verb; the number is the exit code of the program.
pub fn run(command: Command) -> anyhow::Result<u8> {
    match command {}
}
