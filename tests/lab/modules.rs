//! Modules that work on users, files and databases, on real hosts: they do what they say, a second run changes nothing,
//! and no secret is shown on the way.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{Lab, possible};

/// With the characters that shells, option files and SQL take for their own.
const SECRETS: &str = r#"token: correct-horse-token
deploy_hash: "$6$abcdefgh$1uXnLPTLQhLsFzYbN0dyQrWmF1Zz1"
shop_password: "tiger'and\\dragon"
odd: "o\"dd `pass` $(x) \\ ä"
"#;

#[test]
fn lines_users_and_databases_are_kept_and_a_second_run_changes_nothing() {
    if !possible() {
        return;
    }
    let lab = Lab::up(&["--disk-size", "1G"]);
    let playbooks = lab.folder().join("playbooks");
    fs::create_dir_all(&playbooks).expect("make a folder");
    fs::write(playbooks.join("modules.yml"), include_str!("modules.yml")).expect("write the playbook");
    let secrets = lab.folder().join("secrets.yml");
    fs::write(&secrets, SECRETS).expect("write the secrets");
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o600)).expect("make them private");
    let inventory = lab.folder().join("inventory.yml");
    let text = fs::read_to_string(&inventory).expect("read the inventory");
    fs::write(&inventory, format!("{text}secrets: secrets.yml\n")).expect("write the inventory");

    let first = lab.apply(&["modules", "--diff"]);
    for secret in ["correct-horse", "uXnLPTLQ", "tiger", "`pass`"] {
        assert!(!first.contains(secret), "{first}");
    }
    for host in ["ha-a", "ha-b"] {
        let says = |script: &str| lab.run_in(host, script);
        assert_eq!(says("grep --count '^PermitRootLogin prohibit-password$' /etc/ssh/sshd_config"), "1");
        assert_eq!(
            says("stat --format '%a %U' /etc/shop.conf; cat /etc/shop.conf"),
            "600 root\ntoken=correct-horse-token"
        );
        assert_eq!(says("id --name --groups deploy"), "deploy adm www-data");
        assert_eq!(
            says("stat --format '%a %U' ~deploy/.ssh ~deploy/.ssh/authorized_keys"),
            "700 deploy\n600 deploy"
        );
        assert_eq!(says("grep --count '^deploy:.6.abcdefgh.1uXn' /etc/shadow"), "1");
        assert_eq!(says("cat /proc/sys/net/ipv4/ip_local_port_range"), "20000\t60999");
        let shop = "MYSQL_PWD=\"tiger'and\\\\dragon\" mariadb --no-defaults --user shop --batch --skip-column-names shop";
        assert_eq!(says(&format!("{shop} --execute 'SELECT name, value FROM settings'")), "open\tyes");
        assert_eq!(
            says("runuser -u www-data -- mariadb --no-defaults --execute 'SELECT 1' shop | tail -n 1"),
            "1"
        );
    }
    let second = lab.apply(&["modules"]);
    assert_eq!(second.matches("changed=0 failed=0").count(), 2, "{second}");
}
