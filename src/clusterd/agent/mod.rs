//! Does to resources what the core asks for: start, stop, kill, look; and says at once when one changes by itself.
//!
//! Nothing is decided here. Every operation ends within its timeout and [`GRACE`], whatever the thing behind it
//! does: what hangs is left behind, never waited for.

mod address;
mod arp;
mod bus;
mod check;
mod child;
mod file_system;
mod holders;
mod lifetime;
mod link;
mod mount;
mod mountinfo;
mod ocf;
mod sys;
mod systemd;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use cluster::config::{Class, Resource, ResourceId};
use cluster::event::{AgentOutcome, AgentResult, Running, Verb};
use cluster::timing::{Millis, Timing};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub(crate) use child::{Finished, Run, RunError};

use address::Address;
use bus::Bus;
use file_system::FileSystems;
use mount::Mount;
use ocf::Ocf;
use systemd::Unit;

/// What an operation may take beyond its timeout: for killing what it started. Pacemaker gives as much before it
/// says that a process "will not die".
pub const GRACE: Duration = Duration::from_secs(5);

/// A resource changed by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Which.
    pub resource: ResourceId,
    /// What it is now.
    pub state: Running,
    /// What was noticed.
    pub reason: String,
}

/// All resources of this host.
pub struct Agents {
    handlers: Vec<Arc<Handler>>,
    file_systems: Arc<FileSystems>,
    until: watch::Sender<Option<Millis>>,
    bus: Option<Bus>,
}

/// What works on one resource.
enum Handler {
    /// The replication daemon: the shell talks to it, not we.
    Replica,
    Mount(Mount),
    Address(Address),
    Systemd(Arc<Unit>),
    Ocf(Box<Ocf>),
}

impl Agents {
    /// Takes up all resources, the group's first, then those that run everywhere; nothing is started.
    ///
    /// Units get their runtime drop-in now, so that no start has to wait for a reload. What a host lacks (a unit,
    /// an agent) is no error here: the health tells it, and every operation on it says so.
    pub async fn new(
        resources: &[Resource],
        node: &str,
        timing: Timing,
        changed: mpsc::Sender<Changed>,
    ) -> anyhow::Result<Self> {
        let (until, granted) = watch::channel(None);
        let mut handlers = Vec::new();
        let mut units = Vec::new();
        for (index, resource) in resources.iter().enumerate() {
            let report = Report { resource: ResourceId(index), changed: changed.clone() };
            let handler = match &resource.class {
                Class::Replica { .. } => Handler::Replica,
                Class::Mount { device, directory, fstype, options } => {
                    Handler::Mount(Mount::device(device, directory, fstype, options, report))
                }
                Class::Bind { source, directory } => Handler::Mount(Mount::bind(source, directory, report)),
                Class::Address { address, prefix, interface } => Handler::Address(Address::new(
                    address,
                    *prefix,
                    interface,
                    timing,
                    granted.clone(),
                    report,
                )?),
                Class::Systemd { unit, check } => {
                    let unit = Arc::new(Unit::new(unit, check.clone(), report));
                    units.push(Arc::clone(&unit));
                    Handler::Systemd(unit)
                }
                Class::Ocf { provider, kind, params, check_level } => Handler::Ocf(Box::new(
                    Ocf::new(resource, provider, kind, params, *check_level, node).await,
                )),
            };
            handlers.push(Arc::new(handler));
        }
        let bus = if units.is_empty() { None } else { Some(Bus::start(units).await) };
        Ok(Self { handlers, file_systems: Arc::new(FileSystems::of(resources)), until, bus })
    }

    /// Does one thing to one resource. The future owns all it needs; dropping it kills what it started.
    pub fn perform(
        &self,
        resource: ResourceId,
        verb: Verb,
        timeout: Duration,
    ) -> impl Future<Output = AgentOutcome> + Send + 'static + use<> {
        let handler = self.handlers.get(resource.0).cloned();
        let file_systems = Arc::clone(&self.file_systems);
        let deadline = Instant::now() + timeout;
        async move {
            let Some(handler) = handler else {
                return outcome(AgentResult::Nowhere, format!("there is no resource number {}", resource.0));
            };
            let work = handler.perform(verb, deadline);
            let done = match tokio::time::timeout_at(deadline + GRACE, work).await {
                Ok(done) => done,
                Err(_) => timed_out(verb, timeout),
            };
            let own_file_system = matches!(*handler, Handler::Mount(_));
            if own_file_system || !matches!(verb, Verb::Start | Verb::Monitor) {
                return done;
            }
            file_systems.explain(done).await
        }
    }

    /// What some resources need and this host does not have, a sentence each.
    pub(crate) async fn lacking(&self, resources: Range<usize>) -> Vec<String> {
        let mut sentences = Vec::new();
        for handler in self.handlers.iter().take(resources.end).skip(resources.start) {
            sentences.extend(handler.lack().await);
        }
        sentences
    }

    /// This host may act until then (`CLOCK_BOOTTIME`): addresses that are on it get a new lifetime.
    /// `None`: they are taken off now.
    pub fn may_act_until(&self, until: Option<Millis>) {
        self.until.send_replace(until);
    }

    /// Gives the units back to the host: their drop-ins are removed. For the end of the manager, not for the
    /// exchange of its program.
    pub async fn release(&self) {
        if let Some(bus) = &self.bus {
            bus.release().await;
        }
    }
}

impl Handler {
    /// Why it cannot be started here, when that is known without trying.
    async fn lack(&self) -> Option<String> {
        match self {
            Self::Replica | Self::Mount(_) | Self::Address(_) => None,
            Self::Systemd(unit) => unit.missing(),
            Self::Ocf(ocf) => ocf.problem().await,
        }
    }

    async fn perform(&self, verb: Verb, deadline: Instant) -> AgentOutcome {
        match self {
            Self::Replica => {
                outcome(AgentResult::Nowhere, "the replicated device is not an agent's business".to_owned())
            }
            Self::Mount(mount) => mount.perform(verb, deadline).await,
            Self::Address(address) => address.perform(verb, deadline).await,
            Self::Systemd(unit) => unit.perform(verb, deadline).await,
            Self::Ocf(ocf) => ocf.perform(verb, deadline).await,
        }
    }
}

/// Where one resource's agent says that it has changed.
#[derive(Clone)]
struct Report {
    resource: ResourceId,
    changed: mpsc::Sender<Changed>,
}

impl Report {
    /// Never waits: the caller may be the one that everything else depends on.
    fn send(&self, state: Running, reason: String) {
        let changed = Changed { resource: self.resource, state, reason };
        if let Err(mpsc::error::TrySendError::Full(changed)) = self.changed.try_send(changed) {
            let sender = self.changed.clone();
            tokio::spawn(async move { sender.send(changed).await });
        }
    }
}

fn outcome(result: AgentResult, reason: impl Into<String>) -> AgentOutcome {
    AgentOutcome { result, reason: reason.into() }
}

fn done() -> AgentOutcome {
    outcome(AgentResult::Ok, "")
}

fn timed_out(verb: Verb, timeout: Duration) -> AgentOutcome {
    let verb = match verb {
        Verb::Start => "start",
        Verb::Stop => "stop",
        Verb::Kill => "kill",
        Verb::Monitor => "monitor",
    };
    outcome(AgentResult::TimedOut, format!("{verb} was not done within {:.1} s", timeout.as_secs_f64()))
}
