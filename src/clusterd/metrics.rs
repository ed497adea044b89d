//! Metrics for Prometheus and health URLs for load balancers, over plain HTTP on the configured addresses only.
//!
//! Read only: nothing here changes anything. Every answer is asked of the manager at that moment, so that a
//! manager that hangs is not healthy. Few connections at a time, and each has little time.

mod pages;
mod text;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cluster::control::Status;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use crate::mailbox::{Input, Mailbox};

/// Connections at a time on each address: a few scrapers and load balancers.
const MAX_CONNECTIONS: usize = 32;
/// Bytes of a request's head; a scraper sends a few hundred.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// How long a client may take to say what it wants.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest life of a connection: clients that keep it open come again.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the manager may take to say how it is; load balancers wait about that long themselves.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause before an address that is not there yet is tried again, and after a failed accept.
const AGAIN: Duration = Duration::from_secs(2);

/// Serves all addresses until the task is dropped.
pub(crate) async fn serve(listen: Vec<SocketAddr>, mailbox: Mailbox) {
    let mut tasks = tokio::task::JoinSet::new();
    for address in listen {
        tasks.spawn(serve_one(address, mailbox.clone()));
    }
    tasks.join_all().await;
}

async fn serve_one(address: SocketAddr, mailbox: Mailbox) {
    let listener = bound(address).await;
    accept(listener, mailbox).await;
}

/// The address may come later than the manager: an interface that is slow to come up is no reason to end.
async fn bound(address: SocketAddr) -> TcpListener {
    let mut told = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) if told => tracing::debug!("listen on {address} for metrics: {error}"),
            Err(error) => tracing::warn!("listen on {address} for metrics: {error}; trying again"),
        }
        told = true;
        sleep(AGAIN).await;
    }
}

async fn accept(listener: TcpListener, mailbox: Mailbox) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // Who finds no place waits in the kernel's queue until there is one.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("accept a connection for metrics: {error}");
                sleep(AGAIN).await;
                continue;
            }
        };
        let mailbox = mailbox.clone();
        tokio::spawn(async move {
            let served = timeout(CONNECTION_TIMEOUT, connection(stream, &mailbox)).await;
            if let Ok(Err(error)) = served {
                tracing::debug!("a connection for metrics: {error}");
            }
            drop(place);
        });
    }
}

async fn connection(stream: TcpStream, mailbox: &Mailbox) -> Result<(), hyper::Error> {
    let service = service_fn(move |request: Request<Incoming>| async move {
        let status = now(mailbox).await;
        let page = pages::answer(request.method(), request.uri().path(), status.as_deref());
        Ok::<Response<Full<Bytes>>, Infallible>(page)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn now(mailbox: &Mailbox) -> Option<Box<Status>> {
    let (reply, answer) = oneshot::channel();
    let asked = async {
        mailbox.put(Input::Status { reply }).await;
        answer.await.ok()
    };
    timeout(STATUS_TIMEOUT, asked).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::mailbox;
    use crate::view::sample;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A server whose manager always says this, or has ended.
    async fn server(status: Option<Status>) -> SocketAddr {
        let (mailbox, mut inputs) = mailbox();
        tokio::spawn(async move {
            while let (Some(input), Some(status)) = (inputs.recv().await, &status) {
                if let Input::Status { reply } = input {
                    reply.send(Box::new(status.clone())).unwrap();
                }
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(accept(listener, mailbox));
        address
    }

    async fn raw(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A refused request may end in a reset; what came before counts.
        let _ = timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        raw(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
    }

    fn code(answer: &str) -> &str {
        answer.split(' ').nth(1).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_load_balancer_finds_the_active_host_and_only_that() {
        let active = server(Some(sample::protected())).await;
        assert_eq!(code(&get(active, "/primary").await), "200");
        assert_eq!(code(&get(active, "/standby").await), "503");
        assert_eq!(code(&get(active, "/health").await), "200");
        let down = server(Some(sample::down())).await;
        for path in ["/primary", "/standby", "/health"] {
            assert_eq!(code(&get(down, path).await), "503", "{path}");
        }
    }

    #[tokio::test]
    async fn a_manager_that_does_not_answer_is_not_healthy() {
        let ended = server(None).await;
        for path in ["/health", "/primary", "/standby", "/metrics"] {
            assert_eq!(code(&get(ended, path).await), "503", "{path}");
        }
    }

    #[tokio::test]
    async fn metrics_are_text_for_prometheus() {
        let answer = get(server(Some(sample::protected())).await, "/metrics").await;
        assert_eq!(code(&answer), "200");
        assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
        assert!(answer.contains("\nfutago_cluster_verdict{verdict=\"PROTECTED\"} 1\n"), "{answer}");
    }

    #[tokio::test]
    async fn nothing_can_be_changed_and_nothing_else_is_served() {
        let address = server(Some(sample::protected())).await;
        let post = "POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let answer = raw(address, post).await;
        assert_eq!(code(&answer), "405");
        assert!(answer.contains("allow: GET, HEAD"), "{answer}");
        assert_eq!(code(&get(address, "/etc/passwd").await), "404");
    }

    #[tokio::test]
    async fn an_endless_head_is_refused() {
        let address = server(Some(sample::protected())).await;
        let head = format!("GET /health HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(2 * MAX_HEAD_BYTES));
        assert_ne!(code(&raw(address, &head).await), "200");
    }

    #[tokio::test]
    async fn garbage_is_refused() {
        let address = server(Some(sample::protected())).await;
        assert_eq!(code(&raw(address, "\x16\x03\x01\x02\x00 garbage\r\n\r\n").await), "400");
    }
}
