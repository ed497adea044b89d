//! A pair of real hosts without a witness, each with a power switch that the other can reach: a host takes over
//! once its peer was seen to be off, and not before.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::net::{Shutdown, shutdown};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::harness::{Lab, every_drill, possible};
use crate::managed::{Managed, PAIR, assert_survived, assert_unbroken, one_line, other, stays};

/// The switch listens on the controller's address, which no drill cuts off.
const SWITCH: (&str, u16) = ("203.0.113.1", 9999);
const AGENT: &str = "/usr/local/sbin/fence_lab";
/// Installs an agent of the fence-agents API that speaks to the switch.
const PLAY: &str = r#"
- name: Power switch
  hosts: pair
  tasks:
    - name: Install the fence agent
      copy: {src: fence_lab, dest: /usr/local/sbin/fence_lab, mode: "0755"}
"#;
const SCRIPT: &str = "#!/bin/bash
while IFS='=' read -r name value; do case $name in action|plug) declare \"$name=$value\" ;; esac; done
exec 3<>/dev/tcp/203.0.113.1/9999 || exit 1
echo \"$action $plug\" >&3
read -r answer <&3
case $answer in on|done) exit 0 ;; off) exit 2 ;; esac
echo \"$answer\" >&2; exit 1
";
/// Much longer than a takeover takes.
const NEVER: Duration = Duration::from_secs(15);

#[test]
fn without_a_witness_a_host_takes_over_once_its_peer_was_seen_to_be_off() {
    if !every_drill() || !possible() {
        return;
    }
    let pair = Managed::of("default", prepare);
    let switch = Switch::of(&pair.lab);
    thread::scope(|scope| {
        scope.spawn(|| switch.serve());
        let _end = End(&switch);
        power_lost(&pair);
        manager_hangs(&pair);
        parted(&pair);
        broken_switch(&pair, &switch);
    });
}

fn prepare(project: &Path) {
    let inventory = project.join("inventory.yml");
    let text = fs::read_to_string(&inventory).expect("read the inventory");
    let devices =
        PAIR.map(|host| format!("    - {{target: {host}, agent: {AGENT}, params: {{plug: {host}}}}}\n"));
    let text = text.lines().filter(|line| !line.starts_with("witness:")).collect::<Vec<_>>().join("\n");
    let text = text.replace("manager:\n", &format!("manager:\n  fencing:\n{}", devices.concat()));
    fs::write(&inventory, text).expect("change the inventory");
    let playbook = project.join("playbooks/stack.yml");
    let text = fs::read_to_string(&playbook).expect("read the playbook");
    fs::write(&playbook, text + PLAY).expect("change the playbook");
    fs::write(project.join("files/fence_lab"), SCRIPT).expect("write the agent");
}

/// The other host takes over from the active one, and no acknowledged row is lost.
fn replaced(pair: &Managed, case: &str, fault: impl FnOnce(&'static str)) {
    let active = pair.active();
    let client = pair.client();
    fault(active);
    pair.until("the other host takes over", || pair.active_now() == Some(other(active)));
    client.until_rows(20);
    pair.restore();
    assert_survived(case, &client.stop());
}

fn power_lost(pair: &Managed) {
    replaced(pair, "fencing: power loss of the active host", |active| {
        pair.lab.run("power-off", &[active]);
    });
}

/// The old primary is alive as far as anybody can tell: it is made sure of.
fn manager_hangs(pair: &Managed) {
    replaced(pair, "fencing: manager hangs on the active host", |active| {
        pair.lab.run_in(active, "systemctl kill --kill-whom=main --signal=STOP futago-clusterd");
        pair.until("the hung host is switched off", || !pair.lab.is_powered(active));
    });
}

/// Each could take the other for dead: one is switched off, one serves.
fn parted(pair: &Managed) {
    let client = pair.client();
    pair.lab.run("cut", &["local"]);
    for host in PAIR {
        pair.lab.run("cut", &["public", "--from", host, "--to", other(host)]);
    }
    pair.until("one host is switched off", || PAIR.iter().any(|host| !pair.lab.is_powered(host)));
    client.until_rows(20);
    let on = PAIR.into_iter().filter(|host| pair.lab.is_powered(host)).count();
    assert_eq!(on, 1, "both were switched off");
    pair.restore();
    assert_survived("fencing: hosts cut off from each other", &client.stop());
}

/// Nobody knows whether the silent host is off: nothing is risked.
fn broken_switch(pair: &Managed, switch: &Switch<'_>) {
    let active = pair.active();
    let standby = other(active);
    let client = pair.client();
    switch.broken.store(true, Ordering::Relaxed);
    pair.lab.run("power-off", &[active]);
    let why = || one_line(&pair.told(standby, "why"));
    pair.until("it is told why the standby waits", || why().contains("NOT known to be off"));
    assert!(stays(NEVER, || pair.active_now().is_none()), "{}", pair.shown(standby));
    switch.broken.store(false, Ordering::Relaxed);
    pair.until("the standby takes over", || pair.active_now() == Some(standby));
    client.until_rows(20);
    pair.restore();
    assert_unbroken("fencing: power loss while the switch was broken", &client.stop());
}

/// Answers `status HOST` and `off HOST`, one a connection.
struct Switch<'a> {
    lab: &'a Lab,
    listener: TcpListener,
    broken: AtomicBool,
}

impl<'a> Switch<'a> {
    fn of(lab: &'a Lab) -> Self {
        let netns = fs::File::open(lab.netns()).expect("open the network namespace");
        // A socket stays where it was made; the thread that goes there ends.
        let listener = thread::spawn(move || {
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&netns), Some(LinkNameSpaceType::Network))
                .expect("enter the network namespace");
            TcpListener::bind(SWITCH).expect("listen in the lab")
        });
        let listener = listener.join().expect("make the switch");
        Self { lab, listener, broken: AtomicBool::new(false) }
    }

    /// Until the listener is shut down.
    fn serve(&self) {
        while let Ok((stream, _)) = self.listener.accept() {
            self.answer(stream);
        }
    }

    /// Who asks may be switched off while it waits.
    fn answer(&self, stream: TcpStream) {
        let mut line = String::new();
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("wait for some time");
        if BufReader::new(&stream).read_line(&mut line).is_err() {
            return;
        }
        let answer = match line.split_whitespace().collect::<Vec<_>>()[..] {
            _ if self.broken.load(Ordering::Relaxed) => "the switch is broken",
            ["status", host] if self.lab.is_powered(host) => "on",
            ["status", _] => "off",
            ["off", host] => {
                self.lab.run("power-off", &[host]);
                "done"
            }
            _ => "what?",
        };
        let _ = writeln!(&stream, "{answer}");
    }
}

/// Ends the switch, also when a case has failed.
struct End<'a>(&'a Switch<'a>);

impl Drop for End<'_> {
    fn drop(&mut self) {
        shutdown(&self.0.listener, Shutdown::Both).expect("shut the listener down");
    }
}
