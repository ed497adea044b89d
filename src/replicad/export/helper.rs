//! The helper process that makes and takes away loop devices: how it is called, and its body.
//!
//! It is this program, run with a hidden verb. It inherits the mount as its standard input and nothing else;
//! in particular not the FUSE connection, which must close with the daemon.

use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Place;
use super::loopdev::{self, Detached};

/// Exit code of the helper: someone holds the device open.
pub const HELPER_BUSY: u8 = 3;

/// Longest that a helper may take. It may have to write back the page cache, over the network.
const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);

/// Binds a device to the mounted file.
pub(super) fn attach(place: &Place, mount: OwnedFd, discard: bool) -> Result<u32, String> {
    let discard = if discard { "discard" } else { "no-discard" };
    let (code, said) = run(place, &["attach", &place.name, discard], Stdio::from(mount))?;
    if code != 0 {
        return Err(said);
    }
    said.lines()
        .next_back()
        .and_then(|l| l.trim().parse().ok())
        .ok_or_else(|| format!("unexpected answer: {said}"))
}

/// Takes a device away; `false` when someone holds it.
pub(super) fn detach(place: &Place, number: u32) -> Result<bool, String> {
    match run(place, &["detach", &number.to_string()], Stdio::null())? {
        (0, _) => Ok(true),
        (code, _) if code == i32::from(HELPER_BUSY) => Ok(false),
        (_, said) => Err(said),
    }
}

/// Has a device look at the size of its file again.
pub(super) fn resize(place: &Place, number: u32) -> Result<(), String> {
    match run(place, &["resize", &number.to_string()], Stdio::null())? {
        (0, _) => Ok(()),
        (_, said) => Err(said),
    }
}

/// Lets go of a device whose connection is dead.
pub(super) fn abandon(place: &Place, number: u32) -> Result<(), String> {
    match run(place, &["abandon", &number.to_string()], Stdio::null())? {
        (0, _) => Ok(()),
        (_, said) => Err(said),
    }
}

fn run(place: &Place, words: &[&str], input: Stdio) -> Result<(i32, String), String> {
    let mut command = Command::new(&place.program);
    command
        .args(["replica", "loop-device"])
        .args(words)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child =
        command.spawn().map_err(|e| format!("start the helper {}: {e}", place.program.display()))?;
    // The mount lives on in the child alone.
    drop(command);
    let Some(code) = wait(&mut child) else {
        // It cannot be waited for: it may be stuck in the kernel until the connection ends.
        let _ = child.kill();
        return Err(format!("no result within {} s", DEADLINE.as_secs()));
    };
    let (mut out, mut errors) = (String::new(), String::new());
    // What it says fits a pipe; unreadable output is as good as none.
    let _ = child.stdout.take().map(|mut s| s.read_to_string(&mut out));
    let _ = child.stderr.take().map(|mut s| s.read_to_string(&mut errors));
    if code == 0 {
        errors.lines().for_each(|line| tracing::warn!("{line}"));
        return Ok((code, out));
    }
    let said = errors.trim().trim_start_matches("futago: ").to_owned();
    Ok((code, if said.is_empty() { format!("the helper ended with code {code}") } else { said }))
}

fn wait(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.code().unwrap_or(-1)),
            Ok(None) if Instant::now() < deadline => thread::sleep(POLL),
            _ => return None,
        }
    }
}

/// The body of the helper; the number is its exit code.
pub fn run_helper(words: &[String]) -> anyhow::Result<u8> {
    match words {
        [verb, name, discard] if verb == "attach" => {
            let number = loopdev::attach(std::io::stdin().as_fd(), name, discard == "discard")?;
            println!("{number}");
            Ok(0)
        }
        [verb, number] if verb == "detach" => match loopdev::detach(number.parse()?)? {
            Detached::Gone => Ok(0),
            Detached::Busy => Ok(HELPER_BUSY),
        },
        [verb, number] if verb == "resize" => loopdev::resize(number.parse()?).map(|()| 0),
        [verb, number] if verb == "abandon" => loopdev::abandon(number.parse()?).map(|()| 0),
        _ => anyhow::bail!(
            "expected: attach NAME discard|no-discard, resize NUMBER, detach NUMBER or abandon NUMBER"
        ),
    }
}
