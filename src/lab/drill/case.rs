//! What is done to a pair, and how it is made good again.

use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;

use super::System;
use crate::control_group;
use crate::fault::{self, Link};
use crate::layout::Host;
use crate::load::Load;
use crate::power;
use crate::stage::Stage;
use crate::up;
use crate::wait;

/// For a planned move: the address must be answered for by the other host.
const MOVED: Duration = Duration::from_secs(60);

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// The service is ordered to the other host.
    Switchover,
    /// The active host ends at once.
    PowerLoss,
    /// mariadbd is killed with signal 9.
    DatabaseKilled,
    /// The cluster manager of the active host is killed with signal 9.
    ManagerKilled,
    /// The replication daemon of the active host is killed with signal 9.
    ReplicationKilled,
    /// The pair no longer hears each other on the local segment.
    LocalCut,
    /// The active host is cut off from the public segment.
    PublicCut,
}

impl Case {
    pub(crate) const ALL: [Self; 7] = [
        Self::Switchover,
        Self::PowerLoss,
        Self::DatabaseKilled,
        Self::ManagerKilled,
        Self::ReplicationKilled,
        Self::LocalCut,
        Self::PublicCut,
    ];

    /// As the table has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Switchover => "planned switchover",
            Self::PowerLoss => "power loss of the active host",
            Self::DatabaseKilled => "mariadbd killed",
            Self::ManagerKilled => "cluster manager killed",
            Self::ReplicationKilled => "replication daemon killed",
            Self::LocalCut => "local segment cut",
            Self::PublicCut => "active host off the public segment",
        }
    }

    /// Whether there is something to measure. As it is set up here, Pacemaker replicates nothing and does not
    /// watch the public segment: its service would stay away for ever.
    pub(crate) fn concerns(self, system: System) -> bool {
        match self {
            Self::Switchover | Self::PowerLoss | Self::DatabaseKilled | Self::LocalCut => true,
            Self::ManagerKilled | Self::ReplicationKilled | Self::PublicCut => system != System::Pacemaker,
        }
    }

    /// How long to look on after the service was seen working: some faults show only when a lease runs out.
    pub(super) fn aftermath(self) -> Duration {
        match self {
            Self::Switchover | Self::PowerLoss | Self::DatabaseKilled => Duration::from_secs(1),
            Self::ManagerKilled | Self::ReplicationKilled | Self::LocalCut | Self::PublicCut => {
                Duration::from_secs(10)
            }
        }
    }

    /// Makes the fault. Afterwards a row that is sent and acknowledged is one of after the fault.
    pub(super) fn strike(
        self,
        system: System,
        stage: &Stage,
        active: &Host,
        load: &Load,
    ) -> anyhow::Result<()> {
        match self {
            Self::Switchover => {
                system.switchover(stage, active)?;
                let moved = || Ok((load.auditor.active().as_deref() != Some(active.name)).then_some(()));
                wait::until(MOVED, &stage.interrupt, moved).context("wait for the virtual address to move")
            }
            Self::PowerLoss => power::cut(&stage.lab, active, &stage.hierarchies),
            Self::DatabaseKilled => kill(stage, active, "mariadb"),
            Self::ManagerKilled => kill(stage, active, "futago-clusterd"),
            Self::ReplicationKilled => kill(stage, active, "futago-replicad"),
            Self::LocalCut => {
                fault::drop_packets(&stage.lab, &fault::pick(Link::Local, None, None)?, fault::ALL)
            }
            Self::PublicCut => {
                for (from, to) in [(Some(active.name), None), (None, Some(active.name))] {
                    fault::drop_packets(&stage.lab, &fault::pick(Link::Public, from, to)?, fault::ALL)?;
                }
                Ok(())
            }
        }
    }

    /// Takes the fault back, as far as it does not mend by itself.
    pub(super) fn undo(self, stage: &Stage, struck: &Host) -> anyhow::Result<()> {
        match self {
            Self::Switchover | Self::DatabaseKilled | Self::ManagerKilled | Self::ReplicationKilled => Ok(()),
            Self::PowerLoss => {
                let host = crate::layout::host(struck.name)?;
                up::power_on(&stage.lab, host, &control_group::hierarchies()?, &stage.interrupt)
            }
            Self::LocalCut | Self::PublicCut => fault::heal(&stage.lab, None),
        }
    }
}

fn kill(stage: &Stage, host: &Host, unit: &str) -> anyhow::Result<()> {
    stage.shell(host, &format!("systemctl kill --kill-whom=main --signal=KILL {unit}")).map(drop)
}
