//! One GET over HTTP/1.1, in the clear or over TLS 1.3, with a bound on its time and on what is read.
//!
//! It follows no redirect and keeps nothing: the answer is for whoever asked.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, LOCATION, USER_AGENT};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};

/// The longest page that is looked at.
const MAX_PAGE: usize = 1 << 20;
/// Where distributions keep the authorities that they trust: Debian and its family, Red Hat and its family.
const BUNDLES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// Who may answer over TLS.
#[derive(Debug, Clone)]
pub(super) enum Trust {
    /// Whoever the host trusts.
    Host,
    /// Whoever these authorities vouch for, or these certificates themselves.
    File(PathBuf),
    /// Anybody: it is not looked at.
    Anybody,
}

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Where it leads to, for a redirect.
    pub(super) location: Option<String>,
    pub(super) page: Vec<u8>,
}

/// Asks once. An error says why there is no answer.
pub(super) fn get(
    uri: &Uri,
    headers: &[(String, String)],
    trust: &Trust,
    bound: Duration,
) -> Result<Answer, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("begin: {error}"))?;
    let answer = runtime.block_on(async {
        let late = |_| Err(format!("no answer after {} s", bound.as_secs()));
        tokio::time::timeout(bound, ask(uri, headers, trust)).await.unwrap_or_else(late)
    });
    // A name that is still looked up is not waited for.
    runtime.shutdown_background();
    answer
}

async fn ask(uri: &Uri, headers: &[(String, String)], trust: &Trust) -> Result<Answer, String> {
    let authority = uri.authority().ok_or("the address names no host")?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let is_secure = uri.scheme_str() == Some("https");
    let port = authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let stream = TcpStream::connect((host, port)).await.map_err(|error| format!("connect: {error}"))?;
    let mut request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(USER_AGENT, "futago")
        .header(CONNECTION, "close");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(HOST.as_str())) {
        request = request.header(HOST, authority.as_str());
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Empty::new()).map_err(|error| format!("write the request: {error}"))?;
    if !is_secure {
        return exchange(stream, request).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("{host}: {error}"))?;
    let connector = TlsConnector::from(config(trust)?);
    let stream = connector.connect(name, stream).await.map_err(|error| format!("begin TLS 1.3: {error}"))?;
    exchange(stream, request).await
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let ask = async {
        let answer = sender.send_request(request).await.map_err(|error| described(&error))?;
        let status = answer.status().as_u16();
        let location =
            answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let page = Limited::new(answer.into_body(), MAX_PAGE).collect().await;
        let page = page.map_err(|error| format!("read the answer {status}: {error}"))?.to_bytes().to_vec();
        Ok(Answer { status, location, page })
    };
    tokio::pin!(connection);
    tokio::pin!(ask);
    tokio::select! {
        answer = &mut ask => answer,
        ended = &mut connection => match ended {
            // The server may close before the answer has been read to its end.
            Ok(()) => ask.await,
            Err(error) => Err(described(&error)),
        },
    }
}

/// With the reason, which the library keeps apart.
fn described(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn config(trust: &Trust) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let roots = match trust {
        Trust::Anybody => {
            let anybody = Arc::new(Anybody(provider));
            let builder = builder.dangerous().with_custom_certificate_verifier(anybody);
            return Ok(Arc::new(builder.with_no_client_auth()));
        }
        Trust::File(path) => authorities(path)?,
        Trust::Host => {
            let path = BUNDLES.iter().map(Path::new).find(|path| path.exists());
            authorities(
                path.ok_or("this host has no authorities: install ca-certificates, or name a file in ca")?,
            )?
        }
    };
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// Of a bundle those that can be used; a distribution's has some old ones that cannot.
fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let name = path.display();
    let bytes = std::fs::read(path).map_err(|error| format!("read {name}: {error}"))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates.map_err(|error| format!("read {name}: {error}"))?;
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(certificates);
    if usable == 0 { Err(format!("{name}: no certificate in it")) } else { Ok(roots) }
}

/// Takes every certificate; that the server has its key is still proven.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
