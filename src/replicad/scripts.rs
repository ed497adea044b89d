//! Runs the administrator's scripts (`handlers` of the resource file): each by `/bin/sh`, in a thread and a process group
//! of its own, with DRBD's environment. What it says goes to the log; whether it has ended with 0 goes back to the core,
//! which says when one is called and what depends on it. A script that does not end in time is ended.

use std::io::{ErrorKind, PipeReader, Read as _};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use replica::config::{Commands, Local};
use replica::handler::Handler;
use replica::state::ConnectionState;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::STACK_BYTES;
use crate::sys;

/// Longest that a script may take: a snapshot of a volume takes a second or two, and a resync may be waiting.
pub const WITHIN: Duration = Duration::from_secs(60);
/// A script that was killed is gone within this, or hangs in the kernel.
const GONE_WITHIN: Duration = Duration::from_millis(200);
/// Scripts of a resource at the same time. More are called only when the connection comes and goes, and each hangs.
const MOST: usize = 8;
/// Bytes of its output that are logged.
const SAID: usize = 8 << 10;

/// The scripts of a resource, and what they are told.
#[derive(Clone, Debug)]
pub struct Scripts {
    commands: Commands,
    environment: Vec<(String, String)>,
    running: Arc<AtomicUsize>,
}

impl Scripts {
    /// Those of a resource that is defined in this folder.
    #[must_use]
    pub fn new(local: &Local, folder: &Path) -> Self {
        let environment = environment(local, folder);
        Self { commands: local.handlers.clone(), environment, running: Arc::default() }
    }

    /// From now on these are called.
    pub fn replace(&mut self, commands: Commands) {
        self.commands = commands;
    }

    /// Calls one; `ended` is told that it has ended with 0, or what else, perhaps from another thread.
    pub fn call<F>(&self, handler: Handler, state: ConnectionState, ended: F)
    where
        F: FnOnce(Result<(), String>) + Send + 'static,
    {
        let name = handler.as_str();
        let Some(line) = self.commands.get(&handler).cloned() else {
            // The file does not name it any more.
            return ended(Ok(()));
        };
        if self.running.fetch_add(1, Ordering::AcqRel) >= MOST {
            self.running.fetch_sub(1, Ordering::AcqRel);
            tracing::error!("{name} handler is not called: {MOST} handlers of this resource are running");
            return ended(Err(format!("was not called, because {MOST} are running")));
        }
        let mut environment = self.environment.clone();
        environment.push(("DRBD_CSTATE".to_owned(), state.to_string()));
        let (running, span) = (Arc::clone(&self.running), tracing::Span::current());
        let call = Called { running, ended: Some(ended) };
        let body = move || {
            let _span = span.entered();
            call.over(run(name, &line, &environment, WITHIN));
        };
        let thread = thread::Builder::new().name(format!("handler {name}")).stack_size(STACK_BYTES);
        if let Err(error) = thread.spawn(body) {
            tracing::error!("start a thread for the {name} handler: {error}");
        }
    }
}

/// A call that is answered in any case: whatever becomes of its thread, the core may be waiting.
struct Called<F: FnOnce(Result<(), String>)> {
    running: Arc<AtomicUsize>,
    ended: Option<F>,
}

impl<F: FnOnce(Result<(), String>)> Called<F> {
    fn over(mut self, result: Result<(), String>) {
        if let Some(ended) = self.ended.take() {
            ended(result);
        }
    }
}

impl<F: FnOnce(Result<(), String>)> Drop for Called<F> {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::AcqRel);
        if let Some(ended) = self.ended.take() {
            ended(Err("could not be started".to_owned()));
        }
    }
}

