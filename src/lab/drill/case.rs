//! What is done to a pair, and how it is made good again.

use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;

use super::System;
use super::record::Deed;
use crate::control_group;
use crate::fault::{self, Link};
use crate::layout::{Host, PAIR};
use crate::load::{DATA, Load};
use crate::power;
use crate::stage::Stage;
use crate::up;
use crate::wait;

/// For a planned move: the address must be answered for by the other host.
const MOVED: Duration = Duration::from_secs(60);
/// What a client may notice at most of something that happens to the standby alone: writes wait 1.5 s for a peer that
/// says nothing, and for the record.
pub(super) const STANDBY_FELT: Duration = Duration::from_secs(5);
/// What is written while the standby is away: enough that copying it can be seen, and room for it on any lab's disk.
const WRITTEN_MIB: u32 = 64;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// The service is ordered to the other host.
    Switchover,
    /// The active host ends at once.
    PowerLoss,
    /// mariadbd is killed with signal 9.
    #[value(name = "mariadb-crash", alias = "database-killed")]
    DatabaseKilled,
    /// The pair no longer hears each other on the local segment.
    #[value(name = "link-cut", alias = "local-cut")]
    LocalCut,
    /// The standby ends at once.
    StandbyLoss,
    /// The standby's replication daemon is stopped while the service writes, and must catch up.
    Resync,
    /// The cluster manager of the active host is killed with signal 9.
    #[value(name = "manager-crash", alias = "manager-killed")]
    ManagerKilled,
    /// The replication daemon of the active host is killed with signal 9.
    #[value(name = "replication-crash", alias = "replication-killed")]
    ReplicationKilled,
    /// The active host is cut off from the public segment.
    PublicCut,
}

impl Case {
    /// Those that threaten the service: every system is measured by them.
    pub(crate) const OUTAGES: [Self; 7] = [
        Self::Switchover,
        Self::PowerLoss,
        Self::DatabaseKilled,
        Self::ManagerKilled,
        Self::ReplicationKilled,
        Self::LocalCut,
        Self::PublicCut,
    ];

    /// The usual drills.
    pub(crate) const DRILLS: [Self; 6] = [
        Self::Switchover,
        Self::PowerLoss,
        Self::DatabaseKilled,
        Self::LocalCut,
        Self::StandbyLoss,
        Self::Resync,
    ];

