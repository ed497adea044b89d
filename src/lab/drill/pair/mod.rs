//! `futago drill`: faults on a real pair, after asking, while pages are asked for and rows are written.
//!
//! Nothing is done to a pair that is not PROTECTED, and whatever was stopped is started again, also after a failure or Ctrl-C.

mod course;
mod fault;
mod hosts;
mod page;
mod tls;
mod writer;

use std::path::PathBuf;

use anyhow::{anyhow, bail};
use base::question::{self, Answered};
use provision::apply::load_inventory;
use provision::host::HostError;
use provision::inventory::{Inventory, Manager};
use provision::runner::exit;

use course::{Done, Scene};
use fault::Fault;
use hosts::{Hosts, Remote};
use page::{PACE, Visitor};

use super::course::BACK;
use super::record::{Asked, Client, LeftOut, Record};
use super::report::Folder;
use crate::interrupt::Interrupt;

const EXAMPLES: &str = "\
Examples:
  futago drill -i ha.yml                        all five, after asking; about two minutes
  futago drill switchover -i ha.yml --report reports
  futago drill -i ha.yml --yes --json | jq '.drills[] | {name, passed}'

The drills: switchover, manager-stop, mariadb-crash, standby-loss, resync. Power and cables are not
cut: futago lab drill rehearses that.
Exit code 0 when every drill kept its promises, 1 when one did not, the pair was not fit or nobody
said yes, 4 when a host cannot be reached, 64 on a mistake in the command line or the inventory,
130 after Ctrl-C.";

/// Rehearse faults on a real pair while it serves: what each cost, as a table, a record and a page; asks before.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The drills, in this order; all five if none is named
    #[arg(value_name = "DRILL", value_parser = Fault::read)]
    drills: Vec<Fault>,
    /// Inventory [default: ha.yml, inventory.yml, or the only file in inventory/]
    #[arg(short, long, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// Write drill-CLUSTER.json, with every request, and drill-CLUSTER.html, a page that needs nothing else
    #[arg(long, value_name = "FOLDER")]
    report: Option<PathBuf>,
    /// End with one JSON object on stdout instead of a table
    #[arg(long)]
    json: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Runs the drills; the number is the exit code.
pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let inventory = match load_inventory(arguments.inventory.as_deref()) {
        Ok(inventory) => inventory,
        Err(message) => {
            eprintln!("{message}");
            return Ok(exit::USAGE);
        }
    };
    match drill(arguments, &inventory) {
        Err(error)
            if error
                .chain()
                .any(|cause| cause.downcast_ref::<HostError>().is_some_and(HostError::is_unreachable)) =>
        {
            eprintln!("futago: {error:#}");
            Ok(exit::UNREACHABLE)
        }
        other => other,
    }
}

fn drill(arguments: &Arguments, inventory: &Inventory) -> anyhow::Result<u8> {
    let Some(manager) = &inventory.manager else {
        bail!("{} has no cluster manager: there is nothing to drill", inventory.file.display());
    };
    let faults = if arguments.drills.is_empty() { Fault::ALL.to_vec() } else { arguments.drills.clone() };
    if !manager.units.iter().any(|unit| unit == "mariadb") {
        bail!(
            "the manager of {} does not run mariadb, and the rows of a drill are written into it",
            inventory.cluster
        );
    }
    let folder = arguments.report.as_deref().map(Folder::open).transpose()?;
    let hosts = Hosts::of(inventory)?;
    // Ctrl-C ends the program as long as there is nothing to take back.
    let active = fit(&hosts)?;
    let visitor = Visitor::find(inventory, &hosts)?;
    tell(inventory, &faults, &active.name, &visitor);
    if !arguments.yes && !agreed(&inventory.cluster) {
        return Ok(exit::FAILED);
    }
    let interrupt = Interrupt::watch()?;
    let mut record = begin(inventory, manager, &visitor)?;
    let scene = Scene { hosts: &hosts, visitor: &visitor, units: &manager.units, interrupt: &interrupt };
    // Whoever was asked may have taken their time.
    let made = fit(&hosts).and_then(|active| writer::make(&hosts, active))?;
    let mut left = drill_all(&faults, &scene, &mut record);
    left.extend(made.remove(&hosts).err().map(|error| format!("{error:#}")));
    left.iter().for_each(|what| eprintln!("futago: not put back: {what}"));
    finish(arguments, &record, folder, &inventory.cluster)?;
    if interrupt.check().is_err() {
        eprintln!("futago: interrupted");
        return Ok(exit::INTERRUPTED);
    }
    Ok(if record.passed() && left.is_empty() { exit::DONE } else { exit::FAILED })
}

