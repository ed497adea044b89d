//! Statements of SQL for MariaDB or MySQL on this host.
//!
//! Whether they changed something is what the server says where it counts rows, and yes for everything else. What only
//! reads is run in a plan too, in a transaction that cannot write; nothing else is.

mod statements;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::Module;
use super::context::{Context, with_data};
use super::error::Error;
use super::mysql::{self, Answer, Client};
use super::schema::{ArgError, Kind, Schema};
use crate::protocol::Outcome;
use statements::{Effect, Statement, split};

const DEFAULT_TIMEOUT_SECONDS: u64 = 3600;
const READ_ONLY: &str = "START TRANSACTION READ ONLY;\n";
/// Numbers of the server's errors: no such database, no such table.
const NOT_THERE: &[u32] = &[1049, 1146];
/// The client's own word, not SQL.
const DELIMITER: &str = "DELIMITER";
/// Characters of a statement that are shown.
const SHOWN: usize = 60;
/// Characters of the word that tells our rows from others.
const MARK: usize = 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    query: String,
    unless: Option<String>,
    database: Option<String>,
    timeout: Option<u64>,
    socket: Option<PathBuf>,
}

/// What statements gave.
#[derive(Debug, Default, PartialEq)]
struct Found {
    rows: Vec<Vec<String>>,
    affected: u64,
    changed: bool,
}

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "mysql_query",
        summary: "Runs SQL on MariaDB or MySQL of this host; unless makes it run only when needed.",
        returns: &["rows", "affected"],
        example: "\
- name: Open the shop
  mysql_query:
    database: shop
    query: INSERT INTO settings (name, value) VALUES ('open', 'yes')
    unless: SELECT 1 FROM settings WHERE name = 'open'
",
        keys: &[
            Schema::must("query", Kind::Text, "one or more statements, with ; between them"),
            Schema::may(
                "unless",
                Kind::Text,
                "do not run when this SELECT gives a row; a table that is not there gives none",
            ),
            Schema::may("database", Kind::Text, "the database that names of tables are of"),
            Schema::may("timeout", Kind::Int, "seconds after which waiting ends (default: 3600)"),
            Schema::may("socket", Kind::Path, mysql::SOCKET_HELP),
        ],
    };

    fn validate(&self) -> Vec<ArgError> {
        let mut errors = Vec::new();
        let statements = split(&self.query);
        if statements.is_empty() {
            errors.push(ArgError::at(
                "query",
                "argument \"query\" of module mysql_query has no statement in it",
            ));
        }
        let mut words = statements.iter().filter_map(|statement| statement.text.split_whitespace().next());
        if words.any(|word| word.eq_ignore_ascii_case(DELIMITER)) {
            let message =
                "DELIMITER is a word of the client: bring a file with `copy` and run it with `command`";
            errors.push(ArgError::at("query", message));
        }
        if let Some(unless) = &self.unless {
            let effects: Vec<Effect> = split(unless).iter().map(|statement| statement.effect).collect();
            // What is not known yet is looked at when it is.
            if effects != [Effect::Reads] && unless != crate::step::UNKNOWN {
                let message =
                    "argument \"unless\" of module mysql_query must be one SELECT: it must change nothing";
                errors.push(ArgError::at("unless", message));
            }
        }
        errors.extend(
            self.database.as_deref().and_then(|name| mysql::check_name("mysql_query", "database", name)),
        );
        errors
    }

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        let client = Client::find(self.socket.as_deref());
        self.bring(&client, context)
    }
}

impl Args {
    fn bring(&self, client: &Client, context: &Context) -> Result<Outcome, Error> {
        let statements = split(&self.query);
        let only_reads = statements.iter().all(|statement| statement.effect == Effect::Reads);
        let shown = statements.first().map(shown).unwrap_or_default();
        if let Some(unless) = &self.unless {
            match self.ask(client, &format!("{READ_ONLY}{unless};\n"))? {
                Answer::Rows(rows) if rows.is_empty() => {}
                Answer::Rows(_) => {
                    return Ok(told(Context::same(format!("no need to run {shown}")), &Found::default()));
                }
                Answer::Refused(Some(number), _) if NOT_THERE.contains(&number) => {}
                Answer::Absent(why) if context.check => {
                    return Ok(Context::unknown(format!("would run {shown}: {why}")));
                }
                other => return Err(other.into_error("ask whether to run it")),
            }
        }
        if context.check && !only_reads {
            let message = format!("would run {shown}");
            return Ok(if self.unless.is_some() {
                context.changed(message, &[])
            } else {
                Context::unknown(message)
            });
        }
        let mark =
            base::random::text(MARK).map_err(|error| Error::Args(format!("get randomness: {error}")))?;
        let begin = if only_reads { READ_ONLY } else { "" };
        match self.ask(client, &format!("{begin}{}", script(&statements, &mark)))? {
            Answer::Rows(rows) => {
                let result = result(&statements, rows, &mark);
                let ran = format!("ran {shown}");
                let outcome = if result.changed { context.changed(ran, &[]) } else { Context::same(ran) };
                Ok(told(outcome, &result))
            }
            Answer::Absent(why) if context.check => Ok(Context::unknown(format!("would run {shown}: {why}"))),
            Answer::Refused(Some(number), why) if context.check && NOT_THERE.contains(&number) => {
                Ok(Context::unknown(format!("would run {shown}: {why}")))
            }
            other => Err(other.into_error(&format!("run {shown}"))),
        }
    }

    fn ask(&self, client: &Client, sql: &str) -> Result<Answer, Error> {
        let bound = Duration::from_secs(self.timeout.unwrap_or(DEFAULT_TIMEOUT_SECONDS));
        client.ask_in(self.database.as_deref(), sql, bound)
    }
}

/// After each statement a row that says how many rows it has changed.
fn script(statements: &[Statement], mark: &str) -> String {
    let with_count =
        |statement: &Statement| format!("{}\n;\nSELECT '{mark}', ROW_COUNT();\n", statement.text);
    statements.iter().map(with_count).collect()
}

fn result(statements: &[Statement], rows: Vec<Vec<String>>, mark: &str) -> Found {
    let mut result = Found::default();
    let mut statements = statements.iter();
    let mut own = Vec::new();
    for row in rows {
        if row.first().map(String::as_str) != Some(mark) {
            own.push(row);
            continue;
        }
        let given = std::mem::take(&mut own);
        match statements.next().map(|statement| statement.effect) {
            Some(Effect::Reads) => result.rows = given,
            Some(Effect::Counted) => {
                // -1 stands for a statement that does not count.
                let count = row.get(1).and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
                result.affected += count;
                result.changed |= count > 0;
            }
            Some(Effect::Connection) | None => {}
            Some(Effect::Other) => result.changed = true,
        }
    }
    result
}

fn told(outcome: Outcome, result: &Found) -> Outcome {
    let rows: Vec<Value> = result.rows.iter().map(|row| row.iter().map(String::as_str).collect()).collect();
    with_data(outcome, [("rows", rows.into()), ("affected", result.affected.into())])
}

/// The begin of a statement, on one line.
fn shown(statement: &Statement) -> String {
    let words: String = statement.text.split_whitespace().collect::<Vec<_>>().join(" ");
    let begin: String = words.chars().take(SHOWN).collect();
    if begin.len() < words.len() { format!("{}…", begin.trim_end()) } else { begin }
}
