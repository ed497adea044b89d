//! A page of a web server, asked for from the host: does it answer as it should?
//!
//! It reads only, so a plan asks too; what does not answer yet is unknown to it.

mod client;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::context::{Context, with_data};
use super::error::Error;
use super::schema::{ArgError, Kind, Schema};
use super::{Module, command};
use crate::protocol::{Failure, Outcome};
use crate::step::UNKNOWN;
use client::{Answer, Trust};

const DEFAULT_STATUS: u16 = 200;
const DEFAULT_TIMEOUT_SECONDS: u64 = 10;
/// Of a page that is given to later tasks.
const MAX_CONTENT: usize = 64 << 10;
/// What `status` of the result is when nobody has answered, as in Ansible.
const NO_STATUS: i64 = -1;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    url: String,
    #[serde(default)]
    status: Vec<String>,
    contains: Option<String>,
    #[serde(default)]
    headers: Map<String, Value>,
    timeout: Option<u64>,
    ca: Option<PathBuf>,
    #[serde(default)]
    insecure: bool,
}

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "http",
        summary: "Gets a page from the host and checks status and text; changes nothing.",
        returns: &["status", "content"],
        example: "\
- name: The shop answers
  http: {url: \"http://127.0.0.1/health\", contains: ok}
  register: health
  until: health is not failed
  retries: 10
  delay: 2
",
        keys: &[
            Schema::must(
                "url",
                Kind::Text,
                "the page: http:// or https:// (TLS 1.3); redirects are not followed",
            ),
            Schema::may("status", Kind::TextList, "statuses that are right (default: 200)"),
            Schema::may("contains", Kind::Text, "a text that must be in the page"),
            Schema::may("headers", Kind::Map, "headers of the request, such as Host"),
            Schema::may("timeout", Kind::Int, "seconds until the whole answer must be there (default: 10)"),
            Schema::may(
                "ca",
                Kind::Path,
                "certificates on the host to trust (default: those that the host trusts)",
            ),
            Schema::may("insecure", Kind::Bool, "take any certificate"),
        ],
    };

    fn validate(&self) -> Vec<ArgError> {
        let mut errors = Vec::new();
        match self.url.parse::<Uri>() {
            _ if self.url == UNKNOWN => {}
            Ok(uri) if matches!(uri.scheme_str(), Some("http" | "https")) => {
                if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
                    let message =
                        "a name and password do not belong into \"url\"; write headers: {Authorization: …}";
                    errors.push(ArgError::at("url", message));
                }
            }
            _ => {
                let message = format!("\"{}\" is not a page; write it as http://127.0.0.1/health", self.url);
                errors.push(ArgError::at("url", message));
            }
        }
        let wrong = self.status.iter().filter(|text| *text != UNKNOWN && status(text).is_none());
        errors.extend(
            wrong.map(|text| {
                ArgError::at("status", format!("\"{text}\" is not a status of HTTP: 100 to 599"))
            }),
        );
        for (name, value) in &self.headers {
            let is_name = name.parse::<HeaderName>().is_ok();
            if !is_name || value.as_str().is_none_or(|text| HeaderValue::from_str(text).is_err()) {
                errors
                    .push(ArgError::at("headers", format!("\"{name}\" is not a header of HTTP with a text")));
            }
        }
        if self.ca.is_some() && self.insecure {
            errors.push(ArgError::whole("module http takes ca or insecure, not both"));
        }
        if self.timeout == Some(0) {
            errors.push(ArgError::at("timeout", "argument \"timeout\" of module http must be 1 or more"));
        }
        errors
    }

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        let url = &self.url;
        let uri: Uri = url.parse().map_err(|error| Error::Args(format!("{url}: {error}")))?;
        let texts = self
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()));
        let headers: Vec<(String, String)> = texts.collect();
        let trust = match (&self.ca, self.insecure) {
            (Some(path), _) => Trust::File(path.clone()),
            (None, true) => Trust::Anybody,
            (None, false) => Trust::Host,
        };
        let bound = Duration::from_secs(self.timeout.unwrap_or(DEFAULT_TIMEOUT_SECONDS));
        let (problem, hint, answer) = match client::get(&uri, &headers, &trust, bound) {
            Ok(answer) => (self.judge(&answer), self.hint(&answer), Some(answer)),
            Err(why) => {
                let hint = "does its service run, and listen at this address? Its log and `ss -ltn` on the host tell more";
                (Some(why), Some(hint.to_owned()), None)
            }
        };
        let number = answer.as_ref().map_or(NO_STATUS, |answer| i64::from(answer.status));
        let content = answer.as_ref().map(|answer| content(&answer.page)).unwrap_or_default();
        let output = command::tail(&content);
        let told =
            |outcome| with_data(outcome, [("status", number.into()), ("content", content.as_str().into())]);
        Ok(match problem {
            None => told(Context::same(format!("GET {url}: {number}"))),
            Some(problem) if context.check => told(Context::unknown(format!("GET {url}: {problem}"))),
            Some(problem) => {
                let message = format!("GET {url}: {problem}");
                let failure = Failure { message: message.clone(), output, hint };
                Outcome { failure: Some(failure), ..told(Context::same(message)) }
            }
        })
    }
}

impl Args {
    /// What is wrong with an answer.
    fn judge(&self, answer: &Answer) -> Option<String> {
        let mut wanted: Vec<u16> = self.status.iter().filter_map(|text| status(text)).collect();
        if wanted.is_empty() {
            wanted.push(DEFAULT_STATUS);
        }
        if !wanted.contains(&answer.status) {
            let wanted: Vec<String> = wanted.iter().map(u16::to_string).collect();
            return Some(format!("the answer was {}, not {}", answer.status, wanted.join(" or ")));
        }
        let text = self.contains.as_deref().filter(|text| !text.is_empty())?;
        let found = answer.page.windows(text.len()).any(|part| part == text.as_bytes());
        (!found).then(|| format!("the answer, {} bytes, does not contain \"{text}\"", answer.page.len()))
    }

    fn hint(&self, answer: &Answer) -> Option<String> {
        let location = answer.location.as_ref()?;
        Some(format!("it leads to {location}: ask for that, or write status: {}", answer.status))
    }
}

fn status(text: &str) -> Option<u16> {
    text.trim().parse().ok().filter(|number| (100..600).contains(number))
}

/// The begin of a page as text.
fn content(page: &[u8]) -> String {
    String::from_utf8_lossy(page.get(..MAX_CONTENT).unwrap_or(page)).into_owned()
}
