//! Hosts that answer from a script and remember what they were sent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use provision::identity::Identities;
use provision::inventory::Member;
use provision::plan::Selection;
use provision::protocol::{Facts, Failure, Outcome, Owed, Progress, Step};
use provision::report::{Event, Human, Mask, Report, Sink};
use provision::runner::{self, Connect, Host, Lost, Options, Stop};

use crate::project::Project;

/// What a host answers to a step.
pub(crate) type Script = dyn Fn(&str, &Step) -> Result<Outcome, Lost> + Send + Sync;

/// A pair of scripted hosts and all that a run on them showed.
#[derive(Clone)]
pub(crate) struct Pair {
    script: Arc<Script>,
    unreachable: Vec<String>,
    names: BTreeMap<String, String>,
    releases: BTreeMap<String, String>,
    steps: Arc<Mutex<Vec<(String, Step)>>>,
    /// What each host owes, also from run to run.
    owed: Arc<Mutex<BTreeMap<String, BTreeSet<Owed>>>>,
    stop: Stop,
}

/// What came out of a run.
pub(crate) struct Ran {
    pub(crate) exit_code: u8,
    pub(crate) steps: Vec<(String, Step)>,
    pub(crate) events: Vec<Event>,
    pub(crate) text: String,
}

pub(crate) struct Scripted {
    name: String,
    facts: Facts,
    owed: BTreeSet<Owed>,
    pair: Pair,
}

/// A step that changed something.
pub(crate) fn changed() -> Outcome {
    Outcome { changed: true, message: "did it".into(), ..Outcome::default() }
}

/// A step that failed.
pub(crate) fn failed(message: &str) -> Outcome {
    let failure =
        Failure { message: message.into(), output: "last words\n".into(), hint: Some("look there".into()) };
    Outcome { failure: Some(failure), ..Outcome::default() }
}

impl Pair {
    pub(crate) fn new(script: impl Fn(&str, &Step) -> Result<Outcome, Lost> + Send + Sync + 'static) -> Self {
        Self {
            script: Arc::new(script),
            unreachable: Vec::new(),
            names: BTreeMap::new(),
            releases: BTreeMap::new(),
            steps: Arc::default(),
            owed: Arc::default(),
            stop: Stop::default(),
        }
    }

    pub(crate) fn without(mut self, host: &str) -> Self {
        self.unreachable.push(host.into());
        self
    }

    pub(crate) fn calling_itself(mut self, host: &str, name: &str) -> Self {
        self.names.insert(host.into(), name.into());
        self
    }

    /// With this `VERSION_ID`.
    pub(crate) fn on_release(mut self, host: &str, version: &str) -> Self {
        self.releases.insert(host.into(), version.into());
        self
    }

    pub(crate) fn stopping_with(mut self, stop: Stop) -> Self {
        self.stop = stop;
        self
    }

    /// What follows is another run.
    pub(crate) fn forget_steps(&self) {
        self.steps.lock().unwrap().clear();
    }

    /// Plans and runs the project's playbook.
    pub(crate) fn run(&self, project: &Project, options: Options, selection: &Selection) -> Ran {
        let (mut inventory, plan) = project.plan(selection).unwrap();
        if !options.check {
            inventory.identities = Some(Identities::provide(&inventory, SystemTime::now()).unwrap());
        }
        let (events, text) = (Collected::default(), Shared::default());
        let sinks: Vec<Box<dyn Sink>> =
            vec![Box::new(events.clone()), Box::new(Human::to(Box::new(text.clone())))];
        let report = Arc::new(Report::new(sinks, Mask::new(inventory.hidden())));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connect = Arc::new(self.clone());
        let run =
            runner::run(&inventory, plan, project.assets(), connect, report, options, self.stop.clone());
        let exit_code = runtime.block_on(run);
        let text = String::from_utf8(text.0.lock().unwrap().clone()).unwrap();
        let events = events.0.lock().unwrap().clone();
        Ran { exit_code, steps: self.steps.lock().unwrap().clone(), events, text }
    }
}

impl Ran {
    /// `host module` of each step, in order.
    pub(crate) fn order(&self) -> Vec<String> {
        self.steps.iter().map(|(host, step)| format!("{host} {}", words(step))).collect()
    }

    /// The lines of the recap.
    pub(crate) fn recap(&self) -> Vec<&str> {
        self.text.lines().filter(|line| line.contains(" : ok=")).collect()
    }
}

fn words(step: &Step) -> String {
    step.args.get("line").and_then(|l| l.as_str()).unwrap_or(&step.module).to_owned()
}

impl Connect for Pair {
    type Host = Scripted;

    async fn connect(&self, member: &Member) -> Result<Scripted, Lost> {
        if self.unreachable.contains(&member.name) {
            return Err(Lost {
                message: format!("connect to {}: no answer", member.name),
                unreachable: true,
            });
        }
        let hostname = self.names.get(&member.name).unwrap_or(&member.fqdn).clone();
        let owed = self.owed.lock().unwrap().get(&member.name).cloned().unwrap_or_default();
        let facts = Facts {
            hostname,
            family: "debian".into(),
            distribution: "debian".into(),
            distribution_version: self.releases.get(&member.name).cloned().unwrap_or_default(),
            ..Facts::default()
        };
        Ok(Scripted { name: member.name.clone(), facts, owed, pair: self.clone() })
    }
}

impl Host for Scripted {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    async fn run(
        &mut self,
        step: &Step,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Outcome, Lost> {
        self.pair.steps.lock().unwrap().push((self.name.clone(), step.clone()));
        progress(Progress { message: "half".into(), percent: Some(50.0), eta_seconds: Some(1) });
        // Lets the other host have its turn, as a real wait would.
        tokio::task::yield_now().await;
        let result = (self.pair.script)(&self.name, step);
        if !step.check && result.as_ref().is_ok_and(|outcome| outcome.changed) {
            let mut owed = self.pair.owed.lock().unwrap();
            owed.entry(self.name.clone()).or_default().extend(step.notify.clone());
        }
        result
    }

    fn owed(&self) -> &BTreeSet<Owed> {
        &self.owed
    }

    async fn owe(&mut self, handlers: BTreeSet<Owed>) -> Result<Outcome, Lost> {
        self.pair.owed.lock().unwrap().insert(self.name.clone(), handlers);
        Ok(Outcome::default())
    }

    async fn close(self) {}
}

#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<Event>>>);

impl Sink for Collected {
    fn event(&mut self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Options of a real run, as the command line gives them.
pub(crate) fn apply() -> Options {
    Options {
        playbook: PathBuf::from("site").display().to_string(),
        command: "futago apply -i ha.yml".into(),
        ..Options::default()
    }
}

/// Options of a plan.
pub(crate) fn check() -> Options {
    Options { check: true, diff: true, ..apply() }
}
