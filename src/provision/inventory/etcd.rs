//! The section `etcd` of `manager`: an etcd cluster that keeps the record, and what it is reached with. Files are read
//! and checked here, before any host is contacted.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::pem;
use super::secrets::Secrets;
use crate::identity::secret_lines;
use base::fields::Fields;
use base::problem::{Problem, Problems};
use base::yaml::Node;

pub(super) const ETCD: &[&str] = &["endpoints", "ca", "cert", "key", "user"];
/// The secret that is the password of `user`.
const PASSWORD: &str = "etcd_password";

/// Where the hosts keep the files.
const CA: &str = "/etc/futago/etcd/ca.pem";
const CERT: &str = "/etc/futago/etcd/client.pem";
const KEY: &str = "/etc/futago/etcd/client.key";
const PASSWORD_FILE: &str = "/etc/futago/etcd/password";

/// What an etcd cluster is reached with.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Etcd {
    /// As the manager's own file has it, with the paths of the hosts.
    pub settings: Map<String, Value>,
    /// Authorities of its members, PEM.
    pub ca: Option<String>,
    /// The certificate that the pair shows, and its key, PEM.
    pub own: Option<(String, String)>,
    /// Its user.
    pub user: Option<String>,
}

impl Etcd {
    /// As expressions see it: what is written into files.
    pub(super) fn describe(&self) -> Value {
        let own = self.own.as_ref();
        json!({
            "ca": self.ca, "certificate": own.map(|(cert, _)| cert), "key": own.map(|(_, key)| key), "user": self.user,
        })
    }

    /// Texts that must never be shown.
    pub fn secrets(&self) -> impl Iterator<Item = String> + '_ {
        secret_lines(self.own.as_ref().map_or("", |(_, key)| key))
    }
}

pub(super) fn read(node: &Node, witness: bool, file: &Path, problems: &mut Problems) -> Option<Etcd> {
    if witness {
        let message = "the record is kept either with a witness or by etcd, here are both";
        problems.push(Problem::new(&node.place, message).hint("drop \"witness\" or \"etcd\""));
    }
    let mut fields = Fields::of(node, "etcd", ETCD, problems)?;
    let mut settings = Map::new();
    let (endpoints, is_secure) = endpoints(&mut fields);
    settings.insert("endpoints".to_owned(), endpoints.into());
    let user = fields.text("user");
    let files = ["ca", "cert", "key"].map(|key| (key, fields.get(key)));
    if is_secure {
        fields.required("ca", "a file with the authority that the endpoints are known by, PEM");
    } else if let Some((key, at)) = files.iter().find_map(|(key, node)| Some((key, (*node)?))) {
        fields.report(at, format!("{key:?} is for endpoints with https://, and here are none"));
    }
    if let (false, Some(at)) = (is_secure, fields.get("user")) {
        fields.report(at, "a password is sent over https:// only");
    }
    let ca = authorities(&mut fields, file);
    let own = own(&mut fields, file);
    let mut keep = |is_there: bool, key: &str, value: &str| {
        if is_there {
            settings.insert(key.to_owned(), value.into());
        }
    };
    keep(ca.is_some(), "ca", CA);
    keep(own.is_some(), "cert", CERT);
    keep(own.is_some(), "key", KEY);
    if let Some(user) = &user {
        keep(true, "user", user);
        keep(true, "password_file", PASSWORD_FILE);
    }
    Some(Etcd { settings, ca, own, user })
}

/// They, and whether they are all reached by https.
fn endpoints(fields: &mut Fields<'_, '_>) -> (Vec<String>, bool) {
    let node = fields.required("endpoints", "the members of the cluster, such as https://203.0.113.21:2379");
    let endpoints = fields.texts("endpoints");
    let mut secure = 0;
    for (text, node) in &endpoints {
        if text.starts_with("https://") {
            secure += 1;
        } else if !text.starts_with("http://") {
            fields.report(
                node,
                format!("an endpoint is written as https://HOST:PORT or http://HOST:PORT, not {text:?}"),
            );
        }
    }
    if let Some(node) = node.filter(|_| secure != 0 && secure != endpoints.len()) {
        fields.report(node, "all endpoints are https://, or none is");
    }
    (endpoints.into_iter().map(|(text, _)| text).collect(), secure != 0)
}

