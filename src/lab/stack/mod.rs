//! The service that drills and measurements run: Apache, PHP, MariaDB, and a page that writes a row.
//!
//! It is a playbook like a user's own, laid beside the lab's inventory; who starts and stops what it installs is
//! not its concern.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;

use crate::layout::Host;
use crate::load::ClientReport;
use crate::stage::Stage;

const PLAYBOOK: &str = include_str!("lamp.yml");
const PAGE: &str = include_str!("row.php");
/// What stands in the playbook for whether the data are replicated.
const CHOICE: &str = "{replicated: REPLICATED}";
/// For reading all rows.
const SELECT: Duration = Duration::from_secs(60);

/// Where the database keeps its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Data {
    /// On the replicated file system, mounted at /srv/data. The pair must be in sync, and the first host Primary.
    Replicated,
    /// On each host's own disk: rows stay on the host where they were written.
    Local,
}

/// Installs the service on both hosts. Nothing of it runs afterwards, and nothing is mounted.
pub(crate) fn install(stage: &Stage, data: Data) -> anyhow::Result<()> {
    let replicated = match data {
        Data::Replicated => "{replicated: true}",
        Data::Local => "{replicated: false}",
    };
    let playbook = PLAYBOOK.replace(CHOICE, replicated);
    for (folder, name, text) in [("playbooks", "lamp.yml", playbook.as_str()), ("files", "row.php", PAGE)] {
        let folder = stage.lab.folder().join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    stage.provision("apply", &["lamp"]).map(drop).context("install the service")
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
    fn every_play_knows_where_the_data_are() {
        assert_eq!(PLAYBOOK.matches(CHOICE).count(), PLAYBOOK.matches("hosts: pair").count());
        assert_eq!(PLAYBOOK.matches("REPLICATED").count(), PLAYBOOK.matches(CHOICE).count());
    }
}
