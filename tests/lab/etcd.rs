//! A pair whose record is kept in etcd, under a client that writes rows: Debian's etcd-server, one member of it, on
//! the third machine, where it is reached from inside the lab only. With one member an outage of that machine is
//! one of etcd; a fleet has three or five.

use std::fs;

use serde_json::Value;

use crate::harness::{Client, Lab, every_drill, possible, until};

const ENDPOINT: &str = "http://203.0.113.13:2379";
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

/// The third machine keeps etcd and is no witness of ours.
fn etcd_instead_of_a_witness(lab: &Lab) {
    lab.run("compared", &[]);
    lab.run_in(
        "witness",
        &format!(
            "DEBIAN_FRONTEND=noninteractive apt-get install --yes etcd-server >/dev/null 2>&1
             printf 'ETCD_LISTEN_CLIENT_URLS=\"{ENDPOINT}\"\\nETCD_ADVERTISE_CLIENT_URLS=\"{ENDPOINT}\"\\n' >> /etc/default/etcd
             systemctl restart etcd"
        ),
    );
    lab.run("stack", &["--managed", "default"]);
    let path = lab.folder().join("inventory.yml");
    let text = fs::read_to_string(&path).expect("read the inventory");
    let without: String =
        text.lines().filter(|line| !line.starts_with("witness:")).map(|line| format!("{line}\n")).collect();
    assert!(without.contains("\nmanager:\n") && without != text, "{text}");
    fs::write(&path, format!("{without}  etcd: {{endpoints: [\"{ENDPOINT}\"]}}\n"))
        .expect("write the inventory");
}

#[test]
fn a_pair_with_its_record_in_etcd_moves_on_request_and_survives_a_power_cut() {
    if !possible() || !every_drill() {
        return;
    }
    let lab = Lab::up(&["--witness"]);
    let _shown = Shown(&lab);
    etcd_instead_of_a_witness(&lab);
    lab.apply(&[]);
    until_protected(&lab);
    assert!(acts(&lab, "ha-a"));

    let client = Client::start(&lab);
    lab.run_in("ha-a", "futago cluster switchover");
    until("ha-b is active", || acts(&lab, "ha-b"));
    client.until_rows(20);
    until_protected(&lab);
    let report = client.stop();
    assert_eq!(report.broken(), Vec::<String>::new(), "switchover");
    println!("switchover: {:?}", report.client.longest.map(|gap| gap.length_ms()));

    let client = Client::start(&lab);
    lab.run("power-off", &["ha-b"]);
    until("ha-a is active", || acts(&lab, "ha-a"));
    client.until_rows(20);
    lab.run("power-on", &["ha-b"]);
    until_protected(&lab);
    client.until_rows(20);
    let report = client.stop();
    assert_eq!(report.broken(), Vec::<String>::new(), "power cut");
    println!("power cut: {:?}", report.client.longest.map(|gap| gap.length_ms()));

    // Nobody needs etcd for writing; what it is needed for ends, is told, and comes back.
    let client = Client::start(&lab);
    lab.run_in("witness", "systemctl stop etcd");
    until("both say that etcd is gone", || {
        PAIR.into_iter().all(|host| status(&lab, host).is_some_and(|status| status["verdict"] != "PROTECTED"))
    });
    lab.run_in("witness", "systemctl start etcd");
    until_protected(&lab);
    client.until_rows(20);
    let report = client.stop();
    assert_eq!(report.broken(), Vec::<String>::new(), "an outage of etcd");
    assert!(acts(&lab, "ha-a"), "nothing was moved by it");
}
