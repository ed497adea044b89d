//! Who the members of a cluster are to each other: one authority a project, one certificate a host.
//!
//! Made by the controller at the first apply and kept beside the inventory, readable by its owner only. Keys of hosts
//! reach their hosts and nothing else; the authority's key never leaves the controller. Inventories of one folder
//! share the authority, so that one witness can serve all their clusters.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::inventory::{Https, Inventory};

/// Folder and file below the project.
const FOLDER: &str = ".futago";
const FILE: &str = "identities.json";
const LOCK: &str = "identities.lock";

const DAY_S: u64 = 86_400;
const YEAR_S: u64 = 365 * DAY_S;
/// Validity of a member's certificate, and what is left of it when a new one is made.
const MEMBER_S: u64 = 10 * YEAR_S;
const RENEW_S: u64 = YEAR_S;
/// The authority outlives those whom it vouches for.
const AUTHORITY_S: u64 = 40 * YEAR_S;
/// Clocks of hosts may be behind.
const BEHIND_S: u64 = DAY_S;

/// Why identities could not be had.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file or its folder.
    #[error("{action} {path}: {source}", path = path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It does not hold what this program writes.
    #[error(
        "{path} is not a file of identities: {reason}; restore it, or remove it to make new ones, which the next \
         apply brings onto all hosts", path = path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate.
    #[error("make a certificate for {name}: {source}")]
    Make {
        /// Whose.
        name: String,
        /// Why it failed.
        source: rcgen::Error,
    },
}

/// The authority and all members that it has vouched for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identities {
    authority: Identity,
    /// By host name.
    members: BTreeMap<String, Identity>,
    /// What sites show to browsers, by the name of the cluster; signed by themselves.
    #[serde(default)]
    sites: BTreeMap<String, Identity>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    /// DNS names in the certificate.
    names: BTreeSet<String>,
    /// End of its validity, seconds since 1970.
    expires: u64,
    /// PEM.
    certificate: String,
    /// PEM.
    key: String,
}

impl Identities {
    /// Those that [`Self::provide`] would give, as long as it would make none; `None` otherwise.
    pub fn present(inventory: &Inventory, now: SystemTime) -> Result<Option<Self>, IdentityError> {
        let now_s = seconds(now);
        let serves = |all: &Self| {
            wanted(inventory).iter().all(|(host, names)| serves(&all.members, host, names, now_s))
                && wanted_site(inventory)
                    .iter()
                    .all(|names| serves(&all.sites, &inventory.cluster, names, now_s))
        };
        Ok(Self::load(&inventory.project())?.filter(serves))
    }

