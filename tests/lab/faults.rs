//! The managed pair on real hosts, part B: cut links, hung and killed programs, services that fail. One lab, one
//! case after the other, each under the client and the auditor, each ending with a pair of which any one machine
//! may fail.
//!
//! A former active host that is cut off or hung keeps its file system mounted until it hears of its successor
//! (docs/cluster.md, "The virtual address"); so in these cases the auditor's word about mounts is replaced by a
//! harder question: does a write there ever come to an end?

use std::fs;
use std::path::Path;
use std::time::Duration;

use lab::load::{LoadReport, Violation};

use crate::harness::{Client, every_drill, possible};
use crate::managed::{Managed, PAIR, WITNESS, assert_survived, assert_unbroken, one_line, other, stays};

/// Left by a write that came to an end on a host that must not write.
const WROTE: &str = "/run/wrote";
const KILL_DATABASE: &str = "systemctl kill --kill-whom=main --signal=KILL mariadb";
/// Installs a service without data.
const BEACON: &str = r#"
- name: Service that runs on both hosts
  hosts: pair
  tasks:
    - name: Install its unit
      copy:
        dest: /etc/systemd/system/beacon.service
        content: "[Service]\nExecStart=/bin/sleep infinity\n"
"#;
/// Long enough for several failed statements and deep checks.
const FULL: Duration = Duration::from_secs(15);

#[test]
fn cut_links_and_failing_programs_lose_nothing() {
    if !every_drill() || !possible() {
        return;
    }
    let pair = Managed::added("default", prepare);
    runs_everywhere(&pair);
    parted_links(&pair);
    one_way_cuts(&pair);
    whoever_keeps_the_record(&pair);
    runs_everywhere(&pair);
    failing_witness(&pair);
    hung_web_server(&pair);
    full_file_system(&pair);
    service_on_the_standby(&pair);
}

/// What a pair survives in the same way with a witness and with etcd.
pub(crate) fn whoever_keeps_the_record(pair: &Managed) {
    parted_hosts(pair);
    isolated_machines(pair);
    killed_programs(pair);
    hung_programs(pair);
    failing_database(pair);
}

/// A service that runs on both hosts, whatever moves.
fn prepare(project: &Path) {
    let inventory = project.join("inventory.yml");
    let text = fs::read_to_string(&inventory).expect("read the inventory");
    let everywhere = "manager:\n  everywhere:\n    - {name: beacon, class: \"systemd:beacon\"}\n";
    fs::write(&inventory, text.replace("manager:\n", everywhere)).expect("change the inventory");
    let playbook = project.join("playbooks/stack.yml");
    let text = fs::read_to_string(&playbook).expect("read the playbook");
    fs::write(&playbook, text + BEACON).expect("change the playbook");
}

/// It does, also after it was killed.
fn runs_everywhere(pair: &Managed) {
    for host in PAIR {
        pair.lab.run_in(host, "systemctl is-active beacon && systemctl kill --signal=KILL beacon");
        let runs = || pair.lab.try_in(host, "systemctl --quiet is-active beacon").status.success();
        pair.until(&format!("the service is started again on {host}"), runs);
    }
    pair.until_protected();
}

