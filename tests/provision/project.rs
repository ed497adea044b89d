//! A project in a temporary folder.

use std::fs;
use std::path::Path;

use base::problem::Problems;
use provision::assets::Assets;
use provision::inventory::Inventory;
use provision::plan::{Plan, Selection};
use provision::prepare::{self, Prepared, Refusal};
use tempfile::TempDir;

/// The inventory that a project has when it brings none.
pub(crate) const INVENTORY: &str = "\
cluster: ha.example.com
virtual_ip: {address: 203.0.113.10/24, interface: eth0}
hosts:
  ha-a: {address: 203.0.113.11, local_address: 192.168.1.101, disk: /dev/vdb, interfaces: {public: eth0, local: eth1}}
  ha-b: {address: 203.0.113.12, local_address: 192.168.1.102, disk: /dev/vdb, interfaces: {public: eth0, local: eth1}}
";

/// As [`INVENTORY`], with a witness and a cluster manager.
pub(crate) fn managed() -> String {
    let manager = "\
witness: {address: 203.0.113.13}
manager:
  failover_target: fast
  metrics: [local, public]
  group:
    - {name: mariadb, class: \"systemd:mariadb\", check: {sql: /run/mysqld/mysqld.sock}, start_timeout: 120s}
    - {name: apache, class: \"systemd:apache2\", check: {http: \"http://127.0.0.1/\", contains: \"it's <ok>\"}}
  everywhere:
    - {name: cron, class: \"systemd:cron\"}
";
    format!("{INVENTORY}{manager}")
}

/// A folder with an inventory, playbooks and templates.
pub(crate) struct Project {
    pub(crate) folder: TempDir,
}

impl Project {
    /// From files by name; `ha.yml` is the inventory, `playbooks/site.yml` the playbook.
    pub(crate) fn new<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let project = Self { folder };
        project.write("ha.yml", INVENTORY);
        files.into_iter().for_each(|(name, text)| project.write(name, text));
        project
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        // Secrets must be private.
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn assets(&self) -> Assets {
        Assets::new(vec![self.path().to_owned()])
    }

    pub(crate) fn inventory(&self) -> Result<Inventory, Problems> {
        Inventory::load(&self.path().join("ha.yml"))
    }

    /// Everything that happens before contact.
    pub(crate) fn plan(&self, selection: &Selection) -> Result<(Inventory, Plan), String> {
        let Prepared { inventory, plan, .. } =
            self.prepare(selection).map_err(|refusal| self.relative(&refusal.to_string()))?;
        Ok((inventory, plan))
    }

    /// As [`Self::plan`], with all that is known by then.
    pub(crate) fn prepare(&self, selection: &Selection) -> Result<Prepared, Refusal> {
        prepare::prepare(&self.path().join("ha.yml"), "site", selection, &self.assets())
    }

    /// A text without the folder's own name.
    pub(crate) fn relative(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.path().display()), "")
    }
}
