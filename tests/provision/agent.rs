//! The real agent on this machine, spoken to as a controller does.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base::frame;
use provision::agent::EXIT_BUSY;
use provision::protocol::{Outcome, Owed, Reply, Request, Step, VERSION};
use serde_json::{Value, json};

struct Agent {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    owed: BTreeSet<Owed>,
}

fn start(lock: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_futago"));
    command.args(["agent", "--holder", "ann@laptop", "--lock"]).arg(lock);
    command.arg("--owed").arg(lock.with_file_name("owed.json"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

impl Agent {
    fn new(lock: &Path) -> Self {
        let mut child = start(lock);
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut agent = Self { child, input, output, owed: BTreeSet::new() };
        let Reply::Hello { version, facts, owed } = agent.reply() else { panic!("no greeting") };
        assert_eq!(version, VERSION);
        agent.owed = owed;
        assert!(!facts.hostname.is_empty() && facts.processors > 0 && facts.memory_mib > 0, "{facts:?}");
        agent
    }

    fn reply(&mut self) -> Reply {
        frame::read(&mut self.output).unwrap().expect("the agent ended")
    }

    fn ask(&mut self, module: &str, args: Value) {
        let Value::Object(args) = args else { panic!("arguments are a mapping") };
        self.send(&Request::Run(Step { module: module.into(), args, ..Step::default() }));
    }

    fn send(&mut self, request: &Request) {
        frame::write(&mut self.input, request).unwrap();
    }

    fn outcome(&mut self) -> Outcome {
        loop {
            if let Reply::Done(outcome) = self.reply() {
                return outcome;
            }
        }
    }

    fn run(&mut self, module: &str, args: Value) -> Outcome {
        self.ask(module, args);
        self.outcome()
    }
}

#[test]
fn steps_are_answered_one_by_one_and_the_agent_ends_with_its_input() {
    let folder = tempfile::tempdir().unwrap();
    let mut agent = Agent::new(&folder.path().join("lock"));
    let path = folder.path().join("made");
    let made = agent.run("copy", json!({"dest": path, "content": "x"}));
    assert!(made.changed && made.failure.is_none(), "{made:?}");
    assert!(!agent.run("copy", json!({"dest": path, "content": "x"})).changed);
    let wrong = agent.run("cpoy", json!({})).failure.unwrap();
    assert!(wrong.message.contains("did you mean \"copy\""), "{wrong:?}");
    let Agent { mut child, input, .. } = agent;
    drop(input);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_agent_keeps_what_a_change_owes_for_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("lock");
    let notify = BTreeSet::from([Owed { play: "Web".into(), handler: "Restart".into() }]);
    let step = |check: bool| {
        let args = json!({"dest": folder.path().join("made"), "content": "x"});
        let args = args.as_object().unwrap().clone();
        Request::Run(Step { module: "copy".into(), args, check, notify: notify.clone(), ..Step::default() })
    };
    let mut agent = Agent::new(&lock);
    agent.send(&step(true));
    assert!(agent.outcome().changed);
    drop(agent);
    let mut agent = Agent::new(&lock);
    assert_eq!(agent.owed, BTreeSet::new(), "a plan owes nothing");
    agent.send(&step(false));
    assert!(agent.outcome().changed);
    drop(agent);
    let mut agent = Agent::new(&lock);
    assert_eq!(agent.owed, notify);
    agent.send(&Request::Owe { handlers: BTreeSet::new() });
    assert_eq!(agent.outcome(), Outcome::default());
    drop(agent);
    assert_eq!(Agent::new(&lock).owed, BTreeSet::new());
}

#[test]
fn programs_never_get_hold_of_the_frames() {
    let folder = tempfile::tempdir().unwrap();
    let mut agent = Agent::new(&folder.path().join("lock"));
    let script = "readlink /proc/$$/fd/*; cat; echo garbage";
    let outcome = agent.run("command", json!({"argv": ["sh", "-c", script]}));
    let said = outcome.data["stdout"].as_str().unwrap();
    assert!(said.starts_with("/dev/null\npipe:") && said.ends_with("garbage"), "{said}");
    for fd in [agent.input.as_raw_fd(), agent.output.as_raw_fd()] {
        let channel = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
        assert!(!said.contains(channel.to_str().unwrap()), "{channel:?} in {said}");
    }
    assert_eq!(agent.run("command", json!({"argv": ["true"]})).failure, None);
}

#[test]
fn two_runs_exclude_each_other_and_the_second_is_told_who_is_first() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("lock");
    let first = Agent::new(&lock);
    let second = start(&lock).wait_with_output().unwrap();
    assert_eq!(second.status.code(), Some(EXIT_BUSY.into()));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.starts_with("ann@laptop, process "), "{said}");
    drop(first);
}

#[test]
fn a_step_is_finished_although_its_controller_is_gone_and_the_next_run_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("lock");
    let (started, release, done) =
        (folder.path().join("started"), folder.path().join("release"), folder.path().join("done"));
    for pipe in [&started, &release] {
        assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
    }
    let mut agent = Agent::new(&lock);
    let script = "echo go >started; read line <release; touch done";
    agent.ask("command", json!({"argv": ["sh", "-c", script], "chdir": folder.path()}));
    File::open(&started).unwrap().read_to_end(&mut Vec::new()).unwrap();
    // The controller dies: both ends of the channel are closed in the middle of the step.
    let Agent { mut child, input, output, .. } = agent;
    drop((input, output));
    while !std::fs::read_to_string(&lock).unwrap().contains("its controller is gone") {
        std::thread::yield_now();
    }
    let next = std::thread::spawn({
        let lock = lock.clone();
        move || drop(Agent::new(&lock))
    });
    std::fs::write(&release, "on\n").unwrap();
    next.join().unwrap();
    assert!(done.exists());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
