//! A whole cluster of processes on loopback addresses: two managers, a witness, their certificates and folders.
//! Nothing needs root: there is no replicated device, so the stack never starts; the record and the lease do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cluster::control::{self, Status};
use cluster::member::Node;
use clusterd::ctl::{self, Answer, Request};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::process::{Pid, Signal, kill_process};

/// Whatever is waited for comes within this, or never.
const WITHIN: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// An authority that makes certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Puts the three files of a member with these names into a folder.
    pub(crate) fn vouch(&self, folder: &Path, names: &[&str]) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("ca.pem"), &self.pem).unwrap();
        fs::write(folder.join("member.pem"), certificate.pem()).unwrap();
        fs::write(folder.join("member.key"), key.serialize_pem()).unwrap();
        fs::set_permissions(folder.join("member.key"), fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// A process that ends with the test.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(log: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let file = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_futago"))
            .args(arguments)
            .env("FUTAGO_LOG", "debug")
            .env("NO_COLOR", "1")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stderr(file.try_clone().unwrap())
            .stdout(file)
            .spawn()
            .unwrap();
        Self { child, log: log.to_owned() }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        until("the process ends", || self.child.try_wait().unwrap())
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}

/// Folders and addresses of one cluster.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) authority: Rc<Authority>,
    cluster: &'static str,
    /// Third octet of the addresses: each cluster has its own.
    net: u16,
    /// Where the witness listens.
    witness: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self::of("ha", Authority::new().into());
        world.witness = world.address(31);
        world.authority.vouch(&world.path("tls-w"), &["w.example.com", "witness.ha.futago.internal"]);
        world.write_configuration();
        world
    }

    /// Another cluster of the same authority, with the same witness.
    pub(crate) fn beside(&self, cluster: &'static str) -> Self {
        let mut world = Self::of(cluster, Rc::clone(&self.authority));
        world.witness.clone_from(&self.witness);
        let roles = [self.cluster, cluster].map(|cluster| format!("witness.{cluster}.futago.internal"));
        self.authority.vouch(&self.path("tls-w"), &["w.example.com", &roles[0], &roles[1]]);
        world.write_configuration();
        world
    }

    fn of(cluster: &'static str, authority: Rc<Authority>) -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Tests of one run differ by the counter, runs beside each other by the process.
        let run = u16::try_from(std::process::id() % 4000).unwrap() * 16;
        let net = run + NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            let names = [format!("{name}.example.com"), format!("{name}.{cluster}.futago.internal")];
            authority
                .vouch(&folder.path().join(format!("tls-{name}")), &names.each_ref().map(String::as_str));
        }
        Self { folder, authority, cluster, net, witness: String::new() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn address(&self, last: u8) -> String {
        let [high, low] = self.net.to_be_bytes();
        // 127.64.0.0 and up: nothing usual listens there.
        format!("127.{}.{low}.{last}", 64 + high % 128)
    }

    fn write_configuration(&self) {
        let [a1, a2, b1, b2] = [11, 12, 21, 22].map(|last| self.address(last));
        let (cluster, w) = (self.cluster, &self.witness);
        for name in ["a", "b"] {
            let tls = self.path(&format!("tls-{name}"));
            let text = format!(
                "cluster: {cluster}\nfailover_target: default\nwatchdog: 'off'\ntls: {}\nnodes:\n\
                 - {{name: a.example.com, paths: [{a1}, {a2}]}}\n\
                 - {{name: b.example.com, paths: [{b1}, {b2}]}}\n\
                 witness: {{name: w.example.com, addresses: [{w}]}}\n\
                 group:\n- {{name: r0, class: \"futago:replica\", resource: r0}}\n",
                tls.display()
            );
            fs::write(self.path(&format!("{name}.yml")), text).unwrap();
        }
        let text = format!(
            "listen: [\"{w}:7791\"]\ntls: {}\nstate: {}\n",
            self.path("tls-w").display(),
            self.path("state-w").display()
        );
        fs::write(self.path("w.yml"), text).unwrap();
    }

    pub(crate) fn manager(&self, name: &str) -> Process {
        let path = |kind: &str| self.path(&format!("{kind}{name}")).display().to_string();
        let (config, run, state) = (path("") + ".yml", path("run-"), path("state-"));
        let node = format!("{name}.example.com");
        let words =
            ["clusterd", "--config", &config, "--run-dir", &run, "--state-dir", &state, "--node", &node];
        Process::start(&self.path(&format!("{name}.log")), &words, &[])
    }

    pub(crate) fn witness(&self) -> Process {
        self.witness_in(&[])
    }

    /// With these variables, as a service manager sets them.
    pub(crate) fn witness_in(&self, environment: &[(&str, &str)]) -> Process {
        let config = self.path("w.yml").display().to_string();
        Process::start(&self.path("w.log"), &["witnessd", "--config", &config], environment)
    }

    pub(crate) fn ask(&self, name: &str, request: &Request) -> Option<Answer> {
        ctl::ask(&self.path(&format!("run-{name}")).join("clusterd.sock"), request).ok()
    }

    pub(crate) fn status(&self, name: &str) -> Option<Status> {
        match self.ask(name, &Request::Status)? {
            Answer::Status(status) => Some(*status),
            _ => None,
        }
    }

    /// The status, once it is as wanted.
    pub(crate) fn status_when(&self, name: &str, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        until(what, || self.status(name).filter(&wanted))
    }

    /// Creates the record; A is its first primary. Asked again while voters are still being found.
    pub(crate) fn bootstrap(&self) {
        let command = control::Command::Bootstrap { primary: Node::A, maintenance: false };
        let request = Request::Command { command, timeout_ms: 10_000 };
        until("the record is created", || match self.ask("a", &request) {
            Some(Answer::Done(_)) => Some(()),
            _ => None,
        });
    }
}

/// Waits for something that gives no event.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WITHIN;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {} s in vain until {what}", WITHIN.as_secs());
        thread::sleep(LOOK);
    }
}
