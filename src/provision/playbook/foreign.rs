//! Ansible's words that do not exist here, and what to do instead.

use base::problem::{Problem, Problems};
use base::yaml::Node;

const SHELL: &str = "use `command`; what really needs a shell is `command: {argv: [sh, -c, \"…\"]}`";
const PACKAGE: &str = "use `package: {name: [NAME], state: present}`";
const SERVICE: &str = "use `service: {name: NAME, state: started, enabled: true}`";
const LINES: &str = "use `lines: {path: FILE, line: TEXT}`, with `match`, or with `block` instead of `line`";
const WHOLE_FILE: &str = "write the whole file with `template`, or a file of its own where the program reads a folder of them; `lines` keeps one line";
const REPOSITORY: &str = "use `repository`, which brings the key too";
const KEY: &str = "the key is an argument of `repository`";
const FETCH: &str = "put the file below files/ and use `copy`, or run a program with `command` and `creates`";
const UNLESS: &str = "use `command` with `unless` or `creates`, so that it runs only when it is needed";
const FACT: &str = "write it as `vars` of the play, of the task or of the inventory";
const BLOCK: &str =
    "a failure stops the run, and the command that continues is printed; put it right, then continue";
const ROLE: &str =
    "write its tasks into a file and use `import_tasks`, with its defaults as `vars` of the play";

/// Keys of plays, tasks and blocks.
const KEYS: &[(&str, &str)] = &[
    ("become", "every task runs as root; drop it"),
    ("become_user", "every task runs as root; use `command: runuser -u USER -- …`"),
    ("become_method", "every task runs as root; drop it"),
    ("remote_user", "it is `ssh.user` of the inventory; drop it"),
    ("connection", "there is one connection to each host, by SSH; drop it"),
    ("gather_facts", "facts are always there, at no cost; drop it"),
    ("strategy", "both hosts do a task at the same time; drop it"),
    ("any_errors_fatal", "a failure on one host always stops the run; drop it"),
    ("max_fail_percentage", "a failure on one host always stops the run; drop it"),
    ("ignore_errors", "say what a failure is with `failed_when`"),
    ("ignore_unreachable", "all hosts must answer before anything is done; drop it"),
    ("delegate_to", "write a play with `hosts: NAME`"),
    ("local_action", "nothing runs on this machine; do it before `futago apply`"),
    ("rescue", BLOCK),
    ("always", BLOCK),
    ("roles", ROLE),
    (
        "vars_files",
        "write the variables into `vars` of the inventory; those that nobody may see into the file that `secrets` names",
    ),
    ("vars_prompt", "write the value into the file that `secrets` of the inventory names"),
    ("pre_tasks", "write them at the begin of `tasks`"),
    ("post_tasks", "write them in a play of their own: handlers run at the end of a play"),
    ("environment", "`command` takes `environment`"),
    ("args", "write the arguments into the module's own mapping"),
    ("loop_control", "the variable of a loop is always `item`; drop it"),
    ("listen", "name every handler in `notify`"),
    ("async", "`command` takes `timeout`, and shows progress; drop it"),
    ("poll", "`command` takes `timeout`, and shows progress; drop it"),
    ("check_mode", "`futago plan` changes nothing; drop it"),
    ("throttle", "use `serial` of the play"),
    ("with_items", "use `loop`"),
    ("with_list", "use `loop`"),
    ("with_dict", "use `loop: \"{{ NAME | dictsort }}\"`; `item[0]` is the key, `item[1]` the value"),
    ("with_sequence", "use `loop: \"{{ range(1, 4) | list }}\"`"),
    ("with_fileglob", "name the files in `loop`"),
    ("with_together", "write a list of mappings into `loop`"),
    ("with_nested", "write a list of mappings into `loop`"),
    ("with_subelements", "write a list of mappings into `loop`"),
];

