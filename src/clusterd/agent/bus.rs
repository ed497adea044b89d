//! The connection to systemd: jobs, signals of units, runtime drop-ins. It comes back by itself after a loss.
//!
//! It goes over the system bus, so the manager's unit needs `After=dbus.service`: the bus then outlives it when the
//! host goes down. (On systemd's own socket signals have a sender that zbus 5.19 cannot read, and panics.)
//! Signals are taken from the connection by one task that never waits, so that a reply is never stuck behind them.

use std::collections::HashMap;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, timeout, timeout_at};
use zbus::export::futures_core::Stream;
use zbus::message::Type;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};
use zbus::{Connection, MatchRule, Message, MessageStream};

use super::systemd::Unit;

pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";
pub(super) const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const BUS: &str = "org.freedesktop.DBus";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// Between two attempts to connect; systemd is back within milliseconds after it executes itself anew.
const RECONNECT: Duration = Duration::from_millis(200);
/// To connect and subscribe.
const CONNECT: Duration = Duration::from_secs(5);
/// For a reload: systemd reads every unit of the host again.
const RELOAD: Duration = Duration::from_secs(30);
/// Signals that may wait for the task that takes them: it never waits itself.
const SIGNALS: usize = 1024;
/// Ends of jobs that one waiter may be behind.
const JOBS: usize = 256;
/// Where systemd looks for what holds until the next boot; it is there on every host that runs systemd.
const DROP_INS: &str = "/run/systemd/system";
const DROP_IN: &str = "50-futago.conf";
/// The manager's own unit: stopped before the units that it controls when the host goes down.
const OWN_UNIT: &str = "futago-clusterd.service";
/// Where systemd shows that unit: its name, escaped.
pub(super) const OWN_UNIT_PATH: &str = "/org/freedesktop/systemd1/unit/futago_2dclusterd_2eservice";

/// End of a job: its path and its result (`done`, `failed`, `timeout` …).
pub(super) type Job = (String, String);

/// The connection to systemd and the units watched over it.
pub(super) struct Bus {
    connection: watch::Receiver<Option<Connection>>,
    units: Vec<Arc<Unit>>,
    task: tokio::task::JoinHandle<()>,
}

/// What a unit's operation needs of the bus.
#[derive(Clone)]
pub(super) struct Line {
    connection: watch::Receiver<Option<Connection>>,
    jobs: broadcast::Sender<Job>,
}

impl Bus {
    /// Writes the units' drop-ins, connects, and keeps connected from then on. A systemd that cannot be reached is
    /// no error: it is tried again, and each operation says so.
    pub(super) async fn start(units: Vec<Arc<Unit>>) -> Self {
        let (publish, connection) = watch::channel(None);
        let (jobs, _) = broadcast::channel(JOBS);
        for unit in &units {
            unit.connect(Line { connection: connection.clone(), jobs: jobs.clone() });
        }
        let task = tokio::spawn(stay_connected(units.clone(), publish, jobs));
        let bus = Self { connection, units, task };
        if let Err(error) = bus.take_over().await {
            tracing::error!("take the units over from systemd: {error:#}");
        }
        bus
    }

    /// Restarts are the manager's business, and the manager stops before what it controls.
    async fn take_over(&self) -> anyhow::Result<()> {
        let mut news = remove_foreign_drop_ins(&self.units)?;
        for unit in &self.units {
            news |= write_drop_in(unit.name())?;
        }
        let connection = connected(&self.connection, Instant::now() + CONNECT).await?;
        if news {
            reload(&connection).await?;
        }
        for unit in &self.units {
            let known = timeout(CONNECT, unit.refresh(&connection)).await;
            if let Err(problem) = known.map_err(anyhow::Error::from).and_then(|read| Ok(read?)) {
                tracing::warn!("read the state of {}: {problem:#}", unit.name());
            }
        }
        Ok(())
    }

