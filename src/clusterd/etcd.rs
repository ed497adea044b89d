//! The way to an etcd cluster: its JSON gateway over plain HTTP, the members tried in turn.
//!
//! A change is sent once: after it may have left, another member is not tried, and no answer is told as such.
//! There is no pool of connections: a question comes every few hundred milliseconds, and an old connection to a
//! member that has gone would cost it its time.

#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cluster::etcd::{Answer, Request};
use cluster::timing::Millis;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::mailbox::{Input, Mailbox};
use wire::Keys;

/// Far above two keys with every resource in them.
const MAX_ANSWER: usize = 1 << 20;

/// The members of an etcd cluster.
#[derive(Clone, Debug)]
pub(crate) struct Members(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    endpoints: Vec<Uri>,
    keys: Keys,
    /// The member that is asked first: the last one that answered.
    first: AtomicUsize,
    patience: Duration,
    /// Why nobody answers: said once.
    trouble: watch::Sender<Option<String>>,
    mailbox: Mailbox,
}

/// How one attempt failed.
enum Failed {
    /// Before anything was sent.
    Unsent(String),
    /// Nobody knows what became of it.
    Sent(String),
}

impl Members {
    /// Nothing is asked yet. `timeout_ms` bounds every question.
    pub(crate) fn new(
        endpoints: &[String],
        cluster: &str,
        timeout_ms: Millis,
        mailbox: Mailbox,
    ) -> anyhow::Result<Self> {
        let parsed = |text: &String| {
            let uri = text.parse::<Uri>()?;
            anyhow::ensure!(
                uri.scheme_str() == Some("http") && uri.host().is_some(),
                "etcd: the endpoint {text:?} is not http://HOST:PORT; https is not supported"
            );
            Ok(uri)
        };
        let endpoints: Vec<Uri> = endpoints.iter().map(parsed).collect::<anyhow::Result<_>>()?;
        anyhow::ensure!(!endpoints.is_empty(), "etcd: no endpoint is configured");
        let (trouble, _) = watch::channel(None);
        Ok(Self(Arc::new(Inner {
            endpoints,
            keys: Keys::of(cluster),
            first: AtomicUsize::new(0),
            patience: Duration::from_millis(timeout_ms),
            trouble,
            mailbox,
        })))
    }

    /// Asks; the answer comes through the mailbox. The store has a bounded number of questions open.
    pub(crate) fn ask(&self, number: u64, request: Request) {
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            let answer = inner.answer(&request).await;
            inner.mailbox.put(Input::Etcd { number, answer }).await;
        });
    }
}

impl Inner {
    async fn answer(&self, request: &Request) -> Answer {
        match timeout(self.patience, self.in_turn(request)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.next_first(self.first.load(Ordering::Relaxed));
                self.tell(Some(format!("no answer within {} ms", self.patience.as_millis())));
                Answer::Lost
            }
        }
    }

    async fn in_turn(&self, request: &Request) -> Answer {
        let count = self.endpoints.len();
        let first = self.first.load(Ordering::Relaxed);
        let may_repeat = !matches!(request, Request::Change { then, .. } if !then.is_empty());
        // A member that does not even take the connection leaves time for the others.
        let share = self.patience / u32::try_from(count + 1).unwrap_or(u32::MAX);
        let mut problems = Vec::new();
        for index in (first..first + count).map(|index| index % count) {
            let Some(endpoint) = self.endpoints.get(index) else { continue };
            match self.one(endpoint, request, share).await {
                Ok(answer) => {
                    self.first.store(index, Ordering::Relaxed);
                    self.tell(None);
                    return answer;
                }
                Err(Failed::Unsent(why)) => problems.push(format!("{endpoint} {why}")),
                Err(Failed::Sent(why)) => {
                    problems.push(format!("{endpoint} {why}"));
                    self.next_first(index);
                    if !may_repeat {
                        self.tell(Some(problems.join("; ")));
                        return Answer::Lost;
                    }
                }
            }
        }
        self.tell(Some(problems.join("; ")));
        Answer::NotDone
    }

    fn next_first(&self, failed: usize) {
        self.first.store((failed + 1) % self.endpoints.len(), Ordering::Relaxed);
    }

    async fn one(&self, endpoint: &Uri, request: &Request, share: Duration) -> Result<Answer, Failed> {
        let unsent = |why: String| Failed::Unsent(why);
        let host = endpoint.host().unwrap_or_default();
        let port = endpoint.port_u16().unwrap_or(80);
        let connect = TcpStream::connect((host.trim_matches(['[', ']']), port));
        let stream =
            timeout(share, connect).await.map_err(|_| unsent("does not take a connection".to_owned()))?;
        let stream = stream.map_err(|error| unsent(format!("cannot be reached: {error}")))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unsent(format!("does not begin HTTP: {error}")))?;
        // The task ends with the set.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let (path, body) = self.keys.request(request);
        let asked = post(host, port, path, &body).map_err(|error| unsent(error.to_string()))?;
        let sent = |error: String| Failed::Sent(format!("did not answer: {error}"));
        let answer = sender.send_request(asked).await.map_err(|error| sent(error.to_string()))?;
        let status = answer.status();
        let body = if matches!(request, Request::KeepAlive { .. }) && status == StatusCode::OK {
            first_line(answer.into_body()).await.map_err(sent)?
        } else {
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            body.map_err(|error| sent(error.to_string()))?.to_bytes().to_vec()
        };
        if status == StatusCode::OK {
            return self
                .keys
                .answer(request, &body)
                .ok_or_else(|| Failed::Sent("answered what this version does not understand".to_owned()));
        }
        match wire::refused(request, &body) {
            (Answer::Lost, why) => Err(Failed::Sent(format!("answered {status}: {why}"))),
            (answer, _) => Ok(answer),
        }
    }

    fn tell(&self, problem: Option<String>) {
        let is_new = self.trouble.send_if_modified(|had| {
            let changed = had.is_some() != problem.is_some();
            had.clone_from(&problem);
            changed
        });
        match problem {
            Some(why) if is_new => tracing::warn!("etcd: {why}"),
            None if is_new => tracing::info!("etcd answers again"),
            _ => {}
        }
    }
}

fn post(
    host: &str,
    port: u16,
    path: &str,
    body: &Value,
) -> Result<hyper::Request<Full<Bytes>>, hyper::http::Error> {
    hyper::Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, format!("{host}:{port}"))
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
}

/// Keep-alives are answered by a stream of lines.
async fn first_line(mut body: hyper::body::Incoming) -> Result<Vec<u8>, String> {
    let mut line = Vec::new();
    while !line.contains(&b'\n') {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(|error| error.to_string())?;
        let Ok(data) = frame.into_data() else { break };
        if line.len() + data.len() > MAX_ANSWER {
            return Err(format!("more than {MAX_ANSWER} bytes"));
        }
        line.extend_from_slice(&data);
    }
    line.truncate(line.iter().position(|byte| *byte == b'\n').unwrap_or(line.len()));
    Ok(line)
}
