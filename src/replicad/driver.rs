//! The driver: one thread that owns a resource. It turns what happens into events for the core and performs
//! the actions that come back. It never waits for a disk, a peer, a mount or an administrator.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use replica::config::Commands;
use replica::control::{Command, Differences, GenerationStatus, Refusal, Status};
use replica::engine::{Engine, Origin, Settings, UndoPolicy};
use replica::event::{Action, CallId, Event, Fill, FrontOp, LinkId, LogLevel, Millis, Slot, Token};
use replica::message::Message;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::contact::Contact;
use crate::disk::{Backing, DiskProblem};
use crate::enlarged;
use crate::exchange::{HandOver, Inherited};
use crate::export::{self, Export, Fuse, FuseEnd, Place};
use crate::legacy::{Legacy, Record};
use crate::mailbox::Mailbox;
use crate::peer::{LinkEnd, Peers, Received, Security, Source};
use crate::running::Running;
use crate::scripts::Scripts;
use crate::slots::{FreeSlots, TOTAL};
use crate::sys::Arena;
use crate::undo::{self, Undo};
use crate::watch::{Watcher, Watchers};
use crate::worker::{Done, Job, Workers};

/// All that is needed to bring a resource up.
#[derive(Debug)]
pub struct Plan {
    /// What the core must know.
    pub settings: Settings,
    /// The backing device.
    pub disk: PathBuf,
    /// Where the undo log of its resync goes.
    pub undo_file: PathBuf,
    /// Where the size of the disk is noted.
    pub known_size: PathBuf,
    /// Folder of what is noted until the machine boots anew.
    pub run_dir: PathBuf,
    /// Address of this node.
    pub local: SocketAddr,
    /// Address of the peer.
    pub remote: SocketAddr,
    /// Whether it must prove who it is.
    pub security: Security,
    /// The block device to be offered.
    pub place: Place,
    /// The block device that an earlier process has left.
    pub inherited: Option<Inherited>,
    /// The administrator's scripts.
    pub scripts: Scripts,
}

/// Why a resource could not be brought up.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// Its disk.
    #[error(transparent)]
    Disk(#[from] DiskProblem),
    /// The system.
    #[error("{what}: {error}")]
    System {
        /// `start a thread`
        what: &'static str,
        /// Why.
        error: io::Error,
    },
}

/// What other threads say to the driver.
#[derive(Debug)]
pub enum Report {
    /// A disk operation is over.
    Disk(Done),
    /// The block device was made or taken away.
    Export(export::Report),
    /// An administrator's command.
    Command(Token, Command, SyncSender<Result<(), Refusal>>),
    /// Its administrator does not wait any longer.
    Abandoned(Token),
    /// A script of the administrator's has ended.
    HandlerEnded(CallId, Result<(), String>),
    /// An administrator's question.
    Status(SyncSender<Status>),
    /// The same, of the generation identifiers.
    Generations(SyncSender<GenerationStatus>),
    /// The same, of what the peer may not have.
    Differences(SyncSender<Differences>),
    /// From now on these scripts are called.
    Scripts(Commands),
    /// Somebody wants to hear of every change.
    Watch(Watcher),
    /// What another process needs to go on, of a resource that is paused.
    HandOver(SyncSender<Result<Option<HandOver>, String>>),
    /// Fail every request of applications and let go of the block device.
    Abort,
}