    /// As tables have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Switchover => "planned switchover",
            Self::PowerLoss => "power loss of the active host",
            Self::DatabaseKilled => "mariadbd killed",
            Self::ManagerKilled => "cluster manager killed",
            Self::ReplicationKilled => "replication daemon killed",
            Self::LocalCut => "local segment cut",
            Self::PublicCut => "active host off the public segment",
            Self::StandbyLoss => "power loss of the standby",
            Self::Resync => "standby left behind, resync",
        }
    }

    /// As the command line has it.
    pub(crate) fn word(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// The drill, for who reads its report.
    pub(super) fn told(self, active: &'static Host) -> Deed {
        Deed {
            name: self.word(),
            title: self.name(),
            done: self.deed(),
            place: self.place(active),
            active: active.name.to_owned(),
            silent: self.silences().then(|| self.struck(active).name.to_owned()),
            afterwards: self.afterwards(),
            is_taken_back: self.is_taken_back(),
        }
    }

    /// What is done, and how it is taken back.
    pub(super) fn deed(self) -> &'static str {
        match self {
            Self::Switchover => "the service is ordered to the other host: futago cluster switchover",
            Self::PowerLoss => {
                "all of the active host ends at once, its cables first; later it is switched on again"
            }
            Self::DatabaseKilled => "mariadbd gets signal 9",
            Self::ManagerKilled => "the cluster manager of the active host gets signal 9",
            Self::ReplicationKilled => "the replication daemon of the active host gets signal 9",
            Self::LocalCut => {
                "the hosts of the pair no longer hear each other on the local segment; later it is mended"
            }
            Self::PublicCut => {
                "nothing gets through between the active host and the public segment; later it is mended"
            }
            Self::StandbyLoss => {
                "all of the standby ends at once, its cables first; later it is switched on again"
            }
            Self::Resync => {
                "the standby's replication daemon is stopped, 64 MiB are written beside the client's rows, and it is \
                 started again"
            }
        }
    }

    /// Whether there is something to measure. As it is set up here, Pacemaker replicates nothing and does not
    /// watch the public segment: its service would stay away for ever, or not notice anything.
    pub(crate) fn concerns(self, system: System) -> bool {
        match self {
            Self::Switchover | Self::PowerLoss | Self::DatabaseKilled | Self::LocalCut => true,
            Self::ManagerKilled
            | Self::ReplicationKilled
            | Self::PublicCut
            | Self::StandbyLoss
            | Self::Resync => system != System::Pacemaker,
        }
    }

    /// Which host it is done to.
    pub(super) fn struck(self, active: &'static Host) -> &'static Host {
        match self {
            Self::StandbyLoss | Self::Resync => peer_of(active),
            _ => active,
        }
    }

    /// Where it is done.
    pub(super) fn place(self, active: &'static Host) -> String {
        let [a, b] = &PAIR;
        match self {
            Self::LocalCut => format!("between {} and {}", a.name, b.name),
            _ => self.struck(active).name.to_owned(),
        }
    }

    /// Whether the host that is struck has nothing to say any more.
    fn silences(self) -> bool {
        matches!(self, Self::PowerLoss | Self::StandbyLoss)
    }

    /// Whether only the standby is concerned: the service has no reason to move.
    pub(super) fn must_stay(self) -> bool {
        matches!(self, Self::StandbyLoss | Self::Resync)
    }

    /// How long the service may be away; none where that is what the drill finds out.
    pub(super) fn most(self) -> Option<Duration> {
        self.must_stay().then_some(STANDBY_FELT)
    }

    /// What is done once the fault is made.
    fn afterwards(self) -> Option<&'static str> {
        match self {
            Self::Switchover => Some("the command has ended and the address answers from the other host"),
            Self::Resync => Some("64 MiB have been written beside the client's rows"),
            _ => None,
        }
    }

    /// Whether something is done to take it back; everything else mends by itself.
    fn is_taken_back(self) -> bool {
        match self {
            Self::Switchover | Self::DatabaseKilled | Self::ManagerKilled | Self::ReplicationKilled => false,
            Self::PowerLoss | Self::StandbyLoss | Self::Resync | Self::LocalCut | Self::PublicCut => true,
        }
    }

    /// Whether one disk is left behind until the fault is taken back, so that there is a resync to look at.
    pub(super) fn parts_the_disks(self) -> bool {
        match self {
            Self::PowerLoss | Self::LocalCut | Self::StandbyLoss | Self::Resync => true,
            Self::Switchover
            | Self::DatabaseKilled
            | Self::ManagerKilled
            | Self::ReplicationKilled
            | Self::PublicCut => false,
        }
    }

    /// How long to look on after the service was seen working: some faults show only when a lease runs out.
    pub(super) fn aftermath(self) -> Duration {
        match self {
            Self::Switchover | Self::PowerLoss | Self::DatabaseKilled | Self::Resync => {
                Duration::from_secs(1)
            }
            Self::StandbyLoss => Duration::from_secs(4),
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
        active: &'static Host,
        load: &Load,
    ) -> anyhow::Result<()> {
        let struck = self.struck(active);
        match self {
            Self::Switchover => {
                system.switchover(stage, active)?;
                let moved = || Ok((load.auditor.active().as_deref() != Some(active.name)).then_some(()));
                wait::until(MOVED, &stage.interrupt, moved).context("wait for the virtual address to move")
            }
            Self::PowerLoss | Self::StandbyLoss => power::cut(&stage.lab, struck, &stage.hierarchies),
            Self::DatabaseKilled => kill(stage, struck, "mariadb"),
            Self::ManagerKilled => kill(stage, struck, "futago-clusterd"),
            Self::ReplicationKilled => kill(stage, struck, "futago-replicad"),
            Self::Resync => {
                stage.shell(struck, "systemctl stop futago-replicad")?;
                write_alone(stage, active)
            }
            Self::LocalCut => {
                fault::drop_packets(&stage.lab, &fault::pick(Link::Local, None, None)?, fault::ALL)
            }
            Self::PublicCut => {
                for (from, to) in [(Some(struck.name), None), (None, Some(struck.name))] {
                    fault::drop_packets(&stage.lab, &fault::pick(Link::Public, from, to)?, fault::ALL)?;
                }
                Ok(())
            }
        }
    }

    /// Takes the fault back, as far as it does not mend by itself.
    pub(super) fn undo(self, stage: &Stage, active: &'static Host) -> anyhow::Result<()> {
        let struck = self.struck(active);
        match self {
            Self::Switchover | Self::DatabaseKilled | Self::ManagerKilled | Self::ReplicationKilled => Ok(()),
            Self::PowerLoss | Self::StandbyLoss => {
                up::power_on(&stage.lab, struck, &control_group::hierarchies()?, &stage.interrupt)
            }
            Self::Resync => stage.shell(struck, "systemctl start futago-replicad").map(drop),
            Self::LocalCut | Self::PublicCut => fault::heal(&stage.lab, None),
        }
    }

    /// Takes away what it has left on the file system; the host has it mounted.
    pub(super) fn tidy(self, stage: &Stage, active: &Host) -> anyhow::Result<()> {
        match self {
            Self::Resync => stage.shell(active, &format!("rm --force {}", ballast())).map(drop),
            _ => Ok(()),
        }
    }
}

