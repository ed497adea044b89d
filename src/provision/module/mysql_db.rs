//! A database of MariaDB or MySQL on this host.

use std::path::PathBuf;

use serde::Deserialize;

use super::Module;
use super::context::Context;
use super::error::Error;
use super::mysql::{self, Client};
use super::schema::{ArgError, Kind, Schema};
use super::state::State;
use crate::protocol::Outcome;

/// Databases of the server itself.
const OWN: &[&str] = &["mysql", "information_schema", "performance_schema", "sys"];
/// What a plan says before there is a server.
const NOT_YET: &str = "MariaDB does not run here yet";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    name: String,
    character_set: Option<String>,
    collation: Option<String>,
    socket: Option<PathBuf>,
    #[serde(default)]
    state: State,
}

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "mysql_db",
        summary: "Keeps a database of MariaDB or MySQL, over the socket of this host and as root.",
        returns: &[],
        example: "\
- name: Database of the shop
  mysql_db: {name: shop, character_set: utf8mb4}
",
        keys: &[
            Schema::must("name", Kind::Text, "its name"),
            Schema::may(
                "character_set",
                Kind::Text,
                "of its new tables, such as utf8mb4 (default: the server's)",
            ),
            Schema::may(
                "collation",
                Kind::Text,
                "how its new tables are sorted (default: as the character set says)",
            ),
            Schema::may("socket", Kind::Path, mysql::SOCKET_HELP),
            Schema::may(
                "state",
                Kind::Choice(&["present", "absent"]),
                "present (default) or absent: the database and all that is in it is lost",
            ),
        ],
    };

    fn validate(&self) -> Vec<ArgError> {
        let mut errors: Vec<ArgError> =
            mysql::check_name("mysql_db", "name", &self.name).into_iter().collect();
        if OWN.iter().any(|own| self.name.eq_ignore_ascii_case(own)) {
            let message = format!("module mysql_db leaves {} alone: it is the server's own", self.name);
            errors.push(ArgError::at("name", message));
        }
        errors.extend(mysql::check_word("mysql_db", "character_set", self.character_set.as_deref()));
        errors.extend(mysql::check_word("mysql_db", "collation", self.collation.as_deref()));
        if self.state == State::Absent && (self.character_set.is_some() || self.collation.is_some()) {
            errors.push(ArgError::whole(
                "module mysql_db takes no character_set or collation with state absent",
            ));
        }
        errors
    }

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        let client = Client::find(self.socket.as_deref());
        self.bring(&client, context)
    }
}

impl Args {
    fn bring(&self, client: &Client, context: &Context) -> Result<Outcome, Error> {
        let name = &self.name;
        let sql = format!(
            "SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME, \
             (SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = SCHEMA_NAME) \
             FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {};\n",
            mysql::text(name)
        );
        let Some(rows) = client.rows(&sql, &format!("look for the database {name}"), context.check)? else {
            return Ok(Context::unknown(NOT_YET));
        };
        // The server may compare without regard to capitals.
        let found = rows.iter().find(|row| row.first() == Some(name));
        let field = |index: usize| found.and_then(|row| row.get(index)).map_or("", String::as_str);
        match (self.state, found) {
            (State::Absent, None) => Ok(Context::same(format!("there is no database {name}"))),
            (State::Absent, Some(_)) => {
                if !context.check {
                    client.run(
                        &format!("DROP DATABASE {};\n", mysql::name(name)),
                        &format!("remove the database {name}"),
                    )?;
                }
                let line = format!("- database {name} with {} tables", field(3));
                Ok(context.changed(format!("database {name} removed"), &[line]))
            }
            (State::Present, None) => {
                if !context.check {
                    let sql = format!("CREATE DATABASE {}{};\n", mysql::name(name), self.options());
                    client.run(&sql, &format!("make the database {name}"))?;
                }
                Ok(context.changed(format!("database {name} made"), &[format!("+ database {name}")]))
            }
            (State::Present, Some(_)) => self.change(field(1), field(2), client, context),
        }
    }

    /// Brings the defaults of a database that is there to what is asked for; its tables keep their own.
    fn change(
        &self,
        set: &str,
        collation: &str,
        client: &Client,
        context: &Context,
    ) -> Result<Outcome, Error> {
        let name = &self.name;
        let mut lines = Vec::new();
        for (what, found, wanted) in
            [("character set", set, &self.character_set), ("collation", collation, &self.collation)]
        {
            if let Some(wanted) = wanted.as_ref().filter(|wanted| !is_same(wanted, found)) {
                lines.push(format!("~ {what} {found} -> {wanted}"));
            }
        }
        if lines.is_empty() {
            return Ok(Context::same(format!("database {name} is there")));
        }
        if !context.check {
            let sql = format!("ALTER DATABASE {}{};\n", mysql::name(name), self.options());
            client.run(&sql, &format!("change the database {name}"))?;
        }
        Ok(context.changed(format!("database {name} changed; its tables keep what they have"), &lines))
    }

    fn options(&self) -> String {
        let option = |word: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!(" {word} {value}")).unwrap_or_default()
        };
        option("CHARACTER SET", &self.character_set) + &option("COLLATE", &self.collation)
    }
}

