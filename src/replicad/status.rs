//! Rendering of status: `drbdadm status`'s text layout and `drbdsetup status --json`'s keys. Decides nothing.
//!
//! People read the text and monitoring parses both, so that layout, order and words are DRBD's. Text, for each
//! resource: a header line; indented by two the device and the connection; by four the peer's device; with
//! statistics one more line, deeper by four, below each of them; an empty line at the end. What is at rest is
//! left out unless asked for: `volume:`, `replication:Established`, `connection:Connected`. What is not known here
//! (who has the device open, bytes in flight) is left out always, never invented.

use std::fmt::Write as _;
use std::net::SocketAddr;

use replica::control::{ConnectionStatus, DeviceStatus, Managed, Status};
use replica::state::{ConnectionState, ReplicationState, Role};
use serde_json::{Map, Value, json};

use crate::rollback::as_of;

/// What is printed when there is no resource.
pub const NONE: &str = "# No currently configured DRBD found.\n";

/// One resource, with what only the shell knows about it.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// From the core.
    pub status: &'a Status,
    /// Path of the backing disk.
    pub backing_dev: Option<&'a str>,
    /// Own address and the peer's.
    pub addresses: Option<[SocketAddr; 2]>,
    /// Connections use TLS.
    pub tls: bool,
}

/// How much to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Also what is at rest.
    pub verbose: bool,
    /// Also counters.
    pub statistics: bool,
}

/// The text for all resources.
#[must_use]
pub fn text(resources: &[Shown<'_>], detail: Detail) -> String {
    if resources.is_empty() {
        return NONE.to_owned();
    }
    resources.iter().map(|shown| resource_text(shown, detail)).collect()
}

/// A sentence for each resource that will not come right by itself: for people, on stderr.
#[must_use]
pub fn explanations(resources: &[Shown<'_>]) -> Vec<String> {
    let reason = |shown: &Shown<'_>| {
        let Status { name, connection, .. } = shown.status;
        let reason = connection.standalone_reason.as_ref()?;
        Some(format!("{name}: not connected to {}: {reason}", connection.name))
    };
    resources.iter().flat_map(|shown| [reason(shown), half_synced(shown)]).flatten().collect()
}

/// The resync was interrupted, and the disk could be what it was before.
fn half_synced(shown: &Shown<'_>) -> Option<String> {
    let Status { name, connection, device, .. } = shown.status;
    let undo = device.undo.filter(|undo| undo.restored.is_none())?;
    (connection.state != ConnectionState::Connected).then(|| {
        format!(
            "{name}: the resync from {peer} was interrupted, the disk is a mix. It goes on when {peer} is back; if {peer} is lost for good, `futago replica rollback {name}` brings back what the disk held before{}",
            as_of(undo.as_of),
            peer = connection.name
        )
    })
}

fn resource_text(shown: &Shown<'_>, detail: Detail) -> String {
    let Status { name, node_id, role, device, connection, managed, .. } = shown.status;
    let mut out = Lines::default();
    out.word(0, name);
    out.word_if(detail.verbose, || format!("node-id:{node_id}"));
    out.word(0, format!("role:{role}"));
    let suspended = suspended_by(shown.status);
    out.word_if(detail.verbose || suspended != "no", || format!("suspended:{suspended}"));
    out.word_if(detail.verbose, || "force-io-failures:no".to_owned());
    out.end();
    if detail.statistics {
        out.word(4, "write-ordering:flush");
        out.end();
    }
    if let Some(managed) = managed.filter(|_| detail.verbose) {
        managed_text(&mut out, &managed);
    }
    device_text(&mut out, device, shown.backing_dev, detail);
    connection_text(&mut out, connection, detail);
    if connection.state == ConnectionState::Connected || detail.verbose || detail.statistics {
        peer_device_text(&mut out, device, connection, detail);
    }
    out.end();
    out.text
}

/// Why writes wait, in DRBD's word: until an administrator lets them go on, or until it is recorded that the peer may not go on
/// (there, that it was fenced).
pub(crate) fn suspended_by(status: &Status) -> &'static str {
    match status.managed {
        _ if status.suspended => "user",
        Some(managed) if managed.blocked => "fencing",
        _ => "no",
    }
}

fn managed_text(out: &mut Lines, managed: &Managed) {
    let Managed { fence, term, alone, loss, blocked, deposed } = *managed;
    let yes = |it: bool| if it { "yes" } else { "no" };
    let term = term.map_or_else(|| "none".to_owned(), |term| term.to_string());
    out.word(2, format!("managed:yes term:{term} fence:{fence} alone:{} loss:{loss}", yes(alone)));
    out.word(2, format!("blocked:{} deposed:{}", yes(blocked), yes(deposed)));
    out.end();
}

