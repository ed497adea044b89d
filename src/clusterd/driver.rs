//! The one owner of the core and of the record store: inputs in, one at a time, with the time; actions performed
//! in their order. It waits for nothing: whatever takes time is begun here and reports back through the mailbox.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use cluster::config::Config;
use cluster::control::{CommandError, Status};
use cluster::engine::Engine;
use cluster::event::{Action, Event, Left, LogLevel, OpId, Shutdown, Token};
use cluster::member::Node;
use cluster::message::Message;
use cluster::timing::Millis;
use tokio::sync::{mpsc, oneshot, watch};

use crate::agent::Agents;
use crate::alert::Alert;
use crate::book::{Book, Done};
use crate::chronicle::Chronicle;
use crate::clock;
use crate::fence::{self, Device};
use crate::links::Links;
use crate::mailbox::{Input, Mailbox};
use crate::replica::Replica;
use crate::tell::log;
use crate::timer::Alarm;
use crate::watchdog::{self, Watchdog};

/// How long the last words to the peer have to leave this host.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// Longest that giving the units back may hold up the end.
const RELEASE: Duration = Duration::from_secs(5);

/// Everything that the driver acts with.
pub(crate) struct Hands {
    pub(crate) links: Links,
    pub(crate) book: Book,
    pub(crate) replica: Replica,
    pub(crate) agents: Arc<Agents>,
    pub(crate) fencing: [Option<Device>; 2],
    pub(crate) watchdog: Watchdog,
    pub(crate) chronicle: Chronicle,
    pub(crate) alerts: mpsc::Sender<Alert>,
    pub(crate) status: watch::Sender<Option<Box<Status>>>,
}

/// The driver.
pub(crate) struct Driver {
    engine: Engine,
    hands: Hands,
    names: [String; 2],
    mailbox: Mailbox,
    /// Events that follow from actions, before anything new is looked at.
    pending: VecDeque<Event>,
    wake_at: Option<Millis>,
    next_token: u64,
    asked: BTreeMap<Token, oneshot::Sender<Result<String, CommandError>>>,
    /// Operations that were begun and have not ended.
    working: usize,
    ending: Option<Shutdown>,
    /// It may end, and leaves this.
    over: Option<Left>,
}

impl Driver {
    /// The core begins: with what its store remembers.
    pub(crate) fn new(config: Config, hands: Hands, mailbox: Mailbox) -> io::Result<Self> {
        let now = clock::now();
        let names = config.names.clone();
        let mut actions = Vec::new();
        // Half the range: numbers are counted up from it.
        let engine = Engine::new(config, base::random::number()? >> 1, now, &mut actions);
        let mut driver = Self {
            engine,
            hands,
            names,
            mailbox,
            pending: VecDeque::new(),
            wake_at: None,
            next_token: 0,
            asked: BTreeMap::new(),
            working: 0,
            ending: None,
            over: None,
        };
        driver.perform_all(actions, now);
        driver.settle(now);
        Ok(driver)
    }

