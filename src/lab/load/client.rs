//! Writes rows through the virtual address and keeps every acknowledgement.
//!
//! A new request starts every [`EVERY`], whether or not those before it were answered: so an outage is seen
//! with that resolution also when packets vanish, where a client that waits would see multiples of its own
//! patience. Each request has its own connection and its own row. A row counts as acknowledged when the page
//! has answered `ok N` in full; every other answer, and silence, is an error and promises nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Stop;
use super::gaps::{Gap, Gaps};

/// How often a request is started: the resolution of every outage that is reported.
const EVERY: Duration = Duration::from_millis(20);
/// For one request from connect to the end of its answer: some twenty times what a healthy one takes, and short
/// enough that the requests of an outage do not pile up. At most `PATIENCE / EVERY` are under way at a time.
const PATIENCE: Duration = Duration::from_millis(300);
/// An answer is one short line; a page of errors is cut off here.
const MAX_ANSWER_BYTES: u64 = 4096;
/// Kinds of errors that are told apart: messages come from a few places only.
const MAX_KINDS: usize = 32;

/// Where the service is.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The network namespace to speak from; `None` for the process's own.
    pub(crate) netns: Option<PathBuf>,
    pub(crate) address: SocketAddr,
}

/// One line of the client's log.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq)]
pub struct Acknowledged {
    /// The row.
    pub id: u64,
    /// When its request was started, in milliseconds since the client was.
    pub sent_ms: f64,
    /// When the answer had come in full.
    pub acked_ms: f64,
}

/// A request that was not acknowledged.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failed {
    /// When it was started, in milliseconds since the client was.
    pub(crate) sent_ms: f64,
    /// What it was, in the words of [`ClientReport::kinds`].
    pub(crate) kind: String,
}

/// What a client has seen.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ClientReport {
    /// When the client was started, in microseconds of the calendar since 1970: for comparing with the hosts' logs.
    pub started_us: u64,
    /// Rows that were acknowledged.
    pub acknowledged: u64,
    /// Requests that were not.
    pub errors: u64,
    /// The errors by what they were.
    pub kinds: BTreeMap<String, u64>,
    /// The longest time without an acknowledged row: the outage that a client sees.
    pub longest: Option<Gap>,
    /// Every gap of more than half a second, in order.
    pub gaps: Vec<Gap>,
    /// The rows in the order in which they were acknowledged.
    #[serde(skip)]
    pub rows: Vec<Acknowledged>,
    /// The requests that were not acknowledged, in the order in which they ended.
    #[serde(skip)]
    pub(crate) failed: Vec<Failed>,
}

/// What has happened so far.
#[derive(Debug, Default)]
struct Seen {
    rows: Vec<Acknowledged>,
    gaps: Gaps,
    failed: Vec<Failed>,
    errors: u64,
    kinds: BTreeMap<String, u64>,
}

