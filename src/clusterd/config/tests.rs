//! Golden cases: what a whole file means, and that every mistake is reported at once.

use super::*;
use cluster::config::{Check, Class, ForeignStart, Quorum, ResourceId};
use cluster::timing::Timing;

const WHOLE: &str = r#"
cluster: ha.example.com
failover_target: default
window: 10m
nodes:
  - {name: ha-a.example.com, paths: [10.9.0.1, 203.0.113.11]}
  - {name: ha-b.example.com, paths: [10.9.0.2, 203.0.113.12]}
witness: {name: witness.example.com, addresses: [203.0.113.3]}
tls: /etc/futago/tls
metrics: {listen: ["10.9.0.1:7792"]}
watchdog: auto
gateway: 203.0.113.1
group:
  - {name: r0, class: "futago:replica", resource: r0}
  - {name: data, class: "futago:mount", device: /dev/drbd1, directory: /srv/data, fstype: ext4, options: noatime}
  - {name: mariadb, class: "systemd:mariadb", check: {sql: /run/mysqld/mysqld.sock}, start_timeout: 90s, restarts: 1}
  - {name: web, class: "systemd:apache2", check: {http: "http://127.0.0.1/", contains: ok}, after: [data]}
  - {name: address, class: "futago:address", address: 203.0.113.10/24, interface: eth0}
  - {name: ip2, class: "ocf:heartbeat:IPaddr2", params: {ip: 203.0.113.11, cidr_netmask: 24}, check_level: 10}
everywhere:
  - {name: haproxy, class: "systemd:haproxy.service"}
policy: {foreign_start: alarm, reboot_on_failed_stop: true, watch_public_link: false}
fencing: [{target: ha-a.example.com, agent: fence_ipmilan, params: {ip: 10.8.0.1}, timeout: 45s}]
alerts: [{exec: /usr/local/bin/hook}, {webhook: "http://127.0.0.1:9/x"}]
"#;

fn read(text: &str) -> Result<Settings, Problems> {
    cluster("c.yml", text, "ha-b.example.com")
}

#[test]
fn a_whole_file_is_understood() {
    let settings = read(WHOLE).unwrap();
    let core = &settings.core;
    assert_eq!((core.node, core.quorum), (Node::B, Quorum::Witness));
    assert_eq!(core.timing, Timing::derive(Timing::DEFAULT_MS, 600_000).unwrap());
    assert_eq!(settings.paths(Node::A)[1].to_string(), "203.0.113.11");
    assert_eq!(settings.witness.as_ref().unwrap().addresses[0].to_string(), "203.0.113.3:7791");
    let database = &core.group[2];
    let Class::Systemd { unit, check: Some(Check::Sql { socket }) } = &database.class else {
        panic!("{database:?}")
    };
    assert_eq!((unit.as_str(), socket.as_str()), ("mariadb.service", "/run/mysqld/mysqld.sock"));
    assert_eq!((database.start_timeout_ms, database.restarts), (90_000, 1));
    assert_eq!(database.after, [ResourceId(1)], "the one before it");
    assert_eq!(core.group[3].after, [ResourceId(1)], "as written");
    assert!(core.group[1].restart_dependents && !database.restart_dependents);
    let Class::Ocf { params, check_level, .. } = &core.group[5].class else { panic!() };
    assert_eq!((params["cidr_netmask"].as_str(), *check_level), ("24", 10));
    assert_eq!(core.everywhere[0].name, "haproxy");
    assert_eq!(core.policy.foreign_start, ForeignStart::Alarm);
    assert_eq!(settings.public_interface.as_deref(), Some("eth0"));
    assert_eq!(settings.fencing(Node::A).unwrap().timeout, Duration::from_secs(45));
    assert_eq!(settings.fencing(Node::B), None);
    assert_eq!(settings.alerts.len(), 2);
}

