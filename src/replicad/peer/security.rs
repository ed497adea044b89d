//! Whether connections to the peer use TLS, and who it must be then.
//!
//! A host that has been given an identity uses it, and talks to nobody who does not prove to be the peer; `tls no` of
//! the resource's section `net` says otherwise. What is read is what lies there when a connection begins, so that new
//! certificates hold from the next one on.

use std::path::PathBuf;
use std::sync::Arc;

use base::tls::{Identity, TlsError, names_of};
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use rustls::{ClientConnection, Connection, ServerConnection};

use super::link::LinkEnd;
use super::wire::Wire;

/// How a resource secures its connections.
#[derive(Clone, Debug)]
pub struct Security {
    /// `tls yes` or `tls no` of the resource; otherwise as the host has an identity.
    pub wanted: Option<bool>,
    /// Folder of this host's identity.
    pub folder: PathBuf,
    /// The peer's host name, which its certificate must have.
    pub peer: String,
}

/// Why a connection cannot be secured.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecurityError {
    /// This host's own files.
    #[error(transparent)]
    Identity(#[from] TlsError),
    /// The peer's name can stand in no certificate.
    #[error("{name:?} can be the name of no certificate: {error}")]
    Name {
        /// The name.
        name: String,
        /// Why.
        error: InvalidDnsNameError,
    },
    /// TLS itself.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

impl Security {
    /// Whether connections use TLS.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.wanted.unwrap_or_else(|| Identity::is_in(&self.folder))
    }

    /// Begins TLS on a connection that this node has opened, or that the peer has; `None` without it.
    pub(super) fn session(&self, dialled: bool) -> Result<Option<Connection>, SecurityError> {
        if !self.is_on() {
            return Ok(None);
        }
        let own = Identity::load(&self.folder)?;
        if !dialled {
            return Ok(Some(ServerConnection::new(Arc::clone(&own.server))?.into()));
        }
        let name = ServerName::try_from(self.peer.clone());
        let name = name.map_err(|error| SecurityError::Name { name: self.peer.clone(), error })?;
        Ok(Some(ClientConnection::new(Arc::clone(&own.client), name)?.into()))
    }

    /// After the handshake: whether it is the peer. A name that this node asked for was checked there already.
    pub(super) fn admit(&self, wire: &Wire) -> Result<(), LinkEnd> {
        let Some(certificate) = wire.certificate() else { return Ok(()) };
        let names = names_of(certificate);
        if names.contains(&self.peer.to_ascii_lowercase()) {
            return Ok(());
        }
        Err(LinkEnd::Stranger { peer: self.peer.clone(), names: names.join(", ") })
    }
}
