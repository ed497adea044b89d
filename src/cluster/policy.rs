//! What follows from a failure of a resource: a pure function of what was counted.

use crate::config::{Class, Resource};
use crate::event::AgentResult;

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Stop and start it here.
    Restart,
    /// This host cannot run it any more: fail over if that is allowed, else hold.
    GiveUp,
    /// No host can run it, or the other one would meet the same: hold.
    Hold,
    /// Tell people; nothing is done to it.
    OnlyTell,
}

/// Decides after a failure. `count` includes this one and whatever was counted on this host since the last
/// cleanup or quiet window; `started` tells that the resource had been running.
#[must_use]
pub fn decide(resource: &Resource, result: AgentResult, count: u32, started: bool) -> Decision {
    match result {
        // A full or read-only replicated file system is the same on the peer.
        AgentResult::FileSystem if started => Decision::OnlyTell,
        AgentResult::FileSystem | AgentResult::Nowhere => Decision::Hold,
        AgentResult::NotHere => Decision::GiveUp,
        _ if count <= resource.restarts => Decision::Restart,
        _ => Decision::GiveUp,
    }
}

/// What runs on top of it must be stopped around its restart: asked for, or a device or file system under it.
#[must_use]
pub fn takes_dependents_along(resource: &Resource) -> bool {
    resource.restart_dependents
        || matches!(resource.class, Class::Replica { .. } | Class::Mount { .. } | Class::Bind { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(restarts: u32) -> Resource {
        Resource {
            name: "mariadb".into(),
            class: Class::Systemd { unit: "mariadb.service".into(), check: None },
            after: Vec::new(),
            start_timeout_ms: 1000,
            stop_timeout_ms: 1000,
            monitor_interval_ms: 0,
            monitor_timeout_ms: 1000,
            monitor_failures: 1,
            restarts,
            restart_dependents: false,
        }
    }

    #[test]
    fn restarts_come_first_and_are_counted() {
        let r = resource(2);
        assert_eq!(decide(&r, AgentResult::Failed, 1, true), Decision::Restart);
        assert_eq!(decide(&r, AgentResult::TimedOut, 2, true), Decision::Restart);
        assert_eq!(decide(&r, AgentResult::Failed, 3, true), Decision::GiveUp);
    }

    #[test]
    fn a_full_file_system_never_moves_the_stack() {
        let r = resource(0);
        assert_eq!(decide(&r, AgentResult::FileSystem, 9, true), Decision::OnlyTell);
        assert_eq!(decide(&r, AgentResult::FileSystem, 9, false), Decision::Hold);
    }

    #[test]
    fn what_cannot_work_here_is_not_tried_again_here() {
        assert_eq!(decide(&resource(9), AgentResult::NotHere, 1, false), Decision::GiveUp);
        assert_eq!(decide(&resource(9), AgentResult::Nowhere, 1, false), Decision::Hold);
    }
}
