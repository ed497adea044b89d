//! The record as lines for a terminal.

use std::fmt;

use crate::drill::record::{Drill, Record};

/// What stands where there is no figure.
const NONE: &str = "-";

impl Drill {
    /// What a client has noticed, for who watches.
    pub(crate) fn sentence(&self) -> String {
        let [name, outage, rows, lost, errors, restored, result] = self.cells();
        format!(
            "{name}: {outage} s without service, {rows} rows, {lost} lost, {errors} errors, restored in {restored} s: \
             {result}"
        )
    }

    /// The same in a few words.
    pub(crate) fn summary(&self) -> String {
        let [_, outage, rows, lost, ..] = self.cells();
        let lost = if lost == "0" { "none".to_owned() } else { lost };
        format!("{outage} s without service; {rows} rows, {lost} lost")
    }

    fn cells(&self) -> [String; 7] {
        let seconds = |ms: f64| format!("{:.2}", ms / 1000.0);
        let none = || NONE.to_owned();
        let outage = self.outage.as_ref().map_or_else(none, |outage| {
            format!("{}{:.2}", if outage.open { ">" } else { "" }, outage.length_s)
        });
        [
            self.name.clone(),
            outage,
            self.rows.acknowledged.to_string(),
            self.lost(),
            self.errors.total.to_string(),
            self.restored_ms.map_or_else(none, seconds),
            if self.passed { "ok" } else { "FAILED" }.to_owned(),
        ]
    }

    /// How many rows were lost, where they could be looked for.
    pub(super) fn lost(&self) -> String {
        if self.rows.unchecked.is_some() { "unknown".to_owned() } else { self.rows.lost.to_string() }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["DRILL", "OUTAGE s", "ROWS", "LOST", "ERRORS", "RESTORED IN s", "RESULT"];
        let mut lines = vec![head.map(str::to_owned)];
        lines.extend(self.drills.iter().map(Drill::cells));
        let width = |column: usize| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let [a, b, c, d, e, g] = [0, 1, 2, 3, 4, 5].map(width);
        for [name, outage, rows, lost, errors, restored, result] in &lines {
            writeln!(
                f,
                "{name:<a$}  {outage:>b$}  {rows:>c$}  {lost:>d$}  {errors:>e$}  {restored:>g$}  {result}"
            )?;
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
}