#[test]
fn votes_are_counted_by_what_is_there() {
    let quorum = |text: &str| read(text).unwrap().core.quorum;
    let alone = WHOLE.replace("witness: {name", "#");
    assert_eq!(quorum(&alone), Quorum::Manual, "one fence device is not two");
    let fenced = alone.replace("fencing: [", "fencing: [{target: ha-b.example.com, agent: fence_ipmilan},");
    assert_eq!(quorum(&fenced), Quorum::Fencing);
    let etcd = format!("{alone}etcd: {{endpoints: [\"http://10.0.0.1:2379\"]}}\n");
    assert_eq!(quorum(&etcd), Quorum::Etcd);
}

#[test]
fn etcd_is_reached_plainly_or_with_everything_that_tls_needs() {
    let with =
        |section: &str| read(&format!("{}etcd: {{{section}}}\n", WHOLE.replace("witness: {name", "#")));
    let said = |section: &str| with(section).unwrap_err().to_string();
    let whole = "endpoints: [\"https://etcd-1:2379\", \"https://[fd00::2]:2379/\"], ca: /e/ca.pem, cert: /e/c.pem, \
                 key: /e/c.key, user: futago, password_file: /e/password";
    let etcd = with(whole).unwrap().etcd.unwrap();
    assert_eq!(etcd.endpoints.iter().map(etcd::host).collect::<Vec<_>>(), ["etcd-1", "fd00::2"]);
    let tls = etcd.tls.unwrap();
    assert_eq!((tls.ca, tls.own), ("/e/ca.pem".into(), Some(("/e/c.pem".into(), "/e/c.key".into()))));
    assert_eq!(etcd.login.unwrap().password_file, Path::new("/e/password"));
    for (section, message) in [
        ("endpoints: [\"etcd-1:2379\"]", "\"etcd-1:2379\" is not https://HOST:PORT or http://HOST:PORT"),
        ("endpoints: [\"http://etcd-1/v3\"]", "is not https://HOST:PORT"),
        ("endpoints: [\"https://a:1\"]", "\"ca\" is missing"),
        (
            "endpoints: [\"https://a:1\", \"http://b:1\"], ca: /ca",
            "some endpoints are https and some are http",
        ),
        ("endpoints: [\"http://a:1\"], ca: /ca", "files of TLS are given, and the endpoints are not https"),
        ("endpoints: [\"https://a:1\"], ca: /ca, key: /key", "\"cert\" and \"key\" belong together"),
        ("endpoints: [\"https://a:1\"], ca: /ca, user: x", "\"user\" and \"password_file\" belong together"),
        ("endpoints: [\"http://a:1\"], user: x, password_file: /p", "a password is sent over https only"),
        ("endpoints: [\"https://a:1\"], ca: ca.pem", "\"ca\" must be a path that begins with /"),
    ] {
        assert!(said(section).contains(message), "{section}: {}", said(section));
    }
}

#[test]
fn a_fence_agent_is_a_name_or_an_absolute_path() {
    let with = |agent: &str| read(&WHOLE.replace("agent: fence_ipmilan", &format!("agent: {agent}")));
    assert_eq!(with("/opt/bin/fence_own").unwrap().fencing(Node::A).unwrap().agent, "/opt/bin/fence_own");
    assert!(with("bin/fence_own").is_err());
}

#[test]
fn a_unit_has_less_time_for_its_check_than_an_agent() {
    let settings = read(WHOLE).unwrap();
    let ms = |is: fn(&Class) -> bool| {
        settings.core.group.iter().find(|r| is(&r.class)).unwrap().monitor_timeout_ms
    };
    assert_eq!(ms(|class| matches!(class, Class::Systemd { .. })), 5_000);
    assert_eq!(ms(|class| matches!(class, Class::Ocf { .. })), 10_000);
}

#[test]
fn a_target_may_be_a_word_or_seconds() {
    for (text, ms) in [("fast", 2_400), ("calm", 10_000), ("2.4", 2_400), ("12", 12_000), ("3500ms", 3_500)] {
        let text = WHOLE.replace("failover_target: default", &format!("failover_target: {text}"));
        assert_eq!(read(&text).unwrap().core.timing.failover_target_ms, ms);
    }
}

