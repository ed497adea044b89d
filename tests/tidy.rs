//! The rules of the tree that no compiler checks: direction of dependencies, purity of the cores, shape of
//! files, and what must not be in any file. Reads only.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which of our crates each of our crates may depend on.
const DIRECTION: &[(&str, &[&str])] = &[
    ("futago", &["provision", "lab", "replicad", "clusterd"]),
    ("base", &[]),
    ("replica", &[]),
    ("cluster", &[]),
    ("replicad", &["replica", "base"]),
    // replica: the plain request, reply and status types of replica::control.
    ("clusterd", &["cluster", "base", "replica"]),
    ("provision", &["base"]),
    ("lab", &["provision", "base"]),
    ("xtask", &[]),
];

/// The pure cores, and all they may depend on.
const CORES: &[&str] = &["replica", "cluster"];
const CORE_DEPENDENCIES: &[&str] = &["thiserror", "serde", "bytes", "crc32c", "xxhash-rust"];

/// What a core never touches: files, sockets, threads, clocks, processes, the environment.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::io",
    "std::os",
    "std::env",
    "std::thread",
    "std::process",
    "std::time",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
];

/// The top of the tree, as docs/architecture.md draws it.
const TOP: &[&str] = &[
    ".cargo",
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "benches",
    "clippy.toml",
    "deny.toml",
    "docs",
    "inventory",
    "playbooks",
    "rustfmt.toml",
    "src",
    "templates",
    "tests",
];

/// Beyond this many lines a file is named, beyond the other it fails.
const LONG: usize = 600;
const TOO_LONG: usize = 800;

/// One file that belongs to the project.
struct File {
    /// Relative to the root, with `/`.
    path: String,
    /// Empty when it is not text.
    text: String,
}

impl File {
    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files that are tracked or about to be. Without git (a source archive): all but build output.
fn files() -> Vec<File> {
    let git = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    let paths: Vec<String> = match git {
        Ok(output) if output.status.success() => {
            String::from_utf8(output.stdout).unwrap().split_terminator('\0').map(str::to_owned).collect()
        }
        _ => {
            let mut found = Vec::new();
            walk(root(), &mut found);
            found
        }
    };
    let read = |path: String| {
        let text = std::fs::read(root().join(&path)).ok()?;
        Some(File { path, text: String::from_utf8(text).unwrap_or_default() })
    };
    // A file that git knows and that is gone is on its way out.
    let files: Vec<File> = paths.into_iter().filter_map(read).collect();
    assert!(files.iter().any(|f| f.path == "tests/tidy.rs"), "the list of files is incomplete");
    files
}

fn walk(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let relative = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        if path.is_dir() && !matches!(relative.as_str(), "target" | ".git" | ".futago") {
            walk(&path, found);
        } else if path.is_file() {
            found.push(relative);
        }
    }
}

/// Each member of the workspace with its dependencies: name and kind (normal, dev, build).
fn dependencies() -> BTreeMap<String, Vec<(String, String)>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |package: &Value| {
        let list = package["dependencies"].as_array().unwrap();
        let kind = |d: &Value| d["kind"].as_str().unwrap_or("normal").to_owned();
        (text(&package["name"]), list.iter().map(|d| (text(&d["name"]), kind(d))).collect())
    };
    metadata["packages"].as_array().unwrap().iter().map(of).collect()
}

