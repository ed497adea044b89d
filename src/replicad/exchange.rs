//! The exchange of the daemon's program under devices that are in use: everything that was asked for is brought to
//! its end, the new program takes this process' place (execve), and goes on with the same FUSE connections.
//! Applications only wait. What a process that was killed has left (`keep`) comes in here, too.
//!
//! What is handed over is in the environment: the descriptor of the control socket, on which whoever connects
//! meanwhile waits, as the cluster manager does; and for each resource that is Primary here the descriptor of its device
//! and what the core cannot read from the disk.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use replica::control::Command as Order;
use replica::event::Token;
use serde::{Deserialize, Serialize};

use crate::daemon::Daemon;
use crate::driver::Report;
use crate::keep::{self, Kept, Left};
use crate::legacy::Legacy;
use crate::running::Running;
use crate::sys::{self, Arena};

/// What the new program reads.
const ENVIRONMENT: &str = "FUTAGO_HANDOVER";
/// Longest that the requests of applications may take to their end.
const PAUSE: Duration = Duration::from_secs(5);
/// A driver answers questions at once.
const ANSWER: Duration = Duration::from_secs(2);
/// Tokens of these orders; the verbs' tokens are small numbers, those of the shutdown large ones.
const FIRST_TOKEN: u64 = 1 << 61;

/// A device that goes on in another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// Descriptor of the FUSE connection.
    pub fuse: RawFd,
    /// What it is.
    #[serde(flatten)]
    pub legacy: Legacy,
}

/// All that goes on in another process.
#[derive(Debug, Serialize, Deserialize)]
struct Handed {
    /// Descriptor of the control socket.
    control: RawFd,
    /// By resource.
    devices: BTreeMap<String, HandOver>,
}

/// What this process has got from the one before it; nothing after a start in order.
#[derive(Debug, Default)]
pub(crate) struct Inheritance {
    /// The control socket.
    pub(crate) control: Option<UnixListener>,
    /// By resource.
    pub(crate) devices: BTreeMap<String, Inherited>,
}

impl Inheritance {
    /// Resources whose devices an earlier process has left without a word.
    pub(crate) fn left_behind(&self) -> impl Iterator<Item = &str> {
        self.devices.iter().filter(|(_, device)| device.arena.is_some()).map(|(name, _)| name.as_str())
    }
}

/// A device that this process has got from the one before it.
#[derive(Debug)]
pub struct Inherited {
    /// The FUSE connection.
    pub fuse: OwnedFd,
    /// What it is.
    pub legacy: Legacy,
    /// The buffers, if requests may be left in them.
    pub arena: Option<Arc<Arena>>,
    /// As long as this is not dropped, systemd keeps the connection.
    pub kept: Option<Kept>,
}

impl From<Left> for Inherited {
    fn from(left: Left) -> Self {
        let Left { fuse, arena, kept, legacy } = left;
        Self { fuse, legacy, arena: Some(arena), kept: Some(kept) }
    }
}

/// What the process before this one has handed over, or has left when it was killed.
pub(crate) fn inherited() -> Inheritance {
    let (control, left) = keep::left();
    let mut inheritance = handed_over();
    inheritance.control = inheritance.control.or(control.map(UnixListener::from));
    for (name, device) in left {
        inheritance.devices.entry(name).or_insert_with(|| device.into());
    }
    inheritance
}

fn handed_over() -> Inheritance {
    let Ok(text) = std::env::var(ENVIRONMENT) else { return Inheritance::default() };
    let Handed { control, devices } = match serde_json::from_str(&text) {
        Ok(handed) => handed,
        Err(error) => {
            tracing::error!("{ENVIRONMENT} cannot be read: {error}; devices that were in use are gone");
            return Inheritance::default();
        }
    };
    let control = sys::inherited(control)
        .inspect_err(|error| tracing::error!("take over the control socket: {error}"))
        .ok()
        .map(UnixListener::from);
    let devices = devices.into_iter().filter_map(|(name, device)| Some((name, device.inherit()?))).collect();
    Inheritance { control, devices }
}

