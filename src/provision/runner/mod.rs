//! Runs a plan: each task on all its hosts at the same time, the next task when all are done.
//!
//! The rule for failures is the safe one for a pair: when a task fails on one host, the others finish that task, and
//! then the whole run stops, because every later step may rely on both. Nothing is started unless every needed
//! host answers and is the one that the inventory means. Handlers run at the end of each play, or of each batch
//! of a `serial` play. A step that destroys something is tried on all hosts before it is done on any. In a plan, what depends on steps that were not really done is reported as unknown.

mod link;
mod ssh;
mod task;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::task::JoinSet;

pub use link::{Connect, Host, Lost};
pub use ssh::OverSsh;

use crate::inventory::{Inventory, Member};
use crate::plan::{Plan, PlannedPlay};
use crate::playbook::{Play, Task};
use crate::protocol::{Facts, Failure, Owed};
use crate::report::{self, Event, HostRecap, Report, Status, TaskDone, TaskTime};
use crate::step::Resolver;
use crate::template::Scope;
use base::yaml::Entry;
use task::Asked;

/// Whether a task may destroy what is on a disk.
fn destroys(task: &Task) -> bool {
    let creates = |e: &Entry| e.key == "state" && e.value.to_json() == "created";
    match task.module.as_str() {
        "partition" | "filesystem" => true,
        "replica" => task.args.iter().any(creates),
        _ => false,
    }
}

/// Exit codes of a run.
pub mod exit {
    /// Done, or nothing to do.
    pub const DONE: u8 = 0;
    /// A task failed, or a host refused.
    pub const FAILED: u8 = 1;
    /// A plan found something to do.
    pub const CHANGES: u8 = 2;
    /// A host could not be reached.
    pub const UNREACHABLE: u8 = 4;
    /// Wrong usage, or a mistake in what the user wrote; no host was contacted.
    pub const USAGE: u8 = 64;
    /// Stopped by the user.
    pub const INTERRUPTED: u8 = 130;
}

/// Tasks named at the end as the slowest.
const SLOWEST: usize = 3;
/// Faster tasks are not worth naming.
const SLOW_SECONDS: f64 = 1.0;

/// What is done before the first task.
const CONNECT: &str = "connect";

/// A request to stop after the running step.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks to stop; `true` the first time.
    pub fn ask(&self) -> bool {
        !self.0.swap(true, Ordering::SeqCst)
    }

    /// Whether it was asked for.
    #[must_use]
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Change nothing.
    pub check: bool,
    /// Show changes.
    pub diff: bool,
    /// Name of the playbook, for the report.
    pub playbook: String,
    /// Command that a continuation starts with, such as `futago apply -i ha.yml`.
    pub command: String,
    /// The log, for the report.
    pub log: Option<String>,
}

/// What is done with a task on all its hosts before the next thing.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Only find out whether a host would refuse it.
    Rehearse,
    /// Do it.
    Run,
}

/// Everything that all hosts of a run share.
pub(crate) struct Shared {
    pub(crate) resolver: Resolver,
    pub(crate) report: Arc<Report>,
    pub(crate) options: Options,
    pub(crate) stop: Stop,
}

/// One host during a run.
pub(crate) struct State<H> {
    pub(crate) member: Member,
    pub(crate) link: H,
    /// Inventory, facts and registered results.
    pub(crate) scope: Scope,
    /// Handlers that have to run, also those that earlier runs have left.
    pub(crate) notified: BTreeSet<Owed>,
    pub(crate) recap: HostRecap,
}

/// Runs a plan on the hosts that `connect` gives; the number is the exit code.
pub async fn run<C: Connect>(
    inventory: &Inventory,
    plan: Plan,
    assets: crate::assets::Assets,
    connect: Arc<C>,
    report: Arc<Report>,
    options: Options,
    stop: Stop,
) -> u8 {
    let resolver = Resolver::new(assets, inventory);
    let shared = Arc::new(Shared { resolver, report, options, stop });
    let mut run = Run {
        shared,
        hosts: Vec::new(),
        lost: Vec::new(),
        forgotten: Vec::new(),
        times: Vec::new(),
        stopped_at: None,
        started: Instant::now(),
    };
    run.announce(inventory, &plan);
    if run.connect(inventory, &plan, connect).await {
        run.plays(&plan).await;
    }
    run.finish().await
}

struct Run<H> {
    shared: Arc<Shared>,
    hosts: Vec<State<H>>,
    lost: Vec<HostRecap>,
    /// What earlier runs have left and nothing does any more.
    forgotten: Vec<String>,
    times: Vec<TaskTime>,
    /// Name of the task that a continuation starts at.
    stopped_at: Option<String>,
    started: Instant,
}