fn report(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn crates_depend_on_each_other_only_in_the_designed_direction() {
    let direction: BTreeMap<_, _> = DIRECTION.iter().copied().collect();
    let mut broken = Vec::new();
    for (package, dependencies) in dependencies() {
        let Some(allowed) = direction.get(package.as_str()) else {
            broken.push(format!("{package} is not in the table of tests/tidy.rs"));
            continue;
        };
        for (name, kind) in dependencies {
            // The suites under tests/ belong to the root package and drive any part, the simulation a core.
            let suite = package == "futago" && kind == "dev";
            if direction.contains_key(name.as_str()) && !allowed.contains(&name.as_str()) && !suite {
                broken.push(format!("{package} must not depend on {name} ({kind})"));
            }
        }
    }
    report("docs/architecture.md, Direction of dependencies", &broken);
}

#[test]
fn cores_depend_on_nothing_but_the_allow_list() {
    let mut broken = Vec::new();
    for (package, dependencies) in dependencies().into_iter().filter(|(p, _)| CORES.contains(&p.as_str())) {
        for (name, kind) in dependencies {
            if kind != "dev" && !CORE_DEPENDENCIES.contains(&name.as_str()) {
                broken.push(format!("{package} depends on {name}"));
            }
        }
    }
    report("a core may depend on CORE_DEPENDENCIES only", &broken);
}

#[test]
fn cores_touch_no_file_socket_clock_or_thread() {
    let mut broken = Vec::new();
    for file in files().iter().filter(|f| f.is_rust() && f.name() != "tests.rs") {
        if !CORES.iter().any(|core| file.path.starts_with(&format!("src/{core}/"))) {
            continue;
        }
        let product = file.text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
        for (line, number) in product.zip(1..) {
            let code = line.split("//").next().unwrap_or_default();
            for word in IMPURE.iter().filter(|word| code.contains(*word)) {
                broken.push(format!("{}:{number}: {word}", file.path));
            }
        }
    }
    report("a core has no input, output, clock or thread of its own", &broken);
}

#[test]
fn files_are_short() {
    let mut broken = Vec::new();
    for file in files().iter().filter(|f| f.is_rust()) {
        let lines = file.text.lines().count();
        if lines > TOO_LONG {
            broken.push(format!("{} has {lines} lines", file.path));
        } else if lines > LONG {
            println!("{} has {lines} lines: split it soon (limit {TOO_LONG})", file.path);
        }
    }
    report("a file has at most 800 lines; split it by concern", &broken);
}

#[test]
fn every_file_says_what_it_owns() {
    let files = files();
    let silent = files.iter().filter(|f| f.is_rust() && !f.text.starts_with("//! "));
    let broken: Vec<_> = silent.map(|f| f.path.clone()).collect();
    report("every .rs file opens with a //! comment: what it owns and must never do", &broken);
}

#[test]
fn unsafe_code_lives_in_sys_files_only() {
    let starts = ["{", "fn", "impl", "trait", "extern"].map(|next| ["unsafe", next].join(" "));
    let mut broken = Vec::new();
    for file in files().iter().filter(|f| f.is_rust() && f.name() != "sys.rs") {
        for (line, number) in file.text.lines().zip(1..) {
            let code = line.split("//").next().unwrap_or_default();
            if starts.iter().any(|start| code.contains(start.as_str())) {
                broken.push(format!("{}:{number}", file.path));
            }
        }
    }
    report("unsafe code is written in files named sys.rs only", &broken);
}

#[test]
fn no_test_is_switched_off() {
    let attribute = ["#[", "ignore"].concat();
    let files = files();
    let off = files.iter().filter(|f| f.is_rust() && f.text.contains(&attribute));
    let broken: Vec<_> = off.map(|f| f.path.clone()).collect();
    report("a test that cannot run here says why at run time; it is not ignored", &broken);
}

#[test]
fn no_file_names_a_package_registry_or_a_developers_machine() {
    let mut forbidden: Vec<String> = [
        ["index.crates", ".io"],
        ["static.crates", ".io"],
        ["sparse", "+http"],
        ["registry", "+http"],
        ["pypi", ".org"],
        ["npmjs", ".org"],
        ["proxy.golang", ".org"],
        ["deb.debian", ".org"],
        ["/Users", "/"],
    ]
    .iter()
    .map(|parts| parts.concat())
    .collect();
    // Where this copy lies, and the folders around it (but not "/home", "/tmp" or "/var/lib" as such).
    let is_own = |place: &&Path| {
        place.components().count()
            > if place.starts_with("/var") || place.starts_with("/usr") { 3 } else { 2 }
    };
    let places = root().ancestors().filter(is_own);
    forbidden.extend(places.filter_map(Path::to_str).map(str::to_owned));
    let mut broken = Vec::new();
    for file in files().iter().filter(|f| f.path != "Cargo.lock") {
        for word in forbidden.iter().filter(|word| file.text.contains(word.as_str())) {
            broken.push(format!("{}: {word}", file.path));
        }
    }
    report("files speak of the project alone", &broken);
}

#[test]
fn the_tree_has_the_designed_shape() {
    let files = files();
    let mut broken = BTreeSet::new();
    let crates: Vec<&str> =
        DIRECTION.iter().map(|(name, _)| *name).filter(|name| *name != "futago").collect();
    for file in &files {
        let parts: Vec<&str> = file.path.split('/').collect();
        let misplaced = match parts.as_slice() {
            ["src", "main.rs"] => None,
            ["src", part, "src", ..] => {
                Some(format!("src/{part}/src: a crate's files lie beside its manifest"))
            }
            ["src", part, ..] if !crates.contains(part) => {
                Some(format!("src/{part} is no part of the program"))
            }
            [top, ..] if !TOP.contains(top) => Some(format!("{top} does not belong to the top of the tree")),
            _ => None,
        };
        broken.extend(misplaced);
        if ["utils.rs", "helpers.rs", "misc.rs", "common.rs", "prelude.rs"].contains(&file.name()) {
            broken.insert(format!("{}: name the file after what it owns", file.path));
        }
    }
    let needed = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE-MIT", "LICENSE-APACHE", ".ci/run"];
    for path in needed.iter().filter(|path| !files.iter().any(|f| f.path == **path)) {
        broken.insert(format!("{path} is missing"));
    }
    report("the tree of docs/architecture.md", &broken.into_iter().collect::<Vec<_>>());
}

#[test]
fn documents_link_to_files_that_exist() {
    let mut broken = Vec::new();
    for file in files().iter().filter(|f| f.path.ends_with(".md")) {
        let folder = root().join(&file.path).parent().unwrap().to_owned();
        for rest in file.text.split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap_or_default();
            let local = !target.is_empty() && !target.contains("://") && !target.contains(' ');
            if local && !folder.join(target).exists() {
                broken.push(format!("{}: {target}", file.path));
            }
        }
    }
    report("links in documents", &broken);
}

