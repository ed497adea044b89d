//! Whom we trust and how we say no, against a real SSH server on loopback that lets nobody in.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::server::{Auth, ChannelOpenHandle, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::*;

/// Lets nobody in, or everybody: then every command says this and ends with this code, without reading.
#[derive(Clone, Copy)]
enum Door {
    Shut,
    Open { says: &'static str, code: u32 },
}

impl russh::server::Handler for Door {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        _user: &str,
        _key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(if matches!(self, Self::Open { .. }) { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Self::Open { says, code } = *self else { return Ok(()) };
        session.channel_success(channel)?;
        session.extended_data(channel, 1, says)?;
        session.eof(channel)?;
        // After the end of the output, as OpenSSH does when it was told the end of the input.
        session.exit_status_request(channel, code)?;
        session.close(channel)
    }
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn public(seed: u8) -> String {
    let text = key(seed).public_key().to_openssh().unwrap();
    text.trim().to_owned()
}

fn fingerprint(seed: u8) -> String {
    key(seed).public_key().fingerprint(Default::default()).to_string()
}

/// A server with this host key that lets nobody in; the port.
async fn server(seed: u8) -> u16 {
    serve(seed, Door::Shut).await
}

async fn serve(seed: u8, door: Door) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = russh::server::Config {
        keys: vec![key(seed)],
        auth_rejection_time: Duration::ZERO,
        ..russh::server::Config::default()
    };
    let config = Arc::new(config);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let config = Arc::clone(&config);
            tokio::spawn(async move {
                if let Ok(session) = russh::server::run_stream(config, stream, door).await {
                    let _ = session.await;
                }
            });
        }
    });
    port
}

/// A target on loopback, with a key of our own, in a folder of its own.
fn target(folder: &TempDir, port: u16) -> Target {
    let identity = folder.path().join("identity");
    fs::write(&identity, key(99).to_openssh(Default::default()).unwrap()).unwrap();
    Target {
        name: "ha-a".into(),
        section: "ssh",
        address: "127.0.0.1".into(),
        port,
        user: "root".into(),
        password: None,
        identity: Some(identity),
        known_hosts: folder.path().join("known_hosts"),
        accept_new: false,
        netns: None,
        jump: None,
        connect_timeout: Duration::from_secs(60),
    }
}

async fn refusal(target: &Target) -> HostError {
    // Larger than the window of a channel.
    let file = target.identity.as_ref().unwrap().with_file_name("program");
    fs::write(&file, vec![7; 8 << 20]).unwrap();
    let program = Program::at(&file).unwrap();
    match connect_with(target, &program).await {
        Err(error) => error,
        Ok(_) => panic!("let in"),
    }
}

#[tokio::test]
async fn an_unknown_key_is_refused_with_its_fingerprint_and_the_line_that_would_trust_it() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(&folder, server(1).await);
    let error = refusal(&target).await;
    let HostError::HostKeyUnknown { fingerprint: shown, line, .. } = &error else { panic!("{error}") };
    assert_eq!(shown, &format!("ssh-ed25519 {}", fingerprint(1)));
    assert_eq!(line, &format!("[127.0.0.1]:{} {}", target.port, public(1)));
    assert!(error.to_string().contains(shown) && error.to_string().contains("--accept-new"), "{error}");
    assert!(!target.known_hosts.exists());
    fs::write(&target.known_hosts, line).unwrap();
    assert!(matches!(refusal(&target).await, HostError::Authentication { .. }));
}

#[tokio::test]
async fn a_changed_key_stops_with_both_fingerprints_and_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target { accept_new: true, ..target(&folder, server(1).await) };
    let recorded = format!("# ours\n[127.0.0.1]:{} {}\n", target.port, public(2));
    fs::write(&target.known_hosts, &recorded).unwrap();
    let error = refusal(&target).await;
    let HostError::HostKeyChanged(change) = &error else { panic!("{error}") };
    assert_eq!(change.line, 2);
    let text = error.to_string();
    let place = format!("{}:2", target.known_hosts.display());
    for part in [fingerprint(1), fingerprint(2), place, "has changed".into()] {
        assert!(text.contains(&part), "{text}");
    }
    assert_eq!(fs::read_to_string(&target.known_hosts).unwrap(), recorded);
}

#[tokio::test]
async fn accepting_a_new_key_records_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target { accept_new: true, ..target(&folder, server(3).await) };
    for _ in 0..2 {
        let error = refusal(&target).await;
        assert!(matches!(error, HostError::Authentication { .. }), "{error}");
    }
    let recorded = fs::read_to_string(&target.known_hosts).unwrap();
    assert_eq!(recorded, format!("[127.0.0.1]:{} {}\n", target.port, public(3)));
}

#[tokio::test]
async fn a_revoked_key_is_refused_although_it_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(&folder, server(4).await);
    let key = public(4);
    fs::write(&target.known_hosts, format!("[127.0.0.1]:{} {key}\n@revoked * {key}\n", target.port)).unwrap();
    let error = refusal(&target).await;
    assert!(matches!(error, HostError::HostKeyRefused { line: 2, .. }), "{error}");
    assert!(error.to_string().contains("is marked as revoked"), "{error}");
}