impl<H: Host> Run<H> {
    fn announce(&self, inventory: &Inventory, plan: &Plan) {
        let options = &self.shared.options;
        self.shared.report.say(Event::RunStarted {
            version: report::VERSION,
            inventory: inventory.file.display().to_string(),
            playbook: options.playbook.clone(),
            check: options.check,
            hosts: plan.hosts(inventory),
            tasks: plan.tasks(),
        });
    }

    /// Connects to all hosts at once; nothing is done unless all of them are there.
    async fn connect<C: Connect<Host = H>>(
        &mut self,
        inventory: &Inventory,
        plan: &Plan,
        connect: Arc<C>,
    ) -> bool {
        let names = plan.hosts(inventory);
        let mut joining = JoinSet::new();
        for (index, name) in names.iter().enumerate() {
            let Some(member) = inventory.members().find(|m| m.name == *name).cloned() else { continue };
            let connect = connect.clone();
            joining.spawn(async move { (index, connect.connect(&member).await, member) });
        }
        let mut all = true;
        let mut connected = Vec::new();
        while let Some(joined) = joining.join_next().await {
            let Ok((index, result, member)) = joined else { return false };
            match result.and_then(|link| is_the_one(&link, &member).map(|()| link)) {
                Ok(link) => {
                    let seconds = self.started.elapsed().as_secs_f64();
                    self.shared.report.say(Event::Connected { host: member.name.clone(), seconds });
                    connected.push((index, State::new(inventory, member, link)));
                }
                Err(lost) => {
                    all = false;
                    self.lose(&member.name, &lost);
                }
            }
        }
        connected.sort_by_key(|(index, _)| *index);
        self.hosts = connected.into_iter().map(|(_, state)| state).collect();
        if all && let Some((odd, lost)) = mixed(inventory, &self.hosts) {
            all = false;
            let state = self.hosts.remove(odd);
            self.lose(&state.member.name, &lost);
        }
        if !all {
            // Hosts that are not reached for the same reason share a line.
            self.shared.report.say(Event::TaskFinished { task: CONNECT.into() });
        }
        all
    }

    fn lose(&mut self, host: &str, lost: &Lost) {
        let status = if lost.unreachable { Status::Unreachable } else { Status::Failed };
        let mut recap = HostRecap { host: host.to_owned(), ..HostRecap::default() };
        recap.count(status);
        self.lost.push(recap);
        let hint = if lost.unreachable {
            "nothing was changed on any host: all of them must answer first"
        } else {
            "nothing was changed on any host"
        };
        self.shared.report.say(Event::TaskDone(Box::new(TaskDone {
            host: host.to_owned(),
            task: CONNECT.into(),
            place: String::new(),
            item: None,
            status,
            message: String::new(),
            diff: None,
            seconds: self.started.elapsed().as_secs_f64(),
            failure: Some(Failure {
                message: lost.message.clone(),
                hint: Some(hint.into()),
                ..Failure::default()
            }),
        })));
    }

    async fn plays(&mut self, plan: &Plan) {
        self.forget(plan).await;
        for planned in &plan.plays {
            for batch in &planned.batches {
                if !self.batch(planned, batch).await {
                    return;
                }
            }
        }
    }

    /// One play on some of its hosts; `false` stops the run.
    async fn batch(&mut self, planned: &PlannedPlay, batch: &[String]) -> bool {
        let PlannedPlay { name, play, .. } = planned;
        self.shared.report.say(Event::PlayStarted { play: name.clone(), hosts: batch.to_vec() });
        for task in &play.tasks {
            if self.shared.stop.asked() {
                self.stopped_at = Some(task.name.clone());
                return false;
            }
            if !self.task(play, task, batch).await {
                self.stopped_at = Some(task.name.clone());
                return false;
            }
        }
        self.handlers(play, batch).await
    }

    /// What earlier runs have left to handlers that their plays no longer have is not owed any more.
    async fn forget(&mut self, plan: &Plan) {
        let is_gone = |owed: &Owed| {
            let mut plays = plan.plays.iter().filter(|planned| planned.name == owed.play).peekable();
            plays.peek().is_some()
                && !plays
                    .flat_map(|planned| &planned.play.handlers)
                    .any(|handler| handler.name == owed.handler)
        };
        for state in &mut self.hosts {
            let gone: Vec<Owed> = state.notified.iter().filter(|owed| is_gone(owed)).cloned().collect();
            for owed in &gone {
                state.notified.remove(owed);
                let Owed { play, handler } = owed;
                let host = &state.member.name;
                self.forgotten
                    .push(format!("{handler} on {host}: {play:?} has no such handler any more, forgotten"));
            }
            if !gone.is_empty() {
                state.settle(self.shared.options.check).await;
            }
        }
    }

