//! The managed pair on real hosts: what docs/cluster.md promises for orders and for lost machines, under a client
//! that keeps every acknowledged row.
//!
//! Outages are printed, not judged: a busy machine must not fail a test that is about correctness.

use std::fs;
use std::time::Duration;

use crate::drill;
use crate::faults::kill;
use crate::harness::{Client, every_drill, possible};
use crate::managed::{Managed, PAIR, WITNESS, assert_survived, assert_unbroken, one_line, other, stays};
use crate::terminal;

/// Orders to move the stack in one drill, half of them given on the controller; and in a normal run.
const SWITCHOVERS: usize = 20;
const SOME_SWITCHOVERS: usize = 2;
/// Longer than any lease: a host that does not start within it, while everything that it could wait for is there,
/// does not start.
const NEVER: Duration = Duration::from_secs(6);

/// Orders move the service, and only they: not a restart of the managers, not the provisioner.
#[test]
fn orders_move_what_runs_and_nothing_else_does() {
    if !possible() {
        return;
    }
    let pair = Managed::up("default");
    switchovers(&pair);
    watched_on_a_terminal(&pair);
    restarts_of_the_managers(&pair);
    provisioned_again(&pair);
    resource_added_and_taken_out(&pair);
    missing_program(&pair);
    rotten_block(&pair);
    exchanged_program(&pair);
    killed_replication(&pair);
    stopped_manager(&pair);
    orderly_shutdown(&pair);
    drill::on_a_real_pair(&pair);
}

/// One lost machine is survived; two are, once a host is back that has every acknowledged write, and not before.
#[test]
fn a_complete_host_goes_on_and_one_that_is_behind_waits() {
    if !possible() {
        return;
    }
    let pair = Managed::up("default");
    one_machine_lost(&pair);
    both_hosts_lost_at_once(&pair);
    if !every_drill() {
        return;
    }
    witness_then_active_lost(&pair);
    standby_then_active_lost(&pair);
    active_then_standby_lost(&pair);
    a_host_then_witness_lost(&pair);
    witness_then_standby_lost(&pair);
}

/// From either side, there and back: no row is lost, nothing is resynced.
fn switchovers(pair: &Managed) {
    let controller = |from: &str| pair.by_controller(&["switchover", "--to", other(from)]);
    for round in 0..if every_drill() { SWITCHOVERS } else { SOME_SWITCHOVERS } {
        let from = pair.active();
        let client = pair.client();
        let asked = if round % 2 == 0 {
            pair.cluster(PAIR[round / 2 % 2], "switchover");
            "a host"
        } else {
            controller(from);
            "the controller"
        };
        assert_eq!(pair.active_now(), Some(other(from)), "the order has ended, the stack runs elsewhere");
        assert_eq!(PAIR.map(|host| out_of_sync(pair, host)), [0, 0], "a planned move resyncs nothing");
        client.until_rows(5);
        assert_survived(&format!("switchover from {from} ordered on {asked}"), &client.stop());
        pair.until_protected();
    }
}

/// The live view: it draws what is, ends at a key, and gives the terminal back.
fn watched_on_a_terminal(pair: &Managed) {
    let watch = pair.lab.command("exec", &[pair.active(), "--", "futago", "cluster", "status", "--watch"]);
    let program = std::iter::once(watch.get_program()).chain(watch.get_args());
    let mut words: Vec<String> = ["stty", "rows", "40", "cols", "120", "&&"].map(str::to_owned).into();
    words.extend(program.map(|word| word.to_string_lossy().into_owned()));
    let (code, shown) = terminal::run(&words, &[], &[("PROTECTED", "q")]);
    assert_eq!(code, Some(0), "{shown}");
    let (enter, leave) = ("\u{1b}[?1049h", "\u{1b}[?1049l");
    assert!(shown.rfind(leave) > shown.find(enter) && shown.contains(enter), "{shown}");
    for word in ["mariadb", "ha-a", "ha-b", WITNESS] {
        assert!(shown.contains(word), "{word} is not shown: {shown}");
    }
}

fn restarts_of_the_managers(pair: &Managed) {
    let active = pair.active();
    let client = pair.client();
    let before = started(pair, active);
    for host in [active, other(active)] {
        pair.lab.run_in(host, "systemctl restart futago-clusterd");
        client.until_rows(50);
        pair.until_protected();
    }
    assert_eq!((pair.active(), started(pair, active)), (active, before), "a restart moves nothing");
    // Longer than the address lives without the new manager.
    client.until_rows(200);
    assert_survived("both managers restarted", &client.stop());
}

