//! `futago cluster report`: one file with what somebody who helps needs to see of this host. Read only; what
//! cannot be had is replaced by the reason, for that is what the helper then needs to know.

mod mask;

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::Context as _;
use base::process;
use base::time::compact;

use crate::config::Site;
use crate::ctl::{self, Answer, Request};
use crate::history;
use crate::verbs::{self, exit};
use crate::view::page::{COLUMNS, Page};
use crate::view::tone::Paint;
use crate::view::{self, words};

/// Seconds that one program may take: a host that needs help may have some that hang.
const PROGRAM_SECONDS: &str = "20";
/// Lines of the journal: some days of a bad week.
const JOURNAL_LINES: &str = "20000";
/// Most bytes of a file that is taken over whole.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// What the system's own programs say: name of the file and the command.
const PROGRAMS: &[(&str, &[&str])] = &[
    (
        "journal.txt",
        &[
            "journalctl",
            "--no-pager",
            "--output=short-iso-precise",
            "--lines",
            JOURNAL_LINES,
            "--unit=futago-clusterd",
            "--unit=futago-replicad",
            "--unit=futago-witnessd",
        ],
    ),
    ("system/units.txt", &["systemctl", "status", "--no-pager", "--lines=0", "futago-*"]),
    ("system/failed.txt", &["systemctl", "list-units", "--no-pager", "--failed"]),
    ("system/addresses.txt", &["ip", "address"]),
    ("system/routes.txt", &["ip", "route"]),
    ("system/mounts.txt", &["findmnt"]),
    ("system/disks.txt", &["lsblk"]),
    ("system/space.txt", &["df", "-h"]),
    ("system/clock.txt", &["timedatectl"]),
    ("system/sockets.txt", &["ss", "-tnlp"]),
    ("system/uname.txt", &["uname", "-a"]),
];

/// Collects everything into `file`, a tar archive that only its owner can read.
pub(crate) fn write(site: &Site, file: Option<PathBuf>) -> anyhow::Result<u8> {
    let node = site.node();
    let name = format!("futago-{}-{}", node.split('.').next().unwrap_or(&node), compact(SystemTime::now()));
    let work = std::env::temp_dir().join(format!("{name}.{}", std::process::id()));
    let folder = work.join(&name);
    // Created anew: nobody else can have put anything there.
    DirBuilder::new().mode(0o700).create(&work).with_context(|| format!("create {}", work.display()))?;
    let written = collect(site, &folder).and_then(|()| pack(&work, &name, file));
    fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
    println!("{node}:{}", written?.display());
    eprintln!("Passwords, keys and web hooks were left out; look through it before you pass it on.");
    Ok(exit::DONE)
}

fn pack(work: &Path, name: &str, file: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let (file, out) = match file {
        Some(file) => create(file)?,
        None => create_in(Path::new(""), name)?,
    };
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(work).args(["-cf", "-", name]).stdout(out);
    let status = tar.status().context("start tar")?;
    anyhow::ensure!(status.success(), "`{}` failed ({status})", process::line(&tar));
    std::path::absolute(&file).with_context(|| format!("find {}", file.display()))
}

/// A new file that only its owner can read.
fn create(file: PathBuf) -> anyhow::Result<(PathBuf, fs::File)> {
    let out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
    let out = out.with_context(|| format!("create {}", file.display()))?;
    Ok((file, out))
}

/// `NAME.tar`, or with a number where there is one already: `NAME-2.tar`.
fn create_in(folder: &Path, name: &str) -> anyhow::Result<(PathBuf, fs::File)> {
    let mut file = folder.join(format!("{name}.tar"));
    for number in 2.. {
        if !file.exists() {
            break;
        }
        file = folder.join(format!("{name}-{number}.tar"));
    }
    create(file)
}

fn collect(site: &Site, folder: &Path) -> anyhow::Result<()> {
    let bundle = Bundle(folder);
    bundle.put("version.txt", &format!("futago {}\n", env!("CARGO_PKG_VERSION")))?;
    status(site, &bundle)?;
    let config = site.config.parent().unwrap_or(Path::new("/etc/futago"));
    bundle.copy("config/cluster.yml", &site.config, mask::text)?;
    bundle.copy("config/witness.yml", &config.join("witness.yml"), mask::text)?;
    for path in resource_files(&config.join("replica.d")) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        bundle.copy(&format!("config/replica.d/{name}"), &path, mask::text)?;
    }
    for name in [history::OLDER, history::FILE, "acceptor.json"] {
        bundle.copy(&format!("state/{name}"), &site.state_dir.join(name), str::to_owned)?;
    }
    bundle.copy("system/os-release.txt", Path::new("/etc/os-release"), str::to_owned)?;
    for (name, argv) in PROGRAMS {
        bundle.run(name, argv)?;
    }
    let this = std::env::current_exe().context("find this program")?.to_string_lossy().into_owned();
    bundle.run("replica-status.json", &[&this, "replica", "status", "--json"])?;
    bundle.run("replica-status.txt", &[&this, "replica", "status", "--verbose", "--statistics"])
}

