//! The command line of the lab.

use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::bench::{self, Choice, Subject};
use crate::control_group;
use crate::demo;
use crate::drill::{self, Case, Order};
use crate::exec;
use crate::fault::{self, Link};
use crate::host;
use crate::interrupt::{Interrupt, Interrupted};
use crate::layout::{self, Lab};
use crate::load::Load;
use crate::power::{self, Keep};
use crate::publish;
use crate::requirements;
use crate::sources;
use crate::stack::{self, Stack};
use crate::stage::Stage;
use crate::status;
use crate::up::{self, Wish};

/// The exit code after Ctrl-C, as in shells.
const INTERRUPTED: u8 = 130;

/// How soon the client notices that it shall stop.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boot the pair, making it first if need be; write inventory, key and known_hosts and print where.
    #[command(
        after_help = "Examples:\n  futago lab up\n  futago lab up --name rehearsal --witness --disk-size 4G\n  futago apply -i /var/lib/futago/lab/lab/inventory.yml"
    )]
    Up(UpArgs),
    /// Stop the pair and remove what it holds of the machine; disks stay unless --purge is given.
    #[command(
        after_help = "Examples:\n  futago lab down             the disks stay, `lab up` boots them again\n  futago lab down --purge     nothing stays"
    )]
    Down(DownArgs),
    /// Show hosts, addresses, disks and links.
    #[command(after_help = "Examples:\n  futago lab status\n  futago lab status --json")]
    Status(StatusArgs),
    /// Run a command in a host; its output and exit code pass through.
    #[command(
        after_help = "Example:\n  futago lab exec ha-a -- futago replica status r0\n\nExit code: the command's own; 128 and the signal's number when a signal ended it."
    )]
    Exec(ExecArgs),
    /// Log in to a host, or run a command there, with the ssh client.
    #[command(
        after_help = "Examples:\n  futago lab ssh ha-a\n  futago lab ssh ha-a -- uname -n\n\nExit code: that of ssh, which is the command's own, or 255 when ssh itself failed."
    )]
    Ssh(SshArgs),
    /// Cut a host's power: all of it ends at once, its disks stay as they are.
    #[command(after_help = "Example:\n  futago lab power-off ha-b")]
    PowerOff(HostArgs),
    /// Boot a host whose power was cut.
    #[command(after_help = "Example:\n  futago lab power-on ha-b")]
    PowerOn(HostArgs),
    /// Exchange a host for a bare one with a blank disk: nothing of the old one is left.
    #[command(
        after_help = "Example:\n  futago lab exchange ha-b && futago rebuild ha-b -i /var/lib/futago/lab/lab/inventory.yml"
    )]
    Exchange(HostArgs),
    /// Drop the packets of a link, in both directions or in one.
    #[command(
        after_help = "Examples:\n  futago lab cut local                        the pair no longer hears each other\n  futago lab cut local --from ha-a            ha-b no longer hears ha-a\n  futago lab cut public --loss 20 --delay 50  a bad line"
    )]
    Cut(CutArgs),
    /// Let packets through again.
    #[command(after_help = "Examples:\n  futago lab heal local\n  futago lab heal             every link")]
    Heal(HealArgs),
    /// Show the service to a browser on this machine: forward a port of 127.0.0.1 to the virtual address, until Ctrl-C.
    #[command(after_help = PUBLISH_EXAMPLES)]
    Publish(PublishArgs),
    /// Show it all: boot a pair, provision it, fail over, cut power, resync, every step verified.
    #[command(
        after_help = "Examples:\n  futago lab demo                a mirrored disk, moved by hand\n  futago lab demo --stack lamp   a service that moves by itself, under load\n  futago lab demo --stack zabbix --keep --report reports   and then look at it with a browser\n  futago lab demo --json | tail -n 1\n\nExit code 0 when every step was verified, else 1."
    )]
    Demo(DemoArgs),
    /// Rehearse faults on a pair of its own while a client writes: what each cost, as a table, a record and a page.
    #[command(after_help = DRILL_EXAMPLES)]
    Drill(DrillArgs),
    /// Measure on a pair of its own and take it down again: figures side by side, in one run.
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(BenchArgs),
    /// Write rows through the virtual address and audit the hosts until told to stop; for tests.
    #[command(hide = true)]
    Client(ClientArgs),
    /// Install the page that writes rows, each host with a server and a database of its own; for tests.
    #[command(hide = true)]
    Stack(StackArgs),
    /// Let hosts install what only comparisons need; for tests.
    #[command(hide = true)]
    Compared(ComparedArgs),
}

