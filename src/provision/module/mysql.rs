//! MariaDB or MySQL on this host, spoken to through its own client, over the socket and as root.
//!
//! Statements go to the client's input: nothing of them is in the list of processes. Names and texts in them are
//! quoted here and nowhere else.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::error::Error;
use super::exec::{self, Finished};
use super::schema::ArgError;

/// The client under its two names; MariaDB's is the first one.
const PROGRAMS: &[&str] = &["mariadb", "mysql"];
/// Bound for what is asked and for a statement that changes accounts or makes a database.
const STATEMENT: Duration = Duration::from_secs(300);
/// Before every statement of ours: backslashes escape, `"` is no name, names are shown in quotes.
const MODE: &str = "SET SESSION sql_mode = '', sql_quote_show_create = 1;\n";
/// The longest name of a database (64) or an account (MariaDB: 80, MySQL: 32).
const MAX_NAME: usize = 80;
/// Numbers of the server's errors: `Can't connect` by socket and by network.
const NOT_RUNNING: &[u32] = &[2002, 2003];
const ACCESS_DENIED: u32 = 1045;
/// No access to the server, a database or a table, or no privilege for a statement.
const NO_RIGHT: &[u32] = &[ACCESS_DENIED, 1044, 1142, 1227, 1698];
/// What the client gives for every argument `socket`.
pub(super) const SOCKET_HELP: &str = "the server's socket (default: as the client is configured)";

/// The client of this host.
#[derive(Debug, Clone)]
pub(super) struct Client {
    words: Vec<OsString>,
    socket: Option<PathBuf>,
}

/// What the client said to some statements.
#[derive(Debug)]
pub(super) enum Answer {
    /// Rows of all results, one after the other.
    Rows(Vec<Vec<String>>),
    /// The server does not run, or is not installed: a plan goes on all the same.
    Absent(String),
    /// The number of the server's error, and its text.
    Refused(Option<u32>, String),
}

impl Client {
    /// The client that is installed.
    pub(super) fn find(socket: Option<&Path>) -> Self {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let is_there =
            |name: &&&str| std::env::split_paths(&folders).any(|folder| folder.join(name).exists());
        let name = PROGRAMS.iter().find(is_there).unwrap_or(&"mariadb");
        Self { words: vec![(*name).into()], socket: socket.map(Path::to_owned) }
    }

    /// A stand-in for the client.
    #[cfg(test)]
    pub(super) fn standing_in(words: Vec<OsString>) -> Self {
        Self { words, socket: None }
    }

    /// Asks; errors of the server are part of the answer.
    pub(super) fn ask(&self, sql: &str) -> Result<Answer, Error> {
        Self::say(self.command(&[]), &format!("{MODE}{sql}"), STATEMENT)
    }

    /// Runs statements of somebody else in a database: in the server's own mode, with a bound of theirs.
    pub(super) fn ask_in(&self, database: Option<&str>, sql: &str, bound: Duration) -> Result<Answer, Error> {
        let words: Vec<String> = database.map(|name| format!("--database={name}")).into_iter().collect();
        Self::say(self.command(&words), sql, bound)
    }

    /// Whether somebody can log in over the socket. The password is in the client's environment, which only root can
    /// read, and in no file.
    pub(super) fn can_log_in(&self, user: &str, password: &str) -> Result<bool, Error> {
        // What root's own configuration says would win.
        let mut command = self.command(&["--no-defaults".to_owned(), format!("--user={user}")]);
        command.env("MYSQL_PWD", password);
        match Self::say(command, "SELECT 1;\n", STATEMENT)? {
            Answer::Rows(_) => Ok(true),
            Answer::Refused(Some(ACCESS_DENIED), _) => Ok(false),
            other => Err(other.into_error(&format!("log in as {user}"))),
        }
    }

    fn command(&self, first: &[String]) -> Command {
        let mut words = self.words.iter();
        let mut command = Command::new(words.next().map_or(OsStr::new("mariadb"), OsString::as_os_str));
        // Whoever became root may have brought the configuration of somebody else.
        command.env("LC_ALL", "C").env("HOME", "/root").current_dir("/").args(words).args(first);
        command.args([
            "--batch",
            "--skip-column-names",
            "--default-character-set=utf8mb4",
            "--connect-timeout=10",
        ]);
        match &self.socket {
            Some(socket) => command.arg("--socket").arg(socket),
            None => command.arg("--protocol=socket"),
        };
        command
    }

