//! Writes rows into a database of its own while things go wrong, over SSH on the active host itself.
//!
//! A row counts as acknowledged when the server's answer to its own transaction has come back; whatever else happens to it,
//! it promises nothing, and its number is not used again. When a session breaks, the hosts are tried in turn until one accepts.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use provision::host::{Shell, Target};
use tokio::task::JoinHandle;

use super::hosts::{Hosts, Remote};
use crate::drill::course::HEALTHY;
use crate::drill::record::Rows;
use crate::interrupt::Interrupt;
use crate::load::{Gaps, Stop, ms};

/// The database. It must not be there before.
pub(super) const DATABASE: &str = "futago_drill";
/// A row is written this often at most: each waits for the answer to the one before.
const EVERY: Duration = Duration::from_millis(50);
/// For one row: writes wait 1.5 s for a peer that says nothing, and for the record.
const ANSWER: Duration = Duration::from_secs(5);
/// Before the other host is tried.
const PAUSE: Duration = Duration::from_millis(100);
/// For logging in again.
const LOGIN: Duration = Duration::from_secs(10);
/// For a statement of our own.
const STATEMENT: Duration = Duration::from_secs(60);

/// The client of MariaDB, one statement after the other; a mistake ends it.
const CLIENT: [&str; 5] = ["mariadb", "--batch", "--skip-column-names", "--unbuffered", DATABASE];

/// Makes sure that the database is not there.
pub(super) fn absent(hosts: &Hosts, active: &Remote) -> anyhow::Result<()> {
    let there = execute(hosts, active, &format!("SHOW DATABASES LIKE '{DATABASE}'"), &Interrupt::never())?;
    ensure!(
        there.is_empty(),
        "there is a database {DATABASE} already, of a drill that was cut off; nobody needs it: drop it on {} with \
         mariadb --execute 'DROP DATABASE {DATABASE}'",
        active.name
    );
    Ok(())
}

/// The database, until it is removed.
pub(super) struct Made(());

/// Makes the database on the active host. Where that fails, nothing of it is left.
pub(super) fn make(hosts: &Hosts, active: &Remote) -> anyhow::Result<Made> {
    let row = "id BIGINT UNSIGNED PRIMARY KEY";
    let made = format!(
        "CREATE DATABASE {DATABASE}; CREATE TABLE {DATABASE}.written ({row}) ENGINE=InnoDB; \
         CREATE TABLE {DATABASE}.ballast (data LONGBLOB) ENGINE=InnoDB"
    );
    execute(hosts, active, &made, &Interrupt::never()).map(|_| Made(())).inspect_err(|_| {
        // The error that matters is the one of making it.
        let _ = Made(()).remove(hosts);
    })
}

impl Made {
    /// Drops it on the host where the service runs now.
    pub(super) fn remove(self, hosts: &Hosts) -> anyhow::Result<()> {
        let calm = Interrupt::never();
        let sql = format!("DROP DATABASE IF EXISTS {DATABASE}");
        let dropped =
            hosts.until_active(HEALTHY, &calm).and_then(|active| execute(hosts, active, &sql, &calm));
        dropped.map(drop).with_context(|| format!("drop the database {DATABASE}; type it yourself: {sql}"))
    }
}

/// Writes so many MiB at once, and takes them away again.
pub(super) fn write_ballast(
    hosts: &Hosts,
    active: &Remote,
    mib: u32,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let one = format!("INSERT INTO {DATABASE}.ballast VALUES (REPEAT(MD5(RAND()), 32768))");
    let all = format!("for i in $(seq {mib}); do echo \"{one};\"; done | mariadb");
    hosts.order(active, &all, STATEMENT, interrupt)?;
    execute(hosts, active, &format!("TRUNCATE {DATABASE}.ballast"), interrupt).map(drop)
}

fn execute(hosts: &Hosts, host: &Remote, sql: &str, interrupt: &Interrupt) -> anyhow::Result<String> {
    let said = hosts.ask_for(
        host,
        &format!("mariadb --batch --skip-column-names --execute \"{sql}\""),
        STATEMENT,
        interrupt,
    )?;
    ensure!(said.ok, "run `{sql}` on {}: {}", host.name, said.text);
    Ok(said.text)
}

/// What was written so far.
#[derive(Default)]
struct Written {
    acknowledged: Vec<u64>,
    gaps: Gaps,
    /// When the last was acknowledged.
    last: Option<Instant>,
    /// Why the last session broke.
    broke: Option<String>,
}

/// A writer at work, until it is stopped.
pub(super) struct Writer {
    written: Arc<Mutex<Written>>,
    stop: Stop,
    started: Instant,
    task: JoinHandle<()>,
}

impl Writer {
    /// Starts to write, first on the active host. Rows have numbers from `first` on.
    pub(super) fn start(hosts: &Hosts, active: &Remote, first: u64) -> Self {
        let others = hosts.pair.iter().filter(|host| host.name != active.name);
        let targets: Vec<Target> =
            [active].into_iter().chain(others).map(|host| host.target.clone()).collect();
        let (written, stop, started) = (Arc::<Mutex<Written>>::default(), Stop::default(), Instant::now());
        let work = Work { written: Arc::clone(&written), stop: stop.clone(), started, next: first };
        let task = hosts.runtime.spawn(work.run(targets));
        Self { written, stop, started, task }
    }

