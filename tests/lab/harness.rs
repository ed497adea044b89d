//! A lab that goes away with the test that made it, also when the test panics.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::load::LoadReport;
use rustix::process::{Pid, Signal, kill_process};

/// The longest that anything a test waits for may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether the machine lets us run labs; if not, says why on stderr, or fails under `CI=true`.
pub(crate) fn possible() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("read /proc/self/status");
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let is_root = uid.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0");
    if is_root {
        return true;
    }
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "lab tests need root, and CI=true forbids skipping"
    );
    eprintln!("skipped: lab tests need root");
    false
}

/// Whether every drill is wanted (`FUTAGO_DRILLS=all`, as `cargo xtask soak` asks) or only those of a normal run.
pub(crate) fn every_drill() -> bool {
    std::env::var("FUTAGO_DRILLS").as_deref() == Ok("all")
}

/// The program under test.
pub(crate) fn futago() -> Command {
    Command::new(env!("CARGO_BIN_EXE_futago"))
}

/// A lab of its own name, taken down and purged when dropped.
pub(crate) struct Lab {
    name: String,
}

impl Lab {
    /// A name that no other test uses. Nothing is started.
    pub(crate) fn named() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { name: format!("t{}-{number}", std::process::id()) }
    }

    /// A running lab; `arguments` go to `lab up`.
    pub(crate) fn up(arguments: &[&str]) -> Self {
        let lab = Self::named();
        lab.run("up", arguments);
        lab
    }

    /// `futago lab VERB --name …`
    pub(crate) fn command(&self, verb: &str, arguments: &[&str]) -> Command {
        let mut command = futago();
        command.args(["lab", verb, "--name", &self.name]).args(arguments);
        command
    }

    /// Runs a verb that must succeed and returns what it said on stdout.
    pub(crate) fn run(&self, verb: &str, arguments: &[&str]) -> String {
        succeeded(self.command(verb, arguments))
    }

    /// Starts a verb without waiting for it.
    pub(crate) fn start(&self, verb: &str, arguments: &[&str]) -> Child {
        let mut command = self.command(verb, arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("start futago")
    }

    /// Runs a shell script in a host, whatever its exit code.
    pub(crate) fn try_in(&self, host: &str, script: &str) -> Output {
        output(self.command("exec", &[host, "--", "sh", "-c", script]))
    }

    /// Runs a shell script in a host; it must succeed. Returns its stdout, trimmed.
    pub(crate) fn run_in(&self, host: &str, script: &str) -> String {
        succeeded(self.command("exec", &[host, "--", "sh", "-c", script])).trim().to_owned()
    }

    /// Runs `futago apply` on the lab's inventory, whatever its exit code.
    pub(crate) fn try_apply(&self, arguments: &[&str]) -> Output {
        let mut command = futago();
        command.arg("apply").arg("-i").arg(self.folder().join("inventory.yml")).args(arguments);
        output(command)
    }

    /// Runs `futago apply` on the lab's inventory; it must succeed. Returns its stdout.
    pub(crate) fn apply(&self, arguments: &[&str]) -> String {
        let output = self.try_apply(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "apply: {}\n{text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    /// `lab status --json`
    pub(crate) fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.run("status", &["--json"])).expect("read status")
    }

    /// Whether a host is on, by `lab status`.
    pub(crate) fn is_powered(&self, host: &str) -> bool {
        let status = self.status();
        let hosts = status["hosts"].as_array().expect("hosts");
        let found = hosts.iter().find(|entry| entry["name"] == host).expect("the host");
        found["powered"].as_bool().expect("powered")
    }

    /// Everything of this lab that lies on a disk.
    pub(crate) fn folder(&self) -> PathBuf {
        Path::new("/var/lib/futago/lab").join(&self.name)
    }

    /// The lab's network namespace.
    pub(crate) fn netns(&self) -> PathBuf {
        PathBuf::from(format!("/run/netns/futago-{}", self.name))
    }

    /// The processes of a host that are in control groups whose path contains `part`.
    pub(crate) fn processes(&self, host: &str, part: &str) -> Vec<u32> {
        let ours = format!("/futago/{}/{host}", self.name);
        let mut found = Vec::new();
        for pid in pids() {
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            if groups.lines().any(|line| line.contains(&ours) && line.contains(part)) {
                found.push(pid);
            }
        }
        found
    }

    /// What of this lab is still on the machine, in words; empty after a purge.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let folder = self.folder().display().to_string();
        let mut found = Vec::new();
        found.extend(self.netns().exists().then(|| "the network namespace".to_owned()));
        found.extend(self.folder().exists().then(|| format!("the folder {folder}")));
        let lock = format!("/run/futago/lab-{}.lock", self.name);
        found.extend(Path::new(&lock).exists().then_some(lock));
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read mounts");
        found
            .extend(mounts.lines().filter(|line| line.contains(&folder)).map(|line| format!("mount {line}")));
        for entry in fs::read_dir("/sys/block").expect("list block devices") {
            let file = entry.expect("block device").path().join("loop/backing_file");
            let backing = fs::read_to_string(&file).unwrap_or_default();
            found.extend(backing.starts_with(&folder).then(|| format!("{} over {backing}", file.display())));
        }
        for pid in pids() {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let ours = line.contains(&folder) || group.contains(&format!("/futago/{}/", self.name));
            found.extend((ours && !is_dead(pid)).then(|| format!("process {pid} {line}")));
        }
        for hierarchy in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"] {
            let group = Path::new(hierarchy).join("futago").join(&self.name);
            found.extend(group.exists().then(|| format!("control group {}", group.display())));
        }
        found
    }
}

