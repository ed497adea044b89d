//! Parses the command line, dispatches to a part, maps an error to an exit code.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Turns two plain Linux servers into one highly available LAMP service.
#[derive(Parser)]
#[command(name = "futago", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Provision(provision::cli::Command),
    /// The administrator's verbs of replication: drbdadm's words and output.
    #[command(subcommand)]
    Replica(replicad::cli::Verb),
    /// The replication daemon.
    Replicad(replicad::cli::Daemon),
    /// A local pair of real hosts to try things on.
    #[command(subcommand)]
    Lab(lab::cli::Command),
}

/// Each part returns its own documented exit code, or an error, which ends here as exit code 1.
fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let result = match cli.command {
        Command::Provision(command) => provision::cli::run(command),
        Command::Replica(verb) => replicad::cli::run_verb(verb),
        Command::Replicad(daemon) => replicad::cli::run_daemon(daemon),
        Command::Lab(command) => lab::cli::run(command),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("futago: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Help and version are answers; everything else is a wrong command line. Its code is not clap's 2, which means
/// "the plan has changes" here.
fn usage(error: &clap::Error) -> ExitCode {
    const EX_USAGE: u8 = 64;
    // Nobody may be reading; the code tells all the same.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS }
}