    /// Whether a row was acknowledged after a moment.
    pub(super) fn accepts_since(&self, moment: Instant) -> bool {
        lock(&self.written).last.is_some_and(|last| last > moment)
    }

    /// Why the last session broke.
    pub(super) fn trouble(&self) -> String {
        lock(&self.written).broke.clone().unwrap_or_else(|| "no session broke".to_owned())
    }

    /// Ends it and looks for every acknowledged row on the host where the service runs.
    pub(super) fn stop(self, hosts: &Hosts, active: anyhow::Result<&Remote>, interrupt: &Interrupt) -> Rows {
        self.stop.order();
        // A session ends within a row; the task has no other way to fail than a defect of ours.
        let ended = hosts.runtime.block_on(async { tokio::time::timeout(ANSWER + LOGIN, self.task).await });
        let seen = std::mem::take(&mut *lock(&self.written));
        let (longest, _) = seen.gaps.end(ms(self.started.elapsed()));
        let asked = match ended {
            Ok(Ok(())) => active.and_then(|active| missing(hosts, active, &seen.acknowledged, interrupt)),
            _ => Err(anyhow!("the writer of rows did not end; this is a bug")),
        };
        let acknowledged = u64::try_from(seen.acknowledged.len()).unwrap_or(u64::MAX);
        let (lost, unchecked) = match asked {
            Ok(lost) => (lost, None),
            Err(error) => (0, Some(format!("{error:#}"))),
        };
        Rows {
            acknowledged,
            checked: if unchecked.is_some() { 0 } else { acknowledged },
            lost,
            unchecked,
            pause_s: longest.map(|gap| (gap.length_ms() / 10.0).round() / 100.0),
        }
    }
}

fn missing(
    hosts: &Hosts,
    active: &Remote,
    acknowledged: &[u64],
    interrupt: &Interrupt,
) -> anyhow::Result<usize> {
    let text = execute(hosts, active, &format!("SELECT id FROM {DATABASE}.written"), interrupt)?;
    let there: BTreeSet<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    Ok(acknowledged.iter().filter(|id| !there.contains(id)).count())
}

struct Work {
    written: Arc<Mutex<Written>>,
    stop: Stop,
    started: Instant,
    next: u64,
}

impl Work {
    async fn run(mut self, targets: Vec<Target>) {
        let mut hosts: Vec<(Target, Option<Shell>)> =
            targets.into_iter().map(|target| (target, None)).collect();
        while !self.stop.is_ordered() {
            for (target, shell) in &mut hosts {
                if let Err(error) = self.session(target, shell).await {
                    lock(&self.written).broke = Some(format!("{}: {error:#}", target.name));
                    tokio::time::sleep(PAUSE).await;
                }
                if self.stop.is_ordered() {
                    return;
                }
            }
        }
    }

    /// Writes on one host until it breaks or is told to stop.
    async fn session(&mut self, target: &Target, kept: &mut Option<Shell>) -> anyhow::Result<()> {
        let shell = match kept.take() {
            Some(shell) => shell,
            None => tokio::time::timeout(LOGIN, Shell::connect(target.clone())).await.context("log in")??,
        };
        let mut talk = tokio::time::timeout(ANSWER, shell.talk(&CLIENT)).await.context("start mariadb")??;
        let mut clock = tokio::time::interval(EVERY);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let outcome = loop {
            if self.stop.is_ordered() {
                break Ok(());
            }
            clock.tick().await;
            let id = self.next;
            self.next += 1;
            let row = async {
                talk.say(&format!("INSERT INTO written VALUES ({id}); SELECT {id};"))
                    .await
                    .map_err(|e| anyhow!(e))?;
                match talk.hear().await {
                    Some(answer) if answer == id.to_string() => Ok(()),
                    Some(answer) => bail!("row {id} was answered with: {answer}"),
                    None => bail!("the session has ended: {}", talk.complaint()),
                }
            };
            match tokio::time::timeout(ANSWER, row).await {
                Ok(Ok(())) => self.acknowledged(id),
                Ok(Err(error)) => break Err(error),
                Err(_) => break Err(anyhow!("row {id} had no answer within {} s", ANSWER.as_secs())),
            }
        };
        talk.end().await;
        *kept = Some(shell);
        outcome
    }

    fn acknowledged(&self, id: u64) {
        let mut written = lock(&self.written);
        written.acknowledged.push(id);
        written.gaps.acknowledged(ms(self.started.elapsed()));
        written.last = Some(Instant::now());
    }
}

fn lock(written: &Mutex<Written>) -> std::sync::MutexGuard<'_, Written> {
    // What a task that failed has left is still true.
    written.lock().unwrap_or_else(PoisonError::into_inner)
}
