//! `futago:mount` and `futago:bind`: mounts, and sets free what keeps a mount busy when it must go.
//!
//! Everything that may wait for the disk is done by child processes: a thread that waits in the kernel would keep
//! the manager from ever ending.

use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster::event::{AgentOutcome, AgentResult, Running, Verb};
use rustix::process::Signal;
use tokio::io::Interest;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::child::{Run, RunError};
use super::file_system;
use super::holders::{self, Held};
use super::mountinfo::{self, Entry};
use super::{Report, done, outcome};

/// Between looks at holders that were asked to go: processes give no event to who is not their parent.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Who keeps a mount busy gets this long to end by itself, or half of the timeout if that is less.
const TERM: Duration = Duration::from_secs(3);
/// Reads of the mount table after a change of it, at most so often: hosts with containers change it all the time.
const CALM: Duration = Duration::from_millis(20);
/// Left of a deadline for the last words about a child.
const SHORT: Duration = Duration::from_millis(100);

/// A mount.
pub(super) struct Mount {
    what: What,
    directory: PathBuf,
    /// Whether it is there by our doing: only then is its end news.
    mounted: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

enum What {
    Device { device: PathBuf, fstype: String, options: String },
    Bind { source: PathBuf },
}

impl What {
    /// A file system that is read-only although nobody asked for that is broken.
    fn is_written(&self) -> bool {
        match self {
            Self::Device { options, .. } => !options.split(',').any(|option| option == "ro"),
            Self::Bind { .. } => false,
        }
    }
}

impl Mount {
    /// A file system on a block device.
    pub(super) fn device(device: &str, directory: &str, fstype: &str, options: &str, report: Report) -> Self {
        let what = What::Device { device: device.into(), fstype: fstype.into(), options: options.into() };
        Self::new(what, directory, report)
    }

    /// A folder, shown at another place.
    pub(super) fn bind(source: &str, directory: &str, report: Report) -> Self {
        Self::new(What::Bind { source: source.into() }, directory, report)
    }

    fn new(what: What, directory: &str, report: Report) -> Self {
        let directory = PathBuf::from(directory);
        let (mounted, watched) = watch::channel(false);
        let task = tokio::spawn(watch_table(directory.clone(), what.is_written(), watched, report));
        Self { what, directory, mounted, task }
    }

    pub(super) async fn perform(&self, verb: Verb, deadline: Instant) -> AgentOutcome {
        if matches!(verb, Verb::Stop | Verb::Kill) {
            self.mounted.send_replace(false);
        }
        let result = match verb {
            Verb::Start => self.start(deadline).await,
            Verb::Monitor => self.monitor().await,
            Verb::Stop => self.stop(deadline).await,
            Verb::Kill => self.kill(deadline).await,
        };
        let done = result.unwrap_or_else(|failure| failure);
        if matches!(verb, Verb::Start | Verb::Monitor) {
            self.mounted.send_replace(done.result == AgentResult::Ok);
        }
        done
    }

    async fn start(&self, deadline: Instant) -> Result<AgentOutcome, AgentOutcome> {
        let table = table()?;
        if let Some(entry) = mountinfo::at(&table, &self.directory) {
            if self.is_ours(entry, &table) {
                return Ok(done());
            }
            return Err(failed(format!(
                "mount at {}: something else, {} of device {}, is mounted there; unmount it",
                self.directory.display(),
                entry.fstype,
                entry.device
            )));
        }
        if let What::Device { device, fstype, .. } = &self.what {
            if !is_block_device(device) {
                return Err(failed(format!(
                    "mount {}: there is no such block device; is the resource below it started?",
                    device.display()
                )));
            }
            if fstype.starts_with("ext") {
                repair(device, deadline).await?;
            }
        } else if let What::Bind { source } = &self.what
            && !source.exists()
        {
            return Err(failed(format!("bind {}: there is no such folder", source.display())));
        }
        if let Err(error) = std::fs::create_dir_all(&self.directory) {
            return Err(failed(format!("create the mount point {}: {error}", self.directory.display())));
        }
        let finished = child(Run::new("mount").args(self.arguments()), deadline).await?;
        if finished.code() == Some(0) {
            return Ok(done());
        }
        Err(failed(format!("mount {} at {}: {}", self.source(), self.directory.display(), finished.reason())))
    }

    /// Never read-only as a way out: who asks for a file system wants to write.
    fn arguments(&self) -> Vec<PathBuf> {
        let mut words: Vec<PathBuf> = Vec::new();
        match &self.what {
            What::Device { device, fstype, options } => {
                if self.what.is_written() {
                    words.push("-w".into());
                }
                words.extend(["-t", fstype].map(PathBuf::from));
                if !options.is_empty() {
                    words.extend(["-o", options].map(PathBuf::from));
                }
                words.push(device.clone());
            }
            What::Bind { source } => words.extend(["--bind".into(), source.clone()]),
        }
        words.push(self.directory.clone());
        words
    }

