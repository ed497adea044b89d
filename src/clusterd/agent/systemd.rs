//! `systemd:UNIT`: starts and stops by jobs, and knows from systemd's own signals when a unit changes by itself.
//!
//! While an operation of ours runs, what happens to the unit is its result, not news.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context as _;
use cluster::config::Check;
use cluster::event::{AgentOutcome, AgentResult, Running, Verb};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use zbus::Connection;
use zbus::names::OwnedUniqueName;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};

use super::bus::{self, Line, MANAGER, MANAGER_PATH};
use super::{Report, check, done, outcome};

const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
/// Names of the signals that end services, for people.
const SIGNALS: [(i32, &str); 8] =
    [(1, "HUP"), (2, "INT"), (3, "QUIT"), (6, "ABRT"), (9, "KILL"), (11, "SEGV"), (13, "PIPE"), (15, "TERM")];

/// A unit that the manager starts and stops.
pub(super) struct Unit {
    name: String,
    check: Option<Check>,
    report: Report,
    line: OnceLock<Line>,
    path: Mutex<Option<String>>,
    /// The connection that holds the unit in systemd's memory, by its unique name.
    held_by: Mutex<Option<OwnedUniqueName>>,
    known: Mutex<Known>,
    moved: watch::Sender<u64>,
}

/// What is known of a unit.
#[derive(Default)]
struct Known {
    state: State,
    /// What the core has been told or has seen as a result.
    told: Option<Running>,
    /// Operations of ours that run.
    busy: u32,
}

/// Properties of a unit, by systemd's names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    load: String,
    active: String,
    sub: String,
    result: String,
    code: i32,
    status: i32,
}

