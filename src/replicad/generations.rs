//! `futago replica show-gi` and `get-gi`: the generation identifiers of a disk, from the daemon while its resource is up, else
//! from the disk. The line is drbdadm's: four generations, then a digit for each flag.

use std::fmt::Write as _;

use replica::control::GenerationStatus;

use crate::config::Site;
use crate::ctl::{Answer, Request};
use crate::offline::{Question, ask};

/// Prints them: the line alone, or explained.
pub(crate) fn run(site: &Site, name: &str, verb: &str) -> u8 {
    let question = Question {
        request: Request::Generations { name: name.to_owned() },
        answer: |answer| match answer {
            Answer::Generations(generations) => Ok(generations),
            other => Err(other),
        },
        of_disk: |attached| GenerationStatus::of_disk(&attached.superblock),
    };
    match ask(site, name, verb, question) {
        Ok(generations) => {
            print!("{}", if verb == "get-gi" { line(&generations) + "\n" } else { explained(&generations) });
            0
        }
        Err(code) => code,
    }
}

/// The flags in drbdadm's order, and what they mean when they are 1. What has no meaning here is always 0.
fn flags(g: &GenerationStatus) -> [(bool, &'static str); 12] {
    [
        (g.consistent, "the data is of one point in time"),
        (g.was_up_to_date, "it is, or was last, UpToDate"),
        (g.primary, "this node is Primary, or was when it was last heard of"),
        (g.crashed_primary, "it crashed as Primary and was not in step since"),
        (!g.primary, "the activity log is empty"),
        (false, "(activity log switched off: never)"),
        (false, "(quorum lost as Primary: never)"),
        (g.connected, "the peer is connected"),
        (g.peer_outdated, "the peer's disk is Outdated or worse"),
        (false, "(fencing by the daemon: never)"),
        (false, "(all blocks being marked: never shown)"),
        (g.peer_known, "both disks have met"),
    ]
}

/// `CURRENT:BITMAP:HISTORY:HISTORY:flags`.
fn line(g: &GenerationStatus) -> String {
    let old = |at: usize| g.history.get(at).copied().unwrap_or_default();
    let mut out = [g.current, g.bitmap, old(0), old(1)].map(|id| format!("{id:016X}")).join(":");
    for (set, _) in flags(g) {
        let _ = write!(out, ":{}", u8::from(set));
    }
    out
}

/// The line between what its parts mean.
fn explained(g: &GenerationStatus) -> String {
    const ABOVE: [&str; 4] = [
        "generation of the data",
        "generation since which the bitmap records changes",
        "younger one of the history",
        "older one of the history",
    ];
    /// Columns of a generation and the sign after it, and of the arrow above it.
    const WIDTH: usize = 17;
    const ARROW: usize = 7;
    let arrows = |count: usize, sign: &str| {
        let each = |at: usize| format!("{}{sign}", " ".repeat(if at == 0 { ARROW } else { WIDTH - 1 }));
        (0..count).map(each).collect::<String>()
    };
    let mut out = "\n".to_owned();
    for (at, text) in ABOVE.iter().enumerate() {
        let gap = " ".repeat(if at == 0 { ARROW } else { WIDTH - 1 });
        let _ = writeln!(out, "{}{gap}+--<  {text}", arrows(at, "|"));
    }
    let _ = writeln!(out, "{}\n{}", arrows(ABOVE.len(), "V"), line(g));
    let flags = flags(g);
    let first = WIDTH * ABOVE.len();
    let marks = |sign: &str, count: usize| vec![sign; count].join(" ");
    let _ = writeln!(out, "{}{}", " ".repeat(first), marks("^", flags.len()));
    for (at, (_, text)) in flags.iter().enumerate() {
        let column = first + 2 * at;
        let rest = marks("|", flags.len() - at - 1);
        let row = format!("{:>width$}{rest}", format!("{text}  >--+ "), width = column + 2);
        let _ = writeln!(out, "{}", row.trim_end());
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generations() -> GenerationStatus {
        GenerationStatus {
            current: 0x4B3B_DA92_B09E_4EC7,
            bitmap: 0xA1,
            history: vec![0xB2, 0xC3, 0xD4],
            consistent: true,
            was_up_to_date: true,
            primary: true,
            crashed_primary: false,
            connected: false,
            peer_outdated: true,
            peer_known: true,
        }
    }

    #[test]
    fn the_line_is_drbdadms() {
        assert_eq!(
            line(&generations()),
            "4B3BDA92B09E4EC7:00000000000000A1:00000000000000B2:00000000000000C3:1:1:1:0:0:0:0:0:1:0:0:1"
        );
    }

    #[test]
    fn what_the_parts_mean_points_at_them() {
        let text = explained(&generations());
        let lines: Vec<&str> = text.lines().collect();
        let at = lines.iter().position(|text| **text == line(&generations())).unwrap();
        assert_eq!(at, 6, "{text}");
        for (column, sign) in lines[at - 1].match_indices('V') {
            assert!(lines[at].as_bytes()[column].is_ascii_hexdigit(), "{sign} at {column}:\n{text}");
        }
        let digits: Vec<usize> =
            lines[at].match_indices([':']).skip(3).map(|(column, _)| column + 1).collect();
        let marks: Vec<usize> = lines[at + 1].match_indices('^').map(|(column, _)| column).collect();
        assert_eq!(digits, marks, "{text}");
        for (row, column) in lines[at + 2..].iter().zip(marks) {
            assert_eq!(row.find('+'), Some(column), "{text}");
        }
    }
}