/// Runs a case that the pair survives without a second host that seems to be active.
fn case(pair: &Managed, name: &str, fault: impl FnOnce(&Managed, &'static str)) {
    let active = pair.active();
    let client = pair.client();
    fault(pair, active);
    assert_survived(name, &served_again(pair, client));
}

/// As [`case`], where the former active host is not reached by its successor for a while.
fn usurped(pair: &Managed, name: &str, fault: impl FnOnce(&Managed, &'static str)) {
    let active = pair.active();
    let client = pair.client();
    fault(pair, active);
    let mut report = served_again(pair, client);
    report.audit.two_writers = Violation::default();
    assert_survived(name, &report);
    pair.lab.run_in(active, &format!("test ! -e {WROTE}"));
}

fn served_again(pair: &Managed, client: Client) -> LoadReport {
    pair.restore();
    client.until_rows(10);
    client.stop()
}

/// Tries to write on a host whose successor is active already; the write may hang or fail.
fn try_to_write(pair: &Managed, host: &str) {
    let write = "dd if=/dev/zero of=/srv/data/probe bs=4k count=1 conv=fsync";
    pair.lab
        .run_in(host, &format!("({write} && touch {WROTE}) >/dev/null 2>&1 & sleep 1; test ! -e {WROTE}"));
}

fn until_active(pair: &Managed, host: &str) {
    pair.until(&format!("{host} is active"), || pair.active_now() == Some(host));
}

/// Waits until the record says that only this host is up to date.
fn until_alone(pair: &Managed, host: &str) {
    pair.until(&format!("{host} goes on alone"), || {
        pair.status(host).is_some_and(|s| s["lone"] == true && s["verdict"] == "DEGRADED")
    });
}

fn cut(pair: &Managed, arguments: &[&str]) {
    pair.lab.run("cut", arguments);
}

fn isolate(pair: &Managed, host: &str) {
    cut(pair, &["public", "--from", host]);
    cut(pair, &["public", "--to", host]);
    cut(pair, &["local"]);
}

fn parted_hosts(pair: &Managed) {
    case(pair, "local cut", |pair, active| {
        cut(pair, &["local"]);
        until_alone(pair, active);
    });
    case(pair, "local and public cut between the hosts", |pair, active| {
        cut(pair, &["local"]);
        cut(pair, &["public", "--from", active, "--to", other(active)]);
        cut(pair, &["public", "--from", other(active), "--to", active]);
        until_alone(pair, active);
    });
}

fn parted_links(pair: &Managed) {
    case(pair, "public cut", |pair, active| {
        cut(pair, &["public"]);
        pair.until_verdict(active, "DEGRADED");
    });
    case(pair, "local cut, witness isolated", |pair, active| {
        cut(pair, &["local"]);
        cut(pair, &["witness"]);
        until_alone(pair, active);
        assert_eq!(pair.active_now(), Some(active), "the hosts still hear each other");
    });
    case(pair, "public cut, witness isolated", |pair, active| {
        cut(pair, &["public"]);
        cut(pair, &["witness"]);
        pair.until_verdict(active, "DEGRADED");
        assert_eq!(pair.active_now(), Some(active), "it would not help");
    });
    case(pair, "active host off the public segment", |pair, active| {
        cut(pair, &["public", "--from", active]);
        cut(pair, &["public", "--to", active]);
        until_active(pair, other(active));
    });
    case(pair, "witness isolated", |pair, active| {
        cut(pair, &["witness"]);
        PAIR.into_iter().for_each(|host| pair.until_verdict(host, "DEGRADED"));
        assert_eq!(pair.active_now(), Some(active), "nothing is moved for a witness");
    });
}

fn one_way_cuts(pair: &Managed) {
    case(pair, "local cut one way from the active host", |pair, active| {
        cut(pair, &["local", "--from", active]);
        until_alone(pair, active);
    });
    case(pair, "local cut one way from the standby", |pair, active| {
        cut(pair, &["local", "--from", other(active)]);
        until_alone(pair, active);
    });
    case(pair, "public cut one way from the active host to the witness", |pair, active| {
        cut(pair, &["public", "--from", active, "--to", WITNESS]);
        pair.until_verdict(active, "DEGRADED");
    });
    case(pair, "public cut one way from the witness to the active host", |pair, active| {
        cut(pair, &["public", "--from", WITNESS, "--to", active]);
        pair.until_verdict(active, "DEGRADED");
        assert_eq!(pair.active_now(), Some(active), "the standby's vote is enough");
    });
    usurped(pair, "active host hears nobody", |pair, active| {
        cut(pair, &["local", "--from", other(active)]);
        cut(pair, &["public", "--to", active]);
        until_active(pair, other(active));
        try_to_write(pair, active);
    });
}

fn isolated_machines(pair: &Managed) {
    usurped(pair, "active host isolated", |pair, active| {
        isolate(pair, active);
        until_active(pair, other(active));
        try_to_write(pair, active);
    });
    case(pair, "standby isolated", |pair, active| {
        isolate(pair, other(active));
        until_alone(pair, active);
    });
}

/// Sends a signal to the main process of a unit.
fn signal(pair: &Managed, host: &str, signal: &str, unit: &str) {
    pair.lab.run_in(host, &format!("systemctl kill --kill-whom=main --signal={signal} {unit}"));
}

/// How often systemd has started a unit anew.
fn restarts(pair: &Managed, host: &str, unit: &str) -> u32 {
    let text = pair.lab.run_in(host, &format!("systemctl show --property NRestarts --value {unit}"));
    text.parse().unwrap_or_else(|_| panic!("{unit} on {host}: {text}"))
}

/// Kills it and waits until systemd has started it anew.
pub(crate) fn kill(pair: &Managed, host: &str, unit: &str) {
    let before = restarts(pair, host, unit);
    signal(pair, host, "KILL", unit);
    pair.until(&format!("{unit} is started anew on {host}"), || restarts(pair, host, unit) > before);
}

/// Stops it and waits until systemd's watchdog has exchanged it.
fn hang(pair: &Managed, host: &str, unit: &str) {
    let before = restarts(pair, host, unit);
    signal(pair, host, "STOP", unit);
    pair.until(&format!("{unit} is exchanged on {host}"), || restarts(pair, host, unit) > before);
}

fn killed_programs(pair: &Managed) {
    case(pair, "manager killed on the active host", |pair, active| {
        kill(pair, active, "futago-clusterd");
        pair.until_protected();
        assert_eq!(pair.active_now(), Some(active), "a manager that comes back moves nothing");
    });
    case(pair, "manager killed on the standby", |pair, active| kill(pair, other(active), "futago-clusterd"));
    case(pair, "replication daemon killed on the standby", |pair, active| {
        kill(pair, other(active), "futago-replicad");
    });
    case(pair, "replication daemon killed on the active host", |pair, active| {
        kill(pair, active, "futago-replicad");
        pair.until_protected();
        assert_eq!(pair.active_now(), Some(active), "a replication daemon that is killed moves nothing");
    });
}

fn hung_programs(pair: &Managed) {
    // systemd's watchdog ends what stays stopped, so only the kernel can have taken the address away before.
    usurped(pair, "manager hangs on the active host", |pair, active| {
        signal(pair, active, "STOP", "futago-clusterd");
        until_active(pair, other(active));
        try_to_write(pair, active);
    });
    case(pair, "replication daemon hangs on the active host", |pair, active| {
        hang(pair, active, "futago-replicad");
        pair.until_protected();
        assert_eq!(pair.active_now(), Some(active), "a replication daemon that is exchanged moves nothing");
    });
    case(pair, "replication daemon hangs on the standby", |pair, active| {
        hang(pair, other(active), "futago-replicad");
    });
    case(pair, "manager hangs on the standby", |pair, active| {
        signal(pair, other(active), "STOP", "futago-clusterd");
        pair.until_verdict(active, "DEGRADED");
    });
}

fn failing_witness(pair: &Managed) {
    case(pair, "witness killed", |pair, _| kill(pair, WITNESS, "futago-witnessd"));
    case(pair, "witness hangs", |pair, active| {
        signal(pair, WITNESS, "STOP", "futago-witnessd");
        pair.until_verdict(active, "DEGRADED");
        assert_eq!(pair.active_now(), Some(active), "nothing is moved for a witness");
        // Systemd may have ended it meanwhile: then there is nothing to continue.
        signal(pair, WITNESS, "CONT", "futago-witnessd");
        pair.until_protected();
    });
}

/// It accepts connections and never answers: only the look at its page can tell.
fn hung_web_server(pair: &Managed) {
    case(pair, "web server hangs", |pair, active| {
        let process = "systemctl show --property MainPID --value apache2";
        let before = pair.lab.run_in(active, process);
        pair.lab.run_in(active, "systemctl kill --signal=STOP apache2");
        pair.until_verdict(other(active), "DEGRADED");
        pair.until("the web server is started again in place", || {
            let now = pair.lab.run_in(active, process);
            now != before && now != "0" && pair.active_now() == Some(active)
        });
    });
}

fn failing_database(pair: &Managed) {
    case(pair, "database killed once", |pair, active| {
        let started = "systemctl show --property ExecMainStartTimestampMonotonic --value mariadb";
        let before = pair.lab.run_in(active, started);
        pair.lab.run_in(active, KILL_DATABASE);
        pair.until("the database is started again in place", || {
            let now = pair.lab.run_in(active, started);
            now != before && pair.active_now() == Some(active)
        });
    });
    // Each failover of the cases before counts, and one within the window is all that a failing service gets.
    pair.cluster(pair.active(), "cleanup");
    case(pair, "database killed again and again", |pair, active| {
        kill_until(pair, active, "the stack fails over", || pair.active_now() == Some(other(active)));
        // Until then both hosts say HELD.
        pair.cluster(active, "cleanup");
    });
    let active = pair.active();
    let client = pair.client();
    let last = other(active);
    kill_until(pair, active, "the stack fails over", || pair.active_now() == Some(last));
    kill_until(pair, last, "there is nowhere to go", || {
        pair.status(last).is_some_and(|s| !s["local"]["given_up"].is_null())
    });
    assert!(one_line(&pair.told(last, "why")).contains("has failed over already"), "{}", pair.shown(last));
    pair.cluster(last, "cleanup");
    assert_unbroken("database killed on both hosts", &served_again(pair, client));
}

/// Kills the database of a host whenever it runs, until something is so.
fn kill_until(pair: &Managed, host: &str, what: &str, mut is_so: impl FnMut() -> bool) {
    pair.until(what, || {
        // Between two starts there is nothing to kill.
        let _ = pair.lab.try_in(host, KILL_DATABASE);
        is_so()
    });
}

/// Nothing that the cluster manager could do helps, so it must not move the stack to and fro; what was acknowledged
/// is there, and rows are written again once there is room.
fn full_file_system(pair: &Managed) {
    let active = pair.active();
    let client = pair.client();
    client.until_rows(10);
    // The page's rows are small: whatever is left for the super user is taken too.
    pair.lab.run_in(
        active,
        "dd if=/dev/zero of=/srv/data/fill bs=1M 2>/dev/null; sync; df --output=avail /srv/data",
    );
    assert!(stays(FULL, || pair.active_now() == Some(active)), "{}", pair.shown(active));
    pair.lab.run_in(active, "rm /srv/data/fill");
    assert_unbroken("full file system", &served_again(pair, client));
}

fn service_on_the_standby(pair: &Managed) {
    case(pair, "service started by hand on the standby", |pair, active| {
        let standby = other(active);
        pair.lab.run_in(standby, "systemctl start apache2");
        pair.until("it is stopped again", || {
            pair.lab.run_in(standby, "systemctl is-active apache2 || true") == "inactive"
        });
        pair.lab.run_in(standby, "ip address add 203.0.113.10/24 dev eth0");
        pair.until("the address is taken off again", || {
            !pair.lab.run_in(standby, "ip -br address show eth0").contains("203.0.113.10/")
        });
        let told = one_line(&pair.told(standby, "history"));
        for what in ["apache", "address"] {
            let told_of = told.contains(&format!("{what} runs on"));
            assert!(told_of && told.contains("where the group must not run"), "{told}");
        }
    });
}
