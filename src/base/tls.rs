//! Who is who: members prove it with certificates of the cluster's own authority, in both directions, over
//! TLS 1.3 (RFC 8446) and nothing older.
//!
//! The provisioner puts `ca.pem`, `member.pem` and `member.key` into a folder of each host. What a name in a
//! certificate entitles to is the business of those who ask for it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use webpki::EndEntityCert;

const AUTHORITIES: &str = "ca.pem";
const MEMBER: &str = "member.pem";
const KEY: &str = "member.key";
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
        error: pem::Error,
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

/// What a member proves itself with, and how it checks others.
#[derive(Clone, Debug)]
pub struct Identity {
    /// For connections that others open.
    pub server: Arc<ServerConfig>,
    /// For connections that this member opens.
    pub client: Arc<ClientConfig>,
    /// Names in its own certificate.
    pub names: Vec<String>,
    member: PathBuf,
}

impl Identity {
    /// Whether a host has been given one: whether its certificate is there, readable or not.
    #[must_use]
    pub fn is_in(folder: &Path) -> bool {
        !matches!(folder.join(MEMBER).try_exists(), Ok(false))
    }

    /// Reads `ca.pem`, `member.pem` and `member.key`.
    pub fn load(folder: &Path) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let member = folder.join(MEMBER);
        let chain = certificates(&member)?;
        let names = chain.first().map(names_of).unwrap_or_default();
        let refused = |error| TlsError::Refused { folder: folder.to_owned(), error };
        let roots = roots(&folder.join(AUTHORITIES))?;
        let key = key(&folder.join(KEY))?;
        let server = server(folder, &provider, roots.clone(), chain.clone(), key.clone_key())?;
        let client = client_config(provider, roots, Some((chain, key))).map_err(refused)?;
        Ok(Self { server, client, names, member })
    }

    /// Whether the certificate has this name: found out at the start, not when nobody talks to this member.
    pub fn must_have(&self, name: String) -> Result<(), TlsError> {
        if self.names.contains(&name) {
            return Ok(());
        }
        Err(TlsError::Name { path: self.member.clone(), name, names: self.names.clone() })
    }
}

/// For connections to servers of somebody else's: checked by the authorities in `ca`, and shown the certificate and key
/// of `own`, if they want one.
pub fn client(ca: &Path, own: Option<(&Path, &Path)>) -> Result<Arc<ClientConfig>, TlsError> {
    let own = own.map(|(chain, secret)| Ok((certificates(chain)?, key(secret)?))).transpose()?;
    let folder = ca.parent().unwrap_or(ca).to_owned();
    client_config(Arc::new(ring::default_provider()), roots(ca)?, own)
        .map_err(|error| TlsError::Refused { folder, error })
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(path)? {
        let folder = path.parent().unwrap_or(path).to_owned();
        roots.add(authority).map_err(|error| TlsError::Refused { folder, error })?;
    }
    Ok(roots)
}

fn client_config(
    provider: Arc<CryptoProvider>,
    roots: RootCertStore,
    own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots);
    let mut config = match own {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn server(
    folder: &Path,
    provider: &Arc<CryptoProvider>,
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, TlsError> {
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
    Ok(Arc::new(config))
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
