//! The daemon: its start, the resources that are up, the commands that come in, its end.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use replica::config::Local;
use replica::control::{Command, Status};
use replica::event::Token;
use rustix::fs::FlockOperation;
use rustix::mm::MlockAllFlags;

use crate::adjust::{self, Takes};
use crate::alive;
use crate::config::{self, Site};
use crate::ctl::{self, Answer, Client, Missed, Request, Service};
use crate::driver::{self, Plan, Report};
use crate::enlarged;
use crate::exchange::{self, Inherited};
use crate::export::{self, Place};
use crate::keep;
use crate::peer::Security;
use crate::running::Running;
use crate::scripts::Scripts;
use crate::shutdown;
use crate::sys::StopSignals;
use crate::undo;
use crate::watch::Watcher;

/// A driver answers questions at once; one that does not for this long has a defect.
const STATUS_WITHIN: Duration = Duration::from_secs(5);
/// Digits of the machine's identity in the name of its loop devices.
const MACHINE_DIGITS: usize = 12;

/// Arguments of `futago replicad`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) site: Site,
    /// Identity of this machine, instead of the beginning of /etc/machine-id.
    #[arg(long, value_name = "HEX", hide = true)]
    machine: Option<String>,
}

/// Everything that is up.
#[derive(Debug)]
pub(crate) struct Daemon {
    control: RawFd,
    site: Site,
    node: String,
    machine: String,
    resources: Mutex<BTreeMap<String, Resource>>,
    /// Held while a resource comes up or goes down, so that neither happens twice at a time.
    changing: Mutex<()>,
    tokens: AtomicU64,
}

#[derive(Clone, Debug)]
struct Resource {
    local: Local,
    security: Security,
    running: Option<Arc<Running>>,
    problem: Option<String>,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(options: Options) -> anyhow::Result<u8> {
    base::logs::start();
    let signals = StopSignals::block().context("block signals")?;
    let _lock = lock(&options.site.run_dir)?;
    prepare_process();
    let node = options.site.node();
    let machine = options.machine.clone().unwrap_or_else(machine);
    let inherited = exchange::inherited();
    let followed: Vec<String> = inherited.left_behind().map(ToOwned::to_owned).collect();
    let socket = options.site.socket();
    let listener = inherited.control.map_or_else(|| ctl::bind(&socket), Ok);
    let listener = listener.with_context(|| format!("listen on {}", socket.display()))?;
    keep::keep_control(listener.as_fd());
    let daemon = Arc::new(Daemon {
        control: listener.as_raw_fd(),
        site: options.site,
        node,
        machine,
        resources: Mutex::default(),
        changing: Mutex::default(),
        tokens: AtomicU64::new(1),
    });
    daemon.bring_all_up(inherited.devices);
    ctl::serve(listener, Arc::clone(&daemon)).context("start the thread of the control socket")?;
    alive::tell(&daemon).context("start the thread that talks to systemd")?;
    say("READY=1");
    keep::alert(&daemon.node, &followed);
    signals.wait().context("wait for a signal")?;
    say("STOPPING=1");
    // No command any more: the verbs say that the daemon is not running.
    keep::drop_control();
    let _ = fs::remove_file(&socket);
    shutdown::all(&daemon);
    Ok(0)
}

/// Tells systemd; that nobody listens is no reason to stop.
pub(crate) fn say(state: &str) {
    if let Err(error) = base::notify::notify(state) {
        tracing::warn!("tell systemd {state}: {error}");
    }
}

/// One daemon for one folder.
fn lock(run_dir: &Path) -> anyhow::Result<fs::File> {
    fs::create_dir_all(run_dir).with_context(|| format!("create {}", run_dir.display()))?;
    let path = run_dir.join("replicad.lock");
    let file = fs::File::create(&path).with_context(|| format!("create {}", path.display()))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
        .with_context(|| format!("lock {}: is another replication daemon running?", path.display()))?;
    Ok(file)
}

/// Keeps the memory of the process from depending on the devices that it serves.
fn prepare_process() {
    if let Err(error) = rustix::process::configure_io_flusher_behavior(true) {
        tracing::warn!("declare this process as one that writes out memory (PR_SET_IO_FLUSHER): {error}");
    }
    if let Err(error) = rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE) {
        tracing::warn!("lock memory: {error}; under memory pressure the device may stall");
    }
}

