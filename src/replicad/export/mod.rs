//! The block device of a resource: a loop device on a FUSE file that this process serves.
//!
//! ```text
//! Off ──start──► Starting ──attached──► On ──stop──► Stopping ──gone──► Off
//!                   │                   │ ▲              │
//!                   └─failed─► Off      │ └────busy──────┘
//!                                       └─connection ended─► Lost ──stop──► Stopping
//! ```
//! The driver serves the FUSE connection in every state that has one: making and taking away the device wait
//! for answers, so they run in a helper process (`loopdev`), watched by a thread that reports here.

mod fuse;
mod helper;
mod holders;
pub mod loopdev;
mod wire;

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use replica::event::Event;
use rustix::fs::FileType;

pub use fuse::{Fuse, FuseEnd};
pub use helper::{HELPER_BUSY, run_helper};

use crate::exchange::Inherited;
use crate::keep::Kept;
use crate::sys::Arena;

/// How long `stop` waits for someone who has merely opened the device, such as udev looking at it.
const PASSERS_BY: Duration = Duration::from_millis(1500);
const POLL: Duration = Duration::from_millis(50);

/// Where the pieces of an export are found.
#[derive(Clone, Debug)]
pub struct Place {
    /// The resource.
    pub resource: String,
    /// Shown by the loop device, to recognise leftovers: `futago:RESOURCE:MACHINE`.
    pub name: String,
    /// The configured device path, which becomes a symbolic link.
    pub link: PathBuf,
    /// The program that is run as helper: this one.
    pub program: PathBuf,
    /// No device is made while somebody still holds an earlier one that was taken away.
    pub exclusive: bool,
}

/// What the watching thread reports.
#[derive(Debug)]
pub enum Report {
    /// Number of the loop device, or why there is none.
    Attached(Result<u32, NotMade>),
    /// The device is gone, or who holds it.
    Detached(Result<(), Vec<String>>),
    /// The system sees its size, or why not.
    Resized(Result<(), String>),
}

/// Why there is no device.
#[derive(Debug)]
pub enum NotMade {
    /// Who still holds an earlier one.
    Held(Vec<String>),
    /// It could not be made.
    Failed(String),
}

#[derive(Debug)]
enum State {
    Off,
    Starting {
        fuse: Fuse,
    },
    On {
        fuse: Fuse,
        number: u32,
        kept: Kept,
    },
    Stopping {
        fuse: Option<Fuse>,
        number: u32,
    },
    Lost {
        number: u32,
    },
    /// Taken away while it was being made or taken away: waiting for the end of that.
    Revoked,
}

/// The export of one resource.
#[derive(Debug)]
pub struct Export {
    place: Place,
    arena: Arc<Arena>,
    state: State,
    /// Why the FUSE connection ended, for the report of a failed start.
    end: Option<String>,
}

impl Export {
    /// No device yet; one will use these buffers.
    #[must_use]
    pub fn new(place: Place, arena: Arc<Arena>) -> Self {
        Self { place, arena, state: State::Off, end: None }
    }

    /// Goes on with the device of an earlier process.
    #[must_use]
    pub fn take_over(place: Place, arena: Arc<Arena>, device: Inherited) -> Self {
        let Inherited { fuse, legacy, arena: known, kept } = device;
        let fuse = Fuse::take_over(fuse, &place.name, legacy.bytes, Arc::clone(&arena));
        // What is kept with other buffers than these goes first: systemd keeps a descriptor once, under its first name.
        let kept = kept
            .filter(|_| known.is_some())
            .unwrap_or_else(|| Kept::new(&place.resource, fuse.as_fd(), &arena));
        Self { place, arena, state: State::On { fuse, number: legacy.number, kept }, end: None }
    }

    /// The device that stands, for another process: its connection, its number, and the name under which it is kept; an
    /// error when one is just being made or taken away.
    pub fn standing(&self) -> Result<Option<(&Fuse, u32, &str)>, String> {
        match &self.state {
            State::On { fuse, number, kept } => Ok(Some((fuse, *number, kept.name()))),
            State::Off => Ok(None),
            _ => Err("its block device is just being made or taken away".to_owned()),
        }
    }

