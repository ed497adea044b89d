//! The section `https`: the certificate that the site shows, or that it has none.
//!
//! A certificate that is given is looked at before any host is contacted: that it belongs to its key, and to the name of the
//! service. Without one the program makes its own, which browsers do not know.

use std::path::Path;

use tokio_rustls::rustls::pki_types::ServerName;
use webpki::EndEntityCert;

use base::fields::Fields;
use base::problem::{Problem, Problems};
use base::yaml::{Content, Node};

use super::pem;
use crate::identity::secret_lines;

pub(super) const HTTPS: &[&str] = &["certificate", "key"];
pub(super) const WORDS: &[&str] = &["off", "self-signed"];

/// What the site shows to browsers.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Https {
    /// Plain HTTP only.
    Off,
    /// A certificate of the program's own, beside plain HTTP.
    #[default]
    SelfSigned,
    /// This one; plain HTTP leads to it.
    Given {
        /// The certificate and those between it and its authority, PEM.
        certificate: String,
        /// PEM.
        key: String,
    },
}

impl Https {
    /// Texts that must never be shown.
    pub fn secrets(&self) -> impl Iterator<Item = String> + '_ {
        let key = match self {
            Self::Given { key, .. } => key.as_str(),
            Self::Off | Self::SelfSigned => "",
        };
        secret_lines(key)
    }

    /// What is written, or the default.
    pub(super) fn read(
        node: Option<&Node>,
        file: &Path,
        name: Option<&str>,
        problems: &mut Problems,
    ) -> Self {
        let Some(node) = node else { return Self::default() };
        match &node.content {
            Content::Text(text) if text == "off" => Self::Off,
            Content::Text(text) if text == "self-signed" => Self::SelfSigned,
            Content::Text(text) => {
                let sentence = "\"https\" must be off, self-signed or {certificate: FILE, key: FILE}, not";
                problems.push(Problem::unknown_word(&node.place, sentence, text, WORDS));
                Self::default()
            }
            _ => given(node, file, name, problems).unwrap_or_default(),
        }
    }
}

fn given(node: &Node, file: &Path, name: Option<&str>, problems: &mut Problems) -> Option<Https> {
    let mut fields = Fields::of(node, "https", HTTPS, problems)?;
    fields.required("certificate", "a file with the certificate, PEM");
    fields.required("key", "a file with its private key, PEM");
    let [certificate, key] = ["certificate", "key"].map(|key| pem::text_of(&mut fields, key, file));
    let (certificate, key) = (certificate?, key?);
    if let Err(message) = check(&certificate, &key, name) {
        fields.report(node, message);
        return None;
    }
    Some(Https::Given { certificate, key })
}

/// Whether a server can show this certificate under this name.
fn check(certificate: &str, key: &str, name: Option<&str>) -> Result<(), String> {
    let first = pem::pair(certificate, key)?;
    let leaf = EndEntityCert::try_from(&first).map_err(|error| format!("read the certificate: {error}"))?;
    let Some(server) = name.and_then(|name| ServerName::try_from(name).ok()) else { return Ok(()) };
    leaf.verify_is_valid_for_subject_name(&server).map_err(|_| {
        let names: Vec<&str> = leaf.valid_dns_names().collect();
        format!("the certificate is for {}, not for {}", names.join(", "), name.unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::super::Inventory;
    use super::*;

    /// What an inventory with these files and this section says.
    fn read(names: &[&str], section: &str) -> Result<Https, String> {
        let folder = tempfile::tempdir().unwrap();
        let made = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            rcgen::generate_simple_self_signed(names).unwrap()
        };
        let (site, other) = (made(names), made(names));
        for (name, text) in [
            ("site.pem", site.cert.pem()),
            ("site.key", site.signing_key.serialize_pem()),
            ("other.key", other.signing_key.serialize_pem()),
            ("empty.pem", String::new()),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let text = format!("{}https: {section}\n", include_str!("../../../inventory/example.yml"));
        let inventory = Inventory::parse(&folder.path().join("ha.yml"), &text);
        inventory.map(|inventory| inventory.https).map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_certificate_must_fit_its_key_and_the_service() {
        let section = "{certificate: site.pem, key: site.key}";
        assert!(matches!(read(&["ha.example.com"], section), Ok(Https::Given { .. })));
        assert!(matches!(read(&["*.example.com"], section), Ok(Https::Given { .. })));
        for (names, section, message) in [
            ("ha.example.com", "{certificate: site.pem, key: other.key}", "does not belong"),
            ("hb.example.com", section, "is for hb.example.com, not for ha.example.com"),
            ("ha.example.com", "{certificate: empty.pem, key: site.key}", "no certificate in the file"),
            ("ha.example.com", "{certificate: site.pem, key: site.pem}", "no private key"),
            ("ha.example.com", "{certificate: none.pem, key: site.key}", "none.pem: No such file"),
            ("ha.example.com", "{certificate: site.pem}", "\"key\""),
            ("ha.example.com", "selfsigned", "did you mean \"self-signed\"?"),
        ] {
            let said = read(&[names], section).unwrap_err();
            assert!(said.contains(message) && said.contains("ha.yml:"), "{section}: {said}");
        }
        assert_eq!(read(&["x.example"], "off"), Ok(Https::Off));
    }
}
