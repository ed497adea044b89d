//! Parses the command line, dispatches to a part, maps an error to an exit code.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::aot;
use clusterd::cli::Cluster;
use roff::{Roff, roman};

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
    /// Print the manual page of a command, or write all of them into a folder.
    #[command(
        after_help = "Examples:\n  futago man apply | man -l -\n  futago man cluster switchover | man -l -\n  futago man --dir /usr/local/share/man/man1    then: man futago-apply"
    )]
    Man(Manual),
}

/// Which pages, and where to.
#[derive(clap::Args)]
struct Manual {
    /// The command, such as `cluster status`; futago itself when left out
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
    /// Write a page for every command into this folder; made when missing
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    dir: Option<PathBuf>,
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
        Command::Man(manual) => match &manual.dir {
            Some(dir) => write_pages(dir),
            None => print_page(&manual.command),
        },
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("futago: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A wrong command line. Not clap's 2, which means "the plan has changes" here.
const EX_USAGE: u8 = 64;

/// Help and version are answers; everything else is a wrong command line.
fn usage(error: &clap::Error) -> ExitCode {
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

/// A manual page.
struct Page {
    /// Its name for man(1): `futago-cluster-status`.
    name: String,
    roff: Vec<u8>,
}

/// The section of the manual for programs.
const SECTION: &str = "1";

/// A page for each command that people start, the program's own first.
fn pages() -> anyhow::Result<Vec<Page>> {
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let mut commands = vec![&program];
    let mut pages = Vec::new();
    while let Some(command) = commands.pop() {
        let people = |sub: &&clap::Command| !sub.is_hide_set() && sub.get_name() != "help";
        commands.extend(command.get_subcommands().filter(people));
        let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
        let roff = page(command).with_context(|| format!("make the manual page of {name}"))?;
        pages.push(Page { name, roff });
    }
    Ok(pages)
}

fn page(command: &clap::Command) -> std::io::Result<Vec<u8>> {
    let source = concat!("futago ", env!("CARGO_PKG_VERSION"));
    let man = clap_mangen::Man::new(command.clone()).section(SECTION).source(source).manual("futago");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    examples(&help).to_writer(&mut page)?;
    Ok(page)
}

/// What the help ends with, its lines as they are.
fn examples(help: &str) -> Roff {
    let mut section = Roff::new();
    if help.is_empty() {
        return section;
    }
    section.control("SH", ["EXAMPLES"]).control("nf", []);
    for line in help.lines().filter(|line| !["Example:", "Examples:"].contains(line)) {
        section.text([roman(line)]);
    }
    section.control("fi", []);
    section
}

/// Prints one page.
fn print_page(command: &[String]) -> anyhow::Result<u8> {
    let name = [&["futago".to_owned()], command].concat().join("-");
    let Some(page) = pages()?.into_iter().find(|page| page.name == name) else {
        eprintln!(
            "futago: there is no command `{}` with a manual page; see futago --help",
            command.join(" ")
        );
        return Ok(EX_USAGE);
    };
    std::io::stdout().write_all(&page.roff).context("print the manual page")?;
    Ok(0)
}

/// Writes all pages.
fn write_pages(dir: &Path) -> anyhow::Result<u8> {
    std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    let pages = pages()?;
    for Page { name, roff } in &pages {
        let path = dir.join(format!("{name}.{SECTION}"));
        std::fs::write(&path, roff).with_context(|| format!("write {}", path.display()))?;
    }
    eprintln!("wrote {} manual pages into {}", pages.len(), dir.display());
    Ok(0)
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

    /// The names that man(1) must know: of all commands that the help shows.
    fn names(command: &Clap, path: &str, found: &mut Vec<String>) {
        let path = format!("{path}{}", command.get_name());
        let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
        shown.for_each(|sub| names(sub, &format!("{path}-"), found));
        found.push(path);
    }

    #[test]
    fn every_command_that_the_help_shows_has_a_manual_page_with_its_options_and_examples() {
        let mut expected = Vec::new();
        names(&Cli::command(), "", &mut expected);
        let pages = pages().unwrap();
        let mut made: Vec<&str> = pages.iter().map(|page| page.name.as_str()).collect();
        made.sort_unstable();
        expected.sort();
        assert_eq!(made, expected);
        for Page { name, roff } in &pages {
            let text = std::str::from_utf8(roff).unwrap();
            for section in
                [".TH ", "\n.SH NAME\n", "\n.SH SYNOPSIS\n", "\n.SH DESCRIPTION\n", "\n.SH OPTIONS\n"]
            {
                assert_eq!(text.matches(section).count(), 1, "{name}: {section}");
            }
            let leaf = !text.contains("SUBCOMMANDS") && !text.contains(".SH Verbs");
            assert!(!leaf || text.contains("\n.SH EXAMPLES\n"), "{name}");
        }
    }

    #[test]
    fn manual_pages_have_no_requests_but_known_ones_and_examples_stay_as_they_are() {
        let known = ["TH", "SH", "PP", "TP", "IP", "RS", "RE", "nf", "fi", "br", "ie", "el"];
        for Page { name, roff } in pages().unwrap() {
            let text = String::from_utf8(roff).unwrap();
            for request in text.lines().filter_map(|line| line.strip_prefix('.')) {
                let word = request.split(' ').next().unwrap();
                assert!(known.contains(&word), "{name}: .{request}");
            }
        }
        let apply = pages().unwrap().into_iter().find(|page| page.name == "futago-apply").unwrap();
        let text = String::from_utf8(apply.roff).unwrap().replace("\\-", "-");
        assert!(text.contains("\n  futago apply -i inventory/ha.yml\n"), "{text}");
        assert!(text.contains("--start-at-task"), "{text}");
    }
}
