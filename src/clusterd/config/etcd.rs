//! The section `etcd`: where its members are, how they are known, and who we are to them.

use std::path::PathBuf;

use base::fields::Fields;
use base::yaml::Node;
use hyper::Uri;
use tokio_rustls::rustls::pki_types::ServerName;

use super::value;

const KEYS: &[&str] = &["endpoints", "ca", "cert", "key", "user", "password_file"];

/// An etcd cluster that keeps the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etcd {
    /// Its members: `http://HOST:PORT`, or with TLS `https://HOST:PORT`.
    pub endpoints: Vec<Uri>,
    /// How they are known, and shown who we are, where they are reached by https.
    pub tls: Option<Tls>,
    /// Who asks, where etcd wants a user.
    pub login: Option<Login>,
}

/// Files of TLS, PEM. They are read for each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Authorities of the members' certificates.
    pub ca: PathBuf,
    /// Our own certificate and its key.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// A user of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Its name.
    pub user: String,
    /// The file with its password. It is read for each login.
    pub password_file: PathBuf,
}

pub(super) fn read(fields: &mut Fields<'_, '_>, witness: bool) -> Option<Etcd> {
    let node = fields.get("etcd")?;
    if witness {
        fields.report(node, "the record is kept with a witness or by etcd, not both");
    }
    let mut inner = Fields::of(node, "etcd", KEYS, fields.problems())?;
    inner.required("endpoints", "https://HOST:2379 or http://HOST:2379 of each member");
    let mut endpoints = Vec::new();
    for (text, node) in inner.texts("endpoints") {
        match endpoint(&text) {
            Some(endpoint) => endpoints.push(endpoint),
            None => inner.report(node, format!("{text:?} is not https://HOST:PORT or http://HOST:PORT")),
        }
    }
    let tls = tls(&mut inner, node, &endpoints);
    let password_file = value::path(&mut inner, "password_file");
    let login = match (inner.text("user"), password_file) {
        (Some(user), Some(password_file)) => Some(Login { user, password_file }),
        (None, None) => None,
        _ => {
            inner.report(node, "\"user\" and \"password_file\" belong together");
            None
        }
    };
    if login.is_some() && tls.is_none() {
        inner.report(node, "a password is sent over https only");
    }
    Some(Etcd { endpoints, tls, login })
}

fn endpoint(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
    let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    ServerName::try_from(host(&uri)).ok()?;
    (is_known && is_bare).then_some(uri)
}

/// Name or address of an endpoint, without the brackets of IPv6.
pub(crate) fn host(endpoint: &Uri) -> &str {
    endpoint.host().unwrap_or_default().trim_matches(['[', ']'])
}

fn tls(inner: &mut Fields<'_, '_>, node: &Node, endpoints: &[Uri]) -> Option<Tls> {
    let [ca, cert, key] = ["ca", "cert", "key"].map(|name| value::path(inner, name));
    let secure = endpoints.iter().filter(|uri| uri.scheme_str() == Some("https")).count();
    if secure == 0 && (ca.is_some() || cert.is_some() || key.is_some()) {
        inner.report(node, "files of TLS are given, and the endpoints are not https");
    } else if secure != 0 && secure != endpoints.len() {
        inner.report(node, "some endpoints are https and some are http");
    }
    if cert.is_some() != key.is_some() {
        inner.report(node, "\"cert\" and \"key\" belong together");
    }
    if secure != 0 {
        inner.required("ca", "the authority that endpoints with https are known by, PEM");
    }
    Some(Tls { ca: ca?, own: cert.zip(key) })
}
