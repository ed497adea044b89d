//! The check of a host's key during the key exchange.

use std::io;
use std::path::PathBuf;

use russh::Preferred;
use russh::client::Handler;
use russh::keys::{HashAlg, PublicKey, PublicKeyOrCertificate};

use super::Target;
use super::error::{HostError, KeyChange};
use super::known_hosts::{self, Verdict};

/// Decides on the presented key; nothing is sent to a host before it has agreed.
pub(super) struct Verifier {
    target: Target,
    name: String,
    text: String,
}

/// Why the key exchange, or the connection later, ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum VerifyError {
    #[error(transparent)]
    Key(Box<HostError>),
    #[error(transparent)]
    Ssh(#[from] russh::Error),
}

impl VerifyError {
    pub(super) fn into_host_error(self, target: &Target) -> HostError {
        match self {
            Self::Key(error) => *error,
            Self::Ssh(russh::Error::Disconnect | russh::Error::HUP) => {
                target.unreachable("the connection was closed before SSH began")
            }
            Self::Ssh(error) => target.unreachable(error),
        }
    }
}

impl Verifier {
    /// Reads the file of known hosts.
    pub(super) fn new(target: &Target) -> Result<Self, HostError> {
        let text = match std::fs::read_to_string(&target.known_hosts) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(file_error(&target.known_hosts, "read", source)),
        };
        let name = known_hosts::name_of(&target.address, target.port);
        Ok(Self { target: target.clone(), name, text })
    }

    /// The library's algorithms, with the kinds of key that are recorded for this host first.
    pub(super) fn preferred(&self) -> Preferred {
        let key = known_hosts::preferred(&self.text, &self.name, &Preferred::DEFAULT.key).into();
        Preferred { key, ..Preferred::DEFAULT }
    }

    fn judge(&self, key: &PublicKey) -> Result<(), HostError> {
        let Target { name: host, address, known_hosts, .. } = self.target.clone();
        let fingerprint = describe(key);
        let (reason, line) = match known_hosts::judge(&self.text, &self.name, key) {
            Verdict::Known => return Ok(()),
            Verdict::Unknown => return self.unknown(key),
            Verdict::Changed { line, recorded } => {
                let recorded = describe(&recorded);
                let presented = fingerprint;
                let change = KeyChange { host, address, presented, recorded, known_hosts, line };
                return Err(HostError::HostKeyChanged(Box::new(change)));
            }
            Verdict::Revoked { line } => ("is marked as revoked; the host needs a new key", line),
            Verdict::Authority { line } => (
                "is vouched for by a certificate authority only, which is not supported; add the key itself to the file",
                line,
            ),
            Verdict::Unreadable { line } => (
                "cannot be compared, because the recorded key is not readable; correct or remove its line",
                line,
            ),
        };
        Err(HostError::HostKeyRefused { host, address, fingerprint, reason, known_hosts, line })
    }

    fn unknown(&self, key: &PublicKey) -> Result<(), HostError> {
        let Target { name: host, address, known_hosts, accept_new, .. } = self.target.clone();
        let bare = PublicKey::new(key.key_data().clone(), "");
        let encoded = bare.to_openssh().unwrap_or_default();
        let line = format!("{} {}", self.name, encoded.trim());
        if !accept_new {
            return Err(HostError::HostKeyUnknown {
                host,
                address,
                fingerprint: describe(key),
                known_hosts,
                line,
            });
        }
        known_hosts::append(&known_hosts, &line).map_err(|e| file_error(&known_hosts, "add a key to", e))?;
        tracing::warn!("{host}: recorded its key {} in {}", describe(key), known_hosts.display());
        Ok(())
    }
}

impl Handler for Verifier {
    type Error = VerifyError;

    async fn check_server_key(&mut self, presented: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        match presented {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                self.judge(key).map_err(|e| VerifyError::Key(Box::new(e)))?;
                Ok(true)
            }
            // Certificates were not asked for.
            PublicKeyOrCertificate::Certificate(_) => Ok(false),
        }
    }
}

fn file_error(path: &std::path::Path, action: &'static str, source: io::Error) -> HostError {
    HostError::KnownHosts { action, path: PathBuf::from(path), source }
}

/// Kind and fingerprint, as ssh(1) prints them.
fn describe(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))
}