fn authorities(fields: &mut Fields<'_, '_>, file: &Path) -> Option<String> {
    let text = pem::text_of(fields, "ca", file)?;
    let node = fields.get("ca")?;
    // A bundle may have old ones beside the one that counts.
    let checked = pem::certificates(&text).and_then(|all| {
        let checks: Result<Vec<()>, String> = all.iter().map(|one| pem::in_force(one, false)).collect();
        let has_one = all.iter().any(|one| pem::in_force(one, false).is_ok());
        if has_one { Ok(()) } else { checks.map(drop) }
    });
    if let Err(message) = checked {
        fields.report(node, message);
        return None;
    }
    Some(text)
}

fn own(fields: &mut Fields<'_, '_>, file: &Path) -> Option<(String, String)> {
    let [cert, key] = ["cert", "key"].map(|key| fields.get(key));
    if cert.is_none() && key.is_none() {
        return None;
    }
    fields.required("cert", "a file with the certificate that etcd knows the pair by, PEM");
    fields.required("key", "a file with its private key, PEM");
    let [cert_text, key_text] = ["cert", "key"].map(|key| pem::text_of(fields, key, file));
    let (cert_text, key_text) = (cert_text?, key_text?);
    let has_user = fields.get("user").is_some();
    let checked = pem::pair(&cert_text, &key_text).and_then(|leaf| {
        pem::in_force(&leaf, true)?;
        // etcd has users and certificates of clients together only so, at the gateway that we ask.
        if has_user && pem::has_common_name(&leaf) {
            return Err(
                "beside \"user\" etcd takes a certificate without a common name only: make one with \
                        subject alternative names"
                    .to_owned(),
            );
        }
        Ok(())
    });
    if let (Err(message), Some(node)) = (checked, cert) {
        fields.report(node, message);
        return None;
    }
    Some((cert_text, key_text))
}

