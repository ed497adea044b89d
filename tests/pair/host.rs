//! A data host around its manager: clock, services, addresses. It does what the manager says and knows nothing
//! of why.

use std::collections::{BTreeMap, BTreeSet};

use cluster::config::{Class, Config, ResourceId};
use cluster::event::{AgentOutcome, AgentResult, Running, Verb};
use replica::event::Millis;

/// A clock that is not the world's: it started at another number and runs a little fast or slow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    offset: i64,
    /// Parts per million it is too fast; negative for too slow.
    drift_ppm: i64,
}

impl Clock {
    pub(crate) fn new(offset: Millis, drift_ppm: i64) -> Self {
        Self { offset: offset as i64, drift_ppm }
    }

    /// What it shows at a moment of the world.
    pub(crate) fn show(self, world: Millis) -> Millis {
        let skew = world as i64 * self.drift_ppm / 1_000_000;
        (self.offset + world as i64 + skew) as Millis
    }

    /// The first moment of the world at which it shows this or more.
    pub(crate) fn when(self, shown: Millis) -> Millis {
        let elapsed = shown as i64 - self.offset;
        (elapsed * 1_000_000 / (1_000_000 + self.drift_ppm) + 1).max(0) as Millis
    }
}

impl Clock {
    /// It did not run for so long.
    pub(crate) fn stood_still(&mut self, ms: Millis) {
        self.offset -= ms as i64;
    }

    /// It shows so much more at once.
    pub(crate) fn leaps(&mut self, ms: Millis) {
        self.offset += ms as i64;
    }

    /// From this moment of the world on it runs at another rate.
    pub(crate) fn drifts(&mut self, drift_ppm: i64, world: Millis) {
        let shown = self.show(world);
        self.drift_ppm = drift_ppm;
        self.offset += shown as i64 - self.show(world) as i64;
    }
}

/// How a service misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Every start fails.
    Start,
    /// Stops fail; killing works.
    Stop,
    /// Stops fail, and so does killing: a process that the kernel does not let go.
    Stuck,
    /// Nothing it is asked comes to an end in time.
    Hang,
    /// Looks say that the file system is full.
    Full,
    /// Looks say that the file system has turned read-only; a start may help.
    ReadOnly,
    /// Somebody else on the segment answers for the address.
    Taken,
}

/// What runs on a host, whoever started it.
pub(crate) struct Services {
    config: Config,
    running: BTreeMap<ResourceId, Running>,
    /// Services of the group that were started while the file system was not mounted: they work on what lies below.
    astray: BTreeSet<ResourceId>,
    pub(crate) faults: BTreeMap<ResourceId, Fault>,
    /// The kernel drops the address at this moment of the world.
    pub(crate) address_until: Option<Millis>,
}

impl Services {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            running: BTreeMap::new(),
            astray: BTreeSet::new(),
            faults: BTreeMap::new(),
            address_until: None,
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = ResourceId> + use<> {
        (0..self.config.group.len() + self.config.everywhere.len()).map(ResourceId)
    }

    pub(crate) fn id(&self, name: &str) -> Option<ResourceId> {
        self.ids().find(|id| self.config.resource(*id).is_some_and(|r| r.name == name))
    }

    pub(crate) fn name(&self, id: ResourceId) -> &str {
        self.config.resource(id).map_or("?", |r| r.name.as_str())
    }

    pub(crate) fn class(&self, id: ResourceId) -> Option<&Class> {
        self.config.resource(id).map(|r| &r.class)
    }

    pub(crate) fn is_group(&self, id: ResourceId) -> bool {
        id.0 < self.config.group.len()
    }

    pub(crate) fn state(&self, id: ResourceId) -> Running {
        self.running.get(&id).copied().unwrap_or(Running::Stopped)
    }

    pub(crate) fn set(&mut self, id: ResourceId, state: Running) {
        let service = self.is_group(id) && matches!(self.class(id), Some(Class::Systemd { .. }));
        if state == Running::Started && service && !self.is_mounted() {
            self.astray.insert(id);
        } else {
            self.astray.remove(&id);
        }
        self.running.insert(id, state);
    }

    pub(crate) fn is_mounted(&self) -> bool {
        let mount = |id: &ResourceId| matches!(self.class(*id), Some(Class::Mount { .. }));
        self.ids().filter(mount).any(|id| self.state(id) == Running::Started)
    }

    /// A service that does not work on the data of the stack.
    pub(crate) fn astray(&self) -> Option<&str> {
        self.astray.first().map(|id| self.name(*id))
    }

    /// The host's power went: nothing runs.
    pub(crate) fn power_off(&mut self) {
        self.running.clear();
        self.astray.clear();
        self.address_until = None;
    }

    /// What an operation does at its end. `device` tells whether the replicated device is there.
    pub(crate) fn perform(&mut self, id: ResourceId, verb: Verb, device: bool) -> AgentOutcome {
        let fault = self.faults.get(&id).copied();
        let state = self.state(id);
        let (result, reason) = match (verb, fault) {
            (Verb::Stop | Verb::Kill, Some(Fault::Stuck)) if state != Running::Stopped => {
                (AgentResult::TimedOut, "process 4711 does not end")
            }
            (Verb::Kill, _) => {
                self.stopped(id);
                (AgentResult::Ok, "")
            }
            (_, Some(Fault::Hang)) => (AgentResult::TimedOut, "no answer"),
            (Verb::Start, Some(Fault::Start)) => (AgentResult::Failed, "exited with status 1"),
            (Verb::Start, Some(Fault::Taken)) => {
                (AgentResult::Failed, "add 203.0.113.10: 52:54:00:00:00:63 on eth0 has it already")
            }
            (Verb::Start, _) if self.needs_device(id) && !device => (AgentResult::Failed, "no such device"),
            (Verb::Start, _) => {
                self.set(id, Running::Started);
                (AgentResult::Ok, "")
            }
            (Verb::Stop, Some(Fault::Stop)) => (AgentResult::Failed, "target is busy"),
            (Verb::Stop, _) => {
                self.stopped(id);
                (AgentResult::Ok, "")
            }
            (Verb::Monitor, Some(Fault::Full)) => (AgentResult::FileSystem, "no space left on device"),
            (Verb::Monitor, Some(Fault::ReadOnly)) if state != Running::Stopped => {
                (AgentResult::FileSystem, "the file system at /srv/data is read-only")
            }
            (Verb::Monitor, _) => match state {
                Running::Started => (AgentResult::Ok, ""),
                Running::Stopped => (AgentResult::NotRunning, ""),
                Running::Failed | Running::Unknown => (AgentResult::Failed, "main process exited"),
            },
        };
        AgentOutcome { result, reason: reason.to_owned() }
    }

    fn needs_device(&self, id: ResourceId) -> bool {
        matches!(self.class(id), Some(Class::Mount { .. }))
    }

    fn stopped(&mut self, id: ResourceId) {
        self.set(id, Running::Stopped);
        if matches!(self.class(id), Some(Class::Address { .. })) {
            self.address_until = None;
        }
    }

    /// Whether clients find the address here.
    pub(crate) fn has_address(&self, now: Millis) -> bool {
        self.address_until.is_some_and(|until| now < until)
    }

    /// Whether the file system is mounted and the service on it runs; who asks needs nothing that comes after the address.
    pub(crate) fn serves(&self) -> bool {
        let needed = self.config.group.iter().enumerate();
        let mut needed = needed.take_while(|(_, r)| !matches!(r.class, Class::Address { .. }));
        needed.all(|(i, r)| {
            matches!(r.class, Class::Replica { .. }) || self.state(ResourceId(i)) == Running::Started
        })
    }
}
