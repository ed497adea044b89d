//! One resource or two under the real agents, and what they say.

use std::process::Command;
use std::time::Duration;

use cluster::config::{Class, Resource, ResourceId};
use cluster::event::{AgentOutcome, AgentResult, Running, Verb};
use cluster::timing::Timing;
use clusterd::agent::{Agents, Changed};
use tokio::sync::mpsc;

/// The longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether this is the inner run, in a host.
pub(super) fn inside() -> bool {
    std::env::var_os("FUTAGO_INSIDE").is_some()
}

/// Agents of some resources.
pub(super) struct Rig {
    pub(super) agents: Agents,
    changes: mpsc::Receiver<Changed>,
}

impl Rig {
    pub(super) async fn of(classes: Vec<Class>) -> Self {
        let resources: Vec<Resource> =
            classes.into_iter().enumerate().map(|(index, class)| resource(index, class)).collect();
        let (changed, changes) = mpsc::channel(64);
        let timing = Timing::derive(Timing::FAST_MS, 600_000).expect("timing");
        let agents = Agents::new(&resources, "ha-a.example.com", timing, changed).await.expect("agents");
        Self { agents, changes }
    }

    pub(super) async fn perform_on(&self, index: usize, verb: Verb, seconds: u64) -> AgentOutcome {
        let work = self.agents.perform(ResourceId(index), verb, Duration::from_secs(seconds));
        tokio::time::timeout(PATIENCE, work).await.expect("an operation ends by itself")
    }

    pub(super) async fn perform(&self, verb: Verb) -> AgentOutcome {
        self.perform_on(0, verb, 60).await
    }

    /// Performs it on the first resource; it must end so.
    pub(super) async fn expect(&self, verb: Verb, result: AgentResult) -> AgentOutcome {
        let outcome = self.perform(verb).await;
        assert_eq!(outcome.result, result, "{verb:?}: {}", outcome.reason);
        outcome
    }

    /// The next thing that happens by itself must be this.
    pub(super) async fn expect_change(&mut self, state: Running) -> String {
        let next = tokio::time::timeout(PATIENCE, self.changes.recv()).await;
        let changed = next.expect("a change is told").expect("the agents live");
        assert_eq!(changed.state, state, "{}", changed.reason);
        changed.reason
    }

    /// Nothing else has been told so far.
    pub(super) fn expect_silence(&mut self) {
        assert_eq!(self.changes.try_recv().ok(), None);
    }
}

fn resource(index: usize, class: Class) -> Resource {
    Resource {
        name: format!("res{index}"),
        class,
        after: Vec::new(),
        start_timeout_ms: 60_000,
        stop_timeout_ms: 60_000,
        monitor_interval_ms: 10_000,
        monitor_timeout_ms: 30_000,
        monitor_failures: 1,
        restarts: 0,
        restart_dependents: false,
    }
}

/// A shell script that must succeed; its output.
pub(super) fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().expect("start sh");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {}\n{error}", output.status);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Something that gives no event.
pub(super) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waited = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waited).await.is_ok(), "not in time: {what}");
}
