//! The command line of this part.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;

use crate::agent;
use crate::apply::{self, Mode};
use crate::check;
use crate::doc;
use crate::inventory;
use crate::rebuild;
use crate::schema;
use crate::sudo::Sudo;

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Write an example project into a folder.
    #[command(after_help = "Example:\n  futago init pair && $EDITOR pair/inventory/ha.yml")]
    Init {
        /// The folder; made when missing.
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
    /// Check inventory, playbook and templates for mistakes; contacts nobody.
    ///
    /// All that `plan` and `apply` look at before the first contact, for every task and every host, all mistakes in one
    /// pass: names and values in the inventory, arguments of modules, variables, filters, handlers, templates, files to
    /// copy. Exit code 0 when nothing is wrong, 64 with mistakes.
    #[command(
        after_help = "Examples:\n  futago check -i inventory/ha.yml\n  futago check -i inventory/ha.yml ./playbooks/mine.yml --json\n  futago check -i inventory                   every inventory of a folder"
    )]
    Check(check::Arguments),
    /// Show what apply would do, and do nothing of it.
    ///
    /// To look at a host, this program is copied to it, once for each version: to /var/lib/futago/program, for root only.
    /// Programs that a task names in `unless` are run; they must change nothing.
    ///
    /// Exit code 0 when there is nothing to do, 2 when there is, 1 when it failed, 4 when a host cannot be reached,
    /// 64 on a mistake in the command line, inventory, playbook or a template (then no host was contacted).
    #[command(
        after_help = "Examples:\n  futago plan -i inventory/ha.yml\n  futago plan -i inventory/ha.yml --tags network --limit ha-b\n  futago plan -i east.yml -i west.yml         two clusters side by side"
    )]
    Plan(apply::Arguments),
    /// Bring the hosts into the state that the playbook describes.
    ///
    /// Exit code 0 when done, 1 when it failed, 4 when a host cannot be reached, 64 on a mistake in the command
    /// line, inventory, playbook or a template (then no host was contacted), 130 when interrupted.
    #[command(
        after_help = "Examples:\n  futago apply -i inventory/ha.yml\n  futago apply -i inventory/ha.yml --start-at-task 'Create the metadata of r0'\n  futago apply -i inventory/ha.yml ./playbooks/mine.yml --check --diff\n  futago apply -i inventory --forks 30        all clusters of a folder, thirty hosts at the same time"
    )]
    Apply {
        #[command(flatten)]
        /// What to run, on what, and how to show it.
        arguments: apply::Arguments,
        /// Change nothing, only find out what would change; exit code 2 when something would
        #[arg(long)]
        check: bool,
        /// Show changes line by line
        #[arg(long)]
        diff: bool,
    },
    /// Make a lost host anew on a bare machine, while the other one serves.
    ///
    /// The new machine has the old one's names and addresses, and a disk that is blank (or named in `wipe`). Its SSH key is
    /// a new one: remove the old one from known_hosts. Exit codes as of apply; 1 when the other host does not serve, or the
    /// host is in order.
    #[command(
        after_help = "Example, after ha-b was replaced by a new machine:\n  ssh-keygen -R 203.0.113.12 && futago rebuild ha-b -i inventory/ha.yml --accept-new"
    )]
    Rebuild {
        /// The lost host
        host: String,
        /// Inventory [default: ha.yml, inventory.yml, or the only file in inventory/]
        #[arg(short, long, value_name = "FILE")]
        inventory: Option<PathBuf>,
        /// Record the keys of hosts that are not known yet, instead of refusing them
        #[arg(long)]
        accept_new: bool,
        #[command(flatten)]
        /// How to become root.
        sudo: Sudo,
        /// One event a line, as JSON, on stdout
        #[arg(long)]
        json: bool,
    },
    /// Reference on the terminal.
    #[command(subcommand)]
    Doc(doc::Command),
    /// Print a JSON Schema of the inventory or of playbooks, with which editors complete and check them.
    #[command(
        after_help = "Examples:\n  futago schema > inventory/schema.json\n  futago schema playbook > playbooks/schema.json"
    )]
    Schema {
        /// Of what
        #[arg(value_enum, default_value = "inventory")]
        of: schema::Of,
    },
    /// Carry out steps on this host for a controller; started by it over SSH.
    #[command(
        hide = true,
        after_help = "Example, as the controller starts it:\n  futago agent --holder 'root@laptop, futago apply'"
    )]
    Agent {
        /// On whose behalf.
        #[arg(long, default_value = "someone")]
        holder: String,
        /// The file that keeps two agents apart.
        #[arg(long, default_value = agent::LOCK)]
        lock: PathBuf,
        /// The file that keeps which handlers are owed.
        #[arg(long, default_value = agent::OWED)]
        owed: PathBuf,
    },
}

/// Runs a verb; the number is the exit code of the program.
pub fn run(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Init { folder } => {
            let path = inventory::write_example(&folder)?;
            eprintln!("wrote {path}; edit it, then: futago plan -i {path}", path = path.display());
        }
        Command::Agent { holder, lock, owed } => return agent::run(&holder, &lock, &owed),
        Command::Check(arguments) => return Ok(check::run(&arguments)),
        Command::Plan(arguments) => return apply::run(&arguments, Mode { check: true, diff: true }),
        Command::Apply { arguments, check, diff } => return apply::run(&arguments, Mode { check, diff }),
        Command::Rebuild { host, inventory, accept_new, sudo, json } => {
            return rebuild::run(&host, &apply::Arguments::whole_site(inventory, accept_new, sudo, json));
        }
        Command::Doc(command) => return Ok(doc::run(&command)),
        Command::Schema { of } => {
            io::stdout().write_all(schema::text(of).as_bytes()).context("write the schema")?;
        }
    }
    Ok(0)
}
