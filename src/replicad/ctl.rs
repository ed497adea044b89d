//! The control socket: what the verbs say to the daemon and what it answers. One request a connection, as
//! framed JSON; a watcher gets many answers to it. The socket belongs to root alone; who can open it may do everything.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use base::frame;
use replica::control::{Command, Differences, GenerationStatus, Refusal, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::STACK_BYTES;
use crate::adjust::Change;

/// Verbs served at the same time; `wait-sync` keeps its connection for long.
const MAX_CLIENTS: usize = 64;
/// How long a client may take to say what it wants, and to take its answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a waiting verb is looked after.
const LOOK: Duration = Duration::from_millis(200);

/// What a verb wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Bring a resource up as its file says now.
    Up {
        /// Resource.
        name: String,
    },
    /// Do something with a resource that is up.
    Command {
        /// Resource.
        name: String,
        /// What.
        command: Command,
        /// Longest to wait for the answer.
        timeout_ms: Option<u64>,
    },
    /// Follow the resource file as far as that is possible while a resource is up; bring it up if it is not.
    Adjust {
        /// Resource.
        name: String,
        /// Only tell what the file says otherwise.
        #[serde(default)]
        dry_run: bool,
    },
    /// Tell the generation identifiers of a resource that is up.
    Generations {
        /// Resource.
        name: String,
    },
    /// Tell which blocks of a resource that is up the peer may not have.
    Differences {
        /// Resource.
        name: String,
    },
    /// Exchange the daemon's program for the one that is installed now. There is an answer only when that was not
    /// possible: the connection ends, and the new program answers whoever connects from then on.
    Exchange,
    /// Tell about one resource or all.
    Status {
        /// Resource.
        name: Option<String>,
    },
    /// Tell about one resource now and after every change: an [`Answer::Status`] each time, on this connection,
    /// until the resource goes down ([`Answer::NotUp`]), the client does not keep up ([`Answer::Failed`]) or
    /// closes it.
    Watch {
        /// Resource.
        name: String,
    },
}

/// What the daemon answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Done.
    Done,
    /// The core says no.
    Refused(Refusal),
    /// It did not come to pass in time.
    TimedOut,
    /// There is no such resource here.
    Unknown {
        /// For people.
        text: String,
    },
    /// It is configured and not up.
    NotUp {
        /// For people.
        text: String,
    },
    /// The shell could not do it.
    Failed {
        /// For people.
        text: String,
    },
    /// Status.
    Status(Vec<Report>),
    /// What the file says otherwise, and what has become of it.
    Adjusted(Vec<Change>),
    /// Generation identifiers.
    Generations(GenerationStatus),
    /// What the peer may not have.
    Differences(Differences),
}

/// One resource.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Name.
    pub name: String,
    /// What the core says; `None` when it is not up.
    pub status: Option<Status>,
    /// Why it is not up.
    pub problem: Option<String>,
    /// Path of the backing disk.
    pub backing_dev: String,
    /// Own address and the peer's.
    pub addresses: [SocketAddr; 2],
    /// Connections use TLS.
    pub tls: bool,
}

/// Asks the daemon, and waits as long as it takes.
pub fn ask(socket: &Path, request: &Request) -> Result<Answer, frame::FrameError> {
    ask_within(socket, request, None)
}

/// Asks the daemon; an answer that is not there in time is an error (`WouldBlock`).
pub fn ask_within(
    socket: &Path,
    request: &Request,
    within: Option<Duration>,
) -> Result<Answer, frame::FrameError> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(within)?;
    frame::write(&mut stream, request)?;
    frame::read(&mut stream)?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof).into())
}

/// Watches a resource: `each` is given every status, until there is none any more; the answer says why.
pub fn watch(socket: &Path, name: &str, mut each: impl FnMut(Report)) -> Result<Answer, frame::FrameError> {
    let mut stream = UnixStream::connect(socket)?;
    frame::write(&mut stream, &Request::Watch { name: name.to_owned() })?;
    loop {
        match frame::read(&mut stream)? {
            Some(Answer::Status(reports)) => reports.into_iter().for_each(&mut each),
            Some(answer) => return Ok(answer),
            None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
    }
}

/// Answers requests.
pub trait Service: Send + Sync + 'static {
    /// Does what is asked; `client` tells whether somebody still waits.
    fn serve(&self, request: Request, client: &Client<'_>) -> Answer;
}

/// The other end of a request.
#[derive(Debug)]
pub struct Client<'a>(&'a UnixStream);

