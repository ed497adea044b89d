//! One task on one host: conditions, items, repetition, verdicts, and what is remembered of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::{Host, Lost, Shared, State};
use crate::plan::items;
use crate::playbook::{Expression, Task};
use crate::protocol::{Failure, Outcome, Owed, Progress, Step};
use crate::report::{Event, Status, TaskDone};
use crate::template::{Resolved, Scope};
use base::problem::Problem;
use base::yaml::Entry;

/// Progress of one host is passed on at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// A task as a play has it.
pub(super) struct Asked {
    pub(super) task: Task,
    /// Variables of its play.
    pub(super) vars: Vec<Entry>,
    /// The handlers that it notifies.
    pub(super) notify: BTreeSet<Owed>,
}

/// How a task ended on a host.
pub(super) struct Verdict {
    /// The run may go on.
    pub(super) good: bool,
    /// What was remembered.
    pub(super) registered: Option<Registered>,
}

/// A result as expressions see it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Registered {
    values: Map<String, Value>,
    /// More will be known when it is really done.
    partial: bool,
}

impl Registered {
    pub(super) fn set(&self, name: &str, scope: &mut Scope) {
        if self.partial {
            scope.set_partial(name, &self.values);
        } else {
            scope.set(name, &Value::Object(self.values.clone()));
        }
    }
}

/// The end of one item.
struct Done {
    status: Status,
    outcome: Outcome,
    registered: Registered,
}

impl Done {
    fn skipped(message: String) -> Self {
        let values = Map::from_iter([
            ("changed".to_owned(), json!(false)),
            ("failed".to_owned(), json!(false)),
            ("skipped".to_owned(), json!(true)),
        ]);
        let outcome = Outcome { message, ..Outcome::default() };
        Self { status: Status::Skipped, outcome, registered: Registered { values, partial: false } }
    }

    fn unknown(message: &str) -> Self {
        let outcome = Outcome { unknown: true, message: message.to_owned(), ..Outcome::default() };
        Self {
            status: Status::Unknown,
            outcome,
            registered: Registered { values: Map::new(), partial: true },
        }
    }

    fn failed(failure: Failure) -> Self {
        let values =
            Map::from_iter([("failed".to_owned(), json!(true)), ("msg".to_owned(), json!(failure.message))]);
        let outcome = Outcome { failure: Some(failure), ..Outcome::default() };
        Self { status: Status::Failed, outcome, registered: Registered { values, partial: false } }
    }

    fn problem(problem: &Problem) -> Self {
        Self::failed(Failure {
            message: format!("{}: {}", problem.place, problem.message),
            output: String::new(),
            hint: problem.hint.clone(),
        })
    }
}

/// Runs a task with all its items.
pub(super) async fn run<H: Host>(shared: &Shared, asked: &Asked, state: &mut State<H>) -> Verdict {
    let Asked { task, notify, .. } = asked;
    let mut one = One { shared, task, notify, state };
    let mut results = one.items(&asked.vars).await;
    // Also when a later item has failed.
    if results.iter().any(|done| done.status == Status::Changed) {
        one.state.notified.extend(notify.iter().cloned());
        results.extend(one.keep_owed().await);
    }
    let status = results.iter().map(|d| d.status).max().unwrap_or(Status::Skipped);
    let registered = combine(task, results);
    let state = one.state;
    state.recap.count(status);
    if let Some(name) = &task.register {
        registered.set(name, &mut state.scope);
    }
    Verdict { good: status < Status::Failed, registered: Some(registered) }
}

/// Whether a host would refuse a task. Tasks that destroy something are tried on all hosts first, so that a refusal
/// on one leaves the other one untouched too.
pub(super) async fn rehearse<H: Host>(shared: &Shared, asked: &Asked, state: &mut State<H>) -> Verdict {
    let Asked { task, notify, vars } = asked;
    let good = One { shared, task, notify, state }.rehearse(vars).await;
    Verdict { good, registered: None }
}

