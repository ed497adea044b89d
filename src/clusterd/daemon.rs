//! `futago clusterd`: its start, its signals, its end.
//!
//! | asked by | signal | what it means |
//! |---|---|---|
//! | `systemctl stop`, the host going down | SIGTERM | hand over: stop the stack, give it to the peer |
//! | `systemctl restart`, a package upgrade | SIGTERM, with a restart job of our own unit | exchange the program |
//! | `systemctl reload`, and where there is no systemd | SIGHUP | exchange the program: end, be started again |
//!
//! Exchanging the program moves nothing: what runs goes on, the next manager finds it running and takes it over.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use cluster::config::{Class, Quorum, Resource};
use cluster::etcd::Etcd;
use cluster::event::{Event, Shutdown};
use cluster::member::{Node, Voter};
use cluster::register::{Bundled, Saved};
use rustix::fs::FlockOperation;
use rustix::mm::MlockAllFlags;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::agent::{self, Agents};
use crate::alert::{self, Origin};
use crate::book::Book;
use crate::chronicle::Chronicle;
use crate::clock;
use crate::config::{self, Fencing, Settings, Site};
use crate::ctl;
use crate::driver::{Driver, Hands};
use crate::etcd::Members;
use crate::fence::Device;
use crate::health;
use crate::job;
use crate::keep::{self, Keeper};
use crate::links::Links;
use crate::mailbox::{self, Input, Mailbox};
use crate::metrics;
use crate::replica::Replica;
use crate::sys;
use crate::tls::{self, Identity};
use crate::watchdog::{Place, Watchdog};

/// Changes of resources that wait for the driver.
const CHANGES: usize = 64;
/// Alerts that wait for being handed to the hooks, each of which has a queue of its own.
const ALERTS: usize = 64;
/// File of this member's vote in the state folder.
const VOTE: &str = "acceptor.json";
/// How long tasks that are left have to end.
const LEFTOVERS: Duration = Duration::from_secs(1);

/// Arguments of `futago clusterd`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  systemctl start futago-clusterd\n\nRuns the stack of /etc/futago/cluster.yml on one of the two hosts.\nSIGTERM hands over to the peer; `systemctl restart` and SIGHUP exchange the program and move nothing.\nFUTAGO_LOG=debug logs every command and connection."
)]
pub struct Daemon {
    #[command(flatten)]
    site: Site,
}

/// Runs until it is told to stop.
pub fn run(daemon: Daemon) -> anyhow::Result<u8> {
    base::logs::start();
    let site = daemon.site;
    let settings = config::load(&site)?;
    fs::create_dir_all(&site.state_dir).with_context(|| format!("create {}", site.state_dir.display()))?;
    fs::create_dir_all(&site.run_dir).with_context(|| format!("create {}", site.run_dir.display()))?;
    // In the state folder: two managers on one vote would give it twice.
    let _lock = lock(&site.state_dir)?;
    prepare_process();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let result = runtime.block_on(serve(&site, settings));
    runtime.shutdown_timeout(LEFTOVERS);
    result.map(|()| 0)
}

async fn serve(site: &Site, settings: Settings) -> anyhow::Result<()> {
    // Before all else: a manager that was killed left it counting.
    let mut watchdog = Watchdog::open(settings.watchdog, &settings.core.timing, Place::of_machine())?;
    match watchdog.fed_while(prepare(site, settings)).await {
        Ok(ready) => ready.run(site, watchdog).await,
        Err(error) => {
            watchdog.not_started();
            Err(error)
        }
    }
}

/// Everything that the driver needs.
struct Ready {
    settings: Settings,
    identity: Arc<Identity>,
    mailbox: Mailbox,
    inputs: mpsc::Receiver<Input>,
    book: Book,
    listener: UnixListener,
    stopped: mpsc::Receiver<Shutdown>,
    resources: Vec<Resource>,
    agents: Arc<Agents>,
    /// Why the replicated device cannot be seen.
    sight: watch::Sender<Option<String>>,
}

async fn prepare(site: &Site, settings: Settings) -> anyhow::Result<Ready> {
    let me = Voter::from(settings.core.node);
    let identity = Arc::new(Identity::load(&settings.tls)?);
    identity.must_be(&settings.core.cluster, me)?;
    let (mailbox, inputs) = mailbox::mailbox();
    let book = book(site, &settings, &mailbox)?;
    let socket = site.socket();
    let listener = ctl::bind(&socket).with_context(|| format!("listen on {}", socket.display()))?;
    let (stop, stopped) = mpsc::channel(1);
    tokio::spawn(signals(stop)?);
    let resources: Vec<Resource> =
        settings.core.group.iter().chain(&settings.core.everywhere).cloned().collect();
    let agents = agents(&settings, &resources, &mailbox).await?;
    let (sight, unseen) = watch::channel(None);
    tokio::spawn(health::watch(
        health::Watched::of(&settings, Arc::clone(&agents), &site.state_dir, &book, unseen),
        mailbox.clone(),
    ));
    Ok(Ready { settings, identity, mailbox, inputs, book, listener, stopped, resources, agents, sight })
}

