//! `futago rebuild HOST`: a host that was lost is made anew on a bare machine while the other one serves.
//!
//! Doing it is [`crate::apply`]'s work. What is checked before is what makes it safe: that the other host serves and has every
//! acknowledged write, so that the copy goes the right way, and that the host to be made anew is not one that is in order.

use anyhow::Context as _;
use base::nearest::nearest;
use serde_json::Value;

use crate::apply::{self, Arguments, Mode};
use crate::host::{HostError, Shell};
use crate::inventory::Member;
use crate::remote::PROGRAM;
use crate::runner::{OverSsh, exit};

/// A manager says that it is alive twice a second.
const FRESH_MS: u64 = 2_000;

/// Checks that a host can be rebuilt, and applies the whole site; the number is the exit code.
pub fn run(host: &str, arguments: &Arguments) -> anyhow::Result<u8> {
    let inventory = match arguments.load_inventory() {
        Ok(inventory) => inventory,
        Err(message) => {
            eprintln!("{message}");
            return Ok(exit::USAGE);
        }
    };
    let Some(lost) = inventory.hosts.iter().find(|member| member.name == host || member.fqdn == host) else {
        let names = inventory.hosts.iter().map(|member| member.name.as_str());
        let hint = nearest(host, names).map_or_else(String::new, |name| format!("; did you mean {name}?"));
        eprintln!("futago: rebuild {host}: the pair of {} has no such host{hint}", inventory.file.display());
        return Ok(exit::USAGE);
    };
    let Some(other) = inventory.hosts.iter().find(|member| member.name != lost.name) else {
        return Ok(exit::USAGE);
    };
    let over = match arguments.over_ssh(&inventory) {
        Ok(over) => over,
        Err(error) => {
            eprintln!("futago: rebuild {}: {error}", lost.name);
            return Ok(exit::USAGE);
        }
    };
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    let asked = runtime.block_on(ask(&over, other));
    match asked {
        Err(error) => {
            eprintln!("futago: rebuild {}: {error}", lost.name);
            eprintln!("futago: nothing was changed: it is copied from {}, which must answer", other.name);
            return Ok(exit::UNREACHABLE);
        }
        Ok(said) => {
            if let Err(reason) = fit(&said, lost, other) {
                eprintln!("futago: rebuild {}: {reason}", lost.name);
                eprintln!(
                    "futago: nothing was changed; see: futago cluster status -i {}",
                    inventory.file.display()
                );
                return Ok(exit::FAILED);
            }
        }
    }
    eprintln!("{} serves and has every acknowledged write: {} is made anew from it", other.name, lost.name);
    apply::run(arguments, Mode { check: false, diff: false })
}

/// What the manager of a host says of the cluster.
async fn ask(over: &OverSsh, member: &Member) -> Result<String, HostError> {
    let shell = Shell::connect(over.target(member)).await?;
    Ok(shell.answer(&[PROGRAM, "cluster", "status", "--json"]).await?.1)
}

/// Why a host must not be rebuilt now.
fn fit(status: &str, lost: &Member, other: &Member) -> Result<(), String> {
    let Ok(status) = serde_json::from_str::<Value>(status) else {
        let first = status.lines().next().unwrap_or("nothing");
        return Err(format!(
            "the cluster manager on {} does not tell its status; it says: {first}",
            other.name
        ));
    };
    let text = |path: &str| status.pointer(path).and_then(Value::as_str).unwrap_or("unknown");
    if text("/local/role") != "active" || text("/local/replica/disk") != "UpToDate" {
        return Err(format!(
            "{} does not serve ({}, disk {}), and it is what {} would be copied from; if it is only taking over, try again in a moment",
            other.name,
            text("/local/role"),
            text("/local/replica/disk"),
            lost.name
        ));
    }
    let heard = status.get("peer_heard_ms_ago").and_then(Value::as_u64).is_some_and(|ms| ms < FRESH_MS);
    // What was last heard of a host outlives it for a moment; its replication ends with it.
    let connected = status.pointer("/local/replica/connected") == Some(&Value::Bool(true));
    if heard && connected && text("/peer/replica/disk") == "UpToDate" {
        return Err(format!(
            "{} is there and has every acknowledged write: its disk needs no copy; what else is missing there is brought by \
             futago apply",
            lost.name
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::inventory::Inventory;

    fn verdict(status: &str) -> Result<(), String> {
        let inventory =
            Inventory::parse(Path::new("ha.yml"), include_str!("../../inventory/example.yml")).unwrap();
        fit(status, &inventory.hosts[1], &inventory.hosts[0])
    }

    #[test]
    fn a_host_is_rebuilt_only_from_one_that_serves_and_only_when_it_is_lost() {
        let status = |role: &str, disk: &str, heard: &str, there: &str| {
            let connected = heard == "100";
            format!(
                r#"{{"local": {{"role": "{role}", "replica": {{"disk": "{disk}", "connected": {connected}}}}}, "peer_heard_ms_ago": {heard},
                   "peer": {{"replica": {{"disk": "{there}"}}}}}}"#
            )
        };
        assert_eq!(verdict(&status("active", "UpToDate", "null", "DUnknown")), Ok(()));
        assert_eq!(verdict(&status("active", "UpToDate", "90000", "UpToDate")), Ok(()), "it was, once");
        assert_eq!(verdict(&status("active", "UpToDate", "100", "Inconsistent")), Ok(()), "begun before");
        let gone = status("active", "UpToDate", "100", "UpToDate").replace("true", "false");
        assert_eq!(verdict(&gone), Ok(()), "it has just gone");
        for (status, words) in [
            (status("standby", "UpToDate", "null", "DUnknown"), "ha-a does not serve (standby"),
            (status("active", "Inconsistent", "null", "DUnknown"), "disk Inconsistent"),
            (status("active", "UpToDate", "100", "UpToDate"), "its disk needs no copy"),
            ("{}".to_owned(), "does not serve (unknown"),
            ("connect to /run/futago/clusterd.sock: No such file".to_owned(), "it says: connect to"),
        ] {
            let said = verdict(&status).unwrap_err();
            assert!(said.contains(words), "{said}");
        }
    }
}
