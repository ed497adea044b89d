//! The manager and the witness as processes: real sockets, real files, real certificates, on loopback.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use cluster::control::{Command, Status};
use cluster::member::Node;
use clusterd::ctl::{Answer, Request};
use harness::{Authority, World, until};
use rustix::process::Signal;

fn all_paths_up(status: &Status) -> bool {
    status.paths.len() == 3 && status.paths.iter().all(|path| path.heard_ms_ago.is_some_and(|ms| ms < 2000))
}

fn has_record(status: &Status) -> bool {
    status.record.primary == Some(Node::A)
}

#[test]
fn two_managers_and_a_witness_keep_one_record_over_the_death_of_each() {
    let world = World::new();
    let (witness, a, b) = (world.witness(), world.manager("a"), world.manager("b"));
    world.bootstrap();
    world.status_when("a", "A has the record", has_record);
    world.status_when("b", "B learns of the record", has_record);
    world.status_when("a", "every path carries something", all_paths_up);

    b.kill();
    world.status_when("a", "A notices that B is gone", |s| s.peer_heard_ms_ago.is_none_or(|ms| ms > 1500));
    let b = world.manager("b");
    world.status_when("b", "B finds the record again", has_record);
    world.status_when("a", "A hears B again", |s| s.peer_heard_ms_ago.is_some_and(|ms| ms < 1000));

    witness.kill();
    let _witness = world.witness();
    until("A finds the witness again", || {
        (a.log().matches("path 1 to w.example.com is up").count() == 2).then_some(())
    });
    b.kill();
    let hold = Command::Hold { reason: "a majority is A and the witness".to_owned() };
    let request = Request::Command { command: hold, timeout_ms: 10_000 };
    until("A and the witness change the record", || match world.ask("a", &request) {
        Some(Answer::Done(_)) => Some(()),
        _ => None,
    });

    a.kill();
    let a = world.manager("a");
    let status = world.status_when("a", "A finds the record again", has_record);
    assert!(status.record.intent.hold.is_some());
    drop(a);
}

#[test]
fn one_witness_keeps_two_clusters_apart() {
    let ha = World::new();
    let shop = ha.beside("shop");
    let witness = ha.witness();
    let both = [&ha, &shop];
    let managers = both.map(|world| (world.manager("a"), world.manager("b")));
    for world in both {
        world.bootstrap();
        world.status_when("b", "B learns of the record", has_record);
    }
    // From here on the witness's vote is needed.
    let _alone = managers.map(|(a, b)| {
        b.kill();
        a
    });
    let hold = Command::Hold { reason: "only here".to_owned() };
    let request = Request::Command { command: hold, timeout_ms: 10_000 };
    until("A and the witness change the record", || match ha.ask("a", &request) {
        Some(Answer::Done(_)) => Some(()),
        _ => None,
    });
    witness.kill();
    let _witness = ha.witness();
    for (world, is_held) in [(&ha, true), (&shop, false)] {
        let maintenance = Request::Command { command: Command::Maintenance { on: true }, timeout_ms: 10_000 };
        until("A and the next witness change the record", || match world.ask("a", &maintenance) {
            Some(Answer::Done(_)) => Some(()),
            _ => None,
        });
        let status = world.status_when("a", "A has the record", |s| s.record.intent.maintenance);
        assert_eq!(status.record.intent.hold.is_some(), is_held, "{}", status.cluster);
    }
    for cluster in ["ha", "shop"] {
        assert!(ha.path(&format!("state-w/{cluster}.json")).is_file(), "{cluster}");
    }
}

#[test]
fn the_socket_watches_and_the_program_is_exchanged_by_a_signal() {
    let world = World::new();
    let (_witness, mut a, _b) = (world.witness(), world.manager("a"), world.manager("b"));
    world.bootstrap();
    let socket = world.path("run-a").join("clusterd.sock");
    let mode = fs::metadata(&socket).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "for root alone");
    let mut watch = clusterd::ctl::Asked::send(&socket, &Request::Watch).unwrap();
    for _ in 0..3 {
        assert!(matches!(watch.answer().unwrap(), Answer::Status(_)));
    }
    a.signal(Signal::HUP);
    assert!(a.end().success(), "{}", a.log());
    assert!(!socket.exists());
    let _a = world.manager("a");
    world.status_when("a", "the next program finds the record", has_record);
}

