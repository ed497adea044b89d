//! Certificates and keys in files on the controller, looked at before any host is contacted.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use tokio_rustls::rustls::Error as TlsError;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::sign::CertifiedKey;
use webpki::{EndEntityCert, Error, KeyUsage};

use base::fields::Fields;

/// The text of the file that a key names; relative to the inventory, which is `file`.
pub(super) fn text_of(fields: &mut Fields<'_, '_>, key: &str, file: &Path) -> Option<String> {
    let node = fields.get(key)?;
    let path: PathBuf = file.parent().unwrap_or(Path::new("")).join(fields.text(key)?);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) => {
            fields.report(node, format!("read {}: {error}", path.display()));
            None
        }
    }
}

/// At least one.
pub(super) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Ok(found) if found.is_empty() => Err("there is no certificate in the file of the certificate".into()),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("the certificate is not PEM: {error}")),
    }
}

/// The first certificate, if the key is its own.
pub(super) fn pair(certificate: &str, key: &str) -> Result<CertificateDer<'static>, String> {
    let chain = certificates(certificate)?;
    let first = chain.first().cloned();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| {
        format!("there is no private key without a passphrase in the file of the key: {error}")
    })?;
    CertifiedKey::from_der(chain, key, &default_provider()).map_err(|error| match error {
        TlsError::InconsistentKeys(_) => "the key does not belong to the certificate".to_owned(),
        other => format!("the certificate cannot be used: {other}"),
    })?;
    first.ok_or_else(|| "there is no certificate".to_owned())
}

/// Whether it is valid today; for a client also, whether it may be one's. Who has signed it is not asked: without
/// authorities that is what the check fails at when all else is in order.
pub(super) fn in_force(certificate: &CertificateDer<'_>, is_clients: bool) -> Result<(), String> {
    let leaf =
        EndEntityCert::try_from(certificate).map_err(|error| format!("read the certificate: {error}"))?;
    let checked = leaf.verify_for_usage(&[], &[], &[], UnixTime::now(), KeyUsage::client_auth(), None, None);
    match checked.err() {
        Some(Error::CertExpired { not_after, .. }) => {
            Err(format!("the certificate has expired, at {}: renew it", moment(not_after)))
        }
        Some(Error::CertNotValidYet { not_before, .. }) => {
            Err(format!("the certificate is valid from {} on only", moment(not_before)))
        }
        Some(Error::RequiredEkuNotFoundContext(_)) if is_clients => {
            Err("the certificate is not for clients (extended key usage clientAuth)".to_owned())
        }
        _ => Ok(()),
    }
}

/// Whether its subject has a common name (RFC 5280, 4.1.2.4): its identifier, 2.5.4.3, stands in front of each.
pub(super) fn has_common_name(certificate: &CertificateDer<'_>) -> bool {
    const COMMON_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x03];
    EndEntityCert::try_from(certificate)
        .is_ok_and(|leaf| leaf.subject().windows(COMMON_NAME.len()).any(|bytes| bytes == COMMON_NAME))
}

fn moment(at: UnixTime) -> String {
    base::time::rfc3339(UNIX_EPOCH + Duration::from_secs(at.as_secs()))
}