/// One result, or the list of results of a loop.
fn combine(task: &Task, mut results: Vec<Done>) -> Registered {
    if task.each.is_none()
        && let Some(done) = results.pop()
    {
        return done.registered;
    }
    let any = |status: Status| json!(results.iter().any(|d| d.status == status));
    let partial = results.iter().any(|d| d.registered.partial);
    let mut values = Map::from_iter([("failed".to_owned(), any(Status::Failed))]);
    if !partial {
        let all: Vec<Value> = results.iter().map(|d| Value::Object(d.registered.values.clone())).collect();
        values.insert("results".into(), all.into());
        values.insert("changed".into(), any(Status::Changed));
        values.insert("skipped".into(), json!(results.iter().all(|d| d.status == Status::Skipped)));
    }
    Registered { values, partial }
}

struct One<'a, H> {
    shared: &'a Shared,
    task: &'a Task,
    notify: &'a BTreeSet<Owed>,
    state: &'a mut State<H>,
}

impl<H: Host> One<'_, H> {
    async fn items(&mut self, vars: &[Entry]) -> Vec<Done> {
        let scopes = match self.scopes(vars) {
            Ok(scopes) => scopes,
            Err(done) => {
                self.tell(&done, None, Instant::now());
                return vec![*done];
            }
        };
        let mut results = Vec::new();
        for (scope, item) in scopes {
            if self.shared.stop.asked() && !results.is_empty() {
                break;
            }
            let done = self.item(scope, item).await;
            let good = done.status < Status::Failed;
            results.push(done);
            if !good {
                break;
            }
        }
        results
    }

    /// The variables for each item; one scope without item when there is no loop.
    fn scopes(&self, vars: &[Entry]) -> Result<Vec<(Scope, Option<Value>)>, Box<Done>> {
        let resolver = &self.shared.resolver;
        let mut scope = self.state.scope.clone();
        for vars in [vars, &self.task.vars] {
            if let Some(problem) = resolver.add_variables(vars, &mut scope).err().iter().flatten().next() {
                return Err(Box::new(Done::problem(problem)));
            }
        }
        let items = items(resolver, self.task, &scope);
        match items.map_err(|problem| Box::new(Done::problem(&problem)))? {
            None => Ok(vec![(scope, None)]),
            Some(Resolved::Unknown) => Err(self.not_known("for which items")),
            Some(Resolved::Known(items)) if items.is_empty() => {
                Err(Box::new(Done::skipped("no items".into())))
            }
            Some(Resolved::Known(items)) => {
                let with = |item: Value| {
                    let mut scope = scope.clone();
                    scope.set("item", &item);
                    (scope, Some(item))
                };
                Ok(items.into_iter().map(with).collect())
            }
        }
    }

    /// Only finds out whether the task would be refused; says so when it would.
    async fn rehearse(&mut self, vars: &[Entry]) -> bool {
        // What cannot even be prepared fails in the same way when it is done.
        let Ok(scopes) = self.scopes(vars) else { return true };
        for (scope, item) in scopes {
            let started = Instant::now();
            let Ok(step) = self.prepare(&scope) else { continue };
            let done = match self.send(&Step { check: true, ..step }).await {
                Err(lost) => lost_host(lost),
                Ok(outcome) => first_verdict(outcome, true),
            };
            if done.status >= Status::Failed {
                self.tell(&done, item, started);
                self.state.recap.count(done.status);
                return false;
            }
        }
        true
    }

    /// Has the host keep what it could not know of itself: a change that is one by the task's own condition. None when that went
    /// well.
    async fn keep_owed(&mut self) -> Option<Done> {
        if self.shared.options.check || self.task.changed_when.is_none() || self.notify.is_empty() {
            return None;
        }
        let started = Instant::now();
        let done = match self.state.link.owe(self.state.notified.clone()).await {
            Err(lost) => lost_host(lost),
            Ok(outcome) => first_verdict(outcome, false),
        };
        let failed = done.status >= Status::Failed;
        failed.then(|| self.tell(&done, None, started));
        failed.then_some(done)
    }

    async fn item(&mut self, scope: Scope, item: Option<Value>) -> Done {
        let started = Instant::now();
        let done = match self.prepare(&scope) {
            Ok(step) => self.repeat(&step, scope).await,
            Err(done) => *done,
        };
        self.tell(&done, item, started);
        done
    }

    /// The step, or the end of it when there is nothing to send.
    fn prepare(&self, scope: &Scope) -> Result<Step, Box<Done>> {
        for condition in &self.task.when {
            match self.holds(condition, scope) {
                Err(problem) => return Err(Box::new(Done::problem(&problem))),
                Ok(Resolved::Known(true)) => {}
                Ok(Resolved::Known(false)) => {
                    return Err(Box::new(Done::skipped(format!("not when {}", condition.source))));
                }
                Ok(Resolved::Unknown) => {
                    return Err(self.not_known(&format!("whether {}", condition.source)));
                }
            }
        }
        let resolved = self.shared.resolver.resolve(self.task, scope);
        let resolution = resolved.map_err(|problems| match problems.first() {
            Some(problem) => Box::new(Done::problem(problem)),
            None => Box::new(Done::failed(Failure::default())),
        })?;
        if resolution.unknown {
            return Err(self.not_known("with which arguments"));
        }
        let super::Options { check, diff, .. } = self.shared.options;
        // What the task's own condition calls a change is known here only.
        let notify = self.notify.iter().filter(|_| self.task.changed_when.is_none()).cloned().collect();
        Ok(Step { module: resolution.module.to_owned(), args: resolution.args, check, diff, notify })
    }

    /// A plan says what it cannot know; when it is done, nothing may be left out because of that.
    fn not_known(&self, what: &str) -> Box<Done> {
        if self.shared.options.check {
            return Box::new(Done::unknown(&format!("{what} is unknown until applied")));
        }
        Box::new(Done::failed(Failure {
            message: format!("{what} is not known: a variable or a result that it needs has no value"),
            ..Failure::default()
        }))
    }

    fn holds(&self, condition: &Expression, scope: &Scope) -> Result<Resolved<bool>, Problem> {
        let Expression { source, place } = condition;
        self.shared.resolver.engine.condition(source, scope).map_err(|e| e.in_value(place, source))
    }

    /// Runs the step until its condition holds.
    async fn repeat(&mut self, step: &Step, mut scope: Scope) -> Done {
        let mut attempt = 0;
        loop {
            let done = match self.send(step).await {
                Err(lost) => return lost_host(lost),
                Ok(outcome) => self.judge(outcome, &mut scope),
            };
            let Some(until) = self.task.until.as_ref().filter(|_| !step.check) else { return done };
            match self.holds(&until.condition, &scope) {
                // A step that could not even be done has no result to look at; why is what matters.
                Err(_) if done.status == Status::Failed => return done,
                Err(problem) => return Done::problem(&problem),
                Ok(Resolved::Known(false)) => {}
                Ok(_) => return done,
            }
            if attempt >= until.retries || self.shared.stop.asked() {
                let message = format!("still not {} after {} attempts", until.condition.source, attempt + 1);
                let output = done
                    .outcome
                    .failure
                    .map_or(done.outcome.message, |f| format!("{}\n{}", f.message, f.output));
                return Done::failed(Failure { message, output, hint: None });
            }
            attempt += 1;
            self.say_progress(Progress {
                message: format!("waiting for {} ({attempt} of {})", until.condition.source, until.retries),
                ..Progress::default()
            });
            tokio::time::sleep(Duration::from_secs(until.delay_seconds)).await;
        }
    }

    async fn send(&mut self, step: &Step) -> Result<Outcome, Lost> {
        let Self { shared, task, state, .. } = self;
        let State { link, member, .. } = &mut **state;
        let mut last: Option<Instant> = None;
        let mut progress = |progress: Progress| {
            if task.no_log || last.is_some_and(|at| at.elapsed() < PROGRESS_EVERY) {
                return;
            }
            last = Some(Instant::now());
            let (host, task) = (member.name.clone(), task.name.clone());
            shared.report.say(Event::Progress { host, task, progress });
        };
        link.run(step, &mut progress).await
    }

    fn say_progress(&self, progress: Progress) {
        let (host, task) = (self.state.member.name.clone(), self.task.name.clone());
        self.shared.report.say(Event::Progress { host, task, progress });
    }

    /// The verdict: the module's, unless the task has a better one.
    fn judge(&self, outcome: Outcome, scope: &mut Scope) -> Done {
        let mut done = first_verdict(outcome, self.shared.options.check);
        set_result(self.task, &done.registered, scope);
        for (condition, is_change) in [(&self.task.failed_when, false), (&self.task.changed_when, true)] {
            let Some(condition) = condition else { continue };
            match self.holds(condition, scope) {
                Err(_) if done.status == Status::Failed => return done,
                Err(problem) => return Done::problem(&problem),
                Ok(Resolved::Unknown) => {}
                Ok(Resolved::Known(holds)) if is_change => {
                    if done.status < Status::Failed {
                        done.status = if holds { Status::Changed } else { Status::Ok };
                        done.registered.values.insert("changed".into(), json!(holds));
                    }
                }
                Ok(Resolved::Known(true)) => {
                    let message = format!("{} holds", condition.source);
                    done.outcome.failure.get_or_insert_with(|| Failure { message, ..Failure::default() });
                    done.status = Status::Failed;
                    done.registered.values.insert("failed".into(), json!(true));
                }
                Ok(Resolved::Known(false)) => {
                    if done.status == Status::Failed {
                        done.status = if done.outcome.changed { Status::Changed } else { Status::Ok };
                    }
                    done.outcome.failure = None;
                    done.registered.values.insert("failed".into(), json!(false));
                }
            }
        }
        set_result(self.task, &done.registered, scope);
        done
    }

    fn tell(&self, done: &Done, item: Option<Value>, started: Instant) {
        let Task { name, place, no_log, .. } = self.task;
        let Outcome { message, diff, failure, .. } = done.outcome.clone();
        let hidden = || "(hidden by no_log)".to_owned();
        let failure =
            failure.map(|f| if *no_log { Failure { message: hidden(), ..Failure::default() } } else { f });
        self.shared.report.say(Event::TaskDone(Box::new(TaskDone {
            host: self.state.member.name.clone(),
            task: name.clone(),
            place: place.to_string(),
            item: item.map(|item| if *no_log { hidden().into() } else { item }),
            status: done.status,
            message: if *no_log && !message.is_empty() { hidden() } else { message },
            diff: diff.filter(|_| !no_log && self.shared.options.diff),
            seconds: started.elapsed().as_secs_f64(),
            failure,
        })));
    }
}

fn set_result(task: &Task, registered: &Registered, scope: &mut Scope) {
    registered.set("result", scope);
    if let Some(name) = &task.register {
        registered.set(name, scope);
    }
}

fn first_verdict(outcome: Outcome, check: bool) -> Done {
    let status = match &outcome {
        o if o.failure.is_some() => Status::Failed,
        o if o.unknown => Status::Unknown,
        o if o.changed => Status::Changed,
        _ => Status::Ok,
    };
    let mut values = outcome.data.clone();
    values.insert("failed".into(), json!(outcome.failure.is_some()));
    values.insert("skipped".into(), json!(false));
    values.insert("msg".into(), json!(outcome.failure.as_ref().map_or(&outcome.message, |f| &f.message)));
    if !outcome.unknown {
        values.insert("changed".into(), json!(outcome.changed));
    }
    let partial = check && (outcome.changed || outcome.unknown);
    Done { status, outcome, registered: Registered { values, partial } }
}

fn lost_host(lost: Lost) -> Done {
    let status = if lost.unreachable { Status::Unreachable } else { Status::Failed };
    let hint = Some("find out what the step has done there, then continue".to_owned());
    let done = Done::failed(Failure { message: lost.message, output: String::new(), hint });
    Done { status, ..done }
}
