//! What is told at the end: of one run, and of the runs of several clusters together.

use std::collections::BTreeMap;

use super::{Event, HostRecap, TaskTime};
use crate::runner::exit;

/// How the run of a cluster has ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) cluster: String,
    pub(crate) exit_code: u8,
    /// Its last event; none when it has not begun.
    pub(crate) last: Option<Event>,
}

/// An exit code in words, that of a plan with `check`.
pub(super) fn outcome(exit_code: u8, check: bool) -> &'static str {
    match exit_code {
        exit::DONE if check => "nothing to do",
        exit::DONE => "done",
        exit::CHANGES => "something to do",
        exit::UNREACHABLE => "UNREACHED",
        exit::INTERRUPTED => "interrupted",
        _ => "FAILED",
    }
}

/// The exit code of all together: that of the one that needs somebody most.
pub(crate) fn worst(codes: impl IntoIterator<Item = u8>) -> u8 {
    let by_need = [exit::DONE, exit::CHANGES, exit::INTERRUPTED, exit::UNREACHABLE];
    let need = |code: &u8| by_need.iter().position(|known| known == code).unwrap_or(by_need.len());
    codes.into_iter().max_by_key(need).unwrap_or(exit::DONE)
}

/// What is worth knowing about a run besides its counts.
pub(super) fn notes(event: &Event) -> Vec<String> {
    let Event::RunFinished { hosts, slowest, owed, continue_with, log, check, .. } = event else {
        return Vec::new();
    };
    let mut notes = Vec::new();
    if slowest.len() > 1 {
        let tasks: Vec<String> =
            slowest.iter().map(|TaskTime { task, seconds }| format!("{seconds:.1} s {task}")).collect();
        notes.push(format!("slowest: {}", tasks.join("; ")));
    }
    if !owed.is_empty() {
        notes.push(format!("not done, although asked for: {}", owed.join("; ")));
    }
    notes.extend(log.iter().map(|log| format!("log: {log}")));
    notes.extend(continue_with.iter().map(|command| format!("continue with: {command}")));
    // A plan that did not come to its end cannot say what is left.
    if *check && hosts.iter().all(|host| host.failed + host.unreachable == 0) {
        notes.push(plan_line(hosts));
    }
    notes
}

/// A line of counts for each host.
pub(super) fn counts(event: &Event) -> Vec<String> {
    let Event::RunFinished { hosts, .. } = event else { return Vec::new() };
    let width = hosts.iter().map(|host| host.host.chars().count()).max().unwrap_or(0);
    hosts.iter().map(|host| host.line(width)).collect()
}

fn plan_line(hosts: &[HostRecap]) -> String {
    let (changed, unknown) = hosts.iter().fold((0, 0), |(c, u), host| (c + host.changed, u + host.unknown));
    match (changed, unknown) {
        (0, 0) => "nothing to do".into(),
        (_, 0) => format!("{changed} to change"),
        _ => format!("{changed} to change, {unknown} unknown until applied"),
    }
}

/// One recap over all clusters.
pub(crate) fn of_all(ended: &[Ended], check: bool, seconds: f64) -> Vec<String> {
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    let width = ended.iter().map(|one| one.cluster.chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for Ended { cluster, exit_code, last } in ended {
        let word = if last.is_some() { outcome(*exit_code, check) } else { "not begun" };
        *outcomes.entry(word).or_default() += 1;
        lines.push(format!("{cluster:<width$}  {word}"));
        let more = last.iter().flat_map(|event| counts(event).into_iter().chain(notes(event)));
        lines.extend(more.map(|line| format!("  {line}")));
    }
    let outcomes: Vec<String> = outcomes.iter().map(|(word, number)| format!("{number} {word}")).collect();
    let title = if check { "PLAN" } else { "RECAP" };
    let head = format!("{title} of {} clusters in {seconds:.1} s: {}", ended.len(), outcomes.join(", "));
    [String::new(), head].into_iter().chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_of_all_is_that_of_the_one_that_needs_somebody_most() {
        assert_eq!(worst([]), exit::DONE);
        assert_eq!(worst([exit::CHANGES, exit::DONE]), exit::CHANGES);
        assert_eq!(worst([exit::INTERRUPTED, exit::UNREACHABLE, exit::CHANGES]), exit::UNREACHABLE);
        assert_eq!(worst([exit::UNREACHABLE, exit::FAILED, exit::INTERRUPTED]), exit::FAILED);
    }
}
