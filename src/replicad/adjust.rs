//! `futago replica adjust`: what the resource file says otherwise than the running resource, and what it takes until that
//! holds. Options that concern nobody but this daemon are followed at once; the others are named, nothing is taken down.

use std::fmt::Display;

use replica::config::Local;
use replica::engine::UndoPolicy;
use replica::handler::Handler;
use serde::{Deserialize, Serialize};

use crate::cli::{AdjustArgs, Target};
use crate::ctl::{Answer, Request};
use crate::verbs;

/// What it takes until a change holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Takes {
    /// Nothing: it holds.
    Nothing,
    /// An exchange of the daemon's program, which reads the file anew.
    Reexec,
    /// `down` and `up`.
    DownUp,
}

/// An option that the file gives another value than it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its name.
    pub option: String,
    /// What holds, or has held.
    pub from: String,
    /// What the file says.
    pub to: String,
    /// What it takes.
    pub takes: Takes,
}

/// What the file says otherwise.
pub(crate) fn changes(running: &Local, wanted: &Local) -> Vec<Change> {
    let mut found = Vec::new();
    let mut compare = |option: &str, takes: Takes, from: String, to: String| {
        if from != to {
            found.push(Change { option: option.to_owned(), from, to, takes });
        }
    };
    let (old, new) = (&running.settings, &wanted.settings);
    let mut time = |option, from: u64, to: u64| compare(option, Takes::Nothing, ms(from), ms(to));
    time("ping-int", old.ping_interval_ms, new.ping_interval_ms);
    time("ping-timeout", old.ping_timeout_ms, new.ping_timeout_ms);
    time("timeout * ko-count", old.request_timeout_ms, new.request_timeout_ms);
    time("connect-int", old.connect_interval_ms, new.connect_interval_ms);
    time("disk-timeout", old.disk_timeout_ms, new.disk_timeout_ms);
    compare("resync-rate", Takes::Nothing, rate(old.resync_rate_kib), rate(new.resync_rate_kib));
    compare("undo-log", Takes::Nothing, undo(old.undo), undo(new.undo));
    for handler in Handler::ALL {
        let line = |local: &Local| or_none(local.handlers.get(handler));
        compare(handler.as_str(), Takes::Nothing, line(running), line(wanted));
    }
    let tls = |local: &Local| or_none(local.tls.map(|yes| if yes { "yes" } else { "no" }));
    compare("al-extents", Takes::Reexec, old.al_extents.to_string(), new.al_extents.to_string());
    compare(
        "undo-file",
        Takes::Reexec,
        or_none(running.undo_file.as_ref()),
        or_none(wanted.undo_file.as_ref()),
    );
    compare("tls", Takes::Reexec, tls(running), tls(wanted));
    compare("address", Takes::Reexec, running.address.to_string(), wanted.address.to_string());
    let peer = |local: &Local| format!("{} {}", local.settings.peer, local.peer_address);
    compare("address of the peer", Takes::Reexec, peer(running), peer(wanted));
    let ids = |local: &Local| format!("{} and {}", local.settings.node_id, local.settings.peer_node_id);
    compare("node-id", Takes::Reexec, ids(running), ids(wanted));
    let volume = |local: &Local| format!("{} minor {}", local.settings.volume, local.settings.minor);
    compare("volume", Takes::Reexec, volume(running), volume(wanted));
    compare("disk", Takes::DownUp, running.disk.clone(), wanted.disk.clone());
    compare("device", Takes::DownUp, running.device.clone(), wanted.device.clone());
    let managed = |local: &Local| if local.settings.managed { "yes" } else { "no" }.to_owned();
    compare("managed", Takes::DownUp, managed(running), managed(wanted));
    found
}

/// Lets what takes nothing hold.
pub(crate) fn apply(running: &mut Local, wanted: &Local) {
    running.settings.tune(wanted.settings.tuning());
    running.handlers.clone_from(&wanted.handlers);
}

