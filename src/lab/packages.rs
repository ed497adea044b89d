//! The offline package repository: a folder of packages that hosts install from, with its index.
//!
//! The hosts reach no archive. The machine's apt downloads what they may install, once, together with the
//! image; the hosts then run the real `apt-get` against this folder.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use crate::child;

/// Where hosts see the repository.
pub(crate) const INSIDE: &str = "/var/lib/futago-packages";

/// What hosts can install; what these depend on comes along. Add a package here and the image is made anew.
pub(crate) const INSTALLABLE: [&str; 8] =
    ["curl", "e2fsprogs", "fio", "firewalld", "iputils-ping", "nftables", "parted", "xfsprogs"];

/// The only source of packages that a host knows, as in sources.list(5).
pub(crate) fn source_line() -> String {
    format!("deb [trusted=yes] file:{INSIDE} ./\n")
}

/// Writes the folder's index, as dpkg-scanpackages(1) would, without needing its Perl.
pub(crate) fn index(folder: &Path) -> anyhow::Result<()> {
    let mut packages: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
        if path.extension().is_some_and(|end| end == "deb") {
            packages.push(path);
        }
    }
    packages.sort();
    if packages.is_empty() {
        bail!("index {}: no package was downloaded", folder.display());
    }
    let mut text = String::new();
    for package in &packages {
        text.push_str(&stanza(package).with_context(|| format!("index {}", package.display()))?);
    }
    let path = folder.join("Packages");
    base::file::replace(&path, text.as_bytes(), 0o644).with_context(|| format!("write {}", path.display()))
}

fn stanza(package: &Path) -> anyhow::Result<String> {
    let fields = child::run(child::program("dpkg-deb").arg("--field").arg(package))?;
    let mut text = String::from_utf8_lossy(&fields.stdout).trim_end().to_owned();
    let name = package.file_name().unwrap_or_default().to_string_lossy();
    let size = fs::metadata(package).context("read its size")?.len();
    write!(text, "\nFilename: ./{name}\nSize: {size}\nSHA256: {}\n\n", sha256(package).context("read it")?)?;
    Ok(text)
}

fn sha256(path: &Path) -> io::Result<String> {
    // Packages of a host are tens of megabytes at most.
    Ok(Sha256::digest(fs::read(path)?).iter().map(|byte| format!("{byte:02x}")).collect())
}