fn provisioned_again(pair: &Managed) {
    let active = pair.active();
    let client = pair.client();
    let before = started(pair, active);
    let said = pair.lab.apply(&[]);
    assert_eq!(said.matches("changed=0").count(), 3, "nothing is left to change: {said}");

    let inventory = pair.lab.folder().join("inventory.yml");
    let text = fs::read_to_string(&inventory).expect("read the inventory");
    let changed = text.replace("manager:\n", "manager:\n  window: 11m\n");
    fs::write(&inventory, changed).expect("change the inventory");
    let managers = PAIR.map(|host| process(pair, host));
    let said = pair.lab.apply(&[]);
    assert!(PAIR.map(|host| process(pair, host)).iter().zip(&managers).all(|(a, b)| a != b), "{said}");
    pair.until_protected();
    assert_eq!((pair.active(), started(pair, active)), (active, before), "another setting moves nothing");
    client.until_rows(20);
    assert_survived("two times provisioned again", &client.stop());
}

/// One `apply` each; the unit that is not managed any more goes on, as systemd would have it.
fn resource_added_and_taken_out(pair: &Managed) {
    let active = pair.active();
    let client = pair.client();
    let unit = "printf '[Service]\\nExecStart=/bin/sleep infinity\\n' > /etc/systemd/system/app.service";
    for host in PAIR {
        pair.lab.run_in(host, &format!("{unit}; systemctl daemon-reload"));
    }
    let inventory = pair.lab.folder().join("inventory.yml");
    let text = fs::read_to_string(&inventory).expect("read the inventory");
    let changed =
        text.replace("manager:\n", "manager:\n  group:\n    - {name: app, class: \"systemd:app\"}\n");
    fs::write(&inventory, changed).expect("change the inventory");
    pair.lab.apply(&[]);
    pair.until_protected();
    let drop_in = "test -e /run/systemd/system/app.service.d/50-futago.conf";
    pair.lab.run_in(active, &format!("systemctl is-active app && {drop_in}"));

    fs::write(&inventory, text).expect("change the inventory back");
    pair.lab.apply(&[]);
    pair.until_protected();
    pair.lab.run_in(active, &format!("systemctl is-active app && ! {drop_in}"));
    pair.lab.run_in(active, "systemctl stop app");
    assert_eq!(pair.active(), active, "other resources move nothing");
    client.until_rows(20);
    assert_survived("a resource added and taken out", &client.stop());
}

/// A standby that cannot run the stack is not said to protect it, and is not given it.
fn missing_program(pair: &Managed) {
    let active = pair.active();
    let standby = other(active);
    pair.lab.run_in(standby, "systemctl mask mariadb");
    pair.until_verdict(active, "DEGRADED");
    let said = pair.told(active, "switchover");
    assert!(said.contains("systemctl unmask mariadb.service"), "{said}");
    pair.lab.run("power-off", &[active]);
    waits(pair, standby, "cannot run the stack");
    pair.lab.run_in(standby, "systemctl unmask mariadb");
    assert_eq!(pair.active(), standby, "it takes over as soon as it can");
    pair.restore();
}

/// The timer's service looks where the device is in use, and what it finds is an alert.
fn rotten_block(pair: &Managed) {
    let active = pair.active();
    for host in PAIR {
        pair.lab.run_in(host, "systemctl is-active futago-verify.timer && systemctl start futago-verify");
    }
    let rot =
        "dd if=/dev/urandom of=/dev/vdb1 bs=4k seek=60000 count=1 oflag=direct conv=notrunc status=none";
    pair.lab.run_in(other(active), rot);
    assert!(!pair.lab.try_in(active, "systemctl start futago-verify").status.success());
    pair.until("people are told", || {
        one_line(&pair.told(active, "history")).contains("futago-verify.service has failed on")
    });
    pair.lab.run_in(active, "futago replica verify --repair r0 && systemctl start futago-verify");
    pair.until_protected();
}

/// On the active host and on the standby: nothing moves, and no row is refused.
fn exchanged_program(pair: &Managed) {
    let active = pair.active();
    let term = |host: &str| pair.status(host).map(|s| s["record"]["term"].clone());
    let before = term(active);
    let client = pair.client();
    for _ in 0..3 {
        for host in [active, other(active)] {
            client.until_rows(20);
            let said = pair.lab.run_in(host, "futago replica reexec");
            assert!(said.contains("r0: goes on as"), "{said}");
            pair.until_protected();
        }
    }
    // Another file with the same content is another program.
    for host in PAIR {
        pair.lab.run_in(host, "cd /usr/local/sbin && cp -p futago new && mv new futago");
    }
    let said = one_line(&pair.lab.apply(&[]));
    assert_eq!(said.matches("program of futago-replicad.service exchanged: ").count(), 2, "{said}");
    client.until_rows(20);
    let report = client.stop();
    assert_survived("the program of the replication daemon exchanged", &report);
    assert_eq!((pair.active(), term(active)), (active, before), "the stack has moved");
}