fn machine() -> String {
    let id = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    id.trim().chars().take(MACHINE_DIGITS).collect()
}

impl Daemon {
    fn resources(&self) -> MutexGuard<'_, BTreeMap<String, Resource>> {
        self.resources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The resources that are up.
    pub(crate) fn running(&self) -> Vec<(String, Arc<Running>)> {
        let resources = self.resources();
        let up = resources.iter().filter_map(|(name, r)| Some((name.clone(), r.up()?)));
        up.collect()
    }

    /// Whether the resource files still mean the same device; else a program that is new must not go on with it.
    pub(crate) fn is_as_configured(&self, name: &str) -> Result<(), String> {
        let parsed = config::load(&self.site.config).map_err(|error| error.to_string())?;
        let new = config::find(&parsed, name, &self.site)?;
        let Some(old) = self.resources().get(name).map(|resource| resource.local.clone()) else {
            return Ok(());
        };
        let what = |local: &Local| (local.disk.clone(), local.device.clone(), local.settings.managed);
        if what(&new) == what(&old) {
            return Ok(());
        }
        Err(format!(
            "the resource file names another disk or device now, or says `managed` otherwise: that needs `down {name}` and `up {name}`"
        ))
    }

    /// Descriptor of the control socket, open until the process ends.
    pub(crate) fn control(&self) -> RawFd {
        self.control
    }

    /// Brings all resources up, those first whose devices are in use already.
    fn bring_all_up(&self, mut inherited: BTreeMap<String, Inherited>) {
        let (parsed, problems) = config::load_what_works(&self.site.config);
        problems.iter().for_each(|problem| tracing::error!("{problem}"));
        for note in &parsed.notes {
            tracing::info!("{note}");
        }
        let here = config::local(&parsed, &self.node);
        if here.is_empty() {
            let folder = self.site.config.display();
            tracing::warn!("no resource in {folder}/*.res is defined for this host, {}", self.node);
        }
        for local in here {
            let name = local.settings.resource.clone();
            let device = inherited.remove(&name).filter(|device| {
                let fits = device.legacy.fits(&local.disk, local.settings.managed);
                fits.inspect_err(|why| tracing::error!("{name}: its device is given up: {why}")).is_ok()
            });
            if let Err(reason) = self.bring_up(local, device) {
                tracing::error!("{name} is not up: {reason}");
            }
        }
        for name in inherited.keys() {
            tracing::error!("{name} is not defined for this host any more: its device is gone");
        }
    }

    fn bring_up(&self, local: Local, inherited: Option<Inherited>) -> Result<(), String> {
        let name = local.settings.resource.clone();
        let result = driver::start(self.plan(&local, inherited)).map_err(|error| error.to_string());
        let (running, problem) = match result {
            Ok(running) => (Some(Arc::new(running)), None),
            Err(reason) => (None, Some(reason)),
        };
        let outcome = problem.clone().map_or(Ok(()), Err);
        let security = self.security(&local);
        self.resources().insert(name, Resource { local, security, running, problem });
        outcome
    }

    fn plan(&self, local: &Local, inherited: Option<Inherited>) -> Plan {
        let place = Place {
            resource: local.settings.resource.clone(),
            name: format!("futago:{}:{}", local.settings.resource, self.machine),
            link: PathBuf::from(&local.device),
            // Also right when the file was replaced by a newer version meanwhile.
            program: PathBuf::from("/proc/self/exe"),
            exclusive: local.settings.managed,
        };
        if inherited.is_none() {
            export::remove_leftovers(&place);
        }
        Plan {
            settings: local.settings.clone(),
            disk: PathBuf::from(&local.disk),
            undo_file: local
                .undo_file
                .as_ref()
                .map_or_else(|| undo::default_path(&local.settings.resource), PathBuf::from),
            known_size: enlarged::default_path(&local.settings.resource),
            run_dir: self.site.run_dir.clone(),
            local: local.address,
            remote: local.peer_address,
            security: self.security(local),
            place,
            inherited,
            scripts: Scripts::new(local, &self.site.config),
        }
    }