/// Opens the disk, reads its metadata and starts the driver.
pub fn start(plan: Plan) -> Result<Running, UpError> {
    let system = |what| move |error: io::Error| UpError::System { what, error };
    let disk = Arc::new(Backing::open(&plan.disk)?);
    let mut attached = enlarged::attach(&disk, &plan.known_size)?;
    if let Some(mark) = attached.superblock.undo.as_ref().filter(|_| plan.settings.undo != UndoPolicy::Off) {
        match undo::find(&plan.undo_file, mark.log, attached.layout.data_bytes) {
            Ok(found) => attached.undo = Some(found),
            Err(error) => tracing::warn!("the undo log of the interrupted resync cannot be used: {error}"),
        }
    }
    let arena = match plan.inherited.as_ref().and_then(|device| device.arena.clone()) {
        Some(left) => left,
        None => Arc::new(Arena::new(TOTAL).map_err(system("allocate the request buffers"))?),
    };
    let mailbox = Arc::new(Mailbox::new().map_err(system("create an event descriptor"))?);
    let report = Arc::clone(&mailbox);
    let workers = Workers::start(&disk, &arena, move |done| report.put(Report::Disk(done)))
        .map_err(system("start a disk thread"))?;
    let report = Arc::clone(&mailbox);
    let undo = Undo::start(plan.undo_file, Arc::clone(&disk), move |done| report.put(Report::Disk(done)))
        .map_err(system("start the thread of the undo log"))?;
    let peers = Peers::new(plan.local, plan.remote, plan.security, !plan.settings.dials());
    let name = plan.settings.resource.clone();
    let mut actions = Vec::new();
    let mut record = Record::new(Arc::clone(&arena));
    record.write(plan.inherited.as_ref().map(|device| device.legacy.clone()));
    let contact = Contact::new(&plan.run_dir, &name);
    let origin = origin(plan.inherited.as_ref(), &contact, &disk)?;
    let engine = Engine::new(plan.settings, attached, origin, 0, &mut actions);
    let mut driver = Driver {
        engine,
        record,
        contact,
        arena: Arc::clone(&arena),
        slots: FreeSlots::all(),
        workers,
        undo,
        peers,
        export: match plan.inherited {
            Some(device) => Export::take_over(plan.place, arena, device),
            None => Export::new(plan.place, arena),
        },
        mailbox: Arc::clone(&mailbox),
        began: Instant::now(),
        wake_at: None,
        stopped: false,
        disk: plan.disk,
        scripts: plan.scripts,
        pause: None,
        actions,
        events: Vec::new(),
        jobs: Vec::new(),
        waiting: HashMap::new(),
        watchers: Watchers::default(),
    };
    driver.recall();
    Running::begin(&name, mailbox, move || driver.run()).map_err(system("start the driver thread"))
}

fn origin(inherited: Option<&Inherited>, contact: &Contact, disk: &Backing) -> Result<Origin, UpError> {
    let mut seed = [0; 8];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| UpError::System { what: "read random bytes", error: e.into() })?;
    Ok(Origin {
        seed: u64::from_ne_bytes(seed),
        unix_seconds: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        resume: inherited.map(|device| device.legacy.resume),
        contact: contact.noted(),
        unmaps: disk.unmaps(),
    })
}

struct Driver {
    engine: Engine,
    /// For a process that follows this one.
    record: Record,
    contact: Contact,
    arena: Arc<Arena>,
    slots: FreeSlots,
    workers: Workers,
    undo: Undo,
    peers: Peers,
    export: Export,
    mailbox: Arc<Mailbox<Report>>,
    began: Instant,
    wake_at: Option<Millis>,
    stopped: bool,
    /// Path of the backing disk.
    disk: PathBuf,
    scripts: Scripts,
    /// The order to pause: from then on no request is taken.
    pause: Option<Token>,
    /// To be performed.
    actions: Vec<Action>,
    /// To be told to the core.
    events: Vec<Event>,
    /// To be handed to the disk threads.
    jobs: Vec<Job>,
    waiting: HashMap<Token, SyncSender<Result<(), Refusal>>>,
    watchers: Watchers,
}

/// What became ready.
#[derive(Default)]
struct Ready {
    mailbox: bool,
    fuse: bool,
    sources: Vec<(Source, PollFlags)>,
    links: Vec<LinkId>,
}

impl Driver {
    fn run(mut self) {
        let mut ready = Ready::default();
        let mut scratch = Scratch::default();
        self.settle();
        while !self.stopped || self.peers.is_closing() {
            self.wait(&mut ready);
            let now = self.now();
            if ready.mailbox {
                self.take_reports(&mut scratch.reports);
            }
            self.serve_peers(&ready, now, &mut scratch.received);
            if ready.fuse && self.pause.is_none() {
                self.serve_fuse(&mut scratch.requests);
            }
            self.peers.tick(now, &mut self.events);
            if self.wake_at.is_some_and(|at| at <= now) {
                self.wake_at = None;
                self.events.push(Event::Tick);
            }
            self.settle();
            let (engine, fuse) = (&self.engine, self.export.fuse());
            self.watchers.look(now, engine.essence(), || status(engine, fuse, now));
        }
    }

