//! Requests as etcd's JSON gateway wants them, and its answers: keys and values in Base64, 64-bit numbers as text.
//! Nothing that is answered is trusted: what cannot be understood is no answer.

use base64ct::{Base64, Encoding as _};
use cluster::etcd::{Answer, Change, Compare, Holder, LeaseId, Request, Revision, View};
use cluster::record::Record;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// etcd's code of the error that a lease, or anything else that was named, is not there.
const NOT_FOUND: u64 = 5;
/// Of a reason, in characters: it may be a page of somebody else's.
const MAX_REASON: usize = 200;

/// The keys of a cluster.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    record: String,
    lease: String,
    /// The first key of all of the cluster's, and the first behind them.
    all: [String; 2],
}

impl Keys {
    pub(super) fn of(cluster: &str) -> Self {
        let key = |name: &str| Base64::encode_string(format!("futago/{cluster}{name}").as_bytes());
        // '0' follows '/'.
        Self { record: key("/record"), lease: key("/lease"), all: [key("/"), key("0")] }
    }

    /// Path and body of a request.
    pub(super) fn request(&self, request: &Request) -> (&'static str, Value) {
        match request {
            Request::Look => ("/v3/kv/range", self.both()),
            Request::Change { when, then } => {
                let compare: Vec<Value> = when.iter().map(|compare| self.compare(*compare)).collect();
                let success: Vec<Value> = then.iter().map(|change| self.change(change)).collect();
                let failure = [json!({ "request_range": self.both() })];
                ("/v3/kv/txn", json!({ "compare": compare, "success": success, "failure": failure }))
            }
            Request::Grant { ttl_s } => ("/v3/lease/grant", json!({ "TTL": ttl_s.to_string() })),
            Request::KeepAlive { lease } => ("/v3/lease/keepalive", json!({ "ID": lease.0.to_string() })),
            Request::Revoke { lease } => ("/v3/lease/revoke", json!({ "ID": lease.0.to_string() })),
        }
    }

    fn both(&self) -> Value {
        let [first, behind] = &self.all;
        json!({ "key": first, "range_end": behind })
    }

    fn compare(&self, compare: Compare) -> Value {
        let revision = |key: &str, revision: Revision| json!({ "key": key, "target": "MOD", "mod_revision": revision.0.to_string() });
        let held =
            |holder: Holder| json!({ "key": self.lease, "target": "VALUE", "value": encoded(&holder) });
        let mut compare = match compare {
            Compare::Record(at) => revision(&self.record, at),
            Compare::Lease(at) => revision(&self.lease, at),
            Compare::HeldBy(holder) => held(holder),
            Compare::On(lease) => {
                json!({ "key": self.lease, "target": "LEASE", "lease": lease.0.to_string() })
            }
        };
        if let Some(compare) = compare.as_object_mut() {
            compare.insert("result".to_owned(), "EQUAL".into());
        }
        compare
    }

    fn change(&self, change: &Change) -> Value {
        let put = |key: &str, value: String| json!({ "key": key, "value": value });
        match change {
            Change::PutRecord(record) => json!({ "request_put": put(&self.record, encoded(record)) }),
            Change::PutLease(holder, lease) => {
                let value = encoded(holder);
                let put = json!({ "key": self.lease, "value": value, "lease": lease.0.to_string() });
                json!({ "request_put": put })
            }
            Change::DropLease => json!({ "request_delete_range": { "key": self.lease } }),
        }
    }

    /// What a good answer says; `None` when it cannot be understood.
    pub(super) fn answer(&self, request: &Request, body: &[u8]) -> Option<Answer> {
        let body: Value = serde_json::from_slice(body).ok()?;
        match request {
            Request::Look => self.view(&body).map(Answer::Found),
            Request::Change { .. } if body.get("succeeded").and_then(Value::as_bool) == Some(true) => {
                number(body.get("header")?, "revision").map(|revision| Answer::Changed(Revision(revision)))
            }
            Request::Change { .. } => {
                self.view(body.get("responses")?.get(0)?.get("response_range")?).map(Answer::Found)
            }
            Request::Grant { .. } => lease(&body),
            Request::KeepAlive { .. } => lease(body.get("result")?),
            Request::Revoke { .. } => body.get("header").map(|_| Answer::Revoked),
        }
    }

