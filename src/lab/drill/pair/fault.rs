//! What is done to a real pair, and how it is taken back. Nothing of it cuts power or a cable.

use std::time::Duration;

use base::nearest::nearest;
use provision::remote::PROGRAM;

use super::hosts::{Hosts, Remote};
use super::writer;
use crate::drill::Case;
use crate::drill::record::Deed;
use crate::interrupt::Interrupt;

/// For a command that hands the service over: a database may take its time to stop.
const HAND_OVER: Duration = Duration::from_secs(300);
/// Written while the standby is away.
const BALLAST_MIB: u32 = 64;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Switchover,
    ManagerStop,
    MariadbCrash,
    StandbyLoss,
    Resync,
}

impl Fault {
    pub(super) const ALL: [Self; 5] =
        [Self::Switchover, Self::ManagerStop, Self::MariadbCrash, Self::StandbyLoss, Self::Resync];

    /// As the command line has it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Switchover => "switchover",
            Self::ManagerStop => "manager-stop",
            Self::MariadbCrash => "mariadb-crash",
            Self::StandbyLoss => "standby-loss",
            Self::Resync => "resync",
        }
    }

    /// Reads a name of the command line.
    pub(crate) fn read(word: &str) -> Result<Self, String> {
        if let Some(fault) = Self::ALL.into_iter().find(|fault| fault.word() == word) {
            return Ok(fault);
        }
        let words = Self::ALL.map(Self::word);
        if <Case as clap::ValueEnum>::from_str(word, false).is_ok() {
            return Err(format!(
                "this is not done to a real pair; futago lab drill {word} rehearses it on hosts of its own. Here there are {}",
                words.join(", ")
            ));
        }
        let hint = nearest(word, words.into_iter())
            .map_or_else(String::new, |name| format!("did you mean {name}? "));
        Err(format!("no such drill; {hint}there are {}", words.join(", ")))
    }

    /// As tables have it.
    fn title(self) -> &'static str {
        match self {
            Self::Switchover => "planned switchover",
            Self::ManagerStop => "cluster manager of the active host stopped",
            Self::MariadbCrash => "mariadbd killed",
            Self::StandbyLoss => "standby without futago",
            Self::Resync => "standby left behind, resync",
        }
    }

    /// What is done, and how it is taken back.
    pub(super) fn done(self) -> &'static str {
        match self {
            Self::Switchover => "the service is ordered to the other host: futago cluster switchover",
            Self::ManagerStop => {
                "the cluster manager of the active host is stopped, so that it hands the service over; later it is started again"
            }
            Self::MariadbCrash => "mariadbd of the active host gets signal 9",
            Self::StandbyLoss => {
                "cluster manager and replication daemon of the standby are stopped; later they are started again"
            }
            Self::Resync => {
                "the standby's replication daemon is stopped, 64 MiB are written beside the writer's rows, and it is started again"
            }
        }
    }

    /// What its visitors notice, for who is asked whether to do it.
    pub(super) fn cost(self) -> &'static str {
        match self {
            Self::Switchover | Self::ManagerStop => {
                "away for some 1 to 5 s, and as long as your database needs to stop and to start; it runs on the other host then"
            }
            Self::MariadbCrash => "without database for some 1 to 5 s, until it has recovered",
            Self::StandbyLoss | Self::Resync => "writes wait for up to 2 s; meanwhile one host carries all",
        }
    }

    /// The drill, for who reads its report.
    pub(super) fn told(self, active: &Remote, struck: &Remote) -> Deed {
        Deed {
            name: self.word().to_owned(),
            title: self.title(),
            done: self.done(),
            place: struck.name.clone(),
            active: active.name.clone(),
            silent: None,
            afterwards: match self {
                Self::Switchover => Some("the command has ended: the service runs on the other host"),
                Self::Resync => Some("64 MiB have been written beside the writer's rows"),
                _ => None,
            },
            is_taken_back: self.is_taken_back(),
        }
    }

    pub(super) fn is_taken_back(self) -> bool {
        matches!(self, Self::ManagerStop | Self::StandbyLoss | Self::Resync)
    }

    /// Whether only the standby is concerned: the service has no reason to move.
    pub(super) fn must_stay(self) -> bool {
        matches!(self, Self::StandbyLoss | Self::Resync)
    }

    /// Whether the service must run on the other host afterwards.
    pub(super) fn must_move(self) -> bool {
        matches!(self, Self::Switchover | Self::ManagerStop)
    }

    /// How long to look on after the service was seen working.
    pub(super) fn aftermath(self) -> Duration {
        Duration::from_secs(if self == Self::StandbyLoss { 4 } else { 1 })
    }

    /// Makes the fault.
    pub(super) fn strike(
        self,
        hosts: &Hosts,
        active: &Remote,
        struck: &Remote,
        interrupt: &Interrupt,
    ) -> anyhow::Result<()> {
        let line = match self {
            Self::Switchover => format!("{PROGRAM} cluster switchover"),
            Self::ManagerStop => "systemctl stop futago-clusterd".to_owned(),
            Self::MariadbCrash => "systemctl kill --kill-whom=main --signal=KILL mariadb".to_owned(),
            // The manager first: it would start the daemon again.
            Self::StandbyLoss => {
                "systemctl stop futago-clusterd && systemctl stop futago-replicad".to_owned()
            }
            // A manager connects again what is only disconnected.
            Self::Resync => "systemctl stop futago-replicad".to_owned(),
        };
        hosts.order(struck, &line, HAND_OVER, interrupt)?;
        match self {
            Self::Resync => writer::write_ballast(hosts, active, BALLAST_MIB, interrupt),
            _ => Ok(()),
        }
    }

    /// The command that takes it back, on the host that was struck; none where it mends by itself.
    pub(super) fn undo(self) -> Option<&'static str> {
        match self {
            Self::Switchover | Self::MariadbCrash => None,
            Self::ManagerStop => Some("systemctl start futago-clusterd"),
            Self::StandbyLoss => Some("systemctl start futago-replicad && systemctl start futago-clusterd"),
            Self::Resync => Some("systemctl start futago-replicad"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_done_to_real_hosts_is_refused_with_the_way_to_rehearse_it() {
        for word in ["power-loss", "link-cut", "manager-crash"] {
            let refused = Fault::read(word).unwrap_err();
            assert!(refused.contains(&format!("futago lab drill {word}")), "{refused}");
        }
        assert!(Fault::read("swichover").unwrap_err().contains("did you mean switchover?"));
        for fault in Fault::ALL {
            assert_eq!(Fault::read(fault.word()), Ok(fault));
        }
    }

    #[test]
    fn the_text_names_what_is_written_and_all_that_is_stopped_is_started_again() {
        assert!(Fault::Resync.done().contains(&format!("{BALLAST_MIB} MiB")));
        for fault in Fault::ALL {
            assert_eq!(fault.undo().is_some(), fault.is_taken_back(), "{fault:?}");
        }
    }
}