    fn now(&self) -> Millis {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// Sleeps until something is ready or due.
    fn wait(&mut self, ready: &mut Ready) {
        ready.sources.clear();
        ready.links.clear();
        self.peers.ready(&self.slots, &mut ready.links);
        let due = [self.wake_at, self.peers.deadline(), self.watchers.due()].into_iter().flatten().min();
        let pause =
            if ready.links.is_empty() { due.map(|at| at.saturating_sub(self.now())) } else { Some(0) };
        let mut watched = Vec::with_capacity(8);
        self.peers.watched(&self.slots, &mut watched);
        let mut descriptors = Vec::with_capacity(watched.len() + 2);
        descriptors.push(PollFd::new(&self.mailbox, PollFlags::IN));
        let fuse = self.export.fuse().filter(|_| self.slots.has_front() && self.pause.is_none());
        let fuse_at = fuse.map(|fuse| {
            descriptors.push(PollFd::new(fuse, PollFlags::IN));
            descriptors.len() - 1
        });
        let first = descriptors.len();
        descriptors.extend(watched.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)));
        let timeout = pause.map(timespec);
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => tracing::error!("wait for events: {error}"),
        }
        let has = |at: usize| descriptors.get(at).is_some_and(|d| !d.revents().is_empty());
        (ready.mailbox, ready.fuse) = (has(0), fuse_at.is_some_and(has));
        let results = descriptors.iter().skip(first).map(PollFd::revents);
        let sources = watched.iter().map(|(source, ..)| *source).zip(results);
        ready.sources.extend(sources.filter(|(_, flags)| !flags.is_empty()));
    }

    fn take_reports(&mut self, reports: &mut Vec<Report>) {
        self.mailbox.take(reports);
        for report in reports.drain(..) {
            match report {
                Report::Disk(Done::Io(io, result)) => self.events.push(Event::DiskDone { io, result }),
                Report::Disk(Done::Restored(io, result)) => self.events.push(Event::Restored { io, result }),
                Report::Disk(Done::Digest(io, result)) => self.events.push(Event::Digested { io, result }),
                Report::Disk(Done::Meta(tx, result)) => self.events.push(Event::MetaDone { tx, result }),
                Report::Export(report) => self.events.extend(self.export.reported(report)),
                Report::HandlerEnded(call, result) => self.events.push(Event::HandlerEnded { call, result }),
                Report::Command(token, command, answer) => {
                    match command {
                        Command::Pause => self.pause = Some(token),
                        Command::Unpause => self.pause = None,
                        _ => {}
                    }
                    self.waiting.insert(token, answer);
                    self.events.push(Event::Command { token, command });
                }
                Report::Abandoned(token) => {
                    if self.waiting.remove(&token).is_some() {
                        self.events.push(Event::Abandoned { token });
                    }
                }
                Report::Status(answer) => {
                    // Whoever asked may have given up.
                    let _ = answer.try_send(status(&self.engine, self.export.fuse(), self.now()));
                }
                Report::Watch(watcher) => {
                    self.watchers.add(watcher, status(&self.engine, self.export.fuse(), self.now()));
                }
                Report::Generations(answer) => {
                    let _ = answer.try_send(self.engine.generations());
                }
                Report::Differences(answer) => {
                    let _ = answer.try_send(self.engine.differences());
                }
                Report::Scripts(commands) => self.scripts.replace(commands),
                Report::HandOver(answer) => {
                    // Whoever asked may have given up.
                    let _ = answer.try_send(self.hand_over());
                }
                Report::Abort => self.export.abort(),
            }
        }
    }

    fn hand_over(&self) -> Result<Option<HandOver>, String> {
        let Some((fuse, ..)) = self.export.standing()? else { return Ok(None) };
        let fuse = fuse.as_fd().as_raw_fd();
        let legacy = self.legacy().filter(|_| self.engine.is_paused());
        let legacy = legacy.ok_or("it has changed since it was paused")?;
        Ok(Some(HandOver { fuse, legacy }))
    }

    /// What another process could go on with.
    fn legacy(&self) -> Option<Legacy> {
        let resume = self.engine.resume()?;
        let (fuse, number, kept) = self.export.standing().ok()??;
        let (bytes, kept) = (fuse.bytes(), kept.to_owned());
        let successions = self.record.written().map(|known| known.successions.clone()).unwrap_or_default();
        Some(Legacy { disk: self.disk.clone(), number, bytes, resume, kept, successions })
    }

    /// Writes down what a successor of this process must know, before anything is done that depends on it. In a pause
    /// nothing is left for one that was not told to go on.
    fn bequeath(&mut self) {
        self.contact.note(self.engine.contact());
        let known = self.record.written().map(|legacy| legacy.resume);
        let resume = self.engine.resume().filter(|_| !self.engine.is_paused());
        if resume != known || resume.is_some() != matches!(self.export.standing(), Ok(Some(_))) {
            let legacy = resume.and_then(|_| self.legacy());
            self.record.write(legacy);
        }
    }

    /// Takes up what an earlier process has left unanswered, under the name by which it is kept now.
    fn recall(&mut self) {
        self.record.write(self.legacy());
        let mut requests = Vec::new();
        let Some(fuse) = self.export.fuse_mut() else { return };
        let taken = fuse.recall(&mut self.slots, &mut requests);
        self.take_requests(&mut requests, taken);
    }

    fn serve_fuse(&mut self, requests: &mut Vec<(Slot, FrontOp)>) {
        let Some(fuse) = self.export.fuse_mut() else { return };
        let taken = fuse.receive(&mut self.slots, requests);
        self.take_requests(requests, taken);
    }

    fn take_requests(&mut self, requests: &mut Vec<(Slot, FrontOp)>, taken: Result<(), FuseEnd>) {
        self.events.extend(requests.drain(..).map(|(slot, op)| Event::Front { slot, op }));
        if let Err(end) = taken {
            self.export.ended(&end);
        }
    }

    fn serve_peers(&mut self, ready: &Ready, now: Millis, received: &mut Received) {
        for &link in &ready.links {
            self.receive(link, received);
        }
        for &(source, flags) in &ready.sources {
            match source {
                Source::Listener => self.peers.accept(now, &mut self.events),
                Source::Dial => self.peers.dialled(now, &mut self.events),
                Source::Greeting(link) => self.peers.greet(link, now, &mut self.events),
                Source::Closing(link) => self.peers.linger(link, &self.arena),
                // A connection that can only be written to is served when everything is sent.
                Source::Link(_) if flags == PollFlags::OUT => {}
                Source::Link(link) if ready.links.contains(&link) => {}
                Source::Link(link) => self.receive(link, received),
            }
        }
    }

    fn receive(&mut self, link: LinkId, received: &mut Received) {
        let result = self.peers.receive(link, &self.arena, &mut self.slots, received);
        let messages = received.drain(..);
        self.events.extend(messages.map(|(term, message, payload)| Event::Received {
            link,
            term,
            message,
            payload,
        }));
        if let Err(end) = result {
            self.lose(link, &end);
        }
    }

    fn lose(&mut self, link: LinkId, end: &LinkEnd) {
        if self.peers.lose(link, &mut self.slots) {
            self.events.push(Event::LinkLost { link, reason: end.to_string() });
        }
    }

    /// Tells the core what happened and performs what it asks for, until nothing is left to tell.
    fn settle(&mut self) {
        let mut failed = Vec::new();
        loop {
            let now = self.now();
            let mut events = std::mem::take(&mut self.events);
            for event in events.drain(..) {
                tracing::trace!(?event);
                self.engine.handle(event, now, &mut self.actions);
            }
            self.events = events;
            self.bequeath();
            let mut actions = std::mem::take(&mut self.actions);
            for action in actions.drain(..) {
                tracing::trace!(?action);
                self.perform(action, now);
            }
            self.actions = actions;
            self.workers.submit(&mut self.jobs);
            self.peers.flush(&self.arena, &mut failed);
            for (link, end) in failed.drain(..) {
                self.lose(link, &end);
            }
            if self.events.is_empty() {
                return;
            }
        }
    }

    fn perform(&mut self, action: Action, now: Millis) {
        match action {
            Action::ReadDisk { io, slot, range } => {
                self.peers.let_go_of(&self.arena, slot);
                self.jobs.push(Job::Read(io, slot, range));
            }
            Action::DigestDisk { io, range } => self.jobs.push(Job::Digest(io, range)),
            Action::WriteDisk { io, slot, range, fill: Fill::Data } => {
                self.jobs.push(Job::Write(io, slot, range));
            }
            Action::WriteDisk { io, range, fill, .. } => {
                self.jobs.push(Job::Zero(io, range, fill == Fill::Unmapped));
            }
            Action::FlushDisk { io } => self.jobs.push(Job::Flush(io)),
            Action::WriteMeta { tx, writes } => self.jobs.push(Job::Meta(tx, writes)),
            Action::PrepareUndo { io, log, bytes, all } => {
                self.undo.submit(undo::Job::Prepare(io, log, bytes, all));
            }
            Action::SaveUndo { io, log, at, ranges } => {
                self.undo.submit(undo::Job::Save(io, log, at, ranges));
            }
            Action::RestoreUndo { io, log, at } => self.undo.submit(undo::Job::Restore(io, log, at)),
            Action::DropUndo => self.undo.submit(undo::Job::Drop),
            Action::CompleteFront { slot, result } => {
                self.peers.let_go_of(&self.arena, slot);
                if let Some(fuse) = self.export.fuse_mut() {
                    fuse.complete(slot, result);
                }
                self.slots.give(slot);
            }
            Action::Release { slot } => {
                self.peers.let_go_of(&self.arena, slot);
                self.slots.give(slot);
            }
            Action::Dial => self.peers.dial(now, &mut self.events),
            Action::Send { link, term, message, payload } => self.send(link, term, &message, payload),
            Action::Hangup { link } => {
                if self.peers.hang_up(link, &self.arena, &mut self.slots, now) {
                    self.events.push(Event::LinkLost { link, reason: "closed by this node".to_owned() });
                }
            }
            Action::StartExport { .. } | Action::StopExport | Action::ResizeExport { .. } => {
                self.perform_export(&action);
            }
            Action::AbortExport => self.export.revoke(),
            Action::CallHandler { call, handler } => {
                let mailbox = Arc::clone(&self.mailbox);
                let ended = move |result| mailbox.put(Report::HandlerEnded(call, result));
                self.scripts.call(handler, self.engine.status(now).connection.state, ended);
            }
            Action::Reply { token, result } => {
                if self.pause == Some(token) && result.is_err() {
                    self.pause = None;
                }
                if let Some(answer) = self.waiting.remove(&token) {
                    // Whoever asked may have given up.
                    let _ = answer.try_send(result);
                }
            }
            Action::Log { level, text } => match level {
                LogLevel::Error => tracing::error!("{text}"),
                LogLevel::Warn => tracing::warn!("{text}"),
                LogLevel::Info => tracing::info!("{text}"),
            },
            Action::WakeAt { at } => self.wake_at = Some(at),
            Action::Stopped => self.stopped = true,
        }
    }

    fn send(&mut self, link: LinkId, term: u64, message: &Message, payload: Option<Slot>) {
        let len = match message {
            Message::Write { range, .. } | Message::Resync { range, .. } => range.len as usize,
            _ => 0,
        };
        let data = payload.map(|slot| (slot, len));
        if let Err(end) = self.peers.send(&self.arena, link, term, message, data) {
            self.lose(link, &end);
        }
    }

    fn perform_export(&mut self, action: &Action) {
        let mailbox = Arc::clone(&self.mailbox);
        let report = move |report| mailbox.put(Report::Export(report));
        let failed = match action {
            Action::StartExport { bytes, discard } => {
                self.export.start(*bytes, *discard, report).err().map(|reason| Event::ExportFailed { reason })
            }
            Action::ResizeExport { bytes } => {
                let resized = self.export.resize(*bytes, report);
                resized.err().map(|reason| Event::ExportResized { result: Err(reason) })
            }
            _ => self.export.stop(report).err().map(|reason| Event::ExportBusy { holders: vec![reason] }),
        };
        self.events.extend(failed);
    }
}

/// What the core knows, and what only the front end can measure.
fn status(engine: &Engine, fuse: Option<&Fuse>, now: Millis) -> Status {
    let mut status = engine.status(now);
    status.device.waits = fuse.map(Fuse::waits).unwrap_or_default();
    status
}

/// Lists that are filled and emptied at every wake-up, kept for their memory.
#[derive(Default)]
struct Scratch {
    reports: Vec<Report>,
    requests: Vec<(Slot, FrontOp)>,
    received: Received,
}

fn timespec(pause: Millis) -> Timespec {
    let part = i64::try_from(pause % 1000).unwrap_or_default() * 1_000_000;
    Timespec { tv_sec: i64::try_from(pause / 1000).unwrap_or(i64::MAX), tv_nsec: part }
}
