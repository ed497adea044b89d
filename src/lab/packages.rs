//! The offline package repository: a folder of packages that hosts install from, with its index.
//!
//! The hosts reach no archive. The machine's apt downloads what they may install, once, together with the
//! image; the hosts then run the real `apt-get` against this folder. What only comparisons need is a second
//! repository below it, fetched when it is first asked for.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use crate::child;
use crate::image::{self, Image};
use crate::interrupt::Interrupt;
use crate::lock;
use crate::sources::Sources;

/// Where hosts see the repository.
pub(crate) const INSIDE: &str = "/var/lib/futago-packages";

/// What hosts can install; what these depend on comes along. Add a package here and the image is made anew.
pub(crate) const INSTALLABLE: [&str; 27] = [
    "apache2",
    "curl",
    "e2fsprogs",
    "fio",
    "firewalld",
    "iputils-arping",
    "iputils-ping",
    // In the web server's own processes: one service less to start than with a server of its own for PHP.
    "libapache2-mod-php",
    "locales",
    "mariadb-backup",
    "mariadb-server",
    "nftables",
    "nginx-light",
    "parted",
    "php-curl",
    "php-mysql",
    "php-zip",
    "resource-agents",
    "sudo",
    "wordpress",
    "wordpress-l10n",
    "wordpress-theme-twentytwentythree",
    "xfsprogs",
    "zabbix-agent",
    "zabbix-frontend-php",
    "zabbix-server-mysql",
    "zstd",
];

/// What only comparisons install.
const COMPARED: [&str; 7] = [
    "corosync",
    "etcd-client",
    "etcd-server",
    "glusterfs-client",
    "glusterfs-server",
    "pacemaker",
    "pacemaker-cli-utils",
];
/// The folder of these below the repository, so that running hosts see it as soon as it is there.
const COMPARED_FOLDER: &str = "compared";
/// For some 25 MB.
const FETCH: Duration = Duration::from_secs(600);

/// The only source of packages that a host knows, as in sources.list(5).
pub(crate) fn source_line() -> String {
    format!("deb [trusted=yes] file:{INSIDE} ./\n")
}

/// The shell line that makes a host know the packages of [`compared`], too.
pub(crate) fn compared_source() -> String {
    format!(
        "echo 'deb [trusted=yes] file:{INSIDE}/{COMPARED_FOLDER} ./' \
         > /etc/apt/sources.list.d/compared.list && apt-get --quiet update"
    )
}

/// Fetches what only comparisons need, unless it is there: all that an image's hosts would have to download.
pub(crate) fn compared(image: &Image, sources: &Sources, interrupt: &Interrupt) -> anyhow::Result<()> {
    let mark = Sha256::digest(COMPARED.join(" "));
    let mark: String = mark.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let finished = image.packages.join(COMPARED_FOLDER);
    let is_there = || finished.join(&mark).exists();
    if is_there() {
        return Ok(());
    }
    let lock = image.packages.with_file_name("compared.lock");
    let _lock = lock::take(&lock, FETCH, "another lab is fetching packages", interrupt)?;
    if is_there() {
        return Ok(());
    }
    let started = Instant::now();
    eprintln!("packages: fetching {}, once", COMPARED.join(", "));
    // Beside the repository, which hosts have open, and renamed when whole.
    let building = image.packages.with_file_name("compared");
    image::remove(&building)?;
    let fetched = download(&building, image, sources, interrupt).and_then(|()| {
        let path = building.join(&mark);
        fs::write(&path, "").with_context(|| format!("write {}", path.display()))?;
        image::remove(&finished)?;
        fs::rename(&building, &finished).with_context(|| format!("rename to {}", finished.display()))
    });
    if fetched.is_err() {
        // The error that matters is the one of the download.
        let _ = image::remove(&building);
    }
    fetched.context("fetch the packages for comparisons")?;
    eprintln!("packages: done in {} s", started.elapsed().as_secs());
    Ok(())
}

/// Downloads with the machine's apt as if it were the image's.
fn download(folder: &Path, image: &Image, sources: &Sources, interrupt: &Interrupt) -> anyhow::Result<()> {
    let apt = folder.join("apt");
    for place in ["partial", "apt/lists/partial"] {
        let place = folder.join(place);
        fs::create_dir_all(&place).with_context(|| format!("create {}", place.display()))?;
    }
    let list = apt.join("sources.list");
    fs::write(&list, sources.lines.join("\n") + "\n").with_context(|| format!("write {}", list.display()))?;
    let options = [
        format!("-oDir::Etc::sourcelist={}", list.display()),
        "-oDir::Etc::sourceparts=/dev/null".to_owned(),
        format!("-oDir::State::lists={}", apt.join("lists").display()),
        format!("-oDir::State::status={}", image.root.join("var/lib/dpkg/status").display()),
        format!("-oDir::Cache={}", apt.display()),
        format!("-oDir::Cache::archives={}", folder.display()),
        "-oAPT::Install-Recommends=false".to_owned(),
        "-oAPT::Sandbox::User=root".to_owned(),
    ];
    let apt_get = |words: &[&str]| {
        let mut command = child::program("apt-get");
        command.args(["--yes", "--quiet"]).args(&options).args(words);
        child::run_for(&mut command, "", FETCH, interrupt).map(drop)
    };
    apt_get(&["update"])?;
    apt_get(&[["install", "--download-only"].as_slice(), &COMPARED].concat())?;
    for leftover in [apt, folder.join("partial"), folder.join("lock")] {
        image::remove(&leftover)?;
    }
    index(folder)
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
