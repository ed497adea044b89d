//! The client against a real etcd on loopback, where one is installed (Debian's etcd-server).

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use cluster::etcd::{Change, Compare, Holder, Revision, View};
use cluster::member::Node;
use cluster::record::{Record, Term};

use super::*;
use crate::mailbox;

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
    let (mailbox, _) = mailbox::mailbox();
    Members::new(endpoints, "ha.example.com", timeout_ms, mailbox).unwrap().0
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
    let members_of = |url: &str| members(&[url.to_owned()], 200);
    let change =
        Request::Change { when: Vec::new(), then: vec![Change::PutRecord(Record::created(Node::A))] };
    assert_eq!(members_of("http://127.0.0.1:1").answer(&change).await, Answer::NotDone);
    // Takes connections, answers nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    assert_eq!(members_of(&url).answer(&change).await, Answer::Lost);
}

#[tokio::test]
async fn https_is_refused() {
    let (mailbox, _) = mailbox::mailbox();
    let error = Members::new(&["https://127.0.0.1:2379".to_owned()], "c", 1, mailbox).unwrap_err();
    assert!(error.to_string().contains("https is not supported"), "{error}");
}