/// Modules.
const MODULES: &[(&str, &str)] = &[
    ("apt", PACKAGE),
    ("yum", PACKAGE),
    ("dnf", PACKAGE),
    ("apt_repository", REPOSITORY),
    ("deb822_repository", REPOSITORY),
    ("yum_repository", REPOSITORY),
    ("apt_key", KEY),
    ("rpm_key", KEY),
    ("systemd", SERVICE),
    ("systemd_service", SERVICE),
    ("sysvinit", SERVICE),
    ("shell", SHELL),
    ("raw", SHELL),
    ("script", "put it on the host with `copy` and run it with `command`"),
    ("lineinfile", LINES),
    ("blockinfile", LINES),
    ("replace", WHOLE_FILE),
    ("ini_file", WHOLE_FILE),
    ("get_url", FETCH),
    ("unarchive", FETCH),
    ("git", FETCH),
    ("synchronize", FETCH),
    ("fetch", "nothing is brought to this machine; use scp"),
    ("uri", "use `http`, which gets a page and looks at it; to send something use `command` with curl"),
    ("authorized_key", "use `user: {name: NAME, authorized_keys: [KEY]}`"),
    ("group", UNLESS),
    ("pip", UNLESS),
    ("seboolean", "use `selinux: {booleans: {NAME: true}}`"),
    ("apache2_module", "use `command: a2enmod NAME` with `creates: /etc/apache2/mods-enabled/NAME.load`"),
    ("cron", "write a file below /etc/cron.d with `copy`"),
    ("firewalld", "use `firewall`"),
    ("ufw", "use `firewall`, which knows firewalld"),
    ("parted", "use `partition`"),
    ("stat", "`command` takes `creates` and `removes`"),
    ("debug", "drop it: every result is shown, and logged"),
    ("set_fact", FACT),
    ("include_vars", FACT),
    ("assert", "use `command: \"true\"` with `failed_when`"),
    ("fail", "use `command: \"false\"` with `when`"),
    ("pause", "use `wait_for`, which ends as soon as it can"),
    ("meta", "handlers run at the end of the play; split it where they have to run earlier"),
    ("setup", "facts are always there, at no cost; drop it"),
    ("ping", "hosts answer before anything is done; drop it"),
    ("reboot", "a reboot of a pair is a switchover first; see `futago cluster standby`"),
    ("add_host", "an inventory is one pair, and its witness"),
    ("include_tasks", "use `import_tasks`"),
    ("include_role", ROLE),
    ("import_role", ROLE),
];

/// Modules that are here under the name that they have in a collection there.
const COLLECTIONS: &[(&str, &str)] = &[
    ("ansible.posix.mount", "write `mount`: there are no collections"),
    ("ansible.posix.selinux", "write `selinux`: there are no collections"),
    ("ansible.posix.sysctl", "write `sysctl`: there are no collections"),
    ("community.general.filesystem", "write `filesystem`: there are no collections"),
    ("community.mysql.mysql_db", "write `mysql_db`: there are no collections"),
    ("community.mysql.mysql_query", "write `mysql_query`: there are no collections"),
    ("community.mysql.mysql_user", "write `mysql_user`: there are no collections"),
];

/// The last part of a name with a collection, such as `community.mysql.mysql_db`; else the name itself.
fn last(key: &str) -> &str {
    if key.matches('.').count() == 2 { key.rsplit('.').next().unwrap_or(key) } else { key }
}

/// The advice about a key, when there is one.
pub(crate) fn advice(key: &str) -> Option<&'static str> {
    let known = |table: &[(&str, &'static str)], word: &str| {
        table.iter().find(|(name, _)| *name == word).map(|(_, advice)| *advice)
    };
    known(KEYS, key).or_else(|| known(COLLECTIONS, key)).or_else(|| known(MODULES, last(key)))
}

/// Ansible's words get advice of their own instead of "unknown key".
pub(super) fn report(node: &Node, problems: &mut Problems) {
    for entry in node.entries() {
        if let Some(advice) = advice(&entry.key) {
            let problem = Problem::new(&entry.place, format!("{:?} does not exist here", entry.key));
            problems.push(problem.hint(advice));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_that_exists_here_is_answered_with_advice() {
        let modules = crate::doc::modules();
        let words = super::super::task::TASK.iter().chain(super::super::read::PLAY).copied();
        for word in words.chain(modules.iter().map(|module| module.name)) {
            assert_eq!(advice(word), None, "{word}");
        }
        assert_eq!(advice("ansible.builtin.apt"), Some(PACKAGE));
        assert_eq!(advice("apt.d"), None, "a collection has two names");
        for (full, advice) in COLLECTIONS {
            assert!(modules.iter().any(|module| module.name == last(full)), "{full}");
            assert!(advice.starts_with(&format!("write `{}`", last(full))), "{full}: {advice}");
        }
    }

    #[test]
    fn advice_is_there_once_for_each_word() {
        let mut words: Vec<&str> =
            KEYS.iter().chain(MODULES).chain(COLLECTIONS).map(|(word, _)| *word).collect();
        words.sort_unstable();
        let all = words.len();
        words.dedup();
        assert_eq!(words.len(), all);
    }
}