/// The recovery guide names every state that a status can show, and what it quotes is what the program says.
#[test]
fn the_recovery_guide_speaks_the_programs_words() {
    use replica::state::{ConnectionState, DiskState};
    let guide = std::fs::read_to_string(root().join("docs/recovery.md")).unwrap();
    let sources: String = files()
        .iter()
        .filter(|file| file.path.starts_with("src/replica") && file.is_rust())
        .map(|file| file.text.as_str())
        .collect();
    let disks = DiskState::ALL.iter().map(|state| state.as_str());
    let links = ConnectionState::ALL.iter().map(|state| state.as_str());
    // Without a disk there is no resource here; the peer's is not known while it is away.
    let states = disks.chain(links).filter(|word| !["Diskless", "DUnknown", "Connected"].contains(word));
    let mut broken: Vec<String> =
        states.filter(|word| !guide.contains(word)).map(|word| format!("`{word}` is missing")).collect();
    let rows = guide.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    for quoted in rows.flat_map(|cell| cell.split('`').skip(1).step_by(2)).filter(|text| text.contains(' ')) {
        let pieces = quoted.split('…').map(|piece| piece.trim().trim_end_matches(':'));
        let unsaid = pieces.filter(|piece| piece.contains(' ') && !sources.contains(piece));
        broken.extend(unsaid.map(|piece| format!("nothing says {piece:?}")));
    }
    report("docs/recovery.md is about this program", &broken);
}
