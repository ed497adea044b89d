//! `futago replica verify`: begins a comparison of both disks, shows how it goes on, and says what came of it.

use std::io::{IsTerminal as _, Write as _};
use std::thread;
use std::time::Duration;

use replica::control::VerifyStatus;

/// How often the daemon is asked.
const LOOK: Duration = Duration::from_millis(200);

/// Exit codes of its own.
pub(crate) mod exit {
    /// Blocks differ, and were not repaired.
    pub(crate) const DIFFERS: u8 = 6;
    /// It ended before its time.
    pub(crate) const INTERRUPTED: u8 = 7;
}

/// Looks until it is over; `look` asks the daemon, and its error is the exit code of the verb.
pub(crate) fn follow(name: &str, look: impl Fn() -> Result<Option<VerifyStatus>, u8>) -> u8 {
    let terminal = std::io::stderr().is_terminal();
    loop {
        let status = match look() {
            Ok(Some(status)) => status,
            Ok(None) => {
                eprintln!("{name}: the daemon does not know of a verify any more: was it restarted?");
                return exit::INTERRUPTED;
            }
            Err(code) => return code,
        };
        if terminal {
            // A line that is written over; nobody is harmed when it cannot be.
            let _ = write!(
                std::io::stderr(),
                "\r\x1b[K{}",
                if status.running { progress(name, &status) } else { String::new() }
            );
        }
        if !status.running {
            print!("{}", outcome(name, &status));
            return code(&status);
        }
        thread::sleep(LOOK);
    }
}

fn code(status: &VerifyStatus) -> u8 {
    match status {
        VerifyStatus { interrupted: Some(_), .. } => exit::INTERRUPTED,
        VerifyStatus { differing_kib, repaired_kib, .. } if differing_kib > repaired_kib => exit::DIFFERS,
        _ => 0,
    }
}

fn progress(name: &str, status: &VerifyStatus) -> String {
    let VerifyStatus { done, differing_kib, .. } = status;
    let found = if *differing_kib > 0 { format!(", {differing_kib} KiB differ") } else { String::new() };
    format!("{name}: {done:.1} % compared at {}{found}", rate(status))
}

fn rate(status: &VerifyStatus) -> String {
    let per_second = compared_kib(status).saturating_mul(1000).checked_div(status.elapsed_ms);
    format!("{} MiB/s", per_second.unwrap_or_default() / 1024)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "shown to people in whole MiB"
)]
fn compared_kib(status: &VerifyStatus) -> u64 {
    (status.total_kib as f64 * status.done / 100.0) as u64
}

/// What came of it, for people.
fn outcome(name: &str, status: &VerifyStatus) -> String {
    let VerifyStatus { differing_kib, repaired_kib, places, interrupted, .. } = status;
    let mib = compared_kib(status) / 1024;
    let seconds = Duration::from_millis(status.elapsed_ms).as_secs_f64();
    let mut out = format!("{name}: {mib} MiB compared in {seconds:.1} s ({}): ", rate(status));
    if *differing_kib == 0 {
        out.push_str("both disks are the same\n");
    } else {
        out.push_str(&format!("{differing_kib} KiB differ\n"));
        for (offset, len) in places {
            out.push_str(&format!("  {len} KiB at {offset} KiB\n"));
        }
        let listed: u64 = places.iter().map(|(_, len)| len).sum();
        if listed < *differing_kib {
            out.push_str(&format!("  and {} KiB more\n", differing_kib - listed));
        }
        if *repaired_kib > 0 {
            out.push_str(&format!("{repaired_kib} KiB of the peer were written over with what is here\n"));
        } else {
            out.push_str(&format!("Nothing was changed. If this host's data is the right one: futago replica verify --repair {name}\n"));
        }
    }
    if let Some(why) = interrupted {
        out.push_str(&format!("It ended before its time: {why}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> VerifyStatus {
        VerifyStatus {
            running: false,
            interrupted: None,
            done: 100.0,
            total_kib: 1 << 20,
            elapsed_ms: 4000,
            differing_kib: 0,
            repaired_kib: 0,
            places: Vec::new(),
        }
    }

    #[test]
    fn the_same_on_both_is_said_in_a_line() {
        assert_eq!(
            outcome("r0", &status()),
            "r0: 1024 MiB compared in 4.0 s (256 MiB/s): both disks are the same\n"
        );
        assert_eq!(code(&status()), 0);
    }

    #[test]
    fn what_differs_is_listed_with_what_to_do() {
        let status = VerifyStatus { differing_kib: 16, places: vec![(4096, 8), (8192, 4)], ..status() };
        assert_eq!(
            outcome("r0", &status),
            "r0: 1024 MiB compared in 4.0 s (256 MiB/s): 16 KiB differ\n  8 KiB at 4096 KiB\n  4 KiB at 8192 KiB\n  and 4 KiB more\nNothing was changed. If this host's data is the right one: futago replica verify --repair r0\n"
        );
        assert_eq!(code(&status), exit::DIFFERS);
        let repaired = VerifyStatus { repaired_kib: 16, ..status };
        assert!(
            outcome("r0", &repaired).ends_with("16 KiB of the peer were written over with what is here\n")
        );
        assert_eq!(code(&repaired), 0);
    }

    #[test]
    fn one_that_did_not_end_is_no_proof() {
        let status =
            VerifyStatus { done: 50.0, interrupted: Some("the peer is lost".to_owned()), ..status() };
        assert!(outcome("r0", &status).ends_with("It ended before its time: the peer is lost\n"));
        assert_eq!(code(&status), exit::INTERRUPTED);
    }
}