/// The host where the service of a pair runs that may be drilled.
fn fit(hosts: &Hosts) -> anyhow::Result<&Remote> {
    let calm = Interrupt::never();
    if let Some(why) = hosts.unfit(&calm)? {
        bail!("the pair is not PROTECTED, and only such a pair is drilled: {why}; nothing was done");
    }
    let active = hosts.until_active(BACK, &calm)?;
    writer::absent(hosts, active)?;
    Ok(active)
}

/// What will be done, for who is asked.
fn tell(inventory: &Inventory, faults: &[Fault], active: &str, visitor: &Visitor) {
    let cluster = &inventory.cluster;
    eprintln!("{cluster} is PROTECTED and runs on {active}. This will be done to it, one after the other:\n");
    for fault in faults {
        eprintln!("  {}: {}.\n    The service: {}.", fault.word(), fault.done(), fault.cost());
    }
    eprintln!(
        "\nMeanwhile {} is asked for {} times a second, {}, and rows are written into a database of the drill's own, {}, \
         which is dropped at the end. When the pair does not do what it promises, the service may be away for longer.",
        visitor.url,
        1000 / PACE.every_ms,
        visitor.way,
        writer::DATABASE
    );
}

fn agreed(cluster: &str) -> bool {
    match question::typed(&[cluster, "yes"]) {
        Answered::Yes => return true,
        Answered::No => eprintln!("futago: nothing was done"),
        Answered::Nobody => {
            eprintln!("futago: nothing was done: there is no terminal to ask on; add --yes if you mean it");
        }
    }
    false
}

fn begin(inventory: &Inventory, manager: &Manager, visitor: &Visitor) -> anyhow::Result<Record> {
    let names: Vec<&str> = inventory.hosts.iter().map(|host| host.name.as_str()).collect();
    let client =
        Client { asks_for: Asked::Pages, pace: PACE, way: format!("for {}, {}", visitor.url, visitor.way) };
    let target = manager.plain.get("failover_target").map_or_else(
        || "default".to_owned(),
        |target| target.as_str().map_or_else(|| target.to_string(), str::to_owned),
    );
    let stack = inventory.stack.clone().unwrap_or_else(|| "own".to_owned());
    let pair = format!("the pair {} of {}", names.join(" and "), inventory.cluster);
    Record::begin(pair, stack, format!("futago, {target}"), client)
}

/// Does what it can; returns what could not be put back.
fn drill_all(faults: &[Fault], scene: &Scene<'_>, record: &mut Record) -> Vec<String> {
    let mut left = Vec::new();
    for fault in faults {
        eprintln!("\n=== {}: {}", fault.word(), fault.done());
        let because = match course::follow(*fault, scene) {
            Ok(Done { drill, left: remains }) => {
                eprintln!("--- {}", drill.sentence());
                left.extend(remains.clone());
                // A broken promise is in the record, and no reason to stop.
                let _ = record.add(drill);
                remains.map(|why| anyhow!(why))
            }
            // Nothing was seen of this one, and nothing was done.
            Err(error) => Some(error),
        };
        let stop = scene.interrupt.check().err().map(Into::into);
        if let Some(error) = stop.or(because) {
            let begun = record.drills.len();
            let drills: Vec<String> =
                faults.iter().skip(begun).map(|fault| fault.word().to_owned()).collect();
            record.left_out = (!drills.is_empty()).then(|| LeftOut { drills, because: format!("{error:#}") });
            break;
        }
    }
    left
}

fn finish(
    arguments: &Arguments,
    record: &Record,
    folder: Option<Folder>,
    cluster: &str,
) -> anyhow::Result<()> {
    eprintln!();
    if arguments.json {
        eprint!("{record}");
        println!("{}", record.json()?);
    } else {
        print!("{record}");
    }
    match folder {
        Some(folder) if !record.drills.is_empty() => folder.keep(record, cluster).map(drop),
        _ => Ok(()),
    }
}
