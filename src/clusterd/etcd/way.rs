//! One member: a connection to it, and what stands in the way of one in words that say what to do.

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, spawn_blocking};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as TlsError, InvalidMessage};

use super::Failed;
use crate::config::etcd::{Tls, host};

/// Far above two keys with every resource in them.
const MAX_ANSWER: usize = 1 << 20;
/// A member without a leader says so at once, before it has begun with anything.
const NEEDS_LEADER: &str = "grpc-metadata-hasleader";

/// How to reach one member.
pub(super) struct Way {
    endpoint: Uri,
    tls: Option<Tls>,
    has_failed: AtomicBool,
}

/// A connection to a member.
pub(super) struct Open {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
    shows_certificate: bool,
    is_tls: bool,
    /// The task of the connection ends with the set.
    _driver: JoinSet<Result<(), hyper::Error>>,
}

impl Way {
    pub(super) fn new(endpoint: &Uri, tls: Option<Tls>) -> Self {
        Self { endpoint: endpoint.clone(), tls, has_failed: AtomicBool::new(false) }
    }

    /// The endpoint as it is configured.
    pub(super) fn name(&self) -> String {
        self.endpoint.to_string().trim_end_matches('/').to_owned()
    }

    /// Says it in the log, once.
    pub(super) fn failed(&self, why: &str) {
        if !self.has_failed.swap(true, Ordering::Relaxed) {
            tracing::warn!("etcd: {} {why}", self.name());
        }
    }

    /// Says in the log that it is there again.
    pub(super) fn answered(&self) {
        if self.has_failed.swap(false, Ordering::Relaxed) {
            tracing::info!("etcd: {} answers again", self.name());
        }
    }

    /// Nothing is asked yet; otherwise why it cannot be.
    pub(super) async fn open(&self) -> Result<Open, String> {
        let host = host(&self.endpoint);
        let port = self.endpoint.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let stream = TcpStream::connect((host, port)).await.map_err(|error| {
            format!("cannot be reached: {error}: is it running there, and is the way to it open?")
        })?;
        let Some(tls) = &self.tls else { return self.speak(stream).await };
        let files = tls.clone();
        let config = spawn_blocking(move || {
            let own = files.own.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()));
            base::tls::client(&files.ca, own)
        });
        let config = config.await.map_err(|error| format!("was not asked: {error}"))?;
        let config = config.map_err(|error| format!("was not asked: {error}"))?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| format!("has a name that no certificate can have: {error}"))?;
        let stream = TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(|error| tls_sentence(&error, tls, host).unwrap_or_else(|| unfinished(&error)))?;
        self.speak(stream).await
    }

    async fn speak<S>(&self, stream: S) -> Result<Open, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let begun = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = begun.map_err(|error| format!("does not begin HTTP: {error}"))?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let authority = self.endpoint.authority().map(ToString::to_string).unwrap_or_default();
        let shows_certificate = self.tls.as_ref().is_some_and(|tls| tls.own.is_some());
        Ok(Open { sender, authority, shows_certificate, is_tls: self.tls.is_some(), _driver: driver })
    }
}

impl Open {
    /// Sends a question and returns the answer; of a stream its first line.
    pub(super) async fn post(
        &mut self,
        path: &str,
        body: &Value,
        token: Option<&str>,
        is_stream: bool,
    ) -> Result<(StatusCode, Vec<u8>), Failed> {
        let asked = hyper::Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, &self.authority)
            .header(CONTENT_TYPE, "application/json")
            .header(NEEDS_LEADER, "true");
        let asked = match token {
            Some(token) => asked.header(AUTHORIZATION, token),
            None => asked,
        };
        let asked = asked.body(Full::new(Bytes::from(body.to_string())));
        let asked = asked.map_err(|error| Failed::Unsent(format!("was not asked: {error}")))?;
        if let Err(error) = self.sender.ready().await {
            return Err(Failed::Unsent(self.gone(&error)));
        }
        let answer = match self.sender.send_request(asked).await {
            Ok(answer) => answer,
            Err(error) => return Err(Failed::Sent(self.gone(&error))),
        };
        let status = answer.status();
        let lost = |error: String| Failed::Sent(format!("did not finish its answer: {error}"));
        let body = if is_stream && status.is_success() {
            first_line(answer.into_body()).await.map_err(lost)?
        } else {
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            body.map_err(|error| lost(error.to_string()))?.to_bytes().to_vec()
        };
        Ok((status, body))
    }

    /// A server tells only with its first answer what it thinks of our certificate (RFC 8446, 4.4.2.4).
    fn gone(&self, error: &hyper::Error) -> String {
        if let Some(TlsError::AlertReceived(alert)) = tls_cause(error) {
            return alert_sentence(*alert);
        }
        let hint = match (self.is_tls, self.shows_certificate) {
            (true, false) => "; if it wants a certificate of its clients, give \"cert\" and \"key\"",
            (true, true) => "; does it know the authority of our certificate?",
            (false, _) => "; if it speaks TLS, write https:// and give \"ca\"",
        };
        format!("did not answer: {error}{hint}")
    }
}

/// Keep-alives are answered by a stream of lines.
async fn first_line(mut body: Incoming) -> Result<Vec<u8>, String> {
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

fn unfinished(error: &io::Error) -> String {
    format!("does not finish the TLS handshake: {error}")
}

/// What TLS has against it, and what to do.
fn tls_sentence(error: &io::Error, tls: &Tls, host: &str) -> Option<String> {
    let ca = tls.ca.display();
    Some(match tls_cause(error)? {
        TlsError::InvalidCertificate(why) => match why {
            // A bad signature: an authority of the same name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
                "shows a certificate of an authority that is not in {ca}: give the one that has signed it as \"ca\""
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("shows a certificate that has expired: renew it there ({why})")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("shows a certificate that is not valid yet: are the clocks right? ({why})")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
                "shows a certificate that is not for {host}: write the endpoint with a name or address that is in it ({why})"
            ),
            why => format!("shows a certificate that cannot be used: {why}"),
        },
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "does not speak TLS: write http://, or give it a certificate".to_owned()
        }
        TlsError::AlertReceived(alert) => alert_sentence(*alert),
        other => format!("does not finish the TLS handshake: {other}"),
    })
}

fn alert_sentence(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => {
            "wants a certificate of its clients: give \"cert\" and \"key\"".to_owned()
        }
        AlertDescription::ProtocolVersion => "speaks no TLS 1.3: etcd 3.4 and later do".to_owned(),
        AlertDescription::CertificateExpired => {
            "says that our certificate has expired: renew \"cert\"".to_owned()
        }
        alert => format!(
            "refuses our certificate ({alert:?}): is \"cert\" in force, for clients, and of an authority in etcd's \
             --trusted-ca-file?"
        ),
    }
}

/// The error of TLS below another one; io's wraps it without naming it as its source.
fn tls_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let found = error.downcast_ref().or_else(|| inner.and_then(|inner| inner.downcast_ref()));
        if found.is_some() {
            return found;
        }
        next = error.source();
    }
    None
}
