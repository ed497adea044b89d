//! Tells people: every alert goes to every hook, a program or a web address.
//!
//! Nothing here can hold the manager up: each hook has a queue of its own, which drops the oldest when it is full
//! and says how many; a hook that hangs is killed. The same alert twice within a short time is sent once.

mod exec;
mod queue;
mod webhook;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cluster::event::LogLevel;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use self::queue::Queue;
use crate::config::Hook;

/// The same kind and text within this time is sent once: what flaps is told once a minute.
const SAME_WITHIN: Duration = Duration::from_secs(60);
/// How long hooks may go on when the manager ends: the last alert tells why.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Longest that one delivery may take.
const HOOK_TIMEOUT: Duration = Duration::from_secs(20);

/// Something that people are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alert {
    /// How much it matters.
    pub(crate) level: LogLevel,
    /// What kind: `failover`, `resource-failed`, `degraded`, `protected`, `held` …
    pub(crate) kind: String,
    /// The sentence.
    pub(crate) text: String,
}

/// Who tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Name of the cluster.
    pub(crate) cluster: String,
    /// Host name of this node.
    pub(crate) node: String,
}

/// An alert on its way to one hook.
#[derive(Clone, Debug)]
struct Letter {
    alert: Alert,
    at: SystemTime,
    /// Counts the alerts of this run of the manager.
    sequence: u64,
    /// Alerts to this hook before it that were dropped.
    dropped: u64,
}

/// Takes alerts until nobody can send any, and delivers them.
pub(crate) async fn run(origin: Origin, hooks: Vec<Hook>, mut alerts: mpsc::Receiver<Alert>) {
    let origin = Arc::new(origin);
    let mut workers = JoinSet::new();
    let mut queues = Vec::new();
    for hook in hooks {
        let queue = Arc::new(Queue::default());
        queues.push(Arc::clone(&queue));
        workers.spawn(work(Arc::clone(&origin), hook, queue));
    }
    let mut sent: BTreeMap<(String, String), Instant> = BTreeMap::new();
    let mut sequence = 0;
    while let Some(alert) = alerts.recv().await {
        let now = Instant::now();
        sent.retain(|_, at| now.duration_since(*at) < SAME_WITHIN);
        let key = (alert.kind.clone(), alert.text.clone());
        if sent.contains_key(&key) {
            continue;
        }
        sent.insert(key, now);
        sequence += 1;
        for queue in &queues {
            queue.put(Letter { alert: alert.clone(), at: SystemTime::now(), sequence, dropped: 0 });
        }
    }
    queues.iter().for_each(|queue| queue.close());
    if timeout(LAST_WORDS, workers.join_all()).await.is_err() {
        tracing::warn!("alert hooks are still at work after {} s; ending without them", LAST_WORDS.as_secs());
    }
}

async fn work(origin: Arc<Origin>, hook: Hook, queue: Arc<Queue>) {
    while let Some(letter) = queue.take().await {
        if letter.dropped > 0 {
            tracing::warn!("{} alerts were not sent to {}: it is too slow", letter.dropped, name(&hook));
        }
        let result = match &hook {
            Hook::Exec(program) => exec::deliver(program, &origin, &letter, HOOK_TIMEOUT).await,
            Hook::Webhook(url) => webhook::deliver(url, &origin, &letter, HOOK_TIMEOUT).await,
        };
        if let Err(text) = result {
            tracing::warn!("alert `{}` to {}: {text}", letter.alert.kind, name(&hook));
        }
    }
}

/// Without what stands after the host of a web address: it may be a secret.
fn name(hook: &Hook) -> String {
    match hook {
        Hook::Exec(program) => program.display().to_string(),
        Hook::Webhook(url) => {
            let host = url.split("://").nth(1).unwrap_or(url).split('/').next().unwrap_or_default();
            format!("the web hook at {}", host.rsplit('@').next().unwrap_or(host))
        }
    }
}

const fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warning",
        LogLevel::Info => "info",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};

    fn alert(kind: &str, text: &str) -> Alert {
        Alert { level: LogLevel::Warn, kind: kind.to_owned(), text: text.to_owned() }
    }

    fn origin() -> Origin {
        Origin { cluster: "ha.example.com".to_owned(), node: "ha-a.example.com".to_owned() }
    }

    fn script(folder: &Path, body: &str) -> PathBuf {
        let path = folder.join("hook");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    async fn send(hooks: Vec<Hook>, list: &[Alert]) {
        let (sender, receiver) = mpsc::channel(16);
        let task = tokio::spawn(run(origin(), hooks, receiver));
        for alert in list {
            sender.send(alert.clone()).await.unwrap();
        }
        drop(sender);
        timeout(Duration::from_secs(60), task).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_program_learns_everything_in_both_vocabularies() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let body = format!("env | grep -E '^(FUTAGO|CRM)_' | sort > {}", out.display());
        let hook = Hook::Exec(script(folder.path(), &body));
        send(vec![hook], &[alert("failover", "the stack moves to ha-b: ha-a is silent")]).await;
        let said = std::fs::read_to_string(out).unwrap();
        for line in [
            "FUTAGO_CLUSTER=ha.example.com",
            "FUTAGO_DROPPED=0",
            "FUTAGO_KIND=failover",
            "FUTAGO_LEVEL=warning",
            "FUTAGO_NODE=ha-a.example.com",
            "FUTAGO_TEXT=the stack moves to ha-b: ha-a is silent",
            "CRM_alert_kind=node",
            "CRM_alert_node=ha-a.example.com",
            "CRM_alert_desc=the stack moves to ha-b: ha-a is silent",
            "CRM_alert_node_sequence=1",
        ] {
            assert!(said.lines().any(|l| l == line), "{line} is not in:\n{said}");
        }
        assert!(said.contains("CRM_alert_timestamp=20"), "{said}");
    }

    #[tokio::test]
    async fn the_same_alert_within_a_minute_is_sent_once() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let hook = Hook::Exec(script(folder.path(), &format!("echo $FUTAGO_TEXT >> {}", out.display())));
        let list = [alert("held", "one"), alert("held", "one"), alert("held", "two"), alert("down", "one")];
        send(vec![hook], &list).await;
        assert_eq!(std::fs::read_to_string(out).unwrap(), "one\ntwo\none\n");
    }

    #[tokio::test]
    async fn a_hook_that_fails_keeps_no_other_from_being_told() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let good = Hook::Exec(script(folder.path(), &format!("echo $FUTAGO_KIND >> {}", out.display())));
        let missing = Hook::Exec(folder.path().join("missing"));
        let refused = Hook::Webhook("http://127.0.0.1:9/x".to_owned());
        send(vec![missing, refused, good], &[alert("down", "x")]).await;
        assert_eq!(std::fs::read_to_string(out).unwrap(), "down\n");
    }

    #[test]
    fn no_log_line_tells_the_secret_part_of_a_web_address() {
        let hook = Hook::Webhook("http://user:pass@hooks.example.com/T0KEN".to_owned());
        assert_eq!(name(&hook), "the web hook at hooks.example.com");
    }
}
