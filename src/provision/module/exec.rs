//! Programs of the host, run to their end with a bound, their output read as it comes.

use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use base::process::{self, ProcessError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};

use super::error::Error;

/// Bytes kept of each stream; what comes later is read and dropped.
const MAX_OUTPUT: usize = 4 << 20;
/// How often a program is looked at whose output is held open by something it left behind.
const TICK: Duration = Duration::from_millis(50);

/// A program of the system, speaking the language that is understood here.
pub(super) fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("LC_ALL", "C").current_dir("/");
    command
}

/// How a program ended.
#[derive(Debug)]
pub(super) struct Finished {
    /// None when its time was up and it was killed.
    pub(super) status: Option<ExitStatus>,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

/// Runs a program, feeds it, and hands over what it writes to stdout piece by piece.
pub(super) fn run(
    command: &mut Command,
    input: Option<Vec<u8>>,
    bound: Duration,
    heard: &mut dyn FnMut(&[u8]),
) -> Result<Finished, Error> {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let line = process::line(command);
    let failed = |source| ProcessError::Start { command: line.clone(), source };
    let mut child = command.spawn().map_err(failed)?;
    if let (Some(bytes), Some(mut pipe)) = (input, child.stdin.take()) {
        // A program may write before it has read everything, or may never read.
        thread::spawn(move || drop(pipe.write_all(&bytes)));
    }
    let mut finished = Finished { status: None, stdout: Vec::new(), stderr: Vec::new() };
    finished.status = listen(&mut child, &mut finished, Instant::now() + bound, heard).map_err(failed)?;
    Ok(finished)
}

fn listen(
    child: &mut Child,
    finished: &mut Finished,
    deadline: Instant,
    heard: &mut dyn FnMut(&[u8]),
) -> io::Result<Option<ExitStatus>> {
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    while out.is_some() || err.is_some() {
        let ready = readable(&[out.as_ref().map(|s| s.as_fd()), err.as_ref().map(|s| s.as_fd())])?;
        if ready[0] {
            read_some(&mut out, &mut finished.stdout, heard)?;
        }
        if ready[1] {
            read_some(&mut err, &mut finished.stderr, &mut |_| {})?;
        }
        if Instant::now() >= deadline {
            return kill(child);
        }
        // Something it started may keep the output open for ever: its own end is what counts.
        if !ready[0]
            && !ready[1]
            && let Some(status) = child.try_wait()?
        {
            return Ok(Some(status));
        }
    }
    // It closed its output; it may still work.
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return kill(child);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn readable(streams: &[Option<BorrowedFd>; 2]) -> io::Result<[bool; 2]> {
    let open: Vec<usize> = (0..2).filter(|i| streams.get(*i).copied().flatten().is_some()).collect();
    let mut fds: Vec<PollFd> =
        streams.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let tick = Timespec::try_from(TICK).map_err(io::Error::other)?;
    match poll(&mut fds, Some(&tick)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut ready = [false; 2];
    for (index, fd) in open.into_iter().zip(&fds) {
        if let Some(slot) = ready.get_mut(index) {
            *slot = !fd.revents().is_empty();
        }
    }
    Ok(ready)
}

fn read_some<S: Read>(
    stream: &mut Option<S>,
    kept: &mut Vec<u8>,
    heard: &mut dyn FnMut(&[u8]),
) -> io::Result<()> {
    let Some(open) = stream else { return Ok(()) };
    let mut buffer = [0; 16 << 10];
    let count = open.read(&mut buffer)?;
    let piece = buffer.get(..count).unwrap_or_default();
    if piece.is_empty() {
        *stream = None;
        return Ok(());
    }
    heard(piece);
    let room = MAX_OUTPUT.saturating_sub(kept.len());
    kept.extend_from_slice(piece.get(..room).unwrap_or(piece));
    Ok(())
}

fn kill(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended by itself just now.
        let _ = kill_process_group(group, Signal::KILL);
    }
    child.wait()?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, bound: Duration) -> Finished {
        run(program("sh").args(["-c", script]), None, bound, &mut |_| {}).unwrap()
    }

    #[test]
    fn both_streams_and_the_exit_code_are_kept() {
        let finished = shell("echo out; echo err >&2; exit 3", Duration::from_secs(60));
        assert_eq!((finished.stdout.as_slice(), finished.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(finished.status.unwrap().code(), Some(3));
    }

    #[test]
    fn a_program_is_killed_with_its_children_when_its_time_is_up() {
        assert!(shell("sleep 1000 & wait", Duration::from_millis(20)).status.is_none());
    }

    #[test]
    fn a_daemon_left_behind_with_the_output_open_does_not_hold_up() {
        let finished = shell("sleep 60 & echo $!; exit 0", Duration::from_secs(50));
        assert!(finished.status.unwrap().success());
        let pid = String::from_utf8(finished.stdout).unwrap().trim().parse().unwrap();
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }

    #[test]
    fn large_input_and_output_do_not_block_each_other() {
        let input = vec![b'x'; 1 << 20];
        let mut heard = 0;
        let finished =
            run(&mut program("cat"), Some(input), Duration::from_secs(60), &mut |p| heard += p.len())
                .unwrap();
        assert_eq!((finished.stdout.len(), heard), (1 << 20, 1 << 20));
    }
}
