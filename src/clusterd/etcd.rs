//! The way to an etcd cluster: its JSON gateway over HTTP or HTTPS, the members in turn.
//!
//! Rules protected here:
//!
//! - A change is sent once: after it may have left, no other member is sent it, and no answer is told as such.
//! - A member that hangs costs a share of a question's time: the next one is asked beside it, and the first answer
//!   counts.
//! - A member says first whether it has a leader; without one it has not begun with anything.
//!
//! There is no pool of connections: a question comes every few hundred milliseconds, and an old connection to a
//! member that has gone would cost it its time. Files of TLS are read for each, so that exchanged ones count.

mod login;
mod rights;
#[cfg(test)]
mod tests;
mod way;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use cluster::etcd::{Answer, Request};
use cluster::timing::{Millis, Timing};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::clock;
use crate::config::etcd::Etcd;
use crate::mailbox::{Input, Mailbox};
use login::Login;
use rights::Rights;
use way::{Open, Way};
use wire::{Keys, Refusal};

/// The members of an etcd cluster.
#[derive(Clone)]
pub(crate) struct Members(Arc<Inner>);

struct Inner {
    ways: Vec<Way>,
    keys: Keys,
    login: Option<Login>,
    /// The member that is asked first: the last one that answered.
    first: AtomicUsize,
    patience: Duration,
    /// How long nobody may answer before it is told; again after as long.
    silence_ms: Millis,
    /// When it is told next.
    tell_at: AtomicU64,
    /// Why nobody answers.
    trouble: watch::Sender<Option<String>>,
    mailbox: Mailbox,
}

/// How one attempt failed.
enum Failed {
    /// Certainly nothing was done.
    Unsent(String),
    /// Nobody knows what became of it.
    Sent(String),
    /// Nothing was done: the token is over.
    Stale(String),
}

/// The members that one question has not been put to, that it waits for, and that have failed it.
struct Turns {
    left: Vec<usize>,
    waiting: Vec<usize>,
    problems: Vec<String>,
}

impl Members {
    /// Nothing is asked yet.
    pub(crate) fn new(etcd: &Etcd, cluster: &str, timing: &Timing, mailbox: Mailbox) -> anyhow::Result<Self> {
        anyhow::ensure!(!etcd.endpoints.is_empty(), "etcd: no endpoint is configured");
        let silence_ms = timing.witness_silence_ms();
        Ok(Self(Arc::new(Inner {
            ways: etcd.endpoints.iter().map(|endpoint| Way::new(endpoint, etcd.tls.clone())).collect(),
            keys: Keys::of(cluster),
            login: etcd.login.clone().map(Login::new),
            first: AtomicUsize::new(0),
            patience: Duration::from_millis(timing.store_timeout_ms),
            silence_ms,
            tell_at: AtomicU64::new(clock::now().saturating_add(silence_ms)),
            trouble: watch::channel(None).0,
            mailbox,
        })))
    }

    /// Asks; the answer comes through the mailbox. The store has a bounded number of questions open.
    pub(crate) fn ask(&self, number: u64, request: Request) {
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            let answer = inner.answer(&request).await;
            inner.mailbox.put(Input::Etcd { number, answer }).await;
        });
    }

    /// Why nobody has answered for long.
    pub(crate) fn problem(&self) -> watch::Receiver<Option<String>> {
        self.0.trouble.subscribe()
    }
}

impl Inner {
    async fn answer(self: &Arc<Self>, request: &Request) -> Answer {
        let rights = Arc::new(Rights::to_send(request));
        let answer = self.in_turn(request, &rights).await;
        rights.close();
        match answer {
            Ok(answer) => {
                self.tell(None);
                answer
            }
            Err(problems) => {
                self.tell(Some(problems));
                if rights.is_spent() { Answer::Lost } else { Answer::NotDone }
            }
        }
    }