impl Ready {
    async fn run(self, site: &Site, watchdog: Watchdog) -> anyhow::Result<()> {
        let Self { settings, identity, mailbox, inputs, book, listener, stopped, resources, agents, sight } =
            self;
        let (status, published) = watch::channel(None);
        let (alerts, told) = mpsc::channel(ALERTS);
        let core = &settings.core;
        let origin = Origin { cluster: core.cluster.clone(), node: core.name(core.node).to_owned() };
        let telling = tokio::spawn(alert::run(origin, settings.alerts.clone(), told));
        tokio::spawn(metrics::serve(settings.metrics.clone(), mailbox.clone()));
        let hands = Hands {
            links: Links::start(&settings, &identity, &mailbox),
            book,
            replica: Replica::start(site.replicad_socket(), replica_name(&resources), &mailbox, sight),
            agents,
            fencing: [Node::A, Node::B].map(|node| settings.fencing(node).map(device)),
            watchdog,
            chronicle: Chronicle::start(&site.state_dir),
            alerts,
            status,
        };
        let driver = Driver::new(settings.core, hands, mailbox.clone()).context("start the core")?;
        tokio::spawn(ctl::serve(listener, mailbox, published));
        say("READY=1");
        let result = driver.run(inputs, stopped).await.context("wait for events");
        // No command any more: the verbs say that the manager is not running.
        let _ = fs::remove_file(site.socket());
        // The last alerts tell why; they have their own bound.
        let _ = telling.await;
        result
    }
}

/// Where the record is kept: among A, B and the witness, with this member's vote on disk, or in etcd.
fn book(site: &Site, settings: &Settings, mailbox: &Mailbox) -> anyhow::Result<Book> {
    let core = &settings.core;
    let fresh = base::random::number().context("get a random number")?;
    if let (Quorum::Etcd, Some(etcd)) = (core.quorum, &settings.etcd) {
        let members = Members::new(etcd, &core.cluster, &core.timing, mailbox.clone())?;
        // Half the range: numbers are counted up from it.
        let store = Etcd::new(core.node, core.timing, fresh >> 1);
        return Ok(Book::Etcd { store: Box::new(store), members });
    }
    let me = Voter::from(core.node);
    let vote = site.state_dir.join(VOTE);
    let member = tls::role_name(&core.cluster, me);
    let saved: Option<Saved> = keep::read(&vote, &member)?;
    if saved.is_none() {
        tracing::info!("no vote in {}: an empty store", vote.display());
    }
    let stored = mailbox.clone();
    let keeper = Keeper::start(vote, member, move |seq| {
        let stored = stored.clone();
        async move { stored.put(Input::Stored { seq }).await }
    });
    let store = Bundled::new(core.node, core.quorum, core.timing, saved, fresh, clock::now());
    Ok(Book::Voters { store: Box::new(store), keeper })
}

async fn agents(
    settings: &Settings,
    resources: &[Resource],
    mailbox: &Mailbox,
) -> anyhow::Result<Arc<Agents>> {
    let (changed, mut changes) = mpsc::channel::<agent::Changed>(CHANGES);
    let core = &settings.core;
    let agents = Agents::new(resources, core.name(core.node), core.timing, changed).await?;
    let mailbox = mailbox.clone();
    tokio::spawn(async move {
        while let Some(agent::Changed { resource, state, reason }) = changes.recv().await {
            mailbox.put(Input::Event(Event::ResourceChanged { resource, state, reason })).await;
        }
    });
    Ok(Arc::new(agents))
}

fn device(fencing: &Fencing) -> Device {
    Device { agent: fencing.agent.clone(), params: fencing.params.clone(), timeout: fencing.timeout }
}

/// The configuration has exactly one.
fn replica_name(resources: &[Resource]) -> String {
    let name = resources.iter().find_map(|resource| match &resource.class {
        Class::Replica { resource } => Some(resource.clone()),
        _ => None,
    });
    name.unwrap_or_default()
}

/// Hands on what the signals mean.
fn signals(stop: mpsc::Sender<Shutdown>) -> anyhow::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("wait for SIGINT")?;
    let mut hang_up = signal(SignalKind::hangup()).context("wait for SIGHUP")?;
    Ok(async move {
        loop {
            let kind = tokio::select! {
                _ = terminate.recv() => match job::is_restart().await {
                    true => Shutdown::Restart,
                    false => Shutdown::HandOver,
                },
                _ = interrupt.recv() => Shutdown::HandOver,
                _ = hang_up.recv() => Shutdown::Restart,
            };
            tracing::info!(
                "{}",
                match kind {
                    Shutdown::HandOver => "asked to end: handing over",
                    Shutdown::Restart => "asked to make room for another program: everything goes on running",
                }
            );
            say("STOPPING=1");
            if stop.send(kind).await.is_err() {
                return;
            }
        }
    })
}

/// Tells systemd; that nobody listens is no reason to stop.
fn say(state: &str) {
    if let Err(error) = base::notify::notify(state) {
        tracing::warn!("tell systemd {state}: {error}");
    }
}

/// One manager for one vote.
fn lock(state_dir: &Path) -> anyhow::Result<fs::File> {
    let path = state_dir.join("lock");
    let file = fs::File::create(&path).with_context(|| format!("create {}", path.display()))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
        .with_context(|| format!("lock {}: is another cluster manager running?", path.display()))?;
    Ok(file)
}

/// A busy or short machine must not look like a dead one.
fn prepare_process() {
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    if let Err(error) = rustix::mm::mlockall(flags) {
        tracing::warn!("lock memory: {error}; under memory pressure the manager may come too late");
    }
    if let Err(error) = sys::run_first() {
        tracing::warn!(
            "run before other processes (SCHED_RR): {error}; under load the manager may come too late"
        );
    }
}
