//! `plan` and `apply`: everything from the command line to the exit code.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base::problem::Problems;

use crate::assets::Assets;
use crate::fleet;
use crate::host;
use crate::identity::Identities;
use crate::inventory::{self, Inventory};
use crate::plan::{Plan, Selection};
use crate::prepare::{self, Prepared, Refusal};
use crate::runner::{OverSsh, exit};
use crate::sudo::{Sudo, SudoError};

/// What to run, on what, and how to show it.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Inventory, or a folder of them; several clusters by several -i [default: ha.yml, inventory.yml, or the only file in inventory/]
    #[arg(short, long = "inventory", value_name = "FILE")]
    inventories: Vec<PathBuf>,
    /// Playbook: a name, or the path of a file
    #[arg(default_value = SITE)]
    pub(crate) playbook: String,
    /// Only tasks with one of these tags
    #[arg(short, long, value_delimiter = ',', value_name = "TAG")]
    tags: Vec<String>,
    /// No tasks with one of these tags
    #[arg(long, value_delimiter = ',', value_name = "TAG")]
    skip_tags: Vec<String>,
    /// Only these hosts: names, pair, first, witness
    #[arg(short, long, value_delimiter = ',', value_name = "HOST")]
    limit: Vec<String>,
    /// Only from the task with this name on
    #[arg(long, value_name = "NAME")]
    start_at_task: Option<String>,
    /// How many hosts are worked on at the same time, when there are several clusters
    #[arg(short, long, value_name = "HOSTS", default_value_t = FORKS, value_parser = clap::value_parser!(u16).range(1..=MAX_FORKS))]
    pub(crate) forks: u16,
    /// Record the keys of hosts that are not known yet, instead of refusing them
    #[arg(long)]
    accept_new: bool,
    #[command(flatten)]
    sudo: Sudo,
    /// One event a line, as JSON, on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

/// Hosts that are worked on at the same time, unless said otherwise.
const FORKS: u16 = 10;
/// A file descriptor each, of those that a process usually has.
const MAX_FORKS: i64 = 500;

/// The playbook that does everything.
pub(crate) const SITE: &str = "site";

impl Arguments {
    /// All of the site, on all hosts.
    pub(crate) fn whole_site(inventory: Option<PathBuf>, accept_new: bool, sudo: Sudo, json: bool) -> Self {
        Self {
            inventories: inventory.into_iter().collect(),
            playbook: SITE.to_owned(),
            tags: Vec::new(),
            skip_tags: Vec::new(),
            limit: Vec::new(),
            start_at_task: None,
            forks: FORKS,
            accept_new,
            sudo,
            json,
        }
    }

    /// The inventory that is meant; an error is the whole text that the user needs.
    pub(crate) fn load_inventory(&self) -> Result<Inventory, String> {
        load_inventory(self.inventories.first().map(PathBuf::as_path))
    }

    /// The way to the hosts of an inventory.
    pub(crate) fn over_ssh(&self, inventory: &Inventory) -> Result<OverSsh, SudoError> {
        Ok(OverSsh::new(&inventory.ssh, self.accept_new, self.sudo.password(inventory)?))
    }
}

/// The inventory that is named, or the one that is found here; an error is the whole text that the user needs.
pub fn load_inventory(named: Option<&Path>) -> Result<Inventory, String> {
    let file = named.map_or_else(inventory::find, |file| Ok(file.to_owned()))?;
    Inventory::load(&file).map_err(|problems| problems.to_string())
}

/// What may happen.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    /// Change nothing.
    pub check: bool,
    /// Show changes.
    pub diff: bool,
}

/// A run of which everything is known that can be known before contact.
pub(crate) struct Ready {
    pub(crate) inventory: Inventory,
    pub(crate) plan: Plan,
    pub(crate) assets: Assets,
    pub(crate) over: OverSsh,
}

/// Runs; the number is the exit code.
pub fn run(arguments: &Arguments, mode: Mode) -> anyhow::Result<u8> {
    let mut all = match prepare(arguments) {
        Ok(all) => all,
        Err(message) => {
            eprintln!("{message}");
            eprintln!("futago: no host was contacted");
            return Ok(exit::USAGE);
        }
    };
    let now = std::time::SystemTime::now();
    for Ready { inventory, .. } in &mut all {
        if !mode.check {
            provide_secrets(inventory)?;
        }
        inventory.identities = if mode.check {
            Identities::present(inventory, now)?
        } else {
            Some(Identities::provide(inventory, now)?)
        };
    }
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    let code = runtime.block_on(fleet::run(arguments, mode, all));
    // A thread that waits for keys would hold up the end.
    runtime.shutdown_background();
    Ok(code)
}

