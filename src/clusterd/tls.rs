//! Who may play which role. A certificate names its host and `ROLE.CLUSTER.futago.internal` for each role that it may
//! play. A member says in its first message which one it plays, and that name must be in its certificate: nothing else
//! that it says counts. A member of another cluster, or one in another role, is refused.

use std::path::Path;

use base::tls::TlsError;
pub(crate) use base::tls::names_of;
use cluster::member::Voter;
use tokio_rustls::rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio_rustls::{TlsAcceptor, TlsConnector};

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
    own: base::tls::Identity,
}

impl Identity {
    /// Reads `ca.pem`, `member.pem` and `member.key`.
    pub fn load(folder: &Path) -> Result<Self, TlsError> {
        let own = base::tls::Identity::load(folder)?;
        let (acceptor, connector) =
            (TlsAcceptor::from(own.server.clone()), TlsConnector::from(own.client.clone()));
        Ok(Self { acceptor, connector, own })
    }

    /// Whether this member may play the role.
    pub fn must_be(&self, cluster: &str, voter: Voter) -> Result<(), TlsError> {
        self.own.must_have(role_name(cluster, voter))
    }

    /// Clusters for which this member is the witness.
    pub fn witness_of(&self) -> Vec<String> {
        let cluster = |name: &String| {
            let rest = name.strip_prefix("witness.")?;
            rest.strip_suffix(".futago.internal").map(str::to_owned)
        };
        self.own.names.iter().filter_map(cluster).collect()
    }
}

/// The name to ask a member for, when a connection to it is opened.
pub fn server_name(cluster: &str, voter: Voter) -> Result<ServerName<'static>, InvalidDnsNameError> {
    ServerName::try_from(role_name(cluster, voter))
}