const PUBLISH_EXAMPLES: &str = "\
Examples:
  futago lab publish 8080                  then look at http://127.0.0.1:8080/
  futago lab publish 8443 --to 443 --name demo

The machine gets no route into the lab. Stdout tells the URL, who logs in, and where the password is.
Exit code 0 after Ctrl-C, 1 when the lab is not up or the port cannot be used.";

const DRILL_EXAMPLES: &str = "\
Examples:
  futago lab drill                             the usual six, a table on stdout
  futago lab drill power-loss link-cut --report reports
  futago lab drill switchover --json | jq '.drills[0].outage.length_s'

Without a name: switchover, power-loss, mariadb-crash, link-cut, standby-loss, resync.
Exit code 0 when every drill kept its promises, 1 when one did not or could not be done, 130 after Ctrl-C.";

const BENCH_EXAMPLES: &str = "\
Examples:
  futago lab bench apply                   a table on stdout, progress on stderr
  futago lab bench replication --runs 5
  futago lab bench failover --system futago --case power-loss
  futago lab bench apply --json | jq '.rows[] | {system, median}'

Measure with a release build on an idle machine; the table ends with the load it began under.";

#[derive(Debug, Args)]
struct NameArg {
    /// Which lab: several may be up side by side.
    #[arg(long, value_name = "NAME", default_value = "lab")]
    name: Lab,
}

/// Arguments of `lab up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    #[command(flatten)]
    lab: NameArg,
    /// The Debian release of the hosts, by its name [default: the machine's own].
    #[arg(long, value_parser = sources::codename)]
    suite: Option<String>,
    /// Add a third host on the public segment.
    #[arg(long)]
    witness: bool,
    /// Size of each second disk: 512M, 2G [default: 1G].
    #[arg(long, value_name = "SIZE", value_parser = size_bytes)]
    disk_size: Option<u64>,
}

/// Arguments of `lab down`.
#[derive(Debug, Args)]
pub struct DownArgs {
    #[command(flatten)]
    lab: NameArg,
    /// Remove disks and everything else of this lab, too.
    #[arg(long)]
    purge: bool,
}

/// Arguments of `lab status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    lab: NameArg,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Arguments of `lab power-off` and `lab power-on`.
#[derive(Debug, Args)]
pub struct HostArgs {
    #[command(flatten)]
    lab: NameArg,
    /// ha-a, ha-b or witness.
    host: String,
}

/// Arguments of `lab cut`.
#[derive(Debug, Args)]
pub struct CutArgs {
    #[command(flatten)]
    lab: NameArg,
    /// The link to cut.
    link: Link,
    /// Only what this end sends: ha-a, ha-b, witness, or controller, which is this machine.
    #[arg(long, value_name = "END")]
    from: Option<String>,
    /// Only what is sent to this end.
    #[arg(long, value_name = "END")]
    to: Option<String>,
    /// Drop only so many of a hundred packets, at random.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    loss: Option<u8>,
    /// Drop nothing, or only what --loss says, but make everything so many milliseconds late.
    #[arg(long, value_name = "MS", conflicts_with = "from", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    delay: Option<u32>,
}

/// Arguments of `lab heal`.
#[derive(Debug, Args)]
pub struct HealArgs {
    #[command(flatten)]
    lab: NameArg,
    /// The link to heal; all if none is named.
    link: Option<Link>,
}

/// Arguments of `lab publish`.
#[derive(Debug, Args)]
pub struct PublishArgs {
    #[command(flatten)]
    lab: NameArg,
    /// The port of 127.0.0.1; 0 takes one that is free.
    port: u16,
    /// The port of the virtual address.
    #[arg(long, value_name = "PORT", default_value_t = publish::HTTP, value_parser = clap::value_parser!(u16).range(1..))]
    to: u16,
}