impl Unit {
    pub(super) fn new(name: &str, check: Option<Check>, report: Report) -> Self {
        Self {
            name: name.to_owned(),
            check,
            report,
            line: OnceLock::new(),
            path: Mutex::default(),
            held_by: Mutex::default(),
            known: Mutex::default(),
            moved: watch::Sender::new(0),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn connect(&self, line: Line) {
        // Once, before anything else.
        let _ = self.line.set(line);
    }

    /// Whether this is the unit's object.
    pub(super) fn is_at(&self, path: &str) -> bool {
        lock(&self.path).as_deref() == Some(path)
    }

    /// Why it can never be started here, when that is so.
    pub(super) fn missing(&self) -> Option<String> {
        lock(&self.known).state.missing(&self.name)
    }

    /// Takes a signal: some properties have changed.
    pub(super) fn heard(&self, values: &HashMap<String, OwnedValue>) {
        let mut known = lock(&self.known);
        for (name, value) in values {
            known.state.set(name, value);
        }
        self.settle(&mut known);
        // Under the lock: a look that is under way must see that it is outdated.
        self.moved.send_modify(|count| *count += 1);
    }

    /// Reads everything anew, as often as signals come between.
    pub(super) async fn refresh(&self, connection: &Connection) -> zbus::Result<()> {
        self.hold(connection).await;
        let path = self.find(connection).await?;
        *lock(&self.path) = Some(path.clone());
        loop {
            let before = *self.moved.borrow();
            let state = read(connection, &path, &self.name).await?;
            let mut known = lock(&self.known);
            if *self.moved.borrow() == before {
                known.state = state;
                self.settle(&mut known);
                return Ok(());
            }
        }
    }

    /// Asks systemd to keep the unit in memory for as long as the connection lasts. A unit that is inactive and that
    /// nothing needs is otherwise read from its files, and dropped again, at each of our questions: some 10 ms each.
    async fn hold(&self, connection: &Connection) {
        let name = connection.unique_name();
        if lock(&self.held_by).as_ref() == name {
            return;
        }
        // One that is not there yet is asked for again; without it everything works, and takes longer.
        if bus::call(connection, MANAGER_PATH, MANAGER, "RefUnit", &(&self.name,)).await.is_ok() {
            *lock(&self.held_by) = name.cloned();
        }
    }

    /// An alias is known by its own name only to who asks; signals come from the real one.
    async fn find(&self, connection: &Connection) -> zbus::Result<String> {
        let reply = bus::call(connection, MANAGER_PATH, MANAGER, "LoadUnit", &(&self.name,)).await?;
        Ok(reply.body().deserialize::<OwnedObjectPath>()?.to_string())
    }

    /// Tells the core, if it is news.
    fn settle(&self, known: &mut Known) {
        let now = known.state.running();
        if known.busy > 0 || now == Running::Unknown {
            return;
        }
        let told = known.told.replace(now);
        if told.is_some_and(|told| told != now) {
            let reason = format!("{}: {}", self.name, known.state.describe());
            self.report.send(now, reason);
        }
    }

    pub(super) async fn perform(&self, verb: Verb, deadline: Instant) -> AgentOutcome {
        let mut busy = (verb != Verb::Monitor).then(|| Busy::of(self));
        let work = async {
            match verb {
                Verb::Start => self.start(deadline).await,
                Verb::Stop => self.stop(deadline).await,
                Verb::Kill => self.kill(deadline).await,
                Verb::Monitor => self.monitor(deadline).await,
            }
        };
        let done = match timeout_at(deadline, work).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => outcome(AgentResult::Failed, format!("{error:#}")),
            Err(_) => {
                let state = lock(&self.known).state.describe();
                outcome(AgentResult::TimedOut, format!("{} took too long; it is {state}", self.name))
            }
        };
        if let Some(busy) = &mut busy
            && verb == Verb::Start
            && done.result == AgentResult::Ok
        {
            busy.started = true;
        }
        done
    }

    async fn start(&self, deadline: Instant) -> anyhow::Result<AgentOutcome> {
        let (line, connection) = self.line(deadline).await?;
        self.refresh(&connection).await.with_context(|| format!("read the state of {}", self.name))?;
        if let Some(problem) = self.missing() {
            return Ok(outcome(AgentResult::NotHere, problem));
        }
        if self.state().active == "failed" {
            // Forgets systemd's own count of starts, too: ours is the one that counts.
            let reset =
                bus::call(&connection, MANAGER_PATH, MANAGER, "ResetFailedUnit", &(&self.name,)).await;
            reset.with_context(|| format!("reset the failed {}", self.name))?;
        }
        let job = line.job(&connection, "StartUnit", &self.name, "replace").await;
        let job = job.with_context(|| format!("start {}", self.name))?;
        let state = self.settled(deadline).await?;
        Ok(match (state.running(), job.as_deref()) {
            (Running::Started, _) => done(),
            (_, Some("done") | None) => {
                outcome(AgentResult::Failed, format!("{} was started and is {}", self.name, state.describe()))
            }
            (_, Some("timeout")) => {
                outcome(AgentResult::TimedOut, format!("{}: {}", self.name, state.describe()))
            }
            (_, Some(result)) => outcome(
                AgentResult::Failed,
                format!("the start of {} ended as {result}: {}", self.name, state.describe()),
            ),
        })
    }

    async fn stop(&self, deadline: Instant) -> anyhow::Result<AgentOutcome> {
        let (line, connection) = self.line(deadline).await?;
        let mode = if manager_ends(&connection).await { "ignore-dependencies" } else { "replace" };
        match line.job(&connection, "StopUnit", &self.name, mode).await {
            Ok(_) => {}
            Err(error) if is_unknown(&error) => return Ok(done()),
            Err(error) => return Err(error).with_context(|| format!("stop {}", self.name)),
        }
        let state = self.settled(deadline).await?;
        Ok(match state.running() {
            Running::Stopped | Running::Failed => done(),
            _ => {
                outcome(AgentResult::Failed, format!("{} was stopped and is {}", self.name, state.describe()))
            }
        })
    }

    async fn kill(&self, deadline: Instant) -> anyhow::Result<AgentOutcome> {
        let (_, connection) = self.line(deadline).await?;
        let killed =
            bus::call(&connection, MANAGER_PATH, MANAGER, "KillUnit", &(&self.name, "all", 9_i32)).await;
        match killed {
            Err(error) if is_unknown(&error) => Ok(done()),
            // Nothing to kill is an error of some versions; the stop tells.
            Ok(_) | Err(_) => self.stop(deadline).await,
        }
    }

    async fn monitor(&self, deadline: Instant) -> anyhow::Result<AgentOutcome> {
        let (_, connection) = self.line(deadline).await?;
        self.refresh(&connection).await.with_context(|| format!("read the state of {}", self.name))?;
        let state = self.settled(deadline).await?;
        if let Some(problem) = state.missing(&self.name) {
            return Ok(outcome(AgentResult::NotHere, problem));
        }
        if state.running() != Running::Started {
            return Ok(outcome(AgentResult::NotRunning, format!("{}: {}", self.name, state.describe())));
        }
        let Some(check) = &self.check else { return Ok(done()) };
        Ok(check::look(check, deadline).await)
    }

    async fn line(&self, deadline: Instant) -> anyhow::Result<(&Line, Connection)> {
        let line = self.line.get().context("reach systemd: not connected yet")?;
        let connection = line.connection(deadline).await?;
        Ok((line, connection))
    }

    fn state(&self) -> State {
        lock(&self.known).state.clone()
    }

    /// The state once it is no longer on its way to another one.
    async fn settled(&self, deadline: Instant) -> anyhow::Result<State> {
        let mut moved = self.moved.subscribe();
        loop {
            moved.mark_unchanged();
            let (_, connection) = self.line(deadline).await?;
            if self.refresh(&connection).await.is_ok() {
                let state = self.state();
                if !state.is_moving() {
                    return Ok(state);
                }
            }
            // A lost connection gives no signal, but then there is soon a new one, and with it a new look.
            let _ = tokio::time::timeout(Duration::from_secs(1), moved.changed()).await;
        }
    }
}

/// An operation of ours runs on the unit.
struct Busy<'a> {
    unit: &'a Unit,
    /// It is a start, and its outcome says that the unit runs.
    started: bool,
}

