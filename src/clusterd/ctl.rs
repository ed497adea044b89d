//! The control socket: what the verbs say to the manager and what it answers. One request a connection, as
//! framed JSON. The socket belongs to root alone; who can open it may do everything.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::frame::{self, FrameError};
use cluster::control::{Command, CommandError, Status};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;

use crate::frames::{self, Reader};
use crate::mailbox::{Input, Mailbox};

/// Verbs served at the same time; a live view keeps its connection for long.
const MAX_CLIENTS: usize = 64;
/// Longest request: a command with a reason typed by a person.
const MAX_REQUEST_BYTES: u32 = 64 << 10;
/// How long a client may take to say what it wants, and to take its answer; how long the driver, which answers
/// questions at once, may take.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a live view is told although nothing has changed: ages go on.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How long a verb waits for the answer beyond what the manager was given.
const ANSWER_GRACE: Duration = Duration::from_secs(5);
/// Pause after a failed accept: out of descriptors, most likely, and they come back.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// What a verb wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Tell about the cluster.
    Status,
    /// Tell now, at each change, and every second.
    Watch,
    /// Do something.
    Command {
        /// What.
        command: Command,
        /// Longest to wait for the answer.
        timeout_ms: u64,
    },
    /// Tell people something.
    Alert {
        /// What kind of alert.
        kind: String,
        /// The sentence.
        text: String,
    },
    /// What would be done: now, or if this were asked for.
    Plan {
        /// The command, or `None`: what is about to be done anyway.
        command: Option<Command>,
    },
}

/// What the manager answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Status.
    Status(Box<Status>),
    /// Done, in one sentence.
    Done(String),
    /// The core says no.
    Refused(CommandError),
    /// Sentences.
    Plan(Vec<String>),
    /// The shell could not do it, or it did not come to pass in time.
    Failed {
        /// For people.
        text: String,
    },
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error(
        "connect to {}: {error}; is the cluster manager running? `systemctl status futago-clusterd` tells",
        socket.display()
    )]
    NotRunning {
        /// Where.
        socket: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The conversation broke off.
    #[error("talk to the cluster manager at {}: {error}", socket.display())]
    Broken {
        /// Where.
        socket: PathBuf,
        /// Why.
        error: FrameError,
    },
}

/// A conversation with the manager of this host, for verbs: blocking.
#[derive(Debug)]
pub struct Asked {
    socket: PathBuf,
    stream: BlockingStream,
}

impl Asked {
    /// Sends a request.
    pub fn send(socket: &Path, request: &Request) -> Result<Self, AskError> {
        let stream = BlockingStream::connect(socket)
            .map_err(|error| AskError::NotRunning { socket: socket.to_owned(), error })?;
        let mut asked = Self { socket: socket.to_owned(), stream };
        let wait = match request {
            Request::Command { timeout_ms, .. } => Duration::from_millis(*timeout_ms) + ANSWER_GRACE,
            _ => CLIENT_TIMEOUT,
        };
        let sent = asked
            .stream
            .set_read_timeout(Some(wait))
            .map_err(FrameError::from)
            .and_then(|()| frame::write(&mut asked.stream, request));
        sent.map_err(|error| asked.broken(error))?;
        Ok(asked)
    }

    /// The next answer: the only one, or for [`Request::Watch`] one after the other for ever.
    pub fn answer(&mut self) -> Result<Answer, AskError> {
        let end = || io::Error::from(io::ErrorKind::UnexpectedEof).into();
        let read = frame::read(&mut self.stream).and_then(|answer| answer.ok_or_else(end));
        read.map_err(|error| self.broken(error))
    }

    fn broken(&self, error: FrameError) -> AskError {
        AskError::Broken { socket: self.socket.clone(), error }
    }
}

/// Asks the manager of this host one thing.
pub fn ask(socket: &Path, request: &Request) -> Result<Answer, AskError> {
    Asked::send(socket, request)?.answer()
}