/// Arguments of `lab demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// The lab to make for it.
    #[arg(long, value_name = "NAME", default_value = demo::OWN_LAB)]
    name: Lab,
    /// What runs on the pair, looked after by the cluster manager; without it the pair only replicates.
    #[arg(long, value_enum)]
    stack: Option<Stack>,
    /// Write what the faults have cost as `lab drill` does: drill-STACK.json and drill-STACK.html.
    #[arg(long, value_name = "FOLDER", requires = "stack")]
    report: Option<std::path::PathBuf>,
    /// End with one JSON object on stdout instead of a table.
    #[arg(long)]
    json: bool,
    /// Leave the lab up afterwards, and end with how to look at it.
    #[arg(long)]
    keep: bool,
}

/// Arguments of `lab drill`.
#[derive(Debug, Args)]
pub struct DrillArgs {
    /// The drills, in this order; the usual six if none is named.
    #[arg(value_enum, value_name = "DRILL")]
    drills: Vec<Case>,
    /// The lab to make for it.
    #[arg(long, value_name = "NAME", default_value = drill::OWN_LAB)]
    name: Lab,
    /// What runs on the pair.
    #[arg(long, value_enum, default_value_t = Stack::Lamp)]
    stack: Stack,
    /// Write drill-STACK.json, with every request, and drill-STACK.html, a page that needs nothing else.
    #[arg(long, value_name = "FOLDER")]
    report: Option<std::path::PathBuf>,
    /// End with one JSON object on stdout instead of a table.
    #[arg(long)]
    json: bool,
    /// Leave the lab up afterwards.
    #[arg(long)]
    keep: bool,
}

/// Arguments of `lab bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure.
    #[arg(value_enum)]
    subject: Subject,
    /// The lab to make for it.
    #[arg(long, value_name = "NAME", default_value = bench::OWN_LAB)]
    name: Lab,
    /// How often to take each figure [default: apply 5, replication 3, failover 10].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: Option<u32>,
    #[command(flatten)]
    choice: Choice,
    /// End with one JSON object on stdout instead of a table.
    #[arg(long)]
    json: bool,
}

/// Arguments of `lab client`.
#[derive(Debug, Args)]
pub struct ClientArgs {
    #[command(flatten)]
    lab: NameArg,
    /// The file that gets a line for each acknowledged row.
    #[arg(long, value_name = "FILE")]
    log: std::path::PathBuf,
}

/// Arguments of `lab stack`.
#[derive(Debug, Args)]
pub struct StackArgs {
    #[command(flatten)]
    lab: NameArg,
    /// Do not install anything now: make it part of what `futago apply` does, looked after by the cluster manager
    /// with these times: fast, default, calm or seconds.
    #[arg(long, value_name = "TARGET")]
    managed: Option<String>,
    /// What is looked after.
    #[arg(long, value_enum, requires = "managed", default_value_t = Stack::Lamp)]
    stack: Stack,
}

/// Arguments of `lab compared`.
#[derive(Debug, Args)]
pub struct ComparedArgs {
    #[command(flatten)]
    lab: NameArg,
}

/// Arguments of `lab exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    #[command(flatten)]
    lab: NameArg,
    /// ha-a, ha-b or witness.
    host: String,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<std::ffi::OsString>,
}

/// Arguments of `lab ssh`.
#[derive(Debug, Args)]
pub struct SshArgs {
    #[command(flatten)]
    lab: NameArg,
    /// ha-a, ha-b or witness.
    host: String,
    /// The command, as ssh takes it; none for a login.
    #[arg(last = true)]
    command: Vec<std::ffi::OsString>,
}

