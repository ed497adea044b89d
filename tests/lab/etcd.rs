//! A pair whose record is kept in etcd, under a client that writes rows: three members on the third machine, reached
//! by TLS with a certificate of the pair's and a user. All three are gone with that machine; a fleet has three machines.

mod members;

use serde_json::Value;

use crate::faults;
use crate::harness::{Client, Lab, every_drill, possible, until};
use crate::managed::Managed;
use members::{Authority, PASSWORD};

const PAIR: [&str; 2] = ["ha-a", "ha-b"];

fn status(lab: &Lab, host: &str) -> Option<Value> {
    let output = lab.try_in(host, "futago cluster status --json");
    serde_json::from_slice(&output.stdout).ok()
}

fn shown(lab: &Lab) -> String {
    let told = |host: &str| {
        let script =
            "futago cluster status; futago cluster why; journalctl -u futago-clusterd -o cat | tail -n 30";
        String::from_utf8_lossy(&lab.try_in(host, &format!("({script}) 2>&1")).stdout).into_owned()
    };
    PAIR.map(|host| format!("{host}:\n{}", told(host))).join("\n")
}

/// Shows what both managers say when the test fails.
struct Shown<'a>(&'a Lab);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", shown(self.0));
        }
    }
}

fn until_verdict(lab: &Lab, host: &str, verdict: &str) {
    until(&format!("{host} says {verdict}"), || {
        status(lab, host).is_some_and(|status| status["verdict"] == verdict)
    });
}

fn until_protected(lab: &Lab) {
    PAIR.into_iter().for_each(|host| until_verdict(lab, host, "PROTECTED"));
}

fn acts(lab: &Lab, host: &str) -> bool {
    status(lab, host).is_some_and(|status| status["local"]["role"] == "active")
}

/// Under a client: the active host loses its power, the other one takes over, and it comes back.
fn power_cut(lab: &Lab, what: &str, active: &str, standby: &str) {
    let client = Client::start(lab);
    lab.run("power-off", &[active]);
    until(&format!("{standby} is active"), || acts(lab, standby));
    client.until_rows(20);
    lab.run("power-on", &[active]);
    until_protected(lab);
    client.until_rows(20);
    ended(client, what);
}

fn ended(client: Client, what: &str) {
    let report = client.stop();
    assert_eq!(report.broken(), Vec::<String>::new(), "{what}");
    println!("{what}: {:?}", report.client.longest.map(|gap| gap.length_ms()));
}

/// An authority that does not know etcd is told, with the endpoint and the file; the right one counts without a restart.
fn wrong_authority(lab: &Lab, host: &str, right: &Authority) {
    let manager = || lab.run_in(host, "systemctl show --property=MainPID futago-clusterd");
    let before = manager();
    members::put(lab, host, "/etc/futago/etcd/ca.pem", &Authority::new("another").pem);
    until("the wrong authority is told", || {
        let told = String::from_utf8_lossy(&lab.try_in(host, "futago cluster why").stdout).into_owned();
        let words: Vec<&str> = told.split_whitespace().collect();
        let told = words.join(" ");
        told.contains("https://203.0.113.13:2479 shows a certificate of an authority that is not in /etc/futago/etcd/ca.pem")
    });
    until("it is no longer protected", || {
        status(lab, host).is_some_and(|status| status["verdict"] != "PROTECTED")
    });
    members::put(lab, host, "/etc/futago/etcd/ca.pem", &right.pem);
    until_protected(lab);
    assert_eq!(manager(), before, "it was not restarted");
}

/// The password is in its file, and nowhere else.
fn password_is_kept(lab: &Lab, said: &str) {
    assert!(!said.contains(PASSWORD), "apply: {said}");
    for host in PAIR {
        let found = lab.run_in(
            host,
            "journalctl; ps -ef; futago cluster report /root/r.tar; cat /root/r.tar /etc/futago/cluster.yml; \
             for pid in /proc/[0-9]*; do tr '\\0' ' ' < $pid/environ 2>/dev/null; done",
        );
        assert!(found.contains("futago") && !found.contains(PASSWORD), "{host} shows the password");
        let modes = lab.run_in(host, "stat -c '%a %n' /etc/futago/etcd/client.key /etc/futago/etcd/password");
        assert_eq!(modes, "600 /etc/futago/etcd/client.key\n600 /etc/futago/etcd/password");
    }
}

#[test]
fn a_pair_with_its_record_in_etcd_moves_on_request_and_survives_power_cuts_while_a_member_is_gone() {
    if !possible() || !every_drill() {
        return;
    }
    let lab = Lab::up(&["--witness"]);
    let shown = Shown(&lab);
    let authority = Authority::new("etcd");
    members::start(&lab, &authority);
    lab.run("stack", &["--managed", "default"]);
    members::into_inventory(&lab, &authority);
    let said = lab.apply(&[]);
    until_protected(&lab);
    assert!(acts(&lab, "ha-a"));

    let client = Client::start(&lab);
    lab.run_in("ha-a", "futago cluster switchover");
    until("ha-b is active", || acts(&lab, "ha-b"));
    client.until_rows(20);
    until_protected(&lab);
    ended(client, "switchover");

    members::kill(&lab, "one");
    power_cut(&lab, "power cut with a member killed", "ha-b", "ha-a");
    members::start_again(&lab, &["one"]);
    members::cut(&lab, "two");
    power_cut(&lab, "power cut with a member cut off", "ha-a", "ha-b");
    members::heal(&lab);

    wrong_authority(&lab, "ha-a", &authority);
    password_is_kept(&lab, &said);

    // Nobody needs etcd for writing; what it is needed for ends, is told, and comes back.
    let client = Client::start(&lab);
    members::stop(&lab);
    until("both say that etcd is gone", || {
        PAIR.into_iter().all(|host| status(&lab, host).is_some_and(|status| status["verdict"] != "PROTECTED"))
    });
    members::start_again(&lab, &["one", "two", "three"]);
    until_protected(&lab);
    client.until_rows(20);
    ended(client, "an outage of etcd");
    assert!(acts(&lab, "ha-b"), "nothing was moved by it");
    drop(shown);
    faults::whoever_keeps_the_record(&Managed { lab });
}