/// Keeps the secrets that this run has made, and says where.
fn provide_secrets(inventory: &mut Inventory) -> anyhow::Result<()> {
    let made = inventory.secrets.keep()?;
    if !made.is_empty() {
        eprintln!("made and kept in {}: {}", inventory.secrets.file().display(), made.join(", "));
    }
    Ok(())
}

/// Everything before contact, for all clusters; an error is the whole text that the user needs.
fn prepare(arguments: &Arguments) -> Result<Vec<Ready>, String> {
    let selection = Selection {
        tags: arguments.tags.clone(),
        skip_tags: arguments.skip_tags.clone(),
        limit: arguments.limit.clone(),
        start_at: arguments.start_at_task.clone(),
    };
    let (mut prepared, mut mistakes) = (Vec::new(), Problems::default());
    for file in inventory::files(&arguments.inventories)? {
        let assets = prepare::assets(&file);
        match prepare::prepare(&file, &arguments.playbook, &selection, &assets) {
            Ok(all) => prepared.push((all, assets)),
            Err(Refusal::Mistakes(found)) => mistakes.extend(found),
            Err(Refusal::Usage(message)) => return Err(message),
        }
    }
    let prepared = mistakes.or(prepared).map_err(|mistakes| mistakes.to_string())?;
    apart(prepared.iter().map(|(all, _)| (&all.inventory, &all.plan)))?;
    for (Prepared { inventory, .. }, _) in &prepared {
        check_ways(inventory)?;
    }
    let ready = prepared.into_iter().map(|(Prepared { inventory, plan, .. }, assets)| {
        let over = arguments.over_ssh(&inventory).map_err(|error| error.to_string())?;
        Ok(Ready { inventory, plan, assets, over })
    });
    ready.collect()
}

/// Clusters that are worked on side by side have no host in common.
fn apart<'a>(all: impl Iterator<Item = (&'a Inventory, &'a Plan)>) -> Result<(), String> {
    let mut seen = HashMap::new();
    for (inventory, plan) in all {
        let wanted = plan.hosts(inventory);
        for member in inventory.members().filter(|member| wanted.contains(&member.name)) {
            let jump = inventory.ssh.jump.as_ref().map(|jump| &jump.host);
            let way = (&inventory.ssh.netns, jump, member.address, member.port.unwrap_or(inventory.ssh.port));
            if let Some(other) = seen.insert(way, (inventory, member)) {
                let (first, same) = (other.0.file.display(), &other.1.name);
                return Err(format!(
                    "{}: {} ({}) is {same} of {first}, too: clusters that share a host are not worked on side by side\n  \
                     hint: name one inventory at a time",
                    inventory.file.display(),
                    member.name,
                    member.address
                ));
            }
        }
    }
    Ok(())
}

/// What the way to the hosts needs on this machine.
fn check_ways(inventory: &Inventory) -> Result<(), String> {
    let (file, ssh) = (inventory.file.display(), &inventory.ssh);
    let of_jump = ssh.jump.as_ref().and_then(|jump| jump.identity.as_ref());
    for (key, identity) in [("ssh.identity", ssh.identity.as_ref()), ("ssh.jump.identity", of_jump)] {
        let Some(identity) = identity else { continue };
        std::fs::File::open(identity)
            .map_err(|error| format!("{file}: {key}: read {}: {error}", identity.display()))?;
    }
    match &ssh.netns {
        Some(netns) if !host::namespace(netns).exists() => Err(format!(
            "{file}: ssh.netns: there is no network namespace {netns}\n  hint: a lab has its own while it is up: \
             futago lab up --name NAME"
        )),
        _ => Ok(()),
    }
}

/// The command of this run without its start, to go on with after a failure.
pub(crate) fn continuation(arguments: &Arguments, inventory: &Inventory) -> String {
    let mut words = vec!["futago apply -i".to_owned(), inventory.file.display().to_string()];
    if arguments.playbook != SITE {
        words.push(arguments.playbook.clone());
    }
    let lists =
        [("--tags", &arguments.tags), ("--skip-tags", &arguments.skip_tags), ("--limit", &arguments.limit)];
    for (option, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
        words.extend([(*option).to_owned(), list.join(",")]);
    }
    if let Some(file) = arguments.sudo.file() {
        words.extend(["--become-password-file".to_owned(), file.display().to_string()]);
    }
    words.join(" ")
}
