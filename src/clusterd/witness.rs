//! `futago witnessd`: votes for many clusters, carries no data, proposes nothing.
//!
//! Each cluster has a vote of its own, in a file of its own. Which one a member touches follows from its
//! certificate alone. Connections and clusters are bounded; a member is heard on as many ways as it has.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use cluster::member::Voter;
use cluster::message::{Message, Register};
use cluster::register::{Effect, Event, SavedVote, Witness};
use rustix::fs::FlockOperation;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};

use crate::clock;
use crate::config::{self, WitnessSettings};
use crate::keep::{self, Keeper};
use crate::link::{self, Link, LinkError};
use crate::links::listen_on;
use crate::outbox::{Outbox, Parcel, Turn};
use crate::tell::log;
use crate::tls::{self, Identity};
use crate::watchdog::Watchdog;

/// Clusters that one witness serves: each costs about 20 KiB.
const MAX_CLUSTERS: usize = 256;
/// Ways of one member: its paths, and one that follows a broken one.
const MAX_WAYS: usize = 9;
/// Connections in all.
const MAX_CONNECTIONS: usize = 2 * MAX_CLUSTERS * 2;
/// Connections that have not yet proved who they are.
const MAX_UNPROVEN: usize = 32;
/// Messages for one cluster's vote that wait.
const QUEUE: usize = 64;
/// How long unanswered data may stay so on a connection: the longest profile's lease has several renewals in it.
const SILENCE: Duration = Duration::from_secs(5);
/// Pause after a failed accept.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Arguments of `futago witnessd`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example:\n  systemctl start futago-witnessd\n\nVotes for every cluster whose members' certificates come from an authority in ca.pem and for which\nits own certificate names it the witness. FUTAGO_LOG=debug logs every connection."
)]
pub struct Daemon {
    /// The configuration of the witness.
    #[arg(long, value_name = "FILE", default_value = "/etc/futago/witness.yml", hide = true)]
    config: PathBuf,
}

/// One cluster's vote, as the connections see it.
struct Booth {
    inbox: mpsc::Sender<Event>,
    ways: Arc<Ways>,
}

/// The ways to A and B of one cluster.
#[derive(Default)]
struct Ways(Mutex<BTreeMap<Voter, Vec<Arc<Outbox>>>>);

/// Runs until SIGTERM or SIGINT.
pub fn run(daemon: Daemon) -> anyhow::Result<u8> {
    base::logs::start();
    let settings = config::load_witness(&daemon.config)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(serve(settings))?;
    Ok(0)
}

async fn serve(settings: WitnessSettings) -> anyhow::Result<()> {
    fs::create_dir_all(&settings.state).with_context(|| format!("create {}", settings.state.display()))?;
    let _lock = lock(&settings.state)?;
    let identity = Arc::new(Identity::load(&settings.tls)?);
    let clusters = identity.witness_of();
    if clusters.is_empty() {
        bail!(
            "the certificate in {} names no cluster of which this is the witness (witness.CLUSTER.futago.internal)",
            settings.tls.display()
        );
    }
    if clusters.len() > MAX_CLUSTERS {
        bail!("the certificate names {} clusters, a witness serves at most {MAX_CLUSTERS}", clusters.len());
    }
    let mut booths = BTreeMap::new();
    for cluster in clusters {
        booths.insert(cluster.clone(), Booth::open(&settings.state, &cluster)?);
    }
    let (names, booths) = (booths.keys().cloned().collect::<Vec<_>>().join(", "), Arc::new(booths));
    let limits = Arc::new((Semaphore::new(MAX_UNPROVEN), Semaphore::new(MAX_CONNECTIONS)));
    for place in &settings.listen {
        let listener = listen_on(*place).with_context(|| format!("listen on {place}"))?;
        tokio::spawn(accept(
            listener,
            *place,
            Arc::clone(&identity),
            Arc::clone(&booths),
            Arc::clone(&limits),
        ));
    }
    tracing::info!("the witness of {names}");
    say("READY=1");
    let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("wait for SIGINT")?;
    let told_to_end = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    // One thread does everything: while this comes round, votes do. A witness that hangs is exchanged by systemd.
    Watchdog::of_service().fed_while(told_to_end).await;
    say("STOPPING=1");
    Ok(())
}

fn say(state: &str) {
    if let Err(error) = base::notify::notify(state) {
        tracing::warn!("tell systemd {state}: {error}");
    }
}

/// Two witnesses on one store would be one vote given twice.
fn lock(folder: &Path) -> anyhow::Result<fs::File> {
    let path = folder.join("lock");
    let file = fs::File::create(&path).with_context(|| format!("create {}", path.display()))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
        .with_context(|| format!("lock {}: is another witness running?", path.display()))?;
    Ok(file)
}