/// What DRBD's own scripts look at (drbd.conf, section `handlers`).
fn environment(local: &Local, folder: &Path) -> Vec<(String, String)> {
    let settings = &local.settings;
    let family = |address: &SocketAddr| if address.is_ipv4() { "ipv4" } else { "ipv6" }.to_owned();
    let mut words = vec![
        // As the kernel starts a program.
        ("PATH", "/sbin:/usr/sbin:/bin:/usr/bin".to_owned()),
        ("HOME", "/".to_owned()),
        ("DRBD_RESOURCE", settings.resource.clone()),
        ("DRBD_VOLUME", settings.volume.to_string()),
        ("DRBD_MINOR", settings.minor.to_string()),
        ("DRBD_LL_DISK", local.disk.clone()),
        ("DRBD_BACKING_DEV", local.disk.clone()),
        ("DRBD_CONF", folder.display().to_string()),
        ("DRBD_MY_ADDRESS", local.address.ip().to_string()),
        ("DRBD_MY_AF", family(&local.address)),
        ("DRBD_MY_NODE_ID", settings.node_id.to_string()),
        ("DRBD_PEER_ADDRESS", local.peer_address.ip().to_string()),
        ("DRBD_PEER_AF", family(&local.peer_address)),
        ("DRBD_PEER_NODE_ID", settings.peer_node_id.to_string()),
        // As DRBD 8.4 has it.
        ("DRBD_PEER", settings.peer.clone()),
        ("DRBD_PEERS", settings.peer.clone()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect::<Vec<_>>();
    words.push((format!("DRBD_NODE_ID_{}", settings.node_id), settings.node.clone()));
    words.push((format!("DRBD_NODE_ID_{}", settings.peer_node_id), settings.peer.clone()));
    words
}

/// Runs a line to its end; the error is to be read after the name.
fn run(name: &str, line: &str, environment: &[(String, String)], within: Duration) -> Result<(), String> {
    tracing::info!("{name} handler is called: {line}");
    let began = Instant::now();
    let (result, said) = match start(line, environment) {
        Ok((mut child, output)) => follow(&mut child, output, began + within),
        Err(error) => (Err(format!("could not be started ({error})")), Vec::new()),
    };
    String::from_utf8_lossy(&said).lines().for_each(|line| tracing::info!("{name}: {line}"));
    let took = began.elapsed().as_millis();
    match &result {
        Ok(()) => tracing::info!("{name} handler returned 0 after {took} ms"),
        Err(why) => tracing::warn!("{name} handler {why}, after {took} ms"),
    }
    result
}

fn start(line: &str, environment: &[(String, String)]) -> std::io::Result<(Child, PipeReader)> {
    let (output, input) = std::io::pipe()?;
    rustix::io::ioctl_fionbio(output.as_fd(), true)?;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]).current_dir("/").env_clear();
    command.envs(environment.iter().map(|(key, value)| (key, value)));
    command.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input).process_group(0);
    let child = sys::with_all_signals(&mut command).spawn()?;
    // With `command` this process' ends of the pipe are closed.
    drop(command);
    Ok((child, output))
}

/// Waits for the end; what it has said, as far as that is kept. A child of its that lives on is not waited for.
fn follow(child: &mut Child, mut output: PipeReader, deadline: Instant) -> (Result<(), String>, Vec<u8>) {
    let (mut said, mut is_open) = (Vec::new(), true);
    let result = loop {
        is_open = is_open && read(&mut output, &mut said);
        match child.try_wait() {
            Ok(Some(status)) => break outcome(status),
            Ok(None) if Instant::now() >= deadline => break Err(end(child)),
            Ok(None) => {}
            Err(error) => break Err(format!("cannot be waited for ({error})")),
        }
        if let Err(error) = wait(child, is_open.then_some(&output), deadline) {
            kill(child);
            break Err(format!("cannot be waited for ({error}) and was killed"));
        }
    };
    read(&mut output, &mut said);
    (result, said)
}

/// Until it has ended, has said something, or the time is up.
fn wait(child: &Child, output: Option<&PipeReader>, deadline: Instant) -> Result<(), Errno> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let mut watched = vec![PollFd::new(&pidfd, PollFlags::IN)];
    watched.extend(output.map(|output| PollFd::new(output, PollFlags::IN)));
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).map_err(|_| Errno::INVAL)?;
    match poll(&mut watched, Some(&left)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes what there is; what is too much is read and forgotten, so that the script does not wait. Whether more may come.
fn read(output: &mut PipeReader, said: &mut Vec<u8>) -> bool {
    let mut piece = [0; 4096];
    loop {
        match output.read(&mut piece) {
            Ok(0) => return false,
            Ok(len) => {
                let room = SAID.saturating_sub(said.len()).min(len);
                said.extend(piece.get(..room).unwrap_or_default());
            }
            Err(error) => return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }
}

fn outcome(status: ExitStatus) -> Result<(), String> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(format!("returned {code}")),
        (None, Some(signal)) => Err(format!("was ended by signal {signal}")),
        (None, None) => Err("ended without an exit code".to_owned()),
    }
}

