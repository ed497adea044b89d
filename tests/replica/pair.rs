//! Two replication daemons on this machine, on loopback, with plain files as disks. Leaves nothing behind.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const FUTAGO: &str = env!("CARGO_BIN_EXE_futago");
/// Bound of everything that is waited for. Generous: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Whether block devices can be made here; says why not, and fails under `CI=true`.
pub(crate) fn can_export() -> bool {
    let missing = if !rustix_is_root() {
        "root"
    } else if !Path::new("/dev/fuse").exists() {
        "/dev/fuse"
    } else if !Path::new("/dev/loop-control").exists() {
        "/dev/loop-control"
    } else {
        return true;
    };
    assert!(std::env::var("CI").as_deref() != Ok("true"), "this test needs {missing}");
    eprintln!("skipped: this test needs {missing}");
    false
}

fn rustix_is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|l| l.starts_with("Uid:") && l.split_whitespace().nth(2) == Some("0"))
}

/// One node.
pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) device: PathBuf,
    pub(crate) disk: PathBuf,
    folder: PathBuf,
    machine: String,
    daemon: Option<Child>,
}

/// Both nodes.
pub(crate) struct Pair {
    pub(crate) a: Node,
    pub(crate) b: Node,
    _folder: tempfile::TempDir,
}

impl Pair {
    /// Files and configuration; nothing runs yet.
    pub(crate) fn new(disk_bytes: u64) -> Self {
        Self::with_options(disk_bytes, "")
    }

    /// With a line in the resource.
    fn with_options(disk_bytes: u64, options: &str) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let tag = format!("{}-{number}", std::process::id());
        // Held together, so that they differ; free again when the daemons start.
        let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = ports.map(|listener| listener.local_addr().unwrap().port());
        let node = |name: &'static str| {
            let own = folder.path().join(name);
            fs::create_dir_all(own.join("conf")).unwrap();
            let disk = own.join("disk");
            File::create(&disk).unwrap().set_len(disk_bytes).unwrap();
            let device = PathBuf::from(format!("/dev/futago-test-{tag}-{name}"));
            Node { name, device, disk, folder: own, machine: format!("{tag}{name}"), daemon: None }
        };
        let (a, b) = (node("a"), node("b"));
        for node in [&a, &b] {
            let host = |host: &Node, port| {
                let (name, device, disk) = (host.name, node.device.display(), host.disk.display());
                format!(
                    "on {name} {{ device {device} minor 1; disk {disk}; address 127.0.0.1:{port}; meta-disk internal; }}\n"
                )
            };
            let text = format!("resource r0 {{\n{options}{}{}}}\n", host(&a, ports[0]), host(&b, ports[1]));
            fs::write(node.folder.join("conf/r0.res"), text).unwrap();
        }
        Self { a, b, _folder: folder }
    }

    /// A pair that is connected and in sync, with node a as Primary.
    pub(crate) fn in_sync(disk_bytes: u64) -> Self {
        Self::in_sync_with(disk_bytes, "")
    }

    /// The same, with these lines in the resource.
    pub(crate) fn in_sync_with(disk_bytes: u64, options: &str) -> Self {
        let mut pair = Self::with_options(disk_bytes, options);
        for node in [&mut pair.a, &mut pair.b] {
            node.ok(&["create-md", "r0"]);
            node.start();
        }
        pair.a.ok(&["wait-connect", "--timeout", "60", "r0"]);
        pair.a.ok(&["primary", "--force", "r0"]);
        pair.wait_sync();
        pair
    }

    /// A pair in sync whose cluster manager is the test: node a is Primary of term 1.
    pub(crate) fn managed(disk_bytes: u64) -> Self {
        let mut pair = Self::with_options(disk_bytes, "options { managed yes; }\n");
        for node in [&mut pair.a, &mut pair.b] {
            node.ok(&["create-md", "r0"]);
            node.start();
        }
        pair.a.ok(&["wait-connect", "--timeout", "60", "r0"]);
        pair.a.ok(&["primary", "--force", "r0", "--term", "1", "--alone"]);
        pair.wait_sync();
        pair
    }

    pub(crate) fn wait_sync(&self) {
        for node in [&self.a, &self.b] {
            node.ok(&["wait-sync", "--timeout", "100", "r0"]);
        }
    }

    /// Both disks hold the same data; to be called when nothing is written.
    pub(crate) fn assert_equal(&self) {
        let kib = self.a.status()["devices"][0]["size"].as_u64().unwrap();
        let data = |node: &Node| {
            let mut bytes = Vec::new();
            File::open(&node.disk).unwrap().take(kib * 1024).read_to_end(&mut bytes).unwrap();
            bytes
        };
        let (a, b) = (data(&self.a), data(&self.b));
        let differ = a.chunks(4096).zip(b.chunks(4096)).position(|(a, b)| a != b);
        assert_eq!(differ, None, "first block that differs");
    }
}

