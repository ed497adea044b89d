//! The figures: a table for people, an object for programs.

use std::fmt;

use serde::Serialize;

use crate::machine::Machine;

/// Which end of a series is the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Better {
    Less,
    More,
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) better: Better,
}

/// All figures of one measurement, and the machine they were taken on.
#[derive(Debug)]
pub(crate) struct Report {
    machine: Machine,
    series: Vec<Series>,
}

/// The values of one metric of one system in one case, one a run.
#[derive(Debug)]
struct Series {
    case: &'static str,
    system: &'static str,
    metric: Metric,
    values: Vec<f64>,
}

#[derive(Debug, Serialize)]
struct Row {
    case: &'static str,
    system: &'static str,
    metric: &'static str,
    unit: &'static str,
    median: f64,
    worst: f64,
    runs: usize,
}

impl Report {
    pub(super) fn on(machine: Machine) -> Self {
        Self { machine, series: Vec::new() }
    }

    /// Adds the value of one run. Series keep the order in which they first came, a metric's systems together.
    pub(super) fn add(&mut self, case: &'static str, system: &'static str, metric: Metric, value: f64) {
        let of_metric = |series: &Series| series.case == case && series.metric == metric;
        if let Some(found) = self.series.iter_mut().find(|one| of_metric(one) && one.system == system) {
            found.values.push(value);
            return;
        }
        let place = self.series.iter().rposition(of_metric).map_or(self.series.len(), |last| last + 1);
        self.series.insert(place, Series { case, system, metric, values: vec![value] });
    }

    fn rows(&self) -> impl Iterator<Item = Row> {
        self.series.iter().filter_map(Series::row)
    }

    /// `{"machine":{…},"rows":[{"case","system","metric","unit","median","worst","runs"}]}`
    pub(crate) fn json(&self) -> String {
        let rows: Vec<Row> = self.rows().collect();
        serde_json::json!({"machine": self.machine, "rows": rows}).to_string()
    }
}

impl Series {
    /// `None` without values.
    fn row(&self) -> Option<Row> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let (upper, lower) = (sorted.get(sorted.len() / 2)?, sorted.get((sorted.len() - 1) / 2)?);
        let worst = match self.metric.better {
            Better::Less => sorted.last()?,
            Better::More => sorted.first()?,
        };
        Some(Row {
            case: self.case,
            system: self.system,
            metric: self.metric.name,
            unit: self.metric.unit,
            median: rounded(f64::midpoint(*lower, *upper)),
            worst: rounded(*worst),
            runs: sorted.len(),
        })
    }
}

/// Thousandths are all that is worth keeping.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// About three digits, which is more than repeats.
fn shown(value: f64) -> String {
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["CASE", "SYSTEM", "METRIC", "MEDIAN", "WORST", "UNIT", "RUNS"].map(str::to_owned);
        let mut lines = vec![head];
        for row in self.rows() {
            let [case, system, metric, unit] =
                [row.case, row.system, row.metric, row.unit].map(str::to_owned);
            lines.push([
                case,
                system,
                metric,
                shown(row.median),
                shown(row.worst),
                unit,
                row.runs.to_string(),
            ]);
        }
        let width = |column: usize| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let [a, b, c, d, e, g] = [0, 1, 2, 3, 4, 5].map(width);
        for [case, system, metric, median, worst, unit, runs] in &lines {
            writeln!(
                f,
                "{case:<a$}  {system:<b$}  {metric:<c$}  {median:>d$}  {worst:>e$}  {unit:<g$}  {runs:>4}"
            )?;
        }
        writeln!(f, "\nmachine: {}", self.machine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: Metric = Metric { name: "duration", unit: "s", better: Better::Less };
    const IOPS: Metric = Metric { name: "writes", unit: "IOPS", better: Better::More };

    fn report() -> Report {
        let mut report = Report::on(Machine::look().unwrap());
        for value in [1.0, 3.0, 2.0] {
            report.add("login", "ssh", SECONDS, value);
            report.add("writes", "raw", IOPS, value * 1000.0);
            report.add("login", "apply", SECONDS, value * 10.0);
        }
        report
    }

    #[test]
    fn the_worst_is_the_slowest_whatever_the_metric() {
        let rows: Vec<Row> = report().rows().collect();
        let seen: Vec<_> = rows.iter().map(|row| (row.system, row.median, row.worst, row.runs)).collect();
        assert_eq!(seen, [("ssh", 2.0, 3.0, 3), ("apply", 20.0, 30.0, 3), ("raw", 2000.0, 1000.0, 3)]);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let mut report = report();
        report.add("login", "ssh", SECONDS, 2.5);
        assert_eq!(report.rows().next().map(|row| row.median), Some(2.25));
    }

    #[test]
    fn the_table_lines_up_and_the_object_has_every_row() {
        let report = report();
        let table = report.to_string();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.first(), Some(&"CASE    SYSTEM  METRIC    MEDIAN  WORST  UNIT  RUNS"));
        assert_eq!(lines.get(2), Some(&"login   apply   duration    20.0   30.0  s        3"));
        assert!(table.contains("\nmachine: "), "{table}");
        let object: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(object["rows"].as_array().map(Vec::len), Some(3));
        let expected = r#"{"case":"writes","system":"raw","metric":"writes","unit":"IOPS","median":2000.0,"worst":1000.0,"runs":3}"#;
        assert_eq!(object["rows"][2].to_string(), expected);
        assert!(object["machine"]["cores"].as_u64().is_some_and(|cores| cores > 0));
    }
}