    /// The connection to be watched, if there is one.
    #[must_use]
    pub fn fuse(&self) -> Option<&Fuse> {
        match &self.state {
            State::Starting { fuse } | State::On { fuse, .. } => Some(fuse),
            State::Stopping { fuse, .. } => fuse.as_ref(),
            State::Off | State::Lost { .. } | State::Revoked => None,
        }
    }

    /// The connection to be served, if there is one.
    pub fn fuse_mut(&mut self) -> Option<&mut Fuse> {
        match &mut self.state {
            State::Starting { fuse } | State::On { fuse, .. } => Some(fuse),
            State::Stopping { fuse, .. } => fuse.as_mut(),
            State::Off | State::Lost { .. } | State::Revoked => None,
        }
    }

    /// Begins to make the device; `report` is called once, from another thread.
    pub fn start(
        &mut self,
        bytes: u64,
        discard: bool,
        report: impl FnOnce(Report) + Send + 'static,
    ) -> Result<(), String> {
        if !matches!(self.state, State::Off) {
            return Err("an earlier block device is just being taken away".to_owned());
        }
        let (fuse, mount) = Fuse::mount(&self.place.name, bytes, Arc::clone(&self.arena))
            .map_err(|e| format!("mount a FUSE file: {e}"))?;
        let place = self.place.clone();
        spawn("attach", move || {
            remove_leftovers(&place);
            let held = place.exclusive.then(|| leftover_holders(&place)).filter(|held| !held.is_empty());
            if let Some(held) = held {
                report(Report::Attached(Err(NotMade::Held(held))));
                return;
            }
            let attached = helper::attach(&place, mount, discard).and_then(|number| {
                let linked = link(&place.link, &loopdev::node(number));
                if linked.is_err() {
                    let _ = helper::abandon(&place, number);
                }
                linked.map(|()| number)
            });
            report(Report::Attached(attached.map_err(NotMade::Failed)));
        })
        .map_err(|e| format!("start a thread: {e}"))?;
        self.end = None;
        self.state = State::Starting { fuse };
        Ok(())
    }

    /// Has a device that stands follow its size; `report` is called once, perhaps from another thread.
    pub fn resize(&mut self, bytes: u64, report: impl FnOnce(Report) + Send + 'static) -> Result<(), String> {
        let State::On { fuse, number, .. } = &mut self.state else {
            report(Report::Resized(Ok(())));
            return Ok(());
        };
        if fuse.bytes() < bytes {
            fuse.grow(bytes);
        }
        // Also of an earlier process that did not come to the end of it.
        if loopdev::bytes(*number).is_none_or(|found| found >= bytes) {
            report(Report::Resized(Ok(())));
            return Ok(());
        }
        let (place, number) = (self.place.clone(), *number);
        spawn("resize", move || {
            let device = loopdev::node(number);
            let resized = helper::resize(&place, number);
            match &resized {
                Ok(()) => {
                    tracing::info!(device = %device.display(), "block device has {} KiB now", bytes / 1024);
                }
                Err(reason) => {
                    tracing::error!(device = %device.display(), "the block device keeps its size until it is made anew: {reason}");
                }
            }
            report(Report::Resized(resized));
        })
        .map_err(|error| format!("start a thread: {error}; the block device keeps its size until it is made anew"))
    }

    /// Begins to take the device away; `report` is called once, from another thread.
    pub fn stop(&mut self, report: impl FnOnce(Report) + Send + 'static) -> Result<(), String> {
        let (fuse, number) = match std::mem::replace(&mut self.state, State::Off) {
            State::On { fuse, number, .. } => (Some(fuse), number),
            State::Lost { number } => (None, number),
            State::Off => {
                report(Report::Detached(Ok(())));
                return Ok(());
            }
            other => {
                self.state = other;
                return Err("the block device is just being made or taken away".to_owned());
            }
        };
        let lost = fuse.is_none();
        self.state = State::Stopping { fuse, number };
        let place = self.place.clone();
        spawn("detach", move || {
            let gone = if lost { abandon(&place, number) } else { detach(&place, number) };
            if gone.is_ok() {
                unlink(&place.link, &loopdev::node(number));
            }
            report(Report::Detached(gone));
        })
        .map_err(|e| format!("start a thread: {e}"))
    }

