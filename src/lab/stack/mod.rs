//! The service that drills and measurements run: Apache, PHP, MariaDB, and a page that writes a row.
//!
//! Managed by this program it is the stack that comes with it; for others to manage, a playbook of the lab's own puts the
//! same on each host's own disk.

mod look;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;

use crate::layout::{CONTROLLER, Host, Lab};
use crate::load::{ClientReport, DATA};
use crate::stage::Stage;

const LOCAL: &str = include_str!("local.yml");
const MANAGED: &str = include_str!("managed.yml");
const PAGE: &str = include_str!("row.php");
/// For reading all rows.
const SELECT: Duration = Duration::from_secs(60);

/// What runs on a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stack {
    /// Apache, PHP and MariaDB.
    Lamp,
    /// Zabbix on these.
    Zabbix,
    /// WordPress on these.
    Wordpress,
}

impl Stack {
    /// As the inventory and the command line have it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Lamp => "lamp",
            Self::Zabbix => "zabbix",
            Self::Wordpress => "wordpress",
        }
    }
}

/// Installs the service on both hosts, each with a database of its own. Nothing of it runs afterwards.
pub(crate) fn install_local(stage: &Stage) -> anyhow::Result<()> {
    lay(&stage.lab, "local.yml", LOCAL)?;
    stage.provision("apply", &["local"]).map(drop).context("install the service")
}

/// Makes a stack, with a page that writes a row, the lab's site, looked after by the cluster manager with these times:
/// `futago apply` installs and starts everything.
pub(crate) fn manage(lab: &Lab, stack: Stack, failover_target: &str) -> anyhow::Result<()> {
    lay(lab, "stack.yml", MANAGED)?;
    let path = lab.inventory();
    let inventory = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    // What an earlier call has added is the end of the file.
    let before = inventory.split("stack:").next().unwrap_or_default();
    let text = format!(
        "{before}stack: {}\nmanager:\n  failover_target: {failover_target}\n  gateway: {CONTROLLER}\n  mount: {DATA}\n",
        stack.word()
    );
    base::file::replace(&path, text.as_bytes(), 0o644).with_context(|| format!("write {}", path.display()))
}

fn lay(lab: &Lab, name: &str, playbook: &str) -> anyhow::Result<()> {
    for (folder, name, text) in [("playbooks", name, playbook), ("files", "row.php", PAGE)] {
        let folder = lab.folder().join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// The acknowledged rows that the database of the active host does not have.
pub(crate) fn missing_rows(stage: &Stage, active: &Host, client: &ClientReport) -> anyhow::Result<Vec<u64>> {
    let query = "mariadb --skip-column-names --batch --execute 'SELECT id FROM app.row'";
    let text = stage.answer(active, query, SELECT)?;
    let there: BTreeSet<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    Ok(client.rows.iter().map(|row| row.id).filter(|id| !there.contains(id)).collect())
}
