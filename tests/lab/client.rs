//! The client and the auditor themselves, with nobody but the test to manage the hosts.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;

use rustix::process::Signal;

use crate::harness::{Client, Lab, output, possible, signal};

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

    published(&lab);

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

/// A browser on this machine sees the service, and only as long as somebody publishes it.
fn published(lab: &Lab) {
    let mut command = lab.command("publish", &["0"]);
    let mut publishing = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("start futago");
    let mut told = BufReader::new(publishing.stdout.take().expect("its stdout")).lines();
    let place =
        told.find_map(|line| Some(line.ok()?.strip_prefix("url: http://")?.strip_suffix('/')?.to_owned()));
    let place = place.expect("a URL");
    let answers: Vec<String> = (1..=3).map(|id| answer(&place, &format!("/row.php?id={id}"))).collect();
    signal(Signal::INT, publishing.id());
    assert_eq!(publishing.wait().expect("reap futago").code(), Some(0));
    for (answer, id) in answers.iter().zip(1..) {
        assert!(answer.ends_with(&format!("ok {id}\n")), "{answer}");
    }
    assert!(TcpStream::connect(&place).is_err(), "nobody listens any more");

    let taken = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = taken.local_addr().expect("an address").port().to_string();
    let nowhere = Lab::named();
    for (lab, words) in [(lab, "name another PORT"), (&nowhere, "is not up")] {
        let refused = output(lab.command("publish", &[&port]));
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(1) && said.contains(words), "{said}");
    }
}

/// What the service says to a request, all of it.
fn answer(place: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(place).expect("connect");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("ask");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("read the answer");
    text
}
