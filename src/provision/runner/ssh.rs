//! The hosts of a real run: reached over SSH.

use std::time::Duration;

use super::{Connect, Host, Lost};
use crate::host::{self, HostError, SshHost, Target};
use crate::inventory::{Member, Ssh};
use crate::protocol::{Facts, Outcome, Progress, Step};

/// A host on the same network answers in milliseconds; a slow line still gets through.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects as the inventory says.
pub struct OverSsh {
    /// User, port, keys.
    pub settings: Ssh,
    /// Record keys of hosts that are not known yet.
    pub accept_new: bool,
}

impl OverSsh {
    /// Where a member is and how to get in.
    #[must_use]
    pub fn target(&self, member: &Member) -> Target {
        let Ssh { user, port, identity, known_hosts, netns } = self.settings.clone();
        Target {
            name: member.name.clone(),
            address: member.address.to_string(),
            port: member.port.unwrap_or(port),
            user,
            identity,
            known_hosts,
            accept_new: self.accept_new,
            netns,
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

    async fn run(
        &mut self,
        step: &Step,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Outcome, Lost> {
        // Whatever ends the conversation in the middle, the host is lost for this run.
        let lost = |error: HostError| Lost { unreachable: true, message: error.to_string() };
        Self::run(self, step, progress).await.map_err(lost)
    }

    async fn close(self) {
        Self::close(self).await;
    }
}