/// Asks the daemon, and says what has changed and what is left to do.
pub(crate) fn run(args: &AdjustArgs, name: &str) -> u8 {
    let AdjustArgs { target: Target { site, .. }, dry_run, json } = args;
    match verbs::ask(site, &Request::Adjust { name: name.to_owned(), dry_run: *dry_run }) {
        Ok(Answer::Adjusted(changes)) => {
            let (told, left) = text(name, &changes);
            if *json {
                println!("{}", serde_json::json!(changes));
            } else {
                print!("{told}");
                eprint!("{left}");
            }
            verbs::configuration(site)
                .iter()
                .flat_map(|parsed| &parsed.notes)
                .for_each(|note| eprintln!("{note}"));
            if left.is_empty() || *dry_run { 0 } else { LEFT }
        }
        Ok(answer) => verbs::say(&answer, "adjust", name),
        Err(code) => code,
    }
}

/// Exit code: something of the file does not hold yet.
const LEFT: u8 = 11;

/// What holds from now on, and what does not yet.
fn text(name: &str, changes: &[Change]) -> (String, String) {
    let line = |change: &Change, then: &str| {
        let Change { option, from, to, .. } = change;
        format!("{name}: {option}: {from} -> {to}{then}\n")
    };
    let of = |takes: Takes, then: &str| {
        changes.iter().filter(|c| c.takes == takes).map(|c| line(c, then)).collect::<String>()
    };
    let exchange =
        format!(", not yet: `futago replica reexec` (the device goes on), or `down {name}` and `up {name}`");
    let anew = format!(", not yet: `futago replica down {name}` and `up {name}`");
    let mut left = of(Takes::Reexec, &exchange) + &of(Takes::DownUp, &anew);
    if !left.is_empty() {
        left.push_str(&format!("Command 'replica adjust {name}' terminated with exit code {LEFT}\n"));
    }
    (of(Takes::Nothing, ""), left)
}

fn ms(ms: u64) -> String {
    format!("{ms} ms")
}

fn rate(kib: u64) -> String {
    if kib == 0 { "no limit".to_owned() } else { format!("{kib} KiB/s") }
}

fn undo(policy: UndoPolicy) -> String {
    match policy {
        UndoPolicy::Off => "no",
        UndoPolicy::Try => "yes",
        UndoPolicy::Require => "required",
    }
    .to_owned()
}

fn or_none(value: Option<impl Display>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use replica::config::parse;

    fn local(disk: &str, more: &str) -> Local {
        let text = format!(
            "resource r0 {{ {more} device /dev/drbd3; disk {disk}; meta-disk internal;
               on ha-a {{ address 10.0.0.1:7789; }} on ha-b {{ address 10.0.0.2:7789; }} }}"
        );
        parse("r0.res", &text).unwrap().resource("r0").unwrap().for_node("ha-a").unwrap()
    }

    #[test]
    fn what_has_changed_is_told_with_what_it_takes() {
        let before = local("/dev/vdb1", "");
        let after = local(
            "/dev/vdc1",
            "net { ping-int 3; tls yes; } disk { resync-rate 33M; al-extents 67; } handlers { split-brain /bin/true; }",
        );
        let (told, left) = text("r0", &changes(&before, &after));
        assert_eq!(
            told,
            "r0: ping-int: 1000 ms -> 3000 ms\n\
             r0: resync-rate: no limit -> 33792 KiB/s\n\
             r0: split-brain: none -> /bin/true\n"
        );
        assert_eq!(
            left,
            "r0: al-extents: 1237 -> 67, not yet: `futago replica reexec` (the device goes on), or `down r0` and `up r0`\n\
             r0: tls: none -> yes, not yet: `futago replica reexec` (the device goes on), or `down r0` and `up r0`\n\
             r0: disk: /dev/vdb1 -> /dev/vdc1, not yet: `futago replica down r0` and `up r0`\n\
             Command 'replica adjust r0' terminated with exit code 11\n"
        );
    }

    #[test]
    fn what_was_followed_is_not_told_again() {
        let mut running = local("/dev/vdb1", "");
        let wanted =
            local("/dev/vdb1", "disk { undo-log no; disk-timeout 30; } handlers { disconnected /bin/true; }");
        assert_eq!(changes(&running, &wanted).len(), 3);
        apply(&mut running, &wanted);
        assert_eq!(running, wanted);
        assert_eq!(changes(&running, &wanted), []);
    }
}
