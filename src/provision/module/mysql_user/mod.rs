//! An account of MariaDB or MySQL on this host: how it logs in, and what it may do.
//!
//! Whether its password is the wanted one is found out without setting it: by the hash where that can be computed here,
//! else by logging in. It is neither shown nor among the words of a program; MariaDB is only told its hash.

mod grants;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};
use sha1::{Digest as _, Sha1};

use super::Module;
use super::context::Context;
use super::error::Error;
use super::mysql::{self, Answer, Client};
use super::schema::{ArgError, Kind, Schema};
use super::state::State;
use crate::protocol::Outcome;
use grants::{Grants, Way};

const DEFAULT_HOST: &str = "localhost";
/// Logs in by a hash that can be computed here.
const NATIVE: &[&str] = &["mysql_native_password", ""];
/// Logs in as the user of the system that is on the other end of the socket: in MariaDB, in MySQL.
const BY_SOCKET: [&str; 2] = ["unix_socket", "auth_socket"];
/// Hosts of accounts as which one can log in over the socket.
const ON_SOCKET: &[&str] = &["localhost", "%"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    name: String,
    host: Option<String>,
    password: Option<String>,
    #[serde(default)]
    unix_socket: bool,
    privileges: Option<Map<String, Value>>,
    socket: Option<PathBuf>,
    #[serde(default)]
    state: State,
}

/// What the server says of an account.
#[derive(Debug, Default)]
struct Found {
    is_mariadb: bool,
    /// Its plugin and what that compares with; `None` when there is no such account.
    login: Option<(String, String)>,
    grants: Grants,
}

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "mysql_user",
        summary: "Keeps an account of MariaDB or MySQL: its password, or the socket, and its privileges.",
        returns: &[],
        example: "\
- name: Account of the shop
  mysql_user:
    name: shop
    password: \"{{ shop_password }}\"
    privileges: {\"shop.*\": ALL}
",
        keys: &[
            Schema::must("name", Kind::Text, "its name"),
            Schema::may("host", Kind::Text, "where it may come from, such as 10.0.0.% (default: localhost)"),
            Schema::may("password", Kind::Text, "its password, from the secrets"),
            Schema::may(
                "unix_socket",
                Kind::Bool,
                "it logs in as the user of the system with its name, without a password, instead of password",
            ),
            Schema::may(
                "privileges",
                Kind::Map,
                "what it may do, and nothing else, by object: {\"shop.*\": ALL, \"log.hits\": [SELECT, INSERT]}",
            ),
            Schema::may("socket", Kind::Path, mysql::SOCKET_HELP),
            Schema::may("state", Kind::Choice(&["present", "absent"]), "present (default) or absent"),
        ],
    };

    fn validate(&self) -> Vec<ArgError> {
        let mut errors: Vec<ArgError> =
            mysql::check_name("mysql_user", "name", &self.name).into_iter().collect();
        errors.extend(mysql::check_name("mysql_user", "host", self.host()));
        if self.password.is_some() && self.unix_socket {
            errors.push(ArgError::whole("module mysql_user takes password or unix_socket, not both"));
        }
        if self.password.as_ref().is_some_and(|text| text.is_empty() || text.contains('\0')) {
            errors.push(ArgError::at(
                "password",
                "argument \"password\" of module mysql_user must not be empty",
            ));
        }
        if let Some(Err(message)) = self.privileges.as_ref().map(Grants::wanted) {
            errors.push(ArgError::at("privileges", message));
        }
        if self.state == State::Absent {
            if self.password.is_some() || self.unix_socket || self.privileges.is_some() {
                errors.push(ArgError::whole("module mysql_user takes only name and host with state absent"));
            }
            if self.name == "root" {
                errors.push(ArgError::at("name", "module mysql_user does not remove root"));
            }
        }
        errors
    }

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        let client = Client::find(self.socket.as_deref());
        self.bring(&client, context)
    }
}

impl Args {
    fn host(&self) -> &str {
        self.host.as_deref().unwrap_or(DEFAULT_HOST)
    }

    /// As people write it.
    fn shown(&self) -> String {
        format!("{}@{}", self.name, self.host())
    }

    fn account(&self) -> String {
        mysql::account(&self.name, self.host())
    }

    fn bring(&self, client: &Client, context: &Context) -> Result<Outcome, Error> {
        let shown = self.shown();
        let Some(found) = self.look(client, context.check)? else {
            return Ok(Context::unknown("MariaDB does not run here yet"));
        };
        if self.state == State::Absent {
            if found.login.is_none() {
                return Ok(Context::same(format!("there is no account {shown}")));
            }
            if !context.check {
                client.run(
                    &format!("DROP USER {};\n", self.account()),
                    &format!("remove the account {shown}"),
                )?;
            }
            return Ok(context.changed(format!("account {shown} removed"), &[format!("- account {shown}")]));
        }
        let (mut sql, mut lines) = self.login(&found, client)?;
        let way = self.way(&found);
        sql.push_str(&way.sql);
        lines.extend(way.lines);
        if lines.is_empty() {
            return Ok(Context::same(format!("account {shown} is as asked")));
        }
        if !context.check {
            match client.ask(&sql)? {
                Answer::Rows(_) => {}
                // Of the password itself the controller takes care; its hash is nobody's secret but the server's.
                other => {
                    let hash = self.password.as_deref().map(native).unwrap_or_default();
                    return Err(other.without(&hash).into_error(&format!("change the account {shown}")));
                }
            }
            self.require_reached(client)?;
        }
        let word = if found.login.is_some() { "changed" } else { "made" };
        Ok(context.changed(format!("account {shown} {word}"), &lines))
    }