/// Opens the socket, for root alone. Under a temporary name first: it appears with its permissions, or not at
/// all.
pub(crate) fn bind(socket: &Path) -> io::Result<UnixListener> {
    let mut temporary = socket.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let _ = fs::remove_file(&temporary);
    let listener = UnixListener::bind(&temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o600))?;
    fs::rename(&temporary, socket)?;
    Ok(listener)
}

/// Serves the socket until the task is dropped.
pub(crate) async fn serve(
    listener: UnixListener,
    mailbox: Mailbox,
    status: watch::Receiver<Option<Box<Status>>>,
) {
    let places = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("accept a command: {error}");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!("refused a command: {MAX_CLIENTS} are being served");
            continue;
        };
        let client = Client { mailbox: mailbox.clone(), status: status.clone() };
        tokio::spawn(async move {
            if let Err(error) = client.serve(stream).await {
                tracing::debug!("control connection: {error}");
            }
            drop(place);
        });
    }
}

struct Client {
    mailbox: Mailbox,
    status: watch::Receiver<Option<Box<Status>>>,
}

impl Client {
    async fn serve(mut self, stream: UnixStream) -> Result<(), FrameError> {
        let (read, mut write) = stream.into_split();
        let mut read = Reader::new(read, MAX_REQUEST_BYTES);
        let Some(request) = within(CLIENT_TIMEOUT, read.next()).await? else { return Ok(()) };
        tracing::debug!(?request, "command");
        let mut read = read.into_inner();
        // A client says one thing: whatever else comes from it means that it is gone.
        let mut end = [0];
        let gone = read.read(&mut end);
        let served = async {
            if request == Request::Watch {
                return self.watch(&mut write).await;
            }
            let answer = self.answer(request).await;
            within(CLIENT_TIMEOUT, frames::write(&mut write, &answer)).await
        };
        tokio::select! {
            served = served => served,
            _ = gone => Ok(()),
        }
    }

    async fn watch(&mut self, write: &mut (impl tokio::io::AsyncWrite + Unpin)) -> Result<(), FrameError> {
        loop {
            let answer = self.now().await;
            within(CLIENT_TIMEOUT, frames::write(write, &answer)).await?;
            // Over the time or a change, and an end of the driver shows in the next question.
            let _ = timeout(WATCH_EVERY, self.status.changed()).await;
            self.status.mark_unchanged();
            if !matches!(answer, Answer::Status(_)) {
                return Ok(());
            }
        }
    }

    async fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Status | Request::Watch => self.now().await,
            Request::Plan { command } => {
                let (reply, answer) = oneshot::channel();
                self.ask(Input::Plan { command, reply }, answer, CLIENT_TIMEOUT)
                    .await
                    .map_or_else(|text| Answer::Failed { text }, Answer::Plan)
            }
            Request::Alert { kind, text } => {
                self.mailbox.put(Input::Alert { kind, text }).await;
                Answer::Done("written into the history; the alert hooks are told".to_owned())
            }
            Request::Command { command, timeout_ms } => {
                let (reply, answer) = oneshot::channel();
                let wait = Duration::from_millis(timeout_ms);
                match self.ask(Input::Command { command, reply }, answer, wait).await {
                    Ok(Ok(done)) => Answer::Done(done),
                    Ok(Err(refusal)) => Answer::Refused(refusal),
                    Err(text) => Answer::Failed { text },
                }
            }
        }
    }

    /// The status of this moment: what was published last knows no ages.
    async fn now(&self) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.ask(Input::Status { reply }, answer, CLIENT_TIMEOUT)
            .await
            .map_or_else(|text| Answer::Failed { text }, Answer::Status)
    }

    async fn ask<T>(&self, input: Input, answer: oneshot::Receiver<T>, wait: Duration) -> Result<T, String> {
        let asked = async {
            self.mailbox.put(input).await;
            answer.await
        };
        match timeout(wait, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err("the cluster manager is ending".to_owned()),
            Err(_) => Err(format!(
                "no answer within {} s; it may still come to pass: `futago cluster status` tells",
                wait.as_secs()
            )),
        }
    }
}

async fn within<T>(
    wait: Duration,
    future: impl Future<Output = Result<T, FrameError>>,
) -> Result<T, FrameError> {
    match timeout(wait, future).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}
