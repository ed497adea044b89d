//! Hosts that are reached only through another host: what works, and what is said when it does not.

use std::fs;

use crate::harness::{Lab, futago, output, possible};

/// The jump host: it has no other part in the pair's life here.
const JUMP: &str = "203.0.113.13";

/// A pair that cannot be reached from here, behind a host that can.
struct Behind {
    lab: Lab,
    inventory: String,
}

impl Behind {
    fn up() -> Self {
        let lab = Lab::up(&["--witness", "--disk-size", "16M"]);
        for host in ["ha-a", "ha-b"] {
            lab.run("cut", &["public", "--from", "controller", "--to", host]);
        }
        let text = fs::read_to_string(lab.folder().join("inventory.yml")).expect("read the inventory");
        // A run on all hosts would need the witness's own address, too: it is only passed here.
        let inventory =
            text.lines().filter(|line| !line.starts_with("witness:")).collect::<Vec<_>>().join("\n");
        fs::create_dir_all(lab.folder().join("playbooks")).expect("make a folder");
        let playbook = "- hosts: pair\n  tasks:\n    - file: {path: /root/reached, state: directory}\n";
        fs::write(lab.folder().join("playbooks/reach.yml"), playbook).expect("write the playbook");
        Self { lab, inventory }
    }

    /// `futago apply` with this way to the hosts: exit code, and all that it says.
    fn apply(&self, jump: &str) -> (Option<i32>, String) {
        let path = self.lab.folder().join("behind.yml");
        fs::write(&path, format!("{}\n  jump: {jump}\n", self.inventory)).expect("write the inventory");
        let mut command = futago();
        command.args(["apply", "reach", "-i"]).arg(path);
        let done = output(command);
        let said = [done.stdout, done.stderr].concat();
        (done.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// An apply that must fail before anything is done, for this reason.
    fn refused(&self, jump: &str, reason: &str) {
        let (code, said) = self.apply(jump);
        assert!(code == Some(4) && said.contains(reason), "{reason}: {code:?}\n{said}");
    }

    /// How many connections the jump host has let in so far.
    fn let_in(&self) -> usize {
        let journal =
            self.lab.run_in("witness", "journalctl --unit ssh --grep 'Accepted publickey' --output cat");
        journal.lines().count()
    }

    /// What follows happens without the hosts whose line in the file of known keys begins with this address.
    fn forgetting(&self, address: &str, then: impl FnOnce()) {
        let path = self.lab.folder().join("known_hosts");
        let whole = fs::read_to_string(&path).expect("read the known keys");
        let others = whole.lines().filter(|line| !line.starts_with(address));
        fs::write(&path, others.map(|line| format!("{line}\n")).collect::<String>()).expect("forget a key");
        then();
        fs::write(&path, whole).expect("know all keys again");
    }
}

#[test]
fn hosts_behind_a_jump_host_are_reached_over_one_connection_and_every_obstacle_is_named() {
    if !possible() {
        return;
    }
    let behind = Behind::up();
    let before = behind.let_in();
    let (code, said) = behind.apply(JUMP);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(behind.let_in(), before + 1, "both hosts share one connection");
    for host in ["ha-a", "ha-b"] {
        behind.lab.run_in(host, "test -d /root/reached");
    }

    let known = |what: &str| format!("the key of {what} is not known: ssh-ed25519 SHA256:");
    behind.forgetting(JUMP, || behind.refused(JUMP, &known("the jump host (203.0.113.13)")));
    behind.forgetting("203.0.113.11", || behind.refused(JUMP, &known("ha-a (203.0.113.11)")));
    let other_user = format!("{{host: {JUMP}, user: nobody}}");
    behind.refused(&other_user, "log in to the jump host (203.0.113.13) as nobody: the host refused");
    behind
        .refused(&format!("{{host: {JUMP}, port: 23}}"), "connect to the jump host (203.0.113.13 port 23): ");

    let drop_in = "/etc/ssh/sshd_config.d/forward.conf";
    behind.lab.run_in("witness", &format!("echo AllowTcpForwarding no > {drop_in} && systemctl reload ssh"));
    let forbidden = "cannot reach ha-b (203.0.113.12 port 22): its SSH server forbids it";
    behind.refused(JUMP, forbidden);
    behind.lab.run_in("witness", &format!("rm {drop_in} && systemctl reload ssh"));

    behind.lab.run("power-off", &["ha-b"]);
    behind.refused(JUMP, "the jump host 203.0.113.13 cannot reach ha-b (203.0.113.12 port 22): ");
    behind.lab.run("power-off", &["witness"]);
    behind.refused(JUMP, "connect to the jump host (203.0.113.13 port 22): ");
}
