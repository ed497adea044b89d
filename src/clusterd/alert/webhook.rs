//! The hook that is a web address: a POST of JSON over plain HTTP. Tried again when nobody takes it: the network
//! is often part of what the alert is about.

use std::time::Duration;

use base::time::rfc3339;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Letter, Origin, level};

/// Attempts before an alert is given up.
const ATTEMPTS: u32 = 3;
/// Pause between two attempts.
const AGAIN: Duration = Duration::from_secs(1);

/// Posts the alert; any answer from 200 to 299 is good.
pub(super) async fn deliver(
    url: &str,
    origin: &Origin,
    letter: &Letter,
    longest: Duration,
) -> Result<(), String> {
    let uri: Uri = url.parse().map_err(|error| format!("it is no web address: {error}"))?;
    let body = body(origin, letter);
    let attempts = async {
        let mut last = Ok(());
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                sleep(AGAIN).await;
            }
            last = post(&uri, &body).await;
            if last.is_ok() {
                break;
            }
        }
        last
    };
    let late = |_| Err(format!("no answer within {} s", longest.as_secs()));
    timeout(longest, attempts).await.unwrap_or_else(late)
}

fn body(origin: &Origin, letter: &Letter) -> String {
    let value = serde_json::json!({
        "cluster": origin.cluster,
        "node": origin.node,
        "kind": letter.alert.kind,
        "level": level(letter.alert.level),
        "text": letter.alert.text,
        "time": rfc3339(letter.at),
        "dropped": letter.dropped,
    });
    value.to_string()
}

async fn post(uri: &Uri, body: &str) -> Result<(), String> {
    if uri.scheme_str() != Some("http") {
        return Err("only http:// addresses are served".to_owned());
    }
    let host = uri.host().ok_or("the address has no host")?;
    let port = uri.port_u16().unwrap_or(80);
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port))
        .await
        .map_err(|error| format!("connect: {error}"))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| format!("begin HTTP: {error}"))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let named = if port == 80 { host.to_owned() } else { format!("{host}:{port}") };
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, named)
        .header(USER_AGENT, concat!("futago/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.to_owned())))
        .map_err(|error| format!("make the request: {error}"))?;
    // The task ends with the set. The body of the answer is not read.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let answer = sender.send_request(request).await.map_err(|error| format!("post: {error}"))?;
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
}

#[cfg(test)]
mod tests {
    use super::super::Alert;
    use super::*;
    use cluster::event::LogLevel;
    use std::time::SystemTime;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    fn letter() -> Letter {
        let alert =
            Alert { level: LogLevel::Error, kind: "held".to_owned(), text: "say \"when\"".to_owned() };
        Letter { alert, at: SystemTime::UNIX_EPOCH, sequence: 1, dropped: 2 }
    }

    fn origin() -> Origin {
        Origin { cluster: "c".to_owned(), node: "n".to_owned() }
    }

    /// Answers each connection with the next of these, and returns what was asked last.
    async fn server(answers: Vec<&'static str>) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?x=1", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let mut asked = String::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut bytes = Vec::new();
                while !String::from_utf8_lossy(&bytes).contains("\r\n\r\n{") || bytes.last() != Some(&b'}') {
                    let mut piece = [0; 512];
                    let n = stream.read(&mut piece).await.unwrap();
                    bytes.extend_from_slice(&piece[..n]);
                }
                asked = String::from_utf8(bytes).unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            asked
        });
        (url, task)
    }

    #[tokio::test]
    async fn the_alert_is_posted_as_json_and_again_when_it_is_not_taken() {
        let ok = "HTTP/1.1 204 No Content\r\n\r\n";
        let (url, task) = server(vec!["HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", ok]).await;
        deliver(&url, &origin(), &letter(), Duration::from_secs(30)).await.unwrap();
        let asked = task.await.unwrap();
        assert!(asked.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{asked}");
        let (_, body) = asked.split_once("\r\n\r\n").unwrap();
        let value: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(value["text"], "say \"when\"");
        assert_eq!(value["level"], "error");
        assert_eq!(value["time"], "1970-01-01T00:00:00Z");
        assert_eq!(value["dropped"], 2);
    }

    #[tokio::test]
    async fn a_server_that_never_answers_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let error = deliver(&url, &origin(), &letter(), Duration::from_millis(200)).await.unwrap_err();
        assert!(error.starts_with("no answer within"), "{error}");
    }

    #[tokio::test]
    async fn only_plain_http_is_served() {
        let error = post(&Uri::from_static("https://127.0.0.1/"), "").await.unwrap_err();
        assert!(error.contains("http://"), "{error}");
    }
}
