//! Switches a host off through an agent of the fence-agents API, and believes only what it has seen.
//!
//! A timeout is a failure. "off" is proven by a later `status`, never by the exit code of `off`, and never by a
//! reboot, which is a success of half its work. Parameters go to the agent's input only: they hold passwords.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::agent::{Finished, Run, RunError};

/// Attempts to switch off, as in Pacemaker: a second one helps against a busy management board.
const TRIES: u32 = 2;
/// A second attempt is only begun while less than this part of the timeout is used.
const RETRY_BEFORE: f32 = 0.7;
/// Between two questions whether it is off: boards need some seconds.
const STATUS_EVERY: Duration = Duration::from_millis(500);
/// Printing its own description takes an agent less than a second, mostly for loading Python.
const DESCRIBE: Duration = Duration::from_secs(10);

/// A way to switch a host off.
#[derive(Clone, PartialEq, Eq)]
pub struct Device {
    /// Name of the agent, `fence_ipmilan`, or a path to one.
    pub agent: String,
    /// Its parameters. They hold secrets.
    pub params: BTreeMap<String, String>,
    /// Longest it may all take, the verification included.
    pub timeout: Duration,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.params.keys().collect();
        f.debug_struct("Device").field("agent", &self.agent).field("params", &names).finish_non_exhaustive()
    }
}

/// Switches `target` off. `Ok` only when the device was seen to be off; the error says what was in the way.
///
/// One device does one thing at a time; waiting for it counts into its timeout.
pub async fn fence(device: &Device, target: &str) -> Result<(), String> {
    let begun = Instant::now();
    let deadline = begun + device.timeout;
    let alone = turn(device);
    let _turn = timeout_at(deadline, alone.lock())
        .await
        .map_err(|_| format!("fence {target}: {} was busy with something else for too long", device.agent))?;
    let session = Session { device, target, program: program(&device.agent)?, plug: None };
    let session = session.described(deadline).await?;
    let mut problem = String::new();
    for attempt in 1..=TRIES {
        if attempt > 1 && begun.elapsed() >= device.timeout.mul_f32(RETRY_BEFORE) {
            break;
        }
        match session.off(deadline).await {
            Ok(()) => return Ok(()),
            Err(text) => {
                tracing::warn!("attempt {attempt} to fence {target}: {text}");
                problem = text;
            }
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    Err(format!("fence {target} with {}: {problem}; it is NOT known to be off", device.agent))
}

/// One fencing of one host.
struct Session<'a> {
    device: &'a Device,
    target: &'a str,
    program: PathBuf,
    /// The parameter that names the target, if the agent has one and the configuration does not give it.
    plug: Option<&'static str>,
}

/// What a device says.
enum Power {
    On,
    Off,
}

impl Session<'_> {
    /// Asks the agent by which parameter the target is named.
    async fn described(mut self, deadline: Instant) -> Result<Self, String> {
        if self.device.params.contains_key("port") || self.device.params.contains_key("plug") {
            return Ok(self);
        }
        let deadline = deadline.min(Instant::now() + DESCRIBE);
        let said = Run::new(&self.program).input(b"action=metadata\n".to_vec()).until(deadline).await;
        let said = said.map_err(|error| format!("ask {} what it can do: {error}", self.device.agent))?;
        let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
        let document = roxmltree::Document::parse_with_options(said.stdout.trim_start(), options);
        let document = document.map_err(|error| {
            format!("ask {} what it can do: its metadata is not XML: {error}", self.device.agent)
        })?;
        let has = |name: &str| {
            let mut nodes = document.descendants().filter(|node| node.has_tag_name("parameter"));
            nodes.any(|node| node.attribute("name") == Some(name))
        };
        self.plug = ["port", "plug"].into_iter().find(|name| has(name));
        Ok(self)
    }

    async fn off(&self, deadline: Instant) -> Result<(), String> {
        let switched = self.call("off", deadline).await?;
        let switched_off = switched.code() == Some(0);
        if !switched_off {
            let reason = self.scrubbed(&switched.reason());
            tracing::warn!("{} could not switch {} off: {reason}", self.device.agent, self.target);
        }
        loop {
            let problem = match self.power(deadline).await {
                Ok(Power::Off) => return Ok(()),
                Ok(Power::On) => "the device says that it is still on".to_owned(),
                Err(problem) => problem,
            };
            let next = Instant::now() + STATUS_EVERY;
            // After a refused `off` it will not go off by itself.
            if next >= deadline || !switched_off {
                let off = if switched_off { "off was said to be done" } else { "off failed" };
                return Err(format!("{off}, and {problem}"));
            }
            sleep_until(next).await;
        }
    }

    async fn power(&self, deadline: Instant) -> Result<Power, String> {
        let status = self.call("status", deadline).await?;
        match status.code() {
            Some(0) => Ok(Power::On),
            Some(2) => Ok(Power::Off),
            _ => Err(format!("its status cannot be read: {}", self.scrubbed(&status.reason()))),
        }
    }

    async fn call(&self, action: &str, deadline: Instant) -> Result<Finished, String> {
        let input = self.input(action)?;
        Run::new(&self.program).input(input).until(deadline).await.map_err(|error| match error {
            RunError::Start { .. } => format!("{error}; install the package fence-agents"),
            _ => format!("{action}: {}", self.scrubbed(&error.to_string())),
        })
    }

    /// One `name=value` a line. The last of equal names wins, so ours come last.
    fn input(&self, action: &str) -> Result<Vec<u8>, String> {
        let mut text = String::new();
        for (name, value) in &self.device.params {
            if name.starts_with("pcmk_") || name == "action" || name == "nodename" {
                continue;
            }
            if [name, value].iter().any(|part| part.contains(['\n', '\r'])) || name.contains('=') {
                return Err(format!(
                    "the parameter `{name}` has a line break or an equals sign where none may be"
                ));
            }
            text.push_str(&format!("{name}={value}\n"));
        }
        if let Some(plug) = self.plug {
            text.push_str(&format!("{plug}={}\n", self.target));
        }
        text.push_str(&format!("nodename={}\naction={action}\n", self.target));
        Ok(text.into_bytes())
    }

    /// What an agent says, without the secrets it may repeat.
    fn scrubbed(&self, text: &str) -> String {
        let secret = |name: &str| ["pass", "secret", "token", "key"].iter().any(|word| name.contains(word));
        let secrets = self.device.params.iter().filter(|(name, value)| secret(name) && !value.is_empty());
        secrets.fold(text.to_owned(), |text, (_, value)| text.replace(value.as_str(), "***"))
    }
}

fn program(agent: &str) -> Result<PathBuf, String> {
    let path = Path::new(agent);
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    if agent.contains('/') {
        return Err(format!("the fence agent `{agent}` is neither a name nor an absolute path"));
    }
    Ok(Path::new("/usr/sbin").join(agent))
}

/// The lock of a device. There are as many as the configuration has devices.
fn turn(device: &Device) -> Arc<tokio::sync::Mutex<()>> {
    type Turns = Vec<(Device, Arc<tokio::sync::Mutex<()>>)>;
    static TURNS: Mutex<Turns> = Mutex::new(Vec::new());
    let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, turn)) = turns.iter().find(|(known, _)| known == device) {
        return Arc::clone(turn);
    }
    let turn = Arc::default();
    turns.push((device.clone(), Arc::clone(&turn)));
    turn
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
