//! Asks a service again and again and keeps every answer.
//!
//! A new request starts at an even pace, whether or not those before it were answered: so an outage is seen with that
//! resolution also when packets vanish, where a client that waits would see multiples of its own patience. What a request
//! is, and when it counts as acknowledged, is said by [`Ask`]; everything else, and silence, is an error and promises nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::Stop;
use super::gaps::{Gap, Gaps};

/// Kinds of errors that are told apart: messages come from a few places only.
const MAX_KINDS: usize = 32;

/// How a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Pace {
    /// How often a request is started: the resolution of every outage that is reported.
    pub(crate) every_ms: u64,
    /// For one request from connect to the end of its answer. At most `patience_ms / every_ms` are under way at a time.
    pub(crate) patience_ms: u64,
}

/// What a client asks for.
pub(crate) trait Ask: Send + Sync + 'static {
    /// One request with a connection of its own; `id` is its number. Why it is not acknowledged is said in few words, so that
    /// errors can be counted by them.
    fn ask(&self, id: u64) -> impl Future<Output = Result<(), String>> + Send;
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
    /// Starts to ask, from the process's own network namespace or another one. `log` is written anew, a line for each
    /// acknowledged request.
    pub(crate) fn start(
        ask: impl Ask,
        pace: Pace,
        netns: Option<PathBuf>,
        log: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let create = |log: PathBuf| File::create(&log).with_context(|| format!("create {}", log.display()));
        let file = log.map(create).transpose()?;
        let (seen, stop, started) = (Arc::default(), Stop::default(), Instant::now());
        let started_us = calendar_us()?;
        let work =
            Work { ask: Arc::new(ask), pace, file, seen: Arc::clone(&seen), stop: stop.clone(), started };
        let thread = std::thread::Builder::new().name("client".to_owned());
        let thread = thread.spawn(move || netns.map_or(Ok(()), |at| enter(&at)).and_then(|()| work.run()));
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
struct Work<A> {
    ask: Arc<A>,
    pace: Pace,
    file: Option<File>,
    seen: Arc<Mutex<Seen>>,
    stop: Stop,
    started: Instant,
}

impl<A: Ask> Work<A> {
    fn run(mut self) -> anyhow::Result<()> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
        runtime.block_on(self.requests())
    }

    async fn requests(&mut self) -> anyhow::Result<()> {
        let mut clock = tokio::time::interval(Duration::from_millis(self.pace.every_ms));
        // After a pause of the machine, requests come at their pace again instead of all at once.
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut under_way = JoinSet::new();
        let mut next = first_row()?;
        while !self.stop.is_ordered() {
            tokio::select! {
                Some(done) = under_way.join_next() => self.done(done.context("send a request")?)?,
                _ = clock.tick() => {
                    under_way.spawn(request(Arc::clone(&self.ask), self.pace, next, self.started));
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
                if let Some(file) = &mut self.file {
                    let line = serde_json::to_string(&row).context("write a row's line")? + "\n";
                    file.write_all(line.as_bytes()).context("write the log of acknowledged rows")?;
                }
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

async fn request<A: Ask>(ask: Arc<A>, pace: Pace, id: u64, started: Instant) -> Result<Acknowledged, Failed> {
    let sent_ms = ms(started.elapsed());
    let kind = match tokio::time::timeout(Duration::from_millis(pace.patience_ms), ask.ask(id)).await {
        Err(_) => format!("no answer within {} ms", pace.patience_ms),
        Ok(Err(kind)) => kind,
        Ok(Ok(())) => return Ok(Acknowledged { id, sent_ms, acked_ms: ms(started.elapsed()) }),
    };
    Err(Failed { sent_ms, kind })
}

/// Milliseconds.
pub(crate) fn ms(time: Duration) -> f64 {
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
    use std::net::{SocketAddr, TcpListener};

    use super::super::row::{PACE, RowPage};
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
        let client = Client::start(RowPage(address), PACE, None, Some(log.clone())).unwrap();
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
}
