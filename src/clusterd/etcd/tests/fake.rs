//! A server on loopback that answers as a test says, with TLS or without.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A question as it has arrived.
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

type Said = (u16, Value);
type Answers = dyn Fn(Asked) -> Said + Send + Sync;

/// It ends with the test.
pub(super) struct Fake {
    address: SocketAddr,
    scheme: &'static str,
    asked: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl Fake {
    pub(super) async fn start(
        tls: Option<TlsAcceptor>,
        answers: impl Fn(Asked) -> Said + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (count, answers): (_, Arc<Answers>) = (Arc::clone(&asked), Arc::new(answers));
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, count, answers) = (tls.clone(), Arc::clone(&count), Arc::clone(&answers));
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, count, answers).await,
                        // A client that is refused, or that refuses us.
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, count, answers).await,
                            Err(error) => eprintln!("fake: {error}"),
                        },
                    }
                });
            }
        });
        Self { address, scheme, asked, _task: task }
    }

    pub(super) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// How many questions have arrived.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn serve<S>(stream: S, count: Arc<AtomicUsize>, answers: Arc<Answers>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (count, answers) = (Arc::clone(&count), Arc::clone(&answers));
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            count.fetch_add(1, Ordering::Relaxed);
            let asked = Asked {
                path: head.uri.path().to_owned(),
                headers: head.headers,
                body: serde_json::from_slice(&body).unwrap(),
            };
            let (status, said) = answers(asked);
            let answer = Response::builder().status(status).body(Full::new(Bytes::from(said.to_string())));
            Ok::<_, std::convert::Infallible>(answer.unwrap())
        }
    });
    // The client hangs up after its question.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// The answer to a look at an empty etcd.
pub(super) fn nothing_there() -> Said {
    (200, json!({ "header": { "revision": "1" } }))
}

/// The answer to a change that was made.
pub(super) fn changed(revision: u64) -> Said {
    (200, json!({ "header": { "revision": revision.to_string() }, "succeeded": true }))
}

/// As etcd tells an error.
pub(super) fn error(status: u16, code: u64, message: &str) -> Said {
    (status, json!({ "error": message, "message": message, "code": code }))
}