/// A client at work in a thread of its own.
#[derive(Debug)]
pub(crate) struct Client {
    seen: Arc<Mutex<Seen>>,
    stop: Stop,
    started: Instant,
    started_us: u64,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Client {
    /// Starts writing rows. `log` is written anew, a line for each acknowledged row.
    pub(crate) fn start(target: Target, log: PathBuf) -> anyhow::Result<Self> {
        let file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let (seen, stop, started) = (Arc::default(), Stop::default(), Instant::now());
        let started_us = calendar_us()?;
        let work = Work { target, file, seen: Arc::clone(&seen), stop: stop.clone(), started };
        let thread = std::thread::Builder::new().name("client".to_owned()).spawn(move || work.run());
        Ok(Self {
            seen,
            stop,
            started,
            started_us,
            thread: Some(thread.context("start the client's thread")?),
        })
    }

    /// How many rows were acknowledged that were sent after a moment.
    pub(crate) fn acknowledged_since(&self, moment: Instant) -> usize {
        let after_ms = ms(moment.saturating_duration_since(self.started));
        let seen = lock(&self.seen);
        let late = seen.rows.iter().rev().take_while(|row| row.acked_ms > after_ms);
        late.filter(|row| row.sent_ms > after_ms).count()
    }

    /// Waits for the requests under way and returns what was seen.
    pub(crate) fn stop(mut self) -> anyhow::Result<ClientReport> {
        self.finish()?;
        let seen = std::mem::take(&mut *lock(&self.seen));
        let (longest, gaps) = seen.gaps.end(ms(self.started.elapsed()));
        let acknowledged = u64::try_from(seen.rows.len()).context("count the rows")?;
        let Seen { rows, failed, errors, kinds, .. } = Seen { gaps: Gaps::default(), ..seen };
        let started_us = self.started_us;
        Ok(ClientReport { started_us, acknowledged, errors, kinds, longest, gaps, rows, failed })
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.stop.order();
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().map_err(|_| anyhow!("the client's thread has failed; this is a bug"))?
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Whoever drops it has a greater worry.
        let _ = self.finish();
    }
}

/// What the thread works with.
struct Work {
    target: Target,
    file: File,
    seen: Arc<Mutex<Seen>>,
    stop: Stop,
    started: Instant,
}

impl Work {
    fn run(mut self) -> anyhow::Result<()> {
        if let Some(netns) = &self.target.netns {
            enter(netns)?;
        }
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
        runtime.block_on(self.requests())
    }

    async fn requests(&mut self) -> anyhow::Result<()> {
        let mut clock = tokio::time::interval(EVERY);
        // After a pause of the machine, requests come at their pace again instead of all at once.
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut under_way = JoinSet::new();
        let mut next = first_row()?;
        while !self.stop.is_ordered() {
            tokio::select! {
                Some(done) = under_way.join_next() => self.done(done.context("send a request")?)?,
                _ = clock.tick() => {
                    under_way.spawn(request(self.target.address, next, self.started));
                    next += 1;
                }
            }
        }
        while let Some(done) = under_way.join_next().await {
            self.done(done.context("send a request")?)?;
        }
        Ok(())
    }

    fn done(&mut self, done: Result<Acknowledged, Failed>) -> anyhow::Result<()> {
        let mut seen = lock(&self.seen);
        match done {
            Ok(row) => {
                let line = serde_json::to_string(&row).context("write a row's line")? + "\n";
                self.file.write_all(line.as_bytes()).context("write the log of acknowledged rows")?;
                seen.gaps.acknowledged(row.acked_ms);
                seen.rows.push(row);
            }
            Err(failed) => {
                seen.errors += 1;
                if seen.kinds.len() < MAX_KINDS || seen.kinds.contains_key(&failed.kind) {
                    *seen.kinds.entry(failed.kind.clone()).or_default() += 1;
                }
                seen.failed.push(failed);
            }
        }
        Ok(())
    }
}

/// Rows are numbered from the milliseconds of the calendar on: later clients of a table start above all rows of
/// earlier ones, which have used fewer numbers than they have lived milliseconds.
fn first_row() -> anyhow::Result<u64> {
    Ok(calendar_us()? / 1000)
}

/// Now, in microseconds since 1970.
pub(crate) fn calendar_us() -> anyhow::Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("read the calendar")?;
    u64::try_from(since.as_micros()).context("read the calendar")
}

/// Moves this thread, and only it, into a network namespace.
pub(crate) fn enter(netns: &Path) -> anyhow::Result<()> {
    let namespace = File::open(netns).with_context(|| format!("open {}", netns.display()))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("enter network namespace {}", netns.display()))
}

/// Writes one row. An error is said in few words, so that errors can be counted by them.
async fn request(address: SocketAddr, id: u64, started: Instant) -> Result<Acknowledged, Failed> {
    let sent_ms = ms(started.elapsed());
    let failed = |kind: String| Err(Failed { sent_ms, kind });
    let answer = match tokio::time::timeout(PATIENCE, get(address, id)).await {
        Err(_) => return failed(format!("no answer within {} ms", PATIENCE.as_millis())),
        Ok(Err(error)) => return failed(error.kind().to_string()),
        Ok(Ok(answer)) => answer,
    };
    let acked_ms = ms(started.elapsed());
    if is_acknowledgement(&answer, id) {
        return Ok(Acknowledged { id, sent_ms, acked_ms });
    }
    let first = answer.lines().next().unwrap_or("an empty answer");
    failed(first.chars().take(80).collect())
}