    fn say(mut command: Command, sql: &str, bound: Duration) -> Result<Answer, Error> {
        let finished = match exec::run(&mut command, Some(sql.as_bytes().to_vec()), bound, &mut |_| {}) {
            Err(Error::Process(base::process::ProcessError::Start { source, .. }))
                if source.kind() == io::ErrorKind::NotFound =>
            {
                return Ok(Answer::Absent("MariaDB's client is not installed".into()));
            }
            finished => finished?,
        };
        Ok(answer(&finished, bound))
    }

    /// Asks; `None` in a plan when there is no server yet.
    pub(super) fn rows(&self, sql: &str, what: &str, check: bool) -> Result<Option<Vec<Vec<String>>>, Error> {
        match self.ask(sql)? {
            Answer::Rows(rows) => Ok(Some(rows)),
            Answer::Absent(_) if check => Ok(None),
            other => Err(other.into_error(what)),
        }
    }

    /// Has the server do something.
    pub(super) fn run(&self, sql: &str, what: &str) -> Result<(), Error> {
        match self.ask(sql)? {
            Answer::Rows(_) => Ok(()),
            other => Err(other.into_error(what)),
        }
    }
}

impl Answer {
    /// Without a text that must not be shown and that nobody else knows of, such as the hash of a password.
    pub(super) fn without(self, hidden: &str) -> Self {
        match self {
            Self::Refused(number, text) if !hidden.is_empty() => {
                Self::Refused(number, text.replace(hidden, "********"))
            }
            other => other,
        }
    }

    /// Why something was not done: what was attempted, in bare words.
    pub(super) fn into_error(self, what: &str) -> Error {
        match self {
            Self::Rows(_) => Error::Args(format!("{what}: the server did not answer as expected")),
            Self::Absent(why) => {
                let hint = "start it with the service module in an earlier task; on a pair with a stack it runs on the \
                            active host only: when: active.here";
                Error::refused(format!("{what}: {why}"), hint)
            }
            Self::Refused(number, text) => Error::Late {
                what: format!("{what}: the server refuses it"),
                output: text,
                hint: match number {
                    Some(number) if NO_RIGHT.contains(&number) => {
                        "root logs in by the server's socket, or as /root/.my.cnf says; is that allowed to do this?"
                    }
                    _ => "correct the task by what the server says",
                }
                .into(),
            },
        }
    }
}

fn answer(finished: &Finished, bound: Duration) -> Answer {
    if finished.status.is_some_and(|status| status.success()) {
        let text = String::from_utf8_lossy(&finished.stdout);
        return Answer::Rows(text.lines().map(|line| line.split('\t').map(unescaped).collect()).collect());
    }
    if finished.status.is_none() {
        return Answer::Refused(None, format!("no answer after {} s", bound.as_secs()));
    }
    let said = String::from_utf8_lossy(&finished.stderr);
    // Before its error the client repeats the statement, with all that is in it.
    let from = said.lines().position(|line| line.starts_with("ERROR "));
    let text = said.lines().skip(from.unwrap_or(0)).collect::<Vec<_>>().join("\n").trim_end().to_owned();
    // `ERROR 1045 (28000) at line 1: Access denied for user …`
    let number = text.lines().find_map(|line| {
        line.strip_prefix("ERROR ")?.split_whitespace().next()?.trim_end_matches(':').parse().ok()
    });
    if number.is_some_and(|number| NOT_RUNNING.contains(&number)) {
        return Answer::Absent(format!("MariaDB does not run here ({text})"));
    }
    Answer::Refused(number, text)
}

/// A field as the client writes it in batches: `\t`, `\n`, `\0` and `\\` stand for themselves.
fn unescaped(field: &str) -> String {
    let mut out = String::with_capacity(field.len());
    let mut characters = field.chars();
    while let Some(c) = characters.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match characters.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('0') => out.push('\0'),
            Some(other) => out.push(other),
            None => out.push('\\'),
        }
    }
    out
}

