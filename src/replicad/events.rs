//! `futago replica events2`: what is there, then each change, a line each, in the words of drbdsetup's events2; for
//! scripts and exporters that need not ask again and again.
//!
//! ```text
//! exists device name:r0 volume:0 minor:1 disk:UpToDate size:1047448
//! exists -
//! change device name:r0 volume:0 minor:1 disk:Inconsistent
//! destroy device name:r0 volume:0 minor:1
//! ```
//! An object is its kind and what names it; a change tells only the words that are others now.

use std::fmt::Write as _;
use std::io::Write as _;
use std::thread;

use base::frame::FrameError;
use serde_json::{Map, Value, json};

use crate::cli::EventsArgs;
use crate::config::Site;
use crate::ctl::{self, Answer, Report};
use crate::status::{suspended, suspended_by};
use crate::{reexec, verbs};

/// Exit codes of its own.
mod exit {
    pub(super) const NOT_UP: u8 = 10;
    pub(super) const GONE: u8 = 20;
}

/// Words of an object: key and value.
type Words = Vec<(&'static str, String)>;

/// A part of a resource that has a state of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Object {
    kind: &'static str,
    name: Words,
    state: Words,
}

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Form {
    /// A JSON object a line.
    pub(crate) json: bool,
    /// A change tells all words of its object.
    pub(crate) full: bool,
}

/// Prints until a resource goes down; with `--now` what is there.
pub(crate) fn run(args: &EventsArgs) -> u8 {
    let (site, form) = (&args.which.site, Form { json: args.json, full: args.full });
    let there = match verbs::reports(site, &args.which.resource) {
        Ok(reports) => reports,
        Err(code) => return code,
    };
    let up: Vec<Report> = there.into_iter().filter(|report| report.status.is_some()).collect();
    up.iter().for_each(|report| print(&lines(None, Some(report), form)));
    print(&[complete(form)]);
    if args.now {
        return 0;
    }
    thread::scope(|scope| {
        let watching: Vec<_> =
            up.into_iter().map(|report| scope.spawn(|| watch(site, report, form))).collect();
        let codes = watching.into_iter().map(|thread| thread.join().unwrap_or(exit::GONE));
        codes.max().unwrap_or(exit::NOT_UP)
    })
}

/// Prints the changes of a resource; the exit code says why they ended. A daemon that is exchanged, or that systemd
/// starts again, is waited for on its socket, which takes connections meanwhile; one that is gone refuses them.
fn watch(site: &Site, mut last: Report, form: Form) -> u8 {
    let code = loop {
        let answer = ctl::watch(&site.socket(), &last.name.clone(), |now| {
            print(&lines(Some(&last), Some(&now), form));
            last = now;
        });
        match answer {
            Ok(Answer::NotUp { .. } | Answer::Unknown { .. }) => break exit::NOT_UP,
            // Let go of because it did not keep up.
            Ok(Answer::Failed { .. }) => {}
            Err(FrameError::Io(error)) if reexec::is_end(&error) => {}
            _ => break exit::GONE,
        }
    };
    print(&lines(Some(&last), None, form));
    code
}

/// Prints, and ends the program when nobody reads any more.
fn print(lines: &[String]) {
    let mut out = std::io::stdout().lock();
    if lines.iter().try_for_each(|line| writeln!(out, "{line}")).is_err() {
        std::process::exit(0);
    }
}

/// The lines from what was told last of a resource to what is so now. `None`: it was not, or is not any more, up.
pub(crate) fn lines(before: Option<&Report>, now: Option<&Report>, form: Form) -> Vec<String> {
    let [old, new] = [before, now].map(|report| report.map(objects).unwrap_or_default());
    let same = |a: &Object, b: &Object| (a.kind, &a.name) == (b.kind, &b.name);
    let gone = old.iter().rev().filter(|o| !new.iter().any(|n| same(o, n)));
    let gone = gone.map(|object| line("destroy", object, &Words::new(), form));
    let told = new.iter().filter_map(|object| {
        let Some(was) = old.iter().find(|o| same(o, object)) else {
            return Some(line(
                if before.is_none() { "exists" } else { "create" },
                object,
                &object.state,
                form,
            ));
        };
        let changed: Words =
            object.state.iter().filter(|word| form.full || !was.state.contains(word)).cloned().collect();
        (was.state != object.state).then(|| line("change", object, &changed, form))
    });
    gone.chain(told).collect()
}

/// The line after all that is there.
pub(crate) fn complete(form: Form) -> String {
    if form.json { json!({ "event": "exists" }).to_string() } else { "exists -".to_owned() }
}

fn line(event: &str, object: &Object, state: &Words, form: Form) -> String {
    let words = object.name.iter().chain(state);
    if form.json {
        let mut out = Map::from_iter([
            ("event".to_owned(), Value::from(event)),
            ("object".to_owned(), Value::from(object.kind)),
        ]);
        out.extend(words.map(|(key, value)| ((*key).to_owned(), Value::from(value.as_str()))));
        return Value::Object(out).to_string();
    }
    let mut out = format!("{event} {}", object.kind);
    for (key, value) in words {
        let _ = write!(out, " {key}:{value}");
    }
    out
}

