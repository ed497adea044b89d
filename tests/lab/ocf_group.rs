//! A group of Debian's OCF agents, unmodified and without Pacemaker, on a pair of real hosts.

use std::fs;
use std::path::Path;

use crate::harness::{every_drill, possible};
use crate::managed::{Managed, assert_survived, other};

const GROUP: &str = r#"  group:
    - name: mariadb
      class: "ocf:heartbeat:mysql"
      params:
        binary: /usr/sbin/mariadbd
        client_binary: /usr/bin/mariadb
        config: /etc/mysql/my.cnf
        datadir: /srv/data/mysql
        pid: /run/mysqld/mysqld.pid
        socket: /run/mysqld/mysqld.sock
        log: /var/log/mysql.log
        test_user: root
        test_table: mysql.global_priv
    - name: apache
      class: "ocf:heartbeat:apache"
      params: {configfile: /etc/apache2/apache2.conf, envfiles: /etc/apache2/envvars, statusurl: "http://127.0.0.1/", testregex: "This is ha.example.com"}
    - {name: last, class: "ocf:heartbeat:Dummy"}
"#;

#[test]
fn a_group_of_ocf_agents_moves_and_heals_like_any_other() {
    if !every_drill() || !possible() {
        return;
    }
    let pair = Managed::of("default", |project| {
        // They take the places of the stack's own; curl is what Debian's apache agent looks at its page with.
        change(&project.join("inventory.yml"), |text| {
            let text = text.replace("stack: lamp\n", "vars: {packages: [curl]}\nstack: lamp\n");
            text + GROUP
        });
    });
    let from = pair.active();
    let client = pair.client();
    pair.cluster(from, "switchover");
    assert_eq!(pair.active_now(), Some(other(from)));
    client.until_rows(20);
    assert_survived("OCF group: switchover", &client.stop());
    pair.until_protected();

    let client = pair.client();
    let active = pair.active();
    let process = "cat /run/mysqld/mysqld.pid";
    let before = pair.lab.run_in(active, process);
    pair.lab.run_in(active, &format!("kill -KILL {before}"));
    pair.until("the database is started again in place", || {
        let now = pair.lab.try_in(active, process).stdout;
        !now.is_empty() && String::from_utf8_lossy(&now).trim() != before && pair.active_now() == Some(active)
    });
    client.until_rows(20);
    assert_survived("OCF group: database killed", &client.stop());
    pair.until_protected();

    let client = pair.client();
    pair.lab.run("power-off", &[active]);
    pair.until("the other host takes over", || pair.active_now() == Some(other(active)));
    client.until_rows(20);
    assert_survived("OCF group: power loss of the active host", &client.stop());
    pair.restore();
}

fn change(path: &Path, how: impl FnOnce(&str) -> String) {
    let text = fs::read_to_string(path).expect("read a file of the project");
    let changed = how(&text);
    assert_ne!(changed, text, "{}", path.display());
    fs::write(path, changed).expect("change a file of the project");
}