/// HTTP/1.0: the answer ends with the connection and comes in one piece.
async fn get(address: SocketAddr, id: u64) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let host = address.ip();
    let request = format!("GET /row.php?id={id} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_acknowledgement(answer: &str, id: u64) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    let status = head.split(' ').nth(1);
    status == Some("200") && body.trim_end() == format!("ok {id}")
}

/// Milliseconds.
pub(super) fn ms(time: Duration) -> f64 {
    // Tenths: no clock of a client is better.
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    // What a thread that failed has left is still true.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;

    use super::*;

    /// A service on loopback: `answer` gets each row's number and says the whole response, or nothing to hang up.
    fn service(answer: impl Fn(u64) -> Option<String> + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut line = String::new();
                while line.trim_end().is_empty() || !line.ends_with("\r\n\r\n") {
                    if stream.read_line(&mut line).unwrap() == 0 {
                        break;
                    }
                }
                let id = line.split(['=', ' ']).nth(2).and_then(|word| word.parse().ok());
                if let Some(text) = id.and_then(&answer) {
                    let _ = stream.get_mut().write_all(text.as_bytes());
                }
            }
        });
        address
    }

    fn ok(id: u64) -> Option<String> {
        Some(format!("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nok {id}\n"))
    }

    fn until(client: &Client, what: impl Fn(&Seen) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !what(&lock(&client.seen)) {
            assert!(Instant::now() < deadline, "it never came");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn run(address: SocketAddr, what: impl Fn(&Seen) -> bool) -> (ClientReport, String) {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("rows.jsonl");
        let client = Client::start(Target { netns: None, address }, log.clone()).unwrap();
        until(&client, what);
        let report = client.stop().unwrap();
        (report, std::fs::read_to_string(log).unwrap())
    }

    #[test]
    fn every_acknowledged_row_is_in_the_log_and_no_other() {
        let odd = |id: u64| if id % 2 == 1 { ok(id) } else { Some("HTTP/1.0 500 No\r\n\r\n".to_owned()) };
        let (report, log) = run(service(odd), |seen| seen.rows.len() > 3);
        let logged: Vec<Acknowledged> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(logged, report.rows);
        assert_eq!(report.acknowledged, u64::try_from(logged.len()).unwrap());
        assert!(logged.iter().all(|row| row.id % 2 == 1 && row.sent_ms <= row.acked_ms), "{logged:?}");
        assert_eq!(report.kinds.get("HTTP/1.0 500 No"), Some(&report.errors));
        assert_eq!(u64::try_from(report.failed.len()).unwrap(), report.errors);
        assert!(report.failed.iter().all(|failed| failed.kind == "HTTP/1.0 500 No"), "{report:?}");
    }

    #[test]
    fn silence_and_a_refused_connection_are_errors_and_the_client_goes_on() {
        let (report, _) = run(service(|_| None), |seen| seen.errors > 2);
        assert_eq!((report.acknowledged, report.kinds.get("an empty answer")), (0, Some(&report.errors)));
        assert!(report.longest.is_some_and(|gap| gap.open));
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (report, _) = run(nobody, |seen| seen.errors > 2);
        assert_eq!(report.kinds.get("connection refused"), Some(&report.errors));
    }

    #[test]
    fn only_the_answer_to_the_very_request_acknowledges_it() {
        assert!(is_acknowledgement(&ok(7).unwrap(), 7));
        assert!(!is_acknowledgement(&ok(8).unwrap(), 7));
        assert!(!is_acknowledgement("HTTP/1.0 503 Busy\r\n\r\nok 7", 7));
        assert!(!is_acknowledgement("HTTP/1.0 200 OK\r\n\r\nok 7 not committed", 7));
        assert!(!is_acknowledgement("HTTP/1.0 200 OK\r\n\r\nok ", 7));
    }
}