#[test]
fn the_witness_tells_systemd_that_it_is_alive_until_it_hangs() {
    let world = World::new();
    let socket = world.path("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let told = || {
        let mut text = [0; 64];
        let length = systemd.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let within = Duration::from_millis(400);
    let micros = within.as_micros().to_string();
    let variables = [("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", micros.as_str())];
    let witness = world.witness_in(&variables);
    assert_eq!([told(), told(), told()], ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]);

    witness.signal(Signal::STOP);
    systemd.set_read_timeout(Some(within)).unwrap();
    let mut text = [0; 64];
    // What was said before it was stopped; then nothing for as long as systemd waits.
    until("it is silent", || systemd.recv(&mut text).is_err().then_some(()));
    systemd.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    witness.signal(Signal::CONT);
    assert_eq!(told(), "WATCHDOG=1");
}

#[test]
fn a_second_manager_on_the_same_state_is_refused() {
    let world = World::new();
    let _a = world.manager("a");
    until("the manager answers", || world.status("a"));
    let mut second = world.manager("a");
    assert!(!second.end().success());
    assert!(second.log().contains("is another cluster manager running?"));
    assert!(world.status("a").is_some(), "the first goes on");
}

#[test]
fn a_member_with_a_certificate_of_another_authority_is_not_talked_to() {
    let world = World::new();
    Authority::new().vouch(&world.path("tls-b"), &["b.ha.futago.internal"]);
    let (_witness, a, b) = (world.witness(), world.manager("a"), world.manager("b"));
    until("A refuses B's certificate", || a.log().contains("invalid peer certificate").then_some(()));
    until("the witness refuses B", || {
        fs::read_to_string(world.path("w.log")).unwrap().contains("refused a connection").then_some(())
    });
    let heard = world.status("a").unwrap().peer_heard_ms_ago;
    assert_eq!(heard, None, "{}", b.log());
}

#[test]
fn a_member_of_another_cluster_or_in_another_role_is_refused() {
    let world = World::new();
    // Of the same authority: the name alone decides.
    world.authority.vouch(&world.path("tls-b"), &["b.example.com", "b.other.futago.internal"]);
    let mut b = world.manager("b");
    assert!(!b.end().success());
    assert!(b.log().contains("does not name \"b.ha.futago.internal\""), "{}", b.log());

    // It says that it is B, and is a witness elsewhere.
    world.authority.vouch(&world.path("tls-b"), &["b.ha.futago.internal", "witness.ha.futago.internal"]);
    world.authority.vouch(&world.path("tls-w"), &["w.example.com", "witness.other.futago.internal"]);
    let (witness, a) = (world.witness(), world.manager("a"));
    until("A refuses the witness of another cluster", || {
        a.log().contains("certificate not valid for name").then_some(())
    });
    assert!(world.status("a").unwrap().witness_heard_ms_ago.is_none(), "{}", witness.log());
}

#[test]
fn a_damaged_vote_is_refused_and_says_what_to_do() {
    let world = World::new();
    let (witness, a, _b) = (world.witness(), world.manager("a"), world.manager("b"));
    world.bootstrap();
    a.kill();
    witness.kill();
    for (file, start) in [("state-a/acceptor.json", "a"), ("state-w/ha.json", "w")] {
        let path = world.path(file);
        let whole = fs::read(&path).unwrap();
        let start = || if start == "w" { world.witness() } else { world.manager("a") };
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let mut cut = start();
        assert!(!cut.end().success());
        assert!(cut.log().contains("is damaged"), "{}", cut.log());
        let garbled = String::from_utf8(whole.clone()).unwrap().replace("\"round\":", "\"round\":9");
        fs::write(&path, garbled).unwrap();
        let mut garbled = start();
        assert!(!garbled.end().success());
        assert!(garbled.log().contains("its checksum is wrong"), "{}", garbled.log());
        fs::write(&path, whole).unwrap();
        let _whole = start();
    }
}
