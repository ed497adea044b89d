//! A host reached over SSH: one connection, one agent, one step at a time.
//!
//! The host's key is verified before anything is said. The running program is brought onto the host once, by
//! its content, and started there as the agent; nothing else runs over this connection.

mod channel;
mod dial;
mod error;
mod jump;
mod known_hosts;
mod login;
mod password;
mod root;
mod shell;
mod talk;
mod upload;
mod verify;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use russh::Disconnect;
use russh::client::{Config, Handle};
use tokio::io::{AsyncRead, AsyncWrite};

pub use dial::namespace;
pub use error::{HostError, KeyChange};
pub use jump::Jump;
pub(crate) use jump::NAME as JUMP_HOST;
pub use password::{Password, PasswordFileError};
pub use shell::Shell;
pub use talk::Talk;
pub use upload::Program;

use crate::protocol::{Facts, Outcome, Owed, Progress, Request, Step};
use channel::Agent;
use verify::Verifier;

/// A silent host is asked for a sign of life this often, and given up after as many unanswered ones.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_MAX: usize = 4;

/// Where a host is and how to get in.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name in the inventory.
    pub name: String,
    /// The section of the inventory that says how to get in.
    pub section: &'static str,
    /// Address or DNS name; also what the file of known hosts calls it.
    pub address: String,
    /// TCP port.
    pub port: u16,
    /// Who to log in as; another one than root becomes root by sudo.
    pub user: String,
    /// What sudo wants to know; asked for on the terminal when it is needed and not here.
    pub password: Option<Password>,
    /// Private key; ssh-agent and the default keys otherwise.
    pub identity: Option<PathBuf>,
    /// File of known hosts.
    pub known_hosts: PathBuf,
    /// Record the key of a host that is not known yet, instead of refusing it.
    pub accept_new: bool,
    /// Network namespace to connect from, by its name under /run/netns.
    pub netns: Option<String>,
    /// The host that it is reached through.
    pub jump: Option<Arc<Jump>>,
    /// Bound for the TCP connection, and again for the key exchange.
    pub connect_timeout: Duration,
}

impl Target {
    fn unreachable(&self, reason: impl ToString) -> HostError {
        HostError::Unreachable {
            host: self.name.clone(),
            address: self.address.clone(),
            port: self.port,
            reason: reason.to_string(),
        }
    }
}

/// A host with a running agent.
pub struct SshHost {
    handle: Handle<Verifier>,
    agent: Agent,
    target: Target,
}

/// Connects, verifies the host's key, logs in, brings the running program onto the host when it is not
/// there, and starts it as the agent.
pub async fn connect(target: &Target) -> Result<SshHost, HostError> {
    let program = Program::running().map_err(|e| HostError::Upload {
        host: target.name.clone(),
        path: upload::FOLDER.into(),
        reason: format!("read the running program: {e}"),
    })?;
    connect_with(target, program).await
}

/// As [`connect`], with another program than the running one.
pub async fn connect_with(target: &Target, program: &Program) -> Result<SshHost, HostError> {
    let mut handle = open(target).await?;
    login::login(&mut handle, target).await?;
    let agent = Agent::start(&handle, target, program).await?;
    Ok(SshHost { handle, agent, target: target.clone() })
}

/// Whether a new connection gets in, within a time.
async fn reaches(target: &Target, within: Duration) -> bool {
    let attempt = async {
        let mut handle = open(target).await?;
        login::login(&mut handle, target).await?;
        // The host notices a closed connection as well.
        let _ = handle.disconnect(Disconnect::ByApplication, "", "en").await;
        Ok::<(), HostError>(())
    };
    matches!(tokio::time::timeout(within, attempt).await, Ok(Ok(())))
}

/// Connects, directly or through the jump host, and verifies the host's key.
async fn open(target: &Target) -> Result<Handle<Verifier>, HostError> {
    match &target.jump {
        Some(jump) => meet(target, jump.reach(target).await?).await,
        None => direct(target).await,
    }
}

/// Connects from here and verifies the host's key.
async fn direct(target: &Target) -> Result<Handle<Verifier>, HostError> {
    let stream = dial::dial(target).await.map_err(|e| target.unreachable(e))?;
    meet(target, stream).await
}

async fn meet<S>(target: &Target, stream: S) -> Result<Handle<Verifier>, HostError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let verifier = Verifier::new(target)?;
    let config = Config {
        preferred: verifier.preferred(),
        // Without it every small message waits 40 ms for an acknowledgement.
        nodelay: true,
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVE_MAX,
        // A silent mkfs or package installation is no reason to hang up.
        inactivity_timeout: None,
        ..Config::default()
    };
    let exchange = russh::client::connect_stream(Arc::new(config), stream, verifier);
    match tokio::time::timeout(target.connect_timeout, exchange).await {
        Ok(result) => result.map_err(|e| e.into_host_error(target)),
        Err(_) => Err(target.unreachable("something listens there, but it does not speak SSH in time")),
    }
}

impl SshHost {
    /// What the host is.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        self.agent.facts()
    }

    /// What earlier runs have left to do there.
    #[must_use]
    pub fn owed(&self) -> &BTreeSet<Owed> {
        self.agent.owed()
    }

    /// Runs one step to its end. A failed step is an outcome, not an error.
    pub async fn run(
        &mut self,
        step: &Step,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Outcome, HostError> {
        self.agent.ask(&self.target, &Request::Run(step.clone()), progress).await
    }

    /// Keeps there that these handlers are owed, and no others.
    pub async fn owe(&mut self, handlers: BTreeSet<Owed>) -> Result<Outcome, HostError> {
        self.agent.ask(&self.target, &Request::Owe { handlers }, &mut |_| {}).await
    }

    /// Lets the agent end and closes the connection.
    pub async fn close(self) {
        self.agent.close().await;
        // The host notices a closed connection as well.
        let _ = self.handle.disconnect(Disconnect::ByApplication, "", "en").await;
    }
}

#[cfg(test)]
mod tests;
