//! What reaches the live view from outside: the manager's status, the history file, signals.

use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use cluster::control::Status;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Site;
use crate::ctl::{Answer, Asked, Request};
use crate::history::{self, Entry};
use crate::verbs;
use crate::view::words;

/// Pause before a manager that is gone is looked for again.
const AGAIN: Duration = Duration::from_millis(500);
/// Entries of the history that are kept for the screen.
const ENTRIES: usize = 200;

/// Something new.
#[derive(Debug)]
pub(super) enum News {
    /// How things are.
    Status(Box<Status>),
    /// What has happened, oldest first.
    History(Vec<Entry>),
    /// The manager cannot be reached; why.
    Lost(String),
    /// A signal says that it is over.
    End,
}

/// Follows the manager from a thread of its own until the screen is gone.
pub(super) fn start(site: &Site, news: SyncSender<News>) -> anyhow::Result<()> {
    let (socket, folder) = (site.socket(), site.state_dir.clone());
    let body = move || {
        let mut length = 0;
        loop {
            let Err(text) = follow(&socket, &folder, &mut length, &news) else { return };
            if news.send(News::Lost(text)).is_err() {
                return;
            }
            thread::sleep(AGAIN);
        }
    };
    thread::Builder::new().name("feed".to_owned()).spawn(body).context("start a thread")?;
    Ok(())
}

/// Until the screen is gone (`Ok`) or the manager is (why).
fn follow(socket: &Path, folder: &Path, length: &mut u64, news: &SyncSender<News>) -> Result<(), String> {
    history_if_changed(folder, length, news);
    let mut asked = Asked::send(socket, &Request::Watch).map_err(|error| verbs::unreachable(&error))?;
    loop {
        let status = match asked.answer() {
            Ok(Answer::Status(status)) => status,
            Ok(Answer::Failed { text }) => return Err(text),
            Ok(_) => {
                return Err("the manager gave an unexpected answer: is it of another version?".to_owned());
            }
            Err(error) => return Err(verbs::unreachable(&error)),
        };
        if news.send(News::Status(Box::new(words::harmless(*status)))).is_err() {
            return Ok(());
        }
        history_if_changed(folder, length, news);
    }
}

/// A history that cannot be read is none: the view has more to show.
fn history_if_changed(folder: &Path, length: &mut u64, news: &SyncSender<News>) {
    let now = std::fs::metadata(folder.join(history::FILE)).map_or(0, |meta| meta.len());
    if now == *length {
        return;
    }
    *length = now;
    if let Ok(entries) = history::read(folder, ENTRIES) {
        // Without a screen the next news ends the thread.
        let _ = news.send(News::History(entries));
    }
}

/// Turns the signals that end a program into news, so that the terminal is given back first.
pub(super) fn signals(news: SyncSender<News>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("prepare for signals")?;
    let kinds = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit()];
    let streams = {
        let _entered = runtime.enter();
        kinds.map(signal)
    };
    let [mut term, mut hup, mut int, mut quit] = streams.map(|stream| stream.context("catch a signal"));
    let body = move || {
        runtime.block_on(async {
            let (Ok(term), Ok(hup), Ok(int), Ok(quit)) = (&mut term, &mut hup, &mut int, &mut quit) else {
                return;
            };
            tokio::select! {
                _ = term.recv() => {}
                _ = hup.recv() => {}
                _ = int.recv() => {}
                _ = quit.recv() => {}
            }
        });
        // Without a screen there is nothing to end.
        let _ = news.send(News::End);
    };
    thread::Builder::new().name("signals".to_owned()).spawn(body).context("start a thread")?;
    Ok(())
}
