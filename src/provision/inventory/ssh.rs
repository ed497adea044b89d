//! How the hosts are reached: who logs in, with which key, and through which other host.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base::fields::Fields;
use base::problem::{Problem, Problems};
use base::yaml::{Content, Entry, Node};

use super::read::{is_host_name, port};

pub(super) const SSH: &[&str] = &["user", "port", "identity", "known_hosts", "netns", "jump"];
pub(super) const JUMP: &[&str] = &["host", "user", "port", "identity"];

/// Words by which the password of sudo is written where it does not belong.
const PASSWORDS: [&str; 5] =
    ["become_password", "become_pass", "ansible_become_password", "ansible_become_pass", "ansible_sudo_pass"];

/// Where an SSH server listens unless somebody has moved it.
const PORT: u16 = 22;

/// How to reach the hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssh {
    /// Who logs in; must be able to do everything.
    pub user: String,
    /// Port, unless a host has its own.
    pub port: u16,
    /// Private key; without one the keys of ssh-agent and the usual files are tried.
    pub identity: Option<PathBuf>,
    /// Known host keys.
    pub known_hosts: PathBuf,
    /// Network namespace to connect from: a file below /run/netns or a path.
    pub netns: Option<String>,
    /// The host that all others are reached through.
    pub jump: Option<JumpHost>,
}

/// A host that others are reached through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JumpHost {
    /// Its name or address.
    pub host: String,
    /// Who logs in there; nothing is run.
    pub user: String,
    /// Its port.
    pub port: u16,
    /// Private key for it.
    pub identity: Option<PathBuf>,
}

impl Ssh {
    pub(super) fn read(file: &Path, node: Option<&Node>, problems: &mut Problems) -> Option<Self> {
        let default = Self {
            user: "root".into(),
            port: PORT,
            identity: None,
            known_hosts: home(".ssh/known_hosts"),
            netns: None,
            jump: None,
        };
        let Some(node) = node else { return Some(default) };
        refuse_passwords(node.entries(), problems);
        let mut fields = Fields::of(node, "ssh", SSH, problems)?;
        let path = |text: String| path(file, &text);
        let ssh = Self {
            user: fields.text("user").unwrap_or(default.user),
            port: port(&mut fields).unwrap_or(default.port),
            identity: fields.text("identity").map(path),
            known_hosts: fields.text("known_hosts").map_or(default.known_hosts, path),
            netns: fields.text("netns"),
            jump: None,
        };
        let jump = fields.get("jump").and_then(|node| ssh.jump(file, node, fields.problems()));
        Some(Self { jump, ..ssh })
    }

    fn jump(&self, file: &Path, node: &Node, problems: &mut Problems) -> Option<JumpHost> {
        let Self { user, identity, .. } = self.clone();
        if let Content::Text(host) = &node.content {
            let host = jump_host(host, node, problems)?;
            return Some(JumpHost { host, user, port: PORT, identity });
        }
        if !matches!(node.content, Content::Map(_)) {
            let message = format!("\"jump\" must be one host, or a mapping, not {}", node.shown());
            problems.push(Problem::new(&node.place, message).hint(format!("keys: {}", JUMP.join(", "))));
            return None;
        }
        let mut fields = Fields::of(node, "jump", JUMP, problems)?;
        let of_host =
            fields.required("host", "the name or address of the host that others are reached through");
        let host = fields.text("host");
        let user = fields.text("user").unwrap_or(user);
        let port = port(&mut fields).unwrap_or(PORT);
        let identity = fields.text("identity").map(|text| path(file, &text)).or(identity);
        let host = jump_host(&host?, of_host?, fields.problems())?;
        Some(JumpHost { host, user, port, identity })
    }
}

/// A password in the inventory is one that others read.
pub(super) fn refuse_passwords(entries: &[Entry], problems: &mut Problems) {
    for Entry { key, place, .. } in entries.iter().filter(|entry| PASSWORDS.contains(&entry.key.as_str())) {
        let problem =
            Problem::new(place, format!("{key:?} is a secret: it does not belong into the inventory"));
        problems.push(problem.hint(
            "write `become_password: …` into the file that `secrets` names, or leave it out: it is asked for",
        ));
    }
}

fn jump_host(host: &str, node: &Node, problems: &mut Problems) -> Option<String> {
    if is_host_name(host) || host.parse::<IpAddr>().is_ok() {
        return Some(host.to_owned());
    }
    let message = format!(
        "a jump host must be a host name such as bastion.example.com, or an IP address, not {host:?}"
    );
    let problem = Problem::new(&node.place, message);
    problems
        .push(problem.hint("user and port are keys of their own: jump: {host: HOST, user: USER, port: 22}"));
    None
}

/// A path of the inventory: relative to it, or to the home of who runs this.
fn path(inventory: &Path, text: &str) -> PathBuf {
    match text.strip_prefix("~/") {
        Some(rest) => home(rest),
        None => inventory.parent().unwrap_or(Path::new("")).join(text),
    }
}

fn home(rest: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Ssh {
        let node = Node::parse("ha.yml", text).unwrap();
        let mut problems = Problems::default();
        let ssh = Ssh::read(Path::new("pair/ha.yml"), Some(&node), &mut problems);
        problems.or(ssh.unwrap()).unwrap()
    }

    #[test]
    fn a_jump_host_is_entered_as_the_hosts_are_unless_it_says_otherwise() {
        let jump = read("{user: admin, port: 2222, identity: key, jump: bastion.example.com}").jump.unwrap();
        let expected = JumpHost {
            host: "bastion.example.com".into(),
            user: "admin".into(),
            port: 22,
            identity: Some("pair/key".into()),
        };
        assert_eq!(jump, expected);
        let jump =
            read("{user: admin, identity: key, jump: {host: '::1', user: gate, port: 22022, identity: /k}}");
        let expected =
            JumpHost { host: "::1".into(), user: "gate".into(), port: 22022, identity: Some("/k".into()) };
        assert_eq!(jump.jump.unwrap(), expected);
    }

    #[test]
    fn every_key_is_documented() {
        let document = include_str!("../../../docs/configuration.md");
        let (_, section) = document.split_once("# The way to the hosts").unwrap();
        for key in SSH.iter().map(|key| (*key).to_owned()).chain(JUMP.iter().map(|key| format!("jump.{key}")))
        {
            assert!(section.contains(&format!("| `{key}` |")), "{key}");
        }
    }
}