    fn load(project: &Path) -> Result<Option<Self>, IdentityError> {
        let path = project.join(FOLDER).join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::File { action: "read", path, source }),
        };
        let read = serde_json::from_slice(&text);
        read.map(Some).map_err(|e| IdentityError::Content { path, reason: e.to_string() })
    }

    /// Those of a project, with a valid certificate for each member of this inventory: made, renewed and kept where
    /// needed. `now` is the time of day.
    pub fn provide(inventory: &Inventory, now: SystemTime) -> Result<Self, IdentityError> {
        let project = inventory.project();
        let folder = project.join(FOLDER);
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| IdentityError::File { action, path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed("make", &folder))?;
        let lock = folder.join(LOCK);
        // Two runs at the same time must not make two authorities; the lock falls with the file.
        let held = File::create(&lock).and_then(|file| file.lock().map(|()| file));
        let _held = held.map_err(failed("lock", &lock))?;
        let now_s = seconds(now);
        let found = Self::load(&project)?;
        let mut all = match found.clone() {
            Some(all) => all,
            None => Self {
                authority: authority(inventory, now_s)?,
                members: BTreeMap::new(),
                sites: BTreeMap::new(),
            },
        };
        for (host, names) in wanted(inventory) {
            all.vouch(&host, names, now_s)?;
        }
        if let Some(names) = wanted_site(inventory) {
            all.make_site(&inventory.cluster, names, now_s)?;
        }
        if found.as_ref() != Some(&all) {
            let path = folder.join(FILE);
            let text = serde_json::to_vec_pretty(&all).unwrap_or_default();
            base::file::replace(&path, &text, 0o600).map_err(failed("write", &path))?;
        }
        Ok(all)
    }

    /// What one host is given: `ca`, `certificate` and `key`, each PEM.
    #[must_use]
    pub fn of(&self, host: &str) -> Option<Value> {
        let member = self.members.get(host)?;
        Some(json!({"ca": self.authority.certificate, "certificate": member.certificate, "key": member.key}))
    }

    /// Certificate and key of a cluster's site, each PEM.
    #[must_use]
    pub fn site(&self, cluster: &str) -> Option<(String, String)> {
        self.sites.get(cluster).map(|site| (site.certificate.clone(), site.key.clone()))
    }

    /// Texts that must never be shown.
    pub fn secrets(&self) -> impl Iterator<Item = String> {
        let all = self.members.values().chain(self.sites.values()).chain([&self.authority]);
        all.flat_map(|i| secret_lines(&i.key))
    }

    /// A certificate with these names for the site, signed by itself.
    fn make_site(&mut self, cluster: &str, names: BTreeSet<String>, now_s: u64) -> Result<(), IdentityError> {
        if serves(&self.sites, cluster, &names, now_s) {
            return Ok(());
        }
        let failed = |source| IdentityError::Make { name: cluster.to_owned(), source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>()).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, cluster);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let expires = now_s + MEMBER_S;
        validity(&mut params, now_s.saturating_sub(BEHIND_S), expires);
        let certificate = params.self_signed(&key).map_err(failed)?.pem();
        self.sites
            .insert(cluster.to_owned(), Identity { names, expires, certificate, key: key.serialize_pem() });
        Ok(())
    }

    /// A certificate with at least these names that is valid for a while.
    fn vouch(&mut self, host: &str, mut names: BTreeSet<String>, now_s: u64) -> Result<(), IdentityError> {
        if serves(&self.members, host, &names, now_s) {
            return Ok(());
        }
        // Names of other clusters that it serves.
        names.extend(self.members.get(host).into_iter().flat_map(|m| m.names.iter().cloned()));
        let failed = |source| IdentityError::Make { name: host.to_owned(), source };
        let issuer = KeyPair::from_pem(&self.authority.key).map_err(failed)?;
        let issuer = Issuer::new(authority_params(&self.authority.names), issuer);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>()).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, host);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Members call each other: everyone is both.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let expires = now_s + MEMBER_S;
        validity(&mut params, now_s.saturating_sub(BEHIND_S), expires);
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?.pem();
        self.members
            .insert(host.to_owned(), Identity { names, expires, certificate, key: key.serialize_pem() });
        Ok(())
    }
}

/// What must never be shown of a key in PEM: its frame is no secret, and it is everywhere.
pub(crate) fn secret_lines(key: &str) -> impl Iterator<Item = String> {
    key.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned)
}

/// Whether one of them has these names and is valid for a while.
fn serves(all: &BTreeMap<String, Identity>, who: &str, names: &BTreeSet<String>, now_s: u64) -> bool {
    all.get(who).is_some_and(|one| one.names.is_superset(names) && one.expires > now_s + RENEW_S)
}

/// The names that a browser may know the site by, when it shows a certificate that nobody has given.
fn wanted_site(inventory: &Inventory) -> Option<BTreeSet<String>> {
    let short = inventory.cluster.split('.').next().unwrap_or_default().to_owned();
    let names = BTreeSet::from([inventory.cluster.clone(), short, inventory.virtual_ip.address.to_string()]);
    (inventory.stack.is_some() && inventory.https == Https::SelfSigned).then_some(names)
}

/// Each member with the names that its certificate needs.
fn wanted(inventory: &Inventory) -> Vec<(String, BTreeSet<String>)> {
    let role = |role: &str| format!("{role}.{}.futago.internal", inventory.cluster);
    let pair = inventory.hosts.iter().zip(["a", "b"]).map(|(host, r)| (host.fqdn.clone(), role(r)));
    let witness = inventory.witness.iter().map(|host| (host.fqdn.clone(), role("witness")));
    pair.chain(witness).map(|(host, role)| (host.clone(), BTreeSet::from([host, role]))).collect()
}

