//! The hook that is a program. It is told by its environment, in our words and in Pacemaker's, so that alert
//! scripts written for Pacemaker work: those variables that make sense without Pacemaker's operations.
//!
//! | variable | is |
//! |---|---|
//! | FUTAGO_CLUSTER, FUTAGO_NODE | name of the cluster, host name of who tells |
//! | FUTAGO_KIND | `failover`, `resource-failed`, `degraded`, `protected`, `held`, … |
//! | FUTAGO_LEVEL | `error`: a person must act; `warning`; `info` |
//! | FUTAGO_TEXT | the sentence |
//! | FUTAGO_TIME | RFC 3339, UTC |
//! | FUTAGO_DROPPED | alerts before this one that this hook was too slow for |
//! | CRM_alert_kind, _desc, _node, _node_sequence, _timestamp, _timestamp_epoch, _timestamp_usec, _version | as Pacemaker Explained, "Alerts", says; the kind is `node` or `fencing` |

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, UNIX_EPOCH};

use base::time::rfc3339;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;
use tokio::time::timeout;

use super::{Letter, Origin, level};

/// The version of Pacemaker whose variables these are; its sample scripts refuse to run without one.
const CRM_VERSION: &str = "2.1.0";

/// Runs the program to its end; it and what it started are killed when it takes too long.
pub(super) async fn deliver(
    program: &Path,
    origin: &Origin,
    letter: &Letter,
    longest: Duration,
) -> Result<(), String> {
    let mut command = Command::new(program);
    command.envs(environment(origin, letter)).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("start it: {error}"))?;
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    match timeout(longest, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("it ended with {status}")),
        Ok(Err(error)) => Err(format!("wait for its end: {error}")),
        Err(_) => {
            if let Some(group) = group {
                // It may have ended just now.
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait().await;
            Err(format!("it hung for {} s and was killed", longest.as_secs()))
        }
    }
}

fn environment(origin: &Origin, letter: &Letter) -> Vec<(&'static str, String)> {
    let since = letter.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = rfc3339(letter.at);
    let kind = if letter.alert.kind.starts_with("fenc") { "fencing" } else { "node" };
    vec![
        ("FUTAGO_CLUSTER", origin.cluster.clone()),
        ("FUTAGO_NODE", origin.node.clone()),
        ("FUTAGO_KIND", letter.alert.kind.clone()),
        ("FUTAGO_LEVEL", level(letter.alert.level).to_owned()),
        ("FUTAGO_TEXT", letter.alert.text.clone()),
        ("FUTAGO_TIME", time.clone()),
        ("FUTAGO_DROPPED", letter.dropped.to_string()),
        ("CRM_alert_kind", kind.to_owned()),
        ("CRM_alert_desc", letter.alert.text.clone()),
        ("CRM_alert_node", origin.node.clone()),
        ("CRM_alert_node_sequence", letter.sequence.to_string()),
        ("CRM_alert_timestamp", time),
        ("CRM_alert_timestamp_epoch", since.as_secs().to_string()),
        ("CRM_alert_timestamp_usec", since.subsec_micros().to_string()),
        ("CRM_alert_version", CRM_VERSION.to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::Alert;
    use super::*;
    use cluster::event::LogLevel;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::SystemTime;

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_with_all_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let (path, id) = (folder.path().join("hook"), folder.path().join("id"));
        let body = format!("#!/bin/sh\nsleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait\n", id.display());
        std::fs::write(&path, body).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let alert = Alert { level: LogLevel::Info, kind: "down".to_owned(), text: String::new() };
        let letter = Letter { alert, at: SystemTime::now(), sequence: 1, dropped: 0 };
        let origin = Origin { cluster: "c".to_owned(), node: "n".to_owned() };
        let error = deliver(&path, &origin, &letter, Duration::from_secs(2)).await.unwrap_err();
        assert!(error.contains("was killed"), "{error}");
        let child: u32 = std::fs::read_to_string(id).unwrap().trim().parse().unwrap();
        let dead = || {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        for _ in 0..500 {
            if dead() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("what the program started still runs");
    }
}
