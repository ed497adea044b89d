//! TLS: who is believed, who is refused, and what is said about it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, version::TLS13};

use super::*;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn sign(&self, names: &[&str], until: i32) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = date_time_ymd(until, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A server's side; `clients`: of whose authority its clients must be.
    fn acceptor(&self, names: &[&str], until: i32, clients: Option<&Self>) -> TlsAcceptor {
        let provider = Arc::new(default_provider());
        let (certificate, key) = self.sign(names, until);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.certificate.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = builder.with_single_cert(vec![certificate.der().clone()], key.into()).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// The files of a client in a folder.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn trust(&self, authority: &Authority) -> Tls {
        let ca = self.path("ca.pem");
        fs::write(&ca, authority.certificate.pem()).unwrap();
        Tls { ca, own: None }
    }

    /// With a certificate of this authority, too.
    fn with_own(&self, tls: Tls, authority: &Authority, until: i32) -> Tls {
        let (certificate, key) = authority.sign(&["pair.example.com"], until);
        let own = (self.path("client.pem"), self.path("client.key"));
        fs::write(&own.0, certificate.pem()).unwrap();
        fs::write(&own.1, key.serialize_pem()).unwrap();
        open_to(&own.1, 0o600);
        Tls { own: Some(own), ..tls }
    }
}

fn open_to(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

const VALID: i32 = 4000;
const EXPIRED: i32 = 2020;

async fn fake(tls: TlsAcceptor) -> Fake {
    Fake::start(Some(tls), |_| fake::nothing_there()).await
}

/// What is told about an etcd that cannot be asked.
async fn refused(fake: &Fake, tls: &Tls) -> String {
    let members = members_of(&[fake.url()], 10_000, Some(tls.clone()), None);
    assert_eq!(members.answer(&Request::Look).await, Answer::NotDone);
    let told = told(&members);
    assert!(told.contains(&format!("etcd does not keep the record: {} ", fake.url())), "{told}");
    told
}

async fn accepted(fake: &Fake, tls: &Tls) {
    let members = members_of(&[fake.url()], 10_000, Some(tls.clone()), None);
    assert_eq!(members.answer(&Request::Look).await, Answer::Found(View::default()), "{}", told(&members));
}

#[tokio::test]
async fn a_server_is_known_by_its_authority_its_name_and_its_time() {
    let (authority, other, files) = (Authority::new(), Authority::new(), Files::new());
    let good = fake(authority.acceptor(&["127.0.0.1"], VALID, None)).await;
    accepted(&good, &files.trust(&authority)).await;
    for (fake, trusted, why) in [
        (&good, &other, "an authority that is not in "),
        (&fake(authority.acceptor(&["127.0.0.2"], VALID, None)).await, &authority, "not for 127.0.0.1"),
        (&fake(authority.acceptor(&["127.0.0.1"], EXPIRED, None)).await, &authority, "has expired"),
    ] {
        let told = refused(fake, &files.trust(trusted)).await;
        assert!(told.contains(why), "{told}");
        assert_eq!(fake.asked(), usize::from(why.contains("authority")), "nothing is asked of it");
    }
}

#[tokio::test]
async fn a_server_may_want_a_certificate_of_its_clients() {
    let (servers, clients, files) = (Authority::new(), Authority::new(), Files::new());
    let wants = fake(servers.acceptor(&["127.0.0.1"], VALID, Some(&clients))).await;
    let bare = files.trust(&servers);
    let told = refused(&wants, &bare).await;
    assert!(told.contains("give \"cert\" and \"key\""), "{told}");
    let told = refused(&wants, &files.with_own(bare.clone(), &servers, VALID)).await;
    assert!(told.contains("our certificate"), "{told}");
    let told = refused(&wants, &files.with_own(bare.clone(), &clients, EXPIRED)).await;
    assert!(told.contains("our certificate"), "{told}");
    assert_eq!(wants.asked(), 0);
    accepted(&wants, &files.with_own(bare, &clients, VALID)).await;
}

#[tokio::test]
async fn exchanged_files_count_from_the_next_question_on() {
    let (before, after, files) = (Authority::new(), Authority::new(), Files::new());
    let etcd = fake(after.acceptor(&["127.0.0.1"], VALID, Some(&after))).await;
    let tls = files.with_own(files.trust(&before), &before, VALID);
    let members = members_of(&[etcd.url()], 10_000, Some(tls.clone()), None);
    assert_eq!(members.answer(&Request::Look).await, Answer::NotDone);
    files.with_own(files.trust(&after), &after, VALID);
    assert_eq!(members.answer(&Request::Look).await, Answer::Found(View::default()));
    fs::remove_file(&tls.ca).unwrap();
    assert_eq!(members.answer(&Request::Look).await, Answer::NotDone);
    assert!(
        told(&members).contains(&format!("read {}: No such file", tls.ca.display())),
        "{}",
        told(&members)
    );
}

#[tokio::test]
async fn a_key_that_others_can_read_is_not_used() {
    let (authority, files) = (Authority::new(), Files::new());
    let etcd = fake(authority.acceptor(&["127.0.0.1"], VALID, None)).await;
    let tls = files.with_own(files.trust(&authority), &authority, VALID);
    open_to(&tls.own.as_ref().unwrap().1, 0o640);
    let told = refused(&etcd, &tls).await;
    assert!(told.contains("client.key has mode 640"), "{told}");
}

#[tokio::test]
async fn a_server_without_tls_and_one_that_is_asked_without_it_are_told_apart() {
    let (authority, files) = (Authority::new(), Files::new());
    let plain = Fake::start(None, |_| fake::nothing_there()).await;
    let url = plain.url().replace("http:", "https:");
    let members_with = |url: String, tls| members_of(&[url], 10_000, tls, None);
    let members = members_with(url, Some(files.trust(&authority)));
    assert_eq!(members.answer(&Request::Look).await, Answer::NotDone);
    assert!(told(&members).contains("does not speak TLS: write http://"), "{}", told(&members));
    let secure = fake(authority.acceptor(&["127.0.0.1"], VALID, None)).await;
    let members = members_with(secure.url().replace("https:", "http:"), None);
    assert_eq!(members.answer(&Request::Look).await, Answer::NotDone);
    assert!(told(&members).contains("if it speaks TLS, write https://"), "{}", told(&members));
}
