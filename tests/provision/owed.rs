//! Handlers that a run owes are run by the next one: what a failure, a lost host or a second task in between has left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use provision::plan::Selection;
use provision::protocol::{Outcome, Step};
use provision::runner::{Lost, exit};

use crate::project::Project;
use crate::scripted::{Pair, Ran, apply, changed, check, failed};

const PLAYBOOK: &str = "\
- name: Web
  hosts: pair
  tasks:
  - {command: one, notify: Restart}
  - command: two
  handlers:
  - {name: Restart, command: restart}
";

/// Hosts on which the first task changes something once, and the second one fails until it is mended.
struct Broken {
    pair: Pair,
    project: Project,
    is_mended: Arc<AtomicBool>,
}

impl Broken {
    fn new(playbook: &str, second: fn() -> Result<Outcome, Lost>) -> Self {
        let is_mended = Arc::new(AtomicBool::new(false));
        let mended = is_mended.clone();
        let pair = Pair::new(move |_, step| match (mended.load(Ordering::SeqCst), line(step)) {
            (false, "one") => Ok(changed()),
            (false, _) => second(),
            (true, _) => Ok(Outcome::default()),
        });
        let project = Project::new([("playbooks/site.yml", playbook)]);
        Self { pair, project, is_mended }
    }

    fn mend(&self) {
        self.is_mended.store(true, Ordering::SeqCst);
    }

    /// The next run, from its first step on.
    fn apply(&self) -> Ran {
        self.pair.forget_steps();
        self.pair.run(&self.project, apply(), &Selection::default())
    }
}

fn line(step: &Step) -> &str {
    step.args["line"].as_str().unwrap()
}

fn restarts(ran: &Ran) -> Vec<String> {
    let mut restarts: Vec<String> =
        ran.order().into_iter().filter(|step| step.ends_with("restart")).collect();
    restarts.sort();
    restarts
}

#[test]
fn the_next_run_runs_it_although_its_task_has_nothing_to_do_and_the_one_after_does_not() {
    let broken = Broken::new(PLAYBOOK, || Ok(failed("no")));
    let ran = broken.apply();
    assert_eq!((ran.exit_code, restarts(&ran)), (exit::FAILED, vec![]));
    assert!(ran.text.contains("Restart on ha-a; Restart on ha-b"), "{}", ran.text);
    broken.mend();
    let plan = broken.pair.run(&broken.project, check(), &Selection::default());
    assert_eq!(restarts(&plan), ["ha-a restart", "ha-b restart"], "a plan shows it, and leaves it owed");
    let ran = broken.apply();
    assert_eq!(
        (ran.exit_code, restarts(&ran)),
        (exit::DONE, vec!["ha-a restart".into(), "ha-b restart".into()])
    );
    assert_eq!(restarts(&broken.apply()), Vec::<String>::new());
}

#[test]
fn a_host_that_is_lost_after_the_change_owes_it_too() {
    let broken = Broken::new(PLAYBOOK, || Err(Lost { message: "gone".into(), unreachable: true }));
    assert_eq!(broken.apply().exit_code, exit::UNREACHABLE);
    broken.mend();
    assert_eq!(restarts(&broken.apply()), ["ha-a restart", "ha-b restart"]);
}

#[test]
fn only_the_host_that_changed_owes_it() {
    let playbook = PLAYBOOK.replace("{command: one, ", "{command: one, when: host.index == 1, ");
    let broken = Broken::new(&playbook, || Ok(failed("no")));
    broken.apply();
    broken.mend();
    assert_eq!(restarts(&broken.apply()), ["ha-b restart"]);
}

#[test]
fn one_that_fails_is_owed_until_it_succeeds() {
    // The second task is the handler itself.
    let broken = Broken::new(&PLAYBOOK.replace("  - command: two\n", ""), || Ok(failed("no")));
    let ran = broken.apply();
    assert_eq!((ran.exit_code, restarts(&ran).len()), (exit::FAILED, 2));
    broken.mend();
    assert_eq!(restarts(&broken.apply()).len(), 2);
    assert_eq!(restarts(&broken.apply()).len(), 0);
}

#[test]
fn what_is_a_change_by_the_task_s_own_condition_is_owed_too() {
    let plain = Project::new([("playbooks/site.yml", PLAYBOOK)]);
    for (condition, wanted) in [("true", 2), ("false", 0)] {
        let own =
            PLAYBOOK.replace("{command: one, ", &format!("{{command: one, changed_when: {condition}, "));
        let broken = Broken::new(&own, || Ok(failed("no")));
        broken.apply();
        broken.mend();
        let ran = broken.pair.run(&plain, check(), &Selection::default());
        assert_eq!(restarts(&ran).len(), wanted, "{condition}");
    }
}

#[test]
fn one_that_the_play_no_longer_has_is_forgotten_and_that_is_told() {
    let broken = Broken::new(PLAYBOOK, || Ok(failed("no")));
    broken.apply();
    broken.mend();
    let other =
        Project::new([("playbooks/site.yml", "- {name: Other, hosts: pair, tasks: [{command: one}]}\n")]);
    let ran = broken.pair.run(&other, apply(), &Selection::default());
    assert!(
        ran.text.contains("Restart on ha-a; Restart on ha-b"),
        "another playbook leaves it owed: {}",
        ran.text
    );
    let without =
        Project::new([("playbooks/site.yml", "- {name: Web, hosts: pair, tasks: [{command: one}]}\n")]);
    let ran = broken.pair.run(&without, apply(), &Selection::default());
    let told = "Restart on ha-a: \"Web\" has no such handler any more, forgotten";
    assert!(ran.exit_code == exit::DONE && ran.text.contains(told), "{}", ran.text);
    assert_eq!(restarts(&broken.apply()), Vec::<String>::new());
}
