//! The client against a real etcd on loopback, where one is installed (Debian's etcd-server), and against servers that
//! behave badly.

mod fake;
mod login;
mod secure;

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use cluster::etcd::{Change, Compare, Holder, Revision, View};
use cluster::member::Node;
use cluster::record::{Record, Term};

use super::*;
use crate::config::etcd::{self as config, Tls};
use crate::mailbox;
use fake::Fake;

struct Server {
    process: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// `None` where etcd is not installed.
fn server() -> Option<Server> {
    let free = || format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let (url, peer) = (free(), free());
    let folder = tempfile::tempdir().unwrap();
    let process = Command::new("etcd")
        .arg("--data-dir")
        .arg(folder.path())
        .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match process {
        Ok(process) => Some(Server { process, url, _folder: folder }),
        // Not this machine's business: the lab has a drill with etcd on hosts of its own (`cargo xtask soak`).
        Err(error) => {
            eprintln!("skipped: start etcd: {error}");
            None
        }
    }
}

fn members(endpoints: &[String], timeout_ms: Millis) -> Arc<Inner> {
    members_of(endpoints, timeout_ms, None, None)
}

/// What is wrong is told at once, not after a silence.
fn members_of(
    endpoints: &[String],
    store_timeout_ms: Millis,
    tls: Option<Tls>,
    login: Option<config::Login>,
) -> Arc<Inner> {
    let (mailbox, _) = mailbox::mailbox();
    let endpoints = endpoints.iter().map(|text| text.parse().unwrap()).collect();
    let timing = Timing { store_timeout_ms, ..Timing::derive(Timing::DEFAULT_MS, 600_000).unwrap() };
    let members = Members::new(&Etcd { endpoints, tls, login }, "ha.example.com", &timing, mailbox);
    let mut inner = Arc::into_inner(members.unwrap().0).unwrap();
    (inner.silence_ms, inner.tell_at) = (0, AtomicU64::new(0));
    Arc::new(inner)
}

/// Why the last question was not answered.
fn told(members: &Inner) -> String {
    members.trouble.borrow().clone().unwrap_or_default()
}

fn change() -> Request {
    Request::Change { when: Vec::new(), then: vec![Change::PutRecord(Record::created(Node::A))] }
}

#[tokio::test]
async fn every_request_is_understood_by_a_real_etcd() {
    let Some(server) = server() else { return };
    let members = members(&["http://127.0.0.1:1".to_owned(), server.url.clone()], 10_000);
    while members.answer(&Request::Look).await != Answer::Found(View::default()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let holder = Holder { node: Node::A, term: Term(1) };
    let create = |at: Revision| Request::Change {
        when: vec![Compare::Record(at), Compare::Lease(Revision(0))],
        then: vec![Change::PutRecord(Record::created(Node::A)), Change::DropLease],
    };
    let Answer::Changed(first) = members.answer(&create(Revision(0))).await else { panic!("not created") };
    let found = View { record: Some((Record::created(Node::A), first)), lease: None };
    assert_eq!(members.answer(&create(Revision(0))).await, Answer::Found(found.clone()));
    assert_eq!(members.answer(&Request::Look).await, Answer::Found(found));

    let Answer::Lease { lease, ttl_s: 4 } = members.answer(&Request::Grant { ttl_s: 4 }).await else {
        panic!("not granted")
    };
    let put =
        Request::Change { when: vec![Compare::Record(first)], then: vec![Change::PutLease(holder, lease)] };
    let Answer::Changed(second) = members.answer(&put).await else { panic!("not put") };
    let alive = members.answer(&Request::KeepAlive { lease }).await;
    assert_eq!(alive, Answer::Lease { lease, ttl_s: 4 });
    let held = |on| Request::Change {
        when: vec![Compare::Record(first), Compare::HeldBy(holder), Compare::On(on)],
        then: Vec::new(),
    };
    assert!(matches!(members.answer(&held(lease)).await, Answer::Changed(_)));
    let other = cluster::etcd::LeaseId(lease.0 ^ 1);
    let both = View { record: Some((Record::created(Node::A), first)), lease: Some((holder, second)) };
    assert_eq!(members.answer(&held(other)).await, Answer::Found(both));

    assert_eq!(members.answer(&Request::Revoke { lease }).await, Answer::Revoked);
    assert_eq!(members.answer(&Request::Revoke { lease }).await, Answer::NoLease);
    let over = members.answer(&Request::KeepAlive { lease }).await;
    assert!(matches!(over, Answer::Lease { ttl_s: 0, .. } | Answer::NoLease), "{over:?}");
    assert_eq!(members.answer(&put).await, Answer::NoLease);
    let Answer::Found(View { record: Some(_), lease: None }) = members.answer(&Request::Look).await else {
        panic!("the key went with its lease")
    };
}

#[tokio::test]
async fn what_never_left_is_not_done_and_what_was_not_answered_is_lost() {
    let of = |url: &str| members(&[url.to_owned()], 200);
    let closed = of("http://127.0.0.1:1");
    assert_eq!(closed.answer(&change()).await, Answer::NotDone);
    let why = "http://127.0.0.1:1 cannot be reached: Connection refused (os error 111): is it running there";
    assert!(told(&closed).contains(why), "{}", told(&closed));
    // Takes connections, answers nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let silent = of(&url);
    assert_eq!(silent.answer(&change()).await, Answer::Lost);
    assert!(told(&silent).contains(&format!("{url} does not answer within 200 ms")), "{}", told(&silent));
}

#[tokio::test]
async fn a_member_that_hangs_is_left_for_the_next_within_the_time_of_a_question() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let hangs = format!("http://{}", silent.local_addr().unwrap());
    let good = Fake::start(None, |_| fake::nothing_there()).await;
    let members = members(&[hangs, good.url()], 10_000);
    assert_eq!(members.answer(&Request::Look).await, Answer::Found(View::default()));
    assert_eq!(members.first.load(Ordering::Relaxed), 1, "it is asked first from now on");
    assert_eq!(told(&members), "");
}

#[tokio::test]
async fn a_member_without_a_leader_is_left_for_the_next_even_with_a_change() {
    let alone = Fake::start(None, |_| fake::error(503, 14, "etcdserver: no leader")).await;
    let good = Fake::start(None, |asked| {
        assert_eq!(asked.headers["grpc-metadata-hasleader"], "true");
        fake::changed(7)
    })
    .await;
    let both = members(&[alone.url(), good.url()], 10_000);
    assert_eq!(both.answer(&change()).await, Answer::Changed(Revision(7)));
    assert_eq!((alone.asked(), good.asked()), (1, 1));
    let one = members(&[alone.url()], 10_000);
    assert_eq!(one.answer(&change()).await, Answer::NotDone);
    assert!(told(&one).contains("no leader: it is cut off from the other members"), "{}", told(&one));
}

#[tokio::test]
async fn a_change_that_was_not_answered_is_not_sent_again() {
    // Some of etcd's errors come when it has begun.
    let late = Fake::start(None, |_| fake::error(503, 14, "etcdserver: request timed out")).await;
    let other = Fake::start(None, |_| fake::changed(7)).await;
    let both = members(&[late.url(), other.url()], 10_000);
    assert_eq!(both.answer(&change()).await, Answer::Lost);
    assert_eq!((late.asked(), other.asked()), (1, 0));
    assert!(told(&both).contains("request timed out"), "{}", told(&both));
    // Nor when the member hangs after it has been sent, and the others are ready for it.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let hangs = format!("http://{}", silent.local_addr().unwrap());
    let both = members(&[hangs, other.url()], 1_000);
    assert_eq!(both.answer(&change()).await, Answer::Lost);
    assert_eq!(other.asked(), 0);
    assert!(!told(&both).contains(&other.url()), "it was ready: {}", told(&both));
    assert_eq!(both.answer(&change()).await, Answer::Changed(Revision(7)), "the next one is sent elsewhere");
    // What changes nothing may be asked elsewhere.
    let late = Fake::start(None, |_| fake::error(503, 14, "etcdserver: request timed out")).await;
    let good = Fake::start(None, |_| fake::nothing_there()).await;
    let both = members(&[late.url(), good.url()], 10_000);
    assert_eq!(both.answer(&Request::Look).await, Answer::Found(View::default()));
}

#[test]
fn what_etcd_refuses_before_it_begins_is_not_done_and_says_what_to_do() {
    let refused =
        |message: &str| wire::refused(&change(), fake::error(400, 3, message).1.to_string().as_bytes());
    for (message, advice) in [
        ("etcdserver: no leader", "cut off from the other members"),
        ("etcdserver: permission denied", "readwrite on the prefix"),
        ("etcdserver: user name is empty", "give \"user\""),
    ] {
        let Refusal::NotBegun(why) = refused(message) else { panic!("{:?}", refused(message)) };
        assert!(why.starts_with(message) && why.contains(advice), "{why}");
    }
    assert!(matches!(refused("etcdserver: request timed out"), Refusal::Unknown(_)));
    assert!(matches!(refused("etcdserver: no leader, or so"), Refusal::Unknown(_)));
    let gateway = b"CommonName of client sending a request against gateway will be ignored\n";
    assert!(wire::reason(gateway).ends_with("make \"cert\" without a common name, with other names only"));
}
