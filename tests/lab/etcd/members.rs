//! An etcd cluster of three members on the third machine: Debian's etcd-server, TLS, certificates of clients, and a user.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair,
};

use crate::harness::Lab;

const ADDRESS: &str = "203.0.113.13";
/// What the members of the cluster are called; the port of clients of each, that of the others is one more.
const MEMBERS: [(&str, u16); 3] = [("one", 2379), ("two", 2479), ("three", 2579)];
/// Each runs as a user of its own, so that its packets can be told.
const UNIT: &str = "[Service]
Type=notify
User=etcd-%i
EnvironmentFile=/etc/etcd/%i
ExecStart=/usr/bin/etcd
";
pub(super) const PASSWORD: &str = "tiger-and-dragon";

/// An authority of a name of its own.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("make a key");
        let mut params = CertificateParams::new(Vec::new()).expect("an authority");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("sign").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate, without a common name, and key. etcd's gateway is a client of its own server: one of a member is for
    /// both.
    pub(super) fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("make a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a certificate");
        params.distinguished_name = DistinguishedName::new();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        (params.signed_by(&key, &self.issuer).expect("sign").pem(), key.serialize_pem())
    }
}

/// Writes a file on a host.
pub(super) fn put(lab: &Lab, host: &str, path: &str, text: &str) {
    lab.run_in(host, &format!("cat > {path} <<'END'\n{text}\nEND"));
}

fn endpoint(port: u16) -> String {
    format!("https://{ADDRESS}:{port}")
}

/// Starts them, with a user that may write where the pair's record is.
pub(super) fn start(lab: &Lab, authority: &Authority) {
    lab.run("compared", &[]);
    lab.run_in(
        "witness",
        "DEBIAN_FRONTEND=noninteractive apt-get install --yes etcd-server etcd-client nftables >/dev/null 2>&1
         systemctl disable --now --quiet etcd
         mkdir -p /etc/etcd",
    );
    let (certificate, key) = authority.sign(ADDRESS);
    for (name, text) in [("ca.pem", &authority.pem), ("member.pem", &certificate), ("member.key", &key)] {
        put(lab, "witness", &format!("/etc/etcd/{name}"), text);
    }
    put(lab, "witness", "/etc/systemd/system/etcd@.service", UNIT);
    let peers = MEMBERS.map(|(name, port)| format!("{name}={}", endpoint(port + 1))).join(",");
    for (name, port) in MEMBERS {
        let (clients, peer) = (endpoint(port), endpoint(port + 1));
        let files = |side: &str| {
            format!(
                "ETCD_{side}TRUSTED_CA_FILE=/etc/etcd/ca.pem\nETCD_{side}CERT_FILE=/etc/etcd/member.pem\n\
                 ETCD_{side}KEY_FILE=/etc/etcd/member.key\nETCD_{side}CLIENT_CERT_AUTH=true\n"
            )
        };
        let settings = format!(
            "ETCD_NAME={name}\nETCD_DATA_DIR=/var/lib/etcd-{name}\nETCD_INITIAL_CLUSTER={peers}\n\
             ETCD_LISTEN_CLIENT_URLS={clients}\nETCD_ADVERTISE_CLIENT_URLS={clients}\n\
             ETCD_LISTEN_PEER_URLS={peer}\nETCD_INITIAL_ADVERTISE_PEER_URLS={peer}\n{}{}",
            files(""),
            files("PEER_"),
        );
        put(lab, "witness", &format!("/etc/etcd/{name}"), &settings);
        let made = format!("useradd --system --create-home --home-dir /var/lib/etcd-{name} etcd-{name}");
        lab.run_in("witness", &made);
    }
    lab.run_in("witness", "systemctl daemon-reload && systemctl start etcd@one etcd@two etcd@three");
    lab.run_in(
        "witness",
        &format!(
            "export ETCDCTL_API=3 ETCDCTL_ENDPOINTS={} ETCDCTL_CACERT=/etc/etcd/ca.pem \
             ETCDCTL_CERT=/etc/etcd/member.pem ETCDCTL_KEY=/etc/etcd/member.key
             set -e
             etcdctl user add root:{PASSWORD}
             etcdctl user grant-role root root
             etcdctl role add pairs
             etcdctl role grant-permission --prefix pairs readwrite futago/
             etcdctl user add futago:{PASSWORD}
             etcdctl user grant-role futago pairs
             etcdctl auth enable",
            endpoint(MEMBERS[0].1)
        ),
    );
}

/// Writes what the pair reaches them with beside the inventory, and the section into it.
pub(super) fn into_inventory(lab: &Lab, authority: &Authority) {
    let (certificate, key) = authority.sign("pair.example.com");
    for (name, text) in [("ca.pem", &authority.pem), ("client.pem", &certificate), ("client.key", &key)] {
        fs::write(lab.folder().join(name), text).expect("write a file of TLS");
    }
    let secrets = lab.folder().join("secrets.yml");
    fs::write(&secrets, format!("etcd_password: {PASSWORD}\n")).expect("write the secrets");
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o600)).expect("close the secrets");
    let path = lab.folder().join("inventory.yml");
    let text = fs::read_to_string(&path).expect("read the inventory");
    let without: String =
        text.lines().filter(|line| !line.starts_with("witness:")).map(|line| format!("{line}\n")).collect();
    assert!(without.contains("\nmanager:\n") && without != text && !text.contains("secrets:"), "{text}");
    let endpoints = MEMBERS.map(|(_, port)| format!("\"{}\"", endpoint(port))).join(", ");
    let section = format!(
        "etcd: {{endpoints: [{endpoints}], ca: ca.pem, cert: client.pem, key: client.key, user: futago}}"
    );
    fs::write(&path, format!("{without}  {section}\nsecrets: secrets.yml\n")).expect("write the inventory");
}

/// Ends a member without a word; it stays so.
pub(super) fn kill(lab: &Lab, name: &str) {
    lab.run_in("witness", &format!("systemctl kill --signal=KILL etcd@{name}"));
}

/// Starts members again.
pub(super) fn start_again(lab: &Lab, names: &[&str]) {
    let units: Vec<String> = names.iter().map(|name| format!("etcd@{name}")).collect();
    lab.run_in("witness", &format!("systemctl start {}", units.join(" ")));
}

/// Ends them all in good order.
pub(super) fn stop(lab: &Lab) {
    lab.run_in("witness", "systemctl stop 'etcd@*'");
}

/// Cuts a member off: nothing that it sends arrives anywhere, not even that it has received something.
pub(super) fn cut(lab: &Lab, name: &str) {
    let drop =
        format!("chain out {{ type filter hook output priority 0; meta skuid \"etcd-{name}\" drop; }}");
    lab.run_in("witness", &format!("nft -f - <<'END'\ntable inet cut {{\n{drop}\n}}\nEND"));
}

/// Undoes the cut.
pub(super) fn heal(lab: &Lab) {
    lab.run_in("witness", "nft delete table inet cut");
}