    async fn monitor(&self) -> Result<AgentOutcome, AgentOutcome> {
        let table = table()?;
        let Some(entry) = mountinfo::at(&table, &self.directory).filter(|entry| self.is_ours(entry, &table))
        else {
            return Ok(outcome(AgentResult::NotRunning, ""));
        };
        if self.what.is_written() && entry.is_read_only() {
            let problem = file_system::problem(&self.directory).await.unwrap_or_default();
            return Ok(outcome(AgentResult::FileSystem, problem));
        }
        // No failure of the mount: whoever writes there fails, and says so.
        let full = file_system::full(&self.directory).await;
        Ok(outcome(AgentResult::Ok, full.unwrap_or_default()))
    }

    async fn stop(&self, deadline: Instant) -> Result<AgentOutcome, AgentOutcome> {
        let Some(held) = self.held()? else {
            return Ok(done());
        };
        let begun = Instant::now();
        let patience = begun + TERM.min((deadline - begun) / 2);
        let mut signalled = None;
        loop {
            let problem = self.unmount_all(deadline).await?;
            let found = find(&held).await;
            if problem.is_none() && found.is_empty() {
                return Ok(done());
            }
            let now = Instant::now();
            if now + LOOK_AGAIN >= deadline {
                let who = if found.is_empty() { problem.unwrap_or_default() } else { holders::names(&found) };
                let text = format!("unmount {}: still in use: {who}", self.directory.display());
                return Err(outcome(AgentResult::TimedOut, text));
            }
            let next = if now < patience { Signal::TERM } else { Signal::KILL };
            // Each once to the same ones: a repeated SIGTERM interrupts an orderly end.
            if signalled.as_ref() != Some(&(next, found.clone())) && !found.is_empty() {
                let (names, shown) = (holders::names(&found), self.directory.display());
                tracing::warn!("unmount {shown}: busy, signal {next:?} to {names}");
                holders::signal(&found, next);
                signalled = Some((next, found));
            }
            sleep_until(now + LOOK_AGAIN).await;
        }
    }

    async fn kill(&self, deadline: Instant) -> Result<AgentOutcome, AgentOutcome> {
        let Some(held) = self.held()? else {
            return Ok(done());
        };
        let found = find(&held).await;
        holders::signal(&found, Signal::KILL);
        for entry in self.mounts()? {
            let detach = Run::new("umount").args(["--lazy".into(), entry.directory.clone()]);
            let finished = child(detach, deadline).await?;
            if finished.code() != Some(0) {
                return Err(failed(format!("detach {}: {}", entry.directory.display(), finished.reason())));
            }
        }
        let mut left = holders::alive(&found);
        while !left.is_empty() && Instant::now() + LOOK_AGAIN < deadline {
            sleep_until(Instant::now() + LOOK_AGAIN).await;
            left = holders::alive(&left);
        }
        if left.is_empty() {
            return Ok(done());
        }
        let text = format!("{}: killed, but not gone: {}", self.directory.display(), holders::names(&left));
        Err(outcome(AgentResult::TimedOut, text))
    }

    /// Unmounts everything at and below the directory, the deepest first; `Some` says what was in the way.
    async fn unmount_all(&self, deadline: Instant) -> Result<Option<String>, AgentOutcome> {
        for entry in self.mounts()? {
            let finished = child(Run::new("umount").args([&entry.directory]), deadline).await?;
            if finished.code() != Some(0) {
                return Ok(Some(finished.reason()));
            }
        }
        Ok(None)
    }

    /// What is mounted at and below the directory, the latest first.
    fn mounts(&self) -> Result<Vec<Entry>, AgentOutcome> {
        let mut table = table()?;
        table.retain(|entry| entry.directory.starts_with(&self.directory));
        table.reverse();
        Ok(table)
    }

    /// What must be free afterwards; `None` when it is not mounted.
    fn held(&self) -> Result<Option<Held>, AgentOutcome> {
        let table = table()?;
        let entry = mountinfo::at(&table, &self.directory).filter(|entry| self.is_ours(entry, &table));
        let directory = self.directory.clone();
        Ok(match &self.what {
            // Its device must be free even if the mount is gone already.
            What::Device { device, .. } => {
                let device = entry.map(|entry| entry.device.clone()).or_else(|| number(device));
                device.map(|device| Held::Device { device, directory })
            }
            What::Bind { .. } => entry.map(|entry| Held::Place { id: entry.id, directory }),
        })
    }