impl Node {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(FUTAGO);
        command.args(words).args(["--node", self.name]);
        command.arg("--config").arg(self.folder.join("conf")).arg("--run-dir").arg(self.folder.join("run"));
        command.stdin(Stdio::null());
        command
    }

    /// Runs a verb to its end.
    pub(crate) fn verb(&self, words: &[&str]) -> Output {
        self.command(&[&["replica"], words].concat()).output().unwrap()
    }

    /// Runs a verb that must succeed; returns what it printed.
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let output = self.verb(words);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{} on {}: {out}{err}\n{}", words.join(" "), self.name, self.log());
        out
    }

    /// Runs a verb that must end with this code; returns what it said.
    pub(crate) fn fails(&self, code: i32, words: &[&str]) -> String {
        let output = self.verb(words);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{}: {said}", words.join(" "));
        said
    }

    pub(crate) fn status(&self) -> Value {
        let all: Value = serde_json::from_str(&self.ok(&["status", "--json", "r0"])).unwrap();
        all[0].clone()
    }

    /// Waits until the status is as wanted.
    pub(crate) fn until(&self, wanted: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !wanted(&self.status()) {
            assert!(Instant::now() < deadline, "{:#}\n{}", self.status(), self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What defines the resource on this node.
    pub(crate) fn resource_file(&self) -> PathBuf {
        self.folder.join("conf/r0.res")
    }

    /// The daemon's control socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("run/replicad.sock")
    }

    pub(crate) fn word(&self, verb: &str) -> String {
        self.ok(&[verb, "r0"]).trim().to_owned()
    }

    /// What the daemon has said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Defines a further resource with this disk.
    pub(crate) fn add_resource(&self, name: &str, disk: &str) {
        let host = |host: &str, port: u16| {
            format!(
                "on {host} {{ device /dev/drbd9; disk {disk}; address 127.0.0.1:{port}; meta-disk internal; }}\n"
            )
        };
        let text = format!("resource {name} {{\n{}{}}}\n", host("a", 1), host("b", 2));
        fs::write(self.folder.join("conf").join(format!("{name}.res")), text).unwrap();
    }

    /// Starts the daemon and waits until it says that it is ready.
    pub(crate) fn start(&mut self) {
        let notify = self.folder.join("notify");
        let _ = fs::remove_file(&notify);
        let socket = UnixDatagram::bind(&notify).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let log = File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut command = self.command(&["replicad", "--machine", &self.machine]);
        command.env("NOTIFY_SOCKET", &notify).stderr(log);
        self.daemon = Some(command.spawn().unwrap());
        let mut said = [0; 256];
        let mut len = 0;
        // What it gives to be kept is closed by this: nothing outlives the daemon here.
        while &said[..len] != b"READY=1" {
            len = socket.recv(&mut said).unwrap_or_else(|e| panic!("not ready: {e}\n{}", self.log()));
        }
    }

    /// A power cut, as far as a process can have one.
    pub(crate) fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// What systemd does.
    pub(crate) fn terminate(&mut self) {
        let daemon = self.daemon.as_ref().unwrap();
        let pid = Pid::from_child(daemon);
        kill_process(pid, Signal::TERM).unwrap();
    }

    /// Waits for the end of the daemon.
    pub(crate) fn ended(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = daemon.try_wait().unwrap() {
                assert!(status.success(), "{status}\n{}", self.log());
                return;
            }
            assert!(Instant::now() < deadline, "the daemon does not end\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Writes to the device and makes it durable.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) {
        let device = File::options().write(true).open(&self.device).unwrap();
        device.write_all_at(bytes, offset).unwrap();
        device.sync_all().unwrap();
    }

    /// Reads from the device.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        File::open(&self.device).unwrap().read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }

    /// Loop devices that this node's daemons have made.
    pub(crate) fn loop_devices(&self) -> Vec<String> {
        let wanted = format!("futago:r0:{}", self.machine);
        let entries = fs::read_dir("/sys/block").unwrap().flatten();
        let bound = entries.filter(|e| {
            fs::read_to_string(e.path().join("loop/backing_file")).is_ok_and(|text| text.contains(&wanted))
        });
        bound.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        for device in self.loop_devices() {
            let number = device.trim_start_matches("loop");
            let _ = Command::new(FUTAGO).args(["replica", "loop-device", "abandon", number]).status();
        }
        let _ = fs::remove_file(&self.device);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