fn objects(report: &Report) -> Vec<Object> {
    let Some(status) = &report.status else { return Vec::new() };
    let (device, link) = (&status.device, &status.connection);
    let resource = vec![("name", status.name.clone())];
    let volume = ("volume", device.volume.to_string());
    let peer = [("peer-node-id", link.peer_node_id.to_string()), ("conn-name", link.name.clone())];
    let named = |more: &[(&'static str, String)]| [resource.as_slice(), more].concat();
    let mut role = vec![("role", status.role.to_string()), ("suspended", suspended_by(status).to_owned())];
    if let Some(managed) = &status.managed {
        let term = managed.term.map_or_else(|| "none".to_owned(), |term| term.to_string());
        role.extend([("term", term), ("blocked", yes(managed.blocked)), ("alone", yes(managed.alone))]);
    }
    let mut disk = vec![("disk", device.disk.to_string()), ("size", device.size_kib.to_string())];
    disk.extend(
        device
            .undo
            .as_ref()
            .map(|undo| ("undo", if undo.restored.is_some() { "restoring" } else { "ready" }.to_owned())),
    );
    let mut copy = vec![
        ("replication", link.replication.to_string()),
        ("peer-disk", link.peer_disk.to_string()),
        ("resync-suspended", suspended(link).to_owned()),
    ];
    copy.extend(link.sync.as_ref().map(|sync| ("done", format!("{:.2}", sync.done))));
    copy.extend(
        link.verify.as_ref().filter(|v| v.running).map(|verify| ("verified", format!("{:.2}", verify.done))),
    );
    let line = vec![("connection", link.state.to_string()), ("role", link.peer_role.to_string())];
    vec![
        Object { kind: "resource", name: resource.clone(), state: role },
        Object { kind: "connection", name: named(&peer), state: line },
        Object {
            kind: "device",
            name: named(&[volume.clone(), ("minor", device.minor.to_string())]),
            state: disk,
        },
        Object { kind: "peer-device", name: named(&[peer.as_slice(), &[volume]].concat()), state: copy },
    ]
}

fn yes(it: bool) -> String {
    if it { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::sync_source;
    use replica::state::{ConnectionState, DiskState, ReplicationState, Role};

    fn report() -> Report {
        Report {
            name: "r0".to_owned(),
            status: Some(sync_source()),
            problem: None,
            backing_dev: "/dev/vdb1".to_owned(),
            addresses: ["192.0.2.1:7789", "192.0.2.2:7789"].map(|text| text.parse().unwrap()),
            tls: true,
        }
    }

    fn later() -> Report {
        let mut later = report();
        let status = later.status.as_mut().unwrap();
        status.device.disk = DiskState::Consistent;
        status.connection.state = ConnectionState::Connecting;
        status.connection.peer_role = Role::Unknown;
        status.connection.replication = ReplicationState::Off;
        status.connection.sync = None;
        later
    }

    #[test]
    fn what_is_there_is_told_first_and_then_what_changes() {
        let first = lines(None, Some(&report()), Form::default());
        assert!(first.iter().all(|line| line.starts_with("exists ")), "{first:?}");
        assert_eq!(first[0].split(' ').take(3).collect::<Vec<_>>(), ["exists", "resource", "name:r0"]);
        assert_eq!(lines(Some(&report()), Some(&report()), Form::default()), Vec::<String>::new());
        let told = lines(Some(&report()), Some(&later()), Form::default());
        assert!(
            told.contains(&"change device name:r0 volume:0 minor:1 disk:Consistent".to_owned()),
            "only the word that is another: {told:?}"
        );
        assert!(told.iter().any(|line| line.contains("connection:Connecting role:Unknown")), "{told:?}");
        let full = lines(Some(&report()), Some(&later()), Form { full: true, json: false });
        assert!(full.iter().any(|line| line.contains("disk:Consistent size:")), "{full:?}");
    }

    #[test]
    fn a_resource_that_goes_down_is_destroyed_from_its_parts_upwards() {
        let told = lines(Some(&report()), None, Form::default());
        assert!(told.first().unwrap().starts_with("destroy peer-device name:r0"), "{told:?}");
        assert_eq!(told.last().unwrap(), "destroy resource name:r0");
    }

    #[test]
    fn a_line_of_json_has_the_same_words() {
        let form = Form { json: true, full: false };
        let told = lines(Some(&report()), Some(&later()), form);
        let device: Value =
            serde_json::from_str(told.iter().find(|l| l.contains("\"device\"")).unwrap()).unwrap();
        assert_eq!(
            device,
            json!({ "event": "change", "object": "device", "name": "r0", "volume": "0", "minor": "1", "disk": "Consistent" })
        );
        assert_eq!(complete(form), r#"{"event":"exists"}"#);
    }
}
