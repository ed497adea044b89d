//! The service that drills and measurements run: Apache, PHP, MariaDB, and a page that writes a row.
//!
//! It is a playbook like a user's own, laid beside the lab's inventory; who starts and stops what it installs is
//! not its concern.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::Context as _;

use crate::layout::{CONTROLLER, Host, Lab};
use crate::load::{ClientReport, DATA};
use crate::stage::Stage;

const PLAYBOOK: &str = include_str!("lamp.yml");
const PAGE: &str = include_str!("row.php");
/// What stands in the playbook for whether the data are replicated, and for whether a host has them now.
const REPLICATED: &str = "REPLICATED";
const HERE: &str = "DATA_ARE_HERE";
/// For reading all rows.
const SELECT: Duration = Duration::from_secs(60);

/// Where the database keeps its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Data {
    /// On the replicated file system, mounted at /srv/data.
    Replicated,
    /// On each host's own disk: rows stay on the host where they were written.
    Local,
}

/// Installs the service on both hosts, each with a database of its own. Nothing of it runs afterwards.
pub(crate) fn install_local(stage: &Stage) -> anyhow::Result<()> {
    lay(&stage.lab, "lamp.yml", Data::Local)?;
    stage.provision("apply", &["lamp"]).map(drop).context("install the service")
}

/// Makes the service part of the lab's site, looked after by the cluster manager with these times: `futago apply`
/// installs and starts everything.
pub(crate) fn manage(lab: &Lab, failover_target: &str) -> anyhow::Result<()> {
    lay(lab, "stack.yml", Data::Replicated)?;
    let path = lab.inventory();
    let inventory = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    // What an earlier call has added is the end of the file.
    let before = inventory.split("manager:\n").next().unwrap_or_default();
    let text = format!("{before}{}", manager(failover_target));
    base::file::replace(&path, text.as_bytes(), 0o644).with_context(|| format!("write {}", path.display()))
}

fn manager(failover_target: &str) -> String {
    format!(
        "manager:\n  failover_target: {failover_target}\n  gateway: {CONTROLLER}\n  mount: {DATA}\n  group:\n    \
         - {{name: mariadb, class: \"systemd:mariadb\", check: {{sql: /run/mysqld/mysqld.sock}}}}\n    \
         - {{name: apache, class: \"systemd:apache2\", check: {{http: \"http://127.0.0.1/\"}}}}\n"
    )
}

fn lay(lab: &Lab, name: &str, data: Data) -> anyhow::Result<()> {
    for (folder, name, text) in [("playbooks", name, playbook(data).as_str()), ("files", "row.php", PAGE)] {
        let folder = lab.folder().join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn playbook(data: Data) -> String {
    let (replicated, here) = match data {
        Data::Replicated => ("true", "active.here and active.first_start"),
        Data::Local => ("false", "true"),
    };
    PLAYBOOK.replace(REPLICATED, replicated).replace(HERE, here)
}

/// The acknowledged rows that the database of the active host does not have.
pub(crate) fn missing_rows(stage: &Stage, active: &Host, client: &ClientReport) -> anyhow::Result<Vec<u64>> {
    let query = "mariadb --skip-column-names --batch --execute 'SELECT id FROM lab.row'";
    let text = stage.answer(active, query, SELECT)?;
    let there: BTreeSet<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    Ok(client.rows.iter().map(|row| row.id).filter(|id| !there.contains(id)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_are_made_only_where_they_are() {
        let replicated = playbook(Data::Replicated);
        assert!(
            replicated.contains("when: [replicated, active.here and active.first_start]"),
            "{replicated}"
        );
        let local = playbook(Data::Local);
        assert!(!local.contains("active.here") && !local.contains(HERE), "{local}");
        assert!(local.contains("vars: {replicated: false}"), "{local}");
    }
}
