//! Who we are to a host: a key file, the keys of ssh-agent(1), or the user's default keys.
//!
//! A passphrase is asked for on the terminal, once for all hosts.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::client::{Handle, Handler};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey};

use super::{HostError, Target};
use crate::ask::{Once, ask};

/// Default keys, newest kind first.
const DEFAULT_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];
/// Passphrases that may be wrong before giving up.
const PASSPHRASE_TRIES: usize = 3;
/// Keys of an agent that are offered: servers disconnect after six failures.
const MAX_AGENT_KEYS: usize = 4;

/// Unlocked keys by their files.
static UNLOCKED: Once<Arc<PrivateKey>> = Once::new();

/// Logs in, or says what was tried.
pub(super) async fn login<H: Handler>(handle: &mut Handle<H>, target: &Target) -> Result<(), HostError> {
    let mut tried = Vec::new();
    let mut locked = None;
    for path in key_files(target) {
        let key = read(&path)?;
        if key.is_encrypted() && unlocked(&path).is_none() {
            locked.get_or_insert((path, key));
            continue;
        }
        let key = unlocked(&path).unwrap_or_else(|| Arc::new(key));
        if offer(handle, target, key).await? {
            return Ok(());
        }
        tried.push(path.display().to_string());
    }
    if offer_agent_keys(handle, target, &mut tried).await? {
        return Ok(());
    }
    if let Some((path, key)) = locked {
        let name = path.display().to_string();
        let unlocking = tokio::task::spawn_blocking(move || unlock(path, &key)).await;
        let key = unlocking.map_err(|e| refused(target, &[e.to_string()]))??;
        if offer(handle, target, key).await? {
            return Ok(());
        }
        tried.push(name);
    }
    Err(refused(target, &tried))
}

fn refused(target: &Target, tried: &[String]) -> HostError {
    HostError::Authentication {
        host: target.name.clone(),
        address: target.address.clone(),
        user: target.user.clone(),
        section: target.section,
        tried: if tried.is_empty() { "us, having no key to offer".into() } else { tried.join(", ") },
    }
}

fn key_files(target: &Target) -> Vec<PathBuf> {
    if let Some(path) = &target.identity {
        return vec![path.clone()];
    }
    let Some(home) = std::env::home_dir() else { return Vec::new() };
    let paths = DEFAULT_KEYS.iter().map(|name| home.join(".ssh").join(name));
    paths.filter(|path| path.exists()).collect()
}

fn read(path: &Path) -> Result<PrivateKey, HostError> {
    let failed = |reason: String| HostError::Identity { path: path.to_path_buf(), reason };
    let text = fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    PrivateKey::from_openssh(&text).map_err(|e| {
        failed(format!(
            "{e}; a key in OpenSSH's format is needed, `ssh-keygen -p -f FILE` converts older ones"
        ))
    })
}

fn unlocked(path: &Path) -> Option<Arc<PrivateKey>> {
    UNLOCKED.known(&path.display().to_string())
}

/// Asks for the passphrase; blocks. The other hosts wait for the same answer.
fn unlock(path: PathBuf, key: &PrivateKey) -> Result<Arc<PrivateKey>, HostError> {
    let name = path.display().to_string();
    let answered = UNLOCKED.answer(&name, || decrypt(&name, key));
    let reason = match answered {
        Ok(Some(key)) => return Ok(key),
        Ok(None) => "it is encrypted, and its passphrase was not told".to_owned(),
        Err(reason) => reason,
    };
    Err(HostError::Identity { path, reason })
}

fn decrypt(name: &str, key: &PrivateKey) -> Result<Arc<PrivateKey>, String> {
    for _ in 0..PASSPHRASE_TRIES {
        let passphrase = ask(&format!("Passphrase of {name}: ")).map_err(|error| {
            format!(
                "it is encrypted, and here its passphrase cannot be asked for ({error}); load it into ssh-agent"
            )
        })?;
        if let Ok(key) = key.decrypt(&passphrase) {
            return Ok(Arc::new(key));
        }
    }
    Err("the passphrase is wrong".to_owned())
}

async fn offer<H: Handler>(
    handle: &mut Handle<H>,
    target: &Target,
    key: Arc<PrivateKey>,
) -> Result<bool, HostError> {
    let hash = hash_for(handle, key.public_key()).await.map_err(|e| target.unreachable(e))?;
    let key = PrivateKeyWithHashAlg::new(key, hash);
    let answer = handle.authenticate_publickey(target.user.as_str(), key).await;
    Ok(answer.map_err(|e| target.unreachable(e))?.success())
}

async fn offer_agent_keys<H: Handler>(
    handle: &mut Handle<H>,
    target: &Target,
    tried: &mut Vec<String>,
) -> Result<bool, HostError> {
    // Without an agent there are no agent's keys: that is not an error.
    let Ok(mut agent) = AgentClient::connect_env().await else { return Ok(false) };
    let identities = agent.request_identities().await.unwrap_or_default();
    for identity in identities.into_iter().take(MAX_AGENT_KEYS) {
        let AgentIdentity::PublicKey { key, comment } = identity else { continue };
        let hash = hash_for(handle, &key).await.map_err(|e| target.unreachable(e))?;
        let answer = handle.authenticate_publickey_with(target.user.as_str(), key, hash, &mut agent).await;
        match answer {
            Ok(answer) if answer.success() => return Ok(true),
            Ok(_) => tried.push(format!("the agent's key {comment}")),
            Err(error) => tried.push(format!("the agent's key {comment} ({error})")),
        }
    }
    Ok(false)
}

/// RSA signatures need a hash that the server supports; asking for it costs up to a second, so only RSA asks.
async fn hash_for<H: Handler>(handle: &Handle<H>, key: &PublicKey) -> Result<Option<HashAlg>, russh::Error> {
    if !key.algorithm().is_rsa() {
        return Ok(None);
    }
    Ok(handle.best_supported_rsa_hash().await?.flatten())
}
