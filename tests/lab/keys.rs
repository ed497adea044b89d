//! Keys that are locked by a passphrase, and keys that an agent holds.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::harness::{Lab, output, possible, succeeded, until};
use crate::terminal;

const PASSPHRASE: &str = "open sesame";

/// A lab whose inventory names a key with a passphrase.
struct Locked {
    lab: Lab,
    question: String,
}

impl Locked {
    fn up() -> Self {
        let lab = Lab::up(&["--witness", "--disk-size", "16M"]);
        let (open, locked) = (lab.folder().join("id_ed25519"), lab.folder().join("locked"));
        fs::copy(&open, &locked).expect("copy the key");
        let mut lock = Command::new("ssh-keygen");
        lock.args(["-q", "-p", "-P", "", "-N", PASSPHRASE, "-f"]).arg(&locked);
        succeeded(lock);
        fs::create_dir_all(lab.folder().join("playbooks")).expect("make a folder");
        let playbook = "- hosts: all\n  tasks:\n    - file: {path: /root, state: directory}\n";
        fs::write(lab.folder().join("playbooks/look.yml"), playbook).expect("write the playbook");
        let text = fs::read_to_string(lab.folder().join("inventory.yml")).expect("read the inventory");
        let text = text.replace(&open.display().to_string(), &locked.display().to_string());
        fs::write(lab.folder().join("locked.yml"), text).expect("write the inventory");
        let question = format!("Passphrase of {}: ", locked.display());
        Self { lab, question }
    }

    fn words(&self) -> Vec<String> {
        let inventory = self.lab.folder().join("locked.yml").display().to_string();
        let words = [env!("CARGO_BIN_EXE_futago"), "plan", "look", "-i", &inventory];
        words.map(str::to_owned).to_vec()
    }

    /// Runs it where a person types these answers: the exit code, what was shown, how often it was asked.
    fn typing(&self, answers: &[&str]) -> (Option<i32>, String, usize) {
        let lines: Vec<String> = answers.iter().map(|answer| format!("{answer}\r")).collect();
        let answers: Vec<(&str, &str)> =
            lines.iter().map(|line| (self.question.as_str(), line.as_str())).collect();
        let (code, shown) = terminal::run(&self.words(), &[], &answers);
        let asked = shown.matches(&self.question).count();
        (code, shown, asked)
    }

    /// Runs it where nobody can be asked, with this agent.
    fn alone(&self, agent: Option<&Agent>) -> (Option<i32>, String) {
        let mut command = Command::new("setsid");
        command.arg("--wait").args(self.words()).env_remove("SSH_AUTH_SOCK");
        command.envs(agent.map(|agent| ("SSH_AUTH_SOCK", &agent.socket)));
        let done = output(command);
        (done.status.code(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
    }
}

/// An ssh-agent that ends with the test.
struct Agent {
    process: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(lab: &Lab) -> Self {
        let socket = lab.folder().join("agent");
        let mut command = Command::new("ssh-agent");
        command.args(["-D", "-a"]).arg(&socket).stdout(Stdio::null());
        let process = command.spawn().expect("start ssh-agent");
        until("the agent listens", || socket.exists());
        Self { process, socket }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // One that has ended already needs no end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_passphrase_is_asked_for_once_for_all_hosts_and_not_at_all_when_an_agent_has_the_key() {
    if !possible() {
        return;
    }
    let locked = Locked::up();
    let (code, shown, asked) = locked.typing(&[PASSPHRASE]);
    assert_eq!((code, asked), (Some(0), 1), "{shown}");
    assert!(!shown.contains(PASSPHRASE), "{shown}");
    let (code, shown, asked) = locked.typing(&["open", PASSPHRASE]);
    assert_eq!((code, asked), (Some(0), 2), "{shown}");
    let (code, shown, asked) = locked.typing(&["a", "b", "c"]);
    assert_eq!((code, asked), (Some(4), 3), "three hosts wait for one answer: {shown}");
    assert!(
        shown.contains("the passphrase is wrong") && shown.contains("its passphrase was not told"),
        "{shown}"
    );

    let (code, said) = locked.alone(None);
    assert_eq!(code, Some(4), "{said}");
    let reason = "it is encrypted, and here its passphrase cannot be asked for (open /dev/tty: ";
    assert!(said.contains(reason) && said.contains("load it into ssh-agent"), "{said}");

    let agent = Agent::start(&locked.lab);
    let (code, said) = locked.alone(Some(&agent));
    assert_eq!(code, Some(4), "it has no key yet: {said}");
    let mut add = Command::new("ssh-add");
    add.arg("-q").arg(locked.lab.folder().join("id_ed25519")).env("SSH_AUTH_SOCK", &agent.socket);
    succeeded(add);
    let (code, said) = locked.alone(Some(&agent));
    assert_eq!(code, Some(0), "{said}");
}