/// The device of a daemon that is killed goes on under the stack: nothing moves, no row is refused, people are told.
fn killed_replication(pair: &Managed) {
    let active = pair.active();
    let term = |host: &str| pair.status(host).map(|s| s["record"]["term"].clone());
    let version = |host: &str| pair.status(host).map(|s| s["record"]["version"].clone());
    let before = (term(active), version(active));
    let client = pair.client();
    for host in [active, other(active)] {
        client.until_rows(20);
        kill(pair, host, "futago-replicad");
        pair.until_protected();
    }
    pair.until("people are told", || {
        one_line(&pair.told(active, "history")).contains("ended without a word")
    });
    client.until_rows(20);
    assert_survived("the replication daemon killed", &client.stop());
    assert_eq!((pair.active(), term(active)), (active, before.0), "the stack has moved");
    // Within a second the manager need not decide anything; a busy machine may take longer.
    assert!(!every_drill() || version(active) == before.1, "a decision was recorded");
}

fn stopped_manager(pair: &Managed) {
    let from = pair.active();
    let client = pair.client();
    pair.lab.run_in(from, "systemctl stop futago-clusterd");
    assert_eq!(pair.active(), other(from), "a manager that is stopped hands over");
    pair.until_verdict(other(from), "DEGRADED");
    client.until_rows(20);
    assert_survived("the active host's manager stopped", &client.stop());
    pair.lab.run_in(from, "systemctl start futago-clusterd");
    pair.until_protected();
}

fn orderly_shutdown(pair: &Managed) {
    let from = pair.active();
    let client = pair.client();
    pair.lab.run_in(from, "systemctl poweroff");
    pair.until("the host is off", || !pair.lab.is_powered(from));
    assert_eq!(pair.active(), other(from));
    client.until_rows(20);
    assert_survived("the active host shut down", &client.stop());
    pair.restore();
    assert_eq!(pair.active(), other(from), "nothing moves back by itself");
}

pub(crate) fn one_machine_lost(pair: &Managed) {
    for lost in ["active", "standby", WITNESS] {
        let active = pair.active();
        let (host, survivor) = match lost {
            "active" => (active, other(active)),
            "standby" => (other(active), active),
            _ => (WITNESS, active),
        };
        let client = pair.client();
        pair.lab.run("power-off", &[host]);
        pair.until_verdict(survivor, "DEGRADED");
        client.until_rows(20);
        assert_eq!(pair.active(), survivor);
        pair.restore();
        assert_eq!(pair.active(), survivor, "nothing moves back by itself");
        assert_survived(&format!("{lost} lost"), &client.stop());
        assert_whole(pair);
    }
}

/// What the set-up has made is as durable as the rows: power was lost seconds after it.
fn assert_whole(pair: &Managed) {
    let check = "mariadb-check --all-databases --check --silent 2>&1";
    assert_eq!(pair.lab.run_in(pair.active(), check), "", "damaged tables");
}

/// The standby has everything, and no majority: it waits for one, whoever brings it.
fn witness_then_active_lost(pair: &Managed) {
    for back in [WITNESS, "the active host"] {
        let active = pair.active();
        let survivor = other(active);
        let client = pair.client();
        pair.lab.run("power-off", &[WITNESS]);
        pair.until_verdict(survivor, "DEGRADED");
        pair.lab.run("power-off", &[active]);
        pair.until_verdict(survivor, "DOWN");
        waits(pair, survivor, "majority");
        pair.lab.run("power-on", &[if back == WITNESS { WITNESS } else { active }]);
        client.until_rows(20);
        pair.restore();
        ended(&format!("witness, then active lost, {back} back"), client);
    }
}

/// The active host went on alone: the former standby lacks rows and must not start without it.
fn standby_then_active_lost(pair: &Managed) {
    let active = pair.active();
    let behind = other(active);
    let client = pair.client();
    pair.lab.run("power-off", &[behind]);
    until_only(pair, active);
    client.until_rows(20);
    pair.lab.run("power-off", &[active]);
    pair.lab.run("power-on", &[behind]);
    waits(pair, behind, "may lack acknowledged writes");
    pair.lab.run("power-on", &[active]);
    client.until_rows(20);
    assert_eq!(pair.active(), active);
    pair.restore();
    ended("standby, then active lost, standby back first", client);
}

