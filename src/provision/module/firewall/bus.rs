//! firewalld on the system bus. Names and signatures: its D-Bus documentation, firewalld.dbus(5).

use base::process;
use serde_json::Value;

use super::super::error::Error;
use super::super::exec::program;
use super::Item;

const SERVICE: &str = "org.fedoraproject.FirewallD1";
const RUNTIME: &str = "/org/fedoraproject/FirewallD1";
const CONFIG: &str = "/org/fedoraproject/FirewallD1/config";
/// A bus that does not answer in this many seconds is broken.
const TIMEOUT: &str = "--timeout=20";
/// firewalld's words for a change that somebody else has just made.
const ALREADY: [&str; 3] = ["ALREADY_ENABLED", "NOT_ENABLED", "ZONE_ALREADY_SET"];

/// A zone as it is.
#[derive(Debug)]
pub(super) struct Zone {
    pub(super) name: String,
    /// Object of its permanent settings: an index, looked up anew each time.
    pub(super) path: String,
    pub(super) runtime: Vec<Item>,
    pub(super) permanent: Vec<Item>,
}

/// Whether a service is on the bus. No bus is no service.
pub(super) fn is_running(service: &str) -> Result<bool, Error> {
    let mut command = program("busctl");
    command.args(["--json=short", TIMEOUT, "call", "org.freedesktop.DBus", "/org/freedesktop/DBus"]);
    command.args(["org.freedesktop.DBus", "NameHasOwner", "s", service]);
    let output = process::output(&mut command)?;
    if !output.status.success() {
        return Ok(false);
    }
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    Ok(answer.pointer("/data/0").and_then(Value::as_bool).unwrap_or(false))
}

pub(super) fn default_zone() -> Result<String, Error> {
    text(&call(RUNTIME, "", "getDefaultZone", &[])?, "getDefaultZone")
}

/// The zone that an interface is in now; empty when it is in none.
pub(super) fn zone_now(interface: &str) -> Result<String, Error> {
    text(&call(RUNTIME, ".zone", "getZoneOfInterface", &["s", interface])?, "getZoneOfInterface")
}

/// Changes what a zone lets in now.
pub(super) fn change_runtime(zone: &str, item: &Item, add: bool) -> Result<(), Error> {
    // 0 is the time after which it would be taken back: never.
    match (item, add) {
        (Item::Service(name), true) => change(RUNTIME, ".zone", "addService", &["ssi", zone, name, "0"]),
        (Item::Service(name), false) => change(RUNTIME, ".zone", "removeService", &["ss", zone, name]),
        (Item::Port(range, kind), true) => {
            change(RUNTIME, ".zone", "addPort", &["sssi", zone, range, kind, "0"])
        }
        (Item::Port(range, kind), false) => {
            change(RUNTIME, ".zone", "removePort", &["sss", zone, range, kind])
        }
        (Item::Interface(name), true) => {
            change(RUNTIME, ".zone", "changeZoneOfInterface", &["ss", zone, name])
        }
        (Item::Interface(name), false) => change(RUNTIME, ".zone", "removeInterface", &["ss", zone, name]),
    }
}

impl Zone {
    pub(super) fn read(name: &str) -> Result<Self, Error> {
        let runtime = call(RUNTIME, ".zone", "getZoneSettings2", &["s", name])?;
        let path = text(&call(CONFIG, ".config", "getZoneByName", &["s", name])?, "getZoneByName")?;
        let permanent = call(&path, ".config.zone", "getSettings2", &[])?;
        Ok(Self { name: name.into(), path, runtime: items(&runtime), permanent: items(&permanent) })
    }

    pub(super) fn change_permanent(&self, item: &Item, add: bool) -> Result<(), Error> {
        let path = self.path.as_str();
        match (item, add) {
            (Item::Service(name), true) => change(path, ".config.zone", "addService", &["s", name]),
            (Item::Service(name), false) => change(path, ".config.zone", "removeService", &["s", name]),
            (Item::Port(range, kind), true) => change(path, ".config.zone", "addPort", &["ss", range, kind]),
            (Item::Port(range, kind), false) => {
                change(path, ".config.zone", "removePort", &["ss", range, kind])
            }
            (Item::Interface(name), true) => {
                self.release_elsewhere(name)?;
                change(path, ".config.zone", "addInterface", &["s", name])
            }
            (Item::Interface(name), false) => change(path, ".config.zone", "removeInterface", &["s", name]),
        }
    }

    /// An interface in two zones is a conflict that stops firewalld from starting.
    fn release_elsewhere(&self, interface: &str) -> Result<(), Error> {
        let other =
            text(&call(CONFIG, ".config", "getZoneOfInterface", &["s", interface])?, "getZoneOfInterface")?;
        if other.is_empty() || other == self.name {
            return Ok(());
        }
        let path = text(&call(CONFIG, ".config", "getZoneByName", &["s", &other])?, "getZoneByName")?;
        change(&path, ".config.zone", "removeInterface", &["s", interface])
    }
}

fn change(path: &str, interface: &str, method: &str, args: &[&str]) -> Result<(), Error> {
    match call(path, interface, method, args) {
        Err(error) if ALREADY.iter().any(|word| error.to_string().contains(word)) => Ok(()),
        result => result.map(drop),
    }
}

/// The first value of the answer.
fn call(path: &str, interface: &str, method: &str, args: &[&str]) -> Result<Value, Error> {
    let mut command = program("busctl");
    command.args(["--json=short", TIMEOUT, "call", SERVICE, path]);
    command.arg(format!("{SERVICE}{interface}")).arg(method).args(args);
    let output = process::run(&mut command)?;
    if output.stdout.trim_ascii().is_empty() {
        return Ok(Value::Null);
    }
    let answer: Value = serde_json::from_slice(&output.stdout)
        .map_err(|e| Error::Answer { command: process::line(&command), reason: e.to_string() })?;
    Ok(answer.pointer("/data/0").cloned().unwrap_or_default())
}

fn text(value: &Value, method: &str) -> Result<String, Error> {
    let answer =
        || Error::Answer { command: method.into(), reason: format!("a text was expected, not {value}") };
    Ok(value.as_str().ok_or_else(answer)?.to_owned())
}

/// Items of a zone's settings: a dictionary of variants, empty lists left out.
fn items(settings: &Value) -> Vec<Item> {
    let list = |key: &str| {
        let list = settings.get(key).and_then(|variant| variant.get("data")).and_then(Value::as_array);
        list.cloned().unwrap_or_default()
    };
    let texts = |key: &str| list(key).into_iter().filter_map(|value| Some(value.as_str()?.to_owned()));
    let ports = list("ports").into_iter().filter_map(|pair| {
        Some(Item::Port(pair.get(0)?.as_str()?.to_owned(), pair.get(1)?.as_str()?.to_owned()))
    });
    texts("services")
        .map(Item::Service)
        .chain(ports)
        .chain(texts("interfaces").map(Item::Interface))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_are_read_as_busctl_prints_them() {
        let settings = json!({
            "short": {"type": "s", "data": "Public"},
            "services": {"type": "as", "data": ["ssh", "http"]},
            "ports": {"type": "a(ss)", "data": [["7789", "tcp"]]},
            "interfaces": {"type": "as", "data": ["eth0"]},
        });
        assert_eq!(
            items(&settings),
            [
                Item::Service("ssh".into()),
                Item::Service("http".into()),
                Item::Port("7789".into(), "tcp".into()),
                Item::Interface("eth0".into()),
            ]
        );
        assert_eq!(items(&json!({})), []);
    }
}