/// Runs a verb; the number is the exit code of the program.
pub fn run(command: Command) -> anyhow::Result<u8> {
    requirements::root()?;
    let done = match command {
        Command::Up(args) => run_up(args),
        Command::Down(args) => run_down(&args),
        Command::Status(args) => run_status(&args),
        Command::PowerOff(args) => run_power_off(&args),
        Command::PowerOn(args) => run_power_on(&args),
        Command::Exchange(args) => run_exchange(&args),
        Command::Cut(args) => run_cut(&args),
        Command::Heal(args) => run_heal(&args),
        Command::Publish(args) => run_publish(&args),
        Command::Demo(args) => run_demo(&args),
        Command::Drill(args) => run_drill(args),
        Command::Bench(args) => run_bench(&args),
        Command::Client(args) => run_client(args),
        Command::Stack(args) => run_stack(&args),
        Command::Compared(args) => run_compared(&args),
        Command::Exec(args) => run_exec(&args),
        Command::Ssh(args) => run_ssh(&args),
    };
    match done {
        Err(error) if error.chain().any(|cause| cause.downcast_ref::<Interrupted>().is_some()) => {
            eprintln!("futago: interrupted");
            Ok(INTERRUPTED)
        }
        other => other,
    }
}

fn run_up(args: UpArgs) -> anyhow::Result<u8> {
    let lab = args.lab.name;
    let wish = Wish { suite: args.suite, witness: args.witness, disk_bytes: args.disk_size };
    up::up(&lab, &wish, &Interrupt::watch()?)?;
    println!("inventory: {}", lab.inventory().display());
    println!("identity: {}", lab.identity().display());
    println!("known_hosts: {}", lab.known_hosts().display());
    Ok(0)
}

fn run_down(args: &DownArgs) -> anyhow::Result<u8> {
    let lab = &args.lab.name;
    let keep = if args.purge { Keep::Nothing } else { Keep::Disks };
    let lock = up::lock(lab, &Interrupt::watch()?)?;
    power::down(lab, keep, &control_group::hierarchies()?)?;
    lock.retire();
    Ok(0)
}

fn run_status(args: &StatusArgs) -> anyhow::Result<u8> {
    let status = status::look(&args.lab.name, &control_group::hierarchies()?)?;
    if args.json {
        println!("{}", serde_json::to_string(&status).context("write status")?);
    } else {
        print!("{status}");
    }
    Ok(0)
}

fn run_power_off(args: &HostArgs) -> anyhow::Result<u8> {
    let (lab, host) = (&args.lab.name, layout::host(&args.host)?);
    let hierarchies = control_group::hierarchies()?;
    let _lock = up::lock(lab, &Interrupt::watch()?)?;
    up::existing(lab, host)?;
    if host::leader(lab, host, &hierarchies)?.is_none() {
        eprintln!("{} of lab `{lab}` is already off", host.name);
    }
    power::cut(lab, host, &hierarchies)?;
    Ok(0)
}

fn run_power_on(args: &HostArgs) -> anyhow::Result<u8> {
    let (lab, host) = (&args.lab.name, layout::host(&args.host)?);
    up::power_on(lab, host, &control_group::hierarchies()?, &Interrupt::watch()?)?;
    Ok(0)
}

fn run_exchange(args: &HostArgs) -> anyhow::Result<u8> {
    let (lab, host) = (&args.lab.name, layout::host(&args.host)?);
    up::exchange(lab, host, &control_group::hierarchies()?, &Interrupt::watch()?)?;
    Ok(0)
}

fn run_cut(args: &CutArgs) -> anyhow::Result<u8> {
    let lab = &args.lab.name;
    let _lock = up::lock(lab, &Interrupt::watch()?)?;
    up::has_network(lab)?;
    let directions = fault::pick(args.link, args.from.as_deref(), args.to.as_deref())?;
    if let Some(delay_ms) = args.delay {
        fault::delay_packets(lab, args.link, args.to.as_deref(), delay_ms)?;
    }
    if args.delay.is_none() || args.loss.is_some() {
        fault::drop_packets(lab, &directions, args.loss.unwrap_or(fault::ALL))?;
    }
    Ok(0)
}

fn run_heal(args: &HealArgs) -> anyhow::Result<u8> {
    let lab = &args.lab.name;
    let _lock = up::lock(lab, &Interrupt::watch()?)?;
    up::has_network(lab)?;
    fault::heal(lab, args.link)?;
    Ok(0)
}

fn run_publish(args: &PublishArgs) -> anyhow::Result<u8> {
    publish::run(&args.lab.name, args.port, args.to, &Interrupt::watch()?)?;
    Ok(0)
}