    /// The handlers that were asked for, in the order in which they are written.
    async fn handlers(&mut self, play: &Play, batch: &[String]) -> bool {
        for handler in &play.handlers {
            let owed = Owed { play: play.name.clone(), handler: handler.name.clone() };
            let asked = |s: &&State<H>| batch.contains(&s.member.name) && s.notified.contains(&owed);
            let hosts: Vec<String> = self.hosts.iter().filter(asked).map(|s| s.member.name.clone()).collect();
            if hosts.is_empty() {
                continue;
            }
            if self.shared.stop.asked() || !self.task(play, handler, &hosts).await {
                return false;
            }
            for state in self.hosts.iter_mut().filter(|s| hosts.contains(&s.member.name)) {
                state.notified.remove(&owed);
                state.settle(self.shared.options.check).await;
            }
        }
        true
    }

    /// One task on these hosts at the same time; `false` when it failed somewhere.
    async fn task(&mut self, play: &Play, task: &Task, hosts: &[String]) -> bool {
        let chosen: Vec<String> =
            if task.run_once { hosts.iter().take(1).cloned().collect() } else { hosts.to_vec() };
        self.shared.report.say(Event::TaskStarted {
            task: task.name.clone(),
            place: task.place.to_string(),
            hosts: chosen.clone(),
            handler: play.handlers.iter().any(|h| h.name == task.name && h.place == task.place),
        });
        let started = Instant::now();
        let of_play = |(handler, _): &(String, _)| Owed { play: play.name.clone(), handler: handler.clone() };
        let notify = task.notify.iter().map(of_play).collect();
        let asked = Arc::new(Asked { task: task.clone(), vars: play.vars.clone(), notify });
        let rehearsed = !destroys(task)
            || self.shared.options.check
            || chosen.len() < 2
            || self.each(Phase::Rehearse, &asked, &chosen).await.good;
        let verdict = if rehearsed {
            self.each(Phase::Run, &asked, &chosen).await
        } else {
            task::Verdict { good: false, registered: None }
        };
        if task.run_once {
            self.share(task, hosts, verdict.registered);
        }
        self.times.push(TaskTime { task: task.name.clone(), seconds: started.elapsed().as_secs_f64() });
        self.shared.report.say(Event::TaskFinished { task: task.name.clone() });
        verdict.good
    }

    /// One phase of a task on these hosts at the same time.
    async fn each(&mut self, phase: Phase, asked: &Arc<Asked>, chosen: &[String]) -> task::Verdict {
        let (going, mut waiting): (Vec<State<H>>, Vec<State<H>>) =
            std::mem::take(&mut self.hosts).into_iter().partition(|s| chosen.contains(&s.member.name));
        let mut running = JoinSet::new();
        for mut state in going {
            let (shared, asked) = (self.shared.clone(), asked.clone());
            running.spawn(async move {
                let verdict = match phase {
                    Phase::Rehearse => task::rehearse(&shared, &asked, &mut state).await,
                    Phase::Run => task::run(&shared, &asked, &mut state).await,
                };
                (state, verdict)
            });
        }
        let mut all = task::Verdict { good: true, registered: None };
        while let Some(joined) = running.join_next().await {
            // A panic of the program's own: the host's state is gone, and the run cannot go on.
            let Ok((state, verdict)) = joined else {
                all.good = false;
                continue;
            };
            all.good &= verdict.good;
            all.registered = verdict.registered;
            waiting.push(state);
        }
        waiting.sort_by_key(State::position);
        self.hosts = waiting;
        all
    }

    /// The result of a `run_once` task counts for all hosts of the play.
    fn share(&mut self, task: &Task, hosts: &[String], registered: Option<task::Registered>) {
        let (Some(name), Some(registered)) = (&task.register, registered) else { return };
        for state in self.hosts.iter_mut().filter(|s| hosts.contains(&s.member.name)) {
            registered.set(name, &mut state.scope);
        }
    }