/// `utf8` is the old name of `utf8mb3`, also at the begin of collations.
fn is_same(wanted: &str, found: &str) -> bool {
    let full = |name: &str| {
        let name = name.to_ascii_lowercase();
        match name.strip_prefix("utf8") {
            Some(rest) if rest.is_empty() || rest.starts_with('_') => format!("utf8mb3{rest}"),
            _ => name,
        }
    };
    full(wanted) == full(found)
}

#[cfg(test)]
mod tests {
    use super::super::testing::mistakes;
    use super::*;
    use serde_json::{Value, json};
    use std::fs;
    use tempfile::TempDir;

    /// A client with one database in a file: it answers what is asked and notes what it is told to do.
    struct Stand(TempDir);

    impl Stand {
        fn new(database: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("rows"), database).unwrap();
            let script = "cd \"$(dirname \"$0\")\" || exit 9\nsql=$(sed 1d)\n\
                          case $sql in SELECT*) cat rows;; *) echo \"$sql\" >>done; cat next >rows 2>/dev/null;; esac\n";
            fs::write(folder.path().join("client"), script).unwrap();
            fs::write(folder.path().join("next"), "").unwrap();
            Self(folder)
        }

        /// What it has after it was told to do something.
        fn then(self, rows: &str) -> Self {
            fs::write(self.0.path().join("next"), rows).unwrap();
            self
        }

        fn run(&self, args: &Value, check: bool) -> Outcome {
            let client = Client::standing_in(vec!["sh".into(), self.0.path().join("client").into()]);
            let args: Args = super::super::parse(args.as_object().unwrap()).unwrap();
            args.bring(&client, &Context::new(check, true, &mut |_| {})).unwrap()
        }

        /// What it was told to do, and the difference that was shown.
        fn converges(&self, args: &Value) -> (String, String) {
            assert!(self.run(args, true).changed, "the plan of {args}");
            assert!(!self.0.path().join("done").exists(), "a plan does nothing");
            let done = self.run(args, false);
            assert!(done.changed, "{args}");
            for check in [true, false] {
                assert!(!self.run(args, check).changed, "again {args}");
            }
            (fs::read_to_string(self.0.path().join("done")).unwrap(), done.diff.unwrap())
        }
    }

    #[test]
    fn a_database_is_made_once() {
        let stand = Stand::new("").then("sh`op\tutf8mb4\tutf8mb4_general_ci\t0\n");
        let (sql, diff) = stand.converges(&json!({"name": "sh`op", "character_set": "utf8mb4"}));
        assert_eq!(
            (sql.as_str(), diff.as_str()),
            ("CREATE DATABASE `sh``op` CHARACTER SET utf8mb4;\n", "+ database sh`op")
        );
    }

    #[test]
    fn defaults_are_changed_only_when_they_differ() {
        let stand =
            Stand::new("shop\tlatin1\tlatin1_swedish_ci\t3\n").then("shop\tutf8mb3\tutf8mb3_general_ci\t3\n");
        let args = json!({"name": "shop", "character_set": "utf8", "collation": "utf8_general_ci"});
        let (sql, diff) = stand.converges(&args);
        assert_eq!(sql, "ALTER DATABASE `shop` CHARACTER SET utf8 COLLATE utf8_general_ci;\n");
        assert_eq!(diff, "~ character set latin1 -> utf8\n~ collation latin1_swedish_ci -> utf8_general_ci");
        assert!(!stand.run(&json!({"name": "shop"}), false).changed);
    }

    #[test]
    fn a_removal_tells_how_much_is_lost() {
        let stand = Stand::new("shop\tutf8mb4\tutf8mb4_general_ci\t12\n");
        let (sql, diff) = stand.converges(&json!({"name": "shop", "state": "absent"}));
        assert_eq!(
            (sql.as_str(), diff.as_str()),
            ("DROP DATABASE `shop`;\n", "- database shop with 12 tables")
        );
    }

    #[test]
    fn a_plan_without_a_server_does_not_know() {
        let none = Client::standing_in(vec!["/no/such/client".into()]);
        let args: Args = super::super::parse(json!({"name": "shop"}).as_object().unwrap()).unwrap();
        assert!(args.bring(&none, &Context::new(true, true, &mut |_| {})).unwrap().unknown);
        let error = args.bring(&none, &Context::new(false, true, &mut |_| {})).unwrap_err();
        assert_eq!(error.to_string(), "look for the database shop: MariaDB's client is not installed");
    }

    #[test]
    fn wrong_arguments_are_told_before_contact() {
        let cases = [
            (
                json!({"name": ""}),
                "argument \"name\" of module mysql_db must be a name of 1 to 80 characters without control characters",
            ),
            (json!({"name": "MySQL"}), "module mysql_db leaves MySQL alone: it is the server's own"),
            (
                json!({"name": "a", "character_set": "utf8; DROP"}),
                "\"utf8; DROP\" in \"character_set\" of module mysql_db is not one word, such as utf8mb4",
            ),
            (
                json!({"name": "a", "collation": "x", "state": "absent"}),
                "module mysql_db takes no character_set or collation with state absent",
            ),
            (
                json!({"name": "a", "login_unix_socket": "/x"}),
                "module mysql_db has no argument \"login_unix_socket\"; did you mean \"socket\"?",
            ),
        ];
        for (args, wanted) in cases {
            assert_eq!(mistakes("mysql_db", args.clone()), [wanted], "{args}");
        }
    }
}
