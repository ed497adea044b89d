//! `ocf:PROVIDER:TYPE`: agents of the resource agent API 1.1, called as Pacemaker calls them, without Pacemaker.
//!
//! An agent that knows roles is started and looked at in its unpromoted one only: what is promoted here is the
//! replicated device. What an agent leaves running lives in a control group of its own, below ours, where that is
//! possible, so that all of it can be killed.

mod metadata;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster::config::Resource;
use cluster::event::{AgentOutcome, AgentResult, Verb};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::child::{Finished, Run, RunError, last_line};
use super::outcome;
use metadata::Metadata;

const ROOT: &str = "/usr/lib/ocf";
/// Where agents keep process numbers and state (`HA_RSCTMP`); as Debian's package makes it.
const TEMPORARY: &str = "/run/resource-agents";
const PREFIX: &str = "ocf-exit-reason:";
/// Printing its own description takes an agent some hundredths of a second.
const DESCRIBE: Duration = Duration::from_secs(10);
/// What agents compare with to know what the manager can do: Pacemaker 2.1's.
const FEATURES: &str = "3.10.0";

/// A resource that an agent works on.
pub(super) struct Ocf {
    name: String,
    provider: String,
    kind: String,
    params: BTreeMap<String, String>,
    check_level: u32,
    node: String,
    resource: Resource,
    /// Why the agent cannot be used with these parameters; found out once.
    problem: OnceCell<Option<String>>,
    /// Known to run: a look is then one of the regular ones, and no probe.
    runs: AtomicBool,
    group: Option<PathBuf>,
}

impl Ocf {
    pub(super) async fn new(
        resource: &Resource,
        provider: &str,
        kind: &str,
        params: &BTreeMap<String, String>,
        check_level: u32,
        node: &str,
    ) -> Self {
        let ocf = Self {
            name: resource.name.clone(),
            provider: provider.to_owned(),
            kind: kind.to_owned(),
            params: params.clone(),
            check_level,
            node: node.to_owned(),
            resource: resource.clone(),
            problem: OnceCell::new(),
            runs: AtomicBool::new(false),
            group: own_group().map(|own| own.join(format!("ocf-{}", resource.name))),
        };
        // Takes some 100 ms, which no start shall wait for.
        ocf.problem().await;
        ocf
    }

    /// What keeps the agent from being used, if anything does.
    pub(super) async fn problem(&self) -> Option<String> {
        let program = self.program();
        if !program.exists() {
            return Some(format!(
                "there is no agent {}: install the package that has it, mostly resource-agents",
                program.display()
            ));
        }
        self.problem.get_or_init(|| self.check_parameters()).await.clone()
    }

