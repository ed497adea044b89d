//! A mailbox: other threads put reports in, the driver is woken by a file descriptor and takes them all out.
//!
//! Bounded by its users: each report answers something that the driver asked for, or belongs to one control
//! connection, and the number of those is limited.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

/// Reports of type `T` for one reader.
#[derive(Debug)]
pub struct Mailbox<T> {
    reports: Mutex<Vec<T>>,
    wake: OwnedFd,
}

impl<T> Mailbox<T> {
    /// An empty mailbox.
    pub fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { reports: Mutex::new(Vec::new()), wake })
    }

    /// Puts a report in; wakes the reader if it may be asleep.
    pub fn put(&self, report: T) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = reports.is_empty();
        reports.push(report);
        drop(reports);
        if was_empty {
            // The counter cannot overflow: one write per emptying.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }

    /// Moves every report to `into`.
    pub fn take(&self, into: &mut Vec<T>) {
        // Nothing to read is no error: the reports themselves count.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        into.append(&mut self.reports.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl<T> AsFd for Mailbox<T> {
    /// Readable when there is something to take.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn readable(mailbox: &Mailbox<u32>) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(mailbox, PollFlags::IN)], Some(&now)).unwrap() == 1
    }

    #[test]
    fn the_reader_is_woken_exactly_while_something_is_in() {
        let mailbox = Mailbox::new().unwrap();
        assert!(!readable(&mailbox));
        mailbox.put(1);
        mailbox.put(2);
        assert!(readable(&mailbox));
        let mut got = Vec::new();
        mailbox.take(&mut got);
        assert_eq!(got, [1, 2]);
        assert!(!readable(&mailbox));
        mailbox.put(3);
        assert!(readable(&mailbox));
    }
}
