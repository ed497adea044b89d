//! The record as lines for a terminal.

use std::fmt;

use crate::drill::record::{Asked, Drill, Record};

/// What stands where there is no figure.
const NONE: &str = "-";

impl Drill {
    /// What a client has noticed, for who watches.
    pub(crate) fn sentence(&self) -> String {
        let pause =
            self.rows.pause_s.map(|pause_s| format!("no row for {pause_s:.2} s, ")).unwrap_or_default();
        format!(
            "{}: {} s without service, {pause}{} rows, {} lost, {} errors, restored in {} s: {}",
            self.name,
            self.away(),
            self.rows.acknowledged,
            self.lost(),
            self.errors.total,
            self.restored(),
            self.result()
        )
    }

    /// The same in a few words.
    pub(crate) fn summary(&self) -> String {
        let lost = self.lost();
        let lost = if lost == "0" { "none" } else { &lost };
        format!("{} s without service; {} rows, {lost} lost", self.away(), self.rows.acknowledged)
    }

    fn away(&self) -> String {
        self.outage.as_ref().map_or_else(
            || NONE.to_owned(),
            |outage| format!("{}{:.2}", if outage.open { ">" } else { "" }, outage.length_s),
        )
    }

    fn restored(&self) -> String {
        self.restored_ms.map_or_else(|| NONE.to_owned(), |ms| format!("{:.2}", ms / 1000.0))
    }

    fn result(&self) -> &'static str {
        if self.passed { "ok" } else { "FAILED" }
    }

    /// How many rows were lost, where they could be looked for.
    pub(super) fn lost(&self) -> String {
        if self.rows.unchecked.is_some() { "unknown".to_owned() } else { self.rows.lost.to_string() }
    }
}

impl Record {
    /// The table: a line for the head and one for each drill.
    fn table(&self) -> Vec<Vec<String>> {
        // Where a request of the client is a row, the outage is that already.
        let of_rows = self.client.asks_for == Asked::Rows;
        let line = |name: &str, away: &str, pause: String, rest: [String; 5]| {
            let start = [name, away].map(str::to_owned).into_iter();
            start.chain((!of_rows).then_some(pause)).chain(rest).collect()
        };
        let head = ["ROWS", "LOST", "ERRORS", "RESTORED IN s", "RESULT"].map(str::to_owned);
        let head = line("DRILL", "OUTAGE s", "NO ROW FOR s".to_owned(), head);
        let drills = self.drills.iter().map(|drill| {
            let pause = drill.rows.pause_s.map_or_else(|| NONE.to_owned(), |pause_s| format!("{pause_s:.2}"));
            let rest = [
                drill.rows.acknowledged.to_string(),
                drill.lost(),
                drill.errors.total.to_string(),
                drill.restored(),
                drill.result().to_owned(),
            ];
            line(&drill.name, &drill.away(), pause, rest)
        });
        std::iter::once(head).chain(drills).collect()
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.table();
        let width = |column: usize| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        for line in &lines {
            for (cell, column) in line.iter().zip(0..) {
                match column {
                    0 => write!(f, "{cell:<width$}", width = width(column))?,
                    // The last has nothing to stand in line with.
                    _ if column + 1 == line.len() => write!(f, "  {cell}")?,
                    _ => write!(f, "  {cell:>width$}", width = width(column))?,
                }
            }
            writeln!(f)?;
        }
        for drill in &self.drills {
            let reason = drill.reason.iter();
            reason.into_iter().try_for_each(|reason| writeln!(f, "\n{}: {reason}", drill.name))?;
        }
        if let Some(left) = &self.left_out {
            writeln!(f, "\nnot begun: {}: {}", left.drills.join(", "), left.because)?;
        }
        writeln!(f, "\nmachine: {}", self.machine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::report::page::tests::record;

    #[test]
    fn each_drill_is_a_line_and_a_failure_says_why() {
        let text = record().to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "DRILL       OUTAGE s  ROWS  LOST  ERRORS  RESTORED IN s  RESULT");
        assert_eq!(lines[1], "power-loss      2.10     5     0       1           2.50  ok");
        assert_eq!(lines[2], "power-loss      2.10     5     2       1           2.50  FAILED");
        assert!(text.contains("\npower-loss: 2 of 5 <acknowledged> rows are missing\n"), "{text}");
        assert!(text.contains("\nnot begun: resync: "), "{text}");
    }
    #[test]
    fn where_pages_are_asked_for_the_rows_have_a_figure_of_their_own() {
        let mut record = record();
        record.client.asks_for = Asked::Pages;
        record.drills.iter_mut().for_each(|drill| drill.rows.pause_s = Some(2.5));
        let text = record.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "DRILL       OUTAGE s  NO ROW FOR s  ROWS  LOST  ERRORS  RESTORED IN s  RESULT");
        assert_eq!(lines[1], "power-loss      2.10          2.50     5     0       1           2.50  ok");
        let told = record.drills[0].sentence();
        assert!(told.contains("2.10 s without service, no row for 2.50 s, 5 rows, 0 lost"), "{told}");
    }
}