fn authority(inventory: &Inventory, now_s: u64) -> Result<Identity, IdentityError> {
    let name = format!("futago, members of {}", inventory.cluster);
    let failed = |source| IdentityError::Make { name: name.clone(), source };
    let names = BTreeSet::from([name.clone()]);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = authority_params(&names);
    let expires = now_s + AUTHORITY_S;
    validity(&mut params, now_s.saturating_sub(BEHIND_S), expires);
    let certificate = params.self_signed(&key).map_err(failed)?.pem();
    Ok(Identity { names, expires, certificate, key: key.serialize_pem() })
}

/// What says who the authority is: the same when it is made and when it signs.
fn authority_params(names: &BTreeSet<String>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    for name in names {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn validity(params: &mut CertificateParams, from_s: u64, to_s: u64) {
    let at = |seconds| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    (params.not_before, params.not_after) = (at(from_s), at(to_s));
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVENTORY: &str = "\
cluster: ha.example.com
virtual_ip: {address: 203.0.113.10/24, interface: eth0}
hosts:
  ha-a: {address: 203.0.113.11, local_address: 192.168.1.101, disk: /dev/vdb, interfaces: {public: eth0, local: eth1}}
  ha-b: {address: 203.0.113.12, local_address: 192.168.1.102, disk: /dev/vdb, interfaces: {public: eth0, local: eth1}}
witness: {address: 203.0.113.13}
manager: {}
";

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn identities_are_made_once_kept_private_and_renewed_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let inventory = Inventory::parse(&folder.path().join("ha.yml"), INVENTORY).unwrap();
        assert_eq!(Identities::present(&inventory, at(1_000_000_000)).unwrap(), None);
        let first = Identities::provide(&inventory, at(1_000_000_000)).unwrap();
        let mode = std::fs::metadata(folder.path().join(".futago/identities.json")).unwrap().permissions();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
        let later = 1_000_000_000 + MEMBER_S - RENEW_S - 1;
        assert_eq!(Identities::provide(&inventory, at(later)).unwrap(), first);
        assert_eq!(Identities::present(&inventory, at(later)).unwrap(), Some(first.clone()));
        assert_eq!(Identities::present(&inventory, at(later + 1)).unwrap(), None);
        let renewed = Identities::provide(&inventory, at(later + 1)).unwrap();
        assert_eq!(renewed.authority, first.authority);
        assert_ne!(renewed.of("ha-a.example.com"), first.of("ha-a.example.com"));
    }

    #[test]
    fn a_witness_of_two_clusters_has_the_names_of_both() {
        let folder = tempfile::tempdir().unwrap();
        let other = INVENTORY.replace("ha.example", "hb.example").replace("ha-", "hb-");
        for (file, text) in [("ha.yml", INVENTORY), ("hb.yml", &other)] {
            let inventory = Inventory::parse(&folder.path().join(file), text).unwrap();
            Identities::provide(&inventory, at(1_000_000_000)).unwrap();
        }
        let all = Identities::load(folder.path()).unwrap().unwrap();
        let names: Vec<&str> = all.members["witness.example.com"].names.iter().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "witness.example.com",
                "witness.ha.example.com.futago.internal",
                "witness.hb.example.com.futago.internal"
            ]
        );
        assert_eq!(all.members.len(), 5);
    }

    #[test]
    fn keys_are_secrets_and_a_damaged_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let inventory = Inventory::parse(&folder.path().join("ha.yml"), INVENTORY).unwrap();
        let all = Identities::provide(&inventory, at(1_000_000_000)).unwrap();
        let secrets: Vec<String> = all.secrets().collect();
        for key in all.members.values().chain([&all.authority]).map(|i| &i.key) {
            let body = key.lines().filter(|line| !line.starts_with("-----"));
            assert!(body.clone().count() > 0 && body.clone().all(|line| secrets.iter().any(|s| s == line)));
        }
        std::fs::write(folder.path().join(".futago/identities.json"), "{}").unwrap();
        let refusal = Identities::provide(&inventory, at(1_000_000_000)).unwrap_err().to_string();
        assert!(refusal.contains("is not a file of identities"), "{refusal}");
    }
}