fn status(site: &Site, bundle: &Bundle<'_>) -> anyhow::Result<()> {
    let status = match ctl::ask(&site.socket(), &Request::Status) {
        Ok(Answer::Status(status)) => words::harmless(*status),
        Ok(other) => return bundle.put("status.txt", &format!("unexpected answer: {other:?}\n")),
        Err(error) => return bundle.put("status.txt", &(verbs::unreachable(&error) + "\n")),
    };
    let text = |write: fn(&mut Page, &cluster::control::Status)| {
        let mut page = Page::new(COLUMNS, Paint(false));
        write(&mut page, &status);
        page.finish()
    };
    bundle.put("status.json", &(serde_json::to_string_pretty(&status)? + "\n"))?;
    bundle.put("status.txt", &text(view::status::write))?;
    bundle.put("why.txt", &text(view::why::write))
}

/// A folder that cannot be read has none; the copy of cluster.yml beside it tells why.
fn resource_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "res"));
    files.sort();
    files
}

/// The folder that becomes the file.
struct Bundle<'a>(&'a Path);

impl Bundle<'_> {
    fn put(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.0.join(name);
        let parent = path.parent().unwrap_or(self.0);
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        let mut file = fs::File::create_new(&path).with_context(|| format!("create {}", path.display()))?;
        file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))
    }

    fn copy(&self, name: &str, from: &Path, change: fn(&str) -> String) -> anyhow::Result<()> {
        let text = match fs::metadata(from) {
            Ok(meta) if meta.len() > MAX_FILE_BYTES => {
                format!("left out: {} has {} bytes\n", from.display(), meta.len())
            }
            _ => match fs::read(from) {
                Ok(bytes) => change(&String::from_utf8_lossy(&bytes)),
                Err(error) => format!("read {}: {error}\n", from.display()),
            },
        };
        self.put(name, &text)
    }

    fn run(&self, name: &str, argv: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new("timeout");
        command.arg(PROGRAM_SECONDS).args(argv);
        let text = match process::output(&mut command) {
            Ok(output) => {
                let said = [output.stdout, output.stderr].concat();
                let end =
                    if output.status.success() { String::new() } else { format!("# {}\n", output.status) };
                String::from_utf8_lossy(&said).into_owned() + &end
            }
            Err(error) => format!("{error}\n"),
        };
        self.put(name, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_has_everything_but_secrets_and_no_other_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let site = Site {
            config: folder.path().join("etc/cluster.yml"),
            run_dir: folder.path().join("run"),
            state_dir: folder.path().join("state"),
            node: Some("ha-a.example.com".to_owned()),
        };
        fs::create_dir_all(folder.path().join("etc/replica.d")).unwrap();
        fs::create_dir_all(&site.state_dir).unwrap();
        fs::write(&site.config, "cluster: c\nfencing: [{params: {ip: 10.0.0.1, password: hunter2}}]\n")
            .unwrap();
        fs::write(folder.path().join("etc/replica.d/r0.res"), "net { shared-secret \"hunter2\"; }\n")
            .unwrap();
        fs::write(site.state_dir.join(history::FILE), "{}\n").unwrap();
        let file = folder.path().join("r.tar");
        assert_eq!(write(&site, Some(file.clone())).unwrap(), exit::DONE);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
        for word in ["cluster.yml", "r0.res", "journal.txt", "cannot be reached", "10.0.0.1"] {
            assert!(text.contains(word), "{word}");
        }
        assert!(!text.contains("hunter2"));
        assert!(write(&site, Some(file)).is_err(), "an existing file is not overwritten");
    }

    #[test]
    fn two_reports_of_the_same_second_have_names_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let names = [1, 2, 3].map(|_| create_in(folder.path(), "futago-ha-a").unwrap().0);
        let expected = ["futago-ha-a.tar", "futago-ha-a-2.tar", "futago-ha-a-3.tar"];
        assert_eq!(names, expected.map(|name| folder.path().join(name)));
    }
}
