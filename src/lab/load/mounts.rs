//! Which hosts have the replicated file system mounted so that they can write, seen from outside.
//!
//! Read from `/proc/PID/mountinfo` of each host's first process: no login, nothing that the host must do, so a
//! host that hangs is seen like any other.

use std::fs;

use crate::control_group::Hierarchies;
use crate::host;
use crate::layout::{Lab, PAIR};

/// Where the stack keeps its data. Whatever the device below it is called, that is the replicated file system.
pub(crate) const DATA: &str = "/srv/data";

/// Looks at both hosts again and again.
#[derive(Debug)]
pub(super) struct Mounts {
    lab: Lab,
    hierarchies: Hierarchies,
    /// Each host's first process when last seen.
    leaders: [Option<i32>; 2],
}

impl Mounts {
    pub(super) fn new(lab: Lab, hierarchies: Hierarchies) -> Self {
        Self { lab, hierarchies, leaders: [None; 2] }
    }

    /// Which of the pair can write at this moment.
    ///
    /// The hosts are looked at one after the other, and this process may be held up in between; so when both
    /// seem to have it, the first is looked at again: it had it before and after the second one did.
    pub(super) fn writable(&mut self) -> anyhow::Result<[bool; 2]> {
        let mut seen = [self.can_write(0)?, self.can_write(1)?];
        if seen == [true; 2] {
            seen = [self.can_write(0)?, true];
        }
        Ok(seen)
    }

    fn can_write(&mut self, index: usize) -> anyhow::Result<bool> {
        let (Some(host), Some(known)) = (PAIR.get(index), self.leaders.get_mut(index)) else {
            return Ok(false);
        };
        if let Some(answer) = known.filter(|pid| host::is_first(*pid)).and_then(mounted) {
            return Ok(answer);
        }
        *known = host::leader(&self.lab, host, &self.hierarchies)?;
        Ok(known.and_then(mounted).unwrap_or(false))
    }
}

/// `None` when the process is no more.
fn mounted(pid: i32) -> Option<bool> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?;
    // A process that has ended and was not yet reaped has no mounts at all.
    if text.is_empty() { None } else { Some(is_writable(&text)) }
}

fn is_writable(mountinfo: &str) -> bool {
    mountinfo.lines().any(|line| {
        let Some((left, right)) = line.split_once(" - ") else { return false };
        let mut left = left.split(' ').skip(4);
        let (place, options) = (left.next(), left.next().unwrap_or_default());
        let of_file_system = right.split(' ').nth(2).unwrap_or_default();
        let is_rw = |options: &str| options.split(',').any(|option| option == "rw");
        place == Some(DATA) && is_rw(options) && is_rw(of_file_system)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mount_that_can_be_written_counts() {
        let line = |place: &str, options: &str, of_file_system: &str| {
            format!(
                "21 1 0:5 / /proc rw - proc proc rw\n\
                 99 1 7:3 / {place} {options} shared:9 - ext4 /dev/loop3 {of_file_system}\n"
            )
        };
        assert!(is_writable(&line(DATA, "rw,noatime", "rw,data=ordered")));
        assert!(!is_writable(&line(DATA, "ro,noatime", "rw")));
        assert!(!is_writable(&line(DATA, "rw", "ro,errors=remount-ro")));
        assert!(!is_writable(&line("/srv/database", "rw", "rw")));
    }
}
