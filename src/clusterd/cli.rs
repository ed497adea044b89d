//! The command line of `futago cluster`: Pacemaker's words, one name for each thing.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::config::Site;
use crate::verbs;

/// Arguments of `futago cluster`.
#[derive(Debug, Args)]
pub struct Cluster {
    /// From the controller: ask a host of this inventory over SSH.
    #[arg(short, long, value_name = "INVENTORY", global = true)]
    pub inventory: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) site: Site,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Verbs of `futago cluster`.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show whether the service is protected, and everything that matters for it.
    #[command(
        after_help = "Examples:\n  futago cluster status\n  futago cluster status --watch\n  futago cluster status --json\n\nExit code 0 PROTECTED, 10 DEGRADED, 11 HELD, 12 DOWN, 4 the manager cannot be reached."
    )]
    Status {
        /// As JSON.
        #[arg(long, conflicts_with = "watch")]
        json: bool,
        /// A live view; q ends it.
        #[arg(long)]
        watch: bool,
    },
    /// Say why the manager does what it does, and what keeps it from doing more.
    #[command(
        after_help = "Example:\n  futago cluster why\n\nExit code 0, or 4 when the manager cannot be reached."
    )]
    Why,
    /// Show what would be done next, or for a command; changes nothing.
    #[command(
        subcommand_value_name = "VERB",
        subcommand_help_heading = "Verbs",
        after_help = "Examples:\n  futago cluster plan                      what the manager is about to do by itself\n  futago cluster plan switchover --to ha-b\n  futago cluster plan standby ha-a\n\nExit code 0, 3 when the command would be refused, 4 when the manager cannot be reached."
    )]
    Plan {
        /// The command; what the manager would do by itself when left out.
        #[command(subcommand)]
        action: Option<Action>,
    },
    #[command(flatten)]
    Act(Action),
    /// Show the times that follow from the failover target, and the inequalities that safety rests on.
    #[command(
        after_help = "Examples:\n  futago cluster timings                   of this cluster\n  futago cluster timings --target 2.4s     of another target; needs no manager\n\nExit code 0, 1 when a target cannot be kept or an inequality does not hold, 4 when the manager\ncannot be reached."
    )]
    Timings {
        /// `fast`, `default`, `calm` or a time such as 4s.
        #[arg(long, value_name = "TARGET")]
        target: Option<String>,
    },
    /// Show the last failovers and switchovers step by step, and what was decided.
    #[command(
        after_help = "Examples:\n  futago cluster history\n  futago cluster history --last 100\n  futago cluster history --json\n\nNeeds no running manager. Exit code 0, or 1 when the history cannot be read."
    )]
    History {
        /// As lines of JSON, as they were written.
        #[arg(long)]
        json: bool,
        /// Entries to show at most.
        #[arg(long, value_name = "N", default_value_t = 30)]
        last: usize,
    },
    /// Tell people something through the alert hooks, and write it into the history.
    #[command(
        after_help = "Example:\n  futago cluster alert --kind backup-failed \"the backup failed: journalctl -u futago-backup\"\n\nFor scripts and units (`OnFailure=`). Exit code 0, 1 failed, 4 when the manager cannot be reached."
    )]
    Alert {
        /// What kind of alert, in one word; hooks are told it.
        #[arg(long, value_name = "WORD", default_value = "note")]
        kind: String,
        /// The sentence.
        #[arg(value_name = "TEXT", required = true)]
        text: Vec<String>,
    },
    /// Collect what somebody who helps needs: status, configuration without secrets, logs, history.
    #[command(
        after_help = "Examples:\n  futago cluster report                    futago-HOST-TIME.tar in the current folder\n  futago cluster report /root/r.tar\n\nSays HOST:/path of the file. Run it on both hosts. Needs no running manager. Passwords and keys are left out.\nExit code 0, or 1 when the file cannot be written."
    )]
    Report {
        /// The file to write; refused when it exists.
        #[arg(value_name = "FILE.tar")]
        file: Option<PathBuf>,
    },
}

