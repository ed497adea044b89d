//! How a demonstration went: a table for people, an object for programs.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::publish::Visit;

/// The outcome of all steps that were begun.
#[derive(Debug, Default)]
pub(crate) struct Report {
    steps: Vec<Row>,
    /// How to look at the lab, when it was kept.
    pub(crate) visit: Option<Visit>,
    /// The page about the faults, when one was asked for.
    pub(crate) drills: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    ok: bool,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    shown: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Report {
    /// `outcome` is what the step has shown, or why it failed.
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        took: Duration,
        outcome: Result<Option<String>, String>,
    ) {
        // Milliseconds are all that is worth reading.
        let seconds = (took.as_secs_f64() * 1000.0).round() / 1000.0;
        let (shown, error) = match outcome {
            Ok(shown) => (shown, None),
            Err(error) => (None, Some(error)),
        };
        self.steps.push(Row { name, ok: error.is_none(), seconds, shown, error });
    }

    /// Whether every step was verified. A story of no steps proves nothing.
    pub(crate) fn passed(&self) -> bool {
        !self.steps.is_empty() && self.steps.iter().all(|step| step.ok)
    }

    /// `{"result":"pass"|"fail","steps":[{"name","ok","seconds"[,"shown"|,"error"]}]`, with `visit`:
    /// `{"publish","url","user","password"}` when there is something to look at, and `drills`, the path of a page.
    pub(crate) fn json(&self) -> String {
        let result = if self.passed() { "pass" } else { "fail" };
        let mut object = serde_json::json!({"result": result, "steps": self.steps});
        if let Some(visit) = &self.visit {
            object["visit"] = serde_json::json!(visit);
        }
        if let Some(page) = &self.drills {
            object["drills"] = page.display().to_string().into();
        }
        object.to_string()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.steps.iter().map(|step| step.name.chars().count()).max().unwrap_or_default();
        writeln!(f, "{:<width$}  SECONDS  RESULT", "STEP")?;
        for step in &self.steps {
            let result = if step.ok { "ok" } else { "FAILED" };
            let shown = step.shown.as_ref().map(|shown| format!(": {shown}")).unwrap_or_default();
            writeln!(f, "{:<width$}  {:>7.1}  {result}{shown}", step.name, step.seconds)?;
        }
        let total: f64 = self.steps.iter().map(|step| step.seconds).sum();
        let result = if self.passed() { "every step was verified" } else { "not every step was verified" };
        writeln!(f, "{:<width$}  {total:>7.1}  {result}", "all")?;
        let failures = self.steps.iter().filter_map(|step| Some((step.name, step.error.as_ref()?)));
        failures.into_iter().try_for_each(|(name, error)| writeln!(f, "\n{name}: {error}"))?;
        if let Some(page) = &self.drills {
            writeln!(f, "\nwhere each outage went: {}", page.display())?;
        }
        self.visit.as_ref().map_or(Ok(()), |visit| writeln!(f, "\nlook at it: {}\n{visit}", visit.publish))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_step_fails_the_whole_and_no_step_is_no_pass() {
        let mut report = Report::default();
        assert!(!report.passed());
        report.add("boot", Duration::from_millis(1234), Ok(None));
        assert_eq!(report.json(), r#"{"result":"pass","steps":[{"name":"boot","ok":true,"seconds":1.234}]}"#);
        report.add("move", Duration::ZERO, Ok(Some("1 s without service".to_owned())));
        assert!(report.to_string().contains("ok: 1 s without service\n"), "{report}");
        report.add("mount", Duration::ZERO, Err("no device".to_owned()));
        assert!(!report.passed());
        assert!(report.json().starts_with(r#"{"result":"fail""#), "{}", report.json());
        assert!(report.to_string().contains("mount: no device"));
    }
}