impl<'a> Busy<'a> {
    fn of(unit: &'a Unit) -> Self {
        lock(&unit.known).busy += 1;
        Self { unit, started: false }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut known = lock(&self.unit.known);
        known.busy = known.busy.saturating_sub(1);
        let told = if self.started { Running::Started } else { known.state.running() };
        known.told = Some(told);
        // It may have changed since the outcome was made.
        self.unit.settle(&mut known);
    }
}

impl State {
    fn set(&mut self, name: &str, value: &OwnedValue) {
        let text =
            || value.try_clone().ok().and_then(|value| String::try_from(value).ok()).unwrap_or_default();
        match name {
            "LoadState" => self.load = text(),
            "ActiveState" => self.active = text(),
            "SubState" => self.sub = text(),
            "Result" => self.result = text(),
            "ExecMainCode" => self.code = i32::try_from(value).unwrap_or_default(),
            "ExecMainStatus" => self.status = i32::try_from(value).unwrap_or_default(),
            _ => {}
        }
    }

    fn running(&self) -> Running {
        match self.active.as_str() {
            "active" | "reloading" | "refreshing" => Running::Started,
            "inactive" => Running::Stopped,
            "failed" => Running::Failed,
            // It has failed and is only being cleaned up.
            "deactivating" if !matches!(self.result.as_str(), "" | "success") => Running::Failed,
            _ => Running::Unknown,
        }
    }

    fn is_moving(&self) -> bool {
        matches!(self.active.as_str(), "activating" | "deactivating" | "")
    }