    fn is_ours(&self, entry: &Entry, table: &[Entry]) -> bool {
        match &self.what {
            // A device that is gone still has its mount, and who else would mount there.
            What::Device { device, .. } => number(device).is_none_or(|number| number == entry.device),
            What::Bind { source } => {
                let Some(below) = mountinfo::above(table, source) else { return false };
                let inside = source.strip_prefix(&below.directory).unwrap_or(Path::new(""));
                entry.device == below.device && entry.root == below.root.join(inside)
            }
        }
    }

    fn source(&self) -> String {
        match &self.what {
            What::Device { device, .. } => device.display().to_string(),
            What::Bind { source } => source.display().to_string(),
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Replays and repairs what a boot would, but only when the superblock says that something is wrong: the journal
/// is the mount's business, and a clean file system costs one read.
async fn repair(device: &Path, deadline: Instant) -> Result<(), AgentOutcome> {
    let looked = child(Run::new("dumpe2fs").args(["-h".into(), device.to_owned()]), deadline).await?;
    let state = looked.stdout.lines().find_map(|line| line.strip_prefix("Filesystem state:")).map(str::trim);
    match state {
        Some("clean") => return Ok(()),
        Some(state) => tracing::warn!("{} is {state}: e2fsck -p", device.display()),
        // The mount says better what is wrong.
        None => return Ok(()),
    }
    let finished = child(Run::new("e2fsck").args(["-p".into(), device.to_owned()]), deadline).await?;
    match finished.code() {
        // Clean, corrected, corrected and to be mounted anew.
        Some(0..=3) => Ok(()),
        _ => Err(outcome(
            AgentResult::FileSystem,
            format!(
                "e2fsck -p {0}: {1}; repair it by hand: `e2fsck {0}`",
                device.display(),
                finished.reason()
            ),
        )),
    }
}

async fn child(run: Run, deadline: Instant) -> Result<super::child::Finished, AgentOutcome> {
    run.until(deadline - SHORT).await.map_err(|error| match error {
        RunError::Start { .. } => outcome(AgentResult::NotHere, error.to_string()),
        _ => outcome(AgentResult::TimedOut, error.to_string()),
    })
}

async fn find(held: &Held) -> Vec<holders::Holder> {
    let held = held.clone();
    tokio::task::spawn_blocking(move || held.holders()).await.unwrap_or_default()
}

fn table() -> Result<Vec<Entry>, AgentOutcome> {
    mountinfo::own().map_err(|error| failed(format!("read the mount table: {error}")))
}

fn failed(reason: String) -> AgentOutcome {
    outcome(AgentResult::Failed, reason)
}

fn is_block_device(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.file_type().is_block_device())
}

/// `MAJOR:MINOR` of a block device.
fn number(device: &Path) -> Option<String> {
    let file = rustix::fs::stat(device).ok()?;
    let (major, minor) = (rustix::fs::major(file.st_rdev), rustix::fs::minor(file.st_rdev));
    (is_block_device(device)).then(|| format!("{major}:{minor}"))
}

/// Tells when the mount disappears, or turns read-only, without our doing.
async fn watch_table(
    directory: PathBuf,
    is_written: bool,
    mut mounted: watch::Receiver<bool>,
    report: Report,
) {
    let opened = std::fs::File::open("/proc/self/mountinfo");
    let file = match opened.and_then(|file| crate::sys::register(file.into(), Interest::PRIORITY)) {
        Ok(file) => file,
        Err(error) => return tracing::error!("watch the mount table: {error}"),
    };
    loop {
        // Until we have it mounted, nothing of it is news.
        if mounted.wait_for(|mounted| *mounted).await.is_err() {
            return;
        }
        let problem = mountinfo::own().map(|table| match mountinfo::at(&table, &directory) {
            None => Some((Running::Stopped, "it was unmounted by somebody else")),
            Some(entry) if is_written && entry.is_read_only() => {
                Some((Running::Failed, "the file system turned read-only"))
            }
            Some(_) => None,
        });
        if let Ok(Some((state, reason))) = problem
            && *mounted.borrow()
        {
            report.send(state, format!("{}: {reason}", directory.display()));
            // Once; until the next start or look that finds it there.
            if mounted.wait_for(|mounted| !*mounted).await.is_err() {
                return;
            }
            continue;
        }
        tokio::select! {
            ready = file.ready(Interest::PRIORITY) => match ready {
                Ok(mut ready) => ready.clear_ready(),
                Err(error) => return tracing::error!("watch the mount table: {error}"),
            },
            ended = mounted.changed() => if ended.is_err() { return },
        }
        tokio::time::sleep(CALM).await;
    }
}
