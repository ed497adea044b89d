//! The client and the auditor themselves, with nobody but the test to manage the hosts.

use crate::harness::{Client, Lab, possible};

const ADDRESS: &str = "203.0.113.10/24";

/// Rows are acknowledged, a restart of the database is an outage, and what two hosts must never do is seen.
#[test]
fn an_outage_and_every_broken_promise_are_seen_from_outside() {
    if !possible() {
        return;
    }
    let lab = Lab::up(&["--disk-size", "16M"]);
    lab.run("stack", &[]);
    lab.run_in("ha-a", &format!("systemctl start mariadb apache2; ip address add {ADDRESS} dev eth0"));

    let client = Client::start(&lab);
    lab.run_in("ha-a", "systemctl stop mariadb; sleep 0.6; systemctl start mariadb");
    client.until_rows(20);
    let report = client.stop();
    assert_eq!(report.broken(), Vec::<String>::new());
    assert!(report.client.errors > 0 && report.client.gaps.len() == 1, "{report:?}");
    assert_eq!(report.audit.active(), Some("ha-a"));

    let client = Client::start(&lab);
    lab.run_in("ha-b", &format!("ip address add {ADDRESS} dev eth0; sleep 0.5"));
    lab.run_in("ha-b", &format!("ip address del {ADDRESS} dev eth0"));
    for host in ["ha-a", "ha-b"] {
        lab.run_in(host, "mkdir -p /srv/data && mount -t tmpfs none /srv/data; sleep 0.2");
    }
    client.until_rows(20);
    lab.run_in("ha-a", "mariadb --execute 'DELETE FROM app.row ORDER BY id DESC LIMIT 1'");
    let report = client.stop();
    let said = report.broken().join("\n");
    for promise in ["was answered by", "both hosts can write", "acknowledged rows are missing"] {
        assert!(said.contains(promise), "{promise}: {said}");
    }
}