    /// Takes the thread's report and says what the core must be told.
    pub fn reported(&mut self, report: Report) -> Option<Event> {
        let state = std::mem::replace(&mut self.state, State::Off);
        match (report, state) {
            (Report::Resized(result), state) => {
                self.state = state;
                Some(Event::ExportResized { result })
            }
            (_, State::Revoked) => {
                self.let_go();
                None
            }
            (Report::Attached(Ok(number)), State::Starting { fuse }) => {
                tracing::info!(device = %loopdev::node(number).display(), link = %self.place.link.display(), "block device made");
                self.stand(fuse, number);
                Some(Event::ExportStarted)
            }
            (Report::Attached(Ok(number)), _) => {
                self.state = State::Lost { number };
                Some(Event::ExportStarted)
            }
            (Report::Attached(Err(NotMade::Held(holders))), _) => Some(Event::ExportBusy { holders }),
            (Report::Attached(Err(NotMade::Failed(reason))), _) => {
                let reason = self.end.take().unwrap_or(reason);
                Some(Event::ExportFailed { reason })
            }
            (Report::Detached(Ok(())), _) => Some(Event::ExportStopped),
            (Report::Detached(Err(holders)), State::Stopping { fuse, number }) => {
                match fuse {
                    Some(fuse) => self.stand(fuse, number),
                    None => self.state = State::Lost { number },
                }
                Some(Event::ExportBusy { holders })
            }
            (Report::Detached(Err(holders)), state) => {
                self.state = state;
                Some(Event::ExportBusy { holders })
            }
        }
    }

    fn stand(&mut self, fuse: Fuse, number: u32) {
        let kept = Kept::new(&self.place.resource, fuse.as_fd(), &self.arena);
        self.state = State::On { fuse, number, kept };
    }

    /// The FUSE connection has ended: by the detaching, by an administrator, or by the kernel's refusal.
    pub fn ended(&mut self, end: &FuseEnd) {
        self.state = match std::mem::replace(&mut self.state, State::Off) {
            State::On { number, .. } => {
                let device = loopdev::node(number);
                tracing::error!(device = %device.display(), "the block device was taken away by someone else: {end}");
                State::Lost { number }
            }
            State::Stopping { number, .. } => State::Stopping { fuse: None, number },
            State::Starting { .. } => {
                self.end = Some(end.to_string());
                State::Off
            }
            other => other,
        };
    }

    /// Takes the device's effect away for good: every request fails at once, the device goes when the last one
    /// has closed it.
    pub fn revoke(&mut self) {
        match std::mem::replace(&mut self.state, State::Off) {
            State::Off => {}
            State::On { .. } | State::Lost { .. } => self.let_go(),
            State::Starting { .. } | State::Stopping { .. } | State::Revoked => self.state = State::Revoked,
        }
    }

    /// Lets go of devices whose connection is dead.
    fn let_go(&self) {
        let place = self.place.clone();
        if let Err(error) = spawn("let go", move || remove_leftovers(&place)) {
            tracing::warn!("start a thread: {error}; the device is let go of by the next promotion");
        }
    }

    /// Ends the connection at once: every request of an application that is not answered fails with EIO.
    pub fn abort(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Off) {
            State::On { number, .. } => State::Lost { number },
            State::Stopping { number, .. } => State::Stopping { fuse: None, number },
            State::Starting { .. } => State::Off,
            other => other,
        };
    }
}

fn spawn(what: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(what.to_owned()).stack_size(crate::STACK_BYTES).spawn(body).map(drop)
}

