//! Parses the command line, dispatches to a part, maps an error to an exit code.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use clusterd::cli::Cluster;

/// Turns two plain Linux servers into one highly available LAMP service.
#[derive(Parser)]
#[command(
    name = "futago",
    version,
    propagate_version = true,
    after_help = "Examples:\n  futago lab demo                     see it work, on two hosts made on this machine\n  futago init pair                    write an inventory for two hosts of your own\n  futago apply -i pair/inventory/ha.yml\n  futago replica status r0            on a host: what replication is doing\n  futago cluster status               on a host: is the service protected\n\n`futago COMMAND --help` shows examples of each command."
)]
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
    /// The cluster manager: is the service protected, move it, look after it. Pacemaker's words.
    Cluster(Cluster),
    /// The cluster manager of a host.
    Clusterd(clusterd::daemon::Daemon),
    /// The witness: votes for clusters and carries no data.
    Witnessd(clusterd::witness::Daemon),
    /// Rehearse faults on a real pair while it serves: what each cost, as a table, a record and a page; asks before.
    Drill(lab::drill::pair::Arguments),
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
        Command::Cluster(cluster) => match &cluster.inventory {
            // Behind the program's name and `cluster`.
            Some(inventory) => {
                provision::remote::run(inventory, &Cluster::words_for_host(std::env::args().skip(2)))
            }
            None => clusterd::cli::run(cluster),
        },
        Command::Clusterd(daemon) => clusterd::daemon::run(daemon),
        Command::Witnessd(daemon) => clusterd::witness::run(daemon),
        Command::Drill(arguments) => lab::drill::pair::run(&arguments),
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command as Clap, CommandFactory as _};

    /// Those that people do not start themselves have no use for one.
    fn without_example(command: &Clap, path: &str, found: &mut Vec<String>) {
        let path = format!("{path} {}", command.get_name());
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        if !command.has_subcommands() && !command.is_hide_set() && !help.contains("Example") {
            found.push(path.clone());
        }
        command.get_subcommands().for_each(|sub| without_example(sub, &path, found));
    }

    #[test]
    fn every_command_shows_an_example() {
        let mut found = Vec::new();
        without_example(&Cli::command(), "", &mut found);
        assert!(found.is_empty(), "no example in the help of {found:?}");
    }
}