    fn security(&self, local: &Local) -> Security {
        Security { wanted: local.tls, folder: self.site.tls.clone(), peer: local.settings.peer.clone() }
    }

    fn up(&self, name: &str) -> Answer {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.resources().get(name).is_some_and(|r| r.up().is_some()) {
            return Answer::Done;
        }
        let parsed = match config::load(&self.site.config) {
            Ok(parsed) => parsed,
            Err(error) => return Answer::Failed { text: error.to_string() },
        };
        match config::find(&parsed, name, &self.site) {
            Err(text) => Answer::Unknown { text },
            Ok(local) => {
                self.bring_up(local, None).map_or_else(|text| Answer::Failed { text }, |()| Answer::Done)
            }
        }
    }

    fn command(
        &self,
        name: &str,
        command: Command,
        timeout: Option<Duration>,
        client: &Client<'_>,
    ) -> Answer {
        let down = command == Command::Down;
        let running = match self.find(name) {
            Ok(Some(running)) => running,
            // Down already.
            Ok(None) if down => return Answer::Done,
            Ok(None) => return self.not_up(name),
            Err(text) => return Answer::Unknown { text },
        };
        let _changing = down.then(|| self.changing.lock().unwrap_or_else(PoisonError::into_inner));
        let (sender, answer) = sync_channel(1);
        let token = Token(self.tokens.fetch_add(1, Ordering::Relaxed));
        running.mailbox.put(Report::Command(token, command, sender));
        match client.wait(&answer, timeout) {
            Ok(Ok(())) => {
                if down {
                    running.join();
                }
                Answer::Done
            }
            Ok(Err(refusal)) => Answer::Refused(refusal),
            Err(Missed::Dropped) if down => {
                running.join();
                Answer::Done
            }
            Err(Missed::Dropped) => Answer::Failed { text: format!("{name} went down") },
            Err(Missed::TimedOut | Missed::ClientGone) => {
                running.mailbox.put(Report::Abandoned(token));
                Answer::TimedOut
            }
        }
    }

    /// Follows the file, as far as that takes nothing; what is not up comes up as the file says.
    fn adjust(&self, name: &str, dry_run: bool, client: &Client<'_>) -> Answer {
        let running = match self.find(name) {
            Ok(Some(running)) => running,
            Ok(None) if dry_run => return self.not_up(name),
            Ok(None) => return self.up(name),
            Err(text) => return Answer::Unknown { text },
        };
        let parsed = match config::load(&self.site.config) {
            Ok(parsed) => parsed,
            Err(error) => return Answer::Failed { text: error.to_string() },
        };
        let wanted = match config::find(&parsed, name, &self.site) {
            Ok(wanted) => wanted,
            Err(text) => return Answer::Unknown { text },
        };
        let Some(before) = self.resources().get(name).map(|resource| resource.local.clone()) else {
            return self.not_up(name);
        };
        let changes = adjust::changes(&before, &wanted);
        if dry_run {
            return Answer::Adjusted(changes);
        }
        running.mailbox.put(Report::Scripts(wanted.handlers.clone()));
        let command = Command::Adjust(wanted.settings.tuning());
        match self.command(name, command, Some(STATUS_WITHIN), client) {
            Answer::Done => {}
            answer => return answer,
        }
        if let Some(resource) = self.resources().get_mut(name) {
            adjust::apply(&mut resource.local, &wanted);
        }
        for change in changes.iter().filter(|change| change.takes == Takes::Nothing) {
            tracing::info!("{name}: {}: {} -> {}", change.option, change.from, change.to);
        }
        Answer::Adjusted(changes)
    }

    /// What the driver of a resource answers to a question, made with where it shall send that.
    fn question<T>(
        &self,
        name: &str,
        question: fn(SyncSender<T>) -> Report,
        answered: fn(T) -> Answer,
    ) -> Answer {
        let running = match self.find(name) {
            Ok(Some(running)) => running,
            Ok(None) => return self.not_up(name),
            Err(text) => return Answer::Unknown { text },
        };
        let (sender, answer) = sync_channel(1);
        running.mailbox.put(question(sender));
        answer.recv_timeout(STATUS_WITHIN).map_or_else(|_| self.not_up(name), answered)
    }