    async fn check_parameters(&self) -> Option<String> {
        if let Err(error) = prepare_temporary() {
            tracing::warn!("create {TEMPORARY} for agents: {error}");
        }
        let run = self.run("meta-data", Duration::ZERO, DESCRIBE);
        let described = run.until(Instant::now() + DESCRIBE).await;
        let metadata = match described {
            Ok(finished) => Metadata::parse(&finished.stdout),
            Err(error) => Err(error.to_string()),
        };
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(error) => {
                tracing::warn!(
                    "{}: the agent does not describe itself, its parameters stay unchecked: {error}",
                    self.name
                );
                return None;
            }
        };
        for name in self.params.keys().filter(|name| !metadata.knows(name)) {
            tracing::warn!("{}: ocf:{}:{} has no parameter `{name}`", self.name, self.provider, self.kind);
        }
        let configured = [
            ("start", self.resource.start_timeout_ms),
            ("stop", self.resource.stop_timeout_ms),
            ("monitor", self.resource.monitor_timeout_ms),
        ];
        for (action, ours) in configured {
            if let Some(advised) = metadata.timeout_ms(action).filter(|advised| ours < *advised) {
                tracing::warn!(
                    "{}: {action}_timeout is {} s, its agent advises {} s",
                    self.name,
                    ours / 1000,
                    advised / 1000
                );
            }
        }
        let missing: Vec<&str> =
            metadata.required().filter(|name| !self.params.contains_key(*name)).collect();
        (!missing.is_empty()).then(|| {
            format!("ocf:{}:{} needs the parameters {}", self.provider, self.kind, missing.join(", "))
        })
    }

    pub(super) async fn perform(&self, verb: Verb, deadline: Instant) -> AgentOutcome {
        if let Some(problem) = self.problem().await {
            // Without an agent, nothing of it runs.
            let result = if verb == Verb::Stop { AgentResult::Ok } else { AgentResult::NotHere };
            return outcome(result, problem);
        }
        let action = match verb {
            Verb::Start => "start",
            Verb::Stop | Verb::Kill => "stop",
            Verb::Monitor => "monitor",
        };
        if verb == Verb::Kill {
            self.kill_group();
        }
        let timeout = deadline.saturating_duration_since(Instant::now());
        let regular = verb == Verb::Monitor && self.runs.load(Ordering::Relaxed);
        let interval =
            Duration::from_millis(if regular { self.resource.monitor_interval_ms.max(1) } else { 0 });
        let done = match self.run(action, interval, timeout).until(deadline).await {
            Ok(finished) => conclude(verb, &finished),
            Err(error @ RunError::Start { .. }) => outcome(AgentResult::NotHere, error.to_string()),
            Err(error) => {
                if verb == Verb::Start {
                    self.kill_group();
                }
                outcome(AgentResult::TimedOut, format!("{action} of {error}"))
            }
        };
        let ok = done.result == AgentResult::Ok;
        match verb {
            Verb::Start | Verb::Monitor => self.runs.store(ok, Ordering::Relaxed),
            Verb::Stop | Verb::Kill => self.runs.store(false, Ordering::Relaxed),
        }
        done
    }

    fn program(&self) -> PathBuf {
        Path::new(ROOT).join("resource.d").join(&self.provider).join(&self.kind)
    }

    fn run(&self, action: &str, interval: Duration, timeout: Duration) -> Run {
        let environment = self.environment(action, interval, timeout);
        let program = self.program();
        let Some(group) = self.group.as_ref().filter(|group| std::fs::create_dir_all(group).is_ok()) else {
            return Run::new(program).args([action]).environment(environment);
        };
        // The shell puts itself there and becomes the agent; there is no moment in which it is outside.
        const ENTER: &str = "echo 0 > \"$1/cgroup.procs\"; shift; exec \"$@\"";
        let words = ["-c".into(), ENTER.into(), "sh".into(), group.clone(), program, action.into()];
        Run::new("/bin/sh").args(words).environment(environment)
    }

    fn environment(&self, action: &str, interval: Duration, timeout: Duration) -> Vec<(String, String)> {
        let meta = |name: &str| format!("OCF_RESKEY_CRM_meta_{name}");
        let mut all: Vec<(String, String)> = [
            ("OCF_ROOT", ROOT),
            ("OCF_RA_VERSION_MAJOR", "1"),
            ("OCF_RA_VERSION_MINOR", "1"),
            ("OCF_RESOURCE_INSTANCE", &self.name),
            ("OCF_RESOURCE_TYPE", &self.kind),
            ("OCF_RESOURCE_PROVIDER", &self.provider),
            ("OCF_EXIT_REASON_PREFIX", PREFIX),
            ("OCF_RESKEY_crm_feature_set", FEATURES),
            ("HA_RSCTMP", TEMPORARY),
            ("HA_LOGFACILITY", "daemon"),
            ("HA_debug", "0"),
            ("PCMK_logfacility", "daemon"),
            ("PCMK_service", "futago-clusterd"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        all.push((meta("interval"), interval.as_millis().to_string()));
        all.push((meta("timeout"), timeout.as_millis().to_string()));
        all.push((meta("name"), action.to_owned()));
        all.push((meta("on_node"), self.node.clone()));
        if !interval.is_zero() {
            all.push(("OCF_CHECK_LEVEL".to_owned(), self.check_level.to_string()));
        }
        all.extend(self.params.iter().map(|(name, value)| (format!("OCF_RESKEY_{name}"), value.clone())));
        all
    }

    /// Kills whatever the agent has started and left running.
    fn kill_group(&self) {
        if let Some(group) = self.group.as_ref().filter(|group| group.exists())
            && let Err(error) = std::fs::write(group.join("cgroup.kill"), "1")
        {
            tracing::warn!("{}: kill its control group: {error}", self.name);
        }
    }
}

/// Exit codes of the API, by what follows from them.
fn conclude(verb: Verb, finished: &Finished) -> AgentOutcome {
    let result = match (finished.code(), verb) {
        (Some(0 | 190), _) | (Some(8), Verb::Monitor) | (Some(7), Verb::Stop | Verb::Kill) => AgentResult::Ok,
        (Some(7), Verb::Monitor) => AgentResult::NotRunning,
        (Some(2..=5), _) => AgentResult::NotHere,
        (Some(6), _) => AgentResult::Nowhere,
        _ => AgentResult::Failed,
    };
    let told = finished.stderr.lines().rev().find_map(|line| line.trim().strip_prefix(PREFIX));
    let reason = match (told.map(str::trim).filter(|told| !told.is_empty()), finished.code()) {
        (Some(told), _) => told.to_owned(),
        (None, Some(190)) => "the agent says that it works, but degraded".to_owned(),
        (None, Some(0 | 7 | 8)) => String::new(),
        (None, _) => {
            let words = last_line(&finished.stderr).map(|line| format!(": {line}")).unwrap_or_default();
            format!("the agent ended with {}{words}", finished.status)
        }
    };
    outcome(result, reason)
}

/// Our own control group, in the unified hierarchy; only a service has one to divide.
fn own_group() -> Option<PathBuf> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let hierarchies = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    let found = hierarchies
        .iter()
        .map(|root| Path::new(root).join(path))
        .find(|group| group.join("cgroup.procs").exists())?;
    path.ends_with(".service").then_some(found)
}

fn prepare_temporary() -> std::io::Result<()> {
    std::fs::create_dir_all(TEMPORARY)?;
    std::fs::set_permissions(TEMPORARY, std::fs::Permissions::from_mode(0o1755))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn ended(verb: Verb, code: i32, stderr: &str) -> AgentOutcome {
        let status = ExitStatus::from_raw(code << 8);
        conclude(verb, &Finished { status, stdout: String::new(), stderr: stderr.to_owned() })
    }

    #[test]
    fn exit_codes_mean_what_the_api_says() {
        use AgentResult::{Failed, NotHere, NotRunning, Nowhere, Ok};
        let monitor =
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 190, 191, 77].map(|code| ended(Verb::Monitor, code, "").result);
        let expected = [
            Ok, Failed, NotHere, NotHere, NotHere, NotHere, Nowhere, NotRunning, Ok, Failed, Ok, Failed,
            Failed,
        ];
        assert_eq!(monitor, expected);
        assert_eq!(ended(Verb::Stop, 7, "").result, Ok);
        assert_eq!(ended(Verb::Start, 7, "").result, Failed);
    }

    #[test]
    fn the_last_exit_reason_is_told() {
        let told =
            ended(Verb::Start, 1, "ocf-exit-reason:first\nnoise\nocf-exit-reason:no such nic eth9\nmore\n");
        assert_eq!(told.reason, "no such nic eth9");
        let silent = ended(Verb::Start, 1, "something broke\n");
        assert_eq!(silent.reason, "the agent ended with exit status: 1: something broke");
    }
}