impl HandOver {
    fn inherit(self) -> Option<Inherited> {
        let kept = Some(Kept::known(self.legacy.kept.clone()));
        match sys::inherited(self.fuse) {
            Ok(fuse) => Some(Inherited { fuse, legacy: self.legacy, arena: None, kept }),
            Err(error) => {
                tracing::error!("take over descriptor {}: {error}", self.fuse);
                None
            }
        }
    }
}

/// Exchanges the program. It returns only when that was not possible; everything goes on as before then.
pub(crate) fn exchange(daemon: &Daemon) -> String {
    let running = daemon.running();
    let sound = running
        .iter()
        .try_for_each(|(name, _)| daemon.is_as_configured(name).map_err(|why| format!("{name}: {why}")));
    let why = match sound.and_then(|()| pause_all(&running)).and_then(|()| hand_over(&running)) {
        Err(why) => why,
        Ok(devices) => become_new(daemon, devices),
    };
    running.iter().for_each(|(_, resource)| drop(order(resource, Order::Unpause, ANSWER)));
    tracing::error!("the program was not exchanged: {why}");
    why
}

fn pause_all(running: &[(String, Arc<Running>)]) -> Result<(), String> {
    running.iter().try_for_each(|(name, resource)| {
        order(resource, Order::Pause, PAUSE).map_err(|why| format!("{name}: {why}"))
    })
}

fn order(resource: &Running, order: Order, within: Duration) -> Result<(), String> {
    let (sender, answer) = sync_channel(1);
    let token = Token(FIRST_TOKEN + u64::from(order == Order::Unpause));
    resource.mailbox.put(Report::Command(token, order, sender));
    match answer.recv_timeout(within) {
        Ok(result) => result.map_err(|refusal| format!("{refusal}: {}", refusal.detail)),
        Err(_) if resource.is_finished() => Ok(()),
        Err(_) => {
            resource.mailbox.put(Report::Abandoned(token));
            Err(format!("requests did not come to their end within {} s", within.as_secs()))
        }
    }
}

fn hand_over(running: &[(String, Arc<Running>)]) -> Result<BTreeMap<String, HandOver>, String> {
    let mut devices = BTreeMap::new();
    for (name, resource) in running.iter().filter(|(_, resource)| !resource.is_finished()) {
        let (sender, answer) = sync_channel(1);
        resource.mailbox.put(Report::HandOver(sender));
        let device =
            answer.recv_timeout(ANSWER).map_err(|_| format!("{name}: its driver does not answer"))?;
        devices.extend(device?.map(|device| (name.clone(), device)));
    }
    Ok(devices)
}

/// Becomes the new program; the reason is why not.
fn become_new(daemon: &Daemon, devices: BTreeMap<String, HandOver>) -> String {
    let mut words = std::env::args_os();
    let Some(program) = words.next() else { return "this process does not know its program".to_owned() };
    if let Err(why) = is_sound(&program) {
        return why;
    }
    let handed = Handed { control: daemon.control(), devices };
    let text = match serde_json::to_string(&handed) {
        Ok(text) => text,
        Err(error) => return format!("write down what is handed over: {error}"),
    };
    if let Err(error) = handed.set_inherited(true) {
        return format!("hand a descriptor over: {error}");
    }
    tracing::info!(
        devices = handed.devices.len(),
        "the program is exchanged for {}",
        PathBuf::from(&program).display()
    );
    let mut command = Command::new(&program);
    for key in keep::ENVIRONMENT {
        command.env_remove(key);
    }
    let error = command.args(words).env(ENVIRONMENT, text).exec();
    let _ = handed.set_inherited(false);
    format!("start {}: {error}", PathBuf::from(program).display())
}

impl Handed {
    fn set_inherited(&self, yes: bool) -> io::Result<()> {
        let devices = self.devices.values().map(|device| device.fuse);
        devices.chain([self.control]).try_for_each(|descriptor| sys::set_inherited(descriptor, yes))
    }
}

/// A program that does not even say its version shall not take over.
fn is_sound(program: &OsString) -> Result<(), String> {
    let shown = PathBuf::from(program).display().to_string();
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{shown} --version failed ({status}): the program is not taken")),
        Err(error) => Err(format!("start {shown}: {error}")),
    }
}
