//! Golden cases: what a server on loopback answers, and what is said about it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::json;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::super::testing::{applied, checked, mistakes};

/// Bound for a test's own reads, so that a mistake ends.
const BOUND: Duration = Duration::from_secs(20);

/// A server that answers one connection with these bytes; where it is, and what it was asked.
fn server(answer: &'static str) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        converse(&mut stream, answer)
    });
    (address, asked)
}

fn converse<S: std::io::Read + std::io::Write>(stream: &mut S, answer: &str) -> String {
    let mut asked = Vec::new();
    let mut buffer = [0; 1024];
    while !asked.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => asked.extend_from_slice(&buffer[..count]),
        }
    }
    // Whoever refuses the certificate is gone by now.
    let _ = stream.write_all(answer.as_bytes()).and_then(|()| stream.flush());
    String::from_utf8(asked).unwrap()
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Type: text/plain\r\n\r\nall is ok\n";

#[test]
fn a_page_that_answers_as_it_should_changes_nothing_also_in_a_plan() {
    for run in [applied, checked] {
        let (address, asked) = server(OK);
        let args = json!({"url": format!("http://{address}/health?x=1"), "contains": "is ok", "headers": {"Host": "shop"}});
        let outcome = run("http", args);
        assert_eq!((outcome.changed, outcome.unknown, &outcome.failure), (false, false, &None));
        assert_eq!((&outcome.data["status"], &outcome.data["content"]), (&json!(200), &json!("all is ok\n")));
        let asked = asked.join().unwrap();
        assert!(
            asked.starts_with("GET /health?x=1 HTTP/1.1\r\n") && asked.contains("host: shop\r\n"),
            "{asked}"
        );
        assert_eq!(asked.matches("host:").count(), 1, "{asked}");
    }
}

#[test]
fn pieces_and_an_answer_without_a_length_are_read_whole() {
    let pieces = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n";
    let open = "HTTP/1.1 200 OK\r\n\r\nonetwo";
    for answer in [pieces, open] {
        let (address, _asked) = server(answer);
        let outcome = applied("http", json!({"url": format!("http://{address}/"), "contains": "onetwo"}));
        assert_eq!(outcome.failure, None, "{answer}");
    }
}

#[test]
fn another_status_or_text_is_told_with_what_was_answered() {
    let busy = "HTTP/1.1 503 Busy\r\nContent-Length: 12\r\n\r\nno database\n";
    let (address, _asked) = server(busy);
    let outcome = applied("http", json!({"url": format!("http://{address}/")}));
    let failure = outcome.failure.unwrap();
    assert_eq!(failure.message, format!("GET http://{address}/: the answer was 503, not 200"));
    assert_eq!((failure.output.as_str(), &outcome.data["status"]), ("no database", &json!(503)));
    let (address, _asked) = server(busy);
    assert_eq!(
        applied("http", json!({"url": format!("http://{address}/"), "status": [200, 503]})).failure,
        None
    );
    let (address, _asked) = server(OK);
    let failure =
        applied("http", json!({"url": format!("http://{address}/"), "contains": "done"})).failure.unwrap();
    assert!(
        failure.message.ends_with("the answer, 10 bytes, does not contain \"done\""),
        "{}",
        failure.message
    );
    let moved = "HTTP/1.1 301 Moved\r\nLocation: https://shop/\r\nContent-Length: 0\r\n\r\n";
    let (address, _asked) = server(moved);
    let failure = applied("http", json!({"url": format!("http://{address}/")})).failure.unwrap();
    assert_eq!(failure.hint.unwrap(), "it leads to https://shop/: ask for that, or write status: 301");
}

#[test]
fn a_server_that_is_not_there_fails_the_run_and_is_unknown_to_a_plan() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let args = json!({"url": format!("http://{}/", listener.local_addr().unwrap())});
    drop(listener);
    assert!(checked("http", args.clone()).unknown);
    let outcome = applied("http", args);
    assert_eq!(outcome.data["status"], json!(-1));
    let failure = outcome.failure.unwrap();
    assert!(failure.message.contains("connect: Connection refused") && failure.hint.is_some(), "{failure:?}");
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for_without_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let failure = applied("http", json!({"url": url, "timeout": 1})).failure.unwrap();
    assert!(failure.message.ends_with("no answer after 1 s"), "{}", failure.message);
}

/// A server with a certificate of its own making for 127.0.0.1, in PEM.
fn secure_server() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (pem, chain) = (made.cert.pem(), vec![made.cert.der().clone()]);
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let (stream, _): (TcpStream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        converse(&mut stream, OK);
        stream.conn.send_close_notify();
        let _ = stream.flush();
        // Until the other side has closed too.
        let _ = stream.sock.read(&mut [0; 64]);
    });
    (address, pem)
}

#[test]
fn a_certificate_is_checked_unless_it_is_said_not_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let (address, pem) = secure_server();
    std::fs::write(&path, &pem).unwrap();
    let outcome =
        applied("http", json!({"url": format!("https://{address}/"), "ca": path, "contains": "ok"}));
    assert_eq!(outcome.failure, None);
    // The certificate of another server.
    let (address, _) = secure_server();
    let failure = applied("http", json!({"url": format!("https://{address}/"), "ca": path})).failure.unwrap();
    assert!(failure.message.contains("begin TLS 1.3: invalid peer certificate"), "{}", failure.message);
    let (address, _) = secure_server();
    let outcome = applied("http", json!({"url": format!("https://{address}/"), "insecure": true}));
    assert_eq!(outcome.failure, None);
    let none = applied("http", json!({"url": "https://127.0.0.1:1/", "ca": folder.path().join("none.pem")}));
    assert!(none.failure.is_some());
}

#[test]
fn wrong_arguments_are_told_before_contact() {
    let url = "http://127.0.0.1/";
    let cases = [
        (json!({"url": "127.0.0.1/x"}), "\"127.0.0.1/x\" is not a page; write it as http://127.0.0.1/health"),
        (json!({"url": "ftp://x/"}), "\"ftp://x/\" is not a page; write it as http://127.0.0.1/health"),
        (
            json!({"url": "http://me:secret@x/"}),
            "a name and password do not belong into \"url\"; write headers: {Authorization: …}",
        ),
        (json!({"url": url, "status": "2xx"}), "\"2xx\" is not a status of HTTP: 100 to 599"),
        (json!({"url": url, "headers": {"A b": "x"}}), "\"A b\" is not a header of HTTP with a text"),
        (json!({"url": url, "ca": "/x", "insecure": true}), "module http takes ca or insecure, not both"),
        (json!({"url": url, "timeout": 0}), "argument \"timeout\" of module http must be 1 or more"),
        (
            json!({"url": url, "status_code": 200}),
            "module http has no argument \"status_code\"; did you mean \"status\"?",
        ),
    ];
    for (args, wanted) in cases {
        assert_eq!(mistakes("http", args.clone()), [wanted], "{args}");
    }
}