    /// Removes the drop-ins.
    pub(super) async fn release(&self) {
        for unit in &self.units {
            remove_drop_in(&drop_in(unit.name()));
        }
        let reloaded = async {
            let connection = connected(&self.connection, Instant::now() + CONNECT).await?;
            reload(&connection).await
        };
        if let Err(error) = reloaded.await {
            tracing::warn!("give the units back to systemd: {error:#}");
        }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    /// The connection, as soon as there is one.
    pub(super) async fn connection(&self, deadline: Instant) -> anyhow::Result<Connection> {
        connected(&self.connection, deadline).await
    }

    /// Starts a job and waits for its end; `None` when the connection was lost meanwhile, so that only the unit's
    /// state can tell.
    pub(super) async fn job(
        &self,
        connection: &Connection,
        method: &str,
        unit: &str,
        mode: &str,
    ) -> zbus::Result<Option<String>> {
        // Before the call: the job may be over before its reply is read.
        let mut ends = self.jobs.subscribe();
        let mut present = self.connection.clone();
        present.mark_unchanged();
        let reply = call(connection, MANAGER_PATH, MANAGER, method, &(unit, mode)).await?;
        let job: OwnedObjectPath = reply.body().deserialize()?;
        loop {
            let end = tokio::select! {
                end = ends.recv() => end,
                _ = present.changed() => return Ok(None),
            };
            match end {
                Ok((path, result)) if path == job.as_str() => return Ok(Some(result)),
                Ok(_) => {}
                Err(_) => return Ok(None),
            }
        }
    }
}

/// One call to systemd.
pub(super) async fn call<B: serde::Serialize + zbus::zvariant::DynamicType>(
    connection: &Connection,
    path: &str,
    interface: &str,
    method: &str,
    body: &B,
) -> zbus::Result<Message> {
    connection.call_method(Some(SYSTEMD), path, Some(interface), method, body).await
}

/// One property of an object of systemd.
pub(super) async fn property(
    connection: &Connection,
    path: &str,
    interface: &str,
    name: &str,
) -> zbus::Result<OwnedValue> {
    let reply = call(connection, path, PROPERTIES, "Get", &(interface, name)).await?;
    reply.body().deserialize()
}

async fn connected(
    connection: &watch::Receiver<Option<Connection>>,
    deadline: Instant,
) -> anyhow::Result<Connection> {
    let mut connection = connection.clone();
    let found = timeout_at(deadline, connection.wait_for(Option::is_some)).await;
    let found = found.context("reach systemd over D-Bus: no connection in time")?;
    found.context("reach systemd over D-Bus")?.clone().context("reach systemd over D-Bus")
}

async fn reload(connection: &Connection) -> anyhow::Result<()> {
    let reloaded = timeout(RELOAD, call(connection, MANAGER_PATH, MANAGER, "Reload", &())).await;
    reloaded.context("reload systemd's units: no answer")?.context("reload systemd's units")?;
    Ok(())
}

async fn stay_connected(
    units: Vec<Arc<Unit>>,
    publish: watch::Sender<Option<Connection>>,
    jobs: broadcast::Sender<Job>,
) {
    let mut complained = false;
    loop {
        match timeout(CONNECT, connect()).await.map_err(anyhow::Error::from).flatten() {
            Ok((connection, mut signals, mut moved)) => {
                if complained {
                    tracing::info!("connected to systemd again");
                }
                complained = false;
                publish.send_replace(Some(connection.clone()));
                read_anew(&units, &connection);
                loop {
                    tokio::select! {
                        message = next(&mut signals) => match message {
                            Some(Ok(message)) if is_end_of_reload(&message) => read_anew(&units, &connection),
                            Some(Ok(message)) => take(&message, &units, &jobs),
                            _ => break,
                        },
                        _ = next(&mut moved) => break,
                    }
                }
                publish.send_replace(None);
                tracing::debug!("the connection to systemd was closed");
            }
            Err(error) if !complained => {
                complained = true;
                tracing::warn!("connect to systemd, to be tried again: {error:#}");
            }
            Err(_) => {}
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Begins to read the state of all units, beside the signals; see above.
fn read_anew(units: &[Arc<Unit>], connection: &Connection) {
    for unit in units {
        let (unit, connection) = (Arc::clone(unit), connection.clone());
        tokio::spawn(async move { unit.refresh(&connection).await });
    }
}

/// systemd has read the files of all units: some may be new or gone, of which no unit's own signal tells.
fn is_end_of_reload(message: &Message) -> bool {
    message.header().member().is_some_and(|member| member.as_str() == "Reloading")
        && message.body().deserialize::<bool>().is_ok_and(|begins| !begins)
}

/// A connection, systemd's signals on it, and those that say that systemd has a new connection of its own.
async fn connect() -> anyhow::Result<(Connection, MessageStream, MessageStream)> {
    let connection = zbus::connection::Builder::system().context("find the system bus")?.build().await?;
    let news = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender(BUS)?
        .interface(BUS)?
        .member("NameOwnerChanged")?
        .add_arg(SYSTEMD)?
        .build();
    let moved = MessageStream::for_match_rule(news, &connection, Some(SIGNALS)).await?;
    let owner =
        connection.call_method(Some(BUS), "/org/freedesktop/DBus", Some(BUS), "GetNameOwner", &SYSTEMD).await;
    let owner = owner.context("find systemd on the bus")?;
    let owner: String = owner.body().deserialize()?;
    // By its unique name: everybody may send signals that look like systemd's.
    let rule =
        MatchRule::builder().msg_type(Type::Signal).sender(owner)?.path_namespace(MANAGER_PATH)?.build();
    let signals = MessageStream::for_match_rule(rule, &connection, Some(SIGNALS)).await?;
    call(&connection, MANAGER_PATH, MANAGER, "Subscribe", &()).await.context("subscribe")?;
    Ok((connection, signals, moved))
}

/// The next message of a stream, without a crate for it.
async fn next(stream: &mut MessageStream) -> Option<zbus::Result<Message>> {
    poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}

fn take(message: &Message, units: &[Arc<Unit>], jobs: &broadcast::Sender<Job>) {
    let header = message.header();
    let member = header.member().map(zbus::names::MemberName::as_str);
    let path = header.path().map(|path| path.as_str().to_owned()).unwrap_or_default();
    match member {
        Some("JobRemoved") => {
            if let Ok((_, job, _, result)) =
                message.body().deserialize::<(u32, OwnedObjectPath, &str, &str)>()
            {
                // Nobody may be waiting.
                let _ = jobs.send((job.to_string(), result.to_owned()));
            }
        }
        Some("PropertiesChanged") => {
            let body = message.body();
            let Ok((_, values, _)) = body.deserialize::<(&str, HashMap<String, OwnedValue>, Vec<&str>)>()
            else {
                return;
            };
            for unit in units.iter().filter(|unit| unit.is_at(&path)) {
                unit.heard(&values);
            }
        }
        _ => {}
    }
}

/// Gives the units back that the configuration does not have any more; they go on as they are. Whether there were any.
fn remove_foreign_drop_ins(units: &[Arc<Unit>]) -> anyhow::Result<bool> {
    let mut found = false;
    for entry in std::fs::read_dir(DROP_INS).with_context(|| format!("read {DROP_INS}"))? {
        let folder = entry.with_context(|| format!("read {DROP_INS}"))?.file_name();
        let Some(unit) = folder.to_str().and_then(|name| name.strip_suffix(".d")) else { continue };
        let path = drop_in(unit);
        if units.iter().all(|known| known.name() != unit) && path.exists() {
            tracing::info!("{unit} is not among the resources any more: left to systemd, as it is");
            remove_drop_in(&path);
            found = true;
        }
    }
    Ok(found)
}

fn remove_drop_in(path: &Path) {
    // What is not there need not be removed, and other people's drop-ins keep the folder.
    let _ = std::fs::remove_file(path);
    let _ = path.parent().map(std::fs::remove_dir);
}

fn drop_in(unit: &str) -> PathBuf {
    Path::new(DROP_INS).join(format!("{unit}.d")).join(DROP_IN)
}

/// Whether it is new.
fn write_drop_in(unit: &str) -> anyhow::Result<bool> {
    let mut text =
        format!("# Written by futago, which starts and stops this unit.\n[Unit]\nBefore={OWN_UNIT}\n");
    if unit.ends_with(".service") {
        text.push_str("[Service]\nRestart=no\n");
    }
    let path = drop_in(unit);
    if std::fs::read_to_string(&path).is_ok_and(|found| found == text) {
        return Ok(false);
    }
    let folder = path.parent().unwrap_or(&path);
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    base::file::replace(&path, text.as_bytes(), 0o644)
        .with_context(|| format!("write {}", path.display()))?;
    Ok(true)
}
