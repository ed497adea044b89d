//! Looks at a stack as somebody who uses it: logs in through the virtual address, from the host that does not have it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::Stack;
use crate::layout::PAIR;
use crate::stage::Stage;
use crate::wait;

const ZABBIX: &str = include_str!("zabbix.php");
const WORDPRESS: &str = include_str!("wordpress.php");
/// For what is not yet there: Zabbix asks its hosts every minute.
const THERE: Duration = Duration::from_secs(150);
/// For one look.
const LOOK: Duration = Duration::from_secs(30);

impl Stack {
    /// What its user sees, in one line; `None` when it has nobody who logs in. Waits until there is something to see.
    pub(crate) fn look(self, stage: &Stage) -> anyhow::Result<Option<String>> {
        let (script, name) = match self {
            Self::Lamp => return Ok(None),
            Self::Zabbix => (ZABBIX, "zabbix_admin_password"),
            Self::Wordpress => (WORDPRESS, "wordpress_admin_password"),
        };
        let password = secret(stage, name)?;
        let active = stage.active()?.context("no host has the virtual address")?;
        let other = PAIR.iter().find(|host| host.name != active.name).unwrap_or(active);
        let mut last = String::new();
        let seen = wait::until(THERE, &stage.interrupt, || {
            let told = stage.feed(other, &["php", "--", &password], script, LOOK)?;
            last = told.text;
            Ok(told.ok.then(|| last.clone()))
        });
        seen.with_context(|| format!("log in to {} through the virtual address: {last}", self.word()))
            .map(Some)
    }
}

/// A password of the lab's own project.
fn secret(stage: &Stage, name: &str) -> anyhow::Result<String> {
    let path = stage.lab.folder().join(".futago/inventory.secrets.yml");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let value = line.map(|value| value.trim_matches('"').to_owned()).unwrap_or_default();
    ensure!(!value.is_empty(), "there is no {name} in {}", path.display());
    Ok(value)
}