    /// What the server says of the account; `None` in a plan without a server.
    fn look(&self, client: &Client, check: bool) -> Result<Option<Found>, Error> {
        let what = format!("look for the account {}", self.shown());
        let sql = format!(
            "SELECT VERSION();\nSELECT plugin, authentication_string FROM mysql.user WHERE User = {} AND Host = {};\n",
            mysql::text(&self.name),
            mysql::text(self.host())
        );
        let Some(rows) = client.rows(&sql, &what, check)? else { return Ok(None) };
        let mut rows = rows.into_iter();
        let version = rows.next().and_then(|row| row.into_iter().next()).unwrap_or_default();
        let login = rows.next().map(|row| {
            let mut fields = row.into_iter();
            (fields.next().unwrap_or_default(), fields.next().unwrap_or_default())
        });
        let mut found = Found { is_mariadb: version.contains("MariaDB"), login, ..Found::default() };
        if found.login.is_some() && self.privileges.is_some() {
            let shown = client.rows(&format!("SHOW GRANTS FOR {};\n", self.account()), &what, check)?;
            let lines = shown.iter().flatten().filter_map(|row| row.first()).map(String::as_str);
            found.grants = Grants::shown(lines);
        }
        Ok(Some(found))
    }

    /// The statement that brings its way to log in, and a line for it; both empty when it is as asked.
    fn login(&self, found: &Found, client: &Client) -> Result<(String, Vec<String>), Error> {
        let shown = self.shown();
        let Some((plugin, string)) = &found.login else {
            let Some(way) = self.identified(found.is_mariadb) else {
                let what = format!("make the account {shown}: anybody could log in as it");
                return Err(Error::refused(what, "write a password, from the secrets, or unix_socket: true"));
            };
            return Ok((
                format!("CREATE USER {} {way};\n", self.account()),
                vec![format!("+ account {shown}")],
            ));
        };
        let is_as_asked = match &self.password {
            Some(password) => self.has_password(password, plugin, string, client)?,
            None => !self.unix_socket || BY_SOCKET.contains(&plugin.as_str()),
        };
        match self.identified(found.is_mariadb).filter(|_| !is_as_asked) {
            Some(way) => {
                let line = if self.unix_socket { "~ login by socket" } else { "~ password" };
                Ok((format!("ALTER USER {} {way};\n", self.account()), vec![line.to_owned()]))
            }
            None => Ok((String::new(), Vec::new())),
        }
    }

    /// How it logs in, as SQL; `None` when nothing is asked for.
    fn identified(&self, is_mariadb: bool) -> Option<String> {
        let [of_mariadb, of_mysql] = BY_SOCKET;
        match (&self.password, is_mariadb) {
            (Some(password), true) => Some(format!("IDENTIFIED BY PASSWORD '{}'", native(password))),
            (Some(password), false) => Some(format!("IDENTIFIED BY {}", mysql::text(password))),
            (None, _) if !self.unix_socket => None,
            (None, true) => Some(format!("IDENTIFIED VIA {of_mariadb}")),
            (None, false) => Some(format!("IDENTIFIED WITH {of_mysql}")),
        }
    }

    fn has_password(
        &self,
        password: &str,
        plugin: &str,
        string: &str,
        client: &Client,
    ) -> Result<bool, Error> {
        if NATIVE.contains(&plugin) {
            return Ok(string.eq_ignore_ascii_case(&native(password)));
        }
        if BY_SOCKET.contains(&plugin) {
            return Ok(false);
        }
        if !ON_SOCKET.contains(&self.host()) {
            let what = format!("compare the password of {}: it logs in by {plugin}", self.shown());
            return Err(Error::refused(what, "nobody can log in as it from here; leave password out"));
        }
        client.can_log_in(&self.name, password)
    }

    fn way(&self, found: &Found) -> Way {
        let wanted = self.privileges.as_ref().and_then(|given| Grants::wanted(given).ok());
        wanted.map(|wanted| wanted.way_from(&found.grants, &self.account())).unwrap_or_default()
    }

    /// A privilege that the server shows under another name would be granted again by every run.
    fn require_reached(&self, client: &Client) -> Result<(), Error> {
        if self.privileges.is_none() {
            return Ok(());
        }
        let found = self.look(client, false)?.unwrap_or_default();
        let left = self.way(&found).lines;
        if left.is_empty() {
            return Ok(());
        }
        Err(Error::Late {
            what: format!("the server shows other privileges of {} than were granted", self.shown()),
            output: left.join("\n"),
            hint: format!("write them as `SHOW GRANTS FOR {}` does", self.account()),
        })
    }
}

/// What mysql_native_password keeps: the digest of the digest.
fn native(password: &str) -> String {
    let digest = Sha1::digest(Sha1::digest(password.as_bytes()));
    let hex: String = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("*{hex}")
}