    fn view(&self, range: &Value) -> Option<View> {
        range.get("header")?;
        let none = Vec::new();
        let found = range.get("kvs").map_or(Some(&none), Value::as_array)?;
        let one = |key: &str| found.iter().find(|kv| kv.get("key").and_then(Value::as_str) == Some(key));
        Some(View {
            record: one(&self.record).map(value::<Record>).map_or(Some(None), |found| found.map(Some))?,
            lease: one(&self.lease).map(value::<Holder>).map_or(Some(None), |found| found.map(Some))?,
        })
    }
}

/// What an error of etcd means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no such lease. Nothing was done.
    NoLease,
    /// The token is over; nothing was done.
    Stale(String),
    /// Nothing was done, for this reason.
    NotBegun(String),
    /// Nobody knows.
    Unknown(String),
}

/// What an answer that is no good one means for the request. etcd checks a leader, a token and permissions before it
/// changes anything (etcd's api/v3rpc/rpctypes/error.go has the words); other errors come after it has begun, too.
pub(super) fn refused(request: &Request, body: &[u8]) -> Refusal {
    let code = serde_json::from_slice(body).unwrap_or(Value::Null).get("code").and_then(Value::as_u64);
    let of_lease = !matches!(request, Request::Look | Request::Grant { .. });
    let (why, advice) = (said(body), reason(body));
    match (code, why.strip_prefix("etcdserver: ").unwrap_or(&why)) {
        (Some(NOT_FOUND), _) if of_lease => Refusal::NoLease,
        (_, "invalid auth token" | "revision of auth store is old") => Refusal::Stale(why),
        (_, "no leader" | "permission denied" | "user name is empty") => Refusal::NotBegun(advice),
        _ => Refusal::Unknown(advice),
    }
}

/// What an answer gives as its reason, and what to do about it.
pub(super) fn reason(body: &[u8]) -> String {
    let why = said(body);
    let advice = match why.strip_prefix("etcdserver: ").unwrap_or(&why) {
        "no leader" => "it is cut off from the other members, or too few of them run",
        "permission denied" => "give the user's role readwrite on the prefix futago/CLUSTER/",
        "user name is empty" => "it wants a user: give \"user\" and its password",
        "authentication is not enabled" => "enable it there, or drop \"user\"",
        // An etcd that has users takes such a certificate for a user's at its gateway, and that only to refuse it.
        text if text.starts_with("CommonName of client") => {
            "make \"cert\" without a common name, with other names only"
        }
        _ => return why,
    };
    format!("{why}: {advice}")
}

fn said(body: &[u8]) -> String {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let message = parsed.as_ref().and_then(|body| body.get("message")?.as_str());
    let text = message.map_or_else(|| String::from_utf8_lossy(body), Into::into);
    let text: String = text.trim().chars().take(MAX_REASON).collect();
    if text.is_empty() { "without a reason".to_owned() } else { text }
}

fn encoded(value: &impl Serialize) -> String {
    Base64::encode_string(json!(value).to_string().as_bytes())
}

fn value<T: DeserializeOwned>(kv: &Value) -> Option<(T, Revision)> {
    let bytes = Base64::decode_vec(kv.get("value")?.as_str()?).ok()?;
    Some((serde_json::from_slice(&bytes).ok()?, Revision(number(kv, "mod_revision")?)))
}

fn lease(body: &Value) -> Option<Answer> {
    let lease = LeaseId(body.get("ID")?.as_str()?.parse().ok()?);
    // A lease that is over has none.
    let ttl_s = if body.get("TTL").is_some() { number(body, "TTL")? } else { 0 };
    Some(Answer::Lease { lease, ttl_s })
}

fn number(of: &Value, key: &str) -> Option<u64> {
    of.get(key)?.as_str()?.parse().ok()
}