impl Booth {
    fn open(folder: &Path, cluster: &str) -> anyhow::Result<Self> {
        let path = folder.join(format!("{cluster}.json"));
        let member = tls::role_name(cluster, Voter::Witness);
        let saved: Option<SavedVote> = keep::read(&path, &member)?;
        if saved.is_none() {
            tracing::info!("{cluster}: no vote in {}: an empty store", path.display());
        }
        let (inbox, events) = mpsc::channel(QUEUE);
        let told = inbox.clone();
        let keeper = Keeper::start(path, member, move |seq| {
            let told = told.clone();
            async move {
                // The vote ends only with the process.
                let _ = told.send(Event::Persisted { seq }).await;
            }
        });
        let vote = Witness::new(saved, base::random::number()?, clock::now());
        let ways = Arc::<Ways>::default();
        tokio::spawn(vote_on(cluster.to_owned(), vote, keeper, events, Arc::clone(&ways)));
        Ok(Self { inbox, ways })
    }
}

/// The one owner of a cluster's vote.
async fn vote_on(
    cluster: String,
    mut vote: Witness,
    keeper: Keeper<SavedVote>,
    mut events: mpsc::Receiver<Event>,
    ways: Arc<Ways>,
) {
    let mut effects = Vec::new();
    while let Some(event) = events.recv().await {
        vote.handle(event, clock::now(), &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { to, message } => ways.send(to, message),
                Effect::Persist { seq, saved } => keeper.persist(seq, saved),
                Effect::Log { level, text } => log(level, &format!("{cluster}: {text}")),
                // Only proposers have operations.
                Effect::Done { .. } => {}
            }
        }
    }
}

impl Ways {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Voter, Vec<Arc<Outbox>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A further way to a member; the oldest one goes when there are too many.
    fn add(&self, member: Voter) -> (Arc<Outbox>, Turn) {
        let outbox = Arc::<Outbox>::default();
        let turn = outbox.take_over();
        let mut ways = self.lock();
        let of_member = ways.entry(member).or_default();
        of_member.retain(|way| way.is_up());
        if of_member.len() >= MAX_WAYS {
            of_member.remove(0).take_over();
        }
        of_member.push(Arc::clone(&outbox));
        (outbox, turn)
    }

    fn send(&self, to: Voter, message: Register) {
        let Some(parcel) = Parcel::new(&Message::Register(message)) else { return };
        self.lock().get(&to).into_iter().flatten().for_each(|way| way.put(parcel.clone()));
    }
}

async fn accept(
    listener: TcpListener,
    place: SocketAddr,
    identity: Arc<Identity>,
    booths: Arc<BTreeMap<String, Booth>>,
    limits: Arc<(Semaphore, Semaphore)>,
) {
    // Said once, however often it is tried.
    let refused = Arc::new(Mutex::new(String::new()));
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("accept a connection on {place}: {error}");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let (identity, booths, limits) = (Arc::clone(&identity), Arc::clone(&booths), Arc::clone(&limits));
        let refused = Arc::clone(&refused);
        tokio::spawn(async move {
            let Ok(_place) = limits.1.try_acquire() else {
                tracing::warn!("refused {from}: {MAX_CONNECTIONS} connections are open");
                return;
            };
            let Ok(unproven) = limits.0.try_acquire() else {
                tracing::debug!("refused {from}: {MAX_UNPROVEN} others have not proved who they are");
                return;
            };
            let known = prove(&identity, stream, &booths).await;
            drop(unproven);
            match known {
                Ok((link, hello)) => carry(link, &hello, &booths, from).await,
                Err(error) => {
                    let text = format!("refused a connection from {}: {error}", from.ip());
                    let mut refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
                    if *refused != text {
                        tracing::warn!("{text}");
                        *refused = text;
                    }
                }
            }
        });
    }
}

async fn prove(
    identity: &Identity,
    stream: TcpStream,
    booths: &BTreeMap<String, Booth>,
) -> Result<(Link, link::Hello), LinkError> {
    let me = |hello: &link::Hello| {
        let served = booths.contains_key(&hello.cluster) && hello.from.node().is_some();
        served.then_some(Voter::Witness)
    };
    link::accept(identity, stream, SILENCE, me).await
}

async fn carry(link: Link, hello: &link::Hello, booths: &BTreeMap<String, Booth>, address: SocketAddr) {
    let Some(booth) = booths.get(&hello.cluster) else { return };
    let (outbox, turn) = booth.ways.add(hello.from);
    let (cluster, from) = (&hello.cluster, hello.from);
    tracing::debug!("{cluster}: {from:?} is here, from {address}");
    let heard = |message: Message| {
        if let Message::Register(message) = message {
            // A full queue loses it like the network; it is asked again.
            let _ = booth.inbox.try_send(Event::Received { from, message });
        }
    };
    let end = link.converse(&outbox, turn, SILENCE, heard).await;
    outbox.gone(turn);
    tracing::debug!("{cluster}: {from:?} from {address} is gone: {end}");
}