    async fn finish(self) -> u8 {
        let Self { shared, hosts, lost, forgotten, mut times, stopped_at, started } = self;
        let owed = hosts
            .iter()
            .flat_map(|s| s.notified.iter().map(|owed| format!("{} on {}", owed.handler, s.member.name)));
        let owed: Vec<String> = owed.chain(forgotten).collect();
        let mut recaps = lost;
        let mut closing = JoinSet::new();
        for state in hosts {
            recaps.push(state.recap);
            closing.spawn(state.link.close());
        }
        closing.join_all().await;
        recaps.sort_by(|a, b| a.host.cmp(&b.host));
        let exit_code = exit_code(&recaps, shared.options.check, shared.stop.asked());
        times.retain(|t| t.seconds >= SLOW_SECONDS);
        times.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        times.truncate(SLOWEST);
        let Options { command, check, log, .. } = &shared.options;
        let continue_with = stopped_at.filter(|_| exit_code != exit::DONE && !check);
        shared.report.say(Event::RunFinished {
            hosts: recaps,
            slowest: times,
            owed,
            continue_with: continue_with.map(|task| format!("{command} --start-at-task {}", quoted(&task))),
            log: log.clone(),
            seconds: started.elapsed().as_secs_f64(),
            check: *check,
            exit_code,
        });
        exit_code
    }
}

impl<H: Host> State<H> {
    fn new(inventory: &Inventory, member: Member, link: H) -> Self {
        let mut scope = inventory.scope(&member);
        scope.set("facts", &serde_json::to_value(link.facts()).unwrap_or_default());
        let recap = HostRecap { host: member.name.clone(), ..HostRecap::default() };
        let notified = link.owed().clone();
        Self { scope, member, link, notified, recap }
    }

    /// Has the host keep what it still owes. One that is lost by now runs a handler once more in the next run: that is
    /// harmless, and why it was lost its next task says.
    async fn settle(&mut self, check: bool) {
        if !check {
            let _ = self.link.owe(self.notified.clone()).await;
        }
    }

    /// Order of the inventory; a witness comes last.
    fn position(&self) -> (bool, usize) {
        (self.member.disk.is_none(), self.member.place.line)
    }
}

/// A host that calls itself differently may be another host than the one that is meant.
fn is_the_one<H: Host>(link: &H, member: &Member) -> Result<(), Lost> {
    let own = &link.facts().hostname;
    if *own == member.fqdn {
        return Ok(());
    }
    let Member { name, fqdn, address, .. } = member;
    let message = format!(
        "{name} ({address}) must be called {fqdn:?}, but `uname -n` there says {own:?}; if it is the right host, run \
         `hostnamectl set-hostname {fqdn}` there, or write `fqdn: {own}` under {name} in the inventory"
    );
    Err(Lost { message, unreachable: false })
}

/// A stack on two releases of a distribution, and which host is the second of them: the newer MariaDB converts the data
/// when it first starts, and the older one cannot read them any more.
fn mixed<H: Host>(inventory: &Inventory, hosts: &[State<H>]) -> Option<(usize, Lost)> {
    let stack = inventory.stack.as_ref()?;
    let mut pair = hosts.iter().enumerate().filter(|(_, state)| state.member.disk.is_some());
    let ((_, first), (odd, second)) = (pair.next()?, pair.next()?);
    let release = |state: &State<H>| {
        let Facts { distribution, distribution_version: version, family, .. } = state.link.facts();
        // Minor releases of Red Hat's have the same MariaDB.
        let version =
            if family == "redhat" { version.split('.').next().unwrap_or_default() } else { version };
        format!("{distribution} {version}").trim().to_owned()
    };
    let (one, other) = (release(first), release(second));
    let message = format!(
        "{} runs {one} and {} runs {other}: `stack: {stack}` needs the same release on both, because the newer MariaDB \
         converts the data when it first starts, and the older one cannot take over any more; bring both to one release \
         (docs/operations.md, \"A new Debian release\")",
        first.member.name, second.member.name
    );
    (one != other).then_some((odd, Lost { message, unreachable: false }))
}

fn exit_code(recaps: &[HostRecap], check: bool, stopped: bool) -> u8 {
    let any = |count: fn(&HostRecap) -> u32| recaps.iter().any(|r| count(r) > 0);
    if any(|r| r.failed) {
        exit::FAILED
    } else if any(|r| r.unreachable) {
        exit::UNREACHABLE
    } else if stopped {
        exit::INTERRUPTED
    } else if check && any(|r| r.changed + r.unknown) {
        exit::CHANGES
    } else {
        exit::DONE
    }
}

fn quoted(name: &str) -> String {
    if name.contains('"') { format!("'{name}'") } else { format!("\"{name}\"") }
}
