//! The report for people: a line for each result, the failure in full, the recap at the end.
//!
//! Hosts with the same result share a line. Lines go to stdout, bars and progress to stderr.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write};
use std::time::{Duration, Instant};

use super::bars::{Bars, describe};
use super::recap::{counts, notes, outcome};
use super::{Event, Sink, Status, TaskDone, terminal};
use crate::protocol::Progress;

/// Without a terminal, progress is told when so much time has passed …
const PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// … or so many percent.
const PROGRESS_STEP: f64 = 10.0;

/// Prints for people.
pub struct Human {
    out: Box<dyn Write + Send>,
    /// Before each line, where others print beside it.
    prefix: Option<String>,
    colour: bool,
    live: bool,
    bars: Option<Bars>,
    check: bool,
    host_width: usize,
    results: Vec<TaskDone>,
    told: BTreeMap<String, (Instant, f64)>,
}

impl Human {
    /// To stdout, with live bars when stderr is a terminal.
    #[must_use]
    pub fn standard() -> Self {
        Self { live: terminal::can_draw(), ..Self::plain() }
    }

    /// To stdout, where others print, too: this before each line, and no bars.
    #[must_use]
    pub fn beside_others(prefix: String) -> Self {
        Self { prefix: Some(prefix), ..Self::plain() }
    }

    fn plain() -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { colour, ..Self::to(Box::new(std::io::stdout())) }
    }

    /// To somewhere else, without colour and bars.
    #[must_use]
    pub fn to(out: Box<dyn Write + Send>) -> Self {
        Self {
            out,
            prefix: None,
            colour: false,
            live: false,
            bars: None,
            check: false,
            host_width: 0,
            results: Vec::new(),
            told: BTreeMap::new(),
        }
    }

    fn print(&mut self, text: &str) {
        let text = self.prefixed(text);
        let out = &mut self.out;
        // The reader may be gone; the run goes on all the same.
        let mut print = || drop(writeln!(out, "{text}").and_then(|()| out.flush()));
        match &self.bars {
            Some(bars) => bars.above(print),
            None => print(),
        }
    }

    /// Where others print beside it, each line says whose it is, and there is no empty one.
    fn prefixed(&self, text: &str) -> String {
        let Some(prefix) = &self.prefix else { return text.to_owned() };
        let lines = text.lines().filter(|line| !line.is_empty());
        lines.map(|line| format!("{prefix}{line}")).collect::<Vec<_>>().join("\n")
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn task_done(&mut self, done: &TaskDone) {
        if let Some(bars) = &self.bars {
            bars.host(&done.host, "");
        }
        self.told.remove(&done.host);
        self.results.push(done.clone());
    }

    /// One line for each distinct result of the task.
    fn task_finished(&mut self) {
        let results = std::mem::take(&mut self.results);
        let mut groups: Vec<(TaskDone, Vec<String>)> = Vec::new();
        for done in results {
            let same = |(first, _): &&mut (TaskDone, Vec<String>)| {
                (first.status, &first.message, &first.diff, &first.item, &first.failure)
                    == (done.status, &done.message, &done.diff, &done.item, &done.failure)
            };
            match groups.iter_mut().find(same) {
                Some((_, hosts)) => hosts.push(done.host),
                None => groups.push((done.clone(), vec![done.host])),
            }
        }
        for (done, mut hosts) in groups {
            hosts.sort();
            hosts.dedup();
            self.result(&done, &hosts.join(", "));
        }
        if let Some(bars) = &self.bars {
            bars.task_finished();
        }
    }

    fn result(&mut self, done: &TaskDone, hosts: &str) {
        let (word, code) = match done.status {
            Status::Changed if self.check => ("to change", "33"),
            status => word(status),
        };
        let item = done.item.as_ref().map(|item| format!(" ({})", short(item))).unwrap_or_default();
        let message = match &done.message {
            empty if empty.is_empty() => String::new(),
            message => format!(" — {message}"),
        };
        let word = self.paint(code, &format!("{word:<9}"));
        let (task, width) = (&done.task, self.host_width);
        self.print(&format!("{word} {hosts:<width$}  {task}{item}{message}"));
        let lines: Vec<String> =
            done.diff.as_deref().unwrap_or_default().lines().map(|l| self.diff_line(l)).collect();
        for line in lines {
            self.print(&line);
        }
        if let Some(failure) = &done.failure {
            self.print(&failure_block(done, failure, hosts));
        }
    }

    fn diff_line(&self, line: &str) -> String {
        let painted = match line.chars().next() {
            Some('+') => self.paint("32", line),
            Some('-') => self.paint("31", line),
            Some('~') => self.paint("33", line),
            _ => line.to_owned(),
        };
        format!("          {painted}")
    }

    /// Without bars, progress is told now and then, so that a log does not fill with it.
    fn progress(&mut self, host: &str, progress: &Progress) {
        if let Some(bars) = &self.bars {
            return bars.progress(host, progress);
        }
        let percent = progress.percent.unwrap_or(0.0);
        let due = self.told.get(host).is_none_or(|(at, last)| {
            at.elapsed() >= PROGRESS_EVERY || (percent - last).abs() >= PROGRESS_STEP
        });
        if due {
            self.told.insert(host.to_owned(), (Instant::now(), percent));
            eprintln!("{}", self.prefixed(&format!("{host}: {}", describe(progress))));
        }
    }

    fn finished(&mut self, event: &Event) {
        let Event::RunFinished { seconds, check, exit_code, .. } = event else { return };
        if let Some(bars) = self.bars.take() {
            bars.finish();
        }
        if self.prefix.is_some() {
            // The rest is told when all are done.
            return self.print(&format!("{} in {seconds:.1} s", outcome(*exit_code, *check)));
        }
        self.print("");
        notes(event).iter().for_each(|note| self.print(note));
        self.print(&format!("{} in {seconds:.1} s", self.paint("1", if *check { "PLAN" } else { "RECAP" })));
        counts(event).iter().for_each(|line| self.print(line));
    }
}