/// Verbs that change something.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Move the stack to the other host in good order: nothing is lost.
    #[command(
        visible_alias = "move",
        after_help = "Examples:\n  futago cluster switchover                to the other host\n  futago cluster switchover --to ha-b\n\nShows each step and waits for the end. There is one group: nothing else can be moved.\nExit code 0 when the stack runs there, 1 failed, 3 refused, 4 a host cannot be reached."
    )]
    Switchover {
        /// Where to; the other host when left out.
        #[arg(long, value_name = "HOST")]
        to: Option<String>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Keep the stack off a host; it moves away if it runs there.
    #[command(
        after_help = "Example, before work on ha-a:\n  futago cluster standby ha-a\n\nIf the stack runs there: shows each step and waits until it runs on the other host.\nExit code 0, 1 failed, 3 refused, 4 no such host or it cannot be reached."
    )]
    Standby {
        /// Which host.
        host: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Take `standby` back; nothing moves by that alone.
    #[command(
        after_help = "Example, after work on ha-a:\n  futago cluster online ha-a\n\nExit code 0, 1 failed, 3 refused, 4 no such host or it cannot be reached."
    )]
    Online {
        /// Which host.
        host: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Leave all resources alone, or look after them again.
    #[command(
        after_help = "Example, around an upgrade of the database:\n  futago cluster maintenance on\n  futago cluster maintenance off\n\nReplication goes on and stays safe. Refused while the stack is being moved or restarted.\nExit code 0, 1 failed, 3 refused, 4 unreachable."
    )]
    Maintenance {
        /// on: leave them alone; off: look after them.
        #[arg(value_enum)]
        state: OnOff,
        #[command(flatten)]
        wait: Wait,
    },
    /// No automatic failover until `resume`.
    #[command(
        after_help = "Example:\n  futago cluster hold work on the network until 22:00\n\nA switchover by hand still works. Exit code 0, 1 failed, 3 refused, 4 unreachable."
    )]
    Hold {
        /// Why; shown in every status.
        #[arg(value_name = "REASON", default_value = "no reason given")]
        reason: Vec<String>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Automatic failover again.
    #[command(
        after_help = "Example:\n  futago cluster resume\n\nExit code 0, 1 failed, 3 refused, 4 unreachable."
    )]
    Resume(Wait),
    /// Forget failures and look at everything again.
    #[command(
        after_help = "Examples:\n  futago cluster cleanup                   all resources\n  futago cluster cleanup mariadb\n\nExit code 0, 1 failed, 3 refused, 4 no such resource."
    )]
    Cleanup {
        /// Name of a resource; all when left out.
        #[arg(value_name = "RES")]
        resource: Option<String>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Stop and start one resource where it runs.
    #[command(
        after_help = "Example:\n  futago cluster restart apache\n\nShows each step and waits until it runs again. Exit code 0, 1 failed, 3 refused, 4 no such resource."
    )]
    Restart {
        /// Name of the resource.
        #[arg(value_name = "RES")]
        resource: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Begin: create the record of a new cluster. Once.
    #[command(
        after_help = "Example, on one host of a new pair:\n  futago cluster bootstrap --primary ha-a --maintenance\n\nExit code 0, also when there is a record already; 1 failed, 3 refused, 4 unreachable."
    )]
    Bootstrap {
        /// The first primary: its data are the ones that count.
        #[arg(long, value_name = "HOST")]
        primary: String,
        /// Only bring up the device; start nothing before `maintenance off`.
        #[arg(long)]
        maintenance: bool,
        #[command(flatten)]
        wait: Wait,
    },
    /// Run the service on a host that may lack acknowledged writes. The last resort.
    #[command(
        after_help = "Example, when ha-a will not come back:\n  futago cluster force-primary ha-b --accept-loss\n\nPrints what may be lost and asks. The other host's data are kept aside there until discard-diverged.\nExit code 0, 1 failed, 3 refused or not confirmed, 4 too few voters can be reached."
    )]
    ForcePrimary {
        /// Which host.
        host: String,
        /// Without it only what may be lost is printed.
        #[arg(long)]
        accept_loss: bool,
        #[command(flatten)]
        confirm: Confirm,
        #[command(flatten)]
        wait: Wait,
    },
    /// Tell the manager that a host is switched off, where its fence device failed.
    #[command(
        after_help = "Example, when ha-a is dead and its plug is pulled:\n  futago cluster confirm-off ha-a\n\nWith a fence device that failed, the other host then takes over. Make sure first: a host that still runs would go on serving.\nRefused where the dead host may have acknowledged writes alone: there only force-primary helps, which says what may be lost.\nExit code 0, 1 failed, 3 refused, 4 no such host."
    )]
    ConfirmOff {
        /// Which host.
        host: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Give up the overruled data of a host that came back after force-primary.
    #[command(
        after_help = "Example:\n  futago cluster discard-diverged ha-a\n\nAsks first: the data that only this host has are overwritten by a resync.\nExit code 0, 1 failed, 3 refused or not confirmed, 4 no such host or it cannot be reached."
    )]
    DiscardDiverged {
        /// Which host.
        host: String,
        #[command(flatten)]
        confirm: Confirm,
        #[command(flatten)]
        wait: Wait,
    },
}

