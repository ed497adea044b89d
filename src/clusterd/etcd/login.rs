//! Who asks: a user of etcd, and the token that etcd has given for its password. The password is read from its file
//! for each login, and told to etcd only.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Failed;
use super::way::Open;
use super::wire;
use crate::config::etcd;

/// After a refusal the same password is not tried again before: it costs etcd a good part of a second of a processor.
const AGAIN: Duration = Duration::from_secs(5);

/// A user, logged in or not.
pub(super) struct Login {
    config: etcd::Login,
    state: Mutex<State>,
}

enum State {
    /// Not logged in.
    Out,
    /// With this token, which all members know.
    In(String),
    /// etcd does not want this password.
    Refused { password: String, at: Instant, why: String },
}

impl Login {
    pub(super) fn new(config: etcd::Login) -> Self {
        Self { config, state: Mutex::new(State::Out) }
    }

    /// The token that there is, or one for the password.
    pub(super) async fn token(&self, open: &mut Open) -> Result<String, String> {
        if let State::In(token) = &*self.state.lock().await {
            return Ok(token.clone());
        }
        self.log_in(open).await
    }

    /// Another token than this one, which etcd does not take any more.
    pub(super) async fn renew(&self, stale: &str, open: &mut Open) -> Result<String, String> {
        match &*self.state.lock().await {
            State::In(token) if token != stale => return Ok(token.clone()),
            _ => {}
        }
        self.log_in(open).await
    }

    /// The lock is not held meanwhile: a member that hangs must not keep the others from it.
    async fn log_in(&self, open: &mut Open) -> Result<String, String> {
        let etcd::Login { user, password_file } = &self.config;
        let password = read(password_file).await?;
        if let State::Refused { password: refused, at, why } = &*self.state.lock().await
            && *refused == password
            && at.elapsed() < AGAIN
        {
            return Err(why.clone());
        }
        let body = json!({ "name": user, "password": password });
        let answered = open.post("/v3/auth/authenticate", &body, None, false).await;
        let (status, body) = answered.map_err(|failed| match failed {
            Failed::Unsent(why) | Failed::Sent(why) | Failed::Stale(why) => format!("{why} (log in {user})"),
        })?;
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        if let Some(token) = said.get("token").and_then(Value::as_str) {
            *self.state.lock().await = State::In(token.to_owned());
            return Ok(token.to_owned());
        }
        let why = format!(
            "does not log in {user:?} with the password in {}: answered {status}: {}",
            password_file.display(),
            wire::reason(&body)
        );
        if status.is_client_error() {
            let (at, why) = (Instant::now(), why.clone());
            *self.state.lock().await = State::Refused { password, at, why };
        }
        Err(why)
    }
}

async fn read(path: &Path) -> Result<String, String> {
    let text = tokio::fs::read_to_string(path).await;
    let text =
        text.map_err(|error| format!("was not asked: read the password in {}: {error}", path.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
