//! A user who is not root and becomes it with a password, by the real sudo of real hosts.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::harness::{Lab, output, possible};
use crate::terminal;

const PASSWORD: &str = "tiger'n dragon $1";
const ASKED: &str = "Password of admin for sudo: ";
const PAIR: [&str; 2] = ["ha-a", "ha-b"];

const PLAYBOOK: &str = "\
- hosts: pair
  tasks:
    - program: {dest: /usr/local/sbin/futago}
    - command: {argv: [sh, -c, 'ps axww -o args > /root/processes']}
";

/// A pair whose administrator is `admin`.
struct Administered {
    lab: Lab,
}

impl Administered {
    fn up() -> Self {
        let lab = Lab::up(&["--disk-size", "16M"]);
        let key = fs::read_to_string(lab.folder().join("id_ed25519.pub")).expect("read the key");
        for host in PAIR {
            lab.run_in(
                host,
                "apt-get update --quiet && apt-get install --yes --quiet sudo && useradd --create-home admin",
            );
            lab.run_in(
                host,
                &format!(
                    "install -d -o admin -m 700 ~admin/.ssh && echo '{}' > ~admin/.ssh/authorized_keys",
                    key.trim()
                ),
            );
            lab.run_in(host, &format!("echo \"admin:{}\" | chpasswd", PASSWORD.replace('$', "\\$")));
        }
        let administered = Self { lab };
        administered.allow("ALL");
        let folder = administered.lab.folder();
        fs::create_dir_all(folder.join("playbooks")).expect("make a folder");
        fs::write(folder.join("playbooks/probe.yml"), PLAYBOOK).expect("write the playbook");
        administered.inventory("");
        administered
    }

    /// Whom sudo lets do what: the end of the line of the administrator.
    fn allow(&self, what: &str) {
        for host in PAIR {
            self.lab.run_in(host, &format!("echo 'admin ALL=(ALL) {what}' > /etc/sudoers.d/admin"));
        }
    }

    fn inventory(&self, more: &str) {
        let text = fs::read_to_string(self.lab.folder().join("inventory.yml")).expect("read the inventory");
        let text = text.replace("user: root", "user: admin");
        fs::write(self.lab.folder().join("admin.yml"), format!("{text}{more}")).expect("write the inventory");
    }

    /// A file in the folder of the lab.
    fn file(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.lab.folder().join(name);
        fs::write(&path, text).expect("write a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set its mode");
        path
    }

    /// The program's words, with the inventory.
    fn words(&self, words: &[&str]) -> Vec<String> {
        let inventory = self.lab.folder().join("admin.yml").display().to_string();
        let program = env!("CARGO_BIN_EXE_futago").to_owned();
        let words = words.iter().map(|word| (*word).to_owned());
        [program].into_iter().chain(words).chain(["-i".to_owned(), inventory]).collect()
    }