impl Sink for Human {
    fn event(&mut self, event: &Event) {
        match event {
            Event::RunStarted { hosts, tasks, check, .. } => {
                self.check = *check;
                self.host_width = hosts.join(", ").chars().count();
                self.bars = self.live.then(|| Bars::new(*tasks, hosts));
            }
            Event::Connected { host, .. } => {
                if let Some(bars) = &self.bars {
                    bars.host(host, "connected");
                }
            }
            Event::PlayStarted { play, hosts } => {
                let title = self.paint("1", play);
                self.print(&format!("\n{title}  ({})", hosts.join(", ")));
            }
            Event::TaskStarted { task, hosts, .. } => {
                if let Some(bars) = &self.bars {
                    bars.task(task, hosts);
                }
            }
            Event::Progress { host, progress, .. } => self.progress(host, progress),
            Event::TaskDone(done) => self.task_done(done),
            Event::TaskFinished { .. } => self.task_finished(),
            Event::Stopping => {
                let text =
                    "stopping after the running step; once more stops at once and may leave it half done";
                match &self.bars {
                    Some(bars) => bars.above(|| eprintln!("{text}")),
                    None => eprintln!("{}", self.prefixed(text)),
                }
            }
            Event::RunFinished { .. } => self.finished(event),
        }
    }
}

fn word(status: Status) -> (&'static str, &'static str) {
    match status {
        Status::Ok => ("ok", "32"),
        Status::Changed => ("changed", "33"),
        Status::Unknown => ("unknown", "36"),
        Status::Skipped => ("skipped", "2"),
        Status::Failed => ("FAILED", "1;31"),
        Status::Unreachable => ("UNREACHED", "1;31"),
    }
}

/// An item of a loop: a text as it is, a mapping that has a name by its name.
fn short(item: &serde_json::Value) -> String {
    let name = item.as_str().or_else(|| item.get("name")?.as_str());
    name.map_or_else(|| item.to_string(), str::to_owned)
}

fn failure_block(done: &TaskDone, failure: &crate::protocol::Failure, hosts: &str) -> String {
    let mut lines = Vec::new();
    // What belongs to no task of a playbook has said enough in its first line.
    if !done.place.is_empty() {
        lines.extend([format!("  host: {hosts}"), format!("  task: {}", done.task)]);
        lines.push(format!("  at:   {}", done.place));
    }
    lines.push(format!("  why:  {}", indented(&failure.message)));
    if !failure.output.trim().is_empty() {
        lines.push("  it said:".into());
        lines.extend(failure.output.trim_end().lines().map(|line| format!("    | {line}")));
    }
    lines.extend(failure.hint.as_deref().map(|hint| format!("  hint: {}", indented(hint))));
    lines.join("\n")
}

fn indented(text: &str) -> String {
    text.replace('\n', "\n        ")
}
