//! How this host is: the interface of the public segment, the gateway on it, the folder of the manager's own
//! state. Changes are noticed by events of the kernel; the gateway and the disk have to be asked.

mod ping;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cluster::event::{Event, Health};
use rtnetlink::MulticastGroup;
use tokio::sync::watch as channel;
use tokio::time::{MissedTickBehavior, interval};
use zbus::export::futures_core::Stream;

use crate::agent::Agents;
use crate::book::Book;
use crate::config::Settings;
use crate::mailbox::{Input, Mailbox};

/// How often the gateway is asked, and the interface is looked at without an event.
const LOOK: Duration = Duration::from_secs(1);
/// Unanswered questions in a row after which the gateway counts as gone: routers drop some under load.
const MISSES: u32 = 3;
/// Looks between two attempts to write to the state folder, which is written to rarely by itself.
const WRITE_EVERY: u32 = 10;

/// What is watched.
pub(crate) struct Watched {
    agents: Arc<Agents>,
    /// How many resources the group has: the first ones.
    group: usize,
    interface: Option<String>,
    gateway: Option<IpAddr>,
    state_dir: PathBuf,
    /// What stands in the way of writing this member's vote.
    vote: channel::Receiver<Option<String>>,
    /// Why etcd does not answer.
    etcd: channel::Receiver<Option<String>>,
    /// Why the replicated device cannot be seen.
    unseen: channel::Receiver<Option<String>>,
}

impl Watched {
    /// What these settings name, and how the record is kept.
    pub(crate) fn of(
        settings: &Settings,
        agents: Arc<Agents>,
        state_dir: &Path,
        book: &Book,
        unseen: channel::Receiver<Option<String>>,
    ) -> Self {
        Self {
            agents,
            group: settings.core.group.len(),
            interface: settings.public_interface.clone(),
            gateway: settings.gateway,
            state_dir: state_dir.to_owned(),
            vote: book.problem(),
            etcd: book.silence(),
            unseen,
        }
    }
}

/// Reports the health at once and at each change, for ever.
pub(crate) async fn watch(mut watched: Watched, mailbox: Mailbox) {
    let mut told: Option<Health> = None;
    let (asked, mut misses) = channel::channel(0);
    if let Some(gateway) = watched.gateway {
        tokio::spawn(ask(gateway, asked));
    }
    let mut disk = Ok(());
    let mut count: u32 = 0;
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut news = link_news();
    loop {
        let look = tokio::select! {
            _ = looks.tick() => true,
            () = next(&mut news) => false,
            Ok(()) = watched.vote.changed() => false,
            Ok(()) = watched.etcd.changed() => false,
            Ok(()) = watched.unseen.changed() => false,
            Ok(()) = misses.changed() => false,
        };
        if look {
            if count.is_multiple_of(WRITE_EVERY) {
                disk = probe(&watched.state_dir).await;
            }
            count = count.wrapping_add(1);
        }
        let silences = *misses.borrow_and_update();
        let health = watched.now(silences, &disk).await;
        if told.as_ref() != Some(&health) {
            let before = told.map(|health| health.problems).unwrap_or_default();
            for problem in health.problems.iter().filter(|problem| !before.contains(problem)) {
                tracing::warn!("{problem}");
            }
            for problem in before.iter().filter(|problem| !health.problems.contains(problem)) {
                tracing::info!("no longer: {problem}");
            }
            mailbox.put(Input::Event(Event::Health(health.clone()))).await;
            told = Some(health);
        }
    }
}

impl Watched {
    async fn now(&self, misses: u32, disk: &Result<(), String>) -> Health {
        let mut problems = Vec::new();
        if let Some(interface) = &self.interface
            && let Err(problem) = link(interface)
        {
            problems.push(problem);
        }
        if let Some(gateway) = self.gateway.filter(|_| misses >= MISSES) {
            problems.push(format!("the gateway {gateway} does not answer"));
        }
        let public = problems.is_empty();
        let unwritable = self.vote.borrow().clone().or(disk.as_ref().err().cloned());
        let state_writable = unwritable.is_none();
        problems.extend(unwritable);
        problems.extend(self.etcd.borrow().clone());
        problems.extend(self.unseen.borrow().clone());
        let lacking = self.agents.lacking(0..self.group).await;
        problems.extend(lacking.iter().cloned());
        problems.extend(self.agents.lacking(self.group..usize::MAX).await);
        Health { public, state_writable, problems, lacking }
    }
}

/// Counts the gateway's silences in a row; none once it answers.
async fn ask(gateway: IpAddr, silences: channel::Sender<u32>) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let answers = ping::answers(gateway).await;
        silences.send_if_modified(|count| {
            let next = if answers { 0 } else { count.saturating_add(1).min(MISSES) };
            std::mem::replace(count, next) != next
        });
    }
}

/// Interfaces without an idea of a link, such as `lo`, are `unknown`.
fn link(interface: &str) -> Result<(), String> {
    match fs::read_to_string(format!("/sys/class/net/{interface}/operstate")) {
        Ok(state) if matches!(state.trim(), "up" | "unknown") => Ok(()),
        Ok(state) => Err(format!("the link of {interface} is {}", state.trim())),
        Err(error) => Err(format!("look at the interface {interface}: {error}")),
    }
}

async fn probe(folder: &Path) -> Result<(), String> {
    let path = folder.join("probe");
    let shown = folder.display().to_string();
    let written = tokio::task::spawn_blocking(move || base::file::replace(&path, b"", 0o600)).await;
    written.map_err(io::Error::other).flatten().map_err(|error| format!("write to {shown}: {error}"))
}

type News = Pin<Box<dyn Stream<Item = ()> + Send>>;

/// Something about a link every time; what it is, is looked up.
fn link_news() -> Option<News> {
    match rtnetlink::new_multicast_connection(&[MulticastGroup::Link]) {
        Ok((connection, _, messages)) => {
            tokio::spawn(connection);
            Some(Box::pin(Nothing(messages)))
        }
        Err(error) => {
            tracing::warn!("hear of changes of links: {error}; looking every second instead");
            None
        }
    }
}

/// A stream of which only the pace matters.
struct Nothing<S>(S);

impl<S: Stream + Unpin> Stream for Nothing<S> {
    type Item = ();

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<()>> {
        Pin::new(&mut self.0).poll_next(cx).map(|item| item.map(drop))
    }
}

async fn next(news: &mut Option<News>) {
    if let Some(stream) = news {
        if std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await.is_some() {
            return;
        }
        *news = None;
    }
    std::future::pending::<()>().await;
}