    /// Runs until the core says that it may end.
    pub(crate) async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        mut stop: mpsc::Receiver<Shutdown>,
    ) -> io::Result<()> {
        let mut alarm = Alarm::new()?;
        let left = loop {
            if let Some(left) = self.over {
                break left;
            }
            self.look_at_the_clock();
            let due = [self.wake_at, self.hands.book.deadline(), self.hands.watchdog.due()];
            let due = due.into_iter().flatten().min();
            tokio::select! {
                biased;
                Some(kind) = stop.recv() => {
                    self.ending = self.ending.or(Some(kind));
                    self.event(Event::Shutdown { kind });
                }
                Some(input) = inputs.recv() => self.input(input),
                woken = alarm.wait(due) => woken?,
            }
        };
        tokio::time::sleep(LAST_WORDS).await;
        self.end(left).await;
        Ok(())
    }

    fn look_at_the_clock(&mut self) {
        let now = clock::now();
        self.hands.watchdog.feed(now);
        if self.hands.book.deadline().is_some_and(|due| due <= now) {
            let done = self.hands.book.tick(now, &self.hands.links);
            self.store_done(done, now);
        }
        if self.wake_at.is_some_and(|due| due <= now) {
            self.wake_at = None;
            self.event(Event::Tick);
        }
    }

    fn input(&mut self, input: Input) {
        let now = clock::now();
        match input {
            Input::Heard { from, path, message } => {
                if let Message::Register(message) = message.as_ref() {
                    let done = self.hands.book.received(from, message.clone(), now, &self.hands.links);
                    self.store_done(done, now);
                }
                self.event(Event::Heard { from, path, message: *message });
            }
            Input::Stored { seq } => {
                let done = self.hands.book.stored(seq, now, &self.hands.links);
                self.store_done(done, now);
            }
            Input::Etcd { number, answer } => {
                let done = self.hands.book.answered(number, answer, now);
                self.store_done(done, now);
            }
            Input::Event(event) => {
                if matches!(
                    event,
                    Event::ResourceDone { .. } | Event::ReplicaDone { .. } | Event::FenceDone { .. }
                ) {
                    self.working = self.working.saturating_sub(1);
                }
                self.event(event);
            }
            Input::Command { command, reply } => {
                self.asked.retain(|_, reply| !reply.is_closed());
                self.next_token += 1;
                let token = Token(self.next_token);
                self.asked.insert(token, reply);
                self.event(Event::Command { token, command, at: clock::calendar() });
            }
            Input::Alert { kind, text } => {
                self.hands.chronicle.decision(LogLevel::Warn, &text);
                log(LogLevel::Warn, &text);
                self.alert(Alert { level: LogLevel::Warn, kind, text });
            }
            Input::Plan { command, reply } => {
                // Who asked may be gone.
                let _ = reply.send(self.engine.plan(command.as_ref()));
            }
            Input::Status { reply } => {
                let mut status = Box::new(self.engine.status(now));
                self.hands.links.complete(&mut status.paths);
                let _ = reply.send(status);
            }
        }
    }

    fn store_done(&mut self, done: Vec<Done>, now: Millis) {
        self.pending.extend(done.into_iter().map(|(id, outcome)| Event::StoreDone { id, outcome }));
        self.settle(now);
    }

    fn event(&mut self, event: Event) {
        self.pending.push_back(event);
        self.settle(clock::now());
    }

    /// Until nothing follows any more.
    fn settle(&mut self, now: Millis) {
        while let Some(event) = self.pending.pop_front() {
            let mut actions = Vec::new();
            self.engine.handle(event, now, &mut actions);
            self.perform_all(actions, now);
        }
    }

    fn perform_all(&mut self, actions: Vec<Action>, now: Millis) {
        for action in actions {
            self.perform(action, now);
        }
    }

    fn perform(&mut self, action: Action, now: Millis) {
        match action {
            Action::Store { id, op } => {
                let done = self.hands.book.submit(id, op, now, &self.hands.links);
                self.pending.extend(done.into_iter().map(|(id, outcome)| Event::StoreDone { id, outcome }));
            }
            Action::Send { to, message } => self.hands.links.send(to, &message),
            Action::Replica { op, verb } => {
                self.working += 1;
                self.hands.replica.perform(op, verb);
            }
            Action::Resource { op, resource, verb, timeout_ms } => {
                let work = self.hands.agents.perform(resource, verb, Duration::from_millis(timeout_ms));
                self.begin(async move { Event::ResourceDone { op, outcome: work.await } });
            }
            Action::MayActUntil { until } => self.hands.agents.may_act_until(Some(until)),
            Action::MayNotAct => self.hands.agents.may_act_until(None),
            Action::Fence { op, target } => self.fence(op, target),
            Action::Reboot { reason } => {
                tracing::error!("resetting this host: {reason}");
                tracing::error!("reset this host: {}", watchdog::reset());
            }
            Action::Reply { token, result } => {
                if let Some(reply) = self.asked.remove(&token) {
                    // Who asked may be gone.
                    let _ = reply.send(result);
                }
            }
            Action::Publish(mut status) => {
                self.hands.links.complete(&mut status.paths);
                self.hands.chronicle.look(&status);
                self.hands.status.send_replace(Some(status));
            }
            Action::Log { level, text } => {
                self.hands.chronicle.decision(level, &text);
                log(level, &text);
            }
            Action::Alert { level, kind, text } => {
                self.alert(Alert { level, kind: kind.to_owned(), text });
            }
            Action::WakeAt { at } => self.wake_at = Some(at),
            Action::Exit { left } => self.over = Some(left),
        }
    }

    fn alert(&self, alert: Alert) {
        if self.hands.alerts.try_send(alert).is_err() {
            tracing::warn!("an alert was lost: those before it are still being told");
        }
    }

    fn fence(&mut self, op: OpId, target: Node) {
        let ([a, b], [name_a, name_b]) = (&self.hands.fencing, &self.names);
        let (device, name) = match target {
            Node::A => (a.clone(), name_a.clone()),
            Node::B => (b.clone(), name_b.clone()),
        };
        self.begin(async move {
            let result = match device {
                Some(device) => fence::fence(&device, &name).await,
                None => Err(format!("no fence device is configured for {name}")),
            };
            Event::FenceDone { op, result }
        });
    }

    fn begin(&mut self, work: impl Future<Output = Event> + Send + 'static) {
        self.working += 1;
        let mailbox = self.mailbox.clone();
        tokio::spawn(async move { mailbox.put(Input::Event(work.await)).await });
    }

    /// The watchdog first: nobody feeds it from here on.
    async fn end(self, left: Left) {
        self.hands.watchdog.end(left, self.working);
        // The next program finds the units as they are; without one they are the host's again.
        if self.ending == Some(Shutdown::HandOver)
            && tokio::time::timeout(RELEASE, self.hands.agents.release()).await.is_err()
        {
            tracing::warn!("systemd did not take its units back within {} s", RELEASE.as_secs());
        }
    }
}
