//! Sets the real standard input and output aside.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::stdio::{dup2_stdin, dup2_stdout, stdin, stdout};

/// Lowest number of the moved descriptors: above the three standard ones.
const ABOVE_STANDARD: i32 = 3;

/// Moves both to descriptors that no child inherits. What is left reads nothing, and writes to the log.
pub(super) fn take() -> io::Result<(File, File)> {
    let input = moved(stdin())?;
    let output = moved(stdout())?;
    dup2_stdin(File::open("/dev/null")?)?;
    dup2_stdout(rustix::stdio::stderr())?;
    Ok((input, output))
}

fn moved(fd: impl AsFd) -> io::Result<File> {
    Ok(File::from(fcntl_dupfd_cloexec(fd, ABOVE_STANDARD)?))
}
