//! Where packages come from: the machine's own Debian sources, as apt knows them. No other source is used, and
//! none is known to this program.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::child;
use crate::interrupt::Interrupt;

/// The keys that sign Debian's own archives, where Debian puts them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// For `apt-get update`, unreachable foreign sources included.
const UPDATE: Duration = Duration::from_secs(300);

/// The archives for one suite.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sources {
    /// `bookworm`
    pub(crate) suite: String,
    /// Lines as in sources.list(5).
    pub(crate) lines: Vec<String>,
}

/// One archive that the machine uses.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Archive {
    uri: String,
    release: String,
}

/// A release as archives call it.
pub(crate) fn codename(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return Ok(text.to_owned());
    }
    Err("write the name of a Debian release, such as bookworm or trixie".to_owned())
}

/// The machine's Debian archives, for its own suite or for another one.
pub(crate) fn find(suite: Option<&str>, interrupt: &Interrupt) -> anyhow::Result<Sources> {
    let own = own_suite()?;
    let mut archives = known(&own, interrupt)?;
    if archives.is_empty() {
        update(interrupt);
        archives = known(&own, interrupt)?;
    }
    if archives.is_empty() {
        bail!(
            "apt knows no Debian archive for {own}, and a lab's hosts are made from the machine's own sources; \
             check /etc/apt/sources.list and /etc/apt/sources.list.d, then: apt-get update"
        );
    }
    let suite = suite.unwrap_or(&own);
    let signed = if Path::new(KEYRING).exists() { format!("[signed-by={KEYRING}] ") } else { String::new() };
    let line = |archive: &Archive| {
        let release = archive.release.replacen(&own, suite, 1);
        format!("deb {signed}{} {release} main", archive.uri)
    };
    Ok(Sources { suite: suite.to_owned(), lines: archives.iter().map(line).collect() })
}

/// Fetches the lists of packages. Sources that fail are apt's to complain about: what counts is whether the
/// Debian archives are known afterwards.
pub(crate) fn update(interrupt: &Interrupt) {
    eprintln!("apt-get update: this machine's lists of packages are missing or out of date");
    let mut command = child::program("apt-get");
    command.args(["--quiet", "-oAcquire::http::Timeout=20", "-oAcquire::https::Timeout=20", "update"]);
    if let Err(error) = child::run_for(&mut command, "", UPDATE, interrupt) {
        eprintln!("apt-get update: not every source answered: {error}");
    }
}

fn own_suite() -> anyhow::Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    let field = |name: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    match (field("ID").as_deref(), field("VERSION_CODENAME")) {
        (Some("debian"), Some(suite)) => Ok(suite),
        (id, _) => bail!(
            "the lab makes its hosts from the Debian archives this machine is configured for, \
             but this machine is not a Debian release (it says ID={})",
            id.unwrap_or("nothing")
        ),
    }
}

fn known(own: &str, interrupt: &Interrupt) -> anyhow::Result<BTreeSet<Archive>> {
    let mut command = child::program("apt-get");
    command.args(["indextargets", "--format", "$(ORIGIN)|$(COMPONENT)|$(RELEASE)|$(REPO_URI)"]);
    command.args(["Created-By: Packages"]);
    let output =
        child::run_for(&mut command, "", child::SHORT, interrupt).context("ask apt for its sources")?;
    Ok(archives(&String::from_utf8_lossy(&output.stdout), own))
}

fn archives(targets: &str, own: &str) -> BTreeSet<Archive> {
    let mut found = BTreeSet::new();
    for line in targets.lines() {
        let fields: Vec<&str> = line.split('|').collect();
        let [origin, component, release, uri] = fields.as_slice() else { continue };
        // No backports, no other release the machine may also draw from.
        let of_suite = ["", "-updates", "-security"].iter().any(|kind| **release == format!("{own}{kind}"));
        if *origin == "Debian" && *component == "main" && of_suite {
            found.insert(Archive { uri: (*uri).to_owned(), release: (*release).to_owned() });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_debian_archives_of_the_machines_own_release_are_used() {
        let targets = "Debian|main|bookworm|http://mirror.invalid/debian/\n\
                       Debian|contrib|bookworm|http://mirror.invalid/debian/\n\
                       Debian|main|bookworm-backports|http://mirror.invalid/debian/\n\
                       Debian|main|trixie|http://mirror.invalid/debian/\n\
                       Node Source|main|nodistro|https://node.invalid/\n\
                       Debian|main|bookworm-security|http://mirror.invalid/security/\n\
                       garbage\n";
        let found: Vec<_> = archives(targets, "bookworm").into_iter().map(|a| (a.release, a.uri)).collect();
        let expected = [
            ("bookworm".to_owned(), "http://mirror.invalid/debian/".to_owned()),
            ("bookworm-security".to_owned(), "http://mirror.invalid/security/".to_owned()),
        ];
        assert_eq!(found, expected);
    }
}
