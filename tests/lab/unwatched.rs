//! A managed pair on real hosts with neither a witness nor a fence device: nobody may take over by itself, so an
//! operator decides, and what was overruled is kept until it is given up. Beside it: what a machine reads of a
//! manager, its metrics, its pages for load balancers, and its alerts.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::harness::{Lab, every_drill, possible};
use crate::managed::{Managed, PAIR, assert_unbroken, one_line, other, stays};

/// Installs a hook that writes every alert down.
const PLAY: &str = r##"
- name: Alert hook
  hosts: pair
  tasks:
    - name: Install the hook
      copy:
        dest: /usr/local/sbin/told
        mode: "0755"
        content: "#!/bin/sh\nenv | sort >> /run/told\n"
"##;
/// Much longer than a takeover takes.
const NEVER: Duration = Duration::from_secs(15);

#[test]
fn without_a_witness_and_a_fence_device_an_operator_decides() {
    if !every_drill() || !possible() {
        return;
    }
    let lab = Lab::up(&[]);
    lab.run("stack", &["--managed", "default"]);
    prepare(&lab.folder());
    lab.apply(&[]);
    let pair = Managed { lab };
    until_complete(&pair);
    pages(&pair);
    forced(&pair);
}

fn prepare(project: &Path) {
    let inventory = project.join("inventory.yml");
    let text = fs::read_to_string(&inventory).expect("read the inventory");
    let text = text.replace("manager:\n", "manager:\n  alerts:\n    - {exec: /usr/local/sbin/told}\n");
    fs::write(&inventory, text).expect("change the inventory");
    let playbook = project.join("playbooks/stack.yml");
    let text = fs::read_to_string(&playbook).expect("read the playbook");
    fs::write(&playbook, text + PLAY).expect("change the playbook");
}

/// As good as it gets: both disks hold everything.
fn until_complete(pair: &Managed) {
    for host in PAIR {
        pair.until(&format!("{host} says that only an operator is missing"), || {
            pair.status(host).is_some_and(|s| {
                s["verdict"] == "DEGRADED"
                    && s["because"].as_str().is_some_and(|b| b.contains("an operator must decide"))
            })
        });
    }
}

/// The code and the text of a page of the manager.
fn page(pair: &Managed, host: &str, path: &str) -> (String, String) {
    let ask = format!(
        "import urllib.request as u, urllib.error as e\n\
         try: a = u.urlopen('http://127.0.0.1:7792{path}')\n\
         except e.HTTPError as refused: a = refused\n\
         print(a.status); print(a.read().decode())"
    );
    let said = pair.lab.run_in(host, &format!("python3 -c \"{ask}\""));
    let (code, text) = said.split_once('\n').unwrap_or((&said, ""));
    (code.to_owned(), text.to_owned())
}

/// The number of one sample.
fn sample(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {name} in {metrics}"))
}

fn pages(pair: &Managed) {
    let active = pair.active();
    for (host, path, code) in [
        (active, "/health", "200"),
        (active, "/primary", "200"),
        (active, "/standby", "503"),
        (other(active), "/health", "200"),
        (other(active), "/primary", "503"),
        (other(active), "/standby", "200"),
    ] {
        assert_eq!(page(pair, host, path).0, code, "{path} of {host}");
    }
    let (code, metrics) = page(pair, active, "/metrics");
    assert_eq!((code.as_str(), sample(&metrics, "futago_cluster_active")), ("200", 1.0));
    let sent = format!("futago_replication_sent_bytes_total{{node=\"{active}");
    let sent = metrics.lines().find(|line| line.starts_with(&sent)).expect("bytes sent");
    assert!(!sent.ends_with(" 0"), "{sent}");
}

/// The lost host acknowledged nothing alone, but nobody could know: HELD, and what to type is said.
fn forced(pair: &Managed) {
    let lost = pair.active();
    let left = other(lost);
    let client = pair.client();
    client.until_rows(20);
    pair.lab.run("power-off", &[lost]);
    pair.until_verdict(left, "HELD");
    let status = one_line(&pair.told(left, "status"));
    let order = format!("futago cluster force-primary {left}");
    assert!(status.contains(&order) && status.contains("--accept-loss"), "{status}");
    assert!(stays(NEVER, || pair.active_now().is_none()), "{}", pair.shown(left));

    pair.until("the order is carried out", || {
        let said = pair.lab.try_in(left, &format!("{order} --accept-loss --yes 2>&1"));
        println!("{}: {}", said.status, one_line(&String::from_utf8_lossy(&said.stdout)));
        said.status.success()
    });
    assert_eq!(pair.active(), left);
    client.until_rows(20);
    pair.lab.run("power-on", &[lost]);
    pair.until("the other host's data is kept aside", || {
        pair.status(lost)
            .is_some_and(|s| s["because"].as_str().is_some_and(|b| b.contains("has been overruled")))
    });
    assert_eq!(pair.active(), left, "nothing moves back");
    client.until_rows(20);
    pair.cluster(left, &format!("discard-diverged {lost} --yes"));
    until_complete(pair);
    client.until_rows(20);
    assert_unbroken("no witness, no fence device: power loss of the active host, forced", &client.stop());

    let told = pair.lab.run_in(left, "cat /run/told");
    for what in ["FUTAGO_KIND=running", "FUTAGO_LEVEL=", "CRM_alert_node="] {
        assert!(told.contains(what), "{what} in {told}");
    }
}
