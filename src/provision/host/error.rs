//! Why a host could not be worked with: what was attempted, on what, why it failed, and what to do.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// A host could not be reached, trusted, entered or worked with.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// No connection.
    #[error("connect to {host} ({address} port {port}): {reason}; is the host up, and is the address right?")]
    Unreachable {
        /// Name in the inventory.
        host: String,
        /// Address in the inventory.
        address: String,
        /// TCP port.
        port: u16,
        /// Why.
        reason: String,
    },
    /// The host that all others are reached through did not let us through.
    #[error("{0}")]
    Jump(Arc<HostError>),
    /// No connection behind the jump host.
    #[error(
        "the jump host {jump} cannot reach {host} ({address} port {port}): {reason}; is {host} up, and is that its \
         address as seen from {jump}?"
    )]
    Behind {
        /// Name or address of the jump host.
        jump: String,
        /// Name in the inventory.
        host: String,
        /// Address in the inventory.
        address: String,
        /// TCP port.
        port: u16,
        /// Why.
        reason: String,
    },
    /// The key is recorded nowhere.
    #[error(
        "the key of {host} ({address}) is not known: {fingerprint}; compare this fingerprint with the one on the \
         host's own console, then add this line to {}, or use --accept-new:\n{line}",
        known_hosts.display()
    )]
    HostKeyUnknown {
        /// Name in the inventory.
        host: String,
        /// Address in the inventory.
        address: String,
        /// Kind and SHA-256 fingerprint of the presented key.
        fingerprint: String,
        /// The file that was looked in.
        known_hosts: PathBuf,
        /// What to add to it.
        line: String,
    },
    /// Another key is recorded.
    #[error(transparent)]
    HostKeyChanged(Box<KeyChange>),
    /// The file of known hosts forbids this key, or cannot vouch for it.
    #[error("the key of {host} ({address}) is refused: {fingerprint} {reason} ({}:{line})", known_hosts.display())]
    HostKeyRefused {
        /// Name in the inventory.
        host: String,
        /// Address in the inventory.
        address: String,
        /// Kind and fingerprint of the presented key.
        fingerprint: String,
        /// Why, and what to do.
        reason: &'static str,
        /// The file of known hosts.
        known_hosts: PathBuf,
        /// The line that forbids it.
        line: usize,
    },
    /// The file of known hosts cannot be read or extended.
    #[error("{action} {}: {source}", path.display())]
    KnownHosts {
        /// `read` or `add a key to`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The private key cannot be used.
    #[error("use the private key {}: {reason}", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The host lets nobody in with these keys.
    #[error(
        "log in to {host} ({address}) as {user}: the host refused {tried}; add the public key to \
         ~{user}/.ssh/authorized_keys there, or name another key as {section}.identity in the inventory"
    )]
    Authentication {
        /// Name in the inventory.
        host: String,
        /// Address in the inventory.
        address: String,
        /// Who wanted in.
        user: String,
        /// What was offered.
        tried: String,
        /// The section of the inventory that names the key.
        section: &'static str,
    },
    /// The user is not root and may not become it.
    #[error(
        "become root on {host} as {user}: {reason}; allow it there (sudoers: `{user} ALL=(ALL) ALL`), or set ssh.user to \
         root in the inventory"
    )]
    Sudo {
        /// Name in the inventory.
        host: String,
        /// Who wanted to be root.
        user: String,
        /// What sudo said.
        reason: String,
    },
    /// The user may become root by a password that nobody has told.
    #[error(
        "become root on {host} as {user}: sudo wants the password of {user}, and here it cannot be asked for ({reason}); \
         write it as `become_password` into the file that `secrets` of the inventory names, or into a file of its own that \
         --become-password-file or FUTAGO_BECOME_PASSWORD_FILE names"
    )]
    SudoAsks {
        /// Name in the inventory.
        host: String,
        /// Who wanted to be root.
        user: String,
        /// Why nobody can be asked.
        reason: String,
    },
    /// The password is not the right one.
    #[error(
        "become root on {host} as {user}: sudo refuses the password ({origin}); it must be the one of {user} on {host}"
    )]
    SudoPassword {
        /// Name in the inventory.
        host: String,
        /// Who wanted to be root.
        user: String,
        /// Where the password is from.
        origin: String,
    },
    /// The program could not be brought onto the host.
    #[error("copy the program to {host}:{path}: {reason}")]
    Upload {
        /// Name in the inventory.
        host: String,
        /// Where to.
        path: String,
        /// Why.
        reason: String,
    },
    /// The host opens no connection for us.
    #[error("connect to {to} from {host}: {reason}")]
    Tunnel {
        /// Name in the inventory.
        host: String,
        /// Where to.
        to: SocketAddr,
        /// Why.
        reason: String,
    },
    /// Another run is working on the host.
    #[error("{host} is being worked on by another run ({holder}); wait until it has ended")]
    Busy {
        /// Name in the inventory.
        host: String,
        /// Who, and since when.
        holder: String,
    },
    /// The agent did not do its part.
    #[error("{action} on {host}: {reason}")]
    Agent {
        /// Name in the inventory.
        host: String,
        /// What was attempted.
        action: &'static str,
        /// Why, with the agent's last words.
        reason: String,
    },
}

/// A host that shows another key than the recorded one.
#[derive(Debug, thiserror::Error)]
#[error(
    "the key of {host} ({address}) has changed: it is {presented}, but {}:{line} records {recorded}; either the \
     host was installed anew, or someone is between you and it. Once you are sure of the new key, remove that \
     line and connect again",
    known_hosts.display()
)]
pub struct KeyChange {
    /// Name in the inventory.
    pub host: String,
    /// Address in the inventory.
    pub address: String,
    /// Kind and fingerprint of the key that the host presented.
    pub presented: String,
    /// Kind and fingerprint of the key in the file.
    pub recorded: String,
    /// The file of known hosts.
    pub known_hosts: PathBuf,
    /// Line of the recorded key.
    pub line: usize,
}

impl HostError {
    /// The host could not be reached or entered at all, so that nothing was done on it.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        !matches!(self, Self::Busy { .. } | Self::Agent { action: RUN, .. })
    }
}

/// Action of errors in the middle of a run.
pub(super) const RUN: &str = "run a step";