fn device_text(out: &mut Lines, device: &DeviceStatus, backing_dev: Option<&str>, detail: Detail) {
    if detail.verbose {
        out.word(2, format!("volume:{} minor:{}", device.volume, device.minor));
    }
    out.word(2, format!("disk:{}", device.disk));
    if detail.verbose {
        out.word(2, format!("backing_dev:{}", backing_dev.unwrap_or("none")));
        out.word(2, "quorum:yes");
    }
    if let Some(undo) = &device.undo {
        out.word(2, if undo.restored.is_some() { "undo:restoring" } else { "undo:ready" });
        out.word_if(undo.restored.is_some(), || format!("restored:{:.2}", undo.restored.unwrap_or_default()));
    }
    out.end();
    if detail.statistics {
        let DeviceStatus { size_kib, read_kib, written_kib, al_writes, bm_writes, .. } = device;
        let (upper, lower) = (device.upper_pending, device.lower_pending);
        out.word(6, format!("size:{size_kib} read:{read_kib} written:{written_kib}"));
        out.word(6, format!("al-writes:{al_writes} bm-writes:{bm_writes}"));
        out.word(6, format!("upper-pending:{upper} lower-pending:{lower}"));
        out.word_if(detail.verbose, || "al-suspended:no blocked:no".to_owned());
        out.end();
    }
}

fn connection_text(out: &mut Lines, connection: &ConnectionStatus, detail: Detail) {
    let connected = connection.state == ConnectionState::Connected;
    out.word(2, &connection.name);
    out.word_if(detail.verbose, || format!("node-id:{}", connection.peer_node_id));
    out.word_if(detail.verbose || !connected, || format!("connection:{}", connection.state));
    out.word_if(detail.verbose || connection.peer_role != Role::Unknown, || {
        format!("role:{}", connection.peer_role)
    });
    out.word_if(detail.verbose, || "congested:no".to_owned());
    out.end();
}

fn peer_device_text(out: &mut Lines, device: &DeviceStatus, connection: &ConnectionStatus, detail: Detail) {
    if detail.verbose {
        out.word(4, format!("volume:{}", device.volume));
    }
    if detail.verbose || connection.replication > ReplicationState::Established {
        out.word(4, format!("replication:{}", connection.replication));
    }
    out.word(4, format!("peer-disk:{}", connection.peer_disk));
    if let Some(sync) = &connection.sync {
        out.word(4, format!("done:{:.2}", sync.done));
    }
    if let Some(verify) = &connection.verify {
        out.word_if(verify.running, || format!("verified:{:.2}", verify.done));
        let left = verify.differing_kib - verify.repaired_kib;
        out.word_if(left > 0, || format!("differing:{left}"));
    }
    let suspended = suspended(connection);
    out.word_if(detail.verbose || suspended != "no", || format!("resync-suspended:{suspended}"));
    out.end();
    if detail.statistics {
        let ConnectionStatus { received_kib, sent_kib, out_of_sync_kib, pending, unacked, .. } = connection;
        out.word(8, format!("received:{received_kib} sent:{sent_kib} out-of-sync:{out_of_sync_kib}"));
        out.word(8, format!("pending:{pending} unacked:{unacked}"));
        if let Some(sync) = &connection.sync {
            out.word(8, format!("dbdt1:{:.2}", sync.rate_mib));
            if let Some(eta) = sync.eta_seconds {
                out.word(8, format!("eta:{eta}"));
            }
        }
        out.end();
    }
}

/// Words with blanks between them, lines with an indent before them.
#[derive(Default)]
struct Lines {
    text: String,
    started: bool,
}

impl Lines {
    fn word(&mut self, indent: usize, word: impl AsRef<str>) {
        if self.started {
            self.text.push(' ');
        } else {
            let _ = write!(self.text, "{:indent$}", "");
        }
        self.started = true;
        self.text.push_str(word.as_ref());
    }

    /// A further word of the line.
    fn word_if(&mut self, print: bool, word: impl FnOnce() -> String) {
        if print {
            self.word(0, word());
        }
    }

    fn end(&mut self) {
        self.text.push('\n');
        self.started = false;
    }
}

