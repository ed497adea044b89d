//! `plan` and `apply`: everything from the command line to the exit code.

use std::fmt::Display;
use std::io::stdout;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use crate::assets::Assets;
use crate::host;
use crate::identity::Identities;
use crate::inventory::Inventory;
use crate::plan::{Plan, Selection};
use crate::prepare::{self, Prepared};
use crate::report::{Human, Json, Log, Mask, Report, Sink};
use crate::runner::{self, Options, OverSsh, Stop, exit};
use crate::sudo::{Sudo, SudoError};

/// What to run, on what, and how to show it.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Inventory [default: ha.yml, inventory.yml, or the only file in inventory/]
    #[arg(short, long, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// Playbook: a name, or the path of a file
    #[arg(default_value = SITE)]
    playbook: String,
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
    /// Record the keys of hosts that are not known yet, instead of refusing them
    #[arg(long)]
    accept_new: bool,
    #[command(flatten)]
    sudo: Sudo,
    /// One event a line, as JSON, on stdout
    #[arg(long)]
    json: bool,
}

/// The playbook that does everything.
pub(crate) const SITE: &str = "site";

impl Arguments {
    /// All of the site, on all hosts.
    pub(crate) fn whole_site(inventory: Option<PathBuf>, accept_new: bool, sudo: Sudo, json: bool) -> Self {
        Self {
            inventory,
            playbook: SITE.to_owned(),
            tags: Vec::new(),
            skip_tags: Vec::new(),
            limit: Vec::new(),
            start_at_task: None,
            accept_new,
            sudo,
            json,
        }
    }

    /// The inventory that is meant; an error is the whole text that the user needs.
    pub(crate) fn load_inventory(&self) -> Result<Inventory, String> {
        load_inventory(self.inventory.as_deref())
    }

    /// The way to the hosts of an inventory.
    pub(crate) fn over_ssh(&self, inventory: &Inventory) -> Result<OverSsh, SudoError> {
        Ok(OverSsh::new(&inventory.ssh, self.accept_new, self.sudo.password(inventory)?))
    }
}

/// The inventory that is named, or the one that is found here; an error is the whole text that the user needs.
pub fn load_inventory(named: Option<&Path>) -> Result<Inventory, String> {
    Inventory::load(&inventory_file(named)?).map_err(shown)
}

/// The file that is named, or the one that is found here.
pub(crate) fn inventory_file(named: Option<&Path>) -> Result<PathBuf, String> {
    named.map_or_else(find_inventory, |file| Ok(file.to_owned()))
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
struct Ready {
    inventory: Inventory,
    plan: Plan,
    assets: Assets,
    over: OverSsh,
}

/// Runs; the number is the exit code.
pub fn run(arguments: &Arguments, mode: Mode) -> anyhow::Result<u8> {
    let mut ready = match prepare(arguments) {
        Ok(ready) => ready,
        Err(message) => {
            eprintln!("{message}");
            eprintln!("futago: no host was contacted");
            return Ok(exit::USAGE);
        }
    };
    if !mode.check {
        provide_secrets(&mut ready.inventory)?;
    }
    let now = std::time::SystemTime::now();
    ready.inventory.identities = if mode.check {
        Identities::present(&ready.inventory, now)?
    } else {
        Some(Identities::provide(&ready.inventory, now)?)
    };
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    let code = runtime.block_on(execute(arguments, mode, ready));
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

/// Everything before contact; an error is the whole text that the user needs.
fn prepare(arguments: &Arguments) -> Result<Ready, String> {
    let file = inventory_file(arguments.inventory.as_deref())?;
    let selection = Selection {
        tags: arguments.tags.clone(),
        skip_tags: arguments.skip_tags.clone(),
        limit: arguments.limit.clone(),
        start_at: arguments.start_at_task.clone(),
    };
    let assets = prepare::assets(&file);
    let prepared = prepare::prepare(&file, &arguments.playbook, &selection, &assets);
    let Prepared { inventory, plan, .. } = prepared.map_err(shown)?;
    check_ways(&inventory)?;
    let over = arguments.over_ssh(&inventory).map_err(shown)?;
    Ok(Ready { inventory, plan, assets, over })
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

fn shown(error: impl Display) -> String {
    error.to_string()
}

fn find_inventory() -> Result<PathBuf, String> {
    for name in ["ha.yml", "inventory.yml"] {
        if Path::new(name).is_file() {
            return Ok(PathBuf::from(name));
        }
    }
    let files = std::fs::read_dir("inventory").into_iter().flatten().filter_map(|e| Some(e.ok()?.path()));
    let yaml = |path: &PathBuf| path.extension().is_some_and(|e| e == "yml" || e == "yaml");
    let mut files: Vec<PathBuf> = files.filter(yaml).collect();
    match files.pop() {
        Some(only) if files.is_empty() => Ok(only),
        Some(_) => Err("there are several inventories in inventory/; choose one with -i FILE".into()),
        None => {
            Err("there is no inventory here; name one with -i FILE, or write an example with `futago init`"
                .into())
        }
    }
}

async fn execute(arguments: &Arguments, mode: Mode, ready: Ready) -> u8 {
    let Ready { inventory, plan, assets, over } = ready;
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    let mut options = Options {
        check: mode.check,
        diff: mode.diff,
        playbook: arguments.playbook.clone(),
        command: continuation(arguments, &inventory),
        log: None,
    };
    match Log::create(&inventory.project(), &inventory.file) {
        Ok(log) => {
            options.log = Some(log.path().display().to_string());
            sinks.push(Box::new(log));
        }
        Err(error) => {
            eprintln!("this run is not logged: write below {}: {error}", inventory.project().display());
        }
    }
    if arguments.json {
        sinks.push(Box::new(Json(stdout())));
    } else {
        sinks.push(Box::new(Human::standard()));
    }
    let secrets = inventory.secrets.values().values().filter_map(|value| value.as_str().map(str::to_owned));
    let secrets = secrets.chain(inventory.identities.iter().flat_map(Identities::secrets));
    let secrets = secrets.chain(inventory.https.secrets()).chain(over.secret());
    let report = Arc::new(Report::new(sinks, Mask::new(secrets)));
    let stop = Stop::default();
    let run = runner::run(&inventory, plan, assets, Arc::new(over), report.clone(), options, stop.clone());
    tokio::select! {
        code = run => code,
        () = interrupted_twice(&stop, &report) => exit::INTERRUPTED,
    }
}

/// The first Ctrl-C asks to stop after the running step, the second one ends the program at once.
async fn interrupted_twice(stop: &Stop, report: &Report) {
    loop {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without the signal there is nothing to wait for; the run decides.
            std::future::pending::<()>().await;
        }
        if !stop.ask() {
            return;
        }
        report.say(crate::report::Event::Stopping);
    }
}

/// The command of this run without its start, to go on with after a failure.
fn continuation(arguments: &Arguments, inventory: &Inventory) -> String {
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