/// The standby took over: it alone is complete, the former active host is behind.
fn active_then_standby_lost(pair: &Managed) {
    for first in ["the complete host", "the host that is behind"] {
        let behind = pair.active();
        let complete = other(behind);
        let client = pair.client();
        pair.lab.run("power-off", &[behind]);
        until_only(pair, complete);
        client.until_rows(20);
        pair.lab.run("power-off", &[complete]);
        if first != "the complete host" {
            pair.lab.run("power-on", &[behind]);
            waits(pair, behind, "may lack acknowledged writes");
        }
        pair.lab.run("power-on", &[complete]);
        client.until_rows(20);
        assert_eq!(pair.active(), complete);
        pair.restore();
        ended(&format!("active, then standby lost, {first} back first"), client);
    }
}

/// Who is alone by the record needs no vote to go on.
fn a_host_then_witness_lost(pair: &Managed) {
    for lost in ["active", "standby"] {
        let active = pair.active();
        let (gone, left) = if lost == "active" { (active, other(active)) } else { (other(active), active) };
        let client = pair.client();
        pair.lab.run("power-off", &[gone]);
        until_only(pair, left);
        pair.lab.run("power-off", &[WITNESS]);
        assert!(stays(NEVER, || pair.active_now() == Some(left)), "{}", pair.shown(left));
        client.until_rows(20);
        pair.restore();
        client.until_rows(20);
        assert_survived(&format!("{lost}, then witness lost"), &client.stop());
    }
}

/// Writes wait, as the standby could have a majority with the witness; they go on when either is back.
fn witness_then_standby_lost(pair: &Managed) {
    for back in [WITNESS, "the standby"] {
        let active = pair.active();
        let standby = other(active);
        let client = pair.client();
        pair.lab.run("power-off", &[WITNESS]);
        pair.until_verdict(active, "DEGRADED");
        pair.lab.run("power-off", &[standby]);
        pair.until_verdict(active, "DOWN");
        let why = || one_line(&pair.told(active, "why"));
        pair.until("it is told what is missing", || why().contains("too few voters"));
        assert!(stays(NEVER, || pair.status(active).is_some_and(|s| s["verdict"] == "DOWN")), "{}", why());
        pair.lab.run("power-on", &[if back == WITNESS { WITNESS } else { standby }]);
        client.until_rows(20);
        assert_eq!(pair.active(), active, "nothing is moved");
        pair.restore();
        ended(&format!("witness, then standby lost, {back} back"), client);
    }
}

/// Both were complete at that moment: the former standby may start, with the witness's vote.
fn both_hosts_lost_at_once(pair: &Managed) {
    let active = pair.active();
    let standby = other(active);
    let client = pair.client();
    let mut cuts = PAIR.map(|host| pair.lab.start("power-off", &[host]));
    for cut in &mut cuts {
        assert!(cut.wait().expect("reap power-off").success());
    }
    pair.lab.run("power-on", &[standby]);
    client.until_rows(20);
    assert_eq!(pair.active(), standby);
    pair.restore();
    assert_eq!(pair.active(), standby, "nothing moves back by itself");
    ended("both hosts lost at once, former standby back first", client);
}

/// The record says that only this host has every acknowledged write, and it runs the stack.
fn until_only(pair: &Managed, host: &str) {
    let side = if host == PAIR[0] { "a" } else { "b" };
    pair.until("the host that is left acts alone, by the record", || {
        pair.status(host).is_some_and(|s| {
            let synced = &s["record"]["synced"];
            s["local"]["role"] == "active"
                && s["record"]["primary"] == side
                && [&synced["a"], &synced["b"]].iter().filter(|yes| ***yes == true).count() == 1
        })
    });
}

/// The host does not start the stack, and its `why` gives the reason.
fn waits(pair: &Managed, host: &str, reason: &str) {
    pair.until("it is told why the host waits", || one_line(&pair.told(host, "why")).contains(reason));
    assert!(stays(NEVER, || pair.active_now().is_none()), "{host} has started\n{}", pair.shown(host));
    let said = one_line(&pair.told(host, "why"));
    assert!(said.contains(reason), "{said}");
}

/// Nothing was lost; how long it took was the drill's own doing.
fn ended(case: &str, client: Client) {
    client.until_rows(20);
    assert_unbroken(case, &client.stop());
}

/// When the units of the stack were started on a host.
fn started(pair: &Managed, host: &str) -> String {
    pair.lab.run_in(host, "systemctl show mariadb apache2 --property=ActiveEnterTimestampMonotonic,MainPID")
}

/// The process of a host's manager.
fn process(pair: &Managed, host: &str) -> String {
    pair.lab.run_in(host, "systemctl show futago-clusterd --property=MainPID")
}

/// KiB that the device's disks differ in.
fn out_of_sync(pair: &Managed, host: &str) -> u64 {
    let text = pair.lab.run_in(host, "futago replica status r0 --verbose --statistics");
    let number = text.split("out-of-sync:").nth(1).and_then(|rest| rest.split_whitespace().next());
    number.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no out-of-sync in {text}"))
}