    fn not_up(&self, name: &str) -> Answer {
        let problem = self.resources().get(name).and_then(|r| r.problem.clone());
        let reason = problem.map_or_else(String::new, |p| format!(": {p}"));
        Answer::NotUp { text: format!("it is not up{reason}\n  bring it up: futago replica up {name}") }
    }

    /// Tells the client about a resource until one of them is gone.
    fn watch(&self, name: &str, client: &Client<'_>) -> Answer {
        let running = match self.find(name) {
            Ok(Some(running)) => running,
            Ok(None) => return self.not_up(name),
            Err(text) => return Answer::Unknown { text },
        };
        let Some(resource) = self.resources().get(name).cloned() else { return self.not_up(name) };
        let (watcher, watch) = Watcher::new();
        running.mailbox.put(Report::Watch(watcher));
        while let Ok(status) = client.wait(&watch.statuses, None) {
            let report = resource.clone().report_of(name.to_owned(), Some(status));
            if client.tell(&Answer::Status(vec![report])).is_err() {
                break;
            }
        }
        if watch.is_behind() {
            return Answer::Failed { text: format!("the watcher of {name} did not keep up") };
        }
        self.not_up(name)
    }

    /// The resource's driver, if it is up; the error is for people.
    fn find(&self, name: &str) -> Result<Option<Arc<Running>>, String> {
        if let Some(resource) = self.resources().get(name) {
            return Ok(resource.up());
        }
        let parsed = config::load(&self.site.config).map_err(|error| error.to_string())?;
        config::find(&parsed, name, &self.site).map(|_| None)
    }

    fn status(&self, name: Option<&str>) -> Answer {
        let chosen: Vec<(String, Resource)> = {
            let resources = self.resources();
            let wanted = resources.iter().filter(|(known, _)| name.is_none_or(|n| n == *known));
            wanted.map(|(name, resource)| (name.clone(), resource.clone())).collect()
        };
        if let (Some(name), true) = (name, chosen.is_empty()) {
            return match self.find(name) {
                Ok(_) => {
                    Answer::NotUp { text: format!("it is not up\n  bring it up: futago replica up {name}") }
                }
                Err(text) => Answer::Unknown { text },
            };
        }
        Answer::Status(chosen.into_iter().map(|(name, resource)| resource.report(name)).collect())
    }
}

impl Resource {
    fn up(&self) -> Option<Arc<Running>> {
        self.running.clone().filter(|r| !r.is_finished())
    }

    fn report(self, name: String) -> ctl::Report {
        let status = self.up().and_then(|running| ask_status(&running, STATUS_WITHIN));
        self.report_of(name, status)
    }

    fn report_of(self, name: String, status: Option<Status>) -> ctl::Report {
        let problem = match (&status, self.up()) {
            (None, Some(_)) => {
                Some("its driver does not answer: this is a defect; restart the daemon".to_owned())
            }
            _ => self.problem,
        };
        let addresses = [self.local.address, self.local.peer_address];
        let tls = self.security.is_on();
        ctl::Report { name, status, problem, backing_dev: self.local.disk, addresses, tls }
    }
}

/// What a driver says of itself, if it comes round in time.
pub(crate) fn ask_status(running: &Running, within: Duration) -> Option<Status> {
    let (sender, answer) = sync_channel(1);
    running.mailbox.put(Report::Status(sender));
    answer.recv_timeout(within).ok()
}

impl Service for Daemon {
    fn serve(&self, request: Request, client: &Client<'_>) -> Answer {
        match request {
            Request::Up { name } => self.up(&name),
            Request::Command { name, command, timeout_ms } => {
                self.command(&name, command, timeout_ms.map(Duration::from_millis), client)
            }
            Request::Status { name } => self.status(name.as_deref()),
            Request::Watch { name } => self.watch(&name, client),
            Request::Adjust { name, dry_run } => self.adjust(&name, dry_run, client),
            Request::Generations { name } => self.question(&name, Report::Generations, Answer::Generations),
            Request::Differences { name } => self.question(&name, Report::Differences, Answer::Differences),
            Request::Exchange => {
                let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
                Answer::Failed { text: exchange::exchange(self) }
            }
        }
    }
}
