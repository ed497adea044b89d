//! Descriptors that systemd keeps for this service (`FileDescriptorStoreMax=` of its unit; sd_pid_notify_with_fds(3),
//! sd_listen_fds(3)): of each device that is in use the FUSE connection and the arena, and the control socket. A daemon
//! that is killed does not end a device then: the kernel keeps its requests, and the process that systemd starts next
//! goes on with it. Without systemd nothing is kept, and a killed daemon takes its devices along.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use crate::STACK_BYTES;
use crate::journal::Journal;
use crate::legacy::{Legacy, Record};
use crate::slots::TOTAL;
use crate::sys::{self, Arena};

/// First descriptor that a service gets.
const FIRST: RawFd = 3;
const CONTROL: &str = "control";
/// What tells a program of the descriptors it is started with; of no use to the one after it.
pub(crate) const ENVIRONMENT: [&str; 3] = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"];

/// A device that is kept until this is dropped.
#[derive(Debug)]
pub struct Kept {
    /// `RESOURCE/NUMBER`, of what lies in the store as `…/fuse` and `…/arena`.
    name: String,
}

impl Kept {
    /// Gives a device to be kept.
    pub fn new(resource: &str, fuse: BorrowedFd<'_>, arena: &Arena) -> Self {
        let mut number = [0; 8];
        // Without randomness the name is that of an earlier device of this resource, which has been given up by now.
        let _ = rustix::rand::getrandom(&mut number, rustix::rand::GetRandomFlags::empty());
        let kept = Self { name: format!("{resource}/{:016x}", u64::from_ne_bytes(number)) };
        store(&format!("{}/fuse", kept.name), fuse);
        store(&format!("{}/arena", kept.name), arena.as_fd());
        kept
    }

    /// One that an earlier process has given.
    #[must_use]
    pub fn known(name: String) -> Self {
        Self { name }
    }

    /// Its name in the store.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        for part in ["fuse", "arena"] {
            say(&format!("FDSTOREREMOVE=1\nFDNAME={}/{part}", self.name), &[]);
        }
    }
}

/// A device that a process has left that ended without a word.
#[derive(Debug)]
pub struct Left {
    /// The FUSE connection.
    pub fuse: OwnedFd,
    /// The buffers, with the requests that are not answered.
    pub arena: Arc<Arena>,
    /// Keeps it further on.
    pub kept: Kept,
    /// What it was.
    pub legacy: Legacy,
}

/// Gives the control socket to be kept: who connects while there is no process waits for the next one.
pub(crate) fn keep_control(socket: BorrowedFd<'_>) {
    store(CONTROL, socket);
}

/// The service ends in order.
pub(crate) fn drop_control() {
    say(&format!("FDSTOREREMOVE=1\nFDNAME={CONTROL}"), &[]);
}

/// The control socket and the devices by resource, taken out of what systemd has kept.
pub(crate) fn left() -> (Option<OwnedFd>, BTreeMap<String, Left>) {
    let mut kept: BTreeMap<String, OwnedFd> = BTreeMap::new();
    for (at, name) in (FIRST..).zip(names()) {
        match sys::inherited(at) {
            Ok(descriptor) => drop(kept.insert(name, descriptor)),
            Err(error) => tracing::error!("take over descriptor {at} ({name}): {error}"),
        }
    }
    let control = kept.remove(CONTROL);
    let devices: Vec<String> =
        kept.keys().filter_map(|name| Some(name.strip_suffix("/fuse")?.to_owned())).collect();
    let mut left = BTreeMap::new();
    for name in devices {
        let resource = name.split('/').next().unwrap_or_default().to_owned();
        let parts = [kept.remove(&format!("{name}/fuse")), kept.remove(&format!("{name}/arena"))];
        match take(Kept::known(name), parts) {
            Ok(device) => drop(left.insert(resource, device)),
            Err(why) => tracing::error!("{resource}: its device is given up: {why}"),
        }
    }
    (control, left)
}

/// Has the cluster manager, where there is one, tell people that a process has ended without a word: nobody would
/// notice it.
pub(crate) fn alert(node: &str, resources: &[String]) {
    if resources.is_empty() {
        return;
    }
    let text = format!(
        "the replication daemon of {node} has ended without a word; another one goes on with the device of {}. Why it ended: journalctl -u futago-replicad",
        resources.join(", ")
    );
    let body = move || {
        let words = ["cluster", "alert", "--kind", "replication-daemon", &text];
        // This program; without a manager there is nobody to tell.
        let told = Command::new("/proc/self/exe").args(words).stdin(Stdio::null()).output();
        if let Err(error) = told {
            tracing::warn!("tell the cluster manager: {error}");
        }
    };
    let thread = thread::Builder::new().name("alert".to_owned()).stack_size(STACK_BYTES).spawn(body);
    if let Err(error) = thread {
        tracing::warn!("start a thread that tells the cluster manager: {error}");
    }
}

/// Names of the descriptors that systemd has passed to this process.
fn names() -> Vec<String> {
    let [count, names, pid] = ENVIRONMENT.map(|key| std::env::var(key).unwrap_or_default());
    if pid.parse() != Ok(std::process::id()) {
        return Vec::new();
    }
    let count = count.parse().unwrap_or_default();
    names.split(':').map(ToOwned::to_owned).take(count).collect()
}

fn take(kept: Kept, parts: [Option<OwnedFd>; 2]) -> Result<Left, String> {
    let [Some(fuse), Some(arena)] = parts else { return Err("a part of it was not kept".to_owned()) };
    let arena = Arc::new(Arena::open(arena, TOTAL).map_err(|error| format!("its buffers: {error}"))?);
    let written = Record::new(Arc::clone(&arena)).written().cloned();
    let legacy = written.filter(|legacy| legacy.kept == kept.name);
    let legacy = legacy.ok_or("it was just being made, handed over or taken away")?.succeed()?;
    tracing::warn!(
        requests = Journal::new(Arc::clone(&arena)).unanswered().len(),
        device = legacy.number,
        "an earlier process has ended without a word; this one goes on with its device"
    );
    Ok(Left { fuse, arena, kept, legacy })
}

fn store(name: &str, descriptor: BorrowedFd<'_>) {
    say(&format!("FDSTORE=1\nFDNAME={name}"), &[descriptor]);
}

/// Tells systemd; without it a crash ends the devices, as it does where there is no systemd.
fn say(state: &str, descriptors: &[BorrowedFd<'_>]) {
    if let Err(error) = base::notify::notify_with(state, descriptors) {
        tracing::warn!("tell systemd {}: {error}", state.replace('\n', " "));
    }
}
