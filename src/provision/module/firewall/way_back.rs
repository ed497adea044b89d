//! The way back from a change that may have cut the controller off: what is in force now is taken back by the host itself,
//! unless a new connection of the controller gets through. Connections that are there already tell nothing: a firewall
//! lets them go on.

use std::time::Duration;

use super::super::context::Context;
use super::super::error::Error;
use super::{Item, State, bus};

/// A new connection has this long; the controller gives up its own attempt after ten seconds.
const WITHIN: Duration = Duration::from_secs(20);

/// What is done to have everything as it was: zone, item, and whether it is put there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WayBack(Vec<(String, Item, bool)>);

impl WayBack {
    /// From changes of a zone that are about to be made.
    pub(super) fn of(zone: &str, changes: &[&Item], state: State) -> Result<Self, Error> {
        let step = |item: &&Item| match item {
            Item::Interface(name) => Ok(Self::of_interface(item, zone, bus::zone_now(name)?)),
            other => Ok((zone.to_owned(), (*other).clone(), state == State::Disabled)),
        };
        changes.iter().map(step).collect::<Result<_, Error>>().map(Self)
    }

    /// An interface goes to the zone that it was in, or is taken out of the one that it came to.
    fn of_interface(item: &Item, zone: &str, before: String) -> (String, Item, bool) {
        let was_in_none = before.is_empty();
        (if was_in_none { zone.to_owned() } else { before }, item.clone(), !was_in_none)
    }

    /// Goes back, and fails, unless the controller gets through.
    pub(super) fn unless_reached(self, context: &mut Context, what: &str) -> Result<(), Error> {
        if context.is_reached(WITHIN) {
            return Ok(());
        }
        for (zone, item, add) in self.0.iter().rev() {
            bus::change_runtime(zone, item, *add)?;
        }
        Err(Error::refused(
            format!("{what}: no new SSH connection got through, so this was taken back"),
            "leave the service or port of SSH open in the zone of the interface that this machine comes in by",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_closed_is_opened_and_what_was_opened_is_closed() {
        let (ssh, port) = (Item::Service("ssh".into()), Item::Port("22".into(), "tcp".into()));
        let back = WayBack::of("public", &[&ssh, &port], State::Disabled).unwrap();
        assert_eq!(back, WayBack(vec![("public".into(), ssh.clone(), true), ("public".into(), port, true)]));
        let back = WayBack::of("public", &[&ssh], State::Enabled).unwrap();
        assert_eq!(back, WayBack(vec![("public".into(), ssh, false)]));
    }

    #[test]
    fn an_interface_goes_where_it_was() {
        let eth0 = Item::Interface("eth0".into());
        let from = |before: &str| WayBack::of_interface(&eth0, "drop", before.into());
        assert_eq!(from("public"), ("public".into(), eth0.clone(), true));
        assert_eq!(from(""), ("drop".into(), eth0.clone(), false));
    }
}
