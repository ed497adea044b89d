//! Who is who: members prove it with certificates of the cluster's own authority, in both directions, over
//! TLS 1.3 and nothing older.
//!
//! A certificate names its host and `ROLE.CLUSTER.futago.internal` for each role that it may play. A member says
//! in its first message which one it plays, and that name must be in its certificate: nothing else that it says
//! counts. A member of another cluster, or one in another role, is refused.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cluster::member::Voter;
use rustls_pki_types::pem::PemObject as _;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{self as rustls_pki_types, CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use webpki::EndEntityCert;

/// Bits of the key's mode that let others read or write it.
const OTHERS: u32 = 0o077;

/// Why the files of a member cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("read {}: {error}; the provisioner puts it there", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The key may be read by others.
    #[error("{} has mode {mode:o}: others could act as this member; `chmod 600` it", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Its content is not what it should be.
    #[error("{}: {error}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why.
        error: rustls_pki_types::pem::Error,
    },
    /// There is no certificate in it.
    #[error("{}: no certificate in it", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// The parts do not fit together.
    #[error("the certificates in {} cannot be used: {error}", folder.display())]
    Refused {
        /// Which.
        folder: PathBuf,
        /// Why.
        error: rustls::Error,
    },
    /// No certificate can be checked against the authorities.
    #[error("the authorities in {} cannot be used: {error}", folder.display())]
    Authorities {
        /// Which.
        folder: PathBuf,
        /// Why.
        error: VerifierBuilderError,
    },
    /// The certificate is for somebody else.
    #[error(
        "{} does not name {name:?}: it is the certificate of another member (names: {})",
        path.display(),
        names.join(", ")
    )]
    Name {
        /// Which.
        path: PathBuf,
        /// The name that is needed.
        name: String,
        /// Names that are there.
        names: Vec<String>,
    },
}

/// The name that a certificate must have for a role in a cluster.
#[must_use]
pub fn role_name(cluster: &str, voter: Voter) -> String {
    let role = match voter {
        Voter::A => "a",
        Voter::B => "b",
        Voter::Witness => "witness",
    };
    format!("{role}.{cluster}.futago.internal").to_ascii_lowercase()
}

/// What a member proves itself with, and how it checks others.
#[derive(Clone)]
pub struct Identity {
    /// For connections that others open.
    pub acceptor: TlsAcceptor,
    /// For connections that this member opens.
    pub connector: TlsConnector,
    /// Names in its own certificate.
    names: Vec<String>,
    member: PathBuf,
}

impl Identity {
    /// Reads `ca.pem`, `member.pem` and `member.key`.
    pub fn load(folder: &Path) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let member = folder.join("member.pem");
        let chain = certificates(&member)?;
        let names = chain.first().map(names_of).unwrap_or_default();
        let mut roots = RootCertStore::empty();
        let refused = |error| TlsError::Refused { folder: folder.to_owned(), error };
        for authority in certificates(&folder.join("ca.pem"))? {
            roots.add(authority).map_err(refused)?;
        }
        let key = key(&folder.join("member.key"))?;
        let acceptor = server(folder, &provider, roots.clone(), chain.clone(), key.clone_key())?;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(refused)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(refused)?;
        client.resumption = Resumption::disabled();
        let connector = TlsConnector::from(Arc::new(client));
        Ok(Self { acceptor, connector, names, member })
    }

    /// Whether this member may play the role: found out at the start, not when nobody talks to it.
    pub fn must_be(&self, cluster: &str, voter: Voter) -> Result<(), TlsError> {
        let name = role_name(cluster, voter);
        if self.names.contains(&name) {
            return Ok(());
        }
        Err(TlsError::Name { path: self.member.clone(), name, names: self.names.clone() })
    }

    /// Clusters for which this member is the witness.
    pub fn witness_of(&self) -> Vec<String> {
        let cluster = |name: &String| {
            let rest = name.strip_prefix("witness.")?;
            rest.strip_suffix(".futago.internal").map(str::to_owned)
        };
        self.names.iter().filter_map(cluster).collect()
    }
}

fn server(
    folder: &Path,
    provider: &Arc<CryptoProvider>,
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<TlsAcceptor, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| TlsError::Authorities { folder: folder.to_owned(), error })?;
    let refused = |error| TlsError::Refused { folder: folder.to_owned(), error };
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(refused)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(refused)?;
    // Connections live long and are few: nothing is gained by resuming, and a ticket outlives a certificate.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The name to ask a member for, when a connection to it is opened.
pub fn server_name(
    cluster: &str,
    voter: Voter,
) -> Result<ServerName<'static>, rustls_pki_types::InvalidDnsNameError> {
    ServerName::try_from(role_name(cluster, voter))
}

/// DNS names in a certificate, in lower case; none when it cannot be read.
pub fn names_of(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(parsed) = EndEntityCert::try_from(certificate) else { return Vec::new() };
    parsed.valid_dns_names().map(str::to_ascii_lowercase).collect()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = fs::read(path).map_err(|error| TlsError::Read { path: path.to_owned(), error })?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| TlsError::Pem { path: path.to_owned(), error })?;
    if found.is_empty() { Err(TlsError::Empty { path: path.to_owned() }) } else { Ok(found) }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let read = |error| TlsError::Read { path: path.to_owned(), error };
    let mode = fs::metadata(path).map_err(read)?.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(TlsError::Open { path: path.to_owned(), mode });
    }
    let bytes = fs::read(path).map_err(read)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| TlsError::Pem { path: path.to_owned(), error })
}
