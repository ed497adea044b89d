//! Which address answers what. 200 and 503 are what load balancers read; the body says why.

use cluster::control::{Status, Verdict};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde_json::json;

use super::text;
use crate::view::words;

/// Version of Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

/// Answers a request. Without a status the manager did not answer in time.
pub(super) fn answer(method: &Method, path: &str, status: Option<&Status>) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut page = page(StatusCode::METHOD_NOT_ALLOWED, JSON, error("only GET and HEAD are served here"));
        page.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return page;
    }
    let healthy: fn(&Status) -> bool = match path {
        "/metrics" => {
            return status.map_or_else(silent, |status| page(StatusCode::OK, METRICS, text::write(status)));
        }
        "/health" => |status| status.verdict != Verdict::Down,
        "/primary" => |status| status.local.role == "active",
        "/standby" => |status| status.local.role == "standby",
        _ => {
            let text = "there are /metrics, /health, /primary and /standby";
            return page(StatusCode::NOT_FOUND, JSON, error(text));
        }
    };
    status.map_or_else(silent, |status| {
        let code = if healthy(status) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        page(code, JSON, summary(status))
    })
}

fn silent() -> Response<Full<Bytes>> {
    page(StatusCode::SERVICE_UNAVAILABLE, JSON, error("the cluster manager does not answer"))
}

fn error(text: &str) -> String {
    json!({ "error": text }).to_string() + "\n"
}

/// What a person who looks at a health URL wants to know; the whole status is for the hosts' administrators.
fn summary(status: &Status) -> String {
    let [a, b] = &status.names;
    let name = match status.node {
        cluster::member::Node::A => a,
        cluster::member::Node::B => b,
    };
    let value = json!({
        "cluster": status.cluster,
        "node": name,
        "role": status.local.role,
        "verdict": words::verdict(status.verdict),
        "because": status.because,
        "version": status.record.version,
        "term": status.record.term,
    });
    value.to_string() + "\n"
}

fn page(code: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