/// The other host of the pair.
pub(super) fn peer_of(host: &Host) -> &'static Host {
    let [a, b] = &PAIR;
    if host == a { b } else { a }
}

/// The file that is written while the standby is away.
fn ballast() -> String {
    format!("{DATA}/drill.ballast")
}

/// Past the page cache: the commits of the database shall wait for the disk, not for what is dirty of this file.
fn write_alone(stage: &Stage, active: &Host) -> anyhow::Result<()> {
    let file = ballast();
    let line =
        format!("dd if=/dev/urandom of={file} bs=1M count={WRITTEN_MIB} oflag=direct conv=fsync status=none");
    stage.shell(active, &line).map(drop)
}

fn kill(stage: &Stage, host: &Host, unit: &str) -> anyhow::Result<()> {
    stage.shell(host, &format!("systemctl kill --kill-whom=main --signal=KILL {unit}")).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_drills_are_those_of_the_manual_and_the_older_ones_still_work() {
        let words: Vec<String> = Case::DRILLS.iter().map(|case| case.word()).collect();
        let expected = ["switchover", "power-loss", "mariadb-crash", "link-cut", "standby-loss", "resync"];
        assert_eq!(words, expected);
        for (older, case) in [
            ("database-killed", Case::DatabaseKilled),
            ("local-cut", Case::LocalCut),
            ("manager-killed", Case::ManagerKilled),
            ("replication-killed", Case::ReplicationKilled),
        ] {
            assert_eq!(Case::from_str(older, false), Ok(case));
        }
    }

    #[test]
    fn the_standby_is_struck_only_where_the_drill_says_so() {
        let [a, b] = &PAIR;
        assert_eq!((Case::StandbyLoss.struck(a), Case::Resync.struck(b)), (b, a));
        assert_eq!((Case::PowerLoss.struck(b), Case::PublicCut.struck(a)), (b, a));
        assert_eq!(Case::LocalCut.place(a), "between ha-a and ha-b");
    }

    #[test]
    fn the_text_names_what_is_written() {
        let written = format!("{WRITTEN_MIB} MiB");
        assert!(Case::Resync.deed().contains(&written));
        assert!(Case::Resync.afterwards().is_some_and(|text| text.starts_with(&written)));
    }
}