    /// The first good answer, or what became of each attempt.
    async fn in_turn(self: &Arc<Self>, request: &Request, rights: &Arc<Rights>) -> Result<Answer, String> {
        let count = self.ways.len();
        let share = self.patience / u32::try_from(count + 1).unwrap_or(u32::MAX);
        let deadline = Instant::now() + self.patience;
        let first = self.first.load(Ordering::Relaxed);
        let mut turns = Turns {
            left: (first..first + count).rev().map(|index| index % count).collect(),
            waiting: Vec::new(),
            problems: Vec::new(),
        };
        let mut attempts = JoinSet::new();
        loop {
            if let Some(index) = turns.left.pop() {
                let (inner, request, rights) = (Arc::clone(self), request.clone(), Arc::clone(rights));
                attempts.spawn(async move { (index, inner.attempt(index, &request, &rights).await) });
                turns.waiting.push(index);
            }
            let until = if turns.left.is_empty() { deadline } else { deadline.min(Instant::now() + share) };
            let ended = tokio::select! {
                ended = attempts.join_next() => ended,
                () = sleep_until(until) => {
                    if until < deadline {
                        continue;
                    }
                    return Err(self.out_of_time(turns, rights));
                }
            };
            // An attempt that panicked has said so, and nobody can know what it has sent.
            let Some(Ok((index, result))) = ended else { return Err(turns.told()) };
            turns.waiting.retain(|waiting| *waiting != index);
            match result {
                Ok(answer) => {
                    self.first.store(index, Ordering::Relaxed);
                    self.ways.get(index).inspect(|way| way.answered());
                    return Ok(answer);
                }
                Err(Failed::Unsent(why) | Failed::Stale(why)) => turns.failed(self, index, &why),
                Err(Failed::Sent(why)) => {
                    self.first.store((index + 1) % count, Ordering::Relaxed);
                    turns.failed(self, index, &why);
                    if rights.is_spent() {
                        return Err(turns.told());
                    }
                }
            }
        }
    }

    fn out_of_time(&self, mut turns: Turns, rights: &Rights) -> String {
        let why = format!(
            "does not answer within {} ms: is it running, and is the way to it open?",
            self.patience.as_millis()
        );
        turns.waiting.retain(|index| rights.wait_for(*index));
        if let Some(index) = turns.waiting.first() {
            self.first.store((index + 1) % self.ways.len(), Ordering::Relaxed);
        }
        for index in std::mem::take(&mut turns.waiting) {
            turns.failed(self, index, &why);
        }
        turns.told()
    }

    /// Everything up to the right to send may happen at several members at once.
    async fn attempt(&self, index: usize, request: &Request, rights: &Rights) -> Result<Answer, Failed> {
        let way = self.ways.get(index).ok_or_else(|| Failed::Unsent("is not there".to_owned()))?;
        let mut open = way.open().await.map_err(Failed::Unsent)?;
        let token = match &self.login {
            Some(login) => Some(login.token(&mut open).await.map_err(Failed::Unsent)?),
            None => None,
        };
        if !rights.take(index).await {
            return Err(Failed::Unsent("was too late".to_owned()));
        }
        let mut result = self.exchange(&mut open, request, token.as_deref()).await;
        if let (Err(Failed::Stale(_)), Some(login), Some(token)) = (&result, &self.login, &token) {
            result = match login.renew(token, &mut open).await {
                Ok(token) => self.exchange(&mut open, request, Some(&token)).await,
                Err(why) => Err(Failed::Unsent(why)),
            };
        }
        if matches!(result, Err(Failed::Unsent(_) | Failed::Stale(_))) {
            rights.give_back();
        }
        result
    }

    async fn exchange(
        &self,
        open: &mut Open,
        request: &Request,
        token: Option<&str>,
    ) -> Result<Answer, Failed> {
        let (path, body) = self.keys.request(request);
        let is_stream = matches!(request, Request::KeepAlive { .. });
        let (status, body) = open.post(path, &body, token, is_stream).await?;
        if status.is_success()
            && let Some(answer) = self.keys.answer(request, &body)
        {
            return Ok(answer);
        }
        let said = |why: &str| format!("answered {status}: {why}");
        match wire::refused(request, &body) {
            Refusal::NoLease => Ok(Answer::NoLease),
            Refusal::Stale(why) => Err(Failed::Stale(said(&why))),
            Refusal::NotBegun(why) => Err(Failed::Unsent(said(&why))),
            Refusal::Unknown(why) => Err(Failed::Sent(said(&why))),
        }
    }

    fn tell(&self, problem: Option<String>) {
        let now = clock::now();
        let next = now.saturating_add(self.silence_ms);
        let Some(why) = problem else {
            self.tell_at.store(next, Ordering::Relaxed);
            self.trouble.send_if_modified(|told| told.take().is_some());
            return;
        };
        tracing::debug!("etcd: {why}");
        if self.tell_at.load(Ordering::Relaxed) <= now {
            self.tell_at.store(next, Ordering::Relaxed);
            let text = format!("etcd does not keep the record: {why}");
            self.trouble.send_if_modified(|told| told.replace(text.clone()).as_ref() != Some(&text));
        }
    }
}

impl Turns {
    fn failed(&mut self, inner: &Inner, index: usize, why: &str) {
        let Some(way) = inner.ways.get(index) else { return };
        way.failed(why);
        self.problems.push(format!("{} {why}", way.name()));
    }

    /// In the same order, whoever was asked first.
    fn told(mut self) -> String {
        self.problems.sort();
        self.problems.join("; ")
    }
}