/// All resources as drbdsetup's JSON: an array. Sizes and counters in KiB, rates in MiB/s.
#[must_use]
pub fn json(resources: &[Shown<'_>]) -> Value {
    resources.iter().map(resource_json).collect()
}

fn resource_json(shown: &Shown<'_>) -> Value {
    let Status { name, node_id, role, device, connection, managed, .. } = shown.status;
    let suspended = suspended_by(shown.status);
    let mut out = json!({
        "name": name,
        "node-id": node_id,
        "role": role,
        "suspended": suspended != "no",
        "suspended-user": suspended == "user",
        "suspended-no-data": false,
        "suspended-fencing": suspended == "fencing",
        "suspended-quorum": false,
        "force-io-failures": false,
        "write-ordering": "flush",
        "devices": [device_json(device, shown.backing_dev)],
        "connections": [connection_json(connection, device, shown)],
    });
    if let (Some(managed), Some(out)) = (managed, out.as_object_mut()) {
        out.insert("managed".to_owned(), json!(managed));
    }
    out
}

fn device_json(device: &DeviceStatus, backing_dev: Option<&str>) -> Value {
    let mut out = json!({
        "volume": device.volume,
        "minor": device.minor,
        "disk-state": device.disk,
        "client": false,
        "backing_dev": backing_dev.unwrap_or("none"),
        "quorum": true,
        "size": device.size_kib,
        "read": device.read_kib,
        "written": device.written_kib,
        "al-writes": device.al_writes,
        "bm-writes": device.bm_writes,
        "upper-pending": device.upper_pending,
        "lower-pending": device.lower_pending,
        "writes": device.waits.writes,
        "write-us": device.waits.write_us,
        "flushes": device.waits.flushes,
        "flush-us": device.waits.flush_us,
    });
    if let (Some(undo), Some(out)) = (device.undo, out.as_object_mut()) {
        out.insert("undo".to_owned(), json!(undo));
    }
    out
}

fn connection_json(connection: &ConnectionStatus, device: &DeviceStatus, shown: &Shown<'_>) -> Value {
    let established = connection.state == ConnectionState::Connected;
    let path = |[own, peer]: [SocketAddr; 2]| {
        json!({
            "this_host": address_json(own),
            "remote_host": address_json(peer),
            "established": established,
        })
    };
    json!({
        "peer-node-id": connection.peer_node_id,
        "name": connection.name,
        "connection-state": connection.state,
        "congested": false,
        "peer-role": connection.peer_role,
        "tls": shown.tls,
        "paths": shown.addresses.map(path).into_iter().collect::<Vec<_>>(),
        "peer_devices": [peer_device_json(connection, device)],
    })
}

fn address_json(address: SocketAddr) -> Value {
    let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    json!({ "address": address.ip().to_string(), "port": address.port(), "family": family })
}

fn peer_device_json(connection: &ConnectionStatus, device: &DeviceStatus) -> Value {
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
    put("volume", json!(device.volume));
    put("replication-state", json!(connection.replication));
    put("peer-disk-state", json!(connection.peer_disk));
    put("peer-client", json!(false));
    put("resync-suspended", json!(suspended(connection)));
    put("received", json!(connection.received_kib));
    put("sent", json!(connection.sent_kib));
    put("out-of-sync", json!(connection.out_of_sync_kib));
    put("pending", json!(connection.pending));
    put("unacked", json!(connection.unacked));
    put("has-sync-details", json!(connection.sync.is_some()));
    put("has-online-verify-details", json!(connection.verify.is_some()));
    if let Some(verify) = &connection.verify {
        put("verify", json!(verify));
    }
    put("percent-in-sync", json!(two_digits(percent_in_sync(connection, device))));
    if let Some(sync) = &connection.sync {
        // In sectors, as the kernel counts a resync.
        put("rs-total", json!(sync.total_kib.saturating_mul(2)));
        put("rs-dt-start-ms", json!(sync.elapsed_ms));
        put("rs-paused-ms", json!(0));
        put("rs-failed", json!(0));
        put("rs-same-csum", json!(sync.same_kib.saturating_mul(2)));
        put("db1/dt1 [MiB/s]", json!(two_digits(sync.rate_mib)));
        if let Some(eta) = sync.eta_seconds {
            put("estimated-seconds-to-finish", json!(eta));
        }
        put("db/dt [MiB/s]", json!(two_digits(average_mib(sync.total_kib, sync.done, sync.elapsed_ms))));
        put("percent-resync-done", json!(two_digits(sync.done)));
    }
    Value::Object(out)
}

/// Who holds the resync up.
pub(crate) fn suspended(connection: &ConnectionStatus) -> &'static str {
    if connection.sync.as_ref().is_some_and(|sync| sync.paused) { "user" } else { "no" }
}

fn percent_in_sync(connection: &ConnectionStatus, device: &DeviceStatus) -> f64 {
    if device.size_kib == 0 {
        return 100.0;
    }
    let differing = connection.out_of_sync_kib.min(device.size_kib);
    100.0 - 100.0 * differing as f64 / device.size_kib as f64
}

/// MiB/s since the begin.
fn average_mib(total_kib: u64, done_percent: f64, elapsed_ms: u64) -> f64 {
    let seconds = elapsed_ms.max(1) as f64 / 1000.0;
    total_kib as f64 / 1024.0 * done_percent / 100.0 / seconds
}

fn two_digits(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
pub(crate) mod tests;