/// How long to wait.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Wait {
    /// Longest to wait for the end; the manager goes on all the same.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) timeout: u32,
}

/// Whether to ask.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Confirm {
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnOff {
    /// On.
    On,
    /// Off.
    Off,
}

impl Cluster {
    /// The words after `futago cluster` that do the same on a host: the given ones without the inventory.
    #[must_use]
    pub fn words_for_host(words: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut words = words.into_iter();
        let mut out = Vec::new();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--" => {
                    out.push(word);
                    out.extend(words.by_ref());
                }
                "-i" | "--inventory" => drop(words.next()),
                _ if word.starts_with("--inventory=") => {}
                _ if word.starts_with("-i") => {}
                _ => out.push(word),
            }
        }
        out
    }
}

/// Runs a verb on this host; the number is the exit code of the program.
///
/// # Errors
/// What is not an answer of the manager: a file that cannot be written, a terminal that is none.
pub fn run(cluster: Cluster) -> anyhow::Result<u8> {
    verbs::run(&cluster.site, cluster.verb)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Whole {
        #[command(flatten)]
        cluster: Cluster,
    }

    fn parse(line: &str) -> Result<Cluster, clap::Error> {
        Whole::try_parse_from(["cluster"].into_iter().chain(line.split(' '))).map(|whole| whole.cluster)
    }

    #[test]
    fn every_verb_can_be_typed_as_documented() {
        for line in [
            "status --json",
            "why",
            "plan",
            "plan switchover --to ha-b",
            "move --to ha-b",
            "standby ha-a",
            "online ha-a --timeout 5",
            "maintenance on",
            "hold work on the network",
            "hold",
            "resume",
            "cleanup",
            "cleanup mariadb",
            "restart apache",
            "timings --target 4s",
            "history --json --last 5",
            "report /root/r.tar",
            "status --watch",
            "bootstrap --primary ha-a --maintenance",
            "force-primary ha-b --accept-loss --yes",
            "discard-diverged ha-a",
            "confirm-off ha-a",
            "status -i inventory/ha.yml",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(parse("status --json --watch").is_err());
        assert!(parse("maintenance maybe").is_err());
    }

    #[test]
    fn the_host_is_asked_in_the_same_words_without_the_inventory() {
        for line in
            ["-i x.yml hold a b", "hold -i x.yml a b", "hold --inventory=x.yml a b", "hold a b -ix.yml"]
        {
            let words = Cluster::words_for_host(line.split(' ').map(str::to_owned));
            assert_eq!(words, ["hold", "a", "b"], "{line}");
        }
        let words = ["hold", "--", "-i", "x"].map(str::to_owned);
        assert_eq!(Cluster::words_for_host(words.clone()), words);
    }
}
