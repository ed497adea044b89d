//! The way through a jump host: one SSH connection to it, and in that a channel to each host behind it.
//!
//! Nothing is run there. It is trusted by its key like any other host, and so are those behind it: what goes through
//! the channels is encrypted from end to end.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use russh::ChannelOpenFailure;
use russh::client::Handle;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;

use super::verify::Verifier;
use super::{HostError, Target, direct, login};

/// What a jump host is called in messages.
pub(crate) const NAME: &str = "the jump host";

/// A host that others are reached through; all of them share its one connection.
pub struct Jump {
    target: Target,
    /// Attempts to connect that have ended.
    attempts: AtomicUsize,
    last: Mutex<Option<Attempt>>,
}

/// How the last attempt to connect has ended.
type Attempt = Result<Arc<Handle<Verifier>>, Arc<HostError>>;

impl Jump {
    /// Nothing is connected yet. The target has no jump host of its own.
    pub(crate) fn new(target: Target) -> Self {
        Self { target, attempts: AtomicUsize::new(0), last: Mutex::new(None) }
    }

    /// A stream of bytes to a host behind.
    pub(super) async fn reach(
        &self,
        host: &Target,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static, HostError> {
        let connection = self.connection().await.map_err(HostError::Jump)?;
        let opening = forward(&connection, &host.address, host.port);
        let reason = match tokio::time::timeout(host.connect_timeout, opening).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => why(&error),
            Err(_) => format!("it had no answer within {} s", host.connect_timeout.as_secs()),
        };
        Err(HostError::Behind {
            jump: self.target.address.clone(),
            host: host.name.clone(),
            address: host.address.clone(),
            port: host.port,
            reason,
        })
    }

    /// The one connection. Who waits for an attempt takes what comes of it; who comes later tries anew.
    async fn connection(&self) -> Attempt {
        let ended = self.attempts.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        match &*last {
            Some(Ok(connection)) if !connection.is_closed() => return Ok(Arc::clone(connection)),
            Some(Err(error)) if self.attempts.load(Ordering::SeqCst) != ended => {
                return Err(Arc::clone(error));
            }
            _ => {}
        }
        let attempt = self.connect().await.map(Arc::new).map_err(Arc::new);
        self.attempts.fetch_add(1, Ordering::SeqCst);
        last.insert(attempt).clone()
    }

    async fn connect(&self) -> Result<Handle<Verifier>, HostError> {
        let mut handle = direct(&self.target).await?;
        login::login(&mut handle, &self.target).await?;
        Ok(handle)
    }
}

impl fmt::Debug for Jump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jump").field("target", &self.target).finish_non_exhaustive()
    }
}

/// A TCP connection that a host makes for us, as far as its SSH server allows that.
pub(super) async fn forward(
    handle: &Handle<Verifier>,
    address: &str,
    port: u16,
) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static + use<>, russh::Error> {
    // Who wants it is for the host's log only.
    let (from, from_port) = ("127.0.0.1", 0);
    Ok(handle.channel_open_direct_tcpip(address, port.into(), from, from_port).await?.into_stream())
}

/// Why a host makes no connection for us.
pub(super) fn why(error: &russh::Error) -> String {
    match error {
        russh::Error::ChannelOpenFailure(ChannelOpenFailure::ConnectFailed) => {
            "nothing answers there, or it refuses the connection".to_owned()
        }
        russh::Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited) => {
            "its SSH server forbids it (sshd_config: AllowTcpForwarding, PermitOpen)".to_owned()
        }
        other => other.to_string(),
    }
}