#[tokio::test]
async fn a_refused_login_says_who_and_with_which_key() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target { accept_new: true, user: "admin".into(), ..target(&folder, server(5).await) };
    let text = refusal(&target).await.to_string();
    let identity = target.identity.unwrap().display().to_string();
    for part in ["log in to ha-a (127.0.0.1) as admin", &identity, "~admin/.ssh/authorized_keys"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn a_closed_port_and_a_silent_one_are_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = listener.local_addr().unwrap().port();
    let short = Duration::from_millis(50);
    let error = refusal(&Target { connect_timeout: short, ..target(&folder, silent) }).await;
    assert!(error.to_string().contains("does not speak SSH in time"), "{error}");
    drop(listener);
    let error = refusal(&target(&folder, silent)).await;
    assert!(error.to_string().contains("refused") && error.is_unreachable(), "{error}");
}

#[tokio::test]
async fn a_network_namespace_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target { netns: Some("no-such-namespace".into()), ..target(&folder, 22) };
    let text = refusal(&target).await.to_string();
    assert!(text.contains("enter network namespace /run/netns/no-such-namespace"), "{text}");
}

#[tokio::test]
async fn a_private_key_that_is_not_there_or_of_another_format_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target { accept_new: true, ..target(&folder, server(6).await) };
    fs::write(target.identity.as_ref().unwrap(), "-----BEGIN RSA PRIVATE KEY-----\n").unwrap();
    let text = refusal(&target).await.to_string();
    assert!(text.starts_with("use the private key ") && text.contains("ssh-keygen -p"), "{text}");
    fs::remove_file(target.identity.as_ref().unwrap()).unwrap();
    assert!(matches!(refusal(&target).await, HostError::Identity { .. }));
}

async fn behind(door: Door, user: &str) -> HostError {
    let folder = tempfile::tempdir().unwrap();
    let port = serve(7, door).await;
    refusal(&Target { accept_new: true, user: user.into(), ..target(&folder, port) }).await
}

#[tokio::test]
async fn a_host_that_does_not_take_the_program_ends_the_upload() {
    let error = behind(Door::Open { says: "sh: read-only file system", code: 127 }, "root").await;
    let HostError::Upload { reason, .. } = &error else { panic!("{error}") };
    assert!(reason.ends_with("read-only file system"), "{error}");
}

#[tokio::test]
async fn another_run_on_the_host_is_named() {
    let error =
        behind(Door::Open { says: "ann@laptop, process 7, since 12:00:00 UTC", code: 75 }, "root").await;
    let wanted = "ha-a is being worked on by another run (ann@laptop, process 7, since 12:00:00 UTC); wait until it \
                  has ended";
    assert_eq!((error.to_string().as_str(), error.is_unreachable()), (wanted, false));
}

#[tokio::test]
async fn a_user_who_cannot_become_root_is_told_what_to_set_up() {
    let missing = behind(Door::Open { says: "sh: 1: sudo: not found", code: 127 }, "admin").await;
    assert!(matches!(missing, HostError::Sudo { .. }), "{missing}");
    let error = behind(Door::Open { says: "sudo: a password is required", code: 1 }, "admin").await;
    let text = error.to_string();
    for part in
        ["become root on ha-a as admin", "a password is required", "ALL=(ALL) ALL", "ssh.user to root"]
    {
        assert!(text.contains(part), "{text}");
    }
}

/// Two hosts behind a jump host.
fn behind_jump(jump: &Target) -> [Target; 2] {
    let through = Target { name: JUMP_HOST.into(), section: "ssh.jump", ..jump.clone() };
    let behind = Target {
        address: "203.0.113.11".into(),
        port: 22,
        jump: Some(Arc::new(Jump::new(through))),
        ..jump.clone()
    };
    ["ha-a", "ha-b"].map(|name| Target { name: name.into(), ..behind.clone() })
}

#[tokio::test]
async fn a_jump_host_that_does_not_let_us_in_is_asked_once_for_all_who_wait_and_again_later() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (counted, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (count, wake) = (Arc::clone(&counted), Arc::clone(&asked));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            // Until both are waiting.
            wake.notified().await;
            drop(stream);
        }
    });
    let [one, other] = behind_jump(&target(&folder, port));
    let both = async { tokio::join!(refusal(&one), refusal(&other), async { asked.notify_one() }) };
    let (first, second, ()) = both.await;
    assert_eq!(first.to_string(), second.to_string());
    let expected = format!("connect to the jump host (127.0.0.1 port {port}): ");
    assert!(first.to_string().starts_with(&expected) && first.is_unreachable(), "{first}");
    assert_eq!(counted.load(Ordering::SeqCst), 1);
    asked.notify_one();
    refusal(&one).await;
    assert_eq!(counted.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_jump_host_that_refuses_our_key_names_its_own_section_of_the_inventory() {
    let folder = tempfile::tempdir().unwrap();
    let jump = Target { accept_new: true, ..target(&folder, server(8).await) };
    let text = refusal(&behind_jump(&jump)[0]).await.to_string();
    for part in ["log in to the jump host (127.0.0.1) as root", "ssh.jump.identity"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn a_jump_host_that_forwards_nothing_says_which_host_it_does_not_reach() {
    let folder = tempfile::tempdir().unwrap();
    let port = serve(9, Door::Open { says: "", code: 0 }).await;
    let jump = Target { accept_new: true, ..target(&folder, port) };
    let error = refusal(&behind_jump(&jump)[1]).await;
    let expected =
        "the jump host 127.0.0.1 cannot reach ha-b (203.0.113.11 port 22): its SSH server forbids it";
    assert!(error.to_string().starts_with(expected) && error.is_unreachable(), "{error}");
}
