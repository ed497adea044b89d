//! The runs of all clusters of a command, side by side: each with a report and a log of its own, one recap over all.
//!
//! What happens to one of them is nothing to the others. Only as many are worked on at the same time as have so many hosts
//! together as the user allows.

use std::io::stdout;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::apply::{Arguments, Mode, Ready, continuation};
use crate::assets::Assets;
use crate::inventory::Inventory;
use crate::plan::Plan;
use crate::report::{Ended, Event, Human, Json, Kept, Log, Mask, Report, Sink, recap_of_all, worst};
use crate::runner::{self, Options, OverSsh, Stop, exit};

/// A cluster that is ready to be worked on.
struct Cluster {
    inventory: Inventory,
    plan: Plan,
    assets: Assets,
    over: OverSsh,
    options: Options,
    report: Arc<Report>,
    kept: Kept,
}

/// Room for so many hosts at the same time.
#[derive(Clone)]
struct Room {
    hosts: u16,
    free: Arc<Semaphore>,
}

/// Runs them all; the number is the exit code.
pub(crate) async fn run(arguments: &Arguments, mode: Mode, all: Vec<Ready>) -> u8 {
    let started = Instant::now();
    let names = names(&all);
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let prefix = |name: &str| (names.len() > 1).then(|| format!("{name:<width$} | "));
    let make = |(ready, name): (Ready, &String)| Cluster::new(arguments, mode, ready, name, prefix(name));
    let clusters: Vec<Cluster> = all.into_iter().zip(&names).map(make).collect();
    let reports: Vec<Arc<Report>> = clusters.iter().map(|cluster| Arc::clone(&cluster.report)).collect();
    let stop = Stop::default();
    let ended = tokio::select! {
        ended = side_by_side(&names, clusters, arguments.forks, &stop) => ended,
        () = interrupted_twice(&stop, &reports) => return exit::INTERRUPTED,
    };
    if names.len() > 1 && !arguments.json {
        let lines = recap_of_all(&ended, mode.check, started.elapsed().as_secs_f64());
        lines.iter().for_each(|line| println!("{line}"));
    }
    worst(ended.iter().map(|one| one.exit_code))
}

/// What each is called: its cluster, unless several are called so; then its file.
fn names(all: &[Ready]) -> Vec<String> {
    let name = |ready: &Ready| {
        let cluster = &ready.inventory.cluster;
        let same = all.iter().filter(|other| other.inventory.cluster == *cluster).count();
        if same == 1 { cluster.clone() } else { ready.inventory.file.display().to_string() }
    };
    all.iter().map(name).collect()
}

async fn side_by_side(names: &[String], clusters: Vec<Cluster>, forks: u16, stop: &Stop) -> Vec<Ended> {
    let room = Room { hosts: forks, free: Arc::new(Semaphore::new(forks.into())) };
    // One whose task is lost by a defect of this program stays as it is here.
    let lost = |name: &String| Ended { cluster: name.clone(), exit_code: exit::FAILED, last: None };
    let mut ended: Vec<Ended> = names.iter().map(lost).collect();
    let mut running = JoinSet::new();
    for (index, cluster) in clusters.into_iter().enumerate() {
        let (room, stop) = (room.clone(), stop.clone());
        running.spawn(async move { (index, cluster.run(room, stop).await) });
    }
    while let Some(joined) = running.join_next().await {
        if let Ok((index, (exit_code, last))) = joined
            && let Some(one) = ended.get_mut(index)
        {
            (one.exit_code, one.last) = (exit_code, last);
        }
    }
    ended
}

impl Cluster {
    fn new(arguments: &Arguments, mode: Mode, ready: Ready, name: &str, prefix: Option<String>) -> Self {
        let Ready { inventory, plan, assets, over } = ready;
        let (kept, mut sinks) = (Kept::default(), Vec::<Box<dyn Sink>>::new());
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
                let (file, project) = (inventory.file.display(), inventory.project());
                eprintln!("the run of {file} is not logged: write below {}: {error}", project.display());
            }
        }
        sinks.push(Box::new(kept.clone()));
        if arguments.json {
            sinks.push(Box::new(Json { out: stdout(), cluster: name.to_owned() }));
        } else {
            sinks.push(Box::new(prefix.map_or_else(Human::standard, Human::beside_others)));
        }
        let mask = Mask::new(inventory.hidden().into_iter().chain(over.secret()));
        let report = Arc::new(Report::new(sinks, mask));
        Self { inventory, plan, assets, over, options, report, kept }
    }

    /// Runs when there is room: the exit code, and the last event.
    async fn run(self, room: Room, stop: Stop) -> (u8, Option<Event>) {
        let Self { inventory, plan, assets, over, options, report, kept } = self;
        let hosts = u16::try_from(plan.hosts(&inventory).len()).unwrap_or(u16::MAX);
        // Nobody closes it.
        let _place = room.free.acquire_many(hosts.min(room.hosts).into()).await;
        if stop.asked() {
            return (exit::INTERRUPTED, None);
        }
        let code = runner::run(&inventory, plan, assets, Arc::new(over), report, options, stop).await;
        (code, kept.last())
    }
}

/// The first Ctrl-C asks to stop after the running step, the second one ends the program at once.
async fn interrupted_twice(stop: &Stop, reports: &[Arc<Report>]) {
    loop {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without the signal there is nothing to wait for; the run decides.
            std::future::pending::<()>().await;
        }
        if !stop.ask() {
            return;
        }
        reports.iter().for_each(|report| report.say(Event::Stopping));
    }
}