#[test]
fn every_mistake_is_found_at_once_with_place_and_nearest_name() {
    let text = r#"clustre: x
cluster: ha
failover_target: 2
nodes:
  - {name: a, paths: [10.9.0.1, 10.9.0.1]}
  - {name: b, paths: [10.9.0]}
witness: {name: a, addresses: ["10.9.0.1"]}
watchdog: maybe
group:
  - {name: data, class: "futago:mont", device: /dev/drbd1}
  - {name: data, class: "systemd:x", start_timeout: 5, afte: [data]}
  - {name: ip, class: "futago:address", address: 10.0.0.1, interface: eth0, after: [dat]}
everywhere:
  - {name: fs, class: "futago:mount"}
policy: {foreign_start: stpo}
alerts: [{mail: root}]
"#;
    let expected = r#"c.yml:1:1: the configuration of a cluster has no key "clustre"
  hint: did you mean "cluster"?
c.yml:3:18: failover_target 2000 ms is out of range: 2400 (fast) to 60000; below, ordinary scheduling delays would look like death
c.yml:5:3: this host is called "ha-b.example.com" (`uname -n`), and the nodes are "a" and "b"
  hint: set the host name, or write the name that `uname -n` prints
c.yml:6:5: the address 10.9.0.1 is there twice
c.yml:6:5: the nodes have 2 and 0 paths: both need the same number, at most 8
c.yml:6:23: "10.9.0" is not an address such as 10.9.0.1 or 2001:db8::1
c.yml:7:10: the witness "a" is a data host: a third machine must vote
c.yml:7:32: 10.9.0.1 is an address of a data host: a witness there fails together with it
c.yml:8:11: "watchdog" cannot be "maybe"
  hint: allowed: auto, required, off
c.yml:10:3: the group has no "futago:replica": without the data there is nothing to move
c.yml:10:25: there is no class "futago:mont"
  hint: did you mean "futago:mount"?
c.yml:11:12: two resources are called "data"
c.yml:11:53: "start_timeout" must be a duration, not 5
  hint: a number with a unit: 300ms, 5s, 10m, 2h
c.yml:11:56: a resource has no key "afte"
  hint: did you mean "after"?
c.yml:12:50: "10.0.0.1" is not an address with its prefix length, such as 203.0.113.10/24
c.yml:12:85: the group has before this one no resource "dat"
  hint: did you mean "data"?
c.yml:14:23: "futago:mount" cannot run on both hosts: it belongs to the group
c.yml:15:25: "foreign_start" cannot be "stpo"
  hint: did you mean "stop"?
c.yml:16:10: an alert is either "exec" or "webhook"
c.yml:16:11: an alert has no key "mail"
  hint: allowed: exec, webhook"#;
    assert_eq!(read(text).unwrap_err().to_string(), expected);
}

#[test]
fn a_watchdog_that_would_come_too_late_is_refused_where_it_is_required() {
    let with = |target: &str, watchdog: &str| {
        let times = format!("cluster: ha\nfailover_target: {target}\nwatchdog: {watchdog}\n");
        read(&times).unwrap_err().to_string()
    };
    let refusal = "c.yml:3:11: \"watchdog: required\" needs a failover_target of 4 s or more, not 2400 ms";
    assert!(with("fast", "required").contains(refusal), "{}", with("fast", "required"));
    for (target, watchdog) in [("fast", "auto"), ("fast", "off"), ("4", "required"), ("calm", "required")] {
        assert!(!with(target, watchdog).contains("watchdog"), "{target} {watchdog}");
    }
}

#[test]
fn a_witness_knows_where_to_listen() {
    let settings = witness("w.yml", "listen: [\"127.0.0.1:7791\", \"::1\"]\n").unwrap();
    assert_eq!(settings.listen[1].to_string(), "[::1]:7791");
    assert_eq!(settings.state, Path::new("/var/lib/futago/witness"));
    let wrong = witness("w.yml", "lisen: []\n").unwrap_err().to_string();
    assert!(wrong.contains("did you mean \"listen\"?"), "{wrong}");
}