/// Ends a script that takes too long, and all that it has started.
fn end(child: &mut Child) -> String {
    let mut text = format!("did not end within {} s and was killed", WITHIN.as_secs());
    if !kill(child) {
        text.push_str(", as far as that was possible");
        return text;
    }
    // It is gone in a moment, or hangs in the kernel, and is not waited for: then init looks after it one day.
    let _ = wait(child, None, Instant::now() + GONE_WITHIN);
    let _ = child.try_wait();
    text
}

/// Whether it, and all that it has started, was sent the signal that nobody survives.
fn kill(child: &mut Child) -> bool {
    kill_process_group(Pid::from_child(child), Signal::KILL).is_ok() && child.kill().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use replica::config::parse;
    use std::sync::mpsc::channel;

    fn local(handlers: &str) -> Local {
        let text = format!(
            "resource r0 {{ handlers {{ {handlers} }} device /dev/drbd3; disk /dev/vdb1; meta-disk internal;
               on ha-a {{ address 10.0.0.1:7789; }} on ha-b {{ address ipv6 [fd00::2]:7789; }} }}"
        );
        parse("r0.res", &text).unwrap().resource("r0").unwrap().for_node("ha-b").unwrap()
    }

    fn said(line: &str, within: Duration) -> (Result<(), String>, String) {
        let environment = environment(&local(""), Path::new("/etc/futago/replica.d"));
        let (mut child, output) = start(line, &environment).unwrap();
        let (result, said) = follow(&mut child, output, Instant::now() + within);
        (result, String::from_utf8(said).unwrap())
    }

    #[test]
    fn a_script_has_drbds_environment_and_nothing_else_of_this_process() {
        let (result, said) = said("env | sort; echo told >&2", WITHIN);
        assert_eq!(result, Ok(()));
        for line in [
            "DRBD_RESOURCE=r0",
            "DRBD_VOLUME=0",
            "DRBD_MINOR=3",
            "DRBD_LL_DISK=/dev/vdb1",
            "DRBD_MY_ADDRESS=fd00::2",
            "DRBD_MY_AF=ipv6",
            "DRBD_PEER_ADDRESS=10.0.0.1",
            "DRBD_PEER_NODE_ID=0",
            "DRBD_NODE_ID_0=ha-a",
            "DRBD_NODE_ID_1=ha-b",
            "DRBD_PEER=ha-a",
            "told",
        ] {
            assert!(said.lines().any(|found| found == line), "{line} is missing:\n{said}");
        }
        assert!(!said.contains("CARGO"), "{said}");
    }

    #[test]
    fn what_is_not_an_exit_code_of_0_is_said() {
        assert_eq!(said("exit 3", WITHIN).0, Err("returned 3".to_owned()));
        assert_eq!(said("kill -9 $$", WITHIN).0, Err("was ended by signal 9".to_owned()));
        assert_eq!(said("/does/not/exist", WITHIN).0, Err("returned 127".to_owned()));
    }

    #[test]
    fn a_script_that_does_not_end_is_killed_with_all_it_has_started() {
        let (result, said) = said("sleep 1000 & echo $!; sleep 1000", Duration::from_millis(200));
        assert!(result.unwrap_err().starts_with("did not end within"), "{said}");
        let started = Pid::from_raw(said.trim().parse().unwrap()).unwrap();
        // Unless it is gone already: its end is waited for.
        if let Ok(pidfd) = pidfd_open(started, PidfdFlags::empty()) {
            let within = Timespec { tv_sec: 5, tv_nsec: 0 };
            let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&within)).unwrap();
            assert_eq!(ended, 1, "something of it lives on: {said}");
        }
    }

    #[test]
    fn output_without_end_is_read_and_cut() {
        let (result, said) = said("yes | head -c 1000000", WITHIN);
        assert_eq!((result, said.len()), (Ok(()), SAID));
    }

    #[test]
    fn a_script_that_leaves_something_behind_is_not_waited_for_longer() {
        let (result, said) = said("sleep 5 & echo done", WITHIN);
        assert_eq!((result, said.as_str()), (Ok(()), "done\n"));
    }

    #[test]
    fn one_that_is_not_named_counts_as_done() {
        let scripts = Scripts::new(&local("split-brain \"exit 1\";"), Path::new("/"));
        let (sender, results) = channel();
        for handler in [Handler::Disconnected, Handler::SplitBrain] {
            let sender = sender.clone();
            let ended = move |result| sender.send(result).unwrap();
            scripts.call(handler, ConnectionState::StandAlone, ended);
            let result = results.recv().unwrap();
            assert_eq!(result.is_ok(), handler == Handler::Disconnected, "{result:?}");
        }
    }
}