/// Why an awaited answer did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// The time is over.
    TimedOut,
    /// Nobody waits for it any longer.
    ClientGone,
    /// Nobody will give it any longer.
    Dropped,
}

impl Client<'_> {
    /// Waits for an answer as long as the client does.
    pub fn wait<T>(&self, answer: &Receiver<T>, timeout: Option<Duration>) -> Result<T, Missed> {
        let deadline = timeout.map(|t| Instant::now() + t);
        loop {
            let left = deadline.map_or(LOOK, |d| d.saturating_duration_since(Instant::now()));
            match answer.recv_timeout(left.min(LOOK)) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Disconnected) => return Err(Missed::Dropped),
                Err(RecvTimeoutError::Timeout) if deadline.is_some_and(|d| d <= Instant::now()) => {
                    return Err(Missed::TimedOut);
                }
                Err(RecvTimeoutError::Timeout) if self.is_gone() => return Err(Missed::ClientGone),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Says something before the answer.
    pub fn tell(&self, answer: &Answer) -> Result<(), frame::FrameError> {
        let mut stream = self.0;
        frame::write(&mut stream, answer)
    }

    fn is_gone(&self) -> bool {
        let mut fds = [PollFd::new(self.0, PollFlags::RDHUP)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0)
    }
}

/// Serves the socket from threads of its own until the process ends.
pub fn serve(listener: UnixListener, service: Arc<impl Service>) -> io::Result<()> {
    let thread = thread::Builder::new().name("ctl".to_owned()).stack_size(STACK_BYTES);
    thread.spawn(move || accept(&listener, &service))?;
    Ok(())
}

/// Opens the socket, for root alone. Under a temporary name first: it appears with its permissions, or not at all.
pub fn bind(socket: &Path) -> io::Result<UnixListener> {
    let mut temporary = socket.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let _ = std::fs::remove_file(&temporary);
    let listener = UnixListener::bind(&temporary)?;
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&temporary, socket)?;
    Ok(listener)
}

fn accept(listener: &UnixListener, service: &Arc<impl Service>) {
    let clients = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Out of descriptors, most likely: they come back.
            thread::sleep(LOOK);
            continue;
        };
        if clients.fetch_add(1, Ordering::AcqRel) >= MAX_CLIENTS {
            clients.fetch_sub(1, Ordering::AcqRel);
            tracing::warn!("refused a command: {MAX_CLIENTS} are being served");
            continue;
        }
        let (service, counted) = (Arc::clone(service), Arc::clone(&clients));
        let body = move || {
            if let Err(error) = serve_one(&stream, service.as_ref()) {
                tracing::debug!("control connection: {error}");
            }
            counted.fetch_sub(1, Ordering::AcqRel);
        };
        let thread = thread::Builder::new().name("ctl client".to_owned()).stack_size(STACK_BYTES);
        if let Err(error) = thread.spawn(body) {
            clients.fetch_sub(1, Ordering::AcqRel);
            tracing::warn!("start a thread for a command: {error}");
        }
    }
}

fn serve_one(mut stream: &UnixStream, service: &impl Service) -> Result<(), frame::FrameError> {
    stream.set_read_timeout(Some(CLIENT_TIMEOUT))?;
    stream.set_write_timeout(Some(CLIENT_TIMEOUT))?;
    let Some(request) = frame::read(&mut stream)? else { return Ok(()) };
    tracing::debug!(?request, "command");
    let answer = service.serve(request, &Client(stream));
    frame::write(&mut stream, &answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Slow;

    impl Service for Slow {
        fn serve(&self, request: Request, client: &Client<'_>) -> Answer {
            let (_keep, never) = mpsc::channel::<()>();
            match request {
                Request::Status { .. } => Answer::Status(Vec::new()),
                _ => match client.wait(&never, Some(Duration::from_millis(1))) {
                    Err(Missed::TimedOut) => Answer::TimedOut,
                    other => Answer::Failed { text: format!("{other:?}") },
                },
            }
        }
    }

    #[test]
    fn the_socket_is_for_root_alone_and_answers() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        serve(bind(&socket).unwrap(), Arc::new(Slow)).unwrap();
        assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        let status = ask(&socket, &Request::Status { name: None }).unwrap();
        assert!(matches!(status, Answer::Status(list) if list.is_empty()));
        let up = ask(&socket, &Request::Up { name: "r0".to_owned() }).unwrap();
        assert!(matches!(up, Answer::TimedOut));
    }
}
