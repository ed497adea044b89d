//! A command on its way: while the manager works on it, each thing that it does is a line on stderr.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use cluster::control::Command;

use crate::ctl::{self, Answer, AskError, Asked, Request};
use crate::view::words;

/// How much longer than its timeout an answer is waited for; the socket gives up before.
const MARGIN: Duration = Duration::from_secs(20);

enum News {
    Doing(String),
    Done(Result<Answer, AskError>),
}

/// Gives a command and waits for its end, telling what is done meanwhile.
///
/// # Errors
/// The manager cannot be reached, or is gone before it has answered.
pub(crate) fn perform(socket: &Path, command: Command, timeout: Duration) -> Result<Answer, AskError> {
    let begun = Instant::now();
    let (sender, news) = mpsc::channel();
    let told = sender.clone();
    let path = socket.to_owned();
    // Both threads end with the process at the latest: it ends when the answer is there.
    thread::spawn(move || follow(&path, &told));
    let path = socket.to_owned();
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    thread::spawn(move || {
        let answer = ctl::ask(&path, &Request::Command { command, timeout_ms });
        // Nobody listens after the deadline.
        let _ = sender.send(News::Done(answer));
    });
    let deadline = begun + timeout + MARGIN;
    let mut shown = String::new();
    loop {
        match news.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(News::Doing(doing)) if doing != shown => {
                let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                eprintln!("{:>8}  {doing}", words::time(ms));
                shown = doing;
            }
            Ok(News::Doing(_)) => {}
            Ok(News::Done(answer)) => return answer,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                let error = std::io::Error::from(std::io::ErrorKind::TimedOut).into();
                return Err(AskError::Broken { socket: socket.to_owned(), error });
            }
        }
    }
}

/// Progress is a courtesy: when it cannot be had the answer comes all the same.
fn follow(socket: &Path, told: &Sender<News>) {
    let Ok(mut asked) = Asked::send(socket, &Request::Watch) else { return };
    while let Ok(Answer::Status(status)) = asked.answer() {
        let Some(doing) = status.doing else { continue };
        if told.send(News::Doing(words::clean(&doing))).is_err() {
            return;
        }
    }
}