/// The client that writes rows through the virtual address, and the auditor beside it.
pub(crate) struct Client {
    process: Child,
    log: PathBuf,
}

impl Client {
    /// Starts both and waits for the first acknowledged row. The service runs already.
    pub(crate) fn start(lab: &Lab) -> Self {
        let log = lab.folder().join("rows.jsonl");
        // Of an earlier client.
        let _ = fs::remove_file(&log);
        let mut command = lab.command("client", &["--log", &log.display().to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let client = Self { process: command.spawn().expect("start the client"), log };
        client.until_rows(1);
        client
    }

    /// How many rows were acknowledged so far.
    pub(crate) fn rows(&self) -> usize {
        fs::read_to_string(&self.log).unwrap_or_default().matches('\n').count()
    }

    /// Waits until so many more rows were acknowledged.
    pub(crate) fn until_rows(&self, more: usize) {
        let wanted = self.rows() + more;
        until("rows are acknowledged", || self.rows() >= wanted);
    }

    /// Ends both and returns what they saw.
    pub(crate) fn stop(mut self) -> LoadReport {
        signal(Signal::TERM, self.process.id());
        let mut text = String::new();
        let mut stdout = self.process.stdout.take().expect("its stdout");
        std::io::Read::read_to_string(&mut stdout, &mut text).expect("read the client's report");
        let status = self.process.wait().expect("reap the client");
        assert!(status.success(), "the client ended with {status}");
        serde_json::from_str(&text).expect("read the client's report")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Most of the time it has ended already; a client of a failed test must not outlive it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let purged = self.command("down", &["--purge"]).output();
        if let Ok(output) = &purged
            && !output.status.success()
        {
            eprintln!("purging {}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// Runs a command that must succeed and returns its stdout.
pub(crate) fn succeeded(command: Command) -> String {
    let line = format!("{command:?}");
    let output = output(command);
    assert!(
        output.status.success(),
        "{line}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// Runs a command without input to its end.
pub(crate) fn output(mut command: Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Waits until something is so, and fails when it takes absurdly long.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {} s: {what}", PATIENCE.as_secs());
        thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal to one process.
pub(crate) fn signal(signal: Signal, pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, signal).expect("send a signal");
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("list processes").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn is_dead(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}
