//! The hosts of a real run: reached over SSH.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Connect, Host, Lost};
use crate::host::{self, HostError, Jump, Password, SshHost, Target};
use crate::inventory::{JumpHost, Member, Ssh};
use crate::protocol::{Facts, Outcome, Owed, Progress, Step};

/// A host on the same network answers in milliseconds; a slow line still gets through.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects as the inventory says.
pub struct OverSsh {
    settings: Ssh,
    accept_new: bool,
    password: Option<Password>,
    jump: Option<Arc<Jump>>,
}

impl OverSsh {
    /// Nothing is connected yet. With `accept_new`, keys of hosts that are not known yet are recorded; a password of sudo that
    /// is not given is asked for when it is needed.
    #[must_use]
    pub fn new(settings: &Ssh, accept_new: bool, password: Option<Password>) -> Self {
        let over = Self { settings: settings.clone(), accept_new, password, jump: None };
        let jump = settings.jump.as_ref().map(|jump| Arc::new(Jump::new(over.jump_target(jump))));
        Self { jump, ..over }
    }

    /// What no report may show.
    pub(crate) fn secret(&self) -> Option<String> {
        self.password.as_ref().and_then(Password::masked)
    }

    /// Where a member is and how to get in.
    #[must_use]
    pub fn target(&self, member: &Member) -> Target {
        let Ssh { user, port, identity, known_hosts, netns, .. } = self.settings.clone();
        Target {
            name: member.name.clone(),
            section: "ssh",
            address: member.address.to_string(),
            port: member.port.unwrap_or(port),
            user,
            password: self.password.clone(),
            identity,
            known_hosts,
            accept_new: self.accept_new,
            netns,
            jump: self.jump.clone(),
            connect_timeout: CONNECT_TIMEOUT,
        }
    }

    fn jump_target(&self, jump: &JumpHost) -> Target {
        let JumpHost { host, user, port, identity } = jump.clone();
        Target {
            name: host::JUMP_HOST.to_owned(),
            section: "ssh.jump",
            address: host,
            port,
            user,
            // Nothing is run there.
            password: None,
            identity,
            known_hosts: self.settings.known_hosts.clone(),
            accept_new: self.accept_new,
            netns: self.settings.netns.clone(),
            jump: None,
            connect_timeout: CONNECT_TIMEOUT,
        }
    }
}

impl Connect for OverSsh {
    type Host = SshHost;

    async fn connect(&self, member: &Member) -> Result<SshHost, Lost> {
        host::connect(&self.target(member))
            .await
            .map_err(|error| Lost { unreachable: error.is_unreachable(), message: error.to_string() })
    }
}

impl Host for SshHost {
    fn facts(&self) -> &Facts {
        Self::facts(self)
    }

    fn owed(&self) -> &BTreeSet<Owed> {
        Self::owed(self)
    }

    async fn owe(&mut self, handlers: BTreeSet<Owed>) -> Result<Outcome, Lost> {
        Self::owe(self, handlers).await.map_err(gone)
    }

    async fn run(
        &mut self,
        step: &Step,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Outcome, Lost> {
        Self::run(self, step, progress).await.map_err(gone)
    }

    async fn close(self) {
        Self::close(self).await;
    }
}

/// Whatever ends the conversation in the middle, the host is lost for this run.
fn gone(error: HostError) -> Lost {
    Lost { unreachable: true, message: error.to_string() }
}
