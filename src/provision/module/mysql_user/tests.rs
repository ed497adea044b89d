//! Golden cases: what a server says of an account and arguments in, statements out.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::super::testing::mistakes;
use super::*;

const MARIADB: &str = "10.11.6-MariaDB-0+deb12u1";
/// Of `tiger-and-dragon`.
const PASSWORD: &str = "tiger-and-dragon";

/// A client that answers from files, and takes the next ones after it was told to do something.
struct Stand(TempDir);

impl Stand {
    /// The rows of mysql.user and of SHOW GRANTS, now and after a change.
    fn new(now: (&str, &str), then: (&str, &str)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = "\
cd \"$(dirname \"$0\")\" || exit 9
sql=$(cat)
case $sql in
  *'SELECT VERSION'*) cat version user ;;
  *'SHOW GRANTS'*) cat grants ;;
  'SELECT 1;') echo \"$*\" >words; [ \"$MYSQL_PWD\" = right-password ] ||
    { echo 'ERROR 1045 (28000): Access denied' >&2; exit 1; } ;;
  *) echo \"$sql\" | sed 1d >>done; mv then.user user; mv then.grants grants ;;
esac
";
        let files = [
            ("client", script),
            ("version", &format!("{MARIADB}\n")),
            ("user", now.0),
            ("grants", now.1),
            ("then.user", then.0),
            ("then.grants", then.1),
        ];
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Self(folder)
    }

    fn on(self, version: &str) -> Self {
        fs::write(self.0.path().join("version"), format!("{version}\n")).unwrap();
        self
    }

    fn try_run(&self, args: &Value, check: bool) -> Result<Outcome, Error> {
        let client = Client::standing_in(vec!["sh".into(), self.0.path().join("client").into()]);
        let args: Args = super::super::parse(args.as_object().unwrap()).unwrap();
        args.bring(&client, &Context::new(check, true, &mut |_| {}))
    }

    fn run(&self, args: &Value, check: bool) -> Outcome {
        self.try_run(args, check).unwrap()
    }

    /// The statements, and the difference that was shown.
    fn converges(&self, args: &Value) -> (String, String) {
        assert!(self.run(args, true).changed, "the plan of {args}");
        assert!(!self.0.path().join("done").exists(), "a plan does nothing");
        let done = self.run(args, false);
        assert!(done.changed && !format!("{done:?}").contains(PASSWORD), "{done:?}");
        for check in [true, false] {
            assert!(!self.run(args, check).changed, "again {args}");
        }
        (fs::read_to_string(self.0.path().join("done")).unwrap(), done.diff.unwrap())
    }
}

fn row(plugin: &str, string: &str) -> String {
    format!("{plugin}\t{string}\n")
}

#[test]
fn the_hash_is_that_of_the_server() {
    // SELECT PASSWORD('password')
    assert_eq!(native("password"), "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19");
}

#[test]
fn an_account_is_made_with_its_privileges_and_mariadb_is_told_only_the_hash() {
    let hash = native(PASSWORD);
    let grants =
        "GRANT USAGE ON *.* TO `shop`@`localhost`\nGRANT ALL PRIVILEGES ON `shop`.* TO `shop`@`localhost`\n";
    let user = row("mysql_native_password", &hash);
    let stand = Stand::new(("", ""), (&user, grants));
    let args = json!({"name": "shop", "password": PASSWORD, "privileges": {"shop.*": "ALL"}});
    let (sql, diff) = stand.converges(&args);
    assert_eq!(
        sql,
        format!(
            "CREATE USER 'shop'@'localhost' IDENTIFIED BY PASSWORD '{hash}';\n\
             GRANT ALL PRIVILEGES ON `shop`.* TO 'shop'@'localhost';\n"
        )
    );
    assert_eq!(diff, "+ account shop@localhost\n+ ALL PRIVILEGES on `shop`.*");
}

#[test]
fn only_another_password_is_set_and_it_is_not_shown() {
    let (old, new) =
        (row("mysql_native_password", &native("old")), row("mysql_native_password", &native(PASSWORD)));
    let stand = Stand::new((&old, ""), (&new, ""));
    let (sql, diff) = stand.converges(&json!({"name": "o'neil", "host": "10.0.0.%", "password": PASSWORD}));
    let wanted = format!("ALTER USER 'o''neil'@'10.0.0.%' IDENTIFIED BY PASSWORD '{}';\n", native(PASSWORD));
    assert_eq!((sql, diff.as_str()), (wanted, "~ password"));
}