fn run_demo(args: &DemoArgs) -> anyhow::Result<u8> {
    let keep = if args.keep { Keep::Disks } else { Keep::Nothing };
    let order = demo::Order { stack: args.stack, keep, report: args.report.clone() };
    let report = demo::run(&args.name, &order, &Interrupt::watch()?)?;
    eprintln!();
    if args.json {
        eprint!("{report}");
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    Ok(if report.passed() { 0 } else { 1 })
}

fn run_drill(args: DrillArgs) -> anyhow::Result<u8> {
    let keep = if args.keep { Keep::Disks } else { Keep::Nothing };
    let order = Order { cases: args.drills, stack: args.stack, keep, report: args.report };
    let record = drill::rehearse(&args.name, &order, &Interrupt::watch()?)?;
    eprintln!();
    if args.json {
        eprint!("{record}");
        println!("{}", record.json()?);
    } else {
        print!("{record}");
    }
    Ok(if record.passed() { 0 } else { 1 })
}

fn run_bench(args: &BenchArgs) -> anyhow::Result<u8> {
    let report = bench::run(args.subject, &args.name, args.runs, &args.choice, &Interrupt::watch()?)?;
    eprintln!();
    if args.json {
        eprint!("{report}");
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    Ok(0)
}

fn run_client(args: ClientArgs) -> anyhow::Result<u8> {
    let lab = args.lab.name;
    up::has_network(&lab)?;
    let interrupt = Interrupt::watch()?;
    let load = Load::start(&lab, args.log)?;
    while interrupt.check().is_ok() {
        std::thread::sleep(LOOK_EVERY);
    }
    let report = load.stop(&Stage::new(&lab, &Interrupt::never())?)?;
    println!("{}", serde_json::to_string(&report).context("write what was seen")?);
    Ok(0)
}

fn run_stack(args: &StackArgs) -> anyhow::Result<u8> {
    match &args.managed {
        Some(target) => stack::manage(&args.lab.name, args.stack, target)?,
        None => stack::install_local(&Stage::new(&args.lab.name, &Interrupt::watch()?)?)?,
    }
    Ok(0)
}

fn run_compared(args: &ComparedArgs) -> anyhow::Result<u8> {
    up::offer_compared(&args.lab.name, &Interrupt::watch()?)?;
    Ok(0)
}

fn run_exec(args: &ExecArgs) -> anyhow::Result<u8> {
    let host = layout::host(&args.host)?;
    up::existing(&args.lab.name, host)?;
    let leader = host::running(&args.lab.name, host, &control_group::hierarchies()?)?;
    exec::passed_through(host::inside(leader).args(&args.command))
}

fn run_ssh(args: &SshArgs) -> anyhow::Result<u8> {
    let host = layout::host(&args.host)?;
    up::existing(&args.lab.name, host)?;
    host::running(&args.lab.name, host, &control_group::hierarchies()?)?;
    exec::passed_through(host::ssh(&args.lab.name, host).args(&args.command))
}

/// Reads `512M`, `2G`, `1073741824`.
fn size_bytes(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.strip_suffix(['M', 'G']) {
        Some(digits) if text.ends_with('M') => (digits, 1 << 20),
        Some(digits) => (digits, 1 << 30),
        None => (text, 1),
    };
    let number: u64 =
        digits.parse().map_err(|_| "use a number of bytes, or one with M or G behind it".to_owned())?;
    match number.checked_mul(unit) {
        Some(bytes) if (SMALLEST_DISK..=LARGEST_DISK).contains(&bytes) => Ok(bytes),
        _ => Err("use something between 16M and 1024G".to_owned()),
    }
}

/// Room for a partition, metadata and a file system.
const SMALLEST_DISK: u64 = 16 << 20;
/// Sparse as they are, larger files are more likely a slip of the hand.
const LARGEST_DISK: u64 = 1 << 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_sizes_are_read_with_their_unit_and_nonsense_is_refused() {
        assert_eq!(size_bytes("512M"), Ok(512 << 20));
        assert_eq!(size_bytes("2G"), Ok(2 << 30));
        assert_eq!(size_bytes("16777216"), Ok(16 << 20));
        for bad in ["", "G", "1T", "-1G", "1", "99999999999G"] {
            assert!(size_bytes(bad).is_err(), "{bad}");
        }
    }
}