    /// Runs the program where there is no terminal to ask on: exit code, and all that it says.
    fn run(&self, words: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
        let mut command = Command::new("setsid");
        command.arg("--wait").args(self.words(words));
        command.env_remove("FUTAGO_BECOME_PASSWORD_FILE").envs(environment.iter().copied());
        let done = output(command);
        (done.status.code(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
    }

    /// Runs the playbook; it must succeed and show no password, neither here nor there nor in its log.
    fn applies(&self, options: &[&str]) {
        let (code, said) = self.run(&[&["apply", "probe"], options].concat(), &[]);
        assert_eq!(code, Some(0), "{said}");
        self.assert_unseen(&said);
    }

    fn assert_unseen(&self, said: &str) {
        assert!(!said.contains(PASSWORD), "{said}");
        for log in fs::read_dir(self.lab.folder().join(".futago/runs")).expect("list the logs") {
            let text = fs::read_to_string(log.expect("a log").path()).expect("read a log");
            assert!(!text.contains(PASSWORD), "{text}");
        }
        for host in PAIR {
            let processes = self.lab.run_in(host, "cat /root/processes");
            assert!(processes.contains("sudo -S -p") && !processes.contains(PASSWORD), "{processes}");
        }
    }

    /// The playbook is refused for this reason, with this exit code.
    fn refused(&self, options: &[&str], code: i32, reason: &str) {
        let (ended, said) = self.run(&[&["apply", "probe"], options].concat(), &[]);
        assert!(ended == Some(code) && said.contains(reason), "{reason}: {ended:?}\n{said}");
        assert!(!said.contains(PASSWORD), "{said}");
    }

    /// Runs the program on a terminal and types when the password is asked for; all that the terminal has shown.
    fn run_typing(&self, words: &[&str], typed: &str) -> (Option<i32>, String) {
        terminal::run(&self.words(words), &[], &[(ASKED, typed)])
    }

    fn forget_program(&self) {
        for host in PAIR {
            self.lab.run_in(host, "rm -r /var/lib/futago/program");
        }
    }
}

#[test]
fn the_password_of_sudo_comes_from_a_file_the_secrets_or_the_keyboard_and_is_seen_nowhere() {
    if !possible() {
        return;
    }
    let pair = Administered::up();
    let wanted =
        "become root on ha-a as admin: sudo wants the password of admin, and here it cannot be asked for";
    pair.refused(&[], 4, wanted);
    pair.refused(&["-K"], 64, "-K asks for the password of admin on the terminal: ");

    let file = pair.file("password", &format!("{PASSWORD}\n"), 0o600).display().to_string();
    let option = ["--become-password-file", &file];
    pair.applies(&option);
    let wrong = pair.file("wrong", "tiger and dragon\n", 0o600).display().to_string();
    let refusal = format!("become root on ha-b as admin: sudo refuses the password (from {wrong})");
    pair.refused(&["--become-password-file", &wrong], 4, &refusal);
    for host in PAIR {
        let attempts = "journalctl --identifier sudo --output cat --grep 'incorrect password'";
        let said = pair.lab.run_in(host, attempts);
        assert!(said.lines().count() == 1 && said.contains("1 incorrect password attempt"), "{said}");
    }
    let open = pair.file("open", PASSWORD, 0o644).display().to_string();
    pair.refused(&["--become-password-file", &open], 64, "others can read it; chmod 600 ");

    // Where sudo asks nobody, the password must not reach what it starts: neither the program's own file nor the agent.
    pair.allow("NOPASSWD: ALL");
    pair.forget_program();
    pair.applies(&option);
    pair.allow("ALL");

    let typed = format!("{PASSWORD}\r");
    let (code, shown) = pair.run_typing(&["apply", "probe"], &typed);
    assert_eq!((code, shown.matches(ASKED).count()), (Some(0), 1), "{shown}");
    pair.assert_unseen(&shown);
    let (code, shown) = pair.run_typing(&["apply", "probe", "-K"], &typed);
    assert_eq!((code, shown.matches(ASKED).count()), (Some(0), 1), "{shown}");
    assert!(shown.starts_with(ASKED), "before all else: {shown}");

    let (code, shown) = pair.run_typing(&["apply", "probe"], "tiger\x03");
    assert_eq!((code, shown.matches(ASKED).count()), (Some(4), 1), "nobody is asked again: {shown}");

    let timings = ["cluster", "timings", "--target", "4s"];
    let (code, said) = pair.run(&timings, &[("FUTAGO_BECOME_PASSWORD_FILE", &file)]);
    assert!(code == Some(0) && said.contains("lease"), "{said}");
    let (code, shown) = pair.run_typing(&timings, &typed);
    assert_eq!((code, shown.matches(ASKED).count()), (Some(0), 1), "{shown}");
    assert!(shown.contains("lease") && !shown.contains(PASSWORD) && !shown.contains("futago: "), "{shown}");

    pair.file("secrets.yml", &format!("become_password: \"{PASSWORD}\"\n"), 0o600);
    pair.inventory("secrets: secrets.yml\n");
    pair.applies(&[]);
    for host in PAIR {
        pair.lab.run_in(host, "rm /etc/sudoers.d/admin");
    }
    pair.refused(&[], 4, "become root on ha-a as admin: admin is not in the sudoers file");
}