#[test]
fn the_socket_takes_the_place_of_a_password() {
    let (old, new) = (row("mysql_native_password", "*X"), row("unix_socket", ""));
    let stand = Stand::new((&old, ""), (&new, ""));
    let (sql, diff) = stand.converges(&json!({"name": "www-data", "unix_socket": true}));
    assert_eq!(sql, "ALTER USER 'www-data'@'localhost' IDENTIFIED VIA unix_socket;\n");
    assert_eq!(diff, "~ login by socket");
    let other = Stand::new((&new, ""), (&old, ""));
    assert!(other.run(&json!({"name": "www-data", "password": PASSWORD}), true).changed);
}

#[test]
fn mysql_is_spoken_to_in_its_own_words_and_another_hash_is_tried_by_logging_in() {
    let user = row("caching_sha2_password", "$A$005$x");
    let stand = Stand::new((&user, ""), (&user, "")).on("8.0.36");
    assert!(!stand.run(&json!({"name": "shop", "password": "right-password"}), false).changed);
    let words = fs::read_to_string(stand.0.path().join("words")).unwrap();
    assert!(words.starts_with("--no-defaults --user=shop ") && !words.contains("right-password"), "{words}");
    assert!(stand.run(&json!({"name": "shop", "password": "it's"}), false).changed);
    let sql = fs::read_to_string(stand.0.path().join("done")).unwrap();
    assert_eq!(sql, "ALTER USER 'shop'@'localhost' IDENTIFIED BY 'it''s';\n");
    let far = stand.try_run(&json!({"name": "shop", "host": "10.0.0.1", "password": "x"}), true).unwrap_err();
    assert_eq!(far.to_string(), "compare the password of shop@10.0.0.1: it logs in by caching_sha2_password");
}

#[test]
fn an_account_without_any_way_to_log_in_is_not_made() {
    let stand = Stand::new(("", ""), ("", ""));
    let error = stand.try_run(&json!({"name": "shop"}), true).unwrap_err();
    assert_eq!(error.to_string(), "make the account shop@localhost: anybody could log in as it");
}

#[test]
fn privileges_that_the_server_shows_otherwise_are_told_and_not_granted_for_ever() {
    let user = row("unix_socket", "");
    let stand = Stand::new((&user, ""), (&user, "GRANT OTHER NAME ON *.* TO `a`@`localhost`\n"));
    let error = stand.try_run(&json!({"name": "a", "privileges": {"*.*": "SOME NAME"}}), false).unwrap_err();
    assert_eq!(error.to_string(), "the server shows other privileges of a@localhost than were granted");
}

#[test]
fn an_account_is_removed_once() {
    let stand = Stand::new((&row("unix_socket", ""), ""), ("", ""));
    let (sql, diff) = stand.converges(&json!({"name": "shop", "host": "%", "state": "absent"}));
    assert_eq!((sql.as_str(), diff.as_str()), ("DROP USER 'shop'@'%';\n", "- account shop@%"));
}

#[test]
fn wrong_arguments_are_told_before_contact() {
    let cases = [
        (
            json!({"name": "a", "password": "x", "unix_socket": true}),
            "module mysql_user takes password or unix_socket, not both",
        ),
        (
            json!({"name": "a", "password": ""}),
            "argument \"password\" of module mysql_user must not be empty",
        ),
        (json!({"name": "root", "state": "absent"}), "module mysql_user does not remove root"),
        (
            json!({"name": "a", "privileges": {}, "state": "absent"}),
            "module mysql_user takes only name and host with state absent",
        ),
        (
            json!({"name": "a", "privileges": {"shop": "ALL"}}),
            "\"shop\" is not an object of privileges; write it as shop.*, shop.orders or *.*",
        ),
        (
            json!({"name": "a\n"}),
            "argument \"name\" of module mysql_user must be a name of 1 to 80 characters without control characters",
        ),
        (
            json!({"name": "a", "priv": "x"}),
            "module mysql_user has no argument \"priv\"; did you mean \"privileges\"?",
        ),
    ];
    for (args, wanted) in cases {
        assert_eq!(mistakes("mysql_user", args.clone()), [wanted], "{args}");
    }
}