/// A text in SQL, in our mode.
pub(super) fn text(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('\'');
    for c in value.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\0"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// A name in SQL: of a database, a table.
pub(super) fn name(value: &str) -> String {
    format!("`{}`", value.replace('`', "``"))
}

/// An account in SQL: `'shop'@'localhost'`.
pub(super) fn account(user: &str, host: &str) -> String {
    format!("{}@{}", text(user), text(host))
}

/// Mistakes in a name that is going to be quoted.
pub(super) fn check_name(module: &str, key: &str, value: &str) -> Option<ArgError> {
    let wrong = value.is_empty() || value.chars().count() > MAX_NAME || value.chars().any(char::is_control);
    let message = format!(
        "argument \"{key}\" of module {module} must be a name of 1 to {MAX_NAME} characters without control characters"
    );
    wrong.then(|| ArgError::at(key, message))
}

/// Mistakes in the name of a character set or collation, which is not quoted.
pub(super) fn check_word(module: &str, key: &str, value: Option<&str>) -> Option<ArgError> {
    let fits =
        |value: &str| !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let wrong = value.filter(|value| !fits(value))?;
    Some(ArgError::at(
        key,
        format!("\"{wrong}\" in \"{key}\" of module {module} is not one word, such as utf8mb4"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_names_cannot_leave_their_quotes() {
        assert_eq!(text("it's"), "'it''s'");
        assert_eq!(text("a\\"), "'a\\\\'");
        assert_eq!(text("\\' OR 1 -- "), "'\\\\'' OR 1 -- '");
        assert_eq!(text("a\nb\0"), "'a\\nb\\0'");
        assert_eq!(name("a`b"), "`a``b`");
        assert_eq!(name("a\\"), "`a\\`");
        assert_eq!(account("o'neil", "%"), "'o''neil'@'%'");
    }

    #[test]
    fn fields_are_read_as_the_client_writes_them() {
        assert_eq!(unescaped("`my\\\\_db`.*"), "`my\\_db`.*");
        assert_eq!(unescaped("a\\tb\\nc"), "a\tb\nc");
        assert_eq!(unescaped("plain"), "plain");
    }

    #[test]
    fn a_server_that_does_not_run_is_told_from_one_that_refuses() {
        let say = |line: &str| {
            let script = format!("echo \"{line}\" >&2; exit 1");
            Client::standing_in(vec!["sh".into(), "-c".into(), script.into()]).ask("SELECT 1").unwrap()
        };
        let absent = say(
            "ERROR 2002 (HY000): Can't connect to local server through socket '/run/mysqld/mysqld.sock' (2)",
        );
        let error = absent.into_error("make the database shop");
        assert!(
            error.to_string().starts_with("make the database shop: MariaDB does not run here"),
            "{error}"
        );
        let Answer::Refused(number, text) = say("ERROR 1064 (42000) at line 2: You have an error") else {
            panic!()
        };
        assert_eq!((number, text.as_str()), (Some(1064), "ERROR 1064 (42000) at line 2: You have an error"));
        let echo = say(
            "--------------\nCREATE USER a IDENTIFIED BY 'x'\n--------------\n\nERROR 1396 (HY000): near 'x'",
        );
        let Answer::Refused(_, text) = echo.without("x") else { panic!() };
        assert_eq!(text, "ERROR 1396 (HY000): near '********'");
        let none = Client::standing_in(vec!["/no/such/client".into()]);
        assert!(matches!(none.ask("SELECT 1").unwrap(), Answer::Absent(_)));
        assert_eq!(none.rows("SELECT 1", "ask", true).unwrap(), None);
        assert!(none.rows("SELECT 1", "ask", false).is_err());
    }

    #[test]
    fn statements_go_to_the_input_and_not_among_the_words() {
        let script = "echo \"$*\"; cat";
        let client = Client::standing_in(vec!["sh".into(), "-c".into(), script.into(), "client".into()]);
        let Answer::Rows(rows) = client.ask("SELECT 'secret'").unwrap() else { panic!() };
        assert_eq!(
            rows[0],
            [
                "--batch --skip-column-names --default-character-set=utf8mb4 --connect-timeout=10 --protocol=socket"
            ]
        );
        assert_eq!(rows.last().unwrap(), &["SELECT 'secret'"]);
    }
}
