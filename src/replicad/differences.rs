//! `futago replica diff`: what this disk has that the peer's may not have.

use std::fmt::Write as _;

use replica::control::Differences;
use replica::meta::Attached;
use serde_json::json;

use crate::config::Site;
use crate::ctl::{Answer, Request};
use crate::offline::{Question, ask};
use crate::verify;

/// How many places people are told.
const SHOWN: usize = 40;

/// Prints them; the exit code says whether there are any.
pub(crate) fn run(site: &Site, name: &str, json: bool) -> u8 {
    let question = Question {
        request: Request::Differences { name: name.to_owned() },
        answer: |answer| match answer {
            Answer::Differences(differences) => Ok(differences),
            other => Err(other),
        },
        of_disk,
    };
    match ask(site, name, "diff", question) {
        Ok(found) => {
            print!("{}", if json { object(name, &found) } else { text(name, &found) });
            if found.total_kib > 0 { verify::exit::DIFFERS } else { 0 }
        }
        Err(code) => code,
    }
}

/// What is marked, and after a crash as Primary what was hot.
fn of_disk(attached: &Attached) -> Differences {
    let mut bitmap = attached.bitmap.clone();
    if attached.superblock.primary {
        attached.activity.mark(&mut bitmap);
    }
    Differences::of(&bitmap)
}

fn text(name: &str, found: &Differences) -> String {
    let Differences { total_kib, places } = found;
    if *total_kib == 0 {
        return format!("{name}: nothing is marked: as far as is known, both disks are the same\n");
    }
    let mut out = format!("{name}: {total_kib} KiB are marked: the peer's disk may have them otherwise\n");
    for (offset, len) in places.iter().take(SHOWN) {
        let _ = writeln!(out, "  {len} KiB at {offset} KiB");
    }
    let shown: u64 = places.iter().take(SHOWN).map(|(_, len)| len).sum();
    if shown < *total_kib {
        let _ = writeln!(out, "  and {} KiB more (--json tells more places)", total_kib - shown);
    }
    out
}

/// `{"resource","total_kib","places":[[offset,length],…],"complete"}`, all in KiB.
fn object(name: &str, found: &Differences) -> String {
    let Differences { total_kib, places } = found;
    let listed: u64 = places.iter().map(|(_, len)| len).sum();
    let object =
        json!({"resource": name, "total_kib": total_kib, "places": places, "complete": listed == *total_kib});
    format!("{object}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_in_a_line() {
        let none = Differences::default();
        assert_eq!(text("r0", &none), "r0: nothing is marked: as far as is known, both disks are the same\n");
        assert_eq!(
            object("r0", &none),
            "{\"resource\":\"r0\",\"total_kib\":0,\"places\":[],\"complete\":true}\n"
        );
    }

    #[test]
    fn people_are_told_the_first_places_and_programs_all() {
        let places: Vec<(u64, u64)> = (0..50).map(|at| (at * 100, 4)).collect();
        let found = Differences { total_kib: 204, places };
        let said = text("r0", &found);
        assert!(said.starts_with(
            "r0: 204 KiB are marked: the peer's disk may have them otherwise\n  4 KiB at 0 KiB\n  4 KiB at 100 KiB\n"
        ));
        assert!(
            said.ends_with("  4 KiB at 3900 KiB\n  and 44 KiB more (--json tells more places)\n"),
            "{said}"
        );
        assert!(object("r0", &found).ends_with("[4900,4]],\"complete\":false}\n"));
    }
}