/// Lets go of devices that an earlier, killed daemon left behind. Their connection is dead: users of them get
/// errors, and they vanish when the last one closes.
pub fn remove_leftovers(place: &Place) {
    for number in loopdev::find(&place.name) {
        let node = loopdev::node(number);
        let users = holders::of_loop(number);
        let abandoned = helper::abandon(place, number);
        let device = node.display();
        if let Err(reason) = abandoned {
            tracing::warn!(%device, "remove a left-over block device: {reason}");
        } else if users.is_empty() {
            tracing::info!(%device, "removed a left-over block device");
        } else {
            let users = users.join(", ");
            tracing::warn!(
                %device,
                "a left-over block device without a daemon is still in use, every access fails: {users}; unmount or close it"
            );
        }
        unlink(&place.link, &node);
    }
}

/// Who still holds a device whose connection is dead.
fn leftover_holders(place: &Place) -> Vec<String> {
    let deadline = Instant::now() + PASSERS_BY;
    loop {
        let found = loopdev::find(&place.name);
        let held: Vec<String> = found.iter().flat_map(|number| holders::of_loop(*number)).collect();
        if found.is_empty() || Instant::now() > deadline {
            return match (found.is_empty(), held.is_empty()) {
                (false, true) => {
                    vec!["held by the kernel, or by a process that is not visible from here".to_owned()]
                }
                _ => held,
            };
        }
        thread::sleep(POLL);
    }
}

fn detach(place: &Place, number: u32) -> Result<(), Vec<String>> {
    let deadline = Instant::now() + PASSERS_BY;
    loop {
        let mut users = holders::of_loop(number);
        if users.is_empty() {
            match helper::detach(place, number) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(reason) => {
                    return Err(vec![format!("take away {}: {reason}", loopdev::node(number).display())]);
                }
            }
            users = holders::of_loop(number);
        }
        let firm = users.iter().any(|u| !u.starts_with("opened by"));
        if firm || Instant::now() > deadline {
            if users.is_empty() {
                users.push("held by the kernel, or by a process that is not visible from here".to_owned());
            }
            return Err(users);
        }
        thread::sleep(POLL);
    }
}

/// The connection is dead already: nobody can lose more by letting the device go.
fn abandon(place: &Place, number: u32) -> Result<(), Vec<String>> {
    if let Err(reason) = helper::abandon(place, number) {
        tracing::warn!(device = %loopdev::node(number).display(), "let go of the block device: {reason}");
    }
    Ok(())
}

/// Makes `path` a symbolic link to the device; an earlier link is replaced, nothing else is.
fn link(path: &Path, node: &Path) -> Result<(), String> {
    let fail = |what: &str, error: &io::Error| format!("{what} {}: {error}", path.display());
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_symlink() => {
            return Err(format!(
                "{} exists and is not a symbolic link (is the DRBD kernel module in use?): remove it, or name another device in the resource file",
                path.display()
            ));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail("look at", &error)),
        _ => {}
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let _ = fs::remove_file(&temporary);
    std::os::unix::fs::symlink(node, &temporary).map_err(|e| fail("create a link for", &e))?;
    fs::rename(&temporary, path).map_err(|e| fail("create the link", &e))
}

fn unlink(path: &Path, node: &Path) {
    if fs::read_link(path).is_ok_and(|target| target == node)
        && let Err(error) = fs::remove_file(path)
    {
        tracing::warn!(link = %path.display(), "remove the link: {error}");
    }
}

/// Makes a device node if it is missing, as in a container without udev.
fn ensure_node(path: impl AsRef<Path>, kind: FileType, device: u64) -> io::Result<()> {
    loopdev::make_node(path.as_ref(), kind, device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_replaces_a_link_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("drbd1");
        link(&path, Path::new("/dev/loop1")).unwrap();
        link(&path, Path::new("/dev/loop2")).unwrap();
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("/dev/loop2"));
        unlink(&path, Path::new("/dev/loop1"));
        assert!(fs::symlink_metadata(&path).is_ok(), "a link to another device stays");
        unlink(&path, Path::new("/dev/loop2"));
        fs::write(&path, b"a file").unwrap();
        assert!(link(&path, Path::new("/dev/loop1")).unwrap_err().contains("not a symbolic link"));
        assert_eq!(fs::read(&path).unwrap(), b"a file");
    }
}
