//! Waits, with a bound, until a port answers or a path is there.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::context::{Context, with_data};
use super::error::Error;
use super::schema::{ArgError, Kind, Schema};
use super::state::State;
use super::{Module, attributes};
use crate::protocol::{Outcome, Progress};

const DEFAULT_TIMEOUT_SECONDS: u64 = 60;
const POLL: Duration = Duration::from_millis(100);
/// A port that does not answer within this is not open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    port: Option<u16>,
    host: Option<String>,
    path: Option<PathBuf>,
    #[serde(default)]
    state: State,
    timeout: Option<u64>,
}

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "wait_for",
        summary: "Waits until a TCP port answers or a path exists, or until they no longer do.",
        returns: &["elapsed"],
        example: "\
- name: Wait for the application
  wait_for: {port: 8080, timeout: 120}
",
        keys: &[
            Schema::may("port", Kind::Int, "TCP port"),
            Schema::may("host", Kind::Text, "address of the port (default: 127.0.0.1)"),
            Schema::may("path", Kind::Path, "path"),
            Schema::may("state", Kind::Choice(&["present", "absent"]), "present (default) or absent"),
            Schema::may("timeout", Kind::Int, "seconds to wait at most (default: 60)"),
        ],
    };

    fn validate(&self) -> Vec<ArgError> {
        let mut errors = Vec::new();
        if self.port.is_some() == self.path.is_some() {
            errors.push(ArgError::whole("module wait_for needs either port or path"));
        }
        if self.host.is_some() && self.port.is_none() {
            errors.push(ArgError::at("host", "argument \"host\" of module wait_for needs a port"));
        }
        errors
    }

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        let started = Instant::now();
        let bound = Duration::from_secs(self.timeout.unwrap_or(DEFAULT_TIMEOUT_SECONDS));
        let (what, wanted) = (self.what(), if self.state == State::Present { "there" } else { "gone" });
        let mut last_sign = started;
        while self.present()? != (self.state == State::Present) {
            if context.check {
                return Ok(Context::unknown(format!("{what} is not {wanted} yet")));
            }
            if started.elapsed() >= bound {
                return Err(Error::Late {
                    what: format!("{what} is not {wanted} after {} s", bound.as_secs()),
                    output: String::new(),
                    hint: "look at the log of the service that should do it, or raise timeout".into(),
                });
            }
            if last_sign.elapsed() >= Duration::from_secs(1) {
                last_sign = Instant::now();
                context.progress(Progress { message: format!("waiting for {what}"), ..Progress::default() });
            }
            thread::sleep(POLL);
        }
        let seconds = started.elapsed().as_secs_f64();
        Ok(with_data(Context::same(format!("{what} is {wanted}")), [("elapsed", seconds.into())]))
    }
}

impl Args {
    fn what(&self) -> String {
        match (&self.path, self.port) {
            (Some(path), _) => path.display().to_string(),
            (None, port) => format!("port {} of {}", port.unwrap_or(0), self.host()),
        }
    }

    fn host(&self) -> &str {
        self.host.as_deref().unwrap_or("127.0.0.1")
    }

    fn present(&self) -> Result<bool, Error> {
        if let Some(path) = &self.path {
            return Ok(attributes::look(path)?.is_some());
        }
        let host = self.host();
        let addresses = (host, self.port.unwrap_or(0)).to_socket_addrs();
        let mut addresses =
            addresses.map_err(|e| Error::Args(format!("look up the address of {host}: {e}")))?;
        Ok(addresses.any(|address| TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{applied, checked, mistakes};
    use serde_json::json;
    use std::net::TcpListener;

    #[test]
    fn an_open_port_and_an_existing_path_are_there_and_change_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for args in [json!({"port": port}), json!({"path": "/"})] {
            for run in [checked, applied] {
                let outcome = run("wait_for", args.clone());
                assert_eq!((outcome.changed, outcome.unknown, outcome.failure), (false, false, None));
            }
        }
        drop(listener);
        assert_eq!(applied("wait_for", json!({"port": port, "state": "absent"})).failure, None);
    }

    #[test]
    fn waiting_has_an_end_and_a_plan_does_not_wait() {
        let never = json!({"path": "/no/such/path", "timeout": 0});
        let failure = applied("wait_for", never.clone()).failure.unwrap();
        assert_eq!(failure.message, "/no/such/path is not there after 0 s");
        assert!(checked("wait_for", never).unknown);
    }

    #[test]
    fn a_path_or_a_port_is_needed() {
        assert_eq!(mistakes("wait_for", json!({})), ["module wait_for needs either port or path"]);
        assert_eq!(mistakes("wait_for", json!({"port": 1, "path": "/a"})).len(), 1);
        assert_eq!(mistakes("wait_for", json!({"port": 70000})).len(), 1);
        let host = mistakes("wait_for", json!({"path": "/a", "host": "ha-a"}));
        assert_eq!(host, ["argument \"host\" of module wait_for needs a port"]);
    }
}