/// A user has a password among the secrets.
pub(super) fn check_password(manager: Option<&Node>, secrets: &Secrets, problems: &mut Problems) {
    let user = manager.and_then(|manager| manager.get("etcd")?.get("user"));
    if let Some(user) = user.filter(|_| !secrets.values().contains_key(PASSWORD)) {
        let problem = Problem::new(&user.place, "the password of etcd's user is not there");
        problems.push(problem.hint(format!("write `{PASSWORD}: …` into the file that \"secrets\" names")));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rcgen::{
        CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd,
    };

    use super::super::Inventory;
    use super::*;

    /// `subject`: its common name.
    fn certificate(until: i32, usage: ExtendedKeyUsagePurpose, subject: Option<&str>) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["pair.example.com".to_owned()]).unwrap();
        params.not_after = date_time_ymd(until, 1, 1);
        params.extended_key_usages = vec![usage];
        params.distinguished_name = DistinguishedName::new();
        subject.iter().for_each(|name| params.distinguished_name.push(DnType::CommonName, *name));
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    /// What an inventory says with this section beside files, and with this one of secrets.
    fn read_with(section: &str, secrets: &str) -> Result<Inventory, String> {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        let (ca, _) = certificate(4000, ExtendedKeyUsagePurpose::ServerAuth, None);
        let (client, key) = certificate(4000, ExtendedKeyUsagePurpose::ClientAuth, None);
        let (named, named_key) = certificate(4000, ExtendedKeyUsagePurpose::ClientAuth, Some("pair"));
        let (old, old_key) = certificate(2020, ExtendedKeyUsagePurpose::ClientAuth, None);
        let (server, server_key) = certificate(4000, ExtendedKeyUsagePurpose::ServerAuth, None);
        put("bundle.pem", &format!("{old}{ca}"));
        for (name, text) in
            [("ca", &ca), ("client", &client), ("named", &named), ("old", &old), ("server", &server)]
        {
            put(&format!("{name}.pem"), text);
        }
        for (name, text) in
            [("client", &key), ("named", &named_key), ("old", &old_key), ("server", &server_key)]
        {
            put(&format!("{name}.key"), text);
        }
        put("text.pem", "none");
        put("secrets.yml", secrets);
        let example = include_str!("../../../inventory/example.yml").replace("witness:", "# witness:");
        let text = format!("{example}manager: {{etcd: {{{section}}}}}\nsecrets: secrets.yml\n");
        Inventory::parse(&folder.path().join("ha.yml"), &text).map_err(|problems| problems.to_string())
    }

    const SECURE: &str = "endpoints: \"https://10.0.0.1:2379\", ca: ca.pem";

    #[test]
    fn files_of_the_controller_become_files_of_the_hosts() {
        let section = format!("{SECURE}, cert: client.pem, key: client.key, user: futago");
        let inventory = read_with(&section, "etcd_password: tiger-and-dragon\n").unwrap();
        let etcd = inventory.manager.unwrap().etcd.unwrap();
        let paths = ["ca", "cert", "key", "password_file"].map(|key| etcd.settings[key].as_str().unwrap());
        assert_eq!(paths, [CA, CERT, KEY, PASSWORD_FILE]);
        assert!(etcd.describe()["key"].as_str().unwrap().contains("PRIVATE KEY"));
        assert!(etcd.secrets().count() > 0);
        read_with("endpoints: \"https://10.0.0.1:2379\", ca: bundle.pem", "").unwrap();
        read_with(&format!("{SECURE}, cert: named.pem, key: named.key"), "").unwrap();
        let plain = read_with("endpoints: \"http://10.0.0.1:2379\"", "").unwrap();
        let settings = plain.manager.unwrap().etcd.unwrap().settings;
        assert_eq!(settings.keys().collect::<Vec<_>>(), ["endpoints"]);
    }

    #[test]
    fn files_that_cannot_serve_are_refused_before_contact() {
        for (section, message) in [
            ("endpoints: \"https://a:1\"", "\"ca\" is missing"),
            (
                "endpoints: [\"https://a:1\", \"http://b:1\"], ca: ca.pem",
                "all endpoints are https://, or none is",
            ),
            ("endpoints: \"http://a:1\", ca: ca.pem", "\"ca\" is for endpoints with https://"),
            ("endpoints: \"http://a:1\", user: futago", "a password is sent over https:// only"),
            ("endpoints: \"https://a:1\", ca: none.pem", "none.pem: No such file"),
            ("endpoints: \"https://a:1\", ca: text.pem", "there is no certificate in the file"),
            ("endpoints: \"https://a:1\", ca: old.pem", "has expired, at 2020-01-01T00:00:00Z: renew it"),
            (&format!("{SECURE}, cert: client.pem"), "\"key\" is missing"),
            (
                &format!("{SECURE}, cert: client.pem, key: old.key"),
                "the key does not belong to the certificate",
            ),
            (&format!("{SECURE}, cert: old.pem, key: old.key"), "has expired"),
            (&format!("{SECURE}, cert: server.pem, key: server.key"), "is not for clients"),
            (
                &format!("{SECURE}, cert: named.pem, key: named.key, user: futago"),
                "without a common name only",
            ),
            (&format!("{SECURE}, cert: client.pem, key: text.pem"), "no private key"),
            (&format!("{SECURE}, user: futago"), "the password of etcd's user is not there"),
        ] {
            let said = read_with(section, "").unwrap_err();
            assert!(said.contains(message) && said.contains("ha.yml:"), "{section}: {said}");
        }
    }
}
