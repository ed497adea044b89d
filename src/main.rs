//! Parses the command line, dispatches to a part, maps an error to an exit code.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::aot;
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
    /// Print the script with which a shell completes commands and options.
    #[command(
        after_help = "Examples:\n  futago completions bash > /etc/bash_completion.d/futago\n  futago completions zsh > /usr/local/share/zsh/site-functions/_futago\n  futago completions fish > ~/.config/fish/completions/futago.fish"
    )]
    Completions(Completions),
}

/// What to make a script for.
#[derive(clap::Args)]
struct Completions {
    /// The shell
    shell: Shell,
}

/// Shells that Linux servers and their administrators have.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
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
        Command::Completions(completions) => print_completions(&completions, Cli::command()),
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

/// Prints the script.
fn print_completions(completions: &Completions, program: clap::Command) -> anyhow::Result<u8> {
    std::io::stdout().write_all(&script(completions.shell, program)).context("print the script")?;
    Ok(0)
}

/// The script of a shell.
fn script(shell: Shell, mut program: clap::Command) -> Vec<u8> {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    match shell {
        Shell::Bash => aot::generate(aot::Bash, &mut program, name, &mut script),
        Shell::Zsh => aot::generate(aot::Zsh, &mut program, name, &mut script),
        Shell::Fish => aot::generate(aot::Fish, &mut program, name, &mut script),
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Command as Clap;
    use std::process::Command as Process;

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

    /// What bash offers after these words.
    fn offered(words: &[&str]) -> String {
        let script = String::from_utf8(script(Shell::Bash, Cli::command())).unwrap();
        let last = words.len() - 1;
        let (current, previous) = (words[last], words[last - 1]);
        let asked = format!(
            "{script}\nCOMP_WORDS=({}); COMP_CWORD={last}; _futago futago '{current}' '{previous}'\necho \"${{COMPREPLY[*]}}\"",
            words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ")
        );
        // As a file: it is longer than an argument may be.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), asked).unwrap();
        let output = Process::new("bash").arg("--norc").arg(file.path()).output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn bash_completes_commands_options_and_words_of_options() {
        assert_eq!(offered(&["futago", "pl"]), "plan\n");
        assert_eq!(offered(&["futago", "doc", "mod"]), "module\n");
        assert_eq!(offered(&["futago", "completions", ""]).split_whitespace().last(), Some("fish"));
        assert!(offered(&["futago", "apply", "--"]).contains("--start-at-task"));
        assert!(offered(&["futago", "cluster", "sw"]).contains("switchover"));
    }

    #[test]
    fn every_shell_has_a_script_that_names_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(script(shell, Cli::command())).unwrap();
            for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
                assert!(script.contains(command.get_name()), "{shell:?}: {}", command.get_name());
            }
        }
    }
}
