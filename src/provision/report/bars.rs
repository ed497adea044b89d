//! Live bars on a terminal: one for the run, one line for each host. On anything else they do not exist.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::terminal::Quiet;
use crate::ask::Drawn;
use crate::protocol::Progress;

const DRAWN_PER_SECOND: u8 = 10;
const TICK: Duration = Duration::from_millis(120);
/// Steps of a host's bar: tenths of a percent.
const BAR_STEPS: u64 = 1000;

/// The bars of one run.
pub(super) struct Bars {
    all: MultiProgress,
    run: ProgressBar,
    hosts: BTreeMap<String, ProgressBar>,
    _quiet: Option<Quiet>,
    _drawn: Drawn,
}

impl Bars {
    /// Bars on stderr for these hosts.
    pub(super) fn new(tasks: usize, hosts: &[String]) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(DRAWN_PER_SECOND));
        let run = all.add(ProgressBar::new(u64::try_from(tasks).unwrap_or(u64::MAX)));
        run.set_style(style("{bar:24} {pos}/{len}  {msg}"));
        let width = hosts.iter().map(|h| h.chars().count()).max().unwrap_or(0);
        let hosts = hosts.iter().map(|host| {
            let bar = all.add(ProgressBar::new(BAR_STEPS));
            bar.set_prefix(format!("{host:<width$}"));
            bar.set_style(style("  {prefix} {spinner} {msg}"));
            bar.set_message("connecting");
            bar.enable_steady_tick(TICK);
            (host.clone(), bar)
        });
        let hosts = hosts.collect();
        let drawn = Drawn::begin(&all);
        Self { all, run, hosts, _quiet: Quiet::begin(), _drawn: drawn }
    }

    /// Prints above the bars.
    pub(super) fn above(&self, print: impl FnOnce()) {
        self.all.suspend(print);
    }

    /// A task starts.
    pub(super) fn task(&self, task: &str, hosts: &[String]) {
        self.run.set_message(task.to_owned());
        for host in hosts {
            self.host(host, task);
        }
    }

    /// What a host is doing.
    pub(super) fn host(&self, host: &str, message: &str) {
        if let Some(bar) = self.hosts.get(host) {
            bar.set_style(style("  {prefix} {spinner} {msg}"));
            bar.set_message(message.to_owned());
        }
    }

    /// How far a host is.
    pub(super) fn progress(&self, host: &str, progress: &Progress) {
        let Some(bar) = self.hosts.get(host) else { return };
        let Some(percent) = progress.percent else { return self.host(host, &progress.message) };
        bar.set_style(style("  {prefix} {bar:24} {msg}"));
        bar.set_position(tenths(percent));
        bar.set_message(describe(progress));
    }

    /// A task is over.
    pub(super) fn task_finished(&self) {
        self.run.inc(1);
    }

    /// Removes the bars.
    pub(super) fn finish(&self) {
        self.hosts.values().chain([&self.run]).for_each(ProgressBar::finish_and_clear);
    }
}

/// `syncing, 43.2 %, 0:12 left`.
pub(super) fn describe(progress: &Progress) -> String {
    let percent = progress.percent.map(|p| format!(", {p:.1} %")).unwrap_or_default();
    let left = progress.eta_seconds.map(|s| format!(", {}:{:02} left", s / 60, s % 60)).unwrap_or_default();
    format!("{}{percent}{left}", progress.message)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=1000 before")]
fn tenths(percent: f64) -> u64 {
    (percent * 10.0).clamp(0.0, 1000.0) as u64
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants of this file; a broken one shows as the default style.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
        .tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
}