    fn missing(&self, unit: &str) -> Option<String> {
        let advice = match self.load.as_str() {
            "" | "loaded" | "merged" => return None,
            "not-found" => "install the package that has it, or correct its name in cluster.yml".to_owned(),
            "masked" => format!("`systemctl unmask {unit}`"),
            _ => format!("`systemctl status {unit}` says what is wrong with its file"),
        };
        Some(format!("systemd cannot run {unit} ({}; {advice})", self.load))
    }

    /// `failed (main process exited, code=killed, status=9/KILL)`
    fn describe(&self) -> String {
        let state = if self.sub == self.active {
            self.active.clone()
        } else {
            format!("{} ({})", self.active, self.sub)
        };
        let exit = match self.code {
            1 => format!("main process exited, code=exited, status={}", self.status),
            2 | 3 => {
                let word = if self.code == 2 { "killed" } else { "dumped" };
                let name = SIGNALS.iter().find(|(number, _)| *number == self.status);
                let name = name.map(|(_, name)| format!("/{name}")).unwrap_or_default();
                format!("main process exited, code={word}, status={}{name}", self.status)
            }
            _ => String::new(),
        };
        let stopped = matches!(self.active.as_str(), "inactive" | "failed" | "deactivating");
        let result = match self.result.as_str() {
            "" | "success" | "exit-code" | "signal" | "core-dump" => String::new(),
            other => format!("result {other}"),
        };
        let details: Vec<String> = [exit, result].into_iter().filter(|text| !text.is_empty()).collect();
        if stopped && !details.is_empty() { format!("{state}: {}", details.join(", ")) } else { state }
    }
}

/// Whether systemd is stopping the manager, alone or with the whole host. The unit is ordered before the manager, so
/// every stop of it waits for the manager to end, unless it is told to ignore that.
async fn manager_ends(connection: &Connection) -> bool {
    let is = async |path, interface, name, what: &str| {
        let value = bus::property(connection, path, interface, name).await;
        value.ok().and_then(|value| String::try_from(value).ok()).as_deref() == Some(what)
    };
    is(MANAGER_PATH, MANAGER, "SystemState", "stopping").await
        || is(bus::OWN_UNIT_PATH, UNIT, "ActiveState", "deactivating").await
}

async fn read(connection: &Connection, path: &str, unit: &str) -> zbus::Result<State> {
    let mut state = State::default();
    for name in ["LoadState", "ActiveState", "SubState"] {
        state.set(name, &bus::property(connection, path, UNIT, name).await?);
    }
    if unit.ends_with(".service") {
        for name in ["Result", "ExecMainCode", "ExecMainStatus"] {
            state.set(name, &bus::property(connection, path, SERVICE, name).await?);
        }
    }
    Ok(state)
}

fn is_unknown(error: &zbus::Error) -> bool {
    matches!(error, zbus::Error::MethodError(name, _, _) if name.as_str().ends_with("NoSuchUnit"))
}

/// Nothing that can panic runs under these locks.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(active: &str, sub: &str, result: &str, code: i32, status: i32) -> State {
        let [load, active, sub, result] = ["loaded", active, sub, result].map(str::to_owned);
        State { load, active, sub, result, code, status }
    }

    #[test]
    fn a_killed_service_is_failed_while_systemd_still_cleans_up() {
        let dying = state("deactivating", "stop-sigterm", "signal", 2, 9);
        assert_eq!(dying.running(), Running::Failed);
        let text = dying.describe();
        assert_eq!(text, "deactivating (stop-sigterm): main process exited, code=killed, status=9/KILL");
        assert_eq!(state("deactivating", "stop-sigterm", "success", 0, 0).running(), Running::Unknown);
    }

    #[test]
    fn a_unit_that_systemd_does_not_have_is_missing_with_advice() {
        let mut none = state("inactive", "dead", "", 0, 0);
        assert_eq!(none.missing("x.service"), None);
        none.load = "not-found".to_owned();
        assert!(
            none.missing("x.service")
                .is_some_and(|text| text.contains("x.service") && text.contains("install"))
        );
    }
}
