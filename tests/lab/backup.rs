//! What a stack keeps is saved while it is used, and a new pair begins with it.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Lab, output, possible};
use crate::managed::{Managed, PAIR, assert_unbroken, other};

const FOLDER: &str = "/var/backups/futago";
const BACKUP: &str = "systemctl start futago-backup";
/// An application's own first page, an upload of the web server's, and what must not come back: a session.
const PAGES: &str = "cd /srv/data && echo mine > www/index.php && echo kept > www/kept && \
                     chown www-data:adm www/kept && chmod 0640 www/kept && echo gone > sessions/sess_1";

#[test]
fn a_new_pair_has_all_that_was_acknowledged_before_the_backup() {
    if !possible() {
        return;
    }
    let (name, archive, rows) = saved();
    restored(&name, &archive, &rows);
}

/// Makes backups of a pair in use, one of them in vain. Returns the name and content of the first, and what must be in it.
fn saved() -> (String, Vec<u8>, BTreeSet<u64>) {
    let pair = Managed::up("default");
    let first = pair.active();
    pair.lab.run_in(first, PAGES);
    let client = pair.client();
    client.until_rows(20);
    let rows = acknowledged(&pair.lab);
    pair.lab.run_in(first, BACKUP);
    let names = pair.lab.run_in(first, &format!("ls {FOLDER}"));
    let archive = output(pair.lab.command("exec", &[first, "--", "tar", "-C", FOLDER, "-c", &names])).stdout;

    cut_off(&pair, first);
    let report = {
        pair.restore();
        client.until_rows(10);
        client.stop()
    };
    assert_unbroken("power loss during a backup", &report);
    let partial = pair.lab.run_in(first, &format!("ls {FOLDER}"));
    assert!(partial.starts_with(&format!("{names}\n")) && partial.ends_with("Z.partial"), "{partial}");

    // Each host makes its own, where the stack runs, and clears away its own.
    assert_eq!(pair.active(), other(first));
    pair.lab.run_in(first, BACKUP);
    assert_eq!(pair.lab.run_in(first, &format!("ls {FOLDER}")), partial, "there is nothing to save here");
    pair.lab.run_in(other(first), BACKUP);
    assert_eq!(pair.lab.run_in(other(first), &format!("ls {FOLDER} | grep -c 'Z$'")), "1");
    pair.cluster(first, "switchover");
    pair.lab.run_in(first, BACKUP);
    assert_eq!(pair.lab.run_in(first, &format!("ls {FOLDER} | grep -c 'Z$'; ls {FOLDER} | wc -l")), "2\n2");
    (names, archive, rows)
}

/// The rows that the client has seen acknowledged so far.
fn acknowledged(lab: &Lab) -> BTreeSet<u64> {
    let log = std::fs::read_to_string(lab.folder().join("rows.jsonl")).expect("read the client's log");
    let whole = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    whole.map(|row| row["id"].as_u64().expect("an id")).collect()
}

/// Cuts the power of the active host in the middle of a backup: while it waits for a lock that nobody gives up.
fn cut_off(pair: &Managed, active: &str) {
    let lock = "mariadb --execute 'BACKUP STAGE START; DO SLEEP(600)'";
    pair.lab.run_in(active, &format!("systemd-run --quiet --unit lock {lock}"));
    pair.until("the lock is held", || {
        let list = "mariadb --execute 'SHOW PROCESSLIST'";
        pair.lab.run_in(active, list).contains("SLEEP(600)")
    });
    pair.lab.run_in(active, &format!("{BACKUP} --no-block"));
    pair.until("the backup has begun", || {
        let list = format!("ls {FOLDER}/*.partial/database.mbstream.zst");
        pair.lab.try_in(active, &list).status.success()
    });
    pair.lab.run("power-off", &[active]);
    pair.until("the other host takes over", || pair.active_now() == Some(other(active)));
}

fn restored(name: &str, archive: &[u8], rows: &BTreeSet<u64>) {
    let lab = Lab::up(&["--witness"]);
    lab.run("stack", &["--managed", "default"]);
    bring(&lab, archive, name);
    asked(&lab, "bad");
    let refused = lab.try_apply(&[]);
    let said = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(
        !refused.status.success() && said.contains("database.mbstream.zst is not what the manifest says"),
        "{said}"
    );
    // An attempt that was cut off, of another backup.
    lab.run_in(
        PAIR[0],
        "cd /srv/data && touch restoring && mkdir mysql mysql.new www && touch www/half mysql/half",
    );
    asked(&lab, name);
    lab.apply(&[]);

    let ids = lab.run_in(PAIR[0], "mariadb --skip-column-names --batch --execute 'SELECT id FROM app.row'");
    let there: BTreeSet<u64> = ids.lines().map(|id| id.parse().expect("an id")).collect();
    assert!(rows.len() >= 20, "{rows:?}");
    assert_eq!(rows.difference(&there).collect::<Vec<_>>(), Vec::<&u64>::new());
    let pages = "cd /srv/data && cat www/index.php www/kept && stat -c '%U:%G %a' www/kept sessions && ls sessions . www";
    let pages = lab.run_in(PAIR[0], pages);
    let expected = "mine\nkept\nwww-data:adm 640\nwww-data:www-data 700\n\
                    .:\nlost+found\nmysql\nrestored\nsessions\nwww\n\nsessions:\n\nwww:\nindex.php\nkept\nrow.php";
    assert_eq!(pages, expected);
    let again = lab.apply(&[]);
    let recap: Vec<&str> = again.lines().filter(|line| line.contains(" : ok=")).collect();
    assert!(recap.len() == 3 && recap.iter().all(|line| line.contains("changed=0")), "{again}");
    assert!(again.contains("Restore nothing, for this pair has its data already"), "{again}");
}

/// Puts a backup on the first host, and a damaged copy beside it.
fn bring(lab: &Lab, archive: &[u8], name: &str) {
    let script = format!(
        "tar -C /root -x && cp -r /root/{name} /root/bad && \
         printf x | dd of=/root/bad/database.mbstream.zst bs=1 seek=1000 conv=notrunc"
    );
    let mut command = lab.command("exec", &[PAIR[0], "--", "sh", "-c", &script]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("start futago");
    child.stdin.take().expect("its stdin").write_all(archive).expect("send the backup");
    assert!(child.wait().expect("reap futago").success());
}

/// Asks for a backup of the first host in the inventory.
fn asked(lab: &Lab, name: &str) {
    let path: &Path = &lab.folder().join("inventory.yml");
    let text = std::fs::read_to_string(path).expect("read the inventory");
    let before = text.split("restore:").next().expect("its beginning").trim_end();
    std::fs::write(path, format!("{before}\nrestore: /root/{name}\n")).expect("write the inventory");
}
